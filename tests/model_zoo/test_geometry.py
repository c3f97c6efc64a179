"""Sizes, strides, keys and layer geometry, as torchvision, ptimz and MedicalNet have them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import medtransfer as mt
from medtransfer.model_zoo import ResNet, UNet

TINY = {"base_channels": 2, "stem_channels": 2}
BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
CONFIGS = {2: {"conv_cfg": {"type": "Conv2d"}}, 3: {}}


def tiny(depth: int = 10, **arguments) -> ResNet:
    return ResNet(depth, in_channels=1, **{**TINY, **arguments})


@pytest.mark.parametrize("depth", BLOCKS)
def test_block_counts_and_kernels_are_those_of_the_depth(depth):
    net = tiny(depth, base_channels=4)
    assert tuple(len(getattr(net, name)) for name in net.res_layers) == BLOCKS[depth]
    kernels = (3, 3) if depth < 50 else (1, 3, 1)
    for name, b in itertools.chain.from_iterable(((n, b) for b in getattr(net, n)) for n in net.res_layers):
        convs = [getattr(b, f"conv{i + 1}") for i in range(len(kernels))]
        assert [c.kernel_size for c in convs] == [(k,) * 3 for k in kernels], name
        assert all(c.bias is None for c in convs)
        assert not hasattr(b, f"conv{len(kernels) + 1}")


@pytest.mark.parametrize("depth", [18, 50])
def test_downsampling_sits_where_torchvision_has_it(depth):
    net = tiny(depth, stem_channels=4, base_channels=4)
    with_shortcut = [key for key in net.state_dict() if key.endswith("downsample.0.weight")]
    first = [] if depth == 18 else ["layer1.0.downsample.0.weight"]
    assert with_shortcut == [*first, *(f"layer{i}.0.downsample.0.weight" for i in (2, 3, 4))]
    strided = {name for name, m in net.named_modules() if getattr(m, "stride", None) == (2, 2, 2)}
    conv = "conv1" if depth == 18 else "conv2"
    expected = {f"layer{i}.0.{part}" for i in (2, 3, 4) for part in (conv, "downsample.0")}
    assert strided == expected | {"conv1"}


def test_caffe_style_strides_the_first_convolution_of_a_bottleneck():
    block = tiny(50, base_channels=4, style="caffe").layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2, 2), (1, 1, 1))


def test_average_pooling_in_every_strided_shortcut_and_only_there():
    net = tiny(50, base_channels=4, avg_down=True)
    shortcuts = [getattr(net, name)[0].downsample for name in net.res_layers]
    assert [type(s[0]).__name__ for s in shortcuts] == ["Conv3d", *["AveragePool"] * 3]
    assert all(layer.stride == (1, 1, 1) for s in shortcuts for layer in s if isinstance(layer, nn.Conv3d))


def test_keys_of_a_plain_stem_are_torchvisions_in_its_order():
    keys = list(tiny(10, stem_channels=4, base_channels=4, head_type="classification").state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    block = [f"layer2.0.{part}" for part in ("conv1.weight", *(f"bn1.{n}" for n in norm))]
    block += [f"layer2.0.{part}" for part in ("conv2.weight", *(f"bn2.{n}" for n in norm))]
    block += [f"layer2.0.downsample.{part}" for part in ("0.weight", *(f"1.{n}" for n in norm))]
    assert keys[:6] == ["conv1.weight", *(f"bn1.{n}" for n in norm)]
    assert [key for key in keys if key.startswith("layer2")] == block
    assert keys[-2:] == ["head_fc.weight", "head_fc.bias"]
    assert not any(key.startswith("maxpool") for key in keys)


def test_keys_of_the_tutorials_network_are_ptimzs():
    net = tiny(50, deep_stem=True, pool="conv", head_type="classification", num_classes=4, base_channels=4)
    keys = set(net.state_dict())
    assert {f"stem.{i}.{p}" for i in range(3) for p in ("conv.weight", "bn.weight", "bn.running_var")} <= keys
    assert {"maxpool.conv.weight", "maxpool.bn.bias", "layer4.2.conv3.weight", "layer3.5.bn3.running_mean"} <= keys
    assert {"layer1.0.downsample.0.weight", "layer1.0.downsample.1.num_batches_tracked", "head_fc.bias"} <= keys
    assert {key.split(".")[0] for key in keys} == {"stem", "maxpool", "layer1", "layer2", "layer3", "layer4", "head_fc"}
    assert [net.stem[i].conv.stride for i in range(3)] == [(2, 2, 2), (1, 1, 1), (1, 1, 1)]
    assert net.res_layers == ["layer1", "layer2", "layer3", "layer4"]


def test_keys_of_the_tutorials_segmenter_are_ptimzs():
    encoder = tiny(10, deep_stem=True, pool="conv")
    net = UNet(
        {"num_channels": [2, 2, 4, 8, 16], "nclasses": 8}, encoder.stages(), aux_train=True, decoder_block="basic"
    )
    keys = list(net.state_dict())
    assert keys[:2] == ["encoder_0.0.conv.weight", "encoder_0.0.bn.weight"]
    assert {"encoder_1.0.conv.weight", "encoder_1.1.0.conv1.weight", "encoder_2.0.downsample.0.weight"} <= set(keys)
    for i in range(4):
        assert {f"decoder_{i}.up.weight", f"decoder_{i}.up.bias", f"decoder_{i}.conv.conv2.weight"} <= set(keys)
        assert {f"decoder_{i}.conv.downsample.0.bias", f"decoder_{i}.conv.downsample.1.weight"} <= set(keys)
    heads = [key for key in keys if key.startswith(("final", "aux"))]
    aux = [f"aux_layers.{k}.1.{part}" for k in range(3) for part in ("weight", "bias")]
    assert heads == ["final_layer.1.weight", "final_layer.1.bias", *aux]
    assert net.state_dict()["decoder_3.up.weight"].shape == (16, 8, 2, 2, 2)
    assert [net.aux_layers[k][1].in_channels for k in range(3)] == [8, 4, 2]


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101, 152, 200])
def test_medicalnet_geometry_has_its_strides_dilations_and_shortcuts(depth):
    net = tiny(depth, base_channels=4, geometry="medicalnet")
    assert net.output_stride == (8, 8, 8)
    dilations = {
        name: {c.dilation for c in getattr(net, name).modules() if isinstance(c, nn.Conv3d)} for name in net.res_layers
    }
    wide = {"layer1": 1, "layer2": 1, "layer3": 2, "layer4": 4}
    for name, expected in wide.items():
        kernels3 = {c.dilation for c in getattr(net, name).modules() if getattr(c, "kernel_size", None) == (3, 3, 3)}
        assert kernels3 == {(expected,) * 3}
    assert dilations["layer1"] == {(1, 1, 1)}
    has_weights = any("downsample" in key for key in net.state_dict())
    assert has_weights == (depth not in (18, 34))


def test_medicalnet_sizes_at_64_voxels_are_those_measured():
    net = tiny(18, geometry="medicalnet").eval()
    with torch.no_grad():
        assert [m.shape[-1] for m in net.features(torch.rand(1, 1, 64, 64, 64))] == [32, 16, 8, 8, 8]


def sizes_of(net, x) -> list[tuple[int, ...]]:
    return [tuple(m.shape[2:]) for m in net.features(x)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"deep_stem": True, "pool": "conv"},
        {"first_stride": 1, "pool": "none"},
        {"first_stride": (1, 2, 2), "pool_stride": (1, 2, 2), "strides": (1, (1, 2, 2), (2, 1, 2), 2)},
        {"strides": (1, 2, 3, 1), "avg_down": True},
        {"strides": (2, 2, 1, 1), "dilations": (1, 1, 2, 4), "shortcut": "A"},
    ],
    ids=["plain", "deep", "fine", "anisotropic", "thirds", "dilated"],
)
@settings(max_examples=4, deadline=None)
@example(size=(17, 33, 7))
@example(size=(1, 1, 1))
@given(size=st.tuples(*[st.integers(1, 17)] * 3))
def test_any_size_gives_maps_of_the_declared_strides(arguments, size):
    encoder = tiny(10, **arguments).eval()
    net = UNet.around(encoder, num_classes=3, decoder_block="basic").eval()
    x = torch.rand(1, 1, *size)
    expected, current = [], size
    for stride in encoder.stage_strides:
        # each strided layer rounds up; a stage of several does so one after the other, which is the same
        current = tuple(math.ceil(n / s) for n, s in zip(current, stride, strict=True))
        expected.append(current)
    with torch.no_grad():
        assert sizes_of(encoder, x) == sizes_of(net, x) == expected
        assert [m.shape[1] for m in encoder.features(x)] == list(encoder.stage_channels)
        assert net(x).shape == (1, 3, *size)
    total = [math.prod(axis) for axis in zip(*encoder.stage_strides, strict=True)]
    assert list(encoder.output_stride) == list(net.output_stride) == total


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resunet18", "resunet50"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_outputs_have_the_promised_shape_in_two_and_three_dimensions(name, ndim):
    net = mt.create_model(name, in_channels=2, num_classes=5, base_channels=4, stem_channels=4, **CONFIGS[ndim]).eval()
    x = torch.rand(2, 2, *(17, 33, 20)[:ndim])
    with torch.no_grad():
        output = net(x)
        maps = net.features(x)
    assert output.shape == ((2, 5) if name.startswith("resn") else (2, 5, *x.shape[2:]))
    assert net.ndim == ndim
    assert all(m.ndim == ndim + 2 for m in maps)


@pytest.mark.parametrize("arguments", [{"upsample_type": "interp"}, {"full_resolution_skip": 3}], ids=str)
@settings(max_examples=4, deadline=None)
@example(size=(17, 33, 7))
@example(size=(1, 1, 1))
@given(size=st.tuples(*[st.integers(1, 17)] * 3))
def test_any_size_works_with_every_kind_of_decoder(arguments, size):
    net = mt.create_model("resunet10", num_classes=2, **TINY, decoder_block="basic", **arguments).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 1, *size)).shape == (1, 2, *size)


def test_a_network_of_fewer_stages_has_their_strides_only():
    net = mt.create_model("resunet18", num_stages=2, strides=(1, 2, 2, 2), base_channels=4, stem_channels=4)
    assert net.output_stride == (8, 8, 8)
    assert len(net.stages()) == 3
    assert [tuple(m.shape[2:]) for m in net.features(torch.rand(2, 1, 16, 16, 16))] == [(8,) * 3, (4,) * 3, (2,) * 3]


def test_a_headless_network_returns_the_stages_that_it_is_asked_for():
    x = torch.rand(1, 1, 16, 16, 16)
    one = tiny().eval()(x)
    several = tiny(out_indices=(0, 2)).eval()(x)
    assert one.shape == (1, 16, 1, 1, 1)
    assert [m.shape[1] for m in several] == [2, 8]
