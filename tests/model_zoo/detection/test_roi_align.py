"""RoIAlign: against loops over points, torchvision, and its own gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medtransfer.errors import ModelError
from medtransfer.model_zoo.detection import roi_align as module
from medtransfer.model_zoo.detection.roi_align import MultiScaleRoIAlign, roi_align


def taps(place: float, voxels: int) -> list[tuple[int, float]]:
    """The voxels around a point on one axis and their weights, by torchvision's rules for the border."""
    if place < -1 or place > voxels:
        return []
    place = min(max(place, 0.0), voxels - 1.0)
    low = math.floor(place)
    high = min(low + 1, voxels - 1)
    return [(low, 1 - (place - low)), (high, place - low)]


def interpolated(image: Tensor, point: tuple[float, ...]) -> Tensor:
    """(C,) of (C, *spatial)."""
    value = torch.zeros(len(image), dtype=image.dtype)
    for corner in itertools.product(*(taps(p, n) for p, n in zip(point, image.shape[1:], strict=True))):
        value = value + math.prod(weight for _, weight in corner) * image[(slice(None), *(i for i, _ in corner))]
    return value


def looped(
    maps: Tensor, rois: Tensor, size: tuple[int, ...], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """The definition: box by box, bin by bin, point by point."""
    ndim, shift = maps.ndim - 2, 0.5 if aligned else 0.0
    pooled = torch.zeros(len(rois), maps.shape[1], *size, dtype=maps.dtype)
    for r, roi in enumerate(rois.tolist()):
        lower, upper = ([c * scale - shift for c in part] for part in (roi[1 : 1 + ndim], roi[1 + ndim :]))
        extent = [b - a if aligned else max(b - a, 1.0) for a, b in zip(lower, upper, strict=True)]
        step = [e / n for e, n in zip(extent, size, strict=True)]
        points = [sampling_ratio if sampling_ratio > 0 else max(math.ceil(s), 1) for s in step]
        for place in itertools.product(*map(range, size)):
            values = []
            for sub in itertools.product(*map(range, points)):
                along = zip(lower, place, step, sub, points, strict=True)
                values.append(
                    interpolated(maps[int(roi[0])], tuple(a + (p + (i + 0.5) / n) * s for a, p, s, i, n in along))
                )
            pooled[(r, slice(None), *place)] = torch.stack(values).mean(0)
    return pooled


@pytest.fixture
def rois(draw_boxes: Callable[..., Tensor]) -> Tensor:
    """Five boxes of two images of 24 voxels; the last two hang over the border."""
    boxes = draw_boxes(5)
    boxes[3] -= 9
    boxes[4] += 12
    return torch.cat([torch.tensor([0.0, 1, 0, 1, 1])[:, None], boxes], dim=1)


@pytest.mark.parametrize("sampling_ratio", [1, 2, -1])
@pytest.mark.parametrize("aligned", [False, True])
def test_is_the_loop_over_points(rois: Tensor, sampling_ratio: int, aligned: bool) -> None:
    maps = torch.randn(2, 2, 9, 8, 7, dtype=torch.float64)
    found = roi_align(maps, rois, (2, 1, 3), 0.33, sampling_ratio, aligned)
    expected = looped(maps, rois.double(), (2, 1, 3), 0.33, sampling_ratio, aligned)
    assert torch.allclose(found, expected, atol=1e-6)
    assert expected[:, 0].abs().sum() > 0


@pytest.mark.parametrize("sampling_ratio", [1, 2, -1])
@pytest.mark.parametrize("aligned", [False, True])
def test_agrees_with_torchvision(golden: dict[str, Tensor], sampling_ratio: int, aligned: bool) -> None:
    found = roi_align(golden["map_0"], golden["roi_boxes"], (3, 4), 0.25, sampling_ratio, aligned)
    assert torch.allclose(found, golden[f"roi_{sampling_ratio}_{aligned}"], atol=1e-5)


def test_pyramid_agrees_with_torchvision(golden: dict[str, Tensor]) -> None:
    maps = {str(level): golden[f"map_{level}"] for level in range(3)}
    boxes = golden["roi_boxes"][:, 1:]
    pool = MultiScaleRoIAlign(["0", "1", "2"], 3, 2, ndim=2, canonical_scale=16, canonical_level=3)
    found = pool({**maps, "pool": maps["2"]}, [boxes[:4], boxes[4:]], [(64, 96), (60, 90)])
    assert torch.allclose(found, golden["pyramid"], atol=1e-5)
    levels = pool._levels(boxes, [[0.25, 0.25], [0.125, 0.125], [0.0625, 0.0625]])
    assert len(levels.unique()) > 1


def test_a_map_of_few_values_by_hand() -> None:
    maps = torch.tensor([0.0, 10, 20, 30]).view(1, 1, 4, 1)
    box = torch.tensor([[0.0, 1, 0, 3, 1]])
    # two bins of one voxel: middles 1.5 and 2.5 from the corner, half a voxel less from the first middle
    assert roi_align(maps, box, (2, 1), sampling_ratio=1, aligned=True).flatten().tolist() == [10, 20]
    assert roi_align(maps, box, (2, 1), sampling_ratio=1, aligned=False).flatten().tolist() == [15, 25]
    far = torch.tensor([[0.0, -4, 0, -2, 1], [0, 5, 0, 7, 1]])
    assert roi_align(maps, far, (1, 1), sampling_ratio=1).flatten().tolist() == [0, 0]


def test_each_axis_has_its_own_scale(rois: Tensor) -> None:
    maps = torch.randn(2, 2, 12, 6, 24)
    stretched = rois * torch.tensor([1, 0.5, 0.25, 1.0, 0.5, 0.25, 1.0])
    found = roi_align(maps, rois, 2, (0.5, 0.25, 1.0), 2)
    assert torch.allclose(found, roi_align(maps, stretched, 2, 1.0, 2), atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_gradient(ndim: int, sampling_ratio: int, draw_boxes: Callable[..., Tensor]) -> None:
    maps = torch.randn(2, 2, *(4, 5, 3)[:ndim], dtype=torch.float64, requires_grad=True)
    boxes = [draw_boxes(2, ndim, size=7, largest=6).double(), draw_boxes(1, ndim, size=5, largest=4).double()]
    assert torch.autograd.gradcheck(lambda x: roi_align(x, boxes, 2, 0.5, sampling_ratio), maps)


def test_lists_chunks_and_empty_images(rois: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.randn(2, 3, 6, 6, 6, requires_grad=True)
    ordered = rois[rois[:, 0].argsort(stable=True)]
    whole = roi_align(maps, ordered, 2, 0.25, 2)
    monkeypatch.setattr(module, "TABLE", 1)
    parts = [ordered[ordered[:, 0] == image, 1:] for image in (0, 1)]
    assert torch.equal(roi_align(maps, parts, 2, 0.25, 2), whole)
    empty = roi_align(maps, [boxes[:0] for boxes in parts], 2, 0.25, -1)
    assert empty.shape == (0, 3, 2, 2, 2)
    empty.sum().backward()


def test_half_precision_is_pooled_in_full(rois: Tensor) -> None:
    maps = torch.randn(2, 3, 6, 6, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = roi_align(maps, rois, 2, 0.25, 2)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, roi_align(maps.float(), rois, 2, 0.25, 2).bfloat16())


def test_levels_of_cubes() -> None:
    pool = MultiScaleRoIAlign(["0", "1"], 2, 1, canonical_scale=16, canonical_level=2)
    edges = torch.tensor([4.0, 15.9, 16.0, 31.9, 32.0, 500.0])
    boxes = torch.cat([torch.zeros(6, 3), edges[:, None].repeat(1, 3)], dim=1)
    assert pool._levels(boxes, [[0.5] * 3, [0.25] * 3]).tolist() == [0, 0, 1, 1, 1, 1]
    flat = torch.tensor([[0.0, 0, 0, 2, 32, 64]])
    assert pool._levels(flat, [[0.5] * 3, [0.25] * 3]).tolist() == [1]


def test_refusals() -> None:
    maps = torch.zeros(1, 2, 4, 4, 4)
    with pytest.raises(ModelError, match=r"boxes must be \(R, 7\) or a list of \(R, 6\), got \(1, 5\)"):
        roi_align(maps, torch.zeros(1, 5), 2)
    with pytest.raises(ModelError, match="one number or 3 are needed"):
        roi_align(maps, torch.zeros(1, 7), (2, 2))
    with pytest.raises(ModelError, match=r"no feature map '1'. Name some of '0'"):
        MultiScaleRoIAlign(["1"], 2, 1)({"0": maps}, [torch.zeros(1, 6)], [(8, 8, 8)])


@pytest.mark.cuda
def test_on_a_cuda_device(cuda: torch.device, rois: Tensor) -> None:
    maps = torch.randn(2, 3, 9, 8, 7, requires_grad=True)
    there = maps.detach().to(cuda).requires_grad_()
    here, found = roi_align(maps, rois, 3, 0.33, 2), roi_align(there, rois.to(cuda), 3, 0.33, 2)
    assert torch.allclose(found.cpu(), here, atol=1e-5)
    here.square().sum().backward()
    found.square().sum().backward()
    assert torch.allclose(there.grad.cpu(), maps.grad, atol=1e-4)
