"""What is not a problem, and what is measured of every case."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtransfer.checking import exam, run
from medtransfer.checking.checkup import Checkup
from medtransfer.checking.facts import Problem
from medtransfer.checking.measure import intensities, label_counts, voxel_hash
from medtransfer.checking.run import check
from medtransfer.errors import UsageError
from medtransfer.volumes.grid import Grid
from tests.checking.conftest import SHAPE, Dataset, mask, rules, save, scan, texts

Make = Callable[..., Dataset]


def test_a_sound_dataset_has_no_problem(make_dataset: Make) -> None:
    data = make_dataset()
    checkup = check(data.root)
    assert (checkup.ok, checkup.problems, checkup.task, checkup.classes) == (
        True,
        (),
        "segmentation",
        ("background", "head", "tail"),
    )
    assert [facts.case for facts in checkup.cases] == data.names
    assert checkup.notes == ("no patients are stated: each case counts as one patient",)
    assert "6 cases, channel MRI" in str(checkup)
    assert "12 x 11 x 10 voxels of 1 x 1.5 x 2 mm, RAS" in str(checkup)
    assert str(checkup).endswith("no problem was found")


def test_the_facts_of_a_case_are_those_of_its_files(make_dataset: Make) -> None:
    data = make_dataset(2)
    facts = check(data.root).to_dict()["cases"][1]
    image, labels = scan(1), mask(1)
    assert (facts["shape"], facts["spacing_mm"], facts["orientation"]) == ([12, 11, 10], [1.0, 1.5, 2.0], "RAS")
    low, median, high = np.percentile(image, (0.5, 50, 99.5))
    wanted = [image.min(), low, median, high, image.max(), image.mean(dtype=float), image.std(dtype=float)]
    assert list(facts["intensities"]["MRI"].values()) == pytest.approx(wanted, rel=1e-6)
    voxels = int((labels == 1).sum())
    assert facts["labels"]["head"] == {"voxels": voxels, "ml": pytest.approx(voxels * 3 / 1000)}
    assert facts["bytes"] == data.image("c01").stat().st_size + data.label("c01").stat().st_size
    json.dumps(facts)


def test_measures_of_many_chunks_equal_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = scan(3), mask(3).astype(np.int32)
    labels[0, 0, 0] = -7
    whole = intensities(image), label_counts(labels)
    monkeypatch.setattr("medtransfer.checking.measure._CHUNK", 100)
    parts = intensities(image), label_counts(labels)
    assert parts[0].mean == pytest.approx(whole[0].mean, rel=1e-12)
    assert parts[0].std == pytest.approx(whole[0].std, rel=1e-12)
    assert parts[1] == whole[1]
    assert sum(whole[1].values()) == labels.size


def test_percentiles_of_a_large_volume_come_from_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtransfer.checking.measure.PERCENTILE_VOXELS", 200)
    measured, image = intensities(np.asfortranarray(scan(3))), scan(3)
    assert measured.median == pytest.approx(float(np.median(image)), abs=10)
    assert (measured.min, measured.max) == (image.min(), image.max())


def test_the_part_of_a_large_volume_falls_on_all_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtransfer.checking.measure.PERCENTILE_VOXELS", 512)
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32)[:, None, None], (32, 32, 16))
    measured = intensities(np.asfortranarray(ramp))
    assert (measured.low, measured.high) == (pytest.approx(0, abs=1), pytest.approx(31, abs=1))


def test_the_hash_knows_a_scan_in_every_order_of_axes_and_no_other() -> None:
    image = scan(0)
    first = voxel_hash(image, Grid(SHAPE, np.eye(4)))
    for code in ("LPS", "PIR", "SAL"):
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code)
        )
        turned = nib.orientations.apply_orientation(image, turn)
        affine = np.eye(4) @ nib.orientations.inv_ornt_aff(turn, image.shape)
        assert voxel_hash(turned, Grid(turned.shape, affine)) == first
    assert voxel_hash(image[::-1], Grid(SHAPE, np.eye(4))) != first
    image[5, 5, 5] += 1
    assert voxel_hash(image, Grid(SHAPE, np.eye(4))) != first


def test_orientations_and_handedness_are_notes(make_dataset: Make) -> None:
    data = make_dataset()
    left = np.diag([-1.0, 1.5, 2.0, 1.0])
    save(data.image("c01"), scan(1), left)
    save(data.label("c01"), mask(1), left)
    checkup = check(data.root)
    assert checkup.problems == ()
    assert "orientations are mixed (RAS 5, LAS 1)" in checkup.notes[0]
    assert "1 of 6 scans are stored left-handed (LAS)" in checkup.notes[1]


def test_no_more_cases_are_under_way_than_workers(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = make_dataset(5), []
    honest = run.examine

    def counting(case, layout):
        seen.append(case.id)
        return honest(case, layout)

    monkeypatch.setattr(run, "examine", counting)
    moves: list[tuple[int, int]] = []
    one = check(data.root, workers=1, progress=lambda *move: moves.append(move))
    assert seen == data.names
    assert moves == [(done, 5) for done in range(1, 6)]
    three = check(data.root, workers=3)
    assert three.cases[2].hashes == one.cases[2].hashes
    with pytest.raises(UsageError, match="workers must be at least 1"):
        check(data.root, workers=0)


def test_equal_words_are_said_once_and_long_lists_are_cut() -> None:
    same = [Problem("warning", "label-empty", "is empty", f"c{number}") for number in range(6)]
    other = [Problem("warning", "size", f"{number} voxels", f"c{number}", Path("x.nii")) for number in range(11)]
    text = str(Checkup(Path("data"), "segmentation", problems=(*same, *other)))
    assert "  c0, c1, c2, c3 and 2 more: is empty" in text
    assert "  c7 (x.nii): 7 voxels\n  ... and 3 more" in text
    assert "c8" not in text


def test_an_interrupt_is_not_kept_waiting(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = make_dataset(12), []
    honest = run.examine

    def counting(case, layout):
        seen.append(case.id)
        return honest(case, layout)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "examine", counting)
    with pytest.raises(KeyboardInterrupt):
        check(data.root, workers=2, progress=interrupt)
    assert len(seen) <= 3


def test_scans_are_let_go_of_before_the_next_cases(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data, volumes, alive = make_dataset(8), [], []
    honest = exam.read_volume

    def followed(source, **more):
        volume = honest(source, **more)
        volumes.append(weakref.ref(volume))
        return volume

    monkeypatch.setattr(exam, "read_volume", followed)
    check(data.root, workers=1, progress=lambda done, total: alive.append(sum(one() is not None for one in volumes)))
    assert len(volumes) == 8
    assert max(alive) <= 2


def test_an_error_that_nobody_thought_of_costs_one_case(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(3)
    honest = exam.read_volume

    def failing(source, **more):
        if "c01" in str(source):
            raise RuntimeError("odd")
        return honest(source, **more)

    monkeypatch.setattr(exam, "read_volume", failing)
    checkup = check(data.root)
    assert rules(checkup) == ["scan"]
    assert "unexpected RuntimeError: odd" in texts(checkup, "scan")[0]
