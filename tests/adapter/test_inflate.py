"""Inflated kernels: constant volumes keep the 2-D output, loops give the definition, sizes change around the centre."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medtransfer.adapter.inflate import fit_kernel, inflate_conv, resize_kernel
from medtransfer.errors import UsageError


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def along(image: Tensor, axis: int, size: int) -> Tensor:
    """A volume that is constant along the axis."""
    return image.unsqueeze(axis).repeat_interleave(size, axis)


def insert(values: Sequence[int], axis: int, value: int) -> tuple[int, ...]:
    return (*values[: axis - 2], value, *values[axis - 2 :])


KERNELS = {
    "cube": {"kernel": (3, 3), "depth": 3},
    "stem": {"kernel": (7, 7), "depth": 7, "stride": 2},
    "flat": {"kernel": (3, 3), "depth": 1},
    "deep": {"kernel": (3, 3), "depth": 5},
    "even": {"kernel": (4, 4), "depth": 2},
    "wide": {"kernel": (1, 5), "depth": 3},
    "dilated": {"kernel": (3, 3), "depth": 3, "dilation": 2},
    "strided and dilated": {"kernel": (3, 5), "depth": 3, "stride": 2, "dilation": 2},
    "depthwise": {"kernel": (3, 3), "depth": 3, "groups": 4},
    "shortcut": {"kernel": (1, 1), "depth": 1, "stride": 2},
}


@pytest.mark.parametrize("axis", (2, 3, 4))
@pytest.mark.parametrize("mode", ("mean", "center"))
@pytest.mark.parametrize("case", KERNELS.values(), ids=KERNELS)
def test_a_volume_constant_along_the_axis_gives_the_2d_output(case: dict, mode: str, axis: int) -> None:
    kernel, depth = case["kernel"], case["depth"]
    stride, dilation, groups = (case.get(name, 1) for name in ("stride", "dilation", "groups"))
    weight, bias = torch.randn(4, 4 // groups, *kernel, dtype=torch.double), torch.randn(4, dtype=torch.double)
    image, size = torch.randn(2, 4, 13, 12, dtype=torch.double), 19
    padding = [dilation * (k // 2) for k in kernel]
    flat = F.conv2d(image, weight, bias, stride, padding, dilation, groups)

    margin = dilation * (depth // 2)
    new = inflate_conv(weight, depth, mode, axis)
    out = F.conv3d(along(image, axis, size), new, bias, stride, insert(padding, axis, margin), dilation, groups)

    firsts = [i * stride - margin for i in range(out.shape[axis])]
    inside = [i for i, first in enumerate(firsts) if first >= 0 and first + dilation * (depth - 1) < size]
    centres = [i for i, first in enumerate(firsts) if first + dilation * (depth // 2) < size]
    assert len(centres) == out.shape[axis] - (depth % 2 == 0)  # the centre of an odd kernel is always in the volume
    compared = inside if mode == "mean" else centres
    assert len(compared) >= 3
    for i in compared:
        torch.testing.assert_close(out.select(axis, i), flat, rtol=0, atol=1e-12)
    if mode == "mean" and margin:
        assert not torch.allclose(out.select(axis, 0), flat, atol=1e-3)  # the padding is not in the volume


TRANSPOSED = {
    "as large as its stride": {"kernel_size": 2, "stride": 2},
    "three by two": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "four by two": {"kernel_size": 4, "stride": 2, "padding": 1},
    "five by three": {"kernel_size": 5, "stride": 3, "padding": 1},
    "not strided": {"kernel_size": 3, "stride": 1, "padding": 1},
    "grouped": {"kernel_size": 2, "stride": 2, "groups": 2},
}


@pytest.mark.parametrize("axis", (2, 3, 4))
@pytest.mark.parametrize("mode", ("mean", "center"))
@pytest.mark.parametrize("case", TRANSPOSED.values(), ids=TRANSPOSED)
def test_a_transposed_convolution_gives_every_voxel_the_same_sum(case: dict, mode: str, axis: int) -> None:
    flat = nn.ConvTranspose2d(4, 6, **case).double()
    solid = nn.ConvTranspose3d(4, 6, **case).double()
    size, step = case["kernel_size"], case["stride"]
    solid.weight.data = inflate_conv(flat.weight.data, size, mode, axis, stride=step, transposed=True)
    solid.bias.data = flat.bias.data
    image = torch.randn(1, 4, 5, 6, dtype=torch.double)
    expected, out = flat(image), solid(along(image, axis, 7))
    for i in range(size, out.shape[axis] - size):
        torch.testing.assert_close(out.select(axis, i), expected, rtol=0, atol=1e-12)


def test_the_loops_of_the_definition() -> None:
    """Each tap of the 3-D kernel, one by one, in double precision."""
    weight = np.random.RandomState(0).standard_normal((2, 3, 2, 3))
    for mode, axis in product(("mean", "center"), (2, 3, 4)):
        new = inflate_conv(torch.from_numpy(weight), 5, mode, axis).numpy()
        for o, i, t, y, x in product(range(2), range(3), range(5), range(2), range(3)):
            share = 1 / 5 if mode == "mean" else float(t == 2)
            place = insert((y, x), axis, t)
            assert new[(o, i, *place)] == pytest.approx(weight[o, i, y, x] * share, rel=1e-15, abs=0)


def test_acs_lays_the_parts_on_the_planes() -> None:
    """Loops again: 8 channels are 3, 3 and 2, across depth, height and width."""
    weight = np.random.RandomState(0).standard_normal((8, 2, 3, 3))
    volume = np.random.RandomState(1).standard_normal((2, 5, 5, 5))
    out = F.conv3d(torch.from_numpy(volume)[None], inflate_conv(torch.from_numpy(weight), 3, "acs"))[0].numpy()
    for channel, z, y, x in product(range(8), range(3), range(3), range(3)):
        total = 0.0
        for i, a, b in product(range(2), range(3), range(3)):
            axial, coronal, sagittal = (z + 1, y + a, x + b), (z + a, y + 1, x + b), (z + a, y + b, x + 1)
            place = axial if channel < 3 else coronal if channel < 6 else sagittal
            total += volume[(i, *place)] * weight[channel, i, a, b]
        assert out[channel, z, y, x] == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("axis, part", [(2, slice(0, 3)), (3, slice(3, 6)), (4, slice(6, 8))])
def test_acs_keeps_the_2d_output_of_the_part_across_the_axis(axis: int, part: slice) -> None:
    """A volume constant along an axis is a stack of one image for the kernels across that axis, and for those alone."""
    weight, image = torch.randn(8, 2, 3, 3, dtype=torch.double), torch.randn(1, 2, 7, 7, dtype=torch.double)
    flat = F.conv2d(image, weight, padding=1)
    out = F.conv3d(along(image, axis, 7), inflate_conv(weight, 3, "acs"), padding=1)
    torch.testing.assert_close(out[:, part], along(flat, axis, 7)[:, part], rtol=0, atol=1e-12)
    others = [i for i in range(8) if i not in range(8)[part]]
    assert not torch.isclose(out[:, others], along(flat, axis, 7)[:, others], atol=1e-3).all(dim=(0, 2, 3, 4)).any()


def test_all_modes_agree_on_a_volume_of_one_value() -> None:
    weight, ones = torch.randn(8, 2, 3, 3, dtype=torch.double), torch.ones(1, 2, 5, 5, 5, dtype=torch.double)
    mean, center, acs = (F.conv3d(ones, inflate_conv(weight, 3, mode)) for mode in ("mean", "center", "acs"))
    torch.testing.assert_close(mean, acs)
    torch.testing.assert_close(center, acs)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32, torch.float64))
@pytest.mark.parametrize("mode", ("mean", "center", "acs"))
def test_dtype_stays_and_nothing_is_shared(mode: str, dtype: torch.dtype) -> None:
    weight = torch.randn(4, 2, 3, 3).to(dtype).requires_grad_()
    before = weight.detach().clone()
    new = inflate_conv(weight, 3, mode)
    assert new.dtype == dtype
    assert new.shape == (4, 2, 3, 3, 3)
    assert new.is_contiguous()
    new.detach().fill_(7)
    assert torch.equal(weight, before)
    if mode == "mean":  # rounded once
        wide = before.to(torch.promote_types(dtype, torch.float))
        assert torch.equal(inflate_conv(before, 3)[:, :, 0], (wide / 3).to(dtype))


def test_infinite_weights_do_not_leak_into_the_zeros() -> None:
    weight = torch.full((1, 1, 3, 3), float("inf"))
    for mode in ("center", "acs"):
        assert not inflate_conv(weight, 3, mode).isnan().any()


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "unknown mode": (lambda: inflate_conv(torch.rand(1, 1, 3, 3), 3, "centre"), "mean, center, acs, got 'centre'"),
    "channel axis": (lambda: inflate_conv(torch.rand(1, 1, 3, 3), 3, axis=1), "2, 3 or 4"),
    "no depth": (lambda: inflate_conv(torch.rand(1, 1, 3, 3), 0), "depth must be a positive"),
    "3-D weight": (lambda: inflate_conv(torch.rand(1, 1, 3, 3, 3), 3), "4 dimensions"),
    "whole numbers": (lambda: inflate_conv(torch.ones(1, 1, 3, 3, dtype=torch.int8), 3), "floating-point"),
    "acs of a rectangle": (lambda: inflate_conv(torch.rand(1, 1, 3, 5), 3, "acs"), "odd square kernel.*got 3x5"),
    "acs of another depth": (lambda: inflate_conv(torch.rand(1, 1, 3, 3), 5, "acs"), "depth 5"),
    "acs of an even kernel": (lambda: inflate_conv(torch.rand(1, 1, 2, 2), 2, "acs"), "odd square kernel"),
    "acs along an axis": (lambda: inflate_conv(torch.rand(1, 1, 3, 3), 3, "acs", axis=3), "all three axes"),
    "acs transposed": (lambda: inflate_conv(torch.rand(1, 1, 3, 3), 3, "acs", transposed=True), "no ACS form"),
    "gaps": (lambda: inflate_conv(torch.rand(1, 1, 3, 3), 1, stride=2, transposed=True), "depth of at least 2"),
    "even to odd": (lambda: resize_kernel(torch.rand(1, 1, 4, 4), 3), r"\[4, 4\] has no centre in common"),
    "missing sizes": (lambda: resize_kernel(torch.rand(1, 1, 3, 3, 3), (3, 3)), "3 positive numbers"),
    "no size": (lambda: resize_kernel(torch.rand(1, 1, 3), 0), "positive"),
    "a bias": (lambda: resize_kernel(torch.rand(4), 3), "kernel_size"),
    "unknown adaptation": (lambda: fit_kernel(torch.rand(1, 1, 3, 3), (1, 1, 3, 3), kernels="crop"), "strict, adapt"),
}


@pytest.mark.parametrize("call, said", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_why(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


@pytest.mark.parametrize(
    "old, new", [((3, 3), (7, 5)), ((1, 3), (3, 3)), ((2, 4), (4, 8)), ((3, 1, 5), (5, 3, 5)), ((5,), (5,))]
)
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
def test_growth_keeps_what_same_padding_computes(old: tuple, new: tuple, stride: int, dilation: int) -> None:
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(old)]
    weight = torch.randn(3, 2, *old, dtype=torch.double)
    x = torch.randn(1, 2, *(11, 12, 13)[: len(old)], dtype=torch.double)
    outs = []
    for kernel in (weight, resize_kernel(weight, new)):
        padding = [dilation * ((k - 1) // 2) for k in kernel.shape[2:]]
        outs.append(conv(x, kernel, None, stride, padding, dilation))
    torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=1e-12)


def test_a_crop_keeps_the_centre_and_is_undone_by_growth_of_what_was_grown() -> None:
    weight = torch.randn(2, 2, 7, 3, 5)
    assert torch.equal(resize_kernel(weight, (3, 3, 1)), weight[:, :, 2:5, :, 2:3])
    grown = resize_kernel(weight, 9)
    assert grown.shape == (2, 2, 9, 9, 9)
    assert grown.count_nonzero() == weight.count_nonzero()
    assert torch.equal(resize_kernel(grown, (7, 3, 5)), weight)


FITS = {
    "fits": ((8, 3, 3, 3), (8, 1, 3, 3), {}, (8, 3, 3, 3), ""),
    "bias": ((8,), (8,), {}, (8,), ""),
    "linear": ((8, 3), (8, 3), {}, (8, 3), ""),
    "shortcut": ((8, 3, 1, 1), (8, 3, 1, 1, 1), {}, (8, 3, 1, 1, 1), "2-D kernel 1x1 to 1x1x1 by 'mean' along axis 2"),
    "stem": ((8, 3, 7, 7), (8, 4, 3, 7, 7), {}, (8, 3, 3, 7, 7), "2-D kernel 7x7 to 3x7x7 by 'mean' along axis 2"),
    "other axis": ((8, 3, 3, 5), (8, 3, 3, 5, 7), {"axis": 4, "mode": "center"}, (8, 3, 3, 5, 7), "axis 4"),
    "acs": ((8, 3, 3, 3), (8, 3, 3, 3, 3), {"mode": "acs"}, (8, 3, 3, 3, 3), "2-D kernel 3x3 to 3x3x3 by 'acs'"),
    "smaller": ((8, 3, 7, 7), (8, 3, 3, 3), {"kernels": "adapt"}, (8, 3, 3, 3), "kernel 7x7 to 3x3"),
    "inflated and smaller": ((8, 3, 7, 7), (8, 3, 3, 3, 3), {"kernels": "adapt"}, (8, 3, 3, 3, 3), "7x7 to 3x3x3"),
    "acs and larger": ((8, 3, 3, 3), (8, 3, 5, 5, 5), {"kernels": "adapt", "mode": "acs"}, (8, 3, 5, 5, 5), "'acs'"),
}


@pytest.mark.parametrize("old, target, options, shape, how", FITS.values(), ids=FITS)
def test_a_kernel_is_fitted_by_dimensions(old: tuple, target: tuple, options: dict, shape: tuple, how: str) -> None:
    fitted, said = fit_kernel(torch.rand(old), target, **options)
    assert fitted.shape == shape
    assert how == "" if said == "" else how and how in said


UNFIT = {
    "other kernel": ((8, 3, 7, 7), (8, 3, 3, 3), {}),
    "other kernel in 3-D": ((8, 3, 7, 7), (8, 3, 7, 3, 3), {}),
    "even to odd": ((8, 3, 4, 4), (8, 3, 3, 3), {"kernels": "adapt"}),
    "even to odd in 3-D": ((8, 3, 4, 4), (8, 3, 4, 3, 3), {"kernels": "adapt"}),
    "3-D to 2-D": ((8, 3, 3, 3, 3), (8, 3, 3, 3), {"kernels": "adapt"}),
    "1-D to 3-D": ((8, 3, 3), (8, 3, 3, 3, 3), {"kernels": "adapt"}),
    "linear to convolution": ((8, 3), (8, 3, 1, 1, 1), {"kernels": "adapt"}),
    "acs of a slab": ((8, 3, 7, 7), (8, 3, 3, 7, 7), {"mode": "acs", "kernels": "adapt"}),
    "acs of an even cube": ((8, 3, 2, 2), (8, 3, 2, 2, 2), {"mode": "acs"}),
}


@pytest.mark.parametrize("old, target, options", UNFIT.values(), ids=UNFIT)
def test_a_kernel_that_cannot_be_made_is_none(old: tuple, target: tuple, options: dict) -> None:
    assert fit_kernel(torch.rand(old), target, **options) is None


@pytest.mark.parametrize("mode", ("mean", "center", "acs"))
def test_the_targets_layer_tells_a_transposed_kernel(mode: str) -> None:
    layer = nn.ConvTranspose3d(2, 3, 2, stride=2)
    weight = torch.rand(2, 3, 2, 2)
    fitted, how = fit_kernel(weight, layer.weight.shape, mode, layer=layer)
    assert torch.equal(fitted, along(weight, 2, 2))
    assert ("mean" if mode == "acs" else mode) in how
    assert fit_kernel(weight, (2, 3, 1, 2, 2), layer=layer) is None
