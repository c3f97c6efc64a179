"""Overlay pictures: what is drawn, what is written on them, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from medtransfer.errors import OutputExistsError, UsageError
from medtransfer.reporting import overlay
from medtransfer.reporting.overlay import overlay_png

CLASSES = ["background", "left block", "right block"]


@pytest.fixture
def labels() -> np.ndarray:
    array = np.zeros((20, 24, 10), np.uint8)
    array[2:6, 4:20, 2:8] = 1
    array[14:18, 4:20, 2:8] = 2
    return array


@pytest.fixture
def figures(monkeypatch) -> list:
    """Figures that were printed, to read their texts."""
    seen: list = []

    def keep(figure):
        seen.append(figure)
        return FigureCanvasAgg(figure)

    monkeypatch.setattr("medtransfer.reporting.figures.FigureCanvasAgg", keep)
    return seen


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_the_convention_is_written_and_the_sides_follow_it(tmp_path, labels, figures):
    for convention in ("radiological", "neurological"):
        overlay_png(labels * 1.0, labels, tmp_path / f"{convention}.png", (1, 1, 2), CLASSES, convention=convention)
    radiological, neurological = figures
    assert any("patient's right is on the left" in text for text in texts(radiological))
    assert any("patient's right is on the right" in text for text in texts(neurological))
    axial = [figure.axes[3].get_images()[0].get_array() for figure in figures]
    np.testing.assert_array_equal(axial[0], axial[1][:, ::-1])


def test_the_right_block_lies_on_the_left_of_a_radiological_picture(tmp_path, labels, figures):
    overlay_png(np.ones(labels.shape), labels, tmp_path / "a.png", (1, 1, 1), CLASSES)
    axial = np.asarray(figures[0].axes[3].get_images()[0].get_array())
    second = np.array(overlay.class_rgb(2)) / 255
    distance = np.abs(axial - (0.45 * axial[0, 0] + 0.55 * second)).sum(-1)
    assert np.median(np.nonzero(distance < 1e-6)[1]) < axial.shape[1] / 2


def test_the_legend_gives_names_and_volumes(tmp_path, labels, figures):
    overlay_png(labels * 1.0, labels, tmp_path / "a.png", (2, 2, 2.5), CLASSES, reference=labels)
    # 4 x 16 x 6 voxels of 10 cubic millimetres
    assert "left block  3.84 ml (reference 3.84 ml)" in texts(figures[0])


def test_many_classes_leave_a_short_legend(tmp_path, figures):
    labels = np.arange(40).reshape(40, 1, 1) * np.ones((1, 5, 5), int)
    overlay_png(labels * 1.0, labels, tmp_path / "a.png", (1, 1, 1), ["background", *(f"organ {i}" for i in range(39))])
    assert "15 largest of 39 classes" in texts(figures[0])


def test_proportions_follow_the_spacing(tmp_path, labels, figures):
    overlay_png(labels * 1.0, labels, tmp_path / "a.png", (1, 1, 3), CLASSES)
    aspects = {panel.get_title().split(",")[0]: panel.get_aspect() for panel in figures[0].axes[:3]}
    assert aspects == {"axial": 1.0, "coronal": 3.0, "sagittal": 3.0}


def test_the_file_is_a_picture_with_colour(tmp_path, labels):
    picture = imread(overlay_png(labels * 1.0, labels, tmp_path / "deep" / "a.png", (1, 1, 2), CLASSES))
    assert picture.ndim == 3
    assert np.ptp(picture[..., :3], axis=-1).max() > 0.3
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.png"]


@pytest.mark.parametrize("image", [np.zeros((6, 6, 6)), np.full((6, 6, 6), np.nan), np.full((6, 6, 6), -5.0)])
def test_flat_scans_are_drawn(tmp_path, image):
    labels = np.zeros(image.shape, np.uint8)
    assert overlay_png(image, labels, tmp_path / "a.png", (1, 1, 1), ["background", "x"]).is_file()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"image": np.zeros((2, 3))}, r"\(I, J, K\)"),
        ({"labels": np.zeros((2, 2, 2), int)}, "do not lie on"),
        ({"labels": np.full((20, 24, 10), 7)}, "run from 7 to 7, but 3 classes"),
        ({"spacing": (1, 0, 1)}, "positive numbers in mm"),
        ({"spacing": (1, 1)}, "positive numbers in mm"),
    ],
)
def test_misfits_are_refused_and_nothing_is_written(tmp_path, labels, change, words):
    arguments = {"image": labels * 1.0, "labels": labels, "spacing": (1, 1, 1)} | change
    with pytest.raises(UsageError, match=words):
        overlay_png(**arguments, path=tmp_path / "a.png", classes=CLASSES)
    assert not list(tmp_path.iterdir())


def test_an_older_picture_stays_without_overwrite(tmp_path, labels):
    (tmp_path / "a.png").write_bytes(b"older")
    with pytest.raises(OutputExistsError):
        overlay_png(labels * 1.0, labels, tmp_path / "a.png", (1, 1, 1), CLASSES)
    assert (tmp_path / "a.png").read_bytes() == b"older"
