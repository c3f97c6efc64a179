"""The networks compute what the projects compute whose keys they share."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import resnet as monai_resnet
from torch import nn

import medtransfer as mt
from medtransfer.model_zoo import ResNet, UNet

#: monai's block and layers a depth
MONAI = {
    10: ("basic", (1, 1, 1, 1)),
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
}


def monai_maps(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    maps = [net.act(net.bn1(net.conv1(x)))]
    x = net.maxpool(maps[0])
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = getattr(net, name)(x)
        maps.append(x)
    return maps


def monai_net(depth: int, ndim: int = 3, shortcut: str = "B") -> nn.Module:
    block, layers = MONAI[depth]
    return monai_resnet.ResNet(
        block,
        layers,
        [4, 8, 16, 32],
        spatial_dims=ndim,
        n_input_channels=2,
        conv1_t_stride=2,
        shortcut_type=shortcut,
        bias_downsample=False,
        num_classes=3,
    ).eval()


@pytest.mark.parametrize("depth, ndim", [(10, 3), (18, 3), (34, 3), (50, 3), (18, 2), (50, 2)])
def test_monais_resnet_gives_the_same_maps_and_logits_after_a_transfer(depth, ndim, randomise):
    theirs = randomise(monai_net(depth, ndim))
    config = {"conv_cfg": {"type": f"Conv{ndim}d"}}
    ours = mt.create_model(
        f"resnet{depth}", in_channels=2, num_classes=3, base_channels=4, stem_channels=4, **config
    ).eval()
    report = mt.transfer(theirs, ours, head="keep")
    assert report.coverage == 1
    assert len(report.loaded) == len(theirs.state_dict()) == len(ours.state_dict())
    x = torch.randn(1, 2, *(21, 18, 33)[:ndim])
    with torch.no_grad():
        for a, b in zip(monai_maps(theirs, x), ours.features(x), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_monais_shortcut_a_gives_the_same_maps(randomise):
    theirs = randomise(monai_net(18, shortcut="A"))
    ours = mt.create_model(
        "resnet18", in_channels=2, num_classes=3, base_channels=4, stem_channels=4, shortcut="A"
    ).eval()
    mt.transfer(theirs, ours, head="keep")
    x = torch.randn(1, 2, 24, 24, 24)
    with torch.no_grad():
        for a, b in zip(monai_maps(theirs, x), ours.features(x), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


# Golden numbers of ptimz (github.com/RimeT/ptimz, ptimz/model_zoo/{resnet,unet}.py), with mmpose's BaseBackbone as a
# plain nn.Module: the state dict and the input below, in eval mode, through its ResNet (in_channels=2, stem_channels=8,
# base_channels=8, head_type="classification", num_classes=4; Conv3d, BN3d) and its UNet (nclasses=3) around that.
# With random weights in both, outputs differed by exactly 0.0 for the depths 10 to 101, both stems, 2-D and 3-D,
# avg_down, caffe style, other strides and deep supervision. Only dilated basic blocks differ, on purpose: ptimz dilates
# the first convolution of a block and not the second.
GOLDEN = {
    (18, True): {"logits": [-1.91084, 7.3291, -1.759, -3.84071], "voxels": [1.50507, 2.06778, 1.26006]},
    (18, False): {"logits": [-1.93886, 6.97074, -1.44246, -3.69918], "voxels": [2.13832, 0.92981, -0.6401]},
    (50, True): {"logits": [0.71513, -1.62387, 1.18923, 3.05048], "voxels": [-0.83801, -1.14919, -0.16392]},
    (50, False): {"logits": [-0.21825, -1.69811, 2.13593, 2.9501], "voxels": [0.20968, 0.4937, 2.52164]},
}
CHANNELS = {18: [8, 8, 16, 32, 64], 50: [8, 32, 64, 128, 256]}
VOXELS = [(0, 0, 0, 0), (1, 8, 9, 16), (2, 16, 19, 32)]


def filled(network: nn.Module) -> nn.Module:
    """Values that need no random generator: waves over sorted keys, scaled so that activations keep their size."""
    for k, (_, tensor) in enumerate(sorted(network.state_dict().items())):
        if tensor.is_floating_point():
            wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 1.7 + k).reshape(tensor.shape)
            tensor.copy_(wave * (4 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.75 + wave / 4)
    return network.eval()


def wave(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.cos(torch.arange(torch.Size(shape).numel(), dtype=torch.float64) * 0.37).reshape(shape).float()


@pytest.mark.parametrize("depth, deep", GOLDEN, ids=str)
def test_golden_numbers_of_ptimz(depth, deep):
    arguments = {"stem_channels": 8, "base_channels": 8, "head_type": "classification", "num_classes": 4}
    net = filled(ResNet(depth, in_channels=2, deep_stem=deep, pool="conv", **arguments))
    x = wave((1, 2, 17, 20, 33))
    with torch.no_grad():
        torch.testing.assert_close(net(x)[0], torch.tensor(GOLDEN[depth, deep]["logits"]), rtol=1e-4, atol=1e-4)
        segmenter = filled(UNet({"num_channels": CHANNELS[depth], "nclasses": 3}, net.stages()))
        voxels = [segmenter(x)[0][place].item() for place in VOXELS]
    torch.testing.assert_close(torch.tensor(voxels), torch.tensor(GOLDEN[depth, deep]["voxels"]), rtol=1e-4, atol=1e-4)
