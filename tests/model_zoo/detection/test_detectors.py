"""Both detectors in 3-D: what they promise whatever their weights are, and that they learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.model_zoo.detection import (
    AnchorGenerator,
    FasterRCNN,
    FastRCNNPredictor,
    MultiScaleRoIAlign,
    box_iou,
)
from medtransfer.model_zoo.detection.suppress import Suppression

LOSSES = {
    "faster_rcnn": {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"},
    "retinanet": {"classification", "bbox_regression"},
}
#: one map of stride 4 over stages that use no statistics of the batch
TINY: dict[str, Any] = {
    "channels": [8, 16],
    "strides": [2, 2],
    "num_convs": 1,
    "out_channels": 16,
    "returned_layers": [1],
}
FEW = {"box_head_size": 32, "rpn_pre_nms_top_n_train": 100, "rpn_pre_nms_top_n_test": 50}


def tiny(kind: str, **arguments: Any) -> Any:
    few = FEW if kind == "faster_rcnn" else {}
    return mt.create_model(f"{kind}_plain_encoder", num_classes=3, **{**TINY, **few, **arguments})


def target(*boxes: list[float], labels: tuple[int, ...] = ()) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 6), "labels": torch.tensor(labels, dtype=torch.int64)}


def cubes() -> tuple[Tensor, dict[str, Tensor]]:
    """A scan of 24 voxels with a bright and a dark structure."""
    scan = 0.1 * torch.randn(1, 24, 24, 24)
    scan[0, 2:10, 3:11, 4:12] += 2
    scan[0, 12:22, 11:23, 13:21] -= 2
    return scan, target([2.0, 3, 4, 10, 11, 12], [12.0, 11, 13, 22, 23, 21], labels=(1, 2))


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def test_chance_is_only_in_training() -> None:
    network = tiny("faster_rcnn").eval()
    scan = torch.randn(1, 16, 16, 16)
    with torch.no_grad():
        one, other = network([scan])[0], network([scan])[0]
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind, steps", [("faster_rcnn", 80), pytest.param("retinanet", 120, marks=pytest.mark.slow)])
def test_a_tiny_detector_learns_one_scan(kind: str, steps: int) -> None:
    network = tiny(kind)
    scan, truth = cubes()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        total(network([scan], [truth])).backward()
        optimiser.step()
    found = network.eval()([scan])[0]
    for box, label in zip(truth["boxes"], truth["labels"], strict=True):
        best = int((found["scores"] * (found["labels"] == label)).argmax())
        assert found["labels"][best] == label
        assert box_iou(box[None], found["boxes"][best : best + 1]) > 0.5


@pytest.mark.parametrize("kind", LOSSES)
def test_anchors_are_of_just_the_sizes_that_were_asked_for(kind: str) -> None:
    for options, half in (({}, 2.65), ({"rounded_anchors": True}, 3.0)):
        network = tiny(kind, anchor_sizes=[[5.3]], aspect_ratios=[1.0], **options)
        (generator,) = (part for part in network.modules() if isinstance(part, AnchorGenerator))
        assert generator.cell_anchors[0][0].tolist() == pytest.approx([-half] * 3 + [half] * 3)
        assert ("rounded_anchors" in network.architecture["arguments"]) == bool(options)


@pytest.mark.parametrize(
    "kind, arguments",
    [("faster_rcnn", {"rpn_matcher": "atss", "rpn_sampler": "hard_negative"}), ("retinanet", {"matcher": "atss"})],
)
def test_other_matchers_and_samplers_change_what_is_learnt(kind: str, arguments: dict[str, str]) -> None:
    scan, truth = cubes()
    losses = []
    for options in ({}, arguments):
        torch.manual_seed(0)
        losses.append(tiny(kind, **options)([scan], [truth]))
    assert all(float(loss.detach()) > 0 for loss in losses[1].values())
    assert float(total(losses[0]).detach()) != float(total(losses[1]).detach())
    with pytest.raises(mt.MedTransferError, match=r"must be .*, got 'best'"):
        tiny(kind, **dict.fromkeys(arguments, "best"))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("truth", [target(), target([2.0, 3, 4, 10, 11, 12], labels=(2,))], ids=["no box", "a box"])
def test_every_parameter_gets_a_finite_gradient(kind: str, truth: dict[str, Tensor]) -> None:
    sizes = {"base_channels": 4, "stem_channels": 4, "out_channels": 8}
    every_anchor = {"rpn_batch_size_per_image": 10**6} if kind == "faster_rcnn" else {}
    network = mt.create_model(f"{kind}_resnet10", num_classes=3, zero_init_residual=False, **sizes, **every_anchor)
    losses = network([torch.randn(1, 33, 40, 36), torch.randn(1, 20, 30, 50)], [truth, target()])
    assert set(losses) == LOSSES[kind]
    total(losses).backward()
    lacking = [k for k, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []
    if len(truth["boxes"]):
        assert [k for k, p in network.named_parameters() if p.ndim > 1 and not p.grad.any()] == []


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("box_nms", ["hard", "soft"])
def test_detections_keep_the_contract(kind: str, box_nms: str) -> None:
    threshold = {"faster_rcnn": "box_score_thresh", "retinanet": "score_thresh"}[kind]
    network = tiny(kind, box_nms=box_nms, **{threshold: 0.001}).eval()
    scans = [torch.randn(1, 17, 20, 13), torch.randn(1, 9, 24, 22)]
    with torch.no_grad():
        found = network(scans)
    assert [len(each) > 0 for each in found] == [True, True]
    for scan, each in zip(scans, found, strict=True):
        boxes, labels, scores = each["boxes"], each["labels"], each["scores"]
        assert (boxes.dtype, labels.dtype, boxes.shape) == (torch.float32, torch.int64, (len(labels), 6))
        assert 0 < len(boxes) <= 100
        assert (boxes[:, :3] >= 0).all()
        assert (boxes[:, 3:] <= torch.tensor(scan.shape[1:])).all()
        assert (boxes[:, 3:] > boxes[:, :3]).all()
        assert set(labels.tolist()) <= {1, 2}
        assert torch.equal(scores, scores.sort(descending=True).values)


@pytest.mark.parametrize("kind", LOSSES)
def test_scans_of_one_size_are_detected_alone_as_in_a_batch(kind: str) -> None:
    network = tiny(kind).eval()
    scans = torch.randn(3, 1, 16, 20, 24)
    with torch.no_grad():
        together, alone = network(scans), [network([scan])[0] for scan in scans]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_scan_moved_by_a_stride_has_its_boxes_moved_by_it(kind: str) -> None:
    threshold = {"faster_rcnn": "box_score_thresh", "retinanet": "score_thresh"}[kind]
    network = tiny(kind, norm_cfg={"type": "BN"}, **{threshold: 0.0}).eval()
    # in a scan of zeros, of which new convolutions and norms make zeros: borders are not to be seen
    scan, moved = torch.zeros(1, 48, 48, 48), torch.zeros(1, 48, 48, 48)
    structure = torch.randn(6, 7, 8)
    scan[0, 20:26, 20:27, 20:28] = structure
    moved[0, 24:30, 20:27, 16:24] = structure
    with torch.no_grad():
        maps, later = (network.backbone(x[None])["0"] for x in (scan, moved))
    torch.testing.assert_close(maps[0, :, 2:9, 2:10, 3:10], later[0, :, 3:10, 2:10, 2:9], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        boxes, others = (_best_inside(network([x])[0]) for x in (scan, moved))
    torch.testing.assert_close(boxes + torch.tensor([4.0, 0, -4, 4, 0, -4]), others, rtol=1e-3, atol=1e-2)


def _best_inside(found: dict[str, Tensor]) -> Tensor:
    """The best of the boxes near the structure, which no border touches."""
    inside = (found["boxes"][:, :3] > 8).all(1) & (found["boxes"][:, 3:] < 40).all(1)
    return found["boxes"][inside][0]


def test_a_detector_in_half_precision_computes_boxes_and_losses_in_single() -> None:
    network = tiny("faster_rcnn")
    scan, truth = cubes()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = network([scan], [truth])
        found = network.eval()([scan])[0]
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert (found["boxes"].dtype, found["scores"].dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_saved_detector_is_loaded_bit_for_bit(kind: str, tmp_path: Any) -> None:
    network = mt.create_model(
        f"{kind}_resnet10", num_classes=3, base_channels=4, stem_channels=4, out_channels=4, anchor_sizes=[[8], [16]],
        returned_layers=[1, 2], trainable_backbone_layers=2, image_mean=[0.5], box_nms="soft",
    ).eval()  # fmt: skip
    mt.save(network, tmp_path / "model")
    again = mt.load(tmp_path / "model")
    scan = torch.randn(1, 24, 30, 26)
    with torch.no_grad():
        one, other = network([scan])[0], again([scan])[0]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again.architecture == network.architecture
    assert all(type(value) in (int, float, str, list, bool) for value in network.architecture["arguments"].values())


def test_an_exchanged_predictor_is_in_the_record() -> None:
    network = tiny("faster_rcnn")
    network.roi_heads.box_predictor = FastRCNNPredictor(32, 7)
    assert (network.num_classes, network.architecture["arguments"]["num_classes"]) == (7, 7)
    truth = target([1.0, 2, 3, 8, 9, 9], labels=(6,))
    assert total(network([torch.randn(1, 16, 16, 16)], [truth])).isfinite()


class Pair(nn.Module):
    """A backbone of a user's own with two maps."""

    out_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv3d(2, 4, 3, 4, 1), nn.Conv3d(4, 4, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = self.fine(x)
        return {"fine": fine, "coarse": self.coarse(fine)}


def test_a_backbone_of_ones_own_gives_maps_by_name() -> None:
    anchors = AnchorGenerator(sizes=((8,), (16,)), aspect_ratios=((0.5, 1.0, 2.0),) * 2)
    pool = MultiScaleRoIAlign(featmap_names=["fine", "coarse"], output_size=2, sampling_ratio=1)
    network = FasterRCNN(Pair(), num_classes=2, rpn_anchor_generator=anchors, box_roi_pool=pool, image_mean=[0.0, 1.0])
    assert (network.in_channels, network.ndim, network.architecture) == (2, 3, None)
    losses = network([torch.randn(2, 20, 24, 16)], [target([1.0, 2, 3, 9, 9, 9], labels=(1,))])
    total(losses).backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(mt.MedTransferError, match="does not know how it was built"):
        mt.save(network, "nowhere")


@pytest.mark.parametrize("kind", LOSSES)
def test_thresholds_are_where_torchvision_has_them(kind: str) -> None:
    network = tiny(kind).eval()
    home = network.roi_heads if kind == "faster_rcnn" else network
    scan = torch.randn(1, 16, 16, 16)
    home.score_thresh, home.detections_per_img = 0.001, 3
    with torch.no_grad():
        assert len(network([scan])[0]["boxes"]) == 3
        # both kinds have them on themselves too
        assert (network.score_thresh, network.nms_thresh) == (0.001, 0.4)
        network.score_thresh = 0.999
        assert len(network([scan])[0]["boxes"]) == 0
    with pytest.raises(mt.MedTransferError, match="box_nms must be 'hard' or 'soft'"):
        home.box_nms = "medium"


def test_without_any_proposal_there_are_losses_and_no_boxes() -> None:
    network = tiny("faster_rcnn")
    network.rpn.score_thresh = 2.0
    losses = network([torch.randn(1, 16, 16, 16)], [target()])
    total(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert float(losses["loss_classifier"].detach()) == 0
    assert network.eval()([torch.randn(1, 16, 16, 16)])[0]["boxes"].shape == (0, 6)


def test_the_padding_of_small_scans_counts_for_the_stride_of_a_map() -> None:
    """From the scan of 20 voxels alone the map of 8 places would seem to have a stride of 2."""
    network = tiny("faster_rcnn", size_divisible=32)
    seen = []
    network.roi_heads.box_roi_pool.register_forward_pre_hook(lambda module, inputs: seen.append(list(inputs[2])))
    network.eval()([torch.randn(1, 20, 20, 20)])
    assert seen == [[(32, 32, 32)]]


def test_overlapping_boxes_lose_score_instead_of_going_by_soft_suppression() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 8, 8, 8], [0, 0, 1, 8, 8, 9], [12, 12, 12, 16, 16, 16]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1])
    hard = Suppression(0.4, 0.05, 10)(boxes, scores, labels, (16, 16, 16))
    soft = Suppression(0.4, 0.05, 10, "soft")(boxes, scores, labels, (16, 16, 16))
    assert hard["scores"].tolist() == pytest.approx([0.9, 0.7])
    assert len(soft["scores"]) == 3
    assert torch.equal(soft["boxes"][2], boxes[1])
    assert 0.05 < float(soft["scores"][2]) < 0.7
