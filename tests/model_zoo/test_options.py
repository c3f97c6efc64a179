"""Every option reaches every layer that it should: layers are counted in whole networks, behaviour is compared."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

import medtransfer as mt
from medtransfer.model_zoo import ResNet, UNet
from medtransfer.model_zoo.blocks import PaddedShortcut, ResidualBlock
from tests.tiny_zoo import single_outputs, tiny_arguments

TINY = {"base_channels": 4, "stem_channels": 4, "decoder_block": "basic"}
CLASSIFIER = {"base_channels": 4, "stem_channels": 4}
FULL = {**TINY, "deep_stem": True, "pool": "conv", "aux_train": True, "full_resolution_skip": 4}


def kinds(network: nn.Module, *parents: type) -> Counter[str]:
    return Counter(type(m).__name__ for m in network.modules() if isinstance(m, parents))


def convolutions(network: nn.Module) -> list[nn.modules.conv._ConvNd]:
    transposed = nn.modules.conv._ConvTransposeNd
    return [m for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd) and not isinstance(m, transposed)]


NORMS = {
    "BN": ({"type": "BN"}, "BatchNorm3d"),
    "BN3d": ({"type": "BN3d", "requires_grad": True}, "BatchNorm3d"),
    "IN": ({"type": "IN", "affine": True}, "InstanceNorm3d"),
    "GN": ({"type": "GN", "num_groups": 2}, "GroupNorm"),
    "SyncBN": ({"type": "SyncBN"}, "SyncBatchNorm"),
}


@pytest.mark.parametrize("config, kind", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("arguments", [TINY, FULL], ids=["plain", "full"])
def test_norm_cfg_reaches_every_norm(config, kind, arguments):
    reference = mt.create_model("resunet18", **arguments)
    net = mt.create_model("resunet18", norm_cfg=config, **arguments)
    assert kinds(net, _NormBase, nn.GroupNorm) == {kind: kinds(reference, _BatchNorm)["BatchNorm3d"]}
    # one for each convolution without a bias, and one behind each decoder's shortcut, which has one
    assert sum(kinds(net, _NormBase, nn.GroupNorm).values()) == sum(
        1 for name, m in net.named_modules() if m in convolutions(net) and "final" not in name and "aux" not in name
    )


def test_norm_cfg_details_reach_every_norm():
    config = {"type": "BN", "eps": 1e-3, "momentum": 0.3, "requires_grad": False}
    net = mt.create_model("resunet18", norm_cfg=config, **FULL)
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    assert {(n.eps, n.momentum, n.weight.requires_grad, n.bias.requires_grad) for n in norms} == {
        (1e-3, 0.3, False, False)
    }


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_conv_cfg_reaches_every_layer_with_a_dimension(ndim):
    net = mt.create_model("resunet18", conv_cfg={"type": f"Conv{ndim}d"}, dropout_rate=0.1, avg_down=True, **FULL)
    digits = {type(m).__name__[-2] for m in net.modules() if type(m).__name__.endswith(("1d", "2d", "3d"))}
    assert digits == {str(ndim)}
    assert net.eval()(torch.rand(1, 1, *(17, 9, 10)[:ndim])).shape == (1, 2, *(17, 9, 10)[:ndim])


class ScaledConv3d(nn.Conv3d):
    """A convolution of one's own."""

    def forward(self, x):
        return super().forward(x) * 2


@pytest.fixture
def scaled_conv():
    MODELS.register_module(module=ScaledConv3d, force=True)
    yield {"type": "ScaledConv3d"}
    MODELS.module_dict.pop("ScaledConv3d")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resunet18", "resunet50"])
@pytest.mark.parametrize("deep", [False, True], ids=["plain", "deep"])
def test_a_registered_convolution_reaches_every_convolution(scaled_conv, name, deep):
    arguments = {**CLASSIFIER, "deep_stem": deep, "pool": "conv"}
    if name.startswith("resu"):
        arguments |= {"aux_train": True, "full_resolution_skip": 4, "upsample_type": "interp"}
    net = mt.create_model(name, conv_cfg=scaled_conv, **arguments)
    assert {type(conv) for conv in convolutions(net)} == {ScaledConv3d}
    assert mt.create_model(name, **net.architecture["arguments"]).architecture == net.architecture


def test_convolution_details_reach_every_convolution():
    net = mt.create_model("resunet18", conv_cfg={"type": "Conv3d", "padding_mode": "replicate"}, **FULL)
    assert {conv.padding_mode for conv in convolutions(net)} == {"replicate"}


ACTIVATIONS = {
    "LeakyReLU": {"type": "LeakyReLU", "negative_slope": 0.2},
    "PReLU": {"type": "PReLU"},
    "ELU": {"type": "ELU"},
    "GELU": {"type": "GELU"},
    "SiLU": {"type": "SiLU"},
    "Tanh": {"type": "Tanh"},
}


@pytest.mark.parametrize("config", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("arguments", [TINY, FULL], ids=["plain", "full"])
def test_act_cfg_reaches_every_activation(config, arguments):
    reference = mt.create_model("resunet18", **arguments)
    net = mt.create_model("resunet18", act_cfg=config, **arguments)
    kind = getattr(nn, config["type"])
    assert kinds(net, nn.ReLU) == {}
    assert kinds(net, kind)[config["type"]] == kinds(reference, nn.ReLU)["ReLU"] > 0
    if "negative_slope" in config:
        assert {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert torch.isfinite(net.eval()(torch.rand(1, 1, 9, 9, 9))).all()


@pytest.mark.parametrize("depth, per_block", [(18, 2), (50, 1)])
def test_dilations_reach_every_3x3x3_convolution_of_their_stage(depth, per_block):
    net = ResNet(depth, dilations=(1, 2, 3, 4), **CLASSIFIER)
    for name, dilation in zip(net.res_layers, (1, 2, 3, 4), strict=True):
        found = [c for c in convolutions(getattr(net, name)) if c.kernel_size == (3, 3, 3)]
        assert len(found) == per_block * len(getattr(net, name))
        assert {(c.dilation, c.padding) for c in found} == {((dilation,) * 3, (dilation,) * 3)}


def test_dropout_rate_reaches_every_decoder_and_head():
    net = mt.create_model("resunet18", dropout_rate=0.3, **FULL)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout3d)] == [0.3] * (4 + 1 + 1 + 3)


@pytest.mark.parametrize("block, kind", [("basic", "BasicBlock"), ("bottleneck", "Bottleneck")])
def test_decoder_block_reaches_every_decoder(block, kind):
    net = mt.create_model("resunet18", **{**FULL, "decoder_block": block})
    decoders = [m.conv for name, m in net.named_children() if "decoder" in name]
    assert [type(d).__name__ for d in decoders] == [kind] * 5


def test_upsampling_by_interpolation_has_no_transposed_convolution_and_the_right_widths():
    net = mt.create_model("resunet18", upsample_type="interp", **FULL).eval()
    assert kinds(net, nn.modules.conv._ConvTransposeNd) == {}
    ups = [m for m in net.modules() if isinstance(m, nn.Upsample)]
    assert [(u.mode, u.align_corners) for u in ups] == [("trilinear", False)] * 5
    assert net.decoder_0.conv.conv1.in_channels == 8
    assert net(torch.rand(1, 1, 17, 18, 19)).shape == (1, 2, 17, 18, 19)


def test_decoder_strides_are_those_of_the_encoder():
    strides = {"first_stride": (1, 2, 2), "pool_stride": (1, 2, 2), "strides": (1, (2, 1, 2), (1, 2, 2), 2)}
    net = mt.create_model("resunet18", full_resolution_skip=4, **TINY, **strides)
    ups = [net.input_decoder, net.decoder_0, net.decoder_1, net.decoder_2, net.decoder_3]
    expected = [(1, 2, 2), (1, 2, 2), (2, 1, 2), (1, 2, 2), (2, 2, 2)]
    assert [up.up.stride for up in ups] == [up.up.kernel_size for up in ups] == expected


# --- gradients ----------------------------------------------------------------------------------------------------


GRADIENT_CASES = {
    "classifier": ("resnet18", CLASSIFIER),
    "tutorial": ("resnet50", {**CLASSIFIER, "deep_stem": True, "pool": "conv"}),
    "medicalnet": ("resnet18", {**CLASSIFIER, "geometry": "medicalnet"}),
    "segmenter": ("resunet18", TINY),
    "full": ("resunet18", FULL),
    "interpolated": ("resunet50", {**CLASSIFIER, "upsample_type": "interp", "avg_down": True}),
    "recomputed": ("resunet18", {**TINY, "with_cp": True}),
}


def loss_of(output: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    outputs = output if isinstance(output, list) else [output]
    return sum(o.square().mean() for o in outputs)


@pytest.mark.parametrize("name, arguments", GRADIENT_CASES.values(), ids=GRADIENT_CASES)
def test_every_parameter_gets_a_gradient(name, arguments):
    net = mt.create_model(name, zero_init_residual=False, **arguments).train()
    loss_of(net(torch.randn(2, 1, 33, 16, 16))).backward()
    silent = [key for key, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert silent == []
    # a bias that a norm takes away again, alone, may be zero
    idle = [key for key, p in net.named_parameters() if p.ndim > 1 and not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", single_outputs())
def test_every_parameter_of_the_whole_zoo_gets_a_gradient(name):
    net = mt.create_model(name, **tiny_arguments(name)).train()
    loss_of(net(torch.randn(2, 1, 33, 16, 16))).backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []


def test_shortcut_a_has_no_parameters_and_lets_the_gradient_pass():
    shortcut = PaddedShortcut(new_channels=3, stride=(1, 2, 2), ndim=3)
    x = torch.randn(1, 2, 4, 5, 5, requires_grad=True)
    y = shortcut(x)
    assert list(shortcut.parameters()) == []
    assert torch.equal(y, torch.cat([x[:, :, :, ::2, ::2], torch.zeros(1, 3, 4, 3, 3)], dim=1))
    y.sum().backward()
    expected = torch.zeros_like(x)
    expected[:, :, :, ::2, ::2] = 1
    assert torch.equal(x.grad, expected)


def test_shortcut_a_carries_the_gradient_through_a_whole_network():
    """With every last norm at zero only the shortcuts lead back to the stem."""
    net = mt.create_model("resnet18", geometry="medicalnet", **CLASSIFIER).train()
    assert sum(isinstance(m, PaddedShortcut) for m in net.modules()) == 3
    net(torch.randn(2, 1, 33, 16, 16)).square().sum().backward()
    assert net.conv1.weight.grad.any()


def test_shortcut_b_has_a_convolution_and_a_norm():
    net = mt.create_model("resnet18", shortcut="B", **CLASSIFIER)
    assert [type(m).__name__ for m in net.layer2[0].downsample] == ["Conv3d", "BatchNorm3d"]


# --- memory for time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "norm", [{"type": "BN"}, {"type": "IN", "affine": True, "track_running_stats": True}], ids=["BN", "IN"]
)
def test_recomputing_gives_the_same_output_gradients_and_statistics(norm, randomise):
    results = []
    for with_cp in (False, True):
        net = randomise(mt.create_model("resunet18", with_cp=with_cp, norm_cfg=norm, **TINY)).train()
        x = torch.linspace(-1, 1, 2 * 33 * 16**2).reshape(2, 1, 33, 16, 16)
        output = net(x)
        output.square().mean().backward()
        results.append((output.detach(), {k: p.grad for k, p in net.named_parameters()}, net.state_dict()))
    (out, gradients, state), (out_cp, gradients_cp, state_cp) = results
    assert torch.equal(out, out_cp)
    assert [k for k in gradients if not torch.equal(gradients[k], gradients_cp[k])] == []
    assert [k for k in state if not torch.equal(state[k], state_cp[k])] == []


def test_recomputing_keeps_fewer_activations():
    def kept(with_cp: bool) -> int:
        sizes = []
        net = mt.create_model("resnet18", with_cp=with_cp, **CLASSIFIER)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net(torch.rand(2, 1, 16, 16, 16))
        return sum(sizes)

    assert kept(True) < 0.7 * kept(False)


# --- what stands still --------------------------------------------------------------------------------------------


def stepped(net: nn.Module) -> set[str]:
    """Names of the tensors that a training step moves."""
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    loss_of(net.train()(torch.randn(2, 1, 33, 16, 16))).backward()
    optimizer.step()
    return {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}


@pytest.mark.parametrize("deep", [False, True], ids=["plain", "deep"])
@pytest.mark.parametrize("stages", [0, 1, 2, 4])
def test_frozen_stages_stand_still_pooling_and_statistics_included(deep, stages):
    net = mt.create_model(
        "resnet18", frozen_stages=stages, deep_stem=deep, pool="conv", zero_init_residual=False, **CLASSIFIER
    )
    moved = {key.split(".")[0] for key in stepped(net.eval().train())}
    stem = {"stem"} if deep else {"conv1", "bn1"}
    frozen = [stem, {"maxpool", "layer1"}, {"layer2"}, {"layer3"}, {"layer4"}]
    still = set().union(*frozen[: stages + 1])
    assert moved == set().union(*frozen, {"head_fc"}) - still


@pytest.mark.parametrize("stages", [0, 1, 3])
def test_frozen_stages_of_a_segmenter_stand_still(stages):
    net = mt.create_model("resunet18", frozen_stages=stages, pool="conv", zero_init_residual=False, **TINY)
    moved = {key.split(".")[0] for key in stepped(net.eval().train())}
    everything = {*(f"encoder_{i}" for i in range(5)), *(f"decoder_{i}" for i in range(4)), "final_layer"}
    assert moved == everything - {f"encoder_{i}" for i in range(stages + 1)}


def test_norm_eval_holds_statistics_and_lets_weights_train():
    for name in ("resnet18", "resunet18"):
        arguments = CLASSIFIER if name == "resnet18" else TINY
        net = mt.create_model(name, norm_eval=True, zero_init_residual=False, **arguments)
        moved = stepped(net.eval().train())
        assert not any("running" in key or "num_batches" in key for key in moved), name
        assert any("bn1.weight" in key for key in moved), name


def test_norm_eval_holds_the_statistics_of_instance_norm_too():
    config = {"type": "IN", "affine": True, "track_running_stats": True}
    net = mt.create_model("resnet10", norm_eval=True, norm_cfg=config, zero_init_residual=False, **CLASSIFIER)
    assert not any("running" in key for key in stepped(net))


def test_without_norm_eval_all_statistics_move():
    net = mt.create_model("resunet10", zero_init_residual=False, **TINY)
    running = {key for key in net.state_dict() if "running" in key}
    assert running <= stepped(net)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resunet18", "resunet50"])
def test_zero_init_residual_starts_every_block_as_its_shortcut(name):
    for zero in (True, False):
        net = mt.create_model(name, zero_init_residual=zero, **CLASSIFIER)
        blocks = [m for m in net.modules() if isinstance(m, ResidualBlock)]
        assert blocks
        assert {bool(block.last_norm.weight.any()) for block in blocks} == {not zero}
        others = [m for m in net.modules() if isinstance(m, _BatchNorm) and m not in [b.last_norm for b in blocks]]
        assert all((m.weight == 1).all() for m in others)


def test_a_norm_without_weights_has_nothing_to_set_to_zero():
    net = mt.create_model("resunet10", norm_cfg={"type": "IN"}, **TINY)
    assert not any("in1" in key for key in net.state_dict())
    assert net(torch.rand(2, 1, 33, 33, 33)).shape == (2, 2, 33, 33, 33)


# --- deep supervision and the full-resolution skip ------------------------------------------------------------------


def test_deep_supervision_lists_the_final_logits_first_and_coarser_ones_after(randomise):
    net = randomise(mt.create_model("resunet18", aux_train=True, num_classes=3, **TINY))
    for norm in (m for m in net.modules() if isinstance(m, _BatchNorm)):
        norm.momentum = 0.0
    x = torch.rand(2, 1, 24, 23, 22)
    listed = net.train()(x)
    assert isinstance(listed, list)
    assert [o.shape for o in listed] == [(2, 3, 24, 23, 22)] * 4
    # coarser maps interpolated to one size are smoother
    rough = [(o.diff(dim=2).abs().mean() / o.std()).item() for o in listed]
    assert rough == sorted(rough, reverse=True)
    # each head moves its own entry and no other: head k sits at (k + 1) levels above the bottom
    for k in range(3):
        with torch.no_grad():
            net.aux_layers[k][1].bias.add_(1)
        before, listed = listed, net(x)
        moved = [not torch.equal(a, b) for a, b in zip(before, listed, strict=True)]
        assert moved == [i == 3 - k for i in range(4)]


def test_deep_supervision_is_for_training_only(randomise):
    net = randomise(mt.create_model("resunet18", aux_train=True, **TINY)).eval()
    plain = mt.create_model("resunet18", **TINY).eval()
    plain.load_state_dict({key: value for key, value in net.state_dict().items() if not key.startswith("aux")})
    x = torch.rand(1, 1, 17, 17, 17)
    with torch.no_grad():
        assert torch.equal(net(x), plain(x))


def test_the_full_resolution_skip_is_taken_at_the_inputs_resolution_and_used(randomise):
    net = randomise(mt.create_model("resunet10", full_resolution_skip=4, **TINY)).eval()
    shapes = []
    for part in (net.input_skip, net.input_decoder, net.final_layer):
        part.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    x = torch.rand(1, 1, 16, 17, 18)
    with torch.no_grad():
        before = net(x)
        net.input_skip.conv.weight.neg_()
        assert not torch.allclose(net(x), before, atol=1e-3)
    assert shapes[:3] == [(4, 16, 17, 18), (4, 16, 17, 18), (2, 16, 17, 18)]


def test_the_full_resolution_skip_reads_all_input_channels():
    net = mt.create_model("resunet10", in_channels=3, full_resolution_skip=6, **TINY)
    assert net.input_skip.conv.weight.shape == (6, 3, 3, 3, 3)
    assert net.final_layer[1].in_channels == 6


def test_a_hand_built_segmenter_takes_the_input_channels_of_its_encoder():
    encoder = ResNet(10, in_channels=2, **CLASSIFIER)
    extra = {"num_channels": encoder.stage_channels, "nclasses": 3}
    net = UNet(extra, encoder.stages(), full_resolution_skip=4, decoder_block="basic")
    assert net.in_channels == 2
    assert net.input_skip.conv.in_channels == 2
