"""Boxes over a scan: where they are drawn, and what the tables and pictures say of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import OutputExistsError, UsageError
from medtransfer.reporting import box_picture
from medtransfer.reporting.batch_figures import figure_sections
from medtransfer.reporting.box_picture import boxes_png
from medtransfer.reporting.boxes_table import HEADER, write_boxes_csv
from medtransfer.reporting.palette import class_rgb
from medtransfer.volumes.boxes import move_boxes
from medtransfer.volumes.grid import Grid

CLASSES = ["background", "nodule", "$a_b$"]
BOX = {"class": "nodule", "score": 0.9, "box": [10, 4, 6, 16, 8, 12], "size_mm": [6.0, 4.0, 6.0]}


def rectangles(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """What is drawn: left, top, width and height, by panel."""
    drawn: list[tuple[float, ...]] = []
    real = box_picture.Rectangle

    def record(corner: Any, width: float, height: float, **options: Any) -> Any:
        drawn.append((*corner, width, height))
        return real(corner, width, height, **options)

    monkeypatch.setattr(box_picture, "Rectangle", record)
    return drawn


def test_rectangles_lie_on_the_voxels_of_every_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, scan = rectangles(monkeypatch), np.zeros((20, 16, 14), np.float32)
    scan[10:16, 4:8, 6:12] = 1
    boxes_png(scan, np.eye(4), [BOX], tmp_path / "a.png", CLASSES, "case", convention="neurological")
    # axial, coronal, sagittal: across from the left, up from the bottom, half a voxel outside of the first one
    assert drawn == [(9.5, 7.5, 6, 4), (9.5, 1.5, 6, 6), (3.5, 1.5, 4, 6)]
    drawn.clear()
    boxes_png(scan, np.eye(4), [BOX], tmp_path / "b.png", CLASSES)
    assert drawn == [(3.5, 7.5, 6, 4), (3.5, 1.5, 6, 6), (7.5, 1.5, 4, 6)]


@pytest.mark.parametrize("orientation", ["LPS", "SAR", "AIL"])
def test_a_turned_scan_gives_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: str
) -> None:
    drawn, scan = rectangles(monkeypatch), np.random.default_rng(0).normal(size=(20, 16, 14)).astype(np.float32)
    image = nib.Nifti1Image(scan, np.eye(4))
    turn = nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(orientation))
    turned = image.as_reoriented(turn)
    shape: Any = turned.shape
    (moved,) = move_boxes([BOX["box"]], Grid((20, 16, 14), np.eye(4)), Grid(shape, turned.affine))
    one = boxes_png(scan, np.eye(4), [BOX], tmp_path / "a.png", CLASSES)
    other = boxes_png(
        np.asanyarray(turned.dataobj), turned.affine, [{**BOX, "box": moved}], tmp_path / "b.png", CLASSES
    )
    np.testing.assert_allclose(drawn[:3], drawn[3:])
    np.testing.assert_allclose(matplotlib.image.imread(one), matplotlib.image.imread(other), atol=0.02)


def test_the_colour_is_the_classes_and_odd_names_are_words(tmp_path: Path) -> None:
    path = boxes_png(np.zeros((20, 16, 14)), np.eye(4), [{**BOX, "class": "$a_b$"}], tmp_path / "a.png", CLASSES)
    pixels = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)
    assert (np.abs(pixels - class_rgb(2)).max(axis=-1) <= 2).sum() > 100


def test_no_boxes_many_boxes_and_wrong_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, drawn = np.random.default_rng(0).normal(size=(20, 16, 14)), rectangles(monkeypatch)
    boxes_png(scan, np.eye(4), [], tmp_path / "none.png", CLASSES)
    assert drawn == []
    boxes_png(scan, np.eye(4), [BOX] * 40, tmp_path / "many.png", CLASSES)
    assert len(drawn) == 3 * box_picture.MOST_BOXES
    with pytest.raises(UsageError, match="a box is of the class 'spleen'"):
        boxes_png(scan, np.eye(4), [{**BOX, "class": "spleen"}], tmp_path / "x.png", CLASSES)
    with pytest.raises(OutputExistsError):
        boxes_png(scan, np.eye(4), [], tmp_path / "none.png", CLASSES)
    with pytest.raises(UsageError, match="invertible"):
        boxes_png(scan, np.zeros((4, 4)), [], tmp_path / "x.png", CLASSES)


def test_names_in_the_table_of_boxes_are_no_formulas(tmp_path: Path) -> None:
    box = {**BOX, "class": "=1+1", "center_mm": [1.5, -2.0, 0.25]}
    path = write_boxes_csv(tmp_path / "boxes.csv", [("@x", box)])
    with path.open(newline="") as file:
        header, row = csv.reader(file)
    assert tuple(header) == HEADER
    assert row == ["'@x", "'=1+1", "0.9", "10", "4", "6", "16", "8", "12", "1.5", "-2.0", "0.25", "6.0", "4.0", "6.0"]
    with pytest.raises(OutputExistsError):
        write_boxes_csv(path, [])


def test_the_page_counts_boxes_and_sums_up_quantities() -> None:
    boxes = [{"case": name, "num_boxes": {"nodule": count}, "best_scores": {"nodule": 0.5} if count else {}}
             for name, count in (("a", 2), ("b", 0))]  # fmt: skip
    (section,) = figure_sections(boxes)
    assert section.tables[0].rows == [["nodule", 1, 2, 0.5]]
    heads = [{"case": name, "heads": {"age": {"values": {"years": value}}}} for name, value in (("a", 50), ("b", 60))]
    (section,) = figure_sections(heads)
    assert section.tables[0].rows == [["age: years", 2, 50.0, 52.5, 55.0, 57.5, 60.0]]
