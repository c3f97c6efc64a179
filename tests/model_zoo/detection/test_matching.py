"""Coding, matching and sampling: torchvision's definitions, and rules that hold in any dimension."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.apps.detection.utils import box_coder as monais
from torch import Tensor

from medtransfer.errors import ModelError
from medtransfer.model_zoo.detection.anchors import AnchorGenerator
from medtransfer.model_zoo.detection.coder import BoxCoder
from medtransfer.model_zoo.detection.matcher import (
    BELOW_LOW_THRESHOLD,
    BETWEEN_THRESHOLDS,
    AnchorMatcher,
    Matcher,
)
from medtransfer.model_zoo.detection.nms import box_iou
from medtransfer.model_zoo.detection.sampler import BalancedPositiveNegativeSampler, build_sampler


def test_coder_agrees_with_torchvision(golden: dict[str, Tensor]) -> None:
    coder = BoxCoder((10.0, 5.0), ndim=2)
    assert torch.allclose(
        coder.encode_single(golden["coder_boxes"], golden["coder_anchors"]), golden["encoded"], atol=1e-5
    )
    decoded = coder.decode_single(golden["codes"], golden["coder_anchors"])
    assert torch.allclose(decoded, golden["decoded"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_coder_agrees_with_monai_to_the_last_bit(ndim: int, draw_boxes: Callable[..., Tensor]) -> None:
    boxes, anchors = draw_boxes(50, ndim), draw_boxes(50, ndim, seed=1)
    own, other = BoxCoder((3.0, 7.0), ndim), monais.BoxCoder((3.0,) * ndim + (7.0,) * ndim)
    codes = torch.randn(50, 3 * 2 * ndim, generator=torch.Generator().manual_seed(0)) * 5
    assert torch.equal(own.encode_single(boxes, anchors), other.encode_single(boxes, anchors))
    assert torch.equal(own.decode_single(codes, anchors), other.decode_single(codes, anchors))
    assert own.decode_single(codes[:0], anchors[:0]).shape == (0, 6 * ndim)


@pytest.mark.parametrize("ndim", [2, 3])
def test_decoding_undoes_encoding(ndim: int, draw_boxes: Callable[..., Tensor]) -> None:
    boxes, anchors = draw_boxes(9, ndim), draw_boxes(9, ndim, seed=1)
    coder = BoxCoder([2.0, 3.0], ndim)
    codes = torch.cat(coder.encode([boxes[:4], boxes[4:]], [anchors[:4], anchors[4:]]))
    decoded = coder.decode(codes.repeat(1, 2), [anchors[:4], anchors[4:]])
    assert decoded.shape == (9, 2, 2 * ndim)
    assert torch.allclose(decoded, boxes[:, None].expand_as(decoded), atol=1e-4)


def test_extents_are_clipped() -> None:
    decoded = BoxCoder((1.0, 1.0)).decode_single(torch.full((1, 6), 50.0), torch.tensor([[0.0, 0, 0, 1, 1, 1]]))
    assert float(decoded[0, 3] - decoded[0, 0]) == pytest.approx(1000 / 16, rel=1e-4)


def test_half_precision_is_decoded_in_full() -> None:
    decoded = BoxCoder((1.0, 1.0)).decode_single(torch.zeros(1, 6).half(), torch.tensor([[1001.0, 0, 0, 1004, 1, 1]]))
    assert decoded[0, 0] == 1001


def test_coder_refusals() -> None:
    with pytest.raises(ModelError, match=r"2 or 6 numbers above 0, got \(1.0, 1.0, 1.0, 1.0\)"):
        BoxCoder((1.0, 1.0, 1.0, 1.0))
    with pytest.raises(ModelError, match=r"boxes cannot be coded: .* Look for boxes without extent"):
        BoxCoder((1.0, 1.0)).encode_single(torch.ones(1, 6), torch.tensor([[0.0, 0, 0, 1, 1, 1]]))


@pytest.mark.parametrize("low_quality", [False, True])
def test_matcher_agrees_with_torchvision(golden: dict[str, Tensor], low_quality: bool) -> None:
    found = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)(golden["quality"])
    assert torch.equal(found, golden[f"matches_{low_quality}"])
    assert set(found.tolist()) > {BELOW_LOW_THRESHOLD, BETWEEN_THRESHOLDS}


def test_matcher_box_by_box(draw_boxes: Callable[..., Tensor]) -> None:
    quality = box_iou(draw_boxes(4), draw_boxes(60, seed=1))
    matches = Matcher(0.25, 0.1, allow_low_quality_matches=True)(quality)
    best = [float(row.max()) for row in quality]
    for anchor, match in enumerate(matches.tolist()):
        column = quality[:, anchor].tolist()
        is_best = any(value == top for value, top in zip(column, best, strict=True))
        grade = 0 if max(column) >= 0.25 or is_best else -1 if max(column) < 0.1 else -2
        assert match == (column.index(max(column)) if grade == 0 else grade)


def test_without_boxes_all_is_background() -> None:
    matcher = Matcher(0.5, 0.5, allow_low_quality_matches=True)
    assert matcher(torch.zeros(0, 3)).tolist() == [-1, -1, -1]
    assert matcher(torch.zeros(3, 0)).tolist() == []


def test_sampler_draws_as_torchvision(golden: dict[str, Tensor]) -> None:
    labels = [golden["labels_0"], golden["labels_1"]]
    torch.manual_seed(7)
    positive, negative = BalancedPositiveNegativeSampler(12, 0.25)(labels)
    for i in range(2):
        assert torch.equal(positive[i], golden[f"positive_{i}"].bool())
        assert torch.equal(negative[i], golden[f"negative_{i}"].bool())


def test_sampler_counts() -> None:
    labels = torch.tensor([3] * 10 + [0] * 10 + [-1] * 10)
    (positive,), (negative,) = BalancedPositiveNegativeSampler(8, 0.25)([labels])
    assert (int(positive.sum()), int(negative.sum())) == (2, 6)
    assert not (positive & (labels < 1)).any()
    assert not (negative & (labels != 0)).any()


def test_hard_negatives_are_those_with_the_highest_scores() -> None:
    labels, scores = torch.tensor([1] + [0] * 30), torch.cat([torch.tensor([0.9]), torch.linspace(0, 0.8, 30)])
    (positive,), (negative,) = build_sampler("hard_negative", 2, 0.5)([labels], scores)
    assert positive.nonzero().flatten().tolist() == [0]
    # of ten that are drawn from
    assert negative.nonzero().flatten().item() > 20


def test_atss_compares_the_anchors_around_the_centre_of_a_box() -> None:
    generator = AnchorGenerator(((8,), (16,)), (1.0,))
    anchors = torch.cat(generator.grid_anchors([(8, 8, 8), (4, 4, 4)], [(4, 4, 4), (8, 8, 8)]))
    counts, plain = [512, 64], AnchorMatcher("atss", 0.4, 0.3, generator)
    # around [6, 6, 6] and [12, 12, 12]; the second is so small that all anchors around it overlap it alike
    found = plain(torch.tensor([[1.0, 1, 1, 11, 11, 11], [19, 19, 19, 22, 22, 22]]), anchors, counts)
    overlaps = box_iou(torch.tensor([[1.0, 1, 1, 11, 11, 11]]), anchors)[0]
    assert 0 < int((found == 0).sum()) < 8
    assert float(overlaps[found == 0].min()) >= float(overlaps[:512].topk(4).values[-1])
    assert int((found == 1).sum()) >= 1
    assert set(found.tolist()) == {-1, 0, 1}
    assert (plain(torch.zeros(0, 6), anchors, counts) == BELOW_LOW_THRESHOLD).all()


def test_names_and_thresholds_are_checked() -> None:
    with pytest.raises(ModelError, match=r"matcher must be 'iou' or 'atss', got 'best'"):
        AnchorMatcher("best", 0.5, 0.4, AnchorGenerator())
    with pytest.raises(ModelError, match=r"sampler must be 'balanced' or 'hard_negative', got 'all'"):
        build_sampler("all", 2, 0.5)
    with pytest.raises(ModelError, match="must not be above"):
        Matcher(0.3, 0.5)
