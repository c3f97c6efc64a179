"""Many scans: what fails stops nothing, what is whole is kept, what is half is done again."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import medtransfer as mt
from medtransfer.errors import ModelError, OutputExistsError, ResourceError, UsageError, VolumeError
from medtransfer.inference.batch import predict_batch
from medtransfer.inference.bids import bids_scan
from medtransfer.inference.identity import is_whole
from medtransfer.inference.order import Extras
from medtransfer.inference.pipeline import run_overlapped
from medtransfer.inference.predictor import Predictor
from medtransfer.inference.result import Prediction
from medtransfer.inference.scans import Scan

NONE = {"intensity": {"scheme": "none"}}
TINY = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture
def predictor(networks: Any) -> Predictor:
    return Predictor(networks["threshold"](), device="cpu", card=NONE)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four scans a, b, c, d of random signs."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, name in enumerate("abcd"):
        values = np.random.default_rng(seed).normal(size=(6, 5, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 2.0, 1.5, 1.0])), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two model folders that differ in their weights."""
    folder = tmp_path_factory.mktemp("models")
    for seed in range(2):
        torch.manual_seed(seed)
        mt.save(mt.create_model("resunet10", 1, 2, **TINY), folder / str(seed), {"classes": ["background", "a"]})
    return [folder / "0", folder / "1"]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {case["case"]: case["status"] for case in report["cases"]}


def bits(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("?.*")}


def test_a_batch_is_what_single_predictions_are(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    told = []
    batch = predict_batch(predictor, scans, tmp_path / "out", on_case=lambda case, *of: told.append((case["case"], of)))
    assert (batch.failed, batch.exit_code, batch.report["done"]) == ([], 0, 4)
    assert told == [(name, (number, 4)) for number, name in enumerate("abcd", 1)]
    for case in batch.report["cases"]:
        single = predictor.predict(case["inputs"][0])
        mask = nib.load(tmp_path / "out" / case["outputs"][0])
        np.testing.assert_array_equal(np.asanyarray(mask.dataobj), np.asanyarray(single.labels.dataobj))
        assert case["volumes_ml"] == single.volumes_ml
        assert case["seconds"] > 0
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == batch.report
    assert names(tmp_path / "out") == {f"{name}.{end}" for name in "abcd" for end in ("nii.gz", "json")} | {
        "report.json",
        "labels.json",
        "labels.ctbl",
        "labels_itksnap.txt",
    }


def test_a14_bad_scans_stop_nothing_and_are_named(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(20):
        values = generator.normal(size=(4, 4, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), scans / f"n{number:02}.nii")
    (scans / "b.nii.gz").write_text("not a scan")
    (scans / "n07.nii").write_bytes((scans / "n07.nii").read_bytes()[:400])
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4)), scans / "n19.nii")
    batch = predict_batch(predictor, scans, tmp_path / "out")
    assert (batch.failed, batch.exit_code, batch.report["done"]) == (["b", "n07", "n19"], 5, 21)
    bad = [case for case in batch.report["cases"] if case["status"] == "failed"]
    assert [case["exit_code"] for case in bad] == [3, 3, 3]
    assert all(case["inputs"][0] in case["error"] and case["outputs"] == [] for case in bad)
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 21
    assert not [name for name in names(tmp_path / "out") if "part" in name or name.startswith(("b.", "n07", "n19"))]


def test_the_only_scans_error_is_raised_and_nothing_written(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no such file"):
        predict_batch(predictor, tmp_path / "none.nii", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_error_while_writing_reaches_its_case_and_leaves_nothing_of_it(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_dict = Prediction.to_dict

    def fail(self: Prediction) -> dict[str, Any]:
        if self.case == "c":
            raise ZeroDivisionError("in the writing thread")
        return to_dict(self)

    monkeypatch.setattr(Prediction, "to_dict", fail)
    batch = predict_batch(predictor, scans, tmp_path / "out")
    case = batch.report["cases"][2]
    assert (batch.failed, case["exit_code"]) == (["c"], 1)
    assert "unexpected ZeroDivisionError: in the writing thread" in case["error"]
    assert "in fail" in case["traceback"]
    assert not [name for name in names(tmp_path / "out") if name.startswith("c.")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_ends_the_batch_since_no_other_case_could_be_written(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    save, saved = Prediction.save, []

    def full(self: Prediction, *arguments: Any) -> Any:
        saved.append(self.case)
        if self.case == "b":
            raise ResourceError("cannot be written: no space") from OSError(number, "no space")
        return save(self, *arguments)

    monkeypatch.setattr(Prediction, "save", full)
    with pytest.raises(ResourceError, match="no space"):
        predict_batch(predictor, scans, tmp_path / "out")
    assert saved == ["a", "b"]
    assert names(tmp_path / "out") == {"a.nii.gz", "a.json"}


def test_a_scan_too_large_beside_others_is_tried_again_alone(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, tries = Predictor.read, []

    def short(self: Predictor, source: Any, *arguments: Any) -> Any:
        tries.append(Path(source).name[0])
        if tries.count(tries[-1]) == 1 and tries[-1] in "ac":
            raise ResourceError("memory is too small")
        if tries[-1] == "c":
            raise MemoryError
        return read(self, source, *arguments)

    monkeypatch.setattr(Predictor, "read", short)
    batch = predict_batch(predictor, scans, tmp_path / "out")
    assert tries == ["a", "b", "c", "d", "a", "c"]
    assert statuses(batch.report) == {"a": "done", "b": "done", "c": "failed", "d": "done"}
    assert batch.report["cases"][2]["exit_code"] == 6


def test_steps_overlap_and_at_most_three_items_are_held() -> None:
    held, most, threads = set(), [], {}
    ahead = threading.Event()

    def read(item: int) -> int:
        held.add(item)
        most.append(len(held))
        threads["read"] = threading.get_ident()
        if item == 1:
            ahead.set()
        return item

    def compute(item: int) -> int:
        assert ahead.wait(5), "the next item is not read while this one is computed"
        time.sleep(0.01)
        return item

    def finish(item: int, result: Any) -> int:
        threads["write"] = threading.get_ident()
        time.sleep(0.02)
        held.discard(item)
        return int(result.result())

    assert list(run_overlapped(range(12), read, compute, finish)) == list(range(12))
    assert max(most) == 3
    assert len({*threads.values(), threading.get_ident()}) == 3


def test_an_interrupt_lets_the_case_that_is_being_written_become_whole(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, run, started = Prediction.save, Predictor.run, threading.Event()

    def slowly(self: Prediction, *arguments: Any) -> Any:
        started.set()
        time.sleep(0.2)
        return save(self, *arguments)

    def interrupted(self: Predictor, job: Any, *arguments: Any) -> Any:
        if job.case == "b":
            assert started.wait(5)
            raise KeyboardInterrupt
        return run(self, job, *arguments)

    monkeypatch.setattr(Prediction, "save", slowly)
    monkeypatch.setattr(Predictor, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_batch(predictor, scans, tmp_path / "out")
    assert names(tmp_path / "out") == {"a.nii.gz", "a.json"}


def test_resume_keeps_what_is_whole_and_does_the_rest(models: list[Path], scans: Path, tmp_path: Path) -> None:
    predictor, out = Predictor(models[0], device="cpu"), tmp_path / "out"
    first = predict_batch(predictor, scans, out)
    before = bits(out)
    (out / "a.json").unlink()  # killed between the mask and its record
    (out / "b.nii.gz").write_bytes((out / "b.nii.gz").read_bytes()[:-20])  # half a file, as others leave it
    (out / "c.json").write_text('{"case": ')
    with pytest.raises(OutputExistsError, match="Pass --continue"):
        predict_batch(predictor, scans, out)
    again = predict_batch(predictor, scans, out, resume=True)
    assert statuses(again.report) == {"a": "done", "b": "done", "c": "done", "d": "kept"}
    after = bits(out)
    assert {name: content for name, (_, content) in after.items() if name.endswith("gz")} == {
        name: content for name, (_, content) in before.items() if name.endswith("gz")
    }
    assert {name for name in after if after[name] == before[name]} == {"d.nii.gz", "d.json"}
    assert [case["volumes_ml"] for case in again.report["cases"]] == [
        case["volumes_ml"] for case in first.report["cases"]
    ]


def test_resume_does_a_scan_again_that_has_changed(models: list[Path], scans: Path, tmp_path: Path) -> None:
    predictor = Predictor(models[0], device="cpu")
    predict_batch(predictor, scans, tmp_path / "out")
    (scans / "b.nii.gz").write_bytes((scans / "c.nii.gz").read_bytes())
    again = predict_batch(predictor, scans, tmp_path / "out", resume=True)
    assert [name for name, status in statuses(again.report).items() if status == "done"] == ["b"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": 1}, "by another model"),
        ({"card": {"classes": ["background", "b"]}}, "by the same weights, with another card"),
        ({"crop": True}, r"with other options: crop False \(now True\)"),
    ],
)
def test_resume_refuses_cases_of_another_model_or_other_options(
    models: list[Path], scans: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    out = tmp_path / "out"
    predict_batch(Predictor(models[0], device="cpu"), scans / "a.nii.gz", out)
    before = bits(out)
    other = Predictor(models[change.pop("model", 0)], device="cpu", **change)
    with pytest.raises(OutputExistsError, match=rf"a\.json: was made {words}.*--overwrite"):
        predict_batch(other, scans, out, resume=True)
    assert bits(out) == before
    again = predict_batch(other, scans, out, resume=True, overwrite=True)
    assert set(statuses(again.report).values()) == {"done"}


def test_resume_keeps_cases_whose_records_say_less(models: list[Path], scans: Path, tmp_path: Path) -> None:
    predictor = Predictor(models[0], device="cpu", precision="float32")
    predict_batch(predictor, scans / "a.nii.gz", tmp_path / "out")
    file = tmp_path / "out" / "a.json"
    record = json.loads(file.read_text())
    options = record["run"]["made_from"]["options"]
    assert (options["precision"], options.pop("compiled")) == ("float32", False)
    options["precision"] = "torch.float32"
    file.write_text(json.dumps(record))
    again = predict_batch(predictor, scans / "a.nii.gz", tmp_path / "out", resume=True)
    assert statuses(again.report) == {"a": "kept"}
    other = Predictor(models[0], device="cpu", precision="bfloat16")
    with pytest.raises(OutputExistsError, match=r"with other options: precision float32 \(now bfloat16\)"):
        predict_batch(other, scans / "a.nii.gz", tmp_path / "out", resume=True)


def test_resume_needs_a_model_that_can_be_told_from_others(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no checksum"):
        predict_batch(predictor, scans, tmp_path / "out", resume=True)


def test_resume_replaces_no_mask_in_a_folder_without_records(models: list[Path], scans: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"drawn by hand")
    with pytest.raises(OutputExistsError):
        predict_batch(Predictor(models[0], device="cpu"), scans, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == b"drawn by hand"


def test_what_was_cut_short_is_seen(scan: Callable[..., Path], tmp_path: Path) -> None:
    whole = scan("a.nii.gz", shape=(30, 30, 30))  # longer than what is read at once
    content = whole.read_bytes()
    assert is_whole(whole)
    for length in (0, 5, len(content) // 2, len(content) - 1):
        whole.write_bytes(content[:length])
        assert not is_whole(whole), length
    assert not is_whole(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("name", ["report", "labels"])
def test_a06_a_scan_may_not_take_the_name_of_a_file_of_the_batch(
    predictor: Predictor, scan: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match=rf"would be written over {name}\.json"):
        predict_batch(predictor, scan(f"{name}.nii.gz"), tmp_path / "out")


def test_a06_two_scans_may_not_meet_in_one_output(
    predictor: Predictor, scan: Callable[..., Path], tmp_path: Path
) -> None:
    files = [scan("a.nii.gz"), scan("a_probabilities.nii.gz")]
    with pytest.raises(UsageError, match=r"would both be written as .*a_probabilities\.nii\.gz"):
        predict_batch(predictor, files, tmp_path / "out", extras={"probabilities": True})


def test_probabilities_are_written_if_asked(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    predict_batch(predictor, scans / "a.nii.gz", tmp_path / "out", extras=Extras(probabilities=True))
    assert nib.load(tmp_path / "out" / "a_probabilities.nii.gz").shape == (6, 5, 4, 3)


def test_masks_under_bids_names(predictor: Predictor, scan: Callable[..., Path], tmp_path: Path) -> None:
    files = [scan(f"sub-0{number}_ses-2_T1w.nii.gz") for number in (1, 2)]
    batch = predict_batch(predictor, files, tmp_path / "out", extras={"bids": True})
    found = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*") if path.is_file()
    }
    stems = [f"sub-0{number}/ses-2/anat/sub-0{number}_ses-2_dseg" for number in (1, 2)]
    assert {f"{stem}{end}" for stem in stems for end in (".nii.gz", ".json")} < found
    assert {"dataset_description.json", "dseg.tsv", "report.json"} < found
    assert [case["outputs"][0] for case in batch.report["cases"]] == [f"{stem}.nii.gz" for stem in stems]
    assert (tmp_path / "out" / "dseg.tsv").read_text().splitlines()[:2] == ["index\tname", "0\tclass_0"]
    with pytest.raises(UsageError, match="not named as in BIDS"):
        bids_scan(Scan("T1w", (Path("T1w.nii.gz"),)))
    twice = [files[0], scan("sub-01_ses-2_T2w.nii.gz")]
    with pytest.raises(UsageError, match="would both be written"):
        predict_batch(predictor, twice, tmp_path / "two", extras={"bids": True})


def test_what_a_task_has_not_is_refused(networks: Any, predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    classifier = Predictor(networks["mean"](), device="cpu", card=NONE)
    for one, extras in (
        (classifier, {"bids": True}),
        (classifier, {"probabilities": True}),
        (predictor, {"cam": True}),
    ):
        with pytest.raises(UsageError, match="the model is made for"):
            predict_batch(one, scans, tmp_path / "out", extras=extras)
    assert not (tmp_path / "out").exists()


def test_a_classifiers_activation_lies_on_the_scans_grid(scans: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mt.create_model("resnet10", 1, 2, **TINY)
    batch = predict_batch(Predictor(model, device="cpu"), scans, tmp_path / "out", extras={"cam": True})
    assert batch.report["cases"][0]["outputs"] == ["a_cam.nii.gz", "a.json"]
    assert sum(batch.report["cases"][0]["probabilities"].values()) == pytest.approx(1)
    volume = nib.load(tmp_path / "out" / "a_cam.nii.gz")
    assert volume.shape == (6, 5, 4)
    np.testing.assert_array_equal(volume.affine, nib.load(scans / "a.nii.gz").affine)


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM])
def test_e21_a_file_system_that_cannot_rename_leaves_the_older_mask(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    out = tmp_path / "out"
    predict_batch(predictor, scans / "a.nii.gz", out)
    before = bits(out)

    def refuse(source: Any, target: Any) -> None:
        raise OSError(error, "no renaming here")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(ResourceError, match=r"a\.nii\.gz: cannot be written: no renaming here"):
        predict_batch(predictor, scans / "a.nii.gz", out, overwrite=True)
    assert bits(out) == before
    assert not [name for name in names(out) if "part" in name]


def test_i35_names_that_are_no_text_are_written_and_kept(models: list[Path], scans: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"sur\xff.nii.gz")
    (scans / "a.nii.gz").rename(scans / name)
    predictor = Predictor(models[0], device="cpu")
    batch = predict_batch(predictor, scans, tmp_path / "out")
    assert batch.report["done"] == 4
    assert json.loads((tmp_path / "out" / "report.json").read_text())["cases"][3]["case"] == "sur\\udcff"
    again = predict_batch(predictor, scans, tmp_path / "out", resume=True)
    assert set(statuses(again.report).values()) == {"kept"}


def test_i36_links_in_a_circle_and_folders_that_cannot_be_read_are_refused(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.nii.gz").symlink_to("a.nii.gz")
    with pytest.raises(VolumeError, match="symbolic links"):
        predict_batch(predictor, tmp_path / "a.nii.gz", tmp_path / "out")
    (tmp_path / "nul.txt").write_bytes(b"a\0.nii.gz\n")
    with pytest.raises(VolumeError, match="not text"):
        predict_batch(predictor, tmp_path / "nul.txt", tmp_path / "out")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(VolumeError, match="folder that cannot be read"):
        predict_batch(predictor, tmp_path, tmp_path / "out")


def test_e11_names_too_long_for_the_file_system_are_refused(
    predictor: Predictor, scan: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        predict_batch(predictor, scan(), tmp_path / ("x" * 300))
    long = scan(f"{'L' * 240}.nii.gz")
    extras = Extras(probabilities=True, formats=("seg.nrrd",))
    batch = predict_batch(predictor, [long, scan()], tmp_path / "out", extras=extras)
    assert [case.get("exit_code") for case in batch.report["cases"]] == [6, None]
    assert not list((tmp_path / "out").glob("LL*"))


def test_a_scan_given_twice_is_called_so(predictor: Predictor, scan: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is given twice"):
        predict_batch(predictor, [scan(), scan()], tmp_path / "out")
    with pytest.raises(UsageError, match="named twice"):
        predict_batch(predictor, scan(), tmp_path / "out", extras={"formats": ("seg.nrrd", "seg.nrrd")})


def test_an_activation_that_cannot_be_had_is_refused_before_any_case(
    networks: Any, scans: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="classifier of the zoo"):
        predict_batch(Predictor(networks["mean"](), device="cpu"), scans, tmp_path / "out", extras={"cam": True})
