"""Tables for segmentation, channels by column, classes, and all problems at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtransfer.data.class_names import find_class_names, with_classes
from medtransfer.data.dataset import LayoutDataset
from medtransfer.data.layouts import find_layout
from medtransfer.data.table import find_table
from medtransfer.errors import DatasetError

from .conftest import as_table

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def start(text: str, files: str = "abcdm", ending: str = ".nii") -> Path:
        for name in files:
            (tmp_path / f"{name}{ending}").touch()
        (tmp_path / "table.csv").write_text(text)
        return tmp_path / "table.csv"

    return start


def test_d09_labels_that_are_files_make_a_segmentation(write: Write) -> None:
    layout = find_table(
        write("\ufeffimage;label;patient;split\r\na.nii;b.nii;p1;train\r\n;;;\r\nc.nii;d.nii;p2;val\r\n")
    ).checked()
    assert (layout.task, layout.classes, layout.channels) == ("segmentation", (), ("image",))
    assert [(case.patient, case.part) for case in layout.cases] == [("p1", "train"), ("p2", "val")]
    assert [Path(str(case.label)).name for case in layout.cases] == ["b.nii", "d.nii"]


@pytest.mark.parametrize(
    "header, channels",
    [
        ("image_t1,image_flair", ("t1", "flair")),
        ("image-t1,image", ("image", "t1")),
        ("image3,image", ("image", "image3")),
    ],
)
def test_columns_name_the_channels(write: Write, header: str, channels: tuple[str, ...]) -> None:
    layout = find_table(write(f"{header},label\na.nii,b.nii,m.nii\n")).checked()
    columns = header.split(",")
    files = ["a.nii" if columns[0].endswith(name) else "b.nii" for name in channels[:1]]
    assert layout.channels == channels
    assert [file.name for file in layout.cases[0].images][: len(files)] == files


def test_channels_and_classes_may_be_given(write: Write) -> None:
    path = write("image,label\na.nii,m.nii\n")
    layout = find_table(
        path, channels=["T1", "T2"], classes=["background", "liver"]
    ).checked()  # one column of 4-D files
    assert (layout.channels, layout.classes) == (("T1", "T2"), ("background", "liver"))
    path = write("image,image2,label\na.nii,b.nii,m.nii\n")
    assert find_table(path, channels=["T1"]).problems == (
        "1 channels are named, but there are 2 columns: image, image2",
    )


def test_d09_l12_all_wrong_rows_are_named_by_line_and_the_others_used(write: Write) -> None:
    rows = ["image,label,split", "a.nii,m.nii,train", ",b.nii,val", "x.nii,y.nii,train", "b.nii,sick,train"]
    rows += ["c.nii,c.nii,train", "d.nii,m.nii,mine", "d.nii,m.nii,val,more", "d.nii,m.nii,"]
    found = find_table(write("\n".join(rows)))
    assert found.problems == (
        "line 8 has 4 cells, the header 3",
        "line 3: image is empty",
        "line 4: 'x.nii' does not exist",
        "line 4: 'y.nii' does not exist",
        "line 5: label 'sick' is no file, as labels of other rows are",
        "line 6: 'c.nii' is the image and its label",
        "line 7: split 'mine' is not train, val or test",
        "the case 'd' occurs twice",
    )
    assert [case.id for case in found.layout.cases] == ["a", "d"]  # type: ignore[union-attr]


def test_l12_a_class_that_nobody_named_is_refused_by_line(write: Write) -> None:
    found = find_table(write("image,label\na.nii,sick\nb.nii,wel\nc.nii,well\n"), classes=["well", "sick"])
    assert found.problems == ("line 3: label 'wel' is none of the classes well, sick",)
    assert [case.label for case in found.layout.cases] == [1, 0]  # type: ignore[union-attr]
    assert found.warnings == ("class 'well' has one case only", "class 'sick' has one case only")


@pytest.mark.parametrize("text", ["image,label\n", "", "\n\n"])
def test_d06_a_table_without_rows(write: Write, text: str) -> None:
    assert find_table(write(text)).problems == ("holds no case",)


def test_a_column_that_is_there_twice(write: Write) -> None:
    assert find_table(write("image,label,label\na.nii,1,2\n")).problems[0] == "column label is there twice"


def test_an_image_may_be_a_folder_of_a_series(write: Write, tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    assert find_table(write("image,label\nseries,m.nii\n")).checked().cases[0].id == "series"


@pytest.mark.parametrize(
    "document, names",
    [
        ({"0": "air", "1": "liver"}, ("air", "liver")),
        ({"1": "liver"}, ("background", "liver")),
        ({"background": 0, "spleen": 2, "liver": 1}, ("background", "liver", "spleen")),
        ({"1": {"name": "liver", "voxels": 7}}, ("background", "liver")),
        (["background", "liver"], ("background", "liver")),
    ],
)
def test_labels_json_names_the_classes(tmp_path: Path, document: Any, names: tuple[str, ...]) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(document))
    problems: list[str] = []
    assert find_class_names(tmp_path, problems) == names
    assert problems == []


@pytest.mark.parametrize("text", ["{", "3", '{"1": 2.5}', '{"1": {"voxels": 3}}', '{"2": "liver"}'])
def test_a_wrong_labels_json_is_a_problem(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    problems: list[str] = []
    find_class_names(tmp_path, problems)
    assert len(problems) == 1
    assert "labels.json" in problems[0]


def test_classes_that_nobody_names_are_counted(write_cases: Any, tmp_path: Path) -> None:
    root = as_table(tmp_path / "t", write_cases(2), [])
    (root / "labels.json").unlink()
    layout = find_layout(root).checked()
    assert layout.classes == ()
    measured = with_classes(layout)
    assert measured.classes == ("background", "1", "2")
    assert measured.warnings == ("no file names the classes: 3 were counted; a labels.json would name them",)
    assert LayoutDataset(root, split={"val": 0}).layout.classes == ("background", "1", "2")
    assert LayoutDataset(root, split={"val": 0}, classes=["a", "b", "c"]).layout.classes == ("a", "b", "c")


def test_numbers_that_no_class_can_have_are_refused(tmp_path: Path) -> None:
    import numpy as np

    from .conftest import write_volume

    write_volume(tmp_path / "a.nii", np.ones((4, 4, 4), np.float32))
    write_volume(tmp_path / "m.nii", np.full((4, 4, 4), 65535, np.uint16))
    (tmp_path / "t.csv").write_text("image,label\na.nii,m.nii\n")
    with pytest.raises(DatasetError, match="case a: the label 65535 cannot be the number of a class"):
        LayoutDataset(tmp_path)
