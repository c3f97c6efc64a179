"""MONAI's ResNet: the bias in its shortcuts, which has no place here, and the stem's stride, which no tensor tells."""

from __future__ import annotations

import copy

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.monai_resnet_oracle import monai_maps, monai_net


def home_of(source) -> torch.nn.Module:
    home = read_source(source).home
    return mt.create_model(home.name, **home.arguments)


def test_a_bias_in_the_shortcuts_is_folded_and_named():
    report = mt.transfer(net := monai_net(18), home_of(net), head="keep")
    folded = {entry.key: entry.how for entry in report.dropped}
    assert folded == {
        f"layer{i}.0.downsample.0.bias": f"folded into layer{i}.0.downsample.1.running_mean" for i in (2, 3, 4)
    }
    changed = {entry.key: entry.how for entry in report.adapted}
    assert changed.keys() == {f"layer{i}.0.downsample.1.running_mean" for i in (2, 3, 4)}
    assert all("downsample.0.bias" in how for how in changed.values())
    assert (report.unexpected, report.missing) == ([], [])


def test_the_source_keeps_its_bias_and_its_mean():
    net = monai_net(18)
    before = copy.deepcopy(net.state_dict())
    mt.transfer(net, home_of(net))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_the_folded_network_is_the_same_function_in_training_too():
    """Outputs and gradients of the first step, and the statistics after it but for the bias."""
    theirs = monai_net(10)
    ours = home_of(theirs)
    mt.transfer(theirs, ours, head="keep")
    # 16 voxels an axis and more, so that no norm sees one value alone
    x = torch.randn(2, 2, 32, 33, 34, generator=torch.Generator().manual_seed(0))
    outputs = []
    for net in (theirs.train(), ours.train()):
        out = net(x)
        out.square().sum().backward()
        outputs.append(out.detach())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.conv1.weight.grad, theirs.conv1.weight.grad, rtol=1e-3, atol=1e-3)
    for i in (2, 3, 4):
        conv, norm = getattr(theirs, f"layer{i}")[0].downsample
        mean = getattr(ours, f"layer{i}")[0].downsample[1].running_mean
        torch.testing.assert_close(mean, norm.running_mean - conv.bias, rtol=1e-4, atol=1e-4)


def test_a_target_with_such_a_bias_takes_it_as_it_is(same):
    """Another network of MONAI: folding would leave its own bias there, and the mean without the source's."""
    theirs, target = monai_net(18), monai_net(18, num_classes=3)
    for tensor in target.state_dict().values():
        tensor.zero_()
    report = mt.transfer(theirs, target, head="keep")
    assert same(target, theirs.state_dict())
    assert (report.adapted, report.dropped, report.missing) == ([], [], [])


def test_half_precision_is_folded_in_the_means_dtype():
    state = monai_net(18).half().state_dict()
    weights = read_source(state)
    name = "layer2.0.downsample.1.running_mean"
    assert weights.tensors[name].dtype == torch.float16
    assert torch.equal(weights.tensors[name], state[name] - state["layer2.0.downsample.0.bias"])


def test_a_norm_without_statistics_keeps_the_bias_in_the_report():
    state = {key: value for key, value in monai_net(18).state_dict().items() if not key.endswith("running_mean")}
    weights = read_source(state)
    assert weights.dialect == "monai_resnet"
    assert "layer2.0.downsample.0.bias" in weights.tensors
    assert weights.changes == {}


@pytest.mark.parametrize("stride, said", [(1, False), (2, True)])
def test_the_stems_stride_is_monais_default_and_another_is_said(stride, said):
    net = monai_net(18)
    home = read_source(net).home
    assert home.arguments["first_stride"] == 1
    assert "first_stride=2" in home.note
    target = mt.create_model("resnet18", in_channels=2, base_channels=4, stem_channels=4, first_stride=stride)
    notes = mt.transfer(net, target).notes
    assert any("first_stride=1" in note and "tensors cannot tell" in note for note in notes) == said


def test_wrong_strides_are_seen_in_the_maps():
    """The oracle has teeth: the same weights with another stem's stride give other maps."""
    net = monai_net(10)
    target = mt.create_model("resnet10", in_channels=2, base_channels=4, stem_channels=4, num_classes=3).eval()
    mt.transfer(net, target, head="keep")
    x = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert target.features(x)[0].shape != monai_maps(net, x)[0].shape


def test_shortcut_a_has_no_tensors_and_is_seen():
    assert read_source(monai_net(18, shortcut_type="A")).home.arguments["shortcut"] == "A"
    assert "shortcut" not in read_source(monai_net(18)).home.arguments
