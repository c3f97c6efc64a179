"""What foreign checkpoints hold beside their tensors: taken as plain data by stand-ins that do nothing."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from medtransfer.checkpoint.reader import read_weights
from medtransfer.checkpoint.torch_file import load_torch_file


def test_subtle_payloads_do_work_on_an_unsafe_reader(tmp_path: Path, attacks: ModuleType) -> None:
    from mmengine.logging import HistoryBuffer

    HistoryBuffer([0.0], [1])  # the first one fills the table of the class
    before = dict(HistoryBuffer._statistics_methods)
    try:
        torch.load(attacks.message_hub_override(tmp_path / "a.pth"), weights_only=False)
        assert HistoryBuffer([3.0, 5.0], [1, 1]).statistics("mean") == 5.0
    finally:
        HistoryBuffer._statistics_methods.update(before)


def test_c16_message_hub_payload_has_no_effect_on_the_process(tmp_path: Path, attacks: ModuleType) -> None:
    from mmengine.logging import HistoryBuffer

    path = attacks.message_hub_override(tmp_path / "a.pth")
    HistoryBuffer([0.0], [1])  # the first one fills the table of the class
    before = dict(HistoryBuffer._statistics_methods)
    weights = read_weights(path)
    assert list(weights.tensors) == ["w"]
    assert HistoryBuffer([3.0, 5.0], [1, 1]).statistics("mean") == 4.0
    assert HistoryBuffer._statistics_methods == before


@pytest.mark.parametrize("numpy_core", ["numpy._core", "numpy.core"])
def test_c17_c18_mmengine_checkpoints_of_any_numpy_load(tmp_path: Path, attacks: ModuleType, numpy_core: str) -> None:
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.5, 2.5], [1, 2])
    path = tmp_path / "epoch_1.pth"
    torch.save({"meta": {"epoch": 1, "seed": np.int64(7)}, "state_dict": {"w": torch.ones(2)}, "hub": history}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("epoch_1/data.pkl").replace(b"numpy._core", numpy_core.encode())
    attacks.rewrite(path, path.read_bytes(), replace={"epoch_1/data.pkl": pickled})
    tree = load_torch_file(path)
    assert tree["meta"] == {"epoch": 1, "seed": 7}
    assert tree["hub"]["_log_history"].tolist() == [1.5, 2.5]
    assert tree["hub"]["_count_history"].tolist() == [1, 2]


NUMBERS = [
    np.float32(1.5),
    np.float64(-2.25),
    np.int64(-7),
    np.uint8(200),
    np.bool_(True),
    np.float16(0.5),
    np.int32(9),
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_numpy_numbers_become_pythons(tmp_path: Path, number: np.generic) -> None:
    torch.save({"w": torch.ones(1), "ema": number}, tmp_path / "a.pth")
    value = load_torch_file(tmp_path / "a.pth")["ema"]
    assert value == number.item()
    assert type(value) is type(number.item())


@pytest.mark.parametrize("kind", ["<f4", ">f4", ">c16", "<i8", ">u2", "|b1", "|i1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_arrays_become_tensors(tmp_path: Path, kind: str, order: str) -> None:
    array = np.asarray(np.arange(12).reshape(2, 3, 2) % 7, dtype=kind, order=order)  # type: ignore[call-overload]
    torch.save({"array": array, "empty": array[:0]}, tmp_path / "a.pth")
    tree = load_torch_file(tmp_path / "a.pth")
    assert tree["array"].tolist() == array.tolist()
    assert tree["empty"].shape == (0, 3, 2)


def test_numpy_objects_and_text_are_not_opened(tmp_path: Path, refused) -> None:
    torch.save({"a": np.array([{}, "x"], dtype=object), "w": torch.ones(1)}, tmp_path / "a.pth")
    assert load_torch_file(tmp_path / "a.pth")["a"] is None
    torch.save({"a": np.array(["x"])}, tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "numpy data of the type")


def test_namespaces_and_paths_become_plain(tmp_path: Path) -> None:
    arguments = argparse.Namespace(lr=0.1, out=Path("runs/a"))
    torch.save({"model": {"w": torch.ones(1)}, "args": arguments}, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").metadata == {"args": {"lr": 0.1, "out": "runs/a"}}


def test_tensors_with_attributes_and_parameters_become_plain_tensors(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.no_decay = True  # type: ignore[attr-defined]
    torch.save({"a": parameter, "b": torch.nn.Parameter(torch.ones(1))}, tmp_path / "a.pth")
    tree = load_torch_file(tmp_path / "a.pth")
    assert type(tree["a"]) is type(tree["b"]) is torch.Tensor
    assert not tree["b"].requires_grad


def test_c22_nan_in_an_array_is_found(tmp_path: Path, refused) -> None:
    torch.save({"w": np.array([1.0, np.nan], np.float32), "v": torch.ones(2)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "NaN or infinite values in w")


def test_c22_nan_in_a_file_of_the_other_byte_order_is_found(tmp_path: Path, attacks: ModuleType, refused) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")
    nan = {"a/byteorder": b"big", "a/data/0": b"\x7f\xc0\0\0"}  # read the other way round, a small finite number
    refused(attacks.rewrite(tmp_path / "a.pth", (tmp_path / "a.pth").read_bytes(), replace=nan), "NaN or infinite")
