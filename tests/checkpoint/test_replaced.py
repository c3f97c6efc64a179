"""Row C44: files that are replaced or still written while they are read; a reader sees the old or the new, whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medtransfer.checkpoint import folder as folder_room
from medtransfer.checkpoint import safetensors_file, torch_file
from medtransfer.checkpoint.card import ModelCard
from medtransfer.checkpoint.folder import write_model_folder
from medtransfer.checkpoint.reader import read_weights


def _tensors(value: float) -> dict[str, torch.Tensor]:
    return {f"w{index}": torch.full((50,), value) for index in range(20)}


def _torch(path: Path, value: float) -> None:
    torch.save(_tensors(value), path)


def _safetensors(path: Path, value: float) -> None:
    save_file(_tensors(value), path)


def _replace(path: Path, write: Callable[[Path, float], None], value: float) -> None:
    write(path.with_name("new"), value)
    os.replace(path.with_name("new"), path)


KINDS = {
    "a.pth": (_torch, torch_file, "checking"),
    "a.safetensors": (_safetensors, safetensors_file, "load_file"),
}


@pytest.mark.parametrize("name", KINDS)
def test_c44_a_file_replaced_between_check_and_load_is_read_again(tmp_path, monkeypatch, name) -> None:
    write, module, step = KINDS[name]
    path = tmp_path / name
    write(path, 1.0)
    original, calls = getattr(module, step), []

    def late(*arguments):
        calls.append(1)
        if len(calls) == 1:
            _replace(path, write, 2.0)
        return original(*arguments)

    monkeypatch.setattr(module, step, late)
    weights = read_weights(path)
    assert len(calls) == 2
    assert all((tensor == 2).all() for tensor in weights.tensors.values())


@pytest.mark.parametrize("name", KINDS)
def test_c44_a_file_never_at_rest_is_refused(tmp_path, monkeypatch, refused, name) -> None:
    write, module, step = KINDS[name]
    path = tmp_path / name
    write(path, 0.0)
    original, calls = getattr(module, step), []

    def late(*arguments):
        calls.append(1)
        _replace(path, write, len(calls))
        return original(*arguments)

    monkeypatch.setattr(module, step, late)
    refused(path, "changes while it is read", "Wait until it is written")


def test_c44_a_model_folder_replaced_between_card_and_weights_is_read_again(
    tmp_path: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "net"
    write_model_folder(folder, _tensors(1.0), card)
    original, calls = folder_room.read_card, []

    def late(path: Path) -> ModelCard:
        calls.append(1)
        found = original(path)
        if len(calls) == 1:
            write_model_folder(folder, _tensors(2.0), card, overwrite=True)
        return found

    monkeypatch.setattr(folder_room, "read_card", late)
    weights = read_weights(folder)
    assert len(calls) == 2
    assert all((tensor == 2).all() for tensor in weights.tensors.values())


@contextmanager
def _writing(write: Callable[[float], None]) -> Iterator[None]:
    """A thread that saves 0, 1, 2 ... until the block ends."""
    stop = threading.Event()

    def save_often() -> None:
        value = 0.0
        while not stop.wait(0.02):
            value += 1
            write(value)

    thread = threading.Thread(target=save_often)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("name", KINDS)
def test_c44_every_read_beside_a_training_run_is_of_one_save(tmp_path: Path, name: str) -> None:
    write = KINDS[name][0]
    path = tmp_path / name
    write(path, 0.0)
    seen = set()
    with _writing(lambda value: _replace(path, write, value)):
        for _ in range(25):
            tensors = read_weights(path).tensors
            values = {float(value) for tensor in tensors.values() for value in tensor}
            assert len(tensors) == 20
            assert len(values) == 1
            seen |= values
    assert len(seen) > 1


@pytest.mark.parametrize("name", KINDS)
def test_c44_a_file_that_still_grows_is_refused_as_cut(tmp_path: Path, refused, name: str) -> None:
    KINDS[name][0](tmp_path / name, 1.0)
    data = (tmp_path / name).read_bytes()
    for length in range(0, len(data), 257):
        (tmp_path / name).write_bytes(data[:length])
        refused(tmp_path / name)


def test_c44_what_was_read_stays_as_it_was_when_the_file_is_replaced_later(tmp_path: Path) -> None:
    for name, (write, *_) in KINDS.items():
        write(tmp_path / name, 1.0)
        tensors = read_weights(tmp_path / name).tensors
        _replace(tmp_path / name, write, 2.0)
        assert all((tensor == 1).all() for tensor in tensors.values())
