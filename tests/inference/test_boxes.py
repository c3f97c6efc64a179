"""A scan in, boxes on its own voxels and in the patient out: whole, in windows, mirrored, of several detectors."""

from __future__ import annotations

import itertools
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medtransfer.errors import ModelError, ResourceError, UsageError
from medtransfer.inference.box_fusion import fuse
from medtransfer.inference.engine import Engine
from medtransfer.inference.footprint import trace_bytes
from medtransfer.inference.predictor import Predictor
from medtransfer.inference.thresholds import Thresholds, choose_thresholds
from medtransfer.model_zoo.catalog import create_model
from medtransfer.model_zoo.detection.box_joining import UNCONFIRMED, join_windows
from medtransfer.model_zoo.detection.box_set import BoxSet
from tests.inference.conftest import Cubes
from tests.inference.test_geometry import SPOT, scan_of_a_ball
from tests.volumes.test_regrid import ORIENTATIONS

CARD: dict[str, Any] = {"intensity": {"scheme": "none"}, "classes": ["background", "nodule", "node"]}
EYE = np.eye(4)


def blocks(*spans: tuple[int, ...], shape: tuple[int, int, int] = (24, 20, 16), value: float = 1.0) -> np.ndarray:
    array = np.zeros(shape, np.float32)
    for span in spans:
        array[tuple(map(slice, span[:3], span[3:]))] = value
    return array


def scan(array: np.ndarray, affine: Any = EYE) -> nib.Nifti1Image:
    return nib.Nifti1Image(array, affine)


def found(result: Any) -> list[tuple[str, list[float]]]:
    return sorted((box["class"], box["box"]) for box in result.boxes)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_i22_boxes_keep_their_place_in_all_48_orientations(orientation: str) -> None:
    image, place, grid = scan_of_a_ball(orientation, (1.0, 1.25, 1.5), 0.0)
    image = nib.Nifti1Image((image.get_fdata() + 1) / 2, image.affine)
    (box,) = Predictor(Cubes(), card={**CARD, "spacing": [1.2, 1.2, 1.2]}).predict(image).boxes
    lower, upper = np.array(box["box"]).reshape(2, 3)
    np.testing.assert_allclose((lower + upper) / 2, np.array(SPOT) + 0.5, atol=0.6)
    np.testing.assert_allclose(upper - lower, 2 * 3.6 / np.array(grid.spacing), atol=1.5)
    np.testing.assert_allclose(box["center_mm"], place, atol=0.7)
    np.testing.assert_allclose(box["size_mm"], (upper - lower) * grid.spacing, atol=1e-3)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "IPL"])
def test_boxes_are_exact_where_nothing_is_resampled(orientation: str) -> None:
    affine = np.diag([-1.0, 2.0, 1.5, 1.0])
    affine[:3, 3] = 5, -7, 11
    result = Predictor(Cubes(), card={**CARD, "orientation": orientation}).predict(
        scan(blocks((2, 3, 4, 8, 7, 10)), affine)
    )
    assert result.boxes == [
        {"class": "nodule", "score": 0.9, "box": [2, 3, 4, 8, 7, 10], "center_mm": [0.5, 2.0, 20.75],
         "size_mm": [6, 8, 9]}
    ]  # fmt: skip
    assert result.heads == {}


def separate_blocks(draw: Any, shape: tuple[int, int, int], longest: int) -> np.ndarray:
    """Blocks of both classes that never touch: one at most in each cell of a lattice."""
    array, cell = np.zeros(shape, np.float32), longest + 2
    corners = itertools.product(*(range(0, size - cell + 1, cell) for size in shape))
    for corner in corners:
        value = draw(st.integers(0, 2))
        sizes = draw(st.tuples(*[st.integers(2, longest)] * 3))
        shift = [draw(st.integers(0, longest - size)) for size in sizes]
        lower = np.add(corner, shift)
        array[tuple(map(slice, lower, lower + sizes))] = value
    return array


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from([(8, 8, 8), (12, 8, 10), (9, 11, 16)]), st.sampled_from([0.25, 0.5]))
def test_windows_give_the_boxes_of_the_whole(data: Any, tile: Any, overlap: float) -> None:
    image = scan(separate_blocks(data.draw, (24, 20, 16), data.draw(st.sampled_from([3, 6, 14]))))
    whole = Predictor(Cubes(), card=CARD, tile="whole").predict(image)
    tiled = Predictor(Cubes(), card=CARD, tile=tile, overlap=overlap).predict(image)
    assert tiled.details["windows"] > 1
    assert found(tiled) == found(whole)


def test_windows_never_leave_the_scan_and_a_small_scan_is_one_pass() -> None:
    network = Cubes()
    predictor = Predictor(network, card=CARD, tile=(10, 10, 10))
    predictor.predict(scan(blocks(shape=(13, 7, 10))))
    assert set(predictor.engine.network.shapes) == {(10, 7, 10)}
    assert predictor.predict(scan(blocks(shape=(9, 7, 10)))).details["windows"] == 1


def one(box: Any, score: float = 0.9, label: int = 1) -> BoxSet:
    return BoxSet(torch.tensor([box]).double(), torch.tensor([label]), torch.tensor([score]).double())


WINDOWS = torch.tensor([[0.0, 0, 0, 8, 8, 8], [4, 0, 0, 12, 8, 8]])


@pytest.mark.parametrize(
    "left, right, boxes, scores",
    [
        ([5.5, 2, 2, 8, 6, 6], [5.5, 2, 2, 10, 6, 6], [[5.5, 2, 2, 10, 6, 6]], [0.8]),
        ([7, 2, 2, 8, 6, 6], [6, 2, 2, 10, 6, 6], [[6, 2, 2, 10, 6, 6]], [0.8]),
        ([5, 2, 2, 8, 6, 6], [9, 1, 1, 11, 7, 7], [[9, 1, 1, 11, 7, 7], [5, 2, 2, 8, 6, 6]], [0.8, 0.9 * UNCONFIRMED]),
        ([1, 1, 1, 6, 6, 6], [5, 1, 1, 6, 6, 6], [[1, 1, 1, 6, 6, 6]], [0.9]),
        ([0, 0, 0, 6, 8, 8], [9, 0, 0, 12, 8, 8], [[0, 0, 0, 6, 8, 8], [9, 0, 0, 12, 8, 8]], [0.9, 0.8]),
    ],
    ids=["whole in the other", "mostly in the other", "unconfirmed", "the end of the other", "outer borders"],
)
def test_cut_boxes(left: Any, right: Any, boxes: Any, scores: Any) -> None:
    joined = join_windows([one(left), one(right, 0.8)], WINDOWS, (12, 8, 8), 0.4)
    assert joined.boxes.tolist() == boxes
    assert joined.scores.tolist() == pytest.approx(scores)


def test_boxes_of_other_classes_are_left_alone() -> None:
    joined = join_windows([one([5, 2, 2, 8, 6, 6]), one([5, 2, 2, 10, 6, 6], 0.8, label=2)], WINDOWS, (12, 8, 8), 0.4)
    assert sorted(joined.labels.tolist()) == [1, 2]


def test_no_box_at_all() -> None:
    image = scan(blocks())
    for options in ({}, {"tile": (8, 8, 8)}, {"tta": True}, {"crop": True}):
        result = Predictor(Cubes(), card={**CARD, "mirror_axes": [0]}, **options).predict(image)
        assert result.boxes == []
    assert np.asanyarray(result.found.mask).max() == 0


@pytest.mark.parametrize("tile", ["whole", (10, 10, 10)])
def test_mirror_images_of_a_detector_without_handedness_change_nothing(tile: Any) -> None:
    image = scan(blocks((2, 3, 4, 8, 7, 10), (12, 1, 1, 20, 6, 8)))
    card = {**CARD, "mirror_axes": [0, 1, 2]}
    plain, mirrored = (Predictor(Cubes(), card=card, tile=tile, tta=tta).predict(image) for tta in (False, True))
    assert found(mirrored) == found(plain)
    assert [box["score"] for box in mirrored.boxes] == pytest.approx([0.9, 0.9])
    assert mirrored.details["flips"] == [0, 1, 2]


class Lopsided(Cubes):
    """Sees only what lies in the first half of the first axis, and its boxes are one voxel too long at the end."""

    def find(self, values: np.ndarray) -> dict[str, Tensor]:
        values = values.copy()
        values[len(values) // 2 :] = 0
        found = super().find(values)
        found["boxes"][:, 3] += 1
        return found


def test_a_box_that_few_mirror_images_show_counts_less() -> None:
    image, card = scan(blocks((2, 3, 4, 8, 7, 10), (14, 1, 1, 20, 6, 8))), {**CARD, "mirror_axes": [0]}
    result = Predictor(Lopsided(), card=card, tta=True).predict(image)
    assert found(result) == [("nodule", [2, 3, 4, 9, 7, 10]), ("nodule", [13, 1, 1, 20, 6, 8])]
    assert [box["score"] for box in result.boxes] == pytest.approx([0.45, 0.45])
    assert Predictor(Lopsided(), card=card, tta=True, score=0.5).predict(image).boxes == []


def test_an_ensemble_fuses_boxes_by_their_scores() -> None:
    image = scan(blocks((2, 3, 4, 8, 7, 10)))
    sure, doubtful = Cubes((0.9, 0.9)), Lopsided((0.3, 0.3))
    result = Predictor([sure, doubtful], card=CARD).predict(image)
    (box,) = result.boxes
    assert box["box"] == [2, 3, 4, 8.25, 7, 10]
    assert box["score"] == pytest.approx(0.6)
    assert result.details["models"] == 2


def test_detectors_on_other_grids_meet_on_the_scans(tmp_path: Any) -> None:
    image = scan(blocks((2, 4, 4, 8, 8, 12)))
    predictor = Predictor([Cubes(), Cubes()], card=CARD)
    predictor.members[1].card = type(predictor.card)(
        **{name: getattr(predictor.card, name) for name in predictor.card.__struct_fields__} | {"orientation": "LPI"}
    )
    assert found(predictor.predict(image)) == [("nodule", [2, 4, 4, 8, 8, 12])]


def test_one_look_is_as_it_is_and_a_second_vote_counts_nothing() -> None:
    two = BoxSet(torch.tensor([[0.0, 0, 0, 4, 4, 4], [0, 0, 0, 4, 4, 3]]), torch.ones(2), torch.tensor([0.9, 0.8]))
    assert fuse([two], 0.4) is two
    fused = fuse([two, one([0, 0, 0, 4, 4, 4], 0.5)], 0.4)
    assert fused.scores.tolist() == pytest.approx([0.7])
    zero = fuse([one([1, 1, 1, 3, 3, 3], 0.0), one([1, 1, 1, 3, 3, 5], 0.0)], 0.4)
    assert zero.boxes.tolist() == [[1, 1, 1, 3, 3, 4]]


def test_score_and_classes_choose_what_is_written() -> None:
    array = blocks((2, 3, 4, 8, 7, 10)) + blocks((12, 3, 4, 16, 7, 10), value=2)
    image = scan(array)
    assert [box["class"] for box in Predictor(Cubes(), card=CARD).predict(image).boxes] == ["nodule", "node"]
    assert [box["class"] for box in Predictor(Cubes(), card=CARD, score=0.85).predict(image).boxes] == ["nodule"]
    assert [box["class"] for box in Predictor(Cubes(), card=CARD, classes=["node"]).predict(image).boxes] == ["node"]
    faint = Cubes((0.03, 0.8))
    assert len(Predictor(faint, card=CARD).predict(image).boxes) == 1
    assert len(Predictor(faint, card=CARD, score=0.01).predict(image).boxes) == 2
    assert faint.score_thresh == 0.05  # of the network that was given


def test_what_makes_no_sense_for_boxes_is_refused(networks: Any) -> None:
    for options in ({"largest_component": True}, {"fill_holes": ["nodule"]}):
        with pytest.raises(UsageError, match="change masks, the model is made for detection"):
            Predictor(Cubes(), card=CARD, **options)
    with pytest.raises(UsageError, match="'spleen' is no class of the model"):
        Predictor(Cubes(), card=CARD, classes=["spleen"])
    with pytest.raises(UsageError, match="score must be between 0 and 1, got 2"):
        Predictor(Cubes(), card=CARD, score=2)
    with pytest.raises(UsageError, match="score is for a detector, the model is made for segmentation"):
        Predictor(networks["threshold"](), score=0.5)
    result = Predictor(Cubes(), card=CARD).predict(scan(blocks()))
    with pytest.raises(ModelError, match=r"the model finds boxes, it gives no mask\. Read \.boxes"):
        _ = result.labels
    with pytest.raises(ModelError, match=r"it gives no boxes\. Read \.labels"):
        _ = Predictor(networks["threshold"]()).predict(scan(blocks())).boxes
    assert result.volumes_ml == {}


def test_the_first_class_of_a_detector_without_a_card_is_the_background() -> None:
    assert Predictor(Cubes()).card.classes == ["background", "class_1", "class_2"]


def test_only_the_box_around_what_is_seen_is_run() -> None:
    predictor = Predictor(Cubes(), card=CARD, crop=True)
    result = predictor.predict(scan(blocks((25, 25, 25, 28, 27, 28), shape=(48, 48, 48))))
    assert found(result) == [("nodule", [25, 25, 25, 28, 27, 28])]
    assert predictor.engine.network.shapes == [(19, 18, 19)]


class Small(Cubes):
    """No memory for more than 1000 voxels."""

    def find(self, values: np.ndarray) -> dict[str, Tensor]:
        if values.size > 1000:
            raise MemoryError
        return super().find(values)


def test_a_pass_without_memory_is_done_in_windows() -> None:
    image = scan(blocks((2, 3, 4, 16, 7, 10)))
    result = Predictor(Small(), card={**CARD, "patch_size": [10, 10, 10]}, tta=True).predict(image)
    assert found(result) == [("nodule", [2, 3, 4, 16, 7, 10])]
    assert any("run in windows of 10x10x10 voxels" in text for text in result.warnings)
    with pytest.raises(ResourceError, match="no memory for one pass"):
        Predictor(Small(), card=CARD, tile="whole").predict(image)


class Overflowing(Cubes):
    """Its backbone overflows in 16 bits, and then it finds nothing: NaN is no score."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv3d(1, 1, 1)
        nn.init.constant_(self.backbone.weight, 1e5)

    def telling_parts(self) -> list[nn.Module]:
        return [self.backbone]

    def forward(self, images: Any, targets: Any = None) -> Any:
        seen = self.backbone(images[0][None]) if torch.is_autocast_enabled("cpu") else None
        overflowed = seen is not None and not torch.isfinite(seen).all()
        return super().forward([torch.zeros_like(images[0])] if overflowed else images)


def test_an_overflow_that_boxes_hide_is_computed_again() -> None:
    predictor = Predictor(Overflowing(), card=CARD, precision="float32")
    predictor.engine.dtype = torch.float16
    result = predictor.predict(scan(blocks((2, 3, 4, 8, 7, 10))))
    assert found(result) == [("nodule", [2, 3, 4, 8, 7, 10])]
    assert "float16 overflowed: computed in float32" in result.warnings


@pytest.mark.parametrize(
    "output, words",
    [
        (torch.zeros(1), "a dict of boxes, labels and scores"),
        ({"boxes": torch.zeros(2, 4), "labels": torch.ones(2), "scores": torch.ones(2)}, r"boxes \(N, 6\)"),
        ({"boxes": torch.zeros(1, 6), "labels": torch.tensor([3]), "scores": torch.ones(1)}, "classes 3 to 3"),
        ({"boxes": torch.full((1, 6), torch.nan), "labels": torch.ones(1), "scores": torch.ones(1)}, "infinite boxes"),
    ],
)
def test_detectors_that_break_the_contract_are_refused(output: Any, words: str) -> None:
    network = Cubes()
    network.find = lambda values: output
    with pytest.raises(ModelError, match=words):
        Predictor(network, card=CARD).predict(scan(blocks()))


@pytest.mark.parametrize(
    "name, part",
    [
        *(("faster_rcnn", part) for part in ("backbone.body", "backbone.fpn", "rpn.head", "roi_heads.box_head")),
        *(("retinanet", part) for part in ("backbone.body", "head.classification_head", "head.regression_head")),
    ],
)
def test_numbers_that_are_not_finite_show_wherever_a_detector_of_the_zoo_has_them(name: str, part: str) -> None:
    sizes = {"base_channels": 4, "stem_channels": 4, "out_channels": 4}
    network = create_model(f"{name}_resnet10", **sizes)
    engine = Engine(network, torch.device("cpu"))
    image = torch.rand(1, 1, 16, 16, 16)
    engine.finite(image, "boxes")
    nn.init.constant_(next(engine.network.get_submodule(part).parameters()), torch.nan)
    with pytest.raises(ModelError, match="the network gives NaN or infinite boxes"):
        engine.finite(image, "boxes")


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_a_detector_says_its_thresholds(name: str) -> None:
    prefix = {"faster_rcnn": "box_", "retinanet": ""}[name]
    own = {f"{prefix}score_thresh": 0.3, f"{prefix}nms_thresh": 0.25}
    network = create_model(f"{name}_resnet10", base_channels=4, stem_channels=4, out_channels=4, **own)
    assert choose_thresholds([network]) == Thresholds(0.3, 0.25)
    assert choose_thresholds([network], 0.1) == Thresholds(0.1, 0.25)
    assert network.suppression.score_thresh == 0.1


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_the_memory_of_a_detector_is_that_of_its_backbone(name: str) -> None:
    network = create_model(f"{name}_resnet10", base_channels=4, stem_channels=4, out_channels=4).eval()
    sizes = (1, 32, 32, 32)
    assert trace_bytes(network, sizes) == trace_bytes(network.backbone, sizes) > 4 * 32**3
