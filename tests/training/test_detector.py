"""The task of detectors on a network of a few numbers, and the scores of its boxes by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from medtransfer.errors import ConfigError
from medtransfer.training.detector import Detector
from medtransfer.training.metrics import BoxScores
from medtransfer.training.tasks import Segmenter

CUBE = [2.0, 2, 2, 6, 6, 6]


class Constant(nn.Module):
    """A detector whose losses are 2 and 3 times its weight, and that finds one cube in each scan."""

    task, in_channels, num_classes = "detection", 1, 2
    loss_names = ("loss_classifier", "bbox_regression")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        assert isinstance(images, list)
        if self.training:
            assert targets is not None
            return {"loss_classifier": self.weight * 2, "bbox_regression": self.weight * 3}
        found = {"boxes": torch.tensor([CUBE]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
        return [found for _ in images]


def batch() -> dict[str, Any]:
    """Two scans of different size, one of them without any box."""
    labels = [
        {"boxes": torch.tensor([CUBE]), "labels": torch.tensor([1])},
        {"boxes": torch.zeros(0, 6), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    return {"image": [torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 9, 10)], "label": labels, "case": ["a", "b"]}


def test_the_loss_is_the_weighted_sum_and_its_parts_are_logged() -> None:
    task = Detector(Constant(), loss_weights={"bbox_regression": 2.0})
    total, logged = task.parse_losses(task(**batch(), mode="loss"))
    assert total.item() == 2 + 2 * 3
    assert {name: value.item() for name, value in logged.items()} == {
        "loss": 8.0, "loss_classifier": 2.0, "bbox_regression": 6.0,
    }  # fmt: skip
    total.backward()
    assert float(task.network.weight.grad) == 8.0


def test_a_penalty_is_added_to_the_sum_alone() -> None:
    task = Detector(Constant())
    task.penalty = lambda: task.network.weight * 10
    losses = task(**batch(), mode="loss")
    assert losses["loss"].item() == 15.0
    assert losses["loss_classifier"].item() == 2.0


def test_prediction_gives_boxes_with_their_reference() -> None:
    task = Detector(Constant()).eval()
    found = task(**batch(), mode="predict")
    assert [sample["case"] for sample in found] == ["a", "b"]
    assert found[0]["boxes"].tolist() == [CUBE]
    assert found[0]["reference"]["boxes"].tolist() == [CUBE]
    assert len(found[1]["reference"]["labels"]) == 0
    assert task(**{**batch(), "label": None}, mode="predict")[0]["reference"] is None


class Bright(Constant):
    """Finds the box around what is above 0."""

    def forward(self, images: list[Tensor], targets: Any = None) -> list[dict[str, Tensor]]:
        found = []
        for image in images:
            place = torch.nonzero(image[0] > 0)
            rows = [torch.cat([place.amin(0), place.amax(0) + 1]).float()] if len(place) else []
            boxes = torch.stack(rows) if rows else torch.zeros(0, 6)
            found.append(
                {"boxes": boxes, "labels": torch.ones(len(rows)).long(), "scores": torch.full((len(rows),), 0.8)}
            )
        return found


def test_a_large_scan_is_validated_window_by_window() -> None:
    scan = torch.zeros(1, 20, 8, 6)
    scan[0, 7:11, 2:6, 2:6] = 1
    task = Detector(Bright(), window=[10, 10, 10]).eval()
    found = task([scan], None, ["a"], mode="predict")[0]
    assert found["boxes"][0].tolist() == [7, 2, 2, 11, 6, 6]
    # the first window cuts it at 10
    assert found["scores"].tolist() == pytest.approx([0.8])
    whole = Detector(Bright()).eval()([scan], None, ["a"], mode="predict")[0]
    assert torch.equal(whole["boxes"], found["boxes"])
    scan[0, 0, 0, 0] = 1
    assert len(task([scan], None, ["a"], mode="predict")[0]["boxes"]) == 2


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"loss_clasifier": 2.0}, r"no loss 'loss_clasifier'\. Did you mean loss_classifier"),
        ({"loss_classifier": -1.0}, "loss_weights.loss_classifier must be a number, 0 or above, got -1.0"),
        ({"loss_classifier": 0, "bbox_regression": 0}, "loss_weights are all 0"),
        (3, "loss_weights must be a dict"),
        ({"loss_classifier": True}, "must be a number"),
        ({"loss_classifier": float("nan")}, "must be a number"),
    ],
)
def test_wrong_weights_are_refused_before_training(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Detector(Constant(), loss_weights=weights)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"window": [16, 16]}, r"window must be three whole numbers above 0, got \[16, 16\]"),
        ({"window": "a"}, "window must be three"),
        ({"window": [16, 16, 0]}, "window must be three"),
        ({"overlap": 1.0}, "overlap must be a share from 0 to below 1, got 1.0"),
        ({"overlap": "half"}, "overlap must be a share"),
    ],
)
def test_windows_that_no_scan_can_be_cut_into_are_refused_before_training(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Detector(Constant(), **arguments)


class Normalised(Constant):
    """A norm over a map of one voxel."""

    def forward(self, images: list[Tensor], targets: Any = None) -> Any:
        return nn.functional.batch_norm(torch.zeros(1, 4, 1, 1, 1), None, None, training=True)


def test_a_batch_of_one_voxel_says_what_batch_norm_needs() -> None:
    with pytest.raises(ConfigError, match=r"batch norm needs more\. Raise patch_size or batch_size"):
        Detector(Normalised())(**batch(), mode="loss")


def test_networks_for_other_tasks_are_refused_on_both_sides() -> None:
    with pytest.raises(ConfigError, match=r"Segmenter trains a network for segmentation, got one for detection"):
        Segmenter(Constant())
    network = Constant()
    network.task = "segmentation"
    with pytest.raises(ConfigError, match=r"Detector trains a network for detection, .*faster_rcnn_resnet18"):
        Detector(network)


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 6), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}


def scored(*cases: tuple[dict[str, Tensor], dict[str, Tensor]]) -> dict[str, float]:
    metric = BoxScores()
    metric.dataset_meta = {"classes": ["background", "cube", "rod", "never"]}
    for sample, reference in cases:
        metric.process(None, [{**sample, "reference": reference}])
    return {name.removeprefix("boxes/"): score for name, score in metric.evaluate(len(cases)).items()}


def test_average_precision_by_hand() -> None:
    moved = [2.0, 2, 3, 6, 6, 7]  # overlaps the cube by 3 in 5
    scores = scored(
        (found([moved], [1], [0.9]), found([CUBE], [1], [])),
        (found([CUBE, CUBE], [2, 1], [0.8, 0.3]), found([CUBE], [2], [])),
    )
    assert scores["map50_cube"] == pytest.approx(1)  # its false positive has a lower score
    assert scores["map50_rod"] == pytest.approx(1)
    assert scores["map50"] == pytest.approx(1)
    assert scores["map"] == pytest.approx(1)
    assert scores["map50_never"] != scores["map50_never"]
    assert list(scores)[:2] == ["map50", "map"]
    meta = {"classes": ["background", "cube", "rod", "never"]}
    assert [f"boxes/{name}" for name in scores] == BoxScores.score_names(meta)


def test_boxes_that_overlap_by_a_third_count_for_low_thresholds_only() -> None:
    moved = [2.0, 2, 4, 6, 6, 8]  # overlaps by 2 in 6
    scores = scored((found([moved], [1], [0.9]), found([CUBE], [1], [])))
    assert scores["map50"] == 0
    assert scores["map"] == pytest.approx(5 / 9)  # 0.1, 0.15, 0.2, 0.25, 0.3 of nine


def test_a_case_without_any_box_counts_for_false_positives_alone() -> None:
    nothing = found([], [], [])
    right = (found([CUBE], [1], [0.5]), found([CUBE], [1], []))
    assert scored(right, (nothing, nothing))["map50"] == pytest.approx(1)
    assert scored(right, (found([CUBE], [1], [0.9]), nothing))["map50"] == pytest.approx(0.5)
    assert scored((nothing, found([CUBE], [1], [])))["map50"] == 0


def test_a_validation_without_any_box_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(MMLogger, "get_current_instance", lambda: SimpleNamespace(warning=said.append))
    nothing = found([], [], [])
    assert math.isnan(scored((nothing, nothing))["map50"])
    assert said == ["no validation case has a box: no score says which weights are best"]
