"""Suppression: against picking box by box, torchvision and MONAI."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.box_utils import box_iou as monai_iou
from monai.data.box_utils import non_max_suppression
from torch import Tensor

from medtransfer.errors import ModelError
from medtransfer.model_zoo.detection import nms as module
from medtransfer.model_zoo.detection.nms import batched_nms, box_iou, nms, soft_nms


def volume(lower: list[float], upper: list[float]) -> float:
    result = 1.0
    for a, b in zip(lower, upper, strict=True):
        result *= max(b - a, 0.0)
    return result


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union in plain Python."""
    n = len(a) // 2
    shared = volume(
        [max(x, y) for x, y in zip(a[:n], b[:n], strict=True)], [min(p) for p in zip(a[n:], b[n:], strict=True)]
    )
    union = volume(a[:n], a[n:]) + volume(b[:n], b[n:]) - shared
    return shared / union if union else 0.0


def picked(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    """Greedy suppression as it is told: the best box, then the best of those that are left."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i)):
        rivals = [j for j in kept if labels[j] == labels[i]]
        if all(overlap(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in rivals):
            kept.append(i)
    return kept


def soft_picked(boxes: Tensor, scores: Tensor, labels: Tensor, method: str, threshold: float) -> dict[int, float]:
    """Soft suppression with sigma 0.5 as the paper tells it: pick, decay the rest, and again."""
    waiting, settled = {i: float(score) for i, score in enumerate(scores)}, {}
    while waiting:
        best = max(waiting, key=lambda i: (waiting[i], -i))
        settled[best] = waiting.pop(best)
        for i in (i for i in waiting if labels[i] == labels[best]):
            iou = overlap(boxes[i].tolist(), boxes[best].tolist())
            linear = 1 - iou if iou >= threshold else 1.0
            waiting[i] *= float(torch.tensor(-(iou**2) / 0.5).exp()) if method == "gaussian" else linear
    return {i: score for i, score in settled.items() if score >= 0.01}


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on whole voxels (many overlap exactly alike), few different scores, two labels."""
    ndim, number = draw(st.sampled_from([2, 3])), draw(st.integers(0, 12))
    corner = st.lists(st.integers(0, 5), min_size=ndim, max_size=ndim)
    extent = st.lists(st.integers(0, 6), min_size=ndim, max_size=ndim)
    lower = torch.tensor([draw(corner) for _ in range(number)], dtype=torch.float32).view(number, ndim)
    upper = lower + torch.tensor([draw(extent) for _ in range(number)], dtype=torch.float32).view(number, ndim)
    scores = torch.tensor([draw(st.integers(0, 4)) / 4 for _ in range(number)])
    labels = torch.tensor([draw(st.integers(1, 2)) for _ in range(number)], dtype=torch.int64)
    return torch.cat([lower, upper], dim=1), scores, labels


@settings(max_examples=80, deadline=None)
@given(crowds(), st.sampled_from([0.0, 0.3, 0.55, 1.0]))
def test_picks_one_by_one(crowd: tuple[Tensor, Tensor, Tensor], threshold: float) -> None:
    boxes, scores, labels = crowd
    assert batched_nms(boxes, scores, labels, threshold).tolist() == picked(boxes, scores, labels, threshold)
    same = torch.zeros_like(labels)
    assert nms(boxes, scores, threshold).tolist() == picked(boxes, scores, same, threshold)


@settings(max_examples=60, deadline=None)
@given(crowds(), st.sampled_from(["gaussian", "linear"]))
def test_soft_suppression_is_the_papers(crowd: tuple[Tensor, Tensor, Tensor], method: str) -> None:
    boxes, scores, labels = crowd
    expected = soft_picked(boxes, scores, labels, method, 0.3)
    found, decayed = soft_nms(boxes, scores, labels, 0.3, method, score_threshold=0.01)
    assert set(found.tolist()) == set(expected)
    assert decayed.tolist() == pytest.approx([expected[i] for i in found.tolist()], rel=1e-5)
    assert decayed.tolist() == sorted(decayed.tolist(), reverse=True)


@pytest.mark.parametrize("ndim", [2, 3])
def test_blocks_do_not_show(ndim: int, draw_boxes: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = draw_boxes(150, ndim)
    scores, labels = torch.rand(150), torch.randint(0, 3, (150,))
    whole, by_label = nms(boxes, scores, 0.3), batched_nms(boxes, scores, labels, 0.3)
    monkeypatch.setattr(module, "BLOCK", 16)
    assert torch.equal(nms(boxes, scores, 0.3), whole)
    assert torch.equal(batched_nms(boxes, scores, labels, 0.3), by_label)
    assert torch.equal(whole, non_max_suppression(boxes, scores, 0.3))


def test_overlap_is_monais(draw_boxes: Callable[..., Tensor]) -> None:
    boxes, others = draw_boxes(20), draw_boxes(30, seed=1)
    assert torch.allclose(box_iou(boxes, others), monai_iou(boxes, others), atol=1e-6)
    assert torch.equal(box_iou(boxes, boxes).diagonal(), torch.ones(20))


def test_boxes_without_volume_overlap_nothing() -> None:
    flat = torch.tensor([[1.0, 1, 1, 1, 5, 5]]).repeat(2, 1)
    assert box_iou(flat, flat).tolist() == [[0, 0], [0, 0]]
    assert nms(flat, torch.tensor([0.5, 0.5]), 0.0).tolist() == [0, 1]


def test_agrees_with_torchvision(golden: dict[str, Tensor]) -> None:
    boxes, scores, labels = (golden[f"nms_{name}"] for name in ("boxes", "scores", "labels"))
    assert torch.equal(nms(boxes, scores, 0.4), golden["kept"])
    assert torch.equal(batched_nms(boxes, scores, labels, 0.4).sort().values, golden["kept_by_label"])
    assert torch.allclose(box_iou(boxes[:10], boxes[10:30]), golden["iou"], atol=1e-6)


def test_half_precision_does_not_overflow() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 100, 100, 100], [0, 0, 1, 100, 100, 100]]).half()
    assert nms(boxes, torch.tensor([0.5, 0.9]).half(), 0.5).tolist() == [1]


def test_refusals() -> None:
    with pytest.raises(ModelError, match=r"got \(2, 6\), \(3,\), \(3,\)"):
        nms(torch.zeros(2, 6), torch.zeros(3), 0.5)
    with pytest.raises(ModelError, match="one of gaussian, linear, got 'hard'"):
        soft_nms(torch.zeros(2, 6), torch.zeros(2), method="hard")


@pytest.mark.cuda
def test_on_a_cuda_device(cuda: torch.device, draw_boxes: Callable[..., Tensor]) -> None:
    boxes, scores, labels = draw_boxes(300), torch.rand(300), torch.randint(0, 3, (300,))
    there = [tensor.to(cuda) for tensor in (boxes, scores, labels)]
    assert torch.equal(batched_nms(*there, 0.3).cpu(), batched_nms(boxes, scores, labels, 0.3))
    assert torch.equal(soft_nms(*there)[0].cpu(), soft_nms(boxes, scores, labels)[0])
