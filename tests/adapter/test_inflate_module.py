"""Whole networks: every layer's 3-D form keeps the features of volumes that are constant along the new axis."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn import functional as F

from medtransfer.adapter.inflate_module import inflate
from medtransfer.adapter.persist import load, save
from medtransfer.errors import ModelError, UsageError
from medtransfer.model_zoo.layers import AveragePool


class Residual(nn.Module):
    """A forward with functions of any dimension, a parameter shared by name, and a layer used twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="circular")
        self.again = self.conv
        self.norm = nn.GroupNorm(2, channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.again(self.act(self.norm(self.conv(x)))) + x)


def network() -> nn.Sequential:
    """Every kind of layer; all padding wraps around, so that a constant volume has no borders."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False, padding_mode="circular"),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Residual(8),
        nn.Conv2d(8, 8, (1, 5), padding="same", groups=4, padding_mode="circular"),
        nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        nn.Conv2d(8, 6, 3, padding=2, dilation=2, padding_mode="circular"),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        ConvModule(6, 6, 1, norm_cfg={"type": "BN"}, conv_cfg={"type": "Conv"}),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.Softmax2d(),
        nn.AvgPool2d(2, divisor_override=3),
        nn.Conv2d(4, 5, 1, stride=2),
        nn.Dropout2d(0.5),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(),
        nn.Linear(30, 4),
    )
    for name, buffer in net.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5) if "var" in name else buffer.normal_()
    return net.double().eval()


def along(image: Tensor, axis: int, size: int) -> Tensor:
    return image.unsqueeze(axis).repeat_interleave(size, axis)


@pytest.mark.parametrize("stride", ("same", 1))
@pytest.mark.parametrize("axis", (2, 3, 4))
@pytest.mark.parametrize("mode", ("mean", "center"))
def test_a_volume_constant_along_the_axis_keeps_every_feature(mode: str, axis: int, stride: str | int) -> None:
    net = network()
    solid = inflate(net, mode=mode, axis=axis, stride=stride)
    x = torch.randn(2, 3, 32, 40, dtype=torch.double)
    volume, size = along(x, axis, 16), 16
    with torch.no_grad():
        for flat, deep in zip(net, solid, strict=True):
            x, volume = flat(x), deep(volume)
            if x.ndim == 4:
                if stride == 1:
                    assert volume.shape[axis] == (size if not isinstance(flat, nn.AdaptiveAvgPool2d) else 1)
                x_along = along(x, axis, volume.shape[axis])
            else:
                x_along = x
            torch.testing.assert_close(volume, x_along, rtol=0, atol=1e-12)
    assert volume.shape == (2, 4)


def test_a_square_network_becomes_a_cubic_one() -> None:
    """With ``stride="same"`` the new axis goes through the same sizes as the height."""
    net, solid = network()[:15], inflate(network()[:15])
    image, volume = torch.rand(1, 3, 32, 32).double(), torch.rand(1, 3, 32, 32, 32).double()
    with torch.no_grad():
        for flat, deep in zip(net, solid, strict=True):
            image, volume = flat(image), deep(volume)
            assert volume.shape[2] == image.shape[2]
            assert volume.shape[3:] == image.shape[2:]


def test_borders_are_exact_by_center_where_mean_sees_the_padding() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, padding=1))
    image = torch.randn(1, 1, 12, 12)
    expected = net(image)
    center, mean = (inflate(net, mode=mode)(along(image, 2, 12)) for mode in ("center", "mean"))
    torch.testing.assert_close(center, along(expected, 2, 6))
    torch.testing.assert_close(mean[:, :, 2:4], along(expected, 2, 2))
    assert not torch.allclose(mean[:, :, 0], expected, atol=1e-3)


@pytest.mark.parametrize("depth, margin", [(1, 0), (5, 2), (7, 3)])
def test_depth_sets_the_kernels_and_their_padding(depth: int, margin: int) -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3))
    same, point, valid = inflate(net, depth=depth, axis=3)
    assert (same.kernel_size, same.padding) == ((3, depth, 3), (1, margin, 1))
    assert point.kernel_size == (1, 1, 1)
    assert (valid.kernel_size, valid.padding) == ((3, depth, 3), (0, max(margin - 1, 0), 0))


@pytest.mark.parametrize("base", ("Zero", "Reflection", "Replication", "Circular"))
def test_padding_layers_pad_the_new_axis_like_the_height(base: str) -> None:
    flat = getattr(nn, f"{base}Pad2d")((1, 2, 3, 0))
    for axis, padding in ((2, (1, 2, 3, 0, 3, 0)), (3, (1, 2, 3, 0, 3, 0)), (4, (3, 0, 1, 2, 3, 0))):
        solid = inflate(flat, axis=axis)
        assert type(solid) is getattr(nn, f"{base}Pad3d")
        assert tuple(solid.padding) == padding
    assert tuple(inflate(flat, depth=1).padding) == (1, 2, 3, 0, 0, 0)
    with pytest.raises(ModelError, match="padding layer"):
        inflate(flat, stride=1)


def test_a_conv_module_that_pads_by_reflection_has_no_borders() -> None:
    net = ConvModule(2, 3, 3, padding=1, padding_mode="reflect", norm_cfg={"type": "BN"}).eval()
    image = torch.rand(1, 2, 6, 6)
    torch.testing.assert_close(inflate(net)(along(image, 2, 6)), along(net(image), 2, 6))


def test_a_constant_border_keeps_its_value() -> None:
    assert inflate(nn.ConstantPad2d(1, 7.0))(torch.zeros(1, 1, 1, 1, 1)).sum() == 7 * 26


def test_nothing_of_the_source_changes_and_nothing_is_shared() -> None:
    net = network()
    before, layers = copy.deepcopy(net.state_dict()), [type(layer) for layer in net.modules()]
    states = torch.get_rng_state()
    solid = inflate(net)
    assert torch.equal(torch.get_rng_state(), states)
    for parameter in solid.parameters():
        parameter.data.fill_(9)
    for buffer in solid.buffers():
        buffer.fill_(9)
    after = net.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [type(layer) for layer in net.modules()] == layers


def test_names_flags_and_sharing_stay() -> None:
    net = network()
    net[4].requires_grad_(False)
    net[1].train()
    solid = inflate(net)
    assert list(solid.state_dict()) == list(net.state_dict())
    assert solid[4].conv is solid[4].again
    assert [p.requires_grad for p in solid.parameters()] == [p.requires_grad for p in net.parameters()]
    assert [m.training for m in solid] == [m.training for m in net]
    assert {p.dtype for p in solid.parameters()} == {torch.double}


def test_tied_weights_stay_tied() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    net[1].weight = net[0].weight
    solid = inflate(net)
    assert solid[0].weight is solid[1].weight
    assert solid[0].bias is not solid[1].bias


class OwnForward(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1, 1, 1, 1)))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))


def hooked() -> nn.Module:
    return nn.utils.spectral_norm(nn.Conv2d(1, 1, 3))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "own forward": (
        lambda: nn.Sequential(OwnForward(1, 1, 3)),
        r"Sequential.0 \(OwnForward\) has a forward",
    ),
    "own weights": (Scaled, r"Scaled \(Scaled\) holds 'gamma'"),
    "hooks": (hooked, "parametrizations or hooks"),
    "parametrized": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 3)), "parametrizations or hooks"),
    "no 3-D form": (lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.LPPool2d(2, 2)), r"Sequential.1 \(LPPool2d\)"),
    "two axes": (lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2)), r"Sequential.1 \(PixelShuffle\)"),
    "fixed shape": (lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.LayerNorm((4, 8, 8))), "fixed shape"),
    "3-D": (lambda: nn.Conv3d(1, 1, 3), "is 3-D already"),
    "nothing": (lambda: nn.Sequential(nn.Linear(1, 1)), "no 2-D layer to inflate"),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), "no 3-D upsampling by 'bicubic'"),
    "fixed size": (lambda: nn.Upsample(size=(4, 5)), "size of the new axis"),
    "lazy": (lambda: nn.LazyConv2d(4, 3), "parametrizations or hooks"),
    "holes": (lambda: nn.ConvTranspose2d(1, 1, 3, stride=2, dilation=2), "strided and dilated"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("build, said", REFUSED.values(), ids=REFUSED)
def test_what_has_no_3d_form_is_named(build: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        inflate(build())


def test_an_even_kernel_of_odd_depth_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"Sequential.1: a kernel of 2 does not become 3 deep"):
        inflate(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 2)), depth=3)


@pytest.mark.parametrize("options", [{"mode": "max"}, {"axis": 1}, {"stride": 2}, {"depth": 0}])
def test_unknown_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(options)))):
        inflate(nn.Conv2d(1, 1, 3), **options)


def test_a_layer_with_a_forward_of_its_own_can_be_rewritten() -> None:
    def padded(layer: OwnForward) -> nn.Module:
        conv = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size)
        conv.load_state_dict(layer.state_dict())
        return nn.Sequential(nn.ZeroPad2d(1), conv)

    net = nn.Sequential(OwnForward(2, 3, 3), nn.ReLU())
    solid = inflate(net, mode="center", rewrite={OwnForward: padded})
    image = torch.rand(1, 2, 6, 6)
    torch.testing.assert_close(solid(along(image, 2, 6)), along(net(image), 2, 6))
    with pytest.raises(UsageError, match="gives a OwnForward again"):
        inflate(net, rewrite={OwnForward: lambda layer: layer})


@pytest.mark.parametrize("name", ("resnet10", "resunet10"))
def test_a_network_of_the_zoo_becomes_its_3d_sibling(name: str, tiny: Callable[..., nn.Module], tmp_path: Any) -> None:
    net = tiny(name, conv_cfg={"type": "Conv2d"}, norm_cfg={"type": "BN2d"}).eval()
    solid = inflate(net, mode="center")
    assert solid.ndim == 3
    image = torch.rand(1, 1, 32, 32)
    expected = net(image) if name == "resnet10" else along(net(image), 2, 32)
    torch.testing.assert_close(solid(along(image, 2, 32)), expected, rtol=1e-5, atol=1e-5)
    save(solid, tmp_path / "model")
    again = load(tmp_path / "model").eval()
    torch.testing.assert_close(again(along(image, 2, 32)), solid(along(image, 2, 32)), rtol=0, atol=0)


@pytest.mark.parametrize("stride, window", [("same", (3, 3, 2)), (1, (3, 1, 2))])
def test_the_zoos_own_pooling_is_inflated_too(stride: str | int, window: tuple[int, ...]) -> None:
    flat = AveragePool((3, 2), 2)
    solid = inflate(nn.Sequential(nn.Conv2d(1, 1, 1), flat), axis=3, stride=stride)[1]
    assert solid.stride == window
    image = torch.rand(1, 1, 7, 8)
    out = solid(along(image, 3, 6))
    torch.testing.assert_close(out, along(flat(image), 3, out.shape[3]))
    with pytest.raises(ModelError, match="is 3-D, not 2-D"):
        inflate(AveragePool(2, 3))


def test_a_network_of_the_zoo_whose_layers_were_exchanged_is_refused(tiny: Callable[..., nn.Module]) -> None:
    net = tiny("resnet10", conv_cfg={"type": "Conv2d"})
    net.conv1 = nn.Conv2d(1, 4, 5, bias=False)
    with pytest.raises(ModelError, match=r"conv1.weight has the shapes \[4, 1, 5, 5\] in 2-D and \[4, 1, 7, 7, 7\]"):
        inflate(net)


def test_networks_of_the_zoo_that_are_not_plainly_2d_are_refused(tiny: Callable[..., nn.Module]) -> None:
    with pytest.raises(ModelError, match="ResNet: is 3-D already"):
        inflate(tiny("resnet10"))
    with pytest.raises(ModelError, match="pool_stride are given for two axes"):
        inflate(tiny("resnet10", conv_cfg={"type": "Conv2d"}, pool_stride=[1, 2]))
    net = tiny("resnet10", conv_cfg={"type": "Conv2d"})
    net.arguments["conv_cfg"] = {"type": "Conv"}
    with pytest.raises(ModelError, match="of the type 'Conv', only Conv2d is inflated"):
        inflate(net)
    with pytest.raises(ModelError, match="its own kernels and strides"):
        inflate(tiny("resnet10", conv_cfg={"type": "Conv2d"}), depth=1)
