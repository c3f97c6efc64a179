"""Scans, targets and arguments that a detector refuses, and what it says; resizing and padding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.errors import ModelError
from medtransfer.model_zoo.detection import AnchorGenerator, DetectorTransform, FasterRCNN, FastRCNNPredictor, RetinaNet

BOX = torch.tensor([[1.0, 2, 3, 4, 5, 6]])
ONE = torch.tensor([1])
SCAN = torch.zeros(1, 8, 8, 8)

IMAGES: dict[str, tuple[Any, list[str]]] = {
    "none": ([], ["at least one scan"]),
    "no list": (3, ["a list of scans", "int"]),
    "no channel": ([SCAN[0]], ["images[0]", "(C, D, H, W)", "[8, 8, 8]"]),
    "no tensor": ([SCAN, "scan.nii"], ["images[1]", "str"]),
    "channels": ([SCAN, torch.zeros(2, 8, 8, 8)], ["images[1]", "1 channels", "got 2"]),
    "whole numbers": ([SCAN.int()], ["images[0]", "floating point", "int32"]),
    "not a number": ([SCAN.clone().fill_(math.nan)], ["images[0]", "NaN"]),
    "empty": ([torch.zeros(1, 0, 8, 8)], ["images[0]", "[1, 0, 8, 8]"]),
}
TARGETS: dict[str, tuple[Any, list[str]]] = {
    "none": (None, ["needs targets", ".eval()"]),
    "no dict": ([None], ["targets[0]", "NoneType"]),
    "too many": ([{"boxes": BOX, "labels": ONE}] * 2, ["2 for 1"]),
    "no labels": ([{"boxes": BOX}], ["targets[0]", "'labels'", "boxes"]),
    "boxes of 2-D": ([{"boxes": BOX[:, :4], "labels": ONE}], ["(N, 6)", "[1, 4]", "torch.zeros(0, 6)"]),
    "whole numbers": ([{"boxes": BOX.long(), "labels": ONE}], ["floating point", "int64"]),
    "no extent": ([{"boxes": BOX[:, [0, 1, 2, 3, 1, 5]], "labels": ONE}], ["[1.0, 2.0, 3.0, 4.0, 2.0, 6.0]"]),
    "not a number": ([{"boxes": BOX * math.nan, "labels": ONE}], ["finite", "nan"]),
    "infinite": ([{"boxes": BOX * torch.tensor([1, 1, 1, math.inf, 1, 1]), "labels": ONE}], ["finite", "inf"]),
    "labels of another number": ([{"boxes": BOX, "labels": torch.tensor([1, 1])}], ["(1,)", "[2]"]),
    "background": ([{"boxes": BOX, "labels": torch.tensor([0])}], ["from 1 to 2", "[0]", "background"]),
    "label too high": ([{"boxes": BOX, "labels": torch.tensor([3])}], ["from 1 to 2", "[3]"]),
    "labels by value": ([{"boxes": BOX, "labels": torch.tensor([1.0])}], ["whole numbers", "float32"]),
}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    arguments = {"channels": [4, 8], "out_channels": 4, "num_classes": 3, "box_head_size": 8}
    return mt.create_model("faster_rcnn_plain_encoder", **arguments)


@pytest.mark.parametrize("images, said", IMAGES.values(), ids=IMAGES)
def test_a_bad_scan_is_named(network: nn.Module, images: Any, said: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        network.eval()(images)
    assert all(words in str(caught.value) for words in said), str(caught.value)


@pytest.mark.parametrize("targets, said", TARGETS.values(), ids=TARGETS)
def test_a_bad_target_is_named(network: nn.Module, targets: Any, said: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        network.train()([SCAN], targets)
    assert all(words in str(caught.value) for words in said), str(caught.value)


ARGUMENTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no classes": ({"num_classes": 1}, ["num_classes must be 2 or more", "got 1"]),
    "no classes at all": ({"num_classes": None}, ["num_classes must be 2 or more"]),
    "suppression": ({"box_nms": "medium"}, ["box_nms", "'hard' or 'soft'", "'medium'"]),
    "stages": ({"returned_layers": [4, 9]}, ["returned_layers", "0 to 4", "[4, 9]"]),
    "maps without a pyramid": ({"fpn": False, "returned_layers": [3, 4]}, ["one map", "[3, 4]"]),
    "channels without a pyramid": ({"fpn": False, "out_channels": 8}, ["out_channels=8", "fpn=False"]),
    "channels": ({"out_channels": 0}, ["out_channels", "positive"]),
    "extra levels": ({"extra_levels": "p8"}, ["extra_levels", "'pool'", "'p8'"]),
    "anchors": ({"anchor_sizes": [8, 16]}, ["anchor_sizes", "4 maps", "[8, 16]"]),
    "anchors by a word": ({"anchor_sizes": "data"}, ["anchor_sizes", "4 maps", "'data'"]),
    "anchors of words": ({"anchor_sizes": [[8], ["a"], [3], [4]]}, ["sizes of anchors", "lists of numbers", "'a'"]),
    "a map without anchors": ({"anchor_sizes": [[8], [], [3], [4]]}, ["sizes of anchors", "[]"]),
    "ratios": ({"aspect_ratios": "tall"}, ["aspect_ratios must be numbers", "'tall'"]),
    "one stage": ({"returned_layers": 2}, ["a list of rising stages", "got 2"]),
    "threshold": ({"box_score_thresh": 2}, ["box_score_thresh", "from 0 to 1", "got 2"]),
    "count": ({"box_head_size": 0}, ["box_head_size", "positive whole number", "got 0"]),
    "codes": ({"bbox_reg_weights": 0}, ["weights of box codes", "got 0"]),
    "bins": ({"box_roi_size": 0}, ["output_size", "got 0"]),
    "points": ({"box_sampling_ratio": "a"}, ["sampling_ratio", "'a'"]),
    "word of a pyramid": ({"fpn": "no"}, ["fpn must be True or False", "'no'"]),
    "mean by itself": ({"image_mean": 3}, ["image_mean", "lists of numbers", "got 3"]),
    "resizing": ({"min_size": 0}, ["min_size", "positive whole numbers", "got 0"]),
    "lines": ({"conv_cfg": {"type": "Conv1d"}}, ["2-D or 3-D", "1-D"]),
    "trainable": ({"trainable_backbone_layers": 6}, ["trainable_backbone_layers", "0 to 5", "6"]),
    "frozen twice": ({"trainable_backbone_layers": 5, "frozen_stages": 2}, ["frozen_stages=2", "do not agree"]),
    "mean": ({"image_mean": [1.0, 2.0]}, ["image_mean", "1 numbers", "[1.0, 2.0]"]),
    "deviation": ({"image_std": [0.0]}, ["image_std", "0"]),
    "size": ({"max_size": 64}, ["max_size=64", "min_size"]),
    "divisible": ({"size_divisible": [4, 4]}, ["size_divisible", "3"]),
    "unknown": ({"rpn_nms_treshold": 0.5}, ["rpn_nms_treshold", "Did you mean rpn_nms_thresh"]),
    "head of a classifier": ({"head_type": "fcn"}, ["no argument 'head_type'"]),
    "module": ({"box_head": nn.Identity()}, ["no argument 'box_head'"]),
}


@pytest.mark.parametrize("arguments, said", ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_bad_argument_is_named(arguments: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        mt.create_model("faster_rcnn_resnet10", **{"base_channels": 4, "stem_channels": 4, **arguments})
    assert all(words in str(caught.value) for words in said), str(caught.value)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    anchors = AnchorGenerator(sizes=((8, 16),), aspect_ratios=((1.0,),))
    backbone = nn.Conv3d(1, 4, 3, 4)
    with pytest.raises(ModelError, match="must have an attribute out_channels"):
        FasterRCNN(nn.Sequential(backbone), 2, rpn_anchor_generator=anchors)
    with pytest.raises(ModelError, match="anchors of a backbone of your own must be given"):
        RetinaNet(backbone, 2)
    backbone.ndim = 2
    with pytest.raises(ModelError, match=r"the anchors are 3-D, the backbone 2-D"):
        FasterRCNN(backbone, 2, rpn_anchor_generator=anchors)
    del backbone.ndim
    with pytest.raises(ModelError, match="num_classes=2 and box_predictor"):
        FasterRCNN(backbone, 2, rpn_anchor_generator=anchors, box_predictor=FastRCNNPredictor(4, 2))
    uneven = AnchorGenerator(sizes=((8, 16), (32,)), aspect_ratios=((1.0,), (1.0,)))
    with pytest.raises(ModelError, match="as many anchors a place"):
        FasterRCNN(backbone, 2, rpn_anchor_generator=uneven)


def box(*corners: float) -> Tensor:
    return torch.tensor([corners])


def test_scans_are_resized_with_their_boxes_and_back() -> None:
    transform = DetectorTransform(min_size=20, max_size=50, size_divisible=8)
    targets = [{"boxes": box(1.0, 2, 3, 10, 20, 30), "labels": ONE}]
    before = targets[0]["boxes"].clone()
    batch, moved = transform([torch.rand(1, 10, 20, 30)], targets)
    # the longest axis would be 60
    assert batch.image_sizes == [(16, 33, 50)]
    assert batch.padded_size == (16, 40, 56)
    assert torch.equal(targets[0]["boxes"], before)
    torch.testing.assert_close(moved[0]["boxes"], box(1.6, 3.3, 5, 16, 33, 50))
    back = transform.postprocess(moved, batch.image_sizes, [(10, 20, 30)])
    torch.testing.assert_close(back[0]["boxes"], before)
    assert (back[0]["boxes"][0, 3:] <= torch.tensor([10.0, 20, 30])).all()


def test_of_several_sizes_one_is_drawn_in_training_and_the_last_taken_else() -> None:
    transform = DetectorTransform(min_size=(8, 12, 16), size_divisible=1)
    scan = [torch.rand(1, 4, 4, 4)]
    assert {transform(scan)[0].image_sizes[0][0] for _ in range(40)} == {8, 12, 16}
    transform.eval()
    assert {transform(scan)[0].image_sizes[0][0] for _ in range(10)} == {16}


def test_intensities_are_normalised_by_channel_and_padding_stays_zero() -> None:
    transform = DetectorTransform(image_mean=[1.0, 2.0], image_std=[2.0, 4.0], size_divisible=4, in_channels=2)
    batch, _ = transform([torch.full((2, 3, 3, 3), 3.0)])
    assert batch.tensors[0, :, 0, 0, 0].tolist() == [1.0, 0.25]
    assert not batch.tensors[:, :, 3].any()


def test_a_resized_scan_gives_boxes_in_its_own_voxels() -> None:
    arguments = {"channels": [4, 8], "out_channels": 4, "min_size": 24, "score_thresh": 0.0}
    network = mt.create_model("retinanet_plain_encoder", **arguments).eval()
    with torch.no_grad():
        boxes = network([torch.rand(1, 8, 9, 10)])[0]["boxes"]
    assert len(boxes)
    assert (boxes[:, 3:] <= torch.tensor([8.0, 9, 10])).all()
    assert boxes[:, 5].max() > 9
