"""The viewer's page: what it holds, what it refuses, and what a real browser draws."""

from __future__ import annotations

import base64
import gzip
import html as html_tools
import importlib.metadata
import json
import re
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import MissingExtraError, OutputExistsError, UsageError, VolumeError
from medtransfer.reporting import niivue, viewer
from medtransfer.reporting.palette import class_rgb
from medtransfer.reporting.viewer import MOST_CASES, write_viewer
from tests.reporting.browser import run_browser, watch_page

CLASSES = ["background", "left </script> box", "right & box", "absent"]


@pytest.fixture
def case(tmp_path) -> tuple[str, Path, Path]:
    """A scan in LIP order with a box on either side."""
    affine = np.array([[0, -2.0, 0, 30], [0, 0, 3, -20], [-2, 0, 0, 15], [0, 0, 0, 1]])
    scan = np.random.default_rng(0).normal(100, 20, (20, 24, 16)).astype(np.float32)
    mask = np.zeros(scan.shape, np.uint8)
    mask[4:14, 2:9, 3:12], mask[4:14, 14:22, 3:12] = 2, 1
    nib.save(nib.Nifti1Image(scan, affine), tmp_path / "scan.nii.gz")
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "mask.nii.gz")
    return "a <b> case\udce9", tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz"


def embedded(html: str, name: str) -> nib.Nifti1Image:
    found = re.search(f'<script type="application/gzip" id="{name}">([^<]+)</script>', html)
    assert found is not None
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(found[1])))


def document(html: str) -> dict:
    found = re.search('<script type="application/json" id="page">(.+?)</script>', html)
    assert found is not None
    return json.loads(found[1])


def test_the_page_holds_the_very_volumes(tmp_path, case):
    html = write_viewer(tmp_path / "view.html", [case], CLASSES).read_text(encoding="utf-8")
    for name, file in zip(("scan0", "mask0"), case[1:], strict=True):
        held, given = embedded(html, name), nib.load(file)
        np.testing.assert_allclose(held.affine, given.affine, atol=1e-5)
        np.testing.assert_allclose(held.get_fdata(), given.get_fdata(), atol=0.02)
    assert embedded(html, "mask0").header.get_intent()[0] == "label"


def test_structures_have_their_colour_volume_and_a_place_inside(tmp_path, case):
    page = document(write_viewer(tmp_path / "view.html", [case], CLASSES).read_text(encoding="utf-8"))
    assert [(one["name"], tuple(one["colour"])) for one in page["classes"]] == [
        (name, class_rgb(label)) for label, name in enumerate(CLASSES)
    ]
    structures = page["cases"][0]["structures"]
    mask = nib.load(case[2])
    assert [one["label"] for one in structures] == [1, 2], "classes that do not occur are left out"
    assert structures[0]["ml"] == pytest.approx(10 * 8 * 9 * 12 / 1000)
    for one in structures:
        index = np.round(np.linalg.inv(mask.affine) @ [*one["centre"], 1]).astype(int)[:3]
        assert np.asarray(mask.dataobj)[tuple(index)] == one["label"]
        assert (one["centre"][0] > 0) == (one["label"] == 2), "x grows to the patient's right"


def test_the_page_loads_nothing_and_carries_the_licence(tmp_path, case):
    html = write_viewer(tmp_path / "view.html", [case], CLASSES).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert re.fullmatch(
        r"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-[\w+/=]+'", policy[1]
    )
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", html.split('<script type="module">')[0])
    licence = niivue.read_niivue().licence
    assert html_tools.unescape(html).count(licence.strip()) == 2
    assert "Redistributions in binary form must reproduce" in licence
    assert "&lt;b&gt;" not in document(html)["cases"][0]["name"]
    assert html.count("</script>") == 4, "no name ends a script early"


def test_large_scans_are_thinned_and_it_is_said(tmp_path, case, monkeypatch):
    monkeypatch.setattr(viewer, "MOST_VOXELS", 700)
    html = write_viewer(tmp_path / "view.html", [case], CLASSES).read_text(encoding="utf-8")
    held, summary = embedded(html, "mask0"), document(html)["cases"][0]
    assert np.prod(held.shape) <= 700
    assert summary["thinned"] == "2x3x2"
    assert summary["structures"][0]["ml"] == pytest.approx(10 * 8 * 9 * 12 / 1000), (
        "volumes are those of the whole mask"
    )
    given = nib.load(case[2])
    np.testing.assert_array_equal(np.asarray(held.dataobj), np.asarray(given.dataobj)[::2, ::3, ::2])
    np.testing.assert_allclose(held.affine @ [1, 1, 1, 1], given.affine @ [2, 3, 2, 1], atol=1e-4)


@pytest.mark.parametrize("highest", [1.7e6, 300.0])
def test_outlying_intensities_leave_the_others_fine_steps(highest):
    image = np.random.default_rng(0).random((9, 9, 9)) * 100
    image[0, 0, 0] = highest
    stored, slope, middle = viewer._as_int16(image, -400, 500)
    restored = stored * slope + middle
    assert np.abs(restored - image)[image < 101].max() < 0.02


@pytest.mark.parametrize("number", [0, MOST_CASES + 1])
def test_a_number_of_cases_that_cannot_be_shown_is_refused(tmp_path, case, number):
    with pytest.raises(UsageError, match=f"1 to {MOST_CASES} cases, got {number}"):
        write_viewer(tmp_path / "view.html", [case] * number, CLASSES)


def test_a_mask_that_does_not_belong_is_refused(tmp_path, case):
    with pytest.raises(VolumeError, match="labels up to 2, but 2 classes"):
        write_viewer(tmp_path / "view.html", [case], CLASSES[:2])
    mask = nib.load(case[2])
    shifted = mask.affine.copy()
    shifted[0, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), shifted), tmp_path / "b.nii")
    with pytest.raises(VolumeError, match="another grid than its scan"):
        write_viewer(tmp_path / "view.html", [("b", case[1], tmp_path / "b.nii")], CLASSES)
    assert not (tmp_path / "view.html").exists()


def test_an_older_page_stays_without_overwrite(tmp_path, case):
    (tmp_path / "view.html").write_text("older")
    with pytest.raises(OutputExistsError):
        write_viewer(tmp_path / "view.html", [case], CLASSES)
    assert (tmp_path / "view.html").read_text() == "older"


def test_a_missing_wheel_names_the_extra(tmp_path, case, monkeypatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(niivue, "distribution", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'medtransfer\[view\]'"):
        write_viewer(tmp_path / "view.html", [case], CLASSES)


def test_a_wheel_without_the_module_is_said(monkeypatch):
    assert niivue.bind_exports("no module") == niivue.find_module("no module") == ""
    monkeypatch.setattr(niivue, "find_module", lambda text: "export{Other}")
    with pytest.raises(MissingExtraError, match="holds no NiiVue that can be found"):
        niivue.read_niivue()


def test_the_module_cannot_end_its_script_element():
    script = niivue.read_niivue().script
    assert "</script" not in script
    assert "<!--" not in script
    module = "a='</script>',b='<!--';export{a as Niivue,a as NVImage,a as SLICE_TYPE,a as SHOW_RENDER};"
    assert niivue.bind_exports(module).startswith(r"a='<\/script>',b='<\!--';const niivue=")
    assert niivue.read_niivue().version.count(".") == 2


@pytest.mark.slow
def test_a_browser_draws_the_scan_and_the_mask_and_loads_nothing(tmp_path, case):
    page = write_viewer(tmp_path / "view.html", [case], CLASSES)
    run_browser(page, f"--screenshot={tmp_path / 'a.png'}", "--window-size=1000,700", folder=tmp_path)
    shown = matplotlib.image.imread(tmp_path / "a.png")[60:640, :720, :3] * 255
    grey = shown[np.ptp(shown, axis=-1) < 3]
    assert len(np.unique(grey[:, 0].round())) > 30, "the scan's noise is many greys"
    places = [colour_places(shown, class_rgb(label)) for label in (1, 2)]
    assert all(len(place) > 500 for place in places), "both classes are drawn"
    upper = [place[place[:, 0] < 290][:, 1] for place in places]  # the coronal panel is above the axial one
    assert upper[1].min() < upper[0].min(), "the right box lies further left"
    tree = run_browser(watch_page(page, tmp_path / "b.html", _USE), "--dump-dom", folder=tmp_path)
    body = re.search(r"<body[^>]*>", tree)
    assert body is not None
    assert 'data-shown="a &lt;b&gt; case' in body[0] or 'data-shown="a <b> case' in body[0]
    assert 'data-loaded=""' in body[0], "nothing was loaded"
    assert "data-refused" not in body[0], "the page does not even try"
    assert "data-failed" not in body[0]
    assert re.search(r'data-before="[^"]*mm: [\d.]+ left [^"]*box"', body[0])
    assert re.search(r'id="place">[^<]*mm: [\d.]+ right &amp; box<', tree), "a click on the name went to the box"
    assert 'data-hidden="1"' in body[0]


_USE = """
document.body.dataset.before = byId("place").textContent;
document.querySelector("#legend input").click();
document.querySelectorAll("#legend button")[1].click();
byId("high").value = 400;
byId("high").dispatchEvent(new Event("change"));
byId("radiological").click();
document.body.dataset.hidden = Array.from(hidden).join();
"""


def colour_places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of the pixels whose hue is that of ``colour`` blended over any grey."""
    blended = picture - picture.mean(-1, keepdims=True)
    wanted = np.array(colour) - np.mean(colour)
    size = np.linalg.norm(blended, axis=-1) * np.linalg.norm(wanted)
    return np.argwhere((blended @ wanted > 0.98 * size) & (size > 0.3 * np.linalg.norm(wanted) ** 2))


def test_the_volume_of_a_series_that_was_predicted_is_shown(tmp_path, case):
    name, scan, mask = case
    image = nib.load(scan)
    values = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.stack([values, 2 * values], axis=3), image.affine), tmp_path / "series.nii.gz")
    nib.save(nib.Nifti1Image(2 * values, image.affine), tmp_path / "second.nii.gz")
    pages = [
        write_viewer(tmp_path / f"{number}.html", [(name, file, mask)], CLASSES, volume=1).read_text()
        for number, file in enumerate((tmp_path / "series.nii.gz", tmp_path / "second.nii.gz"))
    ]
    assert pages[0] == pages[1]
