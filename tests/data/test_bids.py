"""BIDS: names, channels by suffix, labels in derivatives, several runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtransfer.data.bids import derivative_name, find_bids
from medtransfer.data.bids_names import parse_name
from medtransfer.data.layouts import find_layout
from medtransfer.data.scans import read_scans
from medtransfer.errors import DatasetError

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Make empty files: ``01/anat/run-1_T1w`` is ``sub-01/anat/sub-01_run-1_T1w.nii.gz``, ``man:`` a derivative's."""

    def start(*names: str) -> Path:
        for name in names:
            pipeline, _, rest = name.rpartition(":")
            subject, *folders, last = rest.split("/")
            sessions = [folder for folder in folders if folder.startswith("ses-")]
            file = "_".join([f"sub-{subject}", *sessions, last]) + ".nii.gz"
            root = tmp_path / "derivatives" / pipeline if pipeline else tmp_path
            path = root.joinpath(f"sub-{subject}", *folders, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / "dataset_description.json").write_text("{}")
        return tmp_path

    return start


def test_subjects_and_sessions_are_cases_and_suffixes_channels(touch: Touch) -> None:
    scans = [f"01/ses-{session}/anat/{suffix}" for session in "12" for suffix in ("T1w", "FLAIR")]
    root = touch(*scans, *(f"man:01/ses-{session}/anat/desc-manual_dseg" for session in "12"))
    touch("01/ses-1/func/task-rest_bold", "man:01/ses-1/anat/desc-brain_mask")
    layout = find_bids(root, channels=["T1w", "FLAIR"], classes=["background", "a"], select={"ses": 1}).checked()
    assert [(case.id, case.patient) for case in layout.cases] == [("sub-01_ses-1", "sub-01")]
    found = find_bids(touch("02/ct/ct"))
    assert found.layout is not None
    assert (found.layout.channels, found.layout.classes) == (("FLAIR", "T1w"), ())
    assert [case.id for case in found.layout.cases] == ["sub-01_ses-1", "sub-01_ses-2"]
    assert [case.patient for case in found.layout.cases] == ["sub-01", "sub-01"]
    assert [file.name for file in layout.cases[0].images] == [
        "sub-01_ses-1_T1w.nii.gz",
        "sub-01_ses-1_FLAIR.nii.gz",
    ]
    assert found.problems == ("sub-02: FLAIR is missing", "sub-02: T1w is missing", "sub-02: its label is missing")
    assert found.warnings == ("ct is left out: 1 of 3 cases have it",)


def test_d10_two_runs_are_listed_and_one_is_chosen(touch: Touch) -> None:
    runs = [f"01/anat/run-{run}_T1w" for run in (1, 2)]
    root = touch(*runs, "01/anat/FLAIR", *(f"man:01/anat/run-0{run}_dseg" for run in (1, 2)))
    with pytest.raises(DatasetError) as raised:
        find_bids(root).checked()
    folder = "sub-01/anat/sub-01"
    assert raised.value.problems == (
        f"sub-01: T1w is one of 2 files: {folder}_run-1_T1w.nii.gz, {folder}_run-2_T1w.nii.gz",
        f"sub-01: its label is one of 2 files: "
        f"derivatives/man/{folder}_run-01_dseg.nii.gz, derivatives/man/{folder}_run-02_dseg.nii.gz",
    )
    assert "select.run=1" in str(raised.value)
    (case,) = find_layout(root, select={"run": 2}).checked().cases
    assert [file.name for file in case.images] == ["sub-01_FLAIR.nii.gz", "sub-01_run-2_T1w.nii.gz"]
    assert Path(str(case.label)).name == "sub-01_run-02_dseg.nii.gz"


def test_a_label_goes_with_the_scan_it_was_drawn_on(touch: Touch) -> None:
    root = touch("01/anat/acq-a_T1w", "01/anat/acq-b_T1w", "man:01/anat/acq-a_dseg", "man:01/anat/acq-b_dseg")
    (case,) = find_bids(root, channels=["acq-b_T1w"]).checked().cases
    assert (case.images[0].name, Path(str(case.label)).name) == ("sub-01_acq-b_T1w.nii.gz", "sub-01_acq-b_dseg.nii.gz")


def test_d10_two_pipelines_are_listed_and_one_is_chosen(touch: Touch) -> None:
    root = touch("01/anat/T1w", "a:01/anat/dseg", "b:01/anat/dseg")
    assert "derivatives/a/sub-01/anat/sub-01_dseg.nii.gz, derivatives/b/" in find_bids(root).problems[0]
    label = find_bids(root, select={"pipeline": "b"}).checked().cases[0].label
    assert Path(str(label)).parts[-4] == "b"


def test_an_entity_may_be_excluded(touch: Touch) -> None:
    root = touch("01/anat/T1w", "01/anat/acq-a_T1w", "man:01/anat/dseg")
    assert find_bids(root, select={"acq": None}).checked().cases[0].images[0].name == "sub-01_T1w.nii.gz"


def test_classes_are_named_by_the_lookup_table(touch: Touch) -> None:
    root = touch("01/anat/T1w", "man:01/anat/dseg")
    table = root / "derivatives" / "man" / "desc-aseg_dseg.tsv"
    table.write_text("index\tname\tcolor\n1\tliver\t#fff\n2\tspleen\t#000\n")
    assert find_bids(root).checked().classes == ("background", "liver", "spleen")
    table.write_text("index\tname\n1\tliver\n4\tspleen\n")
    with pytest.raises(DatasetError, match=r"desc-aseg_dseg\.tsv' must be 0, 1, 2 .*got 0, 1, 4"):
        find_bids(root).checked()
    table.write_text("id\tname\n1\tliver\n")
    with pytest.raises(DatasetError, match="columns index and name are needed"):
        find_bids(root).checked()


def test_without_labels_there_are_scans(touch: Touch) -> None:
    found = find_layout(touch("01/anat/T1w", "02/anat/T1w"))
    assert (found.kind, found.checked().task, found.checked().classes) == ("bids", "restoration", ("T1w",))
    assert "no label" in found.warnings[0]


def test_d06_a_folder_of_subjects_without_scans(touch: Touch) -> None:
    root = touch("01/func/task-rest_bold")
    assert find_layout(root).problems == ("holds no scan of structure in sub-*",)
    touch("01/anat/run-1_T1w")
    assert find_layout(root, select={"run": 2}).problems == ("holds no scan of structure in sub-* that is selected",)


def test_masks_of_derivatives_are_no_scans_to_restore(touch: Touch) -> None:
    assert [case.id for case in read_scans(touch("01/anat/T1w", "man:01/anat/dseg")).cases] == [
        "sub-01/anat/sub-01_T1w"
    ]


@pytest.mark.parametrize(
    "source, name",
    [
        ("sub-01_T1w.nii.gz", "sub-01_desc-medtransfer_dseg"),
        (
            "in/sub-01/ses-1/anat/sub-01_ses-1_acq-hires_run-2_T1w.nii",
            "sub-01_ses-1_acq-hires_run-2_desc-medtransfer_dseg",
        ),
        ("sub-01_space-MNI152_desc-preproc_T1w.nii.gz", "sub-01_space-MNI152_desc-medtransfer_dseg"),
        (["sub-01_run-1_T1w.nii.gz", "sub-01_run-1_FLAIR.nii.gz"], "sub-01_run-1_desc-medtransfer_dseg"),
        (Path("sub-ct_label-22_ct.nrrd"), "sub-ct_label-22_desc-medtransfer_dseg"),
    ],
)
def test_outputs_are_named_as_derivatives(source: Any, name: str) -> None:
    assert derivative_name(source) == name
    parsed = parse_name(f"{name}.nii.gz")
    assert parsed is not None
    assert parsed.suffix == "dseg"
    assert derivative_name(f"{name}.nii.gz") == name


def test_derivatives_of_other_kinds_are_named_too() -> None:
    assert derivative_name("sub-1_ct.nii", desc="liver", suffix="probseg") == "sub-1_desc-liver_probseg"
    with pytest.raises(DatasetError, match="letters and digits, got 'my-model'"):
        derivative_name("sub-1_ct.nii", desc="my-model")


@pytest.mark.parametrize(
    "source, said",
    [
        ("scan.nii.gz", "not named as BIDS demands"),
        ("ses-1_sub-01_T1w.nii.gz", "not named as BIDS demands"),
        ("sub-01_T1w_final.nii.gz", "not named as BIDS demands"),
        (["sub-01_T1w.nii", "sub-02_T1w.nii"], "one subject and session, got sub-01, sub-02"),
    ],
)
def test_other_names_are_refused(source: Any, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        derivative_name(source)
