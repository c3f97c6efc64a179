"""VGG: stages and sizes as in the paper's table, options that reach the layers, heads, any input size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError
from medtransfer.model_zoo import VGG

FLAT = {"type": "Conv2d"}


def build(name: str = "vgg11", **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return mt.create_model(name, **{"in_channels": 1, "num_classes": 3, "base_channels": 4, **arguments})


@pytest.mark.parametrize("depth", (11, 13, 16, 19))
@pytest.mark.parametrize("normed", (False, True))
def test_depth_counts_the_layers_with_weights(depth: int, normed: bool) -> None:
    net = build(f"vgg{depth}", conv_cfg=FLAT, batch_norm=normed, fc_channels=8)
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convs) + sum(isinstance(layer, nn.Linear) for layer in net.modules()) == depth
    assert all(conv.kernel_size == (3, 3) and conv.bias is not None for conv in convs)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()) == (len(convs) if normed else 0)


def test_the_published_number_of_parameters() -> None:
    """As torchvision documents them for 1000 classes."""
    with torch.device("meta"):
        for name, batch_norm, millions in (("vgg11", False, 132.863336), ("vgg16", True, 138.365992)):
            net = mt.create_model(name, in_channels=3, num_classes=1000, conv_cfg=FLAT, batch_norm=batch_norm)
            assert sum(p.numel() for p in net.parameters()) == round(millions * 1e6)


@pytest.mark.parametrize("size", [(32, 32, 32), (17, 35, 16), (1, 33, 2), (5, 5, 5)])
def test_pooling_rounds_down_and_stops_at_one_voxel(size: tuple[int, ...]) -> None:
    net = build().eval()
    maps = net.features(torch.rand(1, 1, *size))
    for i, (x, channels) in enumerate(zip(maps, net.stage_channels, strict=True)):
        assert x.shape == (1, channels, *(max(1, s // 2**i) for s in size))
    assert net(torch.rand(2, 1, *size)).shape == (2, 3)


def test_even_sizes_pool_as_torch_does() -> None:
    net = build(conv_cfg=FLAT).eval()
    x = net.stage0(torch.rand(1, 1, 13, 16))
    assert torch.equal(net.stage1.pool(x), nn.functional.max_pool2d(x, 2))


def test_strides_pool_each_axis_by_its_own() -> None:
    net = build(strides=[(1, 2, 2), 1, (1, 2, 2), 2, 2])
    assert net.stage_strides == ((1, 2, 2), (1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert net.output_stride == (4, 16, 16)
    assert [tuple(x.shape[2:]) for x in net.features(torch.rand(1, 1, 8, 32, 32))] == [
        (8, 16, 16), (8, 16, 16), (8, 8, 8), (4, 4, 4), (2, 2, 2)
    ]  # fmt: skip


def test_configs_reach_every_layer() -> None:
    net = build(norm_cfg={"type": "GN", "num_groups": 2}, act_cfg={"type": "LeakyReLU", "negative_slope": 0.2})
    for kind, count in ((nn.GroupNorm, 8), (nn.Conv3d, 8), (nn.LeakyReLU, 8), (nn.ReLU, 0)):
        assert sum(isinstance(layer, kind) for layer in net.modules()) == count
    assert "stage0.0.gn.weight" in net.state_dict()


def test_every_parameter_gets_a_gradient_and_recomputing_changes_nothing() -> None:
    arguments = {"batch_norm": True, "fc_channels": 8, "head_pool": 2, "head_dropout": 0.0}
    gradients = []
    for with_cp in (False, True):
        net = build(**arguments, with_cp=with_cp)
        torch.manual_seed(1)
        net(torch.rand(2, 1, 8, 8, 8)).square().sum().backward()
        gradients.append([p.grad for p in net.parameters()] + list(net.buffers()))
    assert all(grad is not None for grad in gradients[0])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_frozen_stages_and_statistics_stay_in_training() -> None:
    net = build(batch_norm=True, frozen_stages=1, norm_eval=True).train()
    assert [p.requires_grad for p in net.stage1.parameters()] == [False] * 4
    assert all(p.requires_grad for p in net.stage2.parameters())
    assert not any(layer.training for layer in net.modules() if isinstance(layer, nn.BatchNorm3d))


def test_heads() -> None:
    assert isinstance(build().head_fc, nn.Linear)
    assert not hasattr(build(), "head_hidden")
    with torch.device("meta"):
        flat = mt.create_model("vgg11", conv_cfg=FLAT)
    assert flat.head_hidden.fc1.weight.shape == (4096, 512 * 49)
    deep = build(fc_channels=8, head_pool=(1, 2, 3))
    assert deep.head_hidden.fc1.weight.shape == (8, 32 * 6)
    assert deep(torch.rand(2, 1, 32, 32, 32)).shape == (2, 3)
    assert build(num_classes=None)(torch.rand(1, 1, 16, 16, 16)).shape == (1, 32, 1, 1, 1)
    volumes = build("vgg11_fcn")
    assert (volumes.task, volumes(torch.rand(1, 1, 16, 17, 18)).shape) == ("segmentation", (1, 3, 16, 17, 18))


@pytest.mark.parametrize(
    "arguments", [{}, {"batch_norm": True}, {"fc_channels": 8, "head_pool": 2}, {"conv_cfg": FLAT}]
)
def test_a_segmenter_around_it_and_back(arguments: dict[str, Any]) -> None:
    classifier = build(**{"fc_channels": 8, **arguments} if "conv_cfg" in arguments else arguments)
    ndim = classifier.ndim
    segmenter = mt.to_segmenter(classifier, num_classes=4)
    x = torch.rand(2, 1, *(9,) * ndim)
    assert segmenter(x).shape == (2, 4, *(9,) * ndim)
    assert segmenter.architecture["name"] == "vggunet11"
    again = mt.to_classifier(segmenter, num_classes=5)
    assert again.stage3[1].conv is classifier.stage3[1].conv
    assert again(x).shape == (2, 5)
    rebuilt = mt.create_model(again.architecture["name"], **again.architecture["arguments"])
    assert rebuilt.state_dict().keys() == again.state_dict().keys()


def test_weights_move_between_classifier_and_segmenter() -> None:
    classifier = build(batch_norm=True)
    report = mt.transfer(classifier, build("vggunet11", batch_norm=True, in_channels=2))
    assert report.coverage == 1
    assert [entry.key for entry in report.adapted] == ["encoder_0.0.conv.weight"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"batch_norm": False, "norm_cfg": {"type": "BN"}}, "batch_norm=False leaves no layer"),
        ({"fc_channels": -1}, "fc_channels must be a whole number"),
        ({"fc_channels": 8, "head_pool": (2, 2)}, "head_pool must be a positive number, or 3"),
        ({"fcn_stride": 8}, "fcn_stride=8 is an FCN's"),
        ({"head_type": "fcn", "fcn_stride": 3}, "fcn_stride must be one of 16, 8, 4, 2 in this network, got 3"),
        ({"head_type": "fcn", "fcn_stride": "8"}, "fcn_stride must be one of"),
        ({"head_type": "fcn", "fc_channels": 8, "head_pool": 2, "fcn_stride": 64}, "one of 32, 16, 8, 4, 2 in"),
        ({"strides": [1, 2]}, "strides"),
        ({"base_channels": 0}, "positive"),
        ({"depth": 18}, "has no argument 'depth'"),
    ],
)
def test_what_does_not_describe_a_network_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build(**arguments)


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(ModelError, match="depth must be one of 11, 13, 16, 19, got 18"):
        VGG(18)
