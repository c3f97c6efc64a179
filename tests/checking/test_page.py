"""check.json and check.html: whole, self-contained, and about the right cases."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib import image as pictures

from medtransfer.checking import page, thumbnails
from medtransfer.checking.run import check
from medtransfer.errors import OutputExistsError, UsageError
from tests.checking.conftest import AFFINE, SHAPE, Dataset, mask, save, scan

Make = Callable[..., Dataset]
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def drawn(html: str) -> list[np.ndarray]:
    """The pictures of a page, (h, w, 4) from 0 to 1."""
    return [pictures.imread(io.BytesIO(base64.b64decode(text))) for text in PICTURE.findall(html)]


def test_a_page_and_a_document(make_dataset: Make, tmp_path: Path) -> None:
    data = make_dataset(5)
    data.image("c00").write_bytes(b"text")
    save(data.label("c01"), mask(1), np.diag([-1.0, 1.5, 2.0, 1.0]))
    data.write(labels={"0": "background", "1": "<b>head</b>", "2": "tail $x_1"})
    checkup = check(data.root, tmp_path / "out")
    assert checkup.report == tmp_path / "out" / "check.html"
    html = checkup.report.read_text(encoding="utf-8")
    document = json.loads((tmp_path / "out" / "check.json").read_text())
    assert document == json.loads(json.dumps(checkup.to_dict()))
    assert (document["ok"], document["errors"], len(document["cases"])) == (False, 2, 5)
    for said in ("Check of data", "2 errors", "label-grid", "LAS and RAS", "&lt;b&gt;head", "c04"):
        assert said in html
    assert "http" not in html.replace("http-equiv", "")
    assert len(drawn(html)) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["check.html", "check.json"]


def test_a03_outputs_that_exist_stay_unless_told(tmp_path: Path) -> None:
    data, out = tmp_path / "none", tmp_path / "out"
    out.mkdir()
    (out / "check.html").write_text("old")
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"check\.html"):
        check(data, out)
    assert (out / "check.html").read_text() == "old"
    check(data, out, overwrite=True)
    assert "Check of none" in (out / "check.html").read_text()
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="is a file"):
        check(data, out / "mine.txt")


def test_a_page_of_nothing(tmp_path: Path) -> None:
    checkup = check(tmp_path / "none", tmp_path / "out")
    assert checkup.report is not None
    assert "no such file or folder" in checkup.report.read_text()


def test_a_page_of_a_classification(make_dataset: Make, tmp_path: Path) -> None:
    data = make_dataset(4)
    rows = [f"{name},@{name}.nii.gz,{label}" for name, label in zip(data.names, "aabb", strict=True)]
    checkup = check(data.table(rows, "id,image,label"), tmp_path / "out")
    assert checkup.report is not None
    assert "Classes" in checkup.report.read_text()
    assert checkup.ok


def test_cases_with_problems_are_shown_first_and_every_kind_of_problem(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(12)
    for name in data.names[5:10]:
        save(data.label(name), np.zeros(SHAPE, np.uint8))
    save(data.image("c11"), np.full(SHAPE, 7, np.float32))
    monkeypatch.setattr(page, "THUMBNAILS", 4)
    shown = page._chosen(check(data.root))
    assert [(one.facts.case, one.why) for one in shown] == [
        ("c05", "label-empty"),
        ("c11", "constant"),
        ("c06", "label-empty"),
        ("c07", "label-empty"),
    ]
    monkeypatch.setattr(page, "THUMBNAILS", 9)
    assert [one.facts.case for one in page._chosen(check(data.root))][6:] == ["c00", "c02", "c04"]


@pytest.mark.parametrize("code", ["RAS", "LPS", "PIR"])
def test_outlines_lie_where_the_label_lies_in_the_patient(code: str) -> None:
    """A label stored in another order of axes than its scan is drawn at the same place."""
    image = nib.Nifti1Image(scan(0), AFFINE)
    labels = nib.Nifti1Image(mask(0), AFFINE)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code))
    planes = thumbnails._planes(thumbnails.read_volume(image), thumbnails.read_labels(labels.as_reoriented(turn)))
    straight = thumbnails._planes(thumbnails.read_volume(image), thumbnails.read_labels(labels))
    for one, other in zip(planes, straight, strict=True):
        coloured = (one != one[..., :1]).any(axis=2)
        assert coloured.sum() > 20
        np.testing.assert_array_equal(coloured, (other != other[..., :1]).any(axis=2))


def test_a_label_of_another_box_is_drawn_where_it_lies() -> None:
    image, box = nib.Nifti1Image(scan(0), AFFINE), AFFINE.copy()
    box[:3, 3] = AFFINE[:3, :3] @ (1, 2, 1)
    cropped = nib.Nifti1Image(mask(0)[1:10, 2:9, 1:9], box)
    planes = [
        thumbnails._planes(thumbnails.read_volume(image), thumbnails.read_labels(labels))
        for labels in (cropped, nib.Nifti1Image(mask(0), AFFINE))
    ]
    for one, other in zip(*planes, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_patients_right_is_on_the_left_and_the_head_on_top() -> None:
    values = np.zeros((20, 10, 10), np.float32)
    values[12:, :, 6:] = 100  # right, up
    axial, coronal, sagittal = thumbnails._planes(thumbnails.read_volume(nib.Nifti1Image(values, np.eye(4))), None)
    assert coronal.shape[:2] == (74, 148)
    assert coronal[:20, :40].min() > 200
    assert coronal[40:].max() == 0
    assert coronal[:, 80:].max() == 0
    assert (axial.shape, sagittal.shape) == ((74, 148, 3), (74, 74, 3))
