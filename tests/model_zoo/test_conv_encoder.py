"""Encoders of stacked convolutions and of residual blocks, the U-Nets around them, and what a ResNet shares."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import medtransfer as mt
from medtransfer.adapter.share import to_fcn
from medtransfer.errors import ModelError
from medtransfer.model_zoo import UNet
from medtransfer.model_zoo.conv_encoder import PlainEncoder, ResidualEncoder

TINY = {"channels": [4, 8, 12]}
ENCODERS = {
    "plain": ("plain_encoder", TINY),
    "residual": ("resenc_encoder", {**TINY, "num_blocks": [1, 2, 1]}),
    "bottleneck": ("resenc_encoder", {**TINY, "num_blocks": 1, "block": "bottleneck", "stem_channels": 6}),
    "pooled": ("plain_encoder", {**TINY, "pool": "max", "inner_channels": [2, 4, 8]}),
    "anisotropic": ("plain_encoder", {**TINY, "kernel_sizes": [(1, 3, 3), 3, 3], "strides": [1, (1, 2, 2), 2]}),
    "flat": ("resenc_encoder", {**TINY, "conv_cfg": {"type": "Conv2d"}}),
    "batch norm": ("resenc_encoder", {**TINY, "norm_cfg": {"type": "BN"}, "act_cfg": {"type": "ReLU"}}),
    "no bias": ("plain_encoder", {**TINY, "conv_bias": False, "num_convs": [1, 2, 3]}),
}
encoders = pytest.mark.parametrize("name, arguments", ENCODERS.values(), ids=ENCODERS)


def unet_of(name: str) -> str:
    return name.replace("encoder", "unet")


def volume(network: nn.Module, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, network.in_channels, *(9, 10, 13)[-network.ndim :])


# --- shapes -------------------------------------------------------------------------------------------------------


@encoders
def test_sizes_need_not_be_divisible_by_the_strides(name, arguments):
    network = mt.create_model(unet_of(name), in_channels=2, num_classes=5, **arguments).eval()
    x = volume(network)
    maps = network.features(x)
    assert [m.shape[1] for m in maps] == [4, 8, 12]
    for i in range(network.ndim):
        sizes, step = [x.shape[2 + i]], [stage.stride[i] for stage in ups(network)]
        for stride in step:
            sizes.append(-(-sizes[-1] // stride))
        assert [m.shape[2 + i] for m in maps] == sizes
    assert network(x).shape == (1, 5, *x.shape[2:])


def ups(network: nn.Module) -> list[nn.Module]:
    return [network.get_submodule(f"{name}.up") for name in network.up_layer_name]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 33, 2), (2, 1, 16)])
@pytest.mark.parametrize("pool", ["conv", "max"])
def test_thin_volumes_pass(pool, shape):
    network = mt.create_model("plain_unet", pool=pool, norm_cfg={"type": "BN"}, **TINY).eval()
    assert network(torch.randn(1, 1, *shape)).shape[2:] == shape


def test_instance_norm_refuses_a_map_of_one_voxel_which_it_could_only_wipe_out():
    network = mt.create_model("plain_unet", **TINY).eval()
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        network(torch.randn(1, 1, 4, 4, 4))


def test_the_presets_have_as_many_parameters_as_nnunets_own_networks():
    """Counted once with dynamic_network_architectures 0.4.4, 3 classes, all heads of deep supervision."""
    counts = {"plain_unet": 31_196_399, "resenc_unet_m": 102_350_575, "resenc_unet_l": 102_350_575}
    for name, count in {**counts, "resenc_unet_xl": 102_350_575}.items():
        with torch.device("meta"):
            network = mt.create_model(name, num_classes=3, aux_train=True)
        assert sum(p.numel() for p in network.parameters()) == count


def test_blocks_follow_nnunets_planner_at_any_number_of_stages():
    for count, blocks in ((2, [1, 3]), (7, [1, 3, 4, 6, 6, 6, 6])):
        encoder = ResidualEncoder(1, channels=[4] * count)
        assert [len(getattr(encoder, name)) for name in encoder.stage_names] == blocks


# --- what is computed ---------------------------------------------------------------------------------------------


def test_a_stage_is_convolution_norm_and_activation_the_first_with_the_stride():
    encoder = PlainEncoder(2, channels=[4, 8], num_convs=2).eval()
    x = torch.randn(1, 2, 8, 8, 8)
    first = nn.functional.conv3d(x, encoder.stage0[0].conv.weight, encoder.stage0[0].conv.bias, padding=1)
    units = [m for m in encoder.modules() if isinstance(m, nn.Conv3d)]
    assert [unit.stride for unit in units] == [(1, 1, 1), (1, 1, 1), (2, 2, 2), (1, 1, 1)]
    expected = nn.functional.leaky_relu(nn.functional.instance_norm(first), 0.01)
    torch.testing.assert_close(encoder.stage0[0](x), expected, atol=1e-5, rtol=1e-5)


def test_the_shortcut_is_pooled_and_has_a_convolution_only_where_the_width_changes():
    encoder = ResidualEncoder(1, channels=[4, 8, 8], num_blocks=1)
    parts = [[type(m).__name__ for m in getattr(encoder, f"stage{i}")[0].downsample or ()] for i in range(3)]
    assert parts == [[], ["AveragePool", "Conv3d", "InstanceNorm3d"], ["AveragePool"]]
    x = torch.randn(1, 8, 4, 4, 4)
    expected = nn.functional.avg_pool3d(x, 2, 2)
    torch.testing.assert_close(encoder.stage2[0].downsample(x), expected)
    # every block starts as its shortcut
    torch.testing.assert_close(encoder.eval().stage2(x), nn.functional.leaky_relu(expected, 0.01))


def test_genesis_uses_the_statistics_of_the_batch_in_evaluation_too(randomise):
    network = randomise(mt.create_model("genesis_unet", channels=[4, 8], inner_channels=[2, 4])).eval()
    x = torch.randn(2, 1, 8, 8, 8)
    assert not [key for key in network.state_dict() if "running" in key]
    assert not torch.allclose(network(x)[:1], network(x[:1]), atol=1e-3)
    # from below come all channels, the transposed convolution keeps them
    assert network.decoder_0.up.weight.shape[:2] == (8, 8)


def test_deep_supervision_gives_logits_of_every_level_but_the_lowest(randomise):
    network = randomise(mt.create_model("plain_unet", channels=[4, 8, 8, 8], aux_train=True)).train()
    x = torch.randn(1, 1, 16, 16, 16)
    outputs = network(x)
    assert [tuple(o.shape) for o in outputs] == [(1, 2, 16, 16, 16)] * 3
    assert network.eval()(x).equal(outputs[0])


@encoders
def test_recomputing_gives_the_same_output_gradients_and_statistics(name, arguments, randomise):
    results = []
    for with_cp in (False, True):
        network = randomise(mt.create_model(unet_of(name), with_cp=with_cp, **arguments)).train()
        x = torch.linspace(-1, 1, volume(network, 2).numel()).reshape(volume(network, 2).shape)
        output = network(x)
        output.square().mean().backward()
        results.append((output.detach(), {k: p.grad for k, p in network.named_parameters()}, network.state_dict()))
    (out, gradients, state), (out_cp, gradients_cp, state_cp) = results
    assert torch.equal(out, out_cp)
    assert [k for k in gradients if not torch.equal(gradients[k], gradients_cp[k])] == []
    assert [k for k in state if not torch.equal(state[k], state_cp[k])] == []


# --- one encoder, several tasks -----------------------------------------------------------------------------------


@encoders
def test_a_segmenter_becomes_a_classifier_and_back_with_the_same_modules(name, arguments, randomise):
    segmenter = randomise(mt.create_model(unet_of(name), in_channels=2, num_classes=3, **arguments))
    classifier = mt.to_classifier(segmenter, num_classes=4).eval()
    assert classifier.architecture["name"] == name
    assert classifier.stage1 is segmenter.encoder_1
    x = volume(segmenter)
    assert classifier(x).shape == (1, 4)
    maps = zip(classifier.features(x), segmenter.eval().features(x), strict=True)
    assert all(torch.equal(one, other) for one, other in maps)
    again = mt.to_segmenter(classifier, num_classes=5)
    assert again.architecture["name"] == unet_of(name)
    assert again.stages()[-1] is segmenter.stages()[-1]
    assert mt.to_segmenter(classifier, num_classes=5, share=False).stages()[-1] is not segmenter.stages()[-1]


@encoders
def test_networks_are_saved_and_come_back_bit_equal(name, arguments, tmp_path, randomise):
    for kind in (name, unet_of(name)):
        network = randomise(mt.create_model(kind, in_channels=2, num_classes=3, **arguments)).eval()
        mt.save(network, tmp_path / kind)
        again = mt.load(tmp_path / kind)
        x = volume(network)
        assert torch.equal(again(x), network(x))
        assert again.architecture == network.architecture
        assert mt.inspect(tmp_path / kind).architecture == kind


@encoders
def test_an_encoder_may_be_a_fully_convolutional_network(name, arguments):
    classifier = mt.create_model(name, num_classes=3, **arguments).eval()
    network = to_fcn(classifier)
    x = volume(network)
    assert network(x).shape == (1, 3, *x.shape[2:])
    assert mt.create_model(network.architecture["name"], **network.architecture["arguments"]).head_type == "fcn"


def test_without_a_head_the_last_map_comes_out():
    encoder = mt.create_model("plain_encoder", num_classes=None, **TINY)
    x = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(encoder(x), encoder.features(x)[-1])


def test_a_resnet_may_have_nnunets_decoder_and_nnunets_encoder_that_of_a_resunet(randomise):
    resunet = mt.create_model("resunet10", base_channels=4, stem_channels=4, decoder_block="convs", decoder_convs=1)
    assert mt.create_model("resunet10", **resunet.architecture["arguments"]).architecture == resunet.architecture
    network = mt.create_model(
        "plain_unet", decoder_block="basic", full_resolution_skip=4, upsample_type="interp", **TINY
    )
    again = mt.create_model(network.architecture["name"], **network.architecture["arguments"])
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (network, again)]
    assert shapes[0] == shapes[1]
    assert network(torch.randn(1, 1, 9, 8, 8)).shape == (1, 2, 9, 8, 8)


# --- frozen, refused ----------------------------------------------------------------------------------------------


@encoders
def test_frozen_stages_stay_frozen_in_training(name, arguments):
    for network in (mt.create_model(kind, frozen_stages=0, **arguments).train() for kind in (name, unet_of(name))):
        frozen, *rest = network.stages()
        assert not any(p.requires_grad for p in frozen.parameters())
        assert all(p.requires_grad for stage in rest for p in stage.parameters())
        assert not any(module.training for module in frozen.modules() if isinstance(module, _NormBase))


def test_held_statistics_do_not_move():
    network = mt.create_model("plain_unet", norm_eval=True, norm_cfg={"type": "BN"}, **TINY).train()
    assert not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm3d))


BAD = {
    "strides": ("plain_unet", {"strides": [1, 2]}, r"strides needs 3 entries, one a stage, got \[1, 2\]"),
    "kernels": ("plain_unet", {"kernel_sizes": [3]}, "kernel_sizes needs 3 entries"),
    "convolutions": ("plain_unet", {"num_convs": 0}, "num_convs must be positive whole numbers"),
    "endless": ("resenc_unet", {"num_blocks": [1, 1, 10**9]}, "num_blocks must be positive whole numbers up to 1000"),
    "endless decoder": ("plain_unet", {"decoder_convs": 10**9}, "decoder_convs must be positive whole numbers up to"),
    "no decoder": ("plain_unet", {"decoder_convs": 0}, "decoder_convs must be positive whole numbers up to"),
    "widths": ("resenc_unet", {"channels": [4, -8, 8]}, r"channels must be positive whole numbers, got \[4, -8, 8\]"),
    "no stages": ("plain_encoder", {"channels": []}, "channels must be positive"),
    "pool": ("plain_encoder", {"pool": "avg"}, "pool must be one of conv, max, got 'avg'"),
    "block": ("resenc_encoder", {"block": "dense"}, "block must be one of basic, bottleneck, got 'dense'"),
    "expansion": ("resenc_encoder", {"expansion": 2}, "expansion must be 1 in a basic block"),
    "bottleneck": ("resenc_encoder", {"block": "bottleneck", "expansion": 3}, "divisible by 3, got 4"),
    "inner": ("plain_encoder", {"inner_channels": [4]}, "inner_channels needs 3 entries"),
    "head": ("plain_encoder", {"head_type": "regression"}, "head_type must be one of None, classification, fcn"),
    "frozen": ("resenc_unet", {"frozen_stages": 3}, "frozen_stages must be from -1 to 2, got 3"),
    "blocks of a plain encoder": ("plain_unet", {"num_blocks": 2}, "plain_unet has no argument 'num_blocks'"),
    "decoder's levels": ("plain_unet", {"decoder_convs": [1, 1, 1]}, "decoder_convs needs 2 entries"),
    "up": ("plain_unet", {"up_channels": "above"}, "up_channels must be 'skip' or 'below', got 'above'"),
}


@pytest.mark.parametrize("name, arguments, said", BAD.values(), ids=BAD)
def test_a_bad_argument_is_named(name, arguments, said):
    with pytest.raises(ModelError, match=said):
        mt.create_model(name, **{**TINY, **arguments})


def test_stages_of_different_encoders_or_in_disorder_are_no_encoder():
    one, other = PlainEncoder(1, **TINY).stages(), PlainEncoder(1, **TINY, kernel_sizes=5).stages()
    stem = ResidualEncoder(1, **TINY).stages()
    for stages in ([one[0], other[1], one[2]], [*stem[:1], *one[1:]], [*one[:1], *stem[1:]]):
        network = UNet({"num_channels": [4, 8, 12], "nclasses": 2}, stages, in_channels=1)
        assert network.architecture is None
        with pytest.raises(ModelError, match="to_classifier needs a network around a ResNet"):
            mt.to_classifier(network, num_classes=2)
    in_order = PlainEncoder(1, channels=[4, 4, 4], strides=[1, 1, 1], num_convs=1).stages()
    layers = {"norm_cfg": {"type": "IN", "affine": True}, "act_cfg": {"type": "LeakyReLU"}, "decoder_block": "convs"}
    extra = {"num_channels": [4, 4, 4], "nclasses": 2}
    assert UNet(extra, in_order, **layers).architecture["name"] == "plain_unet"
    assert UNet(extra, [in_order[0], in_order[2], in_order[1]], **layers).architecture is None


def test_a_decoder_of_other_layers_than_its_encoder_says_that_it_cannot_be_saved():
    encoder = PlainEncoder(1, **TINY)
    assert UNet.around(encoder, 2).architecture is not None
    assert UNet.around(encoder, 2, norm_cfg={"type": "BN"}).architecture is None
