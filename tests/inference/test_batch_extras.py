"""What a batch writes beside its masks: other formats, pictures, pages, tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import MissingExtraError, UsageError, VolumeError
from medtransfer.inference.batch import predict_batch
from medtransfer.inference.predictor import Predictor
from medtransfer.inference.scans import find_scans
from medtransfer.reporting import viewer
from medtransfer.volumes.read import read_labels
from tests.volumes.dicom_series import write_series

NONE = {"intensity": {"scheme": "none"}}


@pytest.fixture
def predictor(networks: Any) -> Predictor:
    return Predictor(networks["threshold"](), device="cpu", card={**NONE, "classes": ["background", "liver", "spleen"]})


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A folder of two patients' folders, each with one series."""
    generator = np.random.default_rng(0)
    for name in ("anna", "bert"):
        (tmp_path / "patients").mkdir(exist_ok=True)
        write_series(tmp_path / "patients" / name, generator.integers(1022, 1028, size=(6, 5, 4)).astype(np.int16))
    return tmp_path / "patients"


@pytest.fixture
def scans(scan: Any, tmp_path: Path) -> list[Path]:
    return [scan("a.nii.gz"), scan("b.nii.gz")]


def test_a_folder_stands_for_its_series_and_a_series_for_itself(series: Path) -> None:
    assert [found.name for found in find_scans([series])] == ["anna", "bert"]
    assert find_scans([series / "anna"])[0].files == (series / "anna",)
    (series / "more").mkdir()
    (series / "c.mha").touch()
    (series / "c2.nrrd").touch()
    (series / "c3.seg.nrrd").touch()
    assert [found.name for found in find_scans([series])] == ["anna", "bert", "c", "c2"]
    with pytest.raises(VolumeError, match="folder without scans"):
        find_scans([series / "more"])


def test_masks_of_series_in_every_format(predictor: Predictor, series: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch = predict_batch(predictor, series, out, extras={"formats": ("seg.nrrd", "dicom-seg")})
    assert batch.report["cases"][0]["outputs"] == ["anna.nii.gz", "anna.seg.nrrd", "anna.dcm", "anna.json"]
    for case in ("anna", "bert"):
        mask = read_labels(out / f"{case}.nii.gz")
        assert set(np.unique(mask.array)) == {0, 1, 2}
        np.testing.assert_array_equal(read_labels(out / f"{case}.seg.nrrd").array, mask.array)
        assert (out / f"{case}.dcm").stat().st_size > 1000


def test_a_dicom_segmentation_of_no_series_is_refused_before_work(
    predictor: Predictor, scans: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"a\.nii\.gz: dicom-seg refers to the slices of a DICOM series"):
        predict_batch(predictor, scans, tmp_path / "out", extras={"formats": ("dicom-seg",)})
    with pytest.raises(UsageError, match="there is no format 'stl'"):
        predict_batch(predictor, scans, tmp_path / "out", extras={"formats": ("stl",)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "extras, missing",
    [({"formats": ("seg.nrrd",)}, "itk"), ({"viewer": True}, "view"), ({"formats": ("dicom-seg",)}, "dicom")],
)
def test_e15_a_missing_extra_is_named_before_work(
    predictor: Predictor, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extras: Any, missing: str
) -> None:
    from importlib import metadata

    from medtransfer.reporting import niivue

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    for module in ("SimpleITK", "highdicom"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setattr(niivue, "distribution", absent)
    with pytest.raises(MissingExtraError, match=rf"medtransfer\[{missing}\]"):
        predict_batch(predictor, series, tmp_path / "out", extras=extras)
    assert not (tmp_path / "out").exists()


def test_pictures_and_pages(predictor: Predictor, scans: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans[1].write_text("not a scan")
    batch = predict_batch(predictor, scans, out, extras={"pictures": True, "viewer": True})
    assert batch.report["cases"][0]["outputs"] == ["a.nii.gz", "a.png", "a.json"]
    assert (out / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "b.png").exists()
    page = (out / "report.html").read_text()
    assert "data:image/png" in page
    assert "liver" in page
    assert "b.nii.gz" in page
    assert "spleen" in (out / "view.html").read_text()
    assert (out / "labels.ctbl").exists()


def test_a_case_that_fails_late_leaves_nothing(
    predictor: Predictor, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medtransfer.inference.result import Prediction

    def fail(self: Prediction, *arguments: Any) -> None:
        raise OSError("late")

    monkeypatch.setattr(Prediction, "save", fail)
    batch = predict_batch(predictor, scans, tmp_path / "out", extras={"formats": ("seg.nrrd",)})
    assert batch.failed == ["a", "b"]
    assert not list((tmp_path / "out").glob("[ab].*"))


def test_a_classifiers_batch_has_a_table(networks: Any, scans: list[Path], tmp_path: Path) -> None:
    predictor = Predictor(networks["mean"](), device="cpu", card={**NONE, "classes": ["healthy", "ill"]})
    batch = predict_batch(predictor, scans, tmp_path / "out", extras={"pictures": True})
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open(encoding="utf-8")))
    assert [row["case"] for row in rows] == ["a", "b"]
    assert float(rows[0]["probability_ill"]) == pytest.approx(batch.report["cases"][0]["probabilities"]["ill"])
    assert (tmp_path / "out" / "report.html").exists()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["task"] == "classification"


def test_extras_are_asked_of_a_kept_case_too(scans: list[Path], tmp_path: Path) -> None:
    import torch

    import medtransfer as mt

    torch.manual_seed(0)
    mt.save(mt.create_model("resunet10", 1, 2, base_channels=4, stem_channels=4), tmp_path / "model")
    predictor, out = Predictor(tmp_path / "model", device="cpu"), tmp_path / "out"
    predict_batch(predictor, scans, out)
    before = nib.load(out / "a.nii.gz").get_fdata()
    again = predict_batch(predictor, scans, out, resume=True, extras={"probabilities": True})
    assert [case["status"] for case in again.report["cases"]] == ["done", "done"]
    assert (out / "a_probabilities.nii.gz").exists()
    np.testing.assert_array_equal(nib.load(out / "a.nii.gz").get_fdata(), before)


def test_the_viewer_shows_suspicious_cases_first_and_the_volume_that_was_asked_for(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, Any] = {}
    monkeypatch.setattr(viewer, "write_viewer", lambda path, cases, classes, **more: shown.update(more, cases=cases))
    values = np.random.default_rng(0).normal(size=(6, 5, 4, 2)).astype(np.float32)
    for name, factor in (("a", 1), ("b", 0)):  # b is constant, which is warned of
        nib.save(nib.Nifti1Image(values * np.float32(factor), np.eye(4)), tmp_path / f"{name}.nii.gz")
    files = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    predict_batch(predictor, files, tmp_path / "out", volume=1, extras={"viewer": True})
    assert [case[0] for case in shown["cases"]] == ["b", "a"]
    assert shown["volume"] == 1
