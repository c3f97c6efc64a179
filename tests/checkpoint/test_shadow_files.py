"""The tree from shadows where files are hostile, damaged or foreign: refused and read as by torch's own loader."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from medtransfer.checkpoint.torch_file import load_torch_file
from tests.adapter.dialects.oracles import MODULES
from tests.attacks.hostile_pickles import shaped, state, stored, tensor, word
from tests.attacks.payloads import with_pickle
from tests.attacks.test_attacks import ATTACKS, HARMLESS, QUICK
from tests.checkpoint.shadow_oracle import assert_as_torch, outcome, ways


@pytest.mark.parametrize("name", [name for name in QUICK if name not in HARMLESS])
def test_attacks_are_refused_in_the_same_words(tmp_path: Path, name: str) -> None:
    path = ATTACKS[name](tmp_path)
    if path.is_dir():
        return
    assert_as_torch(path, by_shadows=None)


def _pickle(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("a/data.pkl")


_OPERATIONS = b"cRbaesu(t\x85\x86\x87N\x88\x89)]}\x8fJKMGXUQhjqr\x8a0.\x81"


def _mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(2, len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] = rng.choice(_OPERATIONS)
        elif kind == 1:
            changed[at] = rng.randrange(256)
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 9)]
        else:
            changed[at:at] = changed[(begin := rng.randrange(len(changed))) : begin + rng.randrange(1, 12)]
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_pickles_with_sound_checksums(tmp_path: Path, attacks: ModuleType, seed: int) -> None:
    tree = {
        "net": nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)).state_dict(),
        "meta": {"n": [1, (2, "a")], "b": b"a\xff", "s": torch.Size((1, 2)), "d": torch.float16, 5: None},
        "p": nn.Parameter(torch.ones(2)),
        "tied": [base := torch.arange(6.0), base.view(2, 3)],
    }
    path = tmp_path / "a.pth"
    torch.save(tree, path)
    whole, pickled = path.read_bytes(), _pickle(path)
    rng = random.Random(seed)
    shadowed = 0
    for _ in range(250):
        attacks.rewrite(path, whole, replace={"a/data.pkl": _mutated(pickled, rng)})
        with ways() as calls:
            read = not isinstance(outcome(load_torch_file, path), str)
        shadowed += read and not calls
        assert_as_torch(path, by_shadows=None)
    assert shadowed > 10


WEIRD = {
    "sizes that overflow": shaped(size=(0, 2**62, 2**62), stride=(1, 1, 1)),
    "an offset behind nothing": shaped(size=(0,), offset=2**40),
    "a size beyond 64 bits": shaped(size=(0, 2**70), stride=(1, 1)),
    "another type again": state(word("w"), tensor(stored(2)), word("v"), tensor(stored(1, kind="DoubleStorage"))),
    "another length again": state(word("w"), tensor(stored(2)), word("v"), tensor(stored(1), size=(1,))),
    "storage alone": state(word("w"), tensor(stored(2)), word("v"), stored(2)),
    "a class alone": state(word("w"), tensor(stored(2)), word("v"), b"ccollections\nOrderedDict\n"),
    "a missing empty storage": state(word("w"), tensor(stored(2)), word("v"), tensor(stored(0, key="9"), size=(0,))),
    "a list that holds itself": state(word("w"), tensor(stored(2)), word("v"), b"]q\x01h\x01a"),
    "a dict that holds itself": state(word("w"), tensor(stored(2)), word("v"), b"}q\x01" + word("a") + b"h\x01s"),
    "hooks": state(word("w"), tensor(stored(2)).replace(b")R\x74", b")R" + word("a") + b"Ns\x74")),
    "state of a dict": state(word("w"), tensor(stored(2)), word("v"), b"}}" + word("items") + b"Nsb"),
    "state that hides": state(
        word("w"), tensor(stored(2)), word("v"), b"ccollections\nOrderedDict\n)R}" + word("items") + b"Nsb"
    ),
    "too little on the stack": b"\x80\x02s.",
    "an odd number of items": b"\x80\x02}(" + word("w") + b"u.",
    "append to a dict": b"\x80\x02}" + word("w") + b"a.",
    "nothing left": b"\x80\x02.",
}


@pytest.mark.parametrize("name", WEIRD)
def test_weird_pickles(tmp_path: Path, name: str) -> None:
    assert_as_torch(with_pickle(tmp_path / "a.pth", WEIRD[name]), by_shadows=None)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_files_of_every_dialect(tmp_path: Path, module: ModuleType) -> None:
    for case in module.cases(tmp_path):
        if case.path.suffix != ".safetensors":
            assert_as_torch(case.path, by_shadows=None)
