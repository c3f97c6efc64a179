"""Every cell of the tutorial that the project grew from, with the results that it prints.

The tutorial (ptimz, "Transfer Learning") moves a 3-D ResNet-50 with 2 inputs and 4 classes into one with 4 inputs and
8 classes, builds a ResUNet around it, and sees the ResNet change when the ResUNet does. Only imports differ here:
``medtransfer.model_zoo`` for ``ptimz.model_zoo``, and ``mmengine.model`` for two functions that mmcv moved there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import constant_init, normal_init
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import medtransfer as mt
from medtransfer.model_zoo import ResNet, UNet

CONV = {"type": "Conv3d"}
NORM = {"type": "BN3d", "requires_grad": True}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]


def weight_init(mean: float) -> Callable[[nn.Module], None]:
    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
            normal_init(module, mean=mean, std=0.02)
        elif isinstance(module, _BatchNorm | nn.GroupNorm):
            constant_init(module, 1)

    return init


def tutorial_adapt_input_conv(in_chans: int, conv_weight: Tensor) -> Tensor:
    """What cell 8 computes: linear interpolation along the channel axis in float32."""
    out, channels, *kernel = conv_weight.shape
    lines = conv_weight.float().permute(0, *range(2, conv_weight.ndim), 1).reshape(-1, 1, channels)
    lines = F.interpolate(lines, in_chans, mode="linear").reshape(out, *kernel, in_chans)
    return lines.permute(0, conv_weight.ndim - 1, *range(1, conv_weight.ndim - 1)).to(conv_weight.dtype)


@pytest.fixture(scope="module", params=DEVICES)
def cells(request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    """Cells 1 to 13 in order, each step's result under a name."""
    device, seen = request.param, SimpleNamespace()
    torch.manual_seed(0)
    source = ResNet(50, in_channels=2, deep_stem=True, conv_cfg=CONV, norm_cfg=NORM,
                    head_type="classification", num_classes=4)  # fmt: skip
    source.apply(weight_init(0.5))
    source.to(device)
    with torch.no_grad():
        seen.source_output = source(torch.rand(1, 2, 64, 64, 64, device=device))
    state = source.state_dict()
    seen.source_keys, seen.source_state = list(state), {key: value.clone() for key, value in state.items()}

    target = ResNet(50, in_channels=4, deep_stem=True, conv_cfg=CONV, norm_cfg=NORM,
                    head_type="classification", num_classes=8).to(device)  # fmt: skip
    seen.fresh_mean = target.state_dict()["stem.0.conv.weight"].mean().item()

    state["stem.0.conv.weight"] = mt.adapt_input_conv(4, state["stem.0.conv.weight"])
    del state["head_fc.weight"], state["head_fc.bias"]
    seen.loaded = target.load_state_dict(state, strict=False)
    seen.target_mean = target.state_dict()["stem.0.conv.weight"].mean().item()
    seen.input = torch.rand(1, 4, 64, 64, 64, device=device)
    with torch.no_grad():
        seen.target_output = target(seen.input)

    layers = [
        target.stem,
        nn.Sequential(target.maxpool, getattr(target, target.res_layers[0])),
        *(getattr(target, name) for name in target.res_layers[1:]),
    ]
    extra = {"num_channels": [64, 256, 512, 1024, 2048], "nclasses": 8}
    resunet = UNet(extra, layers, conv_cfg=CONV, norm_cfg=NORM).to(device)
    with torch.no_grad():
        seen.resunet_output = resunet(seen.input)
    seen.target, seen.resunet, seen.device = target, resunet, device
    return seen


def test_cell_3_source_gives_four_classes(cells: SimpleNamespace) -> None:
    assert cells.source_output.shape == (1, 4)


def test_cell_4_first_and_last_keys(cells: SimpleNamespace) -> None:
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert cells.source_keys[:10] == [
        "stem.0.conv.weight",
        *(f"stem.0.bn.{name}" for name in norm),
        "stem.1.conv.weight",
        *(f"stem.1.bn.{name}" for name in norm[:3]),
    ]
    assert cells.source_keys[-10:] == [
        "layer4.2.bn2.running_var",
        "layer4.2.bn2.num_batches_tracked",
        "layer4.2.conv3.weight",
        *(f"layer4.2.bn3.{name}" for name in norm),
        "head_fc.weight",
        "head_fc.bias",
    ]


def test_cell_5_first_and_last_layer(cells: SimpleNamespace) -> None:
    first = cells.source_state["stem.0.conv.weight"]
    assert first.shape == (32, 2, 3, 3, 3)
    assert first.mean().item() == pytest.approx(0.5007, abs=0.003)
    assert cells.source_state["head_fc.weight"].shape == (4, 2048)
    assert cells.source_state["head_fc.bias"].shape == (4,)


def test_cell_7_fresh_target_has_mean_zero(cells: SimpleNamespace) -> None:
    assert cells.fresh_mean == pytest.approx(0.0, abs=0.01)


def test_cell_8_adapt_input_conv_is_bit_equal(cells: SimpleNamespace) -> None:
    weight = cells.source_state["stem.0.conv.weight"]
    assert torch.equal(mt.adapt_input_conv(4, weight), tutorial_adapt_input_conv(4, weight))


def test_cell_9_only_the_head_is_missing(cells: SimpleNamespace) -> None:
    assert cells.loaded.missing_keys == ["head_fc.weight", "head_fc.bias"]
    assert cells.loaded.unexpected_keys == []


def test_cell_10_weights_arrived(cells: SimpleNamespace) -> None:
    weight = cells.target.state_dict()["stem.0.conv.weight"]
    assert weight.shape == (32, 4, 3, 3, 3)
    assert cells.target_mean == pytest.approx(0.5007, abs=0.003)
    assert cells.target_output.shape == (1, 8)


def test_cell_11_sizes_along_the_encoder(cells: SimpleNamespace) -> None:
    net, shapes = cells.target, []
    with torch.no_grad():
        out = cells.input
        for name in ("stem", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            out = getattr(net, name)(out)
            shapes.append((out.shape[1], out.shape[2]))
        assert len(set(out.shape[2:])) == 1
    assert shapes == [(64, 32), (64, 16), (256, 16), (512, 8), (1024, 4), (2048, 2)]


def test_cell_12_resunet_output(cells: SimpleNamespace) -> None:
    assert cells.resunet_output.shape == (1, 8, 64, 64, 64)


def test_cell_13_resunet_keys_and_shared_mean(cells: SimpleNamespace) -> None:
    state = cells.resunet.state_dict()
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(state)[:10] == [
        "encoder_0.0.conv.weight",
        *(f"encoder_0.0.bn.{name}" for name in norm),
        "encoder_0.1.conv.weight",
        *(f"encoder_0.1.bn.{name}" for name in norm[:3]),
    ]
    assert state["encoder_0.0.conv.weight"].mean().item() == pytest.approx(cells.target_mean, abs=0)


def test_cells_14_to_16_a_change_of_the_resunet_is_one_of_the_resnet(cells: SimpleNamespace) -> None:
    cells.resunet.apply(weight_init(-0.5))
    unet_first = cells.resunet.encoder_0[0].conv.weight
    resnet_first = cells.target.stem[0].conv.weight
    assert unet_first.mean().item() == pytest.approx(-0.4998, abs=0.003)
    assert cells.target.state_dict()["stem.0.conv.weight"].mean().item() == unet_first.mean().item()
    with torch.no_grad():
        assert cells.target(cells.input).shape == (1, 8)
    assert unet_first.shape == resnet_first.shape == (32, 4, 3, 3, 3)
    assert unet_first is resnet_first
    assert id(unet_first) == id(resnet_first)
