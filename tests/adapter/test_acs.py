"""ACS convolutions against the original project's, and against the dense kernels that they stand for.

``golden/acsconv.npz`` was made once by the converter of ACSConv 0.1.1 (PyPI sdist, ``ACSConverter``) on :func:`network`
with the weights and the input below; its one change for a present torch was to leave out the argument ``bias`` that
``BatchNorm3d`` has gained since.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.adapter.inflate import inflate_conv
from medtransfer.adapter.inflate_module import inflate, to_acs
from medtransfer.errors import ModelError
from medtransfer.model_zoo.acs import ACSConv3d
from tests.adapter.dialects.oracle_case import OracleCase, difference, fill, load_golden


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 20, 1, stride=2),
        nn.Conv2d(20, 9, 3, padding=2, dilation=2),
        nn.Upsample(scale_factor=3, mode="bilinear", align_corners=False),
        nn.Conv2d(9, 4, 3),
        nn.Conv2d(4, 11, 5, stride=2, padding=2),
        nn.AvgPool2d(2, 1),
        nn.AdaptiveAvgPool2d(1),
    )


def test_every_map_is_that_of_the_original_project() -> None:
    net = network()
    net.load_state_dict(fill(net.state_dict()))
    x = torch.from_numpy(np.random.RandomState(1).standard_normal((2, 3, 32, 24, 40)).astype(np.float32))
    golden = load_golden(Path(__file__).parent / "golden" / "acsconv.npz")
    assert len(golden) == len(net)
    for solid in (to_acs(net.eval()), inflate(net, mode="acs")):
        maps, volume = [], x
        with torch.no_grad():
            for layer in solid:
                volume = layer(volume)
                maps.append(volume)
        assert difference(OracleCase("", Path(), x, golden, "ACSConv 0.1.1"), maps) < 1e-5


def test_weights_and_keys_stay_those_of_the_2d_network() -> None:
    net = network()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    solid = to_acs(net)
    state = solid.state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(state[key], before[key]) for key in before)
    next(solid.parameters()).data.fill_(9)
    assert torch.equal(net[0].weight, before["0.weight"])


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": "same", "padding_mode": "circular"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "replicate", "stride": 2},
        {"kernel_size": 3, "padding": 2, "padding_mode": "reflect", "bias": False},
        {"kernel_size": 3, "padding": "valid", "dilation": 2},
        {"kernel_size": 5, "padding": 1},
        {"kernel_size": 3, "padding": 3, "stride": 3},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": 2},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 3, "padding": 1, "groups": 8},
        {"kernel_size": 1},
    ],
    ids=str,
)
def test_the_planes_together_are_one_dense_kernel(settings: dict) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, **settings).double()
    x = torch.randn(2, 16, 9, 10, 11).double()
    acs, dense = to_acs(conv), inflate(conv, mode="acs")
    torch.testing.assert_close(acs(x), dense(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(acs(x[0]), dense(x[0]), rtol=0, atol=1e-12)
    acs(x).square().sum().backward()
    assert acs.weight.grad.shape == conv.weight.shape
    assert acs.weight.grad.count_nonzero() == conv.weight.numel()


def test_few_output_channels_leave_planes_out() -> None:
    x = torch.rand(1, 2, 5, 5, 5)
    conv = ACSConv3d(2, 1, 3, padding=1, bias=False)
    torch.testing.assert_close(conv(x), F.conv3d(x, inflate_conv(conv.weight.data, 3, "acs"), padding=1))


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: nn.Conv2d(1, 1, (3, 5)), "odd square kernel, got 3x5"),
        (lambda: nn.Conv2d(1, 1, 2, stride=2), "odd square kernel, got 2x2"),
        (lambda: nn.Conv2d(1, 1, 3, stride=(1, 2)), r"one stride for all axes, got \(1, 2\)"),
        (lambda: nn.Conv2d(1, 1, 3, padding=(1, 0)), "one padding for all axes"),
        (lambda: ACSConv3d(1, 1, 3), "has a forward of its own"),
    ],
)
def test_a_convolution_without_an_acs_form_is_named(build: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ModelError, match=rf"Sequential\.0.*{said}"):
        to_acs(nn.Sequential(build()))


def test_the_layer_refuses_what_the_converter_refuses() -> None:
    with pytest.raises(ModelError, match="odd square kernel, got 4x4"):
        ACSConv3d(1, 1, 4)


def test_a_transposed_convolution_becomes_a_plain_one() -> None:
    solid = to_acs(nn.Sequential(nn.ConvTranspose2d(1, 1, 2, stride=2)))[0]
    assert torch.equal(solid.weight[:, :, 0], solid.weight[:, :, 1])


@pytest.mark.parametrize("name", ("resnet10", "resunet10"))
def test_a_network_of_the_zoo_is_built_of_acs_layers(name: str, tiny: Callable[..., nn.Module], tmp_path: Path) -> None:
    net = tiny(name, conv_cfg={"type": "Conv2d"}).eval()
    solid = to_acs(net)
    assert solid.ndim == 3
    assert sum(isinstance(layer, ACSConv3d) for layer in solid.modules()) == sum(
        isinstance(layer, nn.Conv2d) for layer in net.modules()
    )
    volume = torch.rand(1, 1, 16, 16, 16)
    mt.save(solid, tmp_path / "model")
    assert torch.equal(mt.load(tmp_path / "model").eval()(volume), solid(volume))
    dense = inflate(net, mode="acs")
    torch.testing.assert_close(solid(volume), dense(volume), rtol=1e-5, atol=1e-5)
