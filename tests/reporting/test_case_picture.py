"""A case's picture: upright in every orientation, in the window that a reader wants."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import OutputExistsError, UsageError
from medtransfer.reporting import case_picture
from medtransfer.reporting.case_picture import case_png
from medtransfer.reporting.window import Window, display_window

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
ORIENTATIONS = [
    "".join(ends)
    for axes in itertools.permutations(["RL", "AP", "SI"])
    for ends in itertools.product(*axes)
]  # fmt: skip


@pytest.fixture
def scan() -> np.ndarray:
    return np.random.default_rng(0).random((8, 9, 10))


@pytest.fixture
def labels() -> np.ndarray:
    array = np.zeros((8, 9, 10), np.uint8)
    array[1:3, 2:6, 3:8], array[5:8, 2:6, 3:5] = 1, 2
    return array


@pytest.fixture
def seen(monkeypatch) -> list:
    """What overlay_png was given, without drawing it."""
    calls: list = []
    monkeypatch.setattr(case_picture, "overlay_png", lambda *given, **named: calls.append((given, named)))
    return calls


@pytest.fixture
def figures(monkeypatch) -> list:
    """Figures that were to be printed, to read their texts; drawing them would take most of a second each."""
    kept: list = []

    class Canvas:
        def __init__(self, figure):
            kept.append(figure)

        def print_png(self, path):
            Path(path).write_bytes(b"PNG")

    monkeypatch.setattr("medtransfer.reporting.figures.FigureCanvasAgg", Canvas)
    return kept


def texts(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_all_48_orientations_give_the_same_picture(tmp_path, scan, labels, seen):
    upright = nib.orientations.axcodes2ornt("RAS")
    for codes in ORIENTATIONS:
        turn = nib.orientations.ornt_transform(upright, nib.orientations.axcodes2ornt(codes))
        turned = [nib.Nifti1Image(array, AFFINE).as_reoriented(turn) for array in (scan, labels)]
        assert "".join(nib.aff2axcodes(turned[0].affine)) == codes
        case_png(*(np.asarray(one.dataobj) for one in turned), turned[0].affine, tmp_path / "a.png", ["a", "b", "c"])
    assert len(seen) == 48
    for (image, mask, _, spacing, _), _ in seen:
        np.testing.assert_array_equal(image, scan)
        np.testing.assert_array_equal(mask, labels)
        assert spacing == (1, 2, 3)


def test_scans_are_turned_without_a_copy(tmp_path, scan, labels, seen):
    case_png(scan, labels, np.array([[0, -1, 0, 0], [0, 0, 1, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1]]), "a.png", ["a"] * 3)
    assert np.shares_memory(seen[0][0][0], scan)
    assert np.shares_memory(seen[0][0][1], labels)


@pytest.mark.parametrize("degrees, words", [(0, ""), (4, ""), (20, "20 degrees oblique")])
def test_an_oblique_scan_is_said(scan, labels, seen, degrees, words):
    turn = np.radians(degrees)
    affine = AFFINE.copy()
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    case_png(scan, labels, affine, "a.png", ["a", "b", "c"])
    assert bool(words) == bool(seen[0][1]["note"])
    assert words in seen[0][1]["note"]


def test_61_classes_stand_in_the_legend(tmp_path, figures):
    labels = np.minimum(np.arange(62), 61).reshape(62, 1, 1) * np.ones((1, 5, 5), int)
    names = ["background", *(f"organ {i}" for i in range(1, 62))]
    case_png(labels * 1.0, labels, AFFINE, tmp_path / "a.png", names, "many")
    shown = texts(figures[0])
    assert all(f"organ {i}  0.15 ml" in shown for i in range(1, 62))
    assert "classes" not in shown


@pytest.mark.parametrize(
    "names, words", [(["background", "x"], "x  0 ml"), (list("abcdefghijklmnopqrstu"), "none of 20")]
)
def test_an_empty_mask_is_drawn(tmp_path, scan, figures, names, words):
    assert case_png(scan, np.zeros(scan.shape, np.uint8), AFFINE, tmp_path / "a.png", names).is_file()
    assert words in texts(figures[0])


@pytest.mark.parametrize("scan", [np.full((5, 6, 1), np.nan), np.full((2, 2, 9), 1e20)])
def test_odd_scans_are_drawn(tmp_path, scan):
    labels = np.ones(scan.shape, np.uint8)
    assert case_png(scan, labels, AFFINE, tmp_path / "a.png", ["background", "x"]).stat().st_size > 1000


def test_odd_names_are_drawn_as_they_are(tmp_path, scan, labels, figures):
    case_png(scan, labels, AFFINE, tmp_path / "a.png", ["background", "a $x_$ b", "肝"], "case $\\frac{1$ \udce9")
    assert "a $x_$ b" in texts(figures[0])
    assert r"case $\frac{1$ \udce9" in texts(figures[0])


def test_a_name_that_the_font_lacks_does_not_warn(tmp_path, scan, labels):
    case_png(
        scan[:, :, 3:4], labels[:, :, 3:4], AFFINE, tmp_path / "a.png", ["background", "a $\\frac{1$ b", "肝"], "$a"
    )


def test_tall_scans_do_not_make_tall_pictures(tmp_path, figures):
    scan = np.random.default_rng(0).random((3, 3, 900))
    case_png(scan, (scan > 0.5).astype(np.uint8), AFFINE, tmp_path / "a.png", ["background", "x"])
    assert figures[0].get_figheight() < 22


@pytest.mark.parametrize("hounsfield, name", [(-850, "lung"), (50, "soft tissue"), (400, "bone")])
def test_the_window_for_ct_follows_what_is_labelled(hounsfield, name):
    scan = np.random.default_rng(0).choice([-1000.0, -100.0, 60.0], (12, 12, 12))
    labels = np.zeros(scan.shape, int)
    labels[:3] = 1
    scan[:3] = hounsfield
    assert display_window(scan, labels).name == name
    assert display_window(scan, np.zeros_like(labels)).name == "soft tissue"
    assert display_window(np.abs(scan), labels).name == ""


def test_a_window_ignores_padding_and_outliers():
    scan = np.zeros((20, 20, 20))
    scan[5, 5] = np.linspace(-50, 200, 400).reshape(20, 20)[0]
    scan[7, 7, :19] = np.linspace(100, 200, 19)
    assert 190 < display_window(scan).high < 210, "38 voxels count, not the 8000 around them"
    scan[5:15] = np.linspace(100, 200, 4000).reshape(10, 20, 20)
    scan[7, 7, 7] = 1e6
    window = display_window(scan)
    assert window.low == 0
    assert window.high < 210
    np.testing.assert_array_equal(Window(0, 2).grey(np.array([-1, 1, 3, np.nan, np.inf])), [0, 0.5, 1, 0, 1])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"scan": np.zeros((2, 2))}, r"\(I, J, K\)"),
        ({"affine": np.zeros((4, 4))}, "invertible"),
        ({"labels": np.zeros((8, 9, 9), int)}, "do not lie on"),
        ({"classes": ["background", "x"]}, "2 classes are named"),
    ],
)
def test_misfits_are_refused(tmp_path, scan, labels, change, words):
    arguments = {"scan": scan, "labels": labels, "affine": AFFINE, "classes": ["a", "b", "c"]} | change
    with pytest.raises(UsageError, match=words):
        case_png(**arguments, path=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_an_older_picture_stays_without_overwrite(tmp_path, scan, labels):
    (tmp_path / "a.png").write_bytes(b"older")
    with pytest.raises(OutputExistsError):
        case_png(scan, labels, AFFINE, tmp_path / "a.png", ["a", "b", "c"])


@pytest.mark.slow
def test_a_scan_of_200_voxels_an_axis_is_drawn_at_once(tmp_path):
    scan = np.random.default_rng(0).normal(size=(200, 200, 200)).astype(np.float32)
    labels = (scan > 0).astype(np.uint8)
    case_png(scan[:9, :9, :9], labels[:9, :9, :9], AFFINE, tmp_path / "warm.png", ["background", "x"])
    start = time.process_time()
    case_png(scan, labels, np.diag([-1.0, 1, 1, 1]), tmp_path / "a.png", ["background", "x"])
    assert time.process_time() - start < 1.5
