"""The page of a batch: what stands first, what is marked, what is left out, and a table that sorts in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medtransfer.errors import OutputExistsError
from medtransfer.reporting import batch_page
from medtransfer.reporting.batch_page import find_unusual, review_order, warning_kind, write_batch_page
from medtransfer.reporting.curves import curves_png
from medtransfer.reporting.outliers import robust_z
from medtransfer.reporting.page import script_hash
from tests.reporting.browser import run_browser, watch_page


def done(name: str, warnings: tuple[str, ...] = (), **found) -> dict:
    found = found or {"volumes_ml": {"liver": 1500.0, "spleen <left>": 200.0}}
    return {
        "case": name,
        "status": "done",
        "outputs": [f"{name}.nii.gz"],
        "warnings": list(warnings),
        "seconds": 1.5,
    } | found


def failed(name: str) -> dict:
    return {"case": name, "status": "failed", "error": f"{name}.nii.gz: the file ends early", "exit_code": 3}


def report(cases: list[dict]) -> dict:
    names = [case["case"] for case in cases if case["status"] == "failed"]
    model = {"folder": "liver_model", "sha256": "ab12"}
    return {"medtransfer": "1.2.3", "model": model, "seconds": 12.25, "cases": cases, "failed": names}


def page_of(folder: Path, cases: list[dict]) -> str:
    return write_batch_page(report(cases), folder).read_text(encoding="utf-8")


def rows_of(html: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = html.split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section.split("<tbody>")[1], re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


@pytest.fixture
def picture(tmp_path) -> bytes:
    return curves_png({"a": [(0, 0), (1, 1)]}, tmp_path / "curve.png").read_bytes()


def test_failed_cases_come_first_with_their_reason(tmp_path):
    html = page_of(tmp_path, [done("a"), failed("b"), done("c", ("odd",)), done("d") | {"status": "kept"}])
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles == ["Failed cases", "Warnings", "Volumes", "All cases", "How it was done"]
    assert rows_of(html, "Failed cases") == [["b", "b.nii.gz: the file ends early", "3"]]
    assert "3 of 4 cases written (1 kept from before), 1 failed, 1 with warnings. Not for diagnosis." in html
    assert rows_of(html, "All cases")[1] == ["b", "failed", "-", "-", "0", "-"]
    assert ["sha256", "ab12"] in rows_of(html, "How it was done")


def test_warnings_are_gathered_by_kind(tmp_path):
    cases = [done(f"c{i}", (f"intensities up to {i}.5 are above 255", "odd header")) for i in range(7)]
    rows = rows_of(page_of(tmp_path, [*cases, done("x", ("other",))]), "Warnings")
    assert rows[0] == ["intensities up to 0.5 are above 255", "7", "c0, c1, c2, c3, c4 and 2 more"]
    assert rows[1][:2] == ["odd header", "7"]
    assert rows[2] == ["other", "1", "x"]
    assert warning_kind("it's 3") != warning_kind("it's not 3")


def test_unusual_volumes_are_marked_and_shown_first(tmp_path, picture):
    rng = np.random.default_rng(0)
    cases = [done(f"c{i:02}", volumes_ml={"liver": float(rng.normal(1500, 50))}) for i in range(20)]
    cases[12]["volumes_ml"] = {"liver": 0.0}
    cases[3]["volumes_ml"] = {"liver": 2100.0}
    cases[5]["warnings"] = ["odd"]
    for case in cases:
        (tmp_path / f"{case['case']}.png").write_bytes(picture)
    html = page_of(tmp_path, cases)
    row, nearer = rows_of(html, "Unusual volumes")
    assert nearer[0] == "c03"
    assert row[:3] == ["c12", "liver", "0.000"]
    assert float(row[4]) < -20
    assert next(row for row in rows_of(html, "All cases") if row[0] == "c12")[3] == "liver"
    captions = re.findall("<figcaption>(.*?)</figcaption>", html)
    assert captions[:2] == ["c12; liver 0 ml is unusual", "c03; liver 2100 ml is unusual"]
    assert captions[2:4] == ["c05; odd", "c00"]


def test_robust_z_by_hand():
    values = [1.0, 2, 3, 4, 5, 6, 7, 100]
    # the median is 4.5, the median absolute deviation 2, one standard deviation 2.9652
    np.testing.assert_allclose(robust_z(values)[-1], 95.5 / 2.9652)
    assert robust_z(values[:-1]) == [0] * 7, "too few"
    assert robust_z([5.0] * 9) == [0] * 9
    lone = robust_z([5.0] * 9 + [9.0])
    assert lone[-1] == pytest.approx(4 / (1.2533 * 0.4)), "the mean deviation, where the median one is zero"
    assert robust_z([100.0, 101, 99, 100, 100, 101, 99, 105]) == [0] * 8, "all within a tenth of the median"


def test_failed_cases_and_missing_figures_do_not_disturb_the_statistics():
    cases = [done(str(n), volumes_ml={"liver": 10.0 + n % 3}) for n in range(9)]
    assert find_unusual([*cases, failed("x"), done("y", volumes_ml={})]) == []
    assert review_order([failed("x"), *cases[:2]]) == ["0", "1"]


def test_pictures_are_bounded_and_the_rest_is_said(tmp_path, picture, monkeypatch):
    cases = [done(f"c{i}") for i in range(9)]
    for case in cases[:7]:
        (tmp_path / f"{case['case']}.png").write_bytes(picture)
    (tmp_path / "c7.png").write_bytes(b"no picture")
    monkeypatch.setattr(batch_page, "MOST_PICTURES", 4)
    html = page_of(tmp_path, cases)
    assert html.count("<img") == 4
    assert "4 of 7 pictures" in html
    monkeypatch.setattr(batch_page, "MOST_PICTURE_BYTES", 2 * len(picture))
    assert write_batch_page(report(cases), tmp_path, overwrite=True).read_text(encoding="utf-8").count("<img") == 2


def test_classification_has_its_probabilities(tmp_path):
    shares = [0.9, 0.2, 0.7]
    cases = [done(f"c{i}", probabilities={"benign": p, "malignant": 1 - p}) for i, p in enumerate(shares)]
    for case, share in zip(cases, shares, strict=True):
        case["class"] = "benign" if share > 0.5 else "malignant"
    html = page_of(tmp_path, cases)
    assert rows_of(html, "Classes") == [["benign", "2", "0.600"], ["malignant", "1", "0.400"]]
    assert rows_of(html, "All cases")[1] == ["c1", "done", "malignant", "0.200", "0.800", "0", "1.500"]


def test_all_models_of_an_ensemble_are_named(tmp_path):
    both = report([done("a")]) | {"models": [{"folder": "first"}, {"folder": "second"}]}
    html = write_batch_page(both, tmp_path).read_text(encoding="utf-8")
    assert rows_of(html, "How it was done")[:2] == [["folder of model 1", "first"], ["folder of model 2", "second"]]


def test_one_case_has_a_short_page(tmp_path):
    html = page_of(tmp_path, [done("a")])
    assert "<title>medtransfer predict: a</title>" in html
    assert rows_of(html, "Volumes") == [["liver", "1500.000"], ["spleen &lt;left&gt;", "200.000"]]


def test_a_batch_without_any_result_has_a_page(tmp_path):
    html = page_of(tmp_path, [failed("a"), failed("b")])
    assert "0 of 2 cases written, 2 failed" in html


def test_cases_are_in_the_order_that_people_count(tmp_path):
    rows = rows_of(page_of(tmp_path, [done(name) for name in ("c10", "c2", "b")]), "All cases")
    assert [row[0] for row in rows] == ["b", "c2", "c10"]


def test_a_table_that_would_be_too_large_loses_columns_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_page, "_MOST_CELLS", 100)
    volumes = {f"organ {i}": 1.0 for i in range(61)}
    html = page_of(tmp_path, [done(f"c{i}", volumes_ml=volumes) for i in range(10)])
    assert "5 of 61 classes; report.json has all." in html
    assert len(rows_of(html, "All cases")[0]) == 9
    assert len(rows_of(html, "Volumes")) == 61


def test_only_the_sorting_script_may_run(tmp_path):
    html = page_of(tmp_path, [done("a</script><script>alert(1)</script>")])
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script_hash(scripts[0])}\"" in html
    )


def test_a_name_that_is_no_text_is_written(tmp_path):
    assert r"case\udce9" in page_of(tmp_path, [done("case\udce9")])


def test_an_older_page_stays_without_overwrite(tmp_path):
    page_of(tmp_path, [done("a")])
    with pytest.raises(OutputExistsError):
        page_of(tmp_path, [done("b")])


@pytest.mark.slow
def test_ten_thousand_cases_stay_under_thirty_megabytes(tmp_path):
    noise = np.random.default_rng(0).bytes(400_000)
    cases = [done(f"c{i}", volumes_ml={f"organ {k}": 1.0 + i % 7 for k in range(61)}) for i in range(9900)]
    for case in cases[:80]:
        (tmp_path / f"{case['case']}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + noise)
    cases += [failed(f"f{i}") for i in range(100)]
    assert write_batch_page(report(cases), tmp_path).stat().st_size < 30e6


@pytest.mark.slow
def test_a_click_sorts_in_a_browser(tmp_path):
    volumes = [("a", 30.0), ("b", 4.0), ("c", 100.0)]
    page_of(tmp_path, [*(done(name, volumes_ml={"liver": ml}) for name, ml in volumes), failed("x")])
    copy = watch_page(tmp_path / "report.html", tmp_path / "copy.html", _CLICK)
    tree = run_browser(copy, "--dump-dom", folder=tmp_path)
    assert 'data-rising="b,a,c,x"' in tree
    assert 'data-falling="c,a,b,x"' in tree, "what has no figure stays last"
    assert 'data-loaded=""' in tree
    assert "data-refused" not in tree


_CLICK = """
const last = Array.from(document.querySelectorAll("table.sortable")).at(-1);
const names = () => Array.from(last.tBodies[0].rows, (row) => row.cells[0].textContent).join();
const button = last.querySelectorAll("th button")[2];
button.click();
document.body.dataset.rising = names();
button.click();
document.body.dataset.falling = names();
"""
