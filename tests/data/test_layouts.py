"""Decathlon folders and tables: what is read, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtransfer.data.decathlon import find_decathlon
from medtransfer.data.table import find_table
from medtransfer.errors import DatasetError

Write = Callable[..., Path]
REAL = Path(__file__).parents[3] / "shared" / "data" / "Task04_Hippocampus"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a Decathlon folder of empty files, with changes to its dataset.json."""

    def start(cases: int = 3, **changes: Any) -> Path:
        entries = [{"image": f"./imagesTr/c{n}.nii.gz", "label": f"./labelsTr/c{n}.nii.gz"} for n in range(cases)]
        for entry in entries:
            for name in entry.values():
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).touch()
        listing = {
            "modality": {"0": "T1", "1": "T2"},
            "labels": {"0": "background", "1": "liver"},
            "numTraining": cases,
            "training": entries,
            **changes,
        }
        kept = {key: value for key, value in listing.items() if value is not None}
        (tmp_path / "dataset.json").write_text(json.dumps(kept))
        return tmp_path

    return start


def test_a_decathlon_folder_gives_cases_channels_and_classes(write: Write) -> None:
    layout = find_decathlon(write()).checked()
    assert [case.id for case in layout.cases] == ["c0", "c1", "c2"]
    assert (layout.channels, layout.classes) == (("T1", "T2"), ("background", "liver"))
    assert layout.task == "segmentation"
    assert find_decathlon(layout.path).checked() == layout  # the file itself may be named too


@pytest.mark.skipif(not REAL.exists(), reason="the hippocampus data are not here")
def test_the_real_hippocampus_is_read() -> None:
    layout = find_decathlon(REAL).checked()
    assert len(layout.cases) == 200
    assert layout.classes == ("background", "Anterior", "Posterior")
    assert layout.warnings == ()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"modality": None}, "missing required field `modality`"),
        ({"labels": None}, "missing required field `labels`"),
        ({"training": None}, "missing required field `training`"),
        ({"training": []}, "lists no training case"),
        ({"numTraining": 7}, "numTraining is 7, but 'training' lists 3 cases"),
        ({"labels": {"0": "a", "2": "b"}}, "the numbers of 'labels' must be 0, 1, 2"),
        ({"training": [{"image": 3}]}, r"Expected `str`, got `int` - at `\$.training\[0\].image`"),
    ],
)
def test_d01_a_wrong_dataset_json_is_refused_by_field(write: Write, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said) as raised:
        find_decathlon(write(**changes)).checked()
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    "text, said", [(None, "no such file"), ("{", "is not a Decathlon dataset.json"), ("", "is not")]
)
def test_d01_a_missing_or_broken_dataset_json(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=said):
        find_decathlon(tmp_path).checked()


def test_d02_missing_files_are_all_named_and_extra_ones_warned_of(write: Write) -> None:
    root = write()
    (root / "imagesTr" / "extra.nii.gz").touch()
    assert [text.split("/")[-1] for text in find_decathlon(root).checked().warnings] == [
        "extra.nii.gz is not listed in dataset.json"
    ]
    (root / "imagesTr" / "c0.nii.gz").unlink()
    (root / "labelsTr" / "c2.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"imagesTr/c0.* missing; .*labelsTr/c2.* missing"):
        find_decathlon(root).checked()


def test_d03_a_case_listed_twice(write: Write) -> None:
    twice = {"image": "./imagesTr/c0.nii.gz", "label": "./labelsTr/c0.nii.gz"}
    with pytest.raises(DatasetError, match="'c0' is listed twice"):
        find_decathlon(write(training=[twice, twice], numTraining=2)).checked()


@pytest.mark.parametrize("name", ["../c0.nii.gz", "imagesTr/../../c0.nii.gz", "/etc/passwd"])
def test_d05_a_path_that_leads_out_is_refused(write: Write, name: str) -> None:
    entry = {"image": name, "label": "./labelsTr/c0.nii.gz"}
    with pytest.raises(DatasetError, match="leads out of the dataset's folder"):
        find_decathlon(write(training=[entry], numTraining=1)).checked()


def test_d08_files_of_macos_are_ignored(write: Write) -> None:
    root = write()
    (root / "imagesTr" / "._c0.nii.gz").touch()
    listing = json.loads((root / "dataset.json").read_text())
    listing["training"].append({"image": "./imagesTr/._c0.nii.gz", "label": "./labelsTr/._c0.nii.gz"})
    listing["numTraining"] = 4
    (root / "dataset.json").write_text(json.dumps(listing))
    layout = find_decathlon(root).checked()
    assert (len(layout.cases), layout.warnings) == (3, ())


def write_table(folder: Path, text: str, files: str = "abcd") -> Path:
    for name in files:
        (folder / f"{name}.nii").touch()
    (folder / "table.csv").write_bytes(text.encode())
    return folder / "table.csv"


@pytest.mark.parametrize(
    "text",
    [
        "image,label,patient,split\na.nii,sick,p1,train\nb.nii,well,p2,val\n",
        "\ufeffimage,label,patient,split\r\na.nii,sick,p1,train\r\n\r\n  \r\nb.nii,well,p2,val\r\n",
        "image;label;patient;split\na.nii;sick;p1;train\n;;;\nb.nii;well;p2;val",
        "Image\tLabel\tPatient\tSplit\na.nii\tsick\tp1\tTrain\nb.nii\t well \tp2\tval",
    ],
)
def test_d09_bom_semicolons_crlf_and_blank_rows_are_understood(tmp_path: Path, text: str) -> None:
    layout = find_table(write_table(tmp_path, text)).checked()
    assert [(case.id, case.label, case.patient, case.part) for case in layout.cases] == [
        ("a", 0, "p1", "train"),
        ("b", 1, "p2", "val"),
    ]
    assert layout.classes == ("sick", "well")
    assert layout.warnings == ("class 'sick' has one case only", "class 'well' has one case only")


def test_channel_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    layout = find_table(write_table(tmp_path, "image2,label,image\nb.nii,1,a.nii\nd.nii,10,c.nii\n")).checked()
    assert [file.name for file in layout.cases[0].images] == ["a.nii", "b.nii"]
    assert layout.channels == ("image", "image2")
    assert layout.classes == ("1", "10")


@pytest.mark.parametrize(
    "text, said",
    [
        ("picture,label\na.nii,1\n", "column image is missing, found picture, label"),
        ("image\na.nii\n", "column label is missing"),
        ("image,label\na.nii,\nx.nii,1\n", "line 2: label is empty; line 3: 'x.nii' does not exist"),
        ("image,label\na.nii,0.5\n", "line 2: label 0.5 is a fraction"),
        ("image,label\na.nii,1\na.nii,2\n", "'a' occurs twice"),
        ("image,label\n", "holds no case"),
        ("", "holds no case"),
    ],
)
def test_d09_l12_a_wrong_table_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        find_table(write_table(tmp_path, text)).checked()


def test_d09_a_table_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"image,label\n\xff.nii,1\n")
    with pytest.raises(DatasetError, match="not UTF-8 at byte 12"):
        find_table(tmp_path / "table.csv").checked()
