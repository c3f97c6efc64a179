"""One encoder, two tasks: by reference and by copy, from networks built by hand too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError
from medtransfer.model_zoo import ResNet, UNet

VARIANTS = {
    "plain": {},
    "tutorial": {"deep_stem": True, "pool": "conv", "conv_cfg": {"type": "Conv3d"}, "norm_cfg": {"type": "BN3d"}},
    "flat": {"conv_cfg": {"type": "Conv2d"}, "norm_cfg": {"type": "IN", "affine": True}},
    "groups": {"norm_cfg": {"type": "GN", "num_groups": 1}, "act_cfg": {"type": "PReLU"}},
    "anisotropic": {"first_stride": (1, 2, 2), "pool_stride": (1, 2, 2), "pool": "none"},
    "short": {"num_stages": 1},
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def classifier(request, tiny) -> nn.Module:
    return tiny("resnet18", seed=1, in_channels=2, num_classes=4, **request.param).eval()


def image(network: nn.Module) -> torch.Tensor:
    return torch.rand(1, network.in_channels, *(33, 18, 35)[: network.ndim])


def encoder_parameters(classifier: nn.Module) -> list[nn.Parameter]:
    return [parameter for key, parameter in classifier.named_parameters() if not key.startswith("head")]


def one_step(network: nn.Module) -> None:
    network.eval()
    network.zero_grad()
    network(image(network)).square().mean().backward()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()


def test_sharing_takes_the_very_modules(classifier):
    segmenter = mt.to_segmenter(classifier, num_classes=3)
    assert all(a is b for a, b in zip(encoder_parameters(classifier), segmenter.parameters(), strict=False))
    assert segmenter.encoder_1[1] is classifier.layer1
    back = mt.to_classifier(segmenter, num_classes=7)
    assert all(a is b for a, b in zip(encoder_parameters(classifier), encoder_parameters(back), strict=True))
    assert [name for name, _ in back.named_parameters()] == [name for name, _ in classifier.named_parameters()]


def test_the_round_trip_keeps_the_function(classifier):
    x = image(classifier)
    back = mt.to_classifier(mt.to_segmenter(classifier, num_classes=3), num_classes=4).eval()
    back.head_fc.load_state_dict(classifier.head_fc.state_dict())
    segmenter = mt.to_segmenter(back, num_classes=2).eval()
    with torch.no_grad():
        assert torch.equal(back(x), classifier(x))
        for a, b in zip(segmenter.features(x), classifier.features(x), strict=True):
            assert torch.equal(a, b)
        assert segmenter(x).shape == (1, 2, *x.shape[2:])


def test_a_step_on_one_moves_the_other(classifier):
    segmenter = mt.to_segmenter(classifier, num_classes=3, zero_init_residual=False)
    before = classifier.state_dict()["layer1.0.conv1.weight"].clone()
    one_step(segmenter)
    after = classifier.state_dict()["layer1.0.conv1.weight"].clone()
    assert not torch.equal(after, before)
    one_step(classifier)
    again = segmenter.state_dict()["encoder_1.1.0.conv1.weight"]
    assert torch.isfinite(again).all()
    assert not torch.equal(again, after)


def test_copies_are_independent(classifier, same, snapshot):
    before = snapshot(classifier)
    segmenter = mt.to_segmenter(classifier, num_classes=3, share=False, zero_init_residual=False)
    own = snapshot(segmenter)
    assert torch.equal(own["encoder_1.1.0.conv1.weight"], before["layer1.0.conv1.weight"])
    one_step(segmenter)
    assert same(classifier, before)
    again = mt.to_classifier(segmenter, num_classes=4, share=False)
    now = snapshot(segmenter)
    one_step(again)
    assert same(segmenter, now)
    shared = {id(p) for p in segmenter.parameters()} & {id(p) for p in (*classifier.parameters(), *again.parameters())}
    assert shared == set()


def test_shared_parameters_are_counted_and_optimised_once(tiny):
    """A second update in the same step would show in the size of the step."""
    classifier = tiny(seed=1)
    segmenter = mt.to_segmenter(classifier, num_classes=3)
    both = nn.ModuleList([classifier, segmenter])
    parameters = list(both.parameters())
    encoder = encoder_parameters(classifier)
    own = len(list(classifier.parameters())) + len(list(segmenter.parameters())) - len(encoder)
    assert len(parameters) == own == len({id(p) for p in parameters})
    weight = classifier.layer1[0].conv1.weight
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    torch.optim.SGD(parameters, lr=0.5).step()
    assert torch.allclose(weight, before - 0.5)
    assert torch.equal(segmenter.encoder_1[1][0].conv1.weight, weight)


def test_shared_networks_are_saved_each_alone_and_come_back(tiny, same, tmp_path):
    classifier = tiny(seed=1)
    segmenter = mt.to_segmenter(classifier, num_classes=3)
    for name, network in (("c", classifier), ("s", segmenter)):
        mt.save(network, tmp_path / name)
        assert same(mt.load(tmp_path / name), network.state_dict())


def test_options_of_the_decoder_are_passed_on(tiny):
    segmenter = mt.to_segmenter(tiny(), 3, full_resolution_skip=4, upsample_type="interp", aux_train=True)
    assert segmenter.architecture["arguments"]["full_resolution_skip"] == 4
    assert segmenter.input_skip.conv.in_channels == 1
    assert len(segmenter.aux_layers) == 3


def test_what_a_classifier_holds_still_its_segmenter_holds_still(tiny):
    segmenter = mt.to_segmenter(tiny(frozen_stages=1, norm_eval=True), num_classes=2).eval().train()
    assert not segmenter.encoder_1[1][0].bn1.training
    assert not segmenter.encoder_4[0].bn1.training
    assert not segmenter.encoder_0[0].weight.requires_grad
    assert segmenter.encoder_2[0].conv1.weight.requires_grad


def test_the_new_head_is_of_the_encoders_dtype(tiny):
    head = mt.to_classifier(tiny("resunet10").double(), num_classes=6).head_fc
    assert (head.weight.dtype, head.weight.shape) == (torch.float64, (6, 32))
    assert not any(p.is_meta for p in mt.to_classifier(tiny("resunet10"), num_classes=6).parameters())


def test_networks_made_of_each_other_know_how_they_are_built(classifier):
    segmenter = mt.to_segmenter(classifier, num_classes=3)
    again = mt.to_classifier(segmenter, num_classes=5)
    for network in (segmenter, again):
        record = network.architecture
        rebuilt = mt.create_model(record["name"], **record["arguments"])
        assert [(k, t.shape) for k, t in rebuilt.state_dict().items()] == [
            (k, t.shape) for k, t in network.state_dict().items()
        ]


# --- built by hand, as in the tutorial ------------------------------------------------------------------------------


def by_hand(net: ResNet, **arguments) -> UNet:
    encoders = [net.stem, nn.Sequential(net.maxpool, getattr(net, net.res_layers[0]))]
    encoders += [getattr(net, name) for name in net.res_layers[1:]]
    return UNet({"num_channels": [8, 8, 16, 32, 64], "nclasses": 8}, encoders, **arguments)


@pytest.fixture
def tutorial() -> tuple[ResNet, dict]:
    config = {"conv_cfg": {"type": "Conv3d"}, "norm_cfg": {"type": "BN3d", "requires_grad": True}}
    small = {"stem_channels": 8, "base_channels": 8, "deep_stem": True, "pool": "conv"}
    return ResNet(10, in_channels=4, head_type="classification", num_classes=8, **small, **config), config


def test_a_segmenter_built_by_hand_shares_by_reference(tutorial):
    net, config = tutorial
    segmenter = by_hand(net, **config)
    assert segmenter.encoder_0[0].conv.weight is net.stem[0].conv.weight
    assert segmenter(torch.rand(2, 4, 32, 32, 32)).shape == (2, 8, 32, 32, 32)


@pytest.mark.parametrize("spelt_out", [True, False], ids=["configs", "defaults"])
def test_a_segmenter_built_by_hand_is_saved_loaded_and_turned_into_a_classifier(tutorial, spelt_out, same, tmp_path):
    net, config = tutorial
    segmenter = by_hand(net, **(config if spelt_out else {}))
    assert segmenter.in_channels == 4
    card = mt.save(segmenter, tmp_path / "segmenter")
    assert card.input_channels == ["channel_0", "channel_1", "channel_2", "channel_3"]
    loaded = mt.load(tmp_path / "segmenter")
    assert same(loaded, segmenter.state_dict())
    classifier = mt.to_classifier(loaded, num_classes=8).eval()
    classifier.head_fc.load_state_dict(net.head_fc.state_dict())
    x = torch.rand(1, 4, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(classifier(x), net.eval()(x))


def test_a_segmenter_built_by_hand_takes_the_strides_of_its_encoder():
    strides = {"first_stride": (1, 2, 2), "pool_stride": (1, 2, 2), "strides": (1, 2, (1, 2, 2), 2)}
    net = ResNet(10, in_channels=4, stem_channels=8, base_channels=8, **strides)
    segmenter = by_hand(net)
    assert segmenter.output_stride == net.output_stride == (4, 32, 32)
    assert [segmenter.get_submodule(f"decoder_{i}.up").stride for i in range(4)] == list(net.stage_strides[1:])
    assert segmenter.architecture["name"] == "resunet10"


def test_a_decoder_of_other_layer_types_says_that_it_cannot_be_saved(tutorial, tmp_path):
    net, _ = tutorial
    for arguments in ({"norm_cfg": {"type": "GN", "num_groups": 2}}, {"act_cfg": {"type": "ELU"}}):
        segmenter = by_hand(net, **arguments)
        assert segmenter.architecture is None
        with pytest.raises(ModelError, match="does not know how it was built"):
            mt.save(segmenter, tmp_path / "segmenter")
    assert not (tmp_path / "segmenter").exists()


def test_stages_that_are_not_all_in_order_are_no_resnet(tutorial):
    net, config = tutorial
    stages = net.stages()
    for chosen, channels in (
        ([stages[0], net.layer1, *stages[2:]], [8, 8, 16, 32, 64]),  # no pooling: layer1 has two blocks in deeper nets
        (stages[:3], [8, 8, 16]),
        ([stages[0], nn.Conv3d(8, 8, 1), nn.Conv3d(8, 8, 1)], [8, 8, 8]),
    ):
        segmenter = UNet({"num_channels": channels, "nclasses": 2}, chosen, decoder_block="basic", **config)
        assert segmenter.architecture is None
        with pytest.raises(ModelError, match="to_classifier needs a network around a ResNet"):
            mt.to_classifier(segmenter, num_classes=2)


@pytest.mark.parametrize(
    "extra, arguments, said",
    [
        ({"num_channels": [8, 8, 16, 32], "nclasses": 2}, {}, "got 4 for 5 modules"),
        ({"num_channels": [8, 8, 16, 32, 99], "nclasses": 2}, {}, r"num_channels'\]\[4\] is 99, .* gives 64"),
        ({"num_channels": [8, 8, 16, 32, 64]}, {}, "needs the keys num_channels and nclasses"),
        ({"num_channels": [8, 8, 16, 32, 64], "nclasses": 2}, {"conv_cfg": {"type": "Conv2d"}}, "3-D, the decoder 2-D"),
        (
            {"num_channels": [8, 8, 16, 32, 64], "nclasses": 2},
            {"frozen_stages": 5},
            "frozen_stages must be from -1 to 4",
        ),
    ],
    ids=["too few", "wrong width", "no classes", "flat decoder", "frozen"],
)
def test_parts_that_do_not_belong_together_are_named(tutorial, extra, arguments, said):
    with pytest.raises(ModelError, match=said):
        UNet(extra, tutorial[0].stages(), **arguments)


def test_foreign_networks_are_refused_with_the_way_out():
    with pytest.raises(
        ModelError, match=r"to_segmenter needs a ResNet or another .*, got Linear. Build UNet\(extra, layers\)"
    ):
        mt.to_segmenter(nn.Linear(2, 2), num_classes=2)
    with pytest.raises(ModelError, match=r"to_classifier needs a network .*, got Linear. Build it with create_model"):
        mt.to_classifier(nn.Linear(2, 2), num_classes=2)
