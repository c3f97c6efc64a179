"""Which scans are meant, and where may be written: decided before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medtransfer.cli.options import key_values
from medtransfer.cli.outputs import refuse_foreign_folder
from medtransfer.errors import OutputExistsError, UsageError, VolumeError
from medtransfer.files import refuse_inside, refuse_outputs, refuse_unusable_folder
from medtransfer.inference.scans import find_scans


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.nii.gz", "a.nii", "C.NII.GZ", "pair.hdr", "pair.img", "._a.nii", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    return tmp_path


def test_a_folder_stands_for_its_scans_in_order(folder):
    assert [scan.name for scan in find_scans([folder])] == ["C", "a", "b", "pair"]


def test_a_folder_stands_for_scans_of_other_formats_and_series_too(tmp_path):
    for name in ("a.nrrd", "b.MHD", "b.raw", "c.nhdr", "c.raw.gz", "d.mha", "e.seg.nrrd", "f.nii", "g.txt"):
        (tmp_path / name).touch()
    for name in ("anna", "notes", "anna/deeper"):
        (tmp_path / name).mkdir()
    (tmp_path / "anna" / "IM1").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes" / "list.csv").write_text("no scan")
    assert [scan.name for scan in find_scans([tmp_path])] == ["a", "anna", "b", "c", "d", "f"]
    assert find_scans([tmp_path / "anna"])[0].files == (tmp_path / "anna",)
    assert [scan.name for scan in find_scans([f"{tmp_path}/anna#1.2.3"])] == ["anna_1.2.3"]
    (tmp_path / "anna" / "deeper" / "IM1").write_bytes(bytes(128) + b"DICM")
    assert [scan.name for scan in find_scans([tmp_path / "anna"])] == ["deeper", "anna"]


def test_files_are_not_looked_at_yet():
    assert find_scans(["no/such.nii.gz"])[0].files == (Path("no/such.nii.gz"),)


def test_a06_two_inputs_of_one_name_are_refused(folder):
    (folder / "a.nii.gz").touch()
    with pytest.raises(UsageError, match=r"a\.nii and .*a\.nii\.gz would both be written as 'a'"):
        find_scans([folder])


def test_a07_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="without scans") as caught:
        find_scans([tmp_path])
    assert caught.value.exit_code == 3


def test_channel_files_are_one_case_in_channel_order(tmp_path):
    for name in ("x_0001", "x_0000", "y_0000", "y_0001", "z"):
        (tmp_path / f"{name}.nii.gz").touch()
    scans = {scan.name: [file.name for file in scan.files] for scan in find_scans([tmp_path], channels=2)}
    assert scans["x"] == ["x_0000.nii.gz", "x_0001.nii.gz"]
    assert set(scans) == {"x", "y", "z"}
    assert "x_0000" in {scan.name for scan in find_scans([tmp_path], channels=1)}


def test_names_with_odd_characters_stay(tmp_path):
    names = ["-dash", "a b", "quote'", "ünï", "line\nbreak"]
    for name in names:
        (tmp_path / f"{name}.nii").touch()
    assert {scan.name for scan in find_scans([tmp_path])} == set(names)


@pytest.mark.parametrize(
    "output, words", [("m", "is the model"), ("m/x", "is inside the model"), (".", "holds the model")]
)
def test_a04_an_output_that_touches_the_model_folder_is_refused(tmp_path, monkeypatch, output, words):
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()
    with pytest.raises(UsageError, match=words):
        refuse_inside(output, "m", "the model")
    refuse_inside("other", "m", "the model")


def test_a04_a_link_to_the_model_folder_does_not_help(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "m")
    with pytest.raises(UsageError):
        refuse_inside(tmp_path / "link" / "x", tmp_path / "m", "the model")


def test_a04_an_output_that_is_an_input_is_refused_even_with_overwrite(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(UsageError, match="would overwrite an input"):
        refuse_outputs([tmp_path / "a.nii.gz"], [tmp_path / "." / "a.nii.gz"], overwrite=True)


def test_a03_an_output_that_exists_is_refused_without_overwrite(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(OutputExistsError):
        refuse_outputs([tmp_path / "a"], [], overwrite=False)
    refuse_outputs([tmp_path / "a"], [], overwrite=True)


def test_a05_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UsageError, match="is a file"):
            refuse_unusable_folder(path)
    refuse_unusable_folder(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()


def test_a05_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="permission denied"):
        refuse_unusable_folder(tmp_path / "new")


def test_overwrite_never_deletes_a_folder_of_someone_else(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"without model\.json"):
        refuse_foreign_folder(tmp_path, "model.json", overwrite=True)
    (tmp_path / "model.json").touch()
    refuse_foreign_folder(tmp_path, "model.json", overwrite=True)
    with pytest.raises(OutputExistsError):
        refuse_foreign_folder(tmp_path, "model.json", overwrite=False)


def test_a_pair_without_equals_is_refused():
    with pytest.raises(UsageError, match="'lr' is not of the form KEY=VALUE"):
        key_values(["lr"])


def test_a_list_holds_cases_and_channel_files_beside_it(tmp_path):
    (tmp_path / "list.txt").write_text("\ufeff# T1, FLAIR\nsub/x_t1.nii\tsub/x_flair.nii\n\ny_0001.nii\ny_0000.nii\n")
    found = {scan.name: scan.files for scan in find_scans([tmp_path / "list.txt", "z.nii"], channels=2)}
    assert found == {
        "z": (Path("z.nii"),),
        "y": (tmp_path / "y_0000.nii", tmp_path / "y_0001.nii"),
        "x_t1": (tmp_path / "sub" / "x_t1.nii", tmp_path / "sub" / "x_flair.nii"),
    }


@pytest.mark.parametrize(
    "content, words", [(None, "No such file"), (b"\xff\xfe\x00", "not text"), (b"# none\n", "list without scans")]
)
def test_a07_a_list_that_names_no_scan_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(VolumeError, match=words) as caught:
        find_scans([tmp_path / "list.txt"])
    assert caught.value.exit_code == 3
