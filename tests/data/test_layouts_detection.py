"""Any layout is told by its content, and one dataset is the same in all of them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtransfer.data.cases import Layout
from medtransfer.data.dataset import DecathlonDataset, LayoutDataset, TableDataset
from medtransfer.data.layouts import find_layout, read_layout
from medtransfer.errors import DatasetError

from .conftest import LAYOUTS, as_nnunet, write_volume

Write = Callable[..., list[tuple[list[Path], Path]]]
CLASSES = ["background", "anterior", "posterior"]


def content(layout: Layout) -> tuple[Any, ...]:
    """All that a layout says, with the files behind the links and without what the cases are called."""
    cases = sorted((*(file.resolve() for file in case.images), Path(case.label).resolve()) for case in layout.cases)  # type: ignore[arg-type]
    return layout.task, layout.channels, layout.classes, cases


@pytest.mark.parametrize("channels", [1, 2])
def test_one_dataset_is_the_same_in_four_layouts(write_cases: Write, tmp_path: Path, channels: int) -> None:
    files = write_cases(3, channels)
    found = {kind: find_layout(write(tmp_path / kind, files, CLASSES)) for kind, write in LAYOUTS.items()}
    assert {kind: one.kind for kind, one in found.items()} == {kind: kind for kind in LAYOUTS}
    assert all(not one.problems and not one.warnings for one in found.values())
    contents = [content(one.checked()) for one in found.values()]
    assert len(contents[0][-1]) == 3
    assert contents == [contents[0]] * 4


def test_the_real_hippocampus_is_the_same_in_four_layouts(hippocampus: Path, tmp_path: Path) -> None:
    real = read_layout(hippocampus)
    assert len(real.cases) == 200
    files = [(list(case.images), Path(str(case.label))) for case in real.cases[:6]]
    for kind, write in LAYOUTS.items():
        layout = read_layout(
            write(tmp_path / kind, files, list(real.classes)), channels=real.channels if kind != "bids" else None
        )
        assert (
            content(layout)[2:]
            == content(Layout(real.path, real.task, real.cases[:6], real.channels, real.classes))[2:]
        )
        data = LayoutDataset(tmp_path / kind, split={"val": 2}, part="val")
        assert set(data[0]["label"].unique().tolist()) == {0, 1, 2}


def test_samples_are_the_same_in_four_layouts(write_cases: Write, tmp_path: Path) -> None:
    files = write_cases(2, 2)
    samples = []
    for kind, write in LAYOUTS.items():
        data = LayoutDataset(write(tmp_path / kind, files, CLASSES), split={"val": 0}, patch_size=[4, 4, 4])
        by_case = {data.cases[index].id[-1]: data[index] for index in range(len(data))}
        samples.append(torch.stack([torch.cat([by_case[c]["image"], by_case[c]["label"].float()]) for c in "01"]))
    assert samples[0].shape == (2, 3, 10, 9, 8)
    assert all(torch.equal(sample, samples[0]) for sample in samples)


def test_names_do_not_tell_the_layout(write_cases: Write, tmp_path: Path) -> None:
    root = LAYOUTS["nnunet"](tmp_path / "Task04_Decathlon", write_cases(2), CLASSES)
    assert find_layout(root).kind == "nnunet"
    (root / "dataset.json").rename(root / "other.json")
    assert find_layout(root / "other.json").kind == "nnunet"
    table = LAYOUTS["table"](tmp_path / "sub-01", write_cases(2), CLASSES) / "cases.csv"
    table = table.rename(table.with_name("list"))
    assert find_layout(table).kind == "table"


def test_a_folder_of_scans_is_found_as_scans_and_refused_for_segmentation(tmp_path: Path) -> None:
    write_volume(tmp_path / "a" / "x.nii.gz", np.ones((4, 4, 4), np.float32))
    found = find_layout(tmp_path)
    assert (found.kind, found.checked().task) == ("scans", "restoration")
    with pytest.raises(DatasetError, match=r"scans without labels.*type='Scans'"):
        LayoutDataset(tmp_path)


@pytest.mark.parametrize(
    "files, said",
    [
        (None, "no such file or folder"),
        ({}, "holds no dataset.*BIDS"),
        ({"dataset.json": "{"}, "not JSON at line 1"),
        ({"dataset.json": "[]"}, "holds no object"),
        ({"dataset.json": '{"a": 1, "a": 2}'}, "'a' stands there twice"),
        ({"dataset.json": '{"name": "x"}'}, "neither the keys of nnU-Net nor those of the Decathlon, but name"),
        ({"imagesTr/a.nii.gz": ""}, r"holds imagesTr, but no dataset\.json"),
        ({"a.csv": "image,label\n", "b.tsv": "image\tlabel\n"}, r"holds 2 tables of images: a\.csv, b\.tsv"),
        ({"a.csv": "image,label\n", "b.csv": "name,age\n"}, r"a\.csv: holds no case"),
    ],
)
def test_d01_d06_what_is_no_dataset_is_refused(tmp_path: Path, files: dict[str, str] | None, said: str) -> None:
    root = tmp_path / "data"
    for name, text in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    if files == {}:
        root.mkdir()
    found = find_layout(root)
    assert found.layout is None
    assert len(found.problems) == 1
    with pytest.raises(DatasetError, match=said) as raised:
        read_layout(root)
    assert raised.value.exit_code == 3


def test_a_single_scan_is_no_dataset(make_scan: Callable[..., Path]) -> None:
    assert find_layout(make_scan()).problems == ("is one scan, not a dataset",)


def test_the_problems_of_an_error_cross_a_process() -> None:
    error = DatasetError("a; b", path="data", hint="Mend both")
    error.problems = ("a", "b")
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent), sent.problems) == (DatasetError, "data: a; b. Mend both.", ("a", "b"))


def test_all_problems_come_in_one_pass_and_the_rest_can_be_used(write_cases: Write, tmp_path: Path) -> None:
    root = LAYOUTS["decathlon"](tmp_path / "d", write_cases(5), CLASSES)
    listing = json.loads((root / "dataset.json").read_text())
    listing["labels"] = {"0": "background", "2": "posterior"}
    listing["numTraining"] = 9
    listing["training"][1]["label"] = 7
    listing["training"][2]["image"] = "../a.nii.gz"
    listing["training"][3] = dict(listing["training"][0])
    (root / "labelsTr" / "case_4.nii.gz").unlink()
    (root / "dataset.json").write_text(json.dumps(listing))
    found = find_layout(root)
    for said, problem in zip(
        [
            "numbers of 'labels'",
            "numTraining is 9",
            "Expected `str`, got `int` - at `$.training[1].label`",
            "'../a.nii.gz' leads out",
            "case_4.nii.gz' is listed but missing",
            "'case_0' is listed twice",
        ],
        found.problems,
        strict=True,
    ):
        assert said in problem
    assert [case.id for case in found.layout.cases] == ["case_0"]  # type: ignore[union-attr]
    with pytest.raises(DatasetError) as raised:
        read_layout(root)
    assert raised.value.problems == found.problems


def test_many_problems_are_counted_in_the_line_and_all_in_the_error(write_cases: Write, tmp_path: Path) -> None:
    root = LAYOUTS["nnunet"](tmp_path / "n", write_cases(12), CLASSES)
    for file in (root / "labelsTr").iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match=r"; and 4 more\.") as raised:
        read_layout(root)
    assert len(raised.value.problems) == 12


def test_names_may_be_given_and_must_be_as_many(write_cases: Write, tmp_path: Path) -> None:
    root = LAYOUTS["nnunet"](tmp_path / "n", write_cases(2), CLASSES)
    layout = read_layout(root, channels=["CT"], classes=["air", "left", "right"])
    assert (layout.channels, layout.classes) == (("CT",), ("air", "left", "right"))
    assert find_layout(root, channels=["a", "b"]).problems == ("2 channels are named, but there are 1: c0",)


def test_a_dataset_type_says_when_the_layout_is_another(write_cases: Write, tmp_path: Path) -> None:
    root = as_nnunet(tmp_path / "n", write_cases(2), CLASSES)
    for kind in (DecathlonDataset, TableDataset):
        with pytest.raises(DatasetError, match=r"of the layout 'nnunet', not .*type='Cases'"):
            kind(root)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_l09_a_label_that_is_its_own_scan_is_refused(write_cases: Write, tmp_path: Path, kind: str) -> None:
    files = write_cases(3)
    files[1] = (files[1][0], files[1][0][0])
    root = LAYOUTS[kind](tmp_path / kind, files, CLASSES)
    with pytest.raises(DatasetError, match=r"case '?\S*1'?: the label .* is a copy of the scan"):
        LayoutDataset(root, split={"val": 1})


@pytest.mark.parametrize("kind", LAYOUTS)
def test_l11_a_one_hot_label_is_refused_by_its_name(write_cases: Write, tmp_path: Path, kind: str) -> None:
    files = write_cases(2)
    write_volume(files[0][1], np.zeros((10, 9, 8, 3), np.uint8))
    root = LAYOUTS[kind](tmp_path / kind, files, CLASSES)
    with pytest.raises(ValueError, match="argmax of a one-hot file"):
        LayoutDataset(root, split={"val": 0})


def test_a_config_names_any_layout_by_one_type(write_cases: Write, tmp_path: Path) -> None:
    from medtransfer.training import registry

    root = as_nnunet(tmp_path / "n", write_cases(2), CLASSES)
    built = registry.DATASETS.build({"type": "Cases", "data_root": str(root), "split": {"val": 1}, "part": "val"})
    assert (type(built), len(built)) == (LayoutDataset, 1)


def test_g14_the_layout_gives_the_classes_and_labels_beyond_them_are_refused(
    write_cases: Write, tmp_path: Path
) -> None:
    root = as_nnunet(tmp_path / "n", write_cases(2), CLASSES[:2])
    with pytest.raises(DatasetError, match=r"2 of 2 cases: .*case_0\.nii\.gz.*2 \(\d+ voxels\)"):
        LayoutDataset(root, split={"val": 0})
