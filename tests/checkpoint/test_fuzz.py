"""Hundreds of seeded mutations of a valid file of each kind: a clean load or one CheckpointError, nothing else."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from medtransfer.checkpoint.card import ModelCard, format_card, parse_card
from medtransfer.checkpoint.reader import Weights, read_weights
from medtransfer.errors import CheckpointError

MUTATIONS = 300


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start : start + rng.choice((1, 2, 4, 8))] = rng.choice(
        (b"\x00", b"\xff", b"\x7f\xff\xff\xff", rng.randbytes(4))
    )


def _delete(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 20)]


def _double(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 20)]


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def _mutated(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        rng.choice((_flip, _flip, _overwrite, _delete, _double, _cut))(changed, rng)
        changed = changed or bytearray(b"\x00")
    return bytes(changed)


def _tree() -> dict[str, object]:
    return {
        "state_dict": {"conv.weight": torch.ones(2, 1, 3, 3, 3), "bn.bias": torch.zeros(2, dtype=torch.float16)},
        "meta": {"epoch": 3, "best": 0.5, "tags": ["a", (1, None)]},
    }


def _clean_or_refused(read: Callable[[], object], seed: int) -> bool:
    try:
        loaded = read()
    except CheckpointError:
        return False
    if isinstance(loaded, Weights):
        assert all(torch.isfinite(tensor).all() for tensor in loaded.tensors.values()), seed
    return True


@pytest.mark.parametrize("legacy", [False, True])
def test_mutated_torch_files(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save(_tree(), path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    loads = 0
    for seed in range(MUTATIONS):
        path.write_bytes(_mutated(data, seed))
        loads += _clean_or_refused(lambda: read_weights(path), seed)
    assert loads < MUTATIONS * (0.5 if legacy else 0.35)


def test_mutated_pickles_under_right_checksums(tmp_path: Path, attacks: ModuleType) -> None:
    torch.save(_tree(), tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        pickled = archive.read("a/data.pkl")
    data = (tmp_path / "a.pth").read_bytes()
    for seed in range(MUTATIONS):
        path = attacks.rewrite(tmp_path / "b.pth", data, replace={"a/data.pkl": _mutated(pickled, seed)})
        _clean_or_refused(lambda path=path: read_weights(path), seed)


def test_mutated_safetensors_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.ones(2, 3), "b": torch.zeros(2)}, path, metadata={"format": "pt"})
    data = path.read_bytes()
    for seed in range(MUTATIONS):
        path.write_bytes(_mutated(data, seed))
        _clean_or_refused(lambda: read_weights(path), seed)


def test_mutated_cards(card: ModelCard) -> None:
    text = format_card(card)
    for seed in range(MUTATIONS):
        _clean_or_refused(lambda seed=seed: parse_card(_mutated(text, seed)), seed)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_mutated_model_folders(model_folder: Path, name: str) -> None:
    data = (model_folder / name).read_bytes()
    loads = 0
    for seed in range(MUTATIONS // 3):
        (model_folder / name).write_bytes(_mutated(data, seed))
        loads += _clean_or_refused(lambda: read_weights(model_folder), seed)
    assert name == "model.json" or loads == 0
