"""Every attack at once: refused, quickly, in little memory; nothing runs and nothing is written."""

from __future__ import annotations

import inspect as python_inspect
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import medtransfer as mt
from medtransfer.checkpoint.reader import read_weights
from medtransfer.checkpoint.torch_file import load_torch_file
from medtransfer.cli.main import run
from medtransfer.errors import CheckpointError
from tests.attacks import payloads
from tests.attacks.hostile_archives import ARCHIVES
from tests.attacks.hostile_files import FOLDERS, HEADERS, safetensors
from tests.attacks.hostile_pickles import LEGACY, LEGACY_HEAD, PICKLES

SECONDS, MEGABYTES = 30, 700  # each takes a few seconds alone; shared machines take several times as long


def _call(name: str, legacy: bool) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        call = payloads.flag_calls(folder / "flag")[name]
        return payloads.in_state_dict(folder / "a.pth", call, legacy=legacy)

    return build


def _legacy(folder: Path, data: bytes) -> Path:
    (folder / "a.pth").write_bytes(LEGACY_HEAD + data)
    return folder / "a.pth"


CALLS = ("posix.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "io.open")
ATTACKS: dict[str, Callable[[Path], Path]] = {
    **{f"c12 {name}, {age}": _call(name, age == "old") for name in CALLS for age in ("new", "old")},
    **{f"c12 {name}, bare": lambda folder, name=name: payloads.bare_pickle(
        folder / "a.pth", payloads.flag_calls(folder / "flag")[name]) for name in CALLS},
    **{name: lambda folder, data=data: payloads.with_pickle(folder / "a.pth", data) for name, data in PICKLES.items()},
    **{f"legacy {name}": lambda folder, data=data: _legacy(folder, data) for name, data in LEGACY.items()},
    **{name: lambda folder, build=build: build(folder / "a.pth") for name, build in ARCHIVES.items()},
    **{name: lambda folder, given=given: safetensors(folder / "a.safetensors", *given)
       for name, given in HEADERS.items()},
    **{name: lambda folder, build=build: build(folder / "net") for name, build in FOLDERS.items()},
    "c19 numpy array": lambda folder: payloads.numpy_array_bomb(folder / "a.pth"),
    "c19 bytearray": lambda folder: payloads.bytearray_bomb(folder / "a.pth"),
    "c21 100 000 tensors": lambda folder: payloads.many_tensors(folder / "a.pth"),
}  # fmt: skip
HARMLESS = ("c19 memory by bytes",)
"""Read, since a stand-in takes the call: no memory, and None in its place."""


REASONS = {
    "c12 a second pickle": "repeated or out of place",
    "c12 another archive": "repeated or out of place",
    "c12 a second directory in": "repeated or out of place",
    "c12 a second directory by": "the archive's directory is not",
    "c19 memory by torch.Tensor": "would make memory by",
    "c19 memory by a new": "would make memory by",
    "c19 memory by FloatStorage": "would make memory by",
    "c19 memory by UntypedStorage": "would make memory by",
    "c20 more than is stored": "claims more than is stored",
    "c20 an offset behind": "claims more than is stored",
    "legacy c20 more than is stored": "claims more than is stored",
    "c20 a storage": ("truncated or damaged: data/", "refers to stored data", "QInt8Storage"),
    "c20 entries that overlap": "truncated or damaged",
    "tuples": "nested without end",
}
"""What is refused for which reason, where a later step would refuse it too, after memory or time is spent."""

SLOW = ("four million operations", "four million marks", "legacy c21 keys without end", "c21 100 000 tensors",
        "tuples a million deep as a key")  # fmt: skip
"""Seconds each: run once, in the child process."""

QUICK = [name for name in ATTACKS if name not in SLOW]


def _everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def _readers(path: Path) -> Iterator[Callable[[Path], object]]:
    yield read_weights
    yield mt.inspect
    yield mt.load if path.is_dir() else load_torch_file


@pytest.mark.parametrize("name", QUICK)
def test_attacks_are_refused_and_leave_nothing(tmp_path: Path, name: str) -> None:
    path = ATTACKS[name](tmp_path)
    before = _everything(tmp_path)
    begin = time.monotonic()
    for reader in _readers(path):
        if name in HARMLESS or (reader is load_torch_file and name.startswith(("c22", "control", "half", "a name"))):
            continue
        with pytest.raises(CheckpointError) as caught:
            reader(path)
        assert caught.value.path is not None
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000
        assert "weights_only" not in str(caught.value)
        for words in (REASONS[start] for start in REASONS if name.startswith(start)):
            assert any(word in str(caught.value) for word in ([words] if isinstance(words, str) else words))
    assert time.monotonic() - begin < 3 * SECONDS
    assert _everything(tmp_path) == before
    assert not (tmp_path / "flag").exists()


@pytest.mark.parametrize("name", [name for name in QUICK if name not in HARMLESS])
def test_command_line_says_one_line_and_nothing_else(tmp_path: Path, name: str, capfd) -> None:
    path = ATTACKS[name](tmp_path)
    assert run(["inspect", str(path), "--json"]) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"medtransfer: error: {path}")
    assert err.count("\n") == 1
    assert err.endswith(("\n",))
    assert err.strip().isprintable()
    assert "Traceback" not in err
    assert not (tmp_path / "flag").exists()


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_ones_load(tmp_path: Path, name: str) -> None:
    assert list(read_weights(ATTACKS[name](tmp_path)).tensors) == ["w"]


_CHILD = """
import json, resource, sys, time
from pathlib import Path
from medtransfer.checkpoint.reader import read_weights
read_weights(sys.argv[1])  # whatever torch loads at its first call
used = int(next(line for line in open('/proc/self/status') if line.startswith('VmSize')).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[2]) << 20),) * 2)
for path in sys.argv[3:]:
    begin = time.monotonic()
    try:
        read_weights(Path(path))
        outcome = 'loaded'
    except BaseException as error:
        outcome = type(error).__name__
    print(json.dumps([path, outcome, time.monotonic() - begin]), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
def test_all_in_one_process_of_little_memory(tmp_path: Path, torch_file_of_ones: Path) -> None:
    names = {}
    for number, name in enumerate(ATTACKS):
        (tmp_path / str(number)).mkdir()
        names[str(ATTACKS[name](tmp_path / str(number)))] = name
    command = [sys.executable, "-c", _CHILD, str(torch_file_of_ones), str(MEGABYTES), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(names)
    wrong = [
        (names[path], outcome, seconds)
        for path, outcome, seconds in outcomes
        if outcome != ("loaded" if names[path] in HARMLESS else "CheckpointError") or seconds > SECONDS
    ]
    assert not wrong
    assert not list(tmp_path.rglob("flag"))


@pytest.fixture
def torch_file_of_ones(tmp_path: Path) -> Path:
    return payloads.with_pickle(tmp_path / "good.pth", payloads.good_pickle())


def test_every_builder_is_in_the_list() -> None:
    """A new builder in ``payloads`` is run here too, or says in its own test why not."""
    builders = {name for name, value in vars(payloads).items() if python_inspect.isfunction(value)}
    used = {"flag_calls", "in_state_dict", "bare_pickle", "numpy_array_bomb", "bytearray_bomb", "many_tensors",
            "deflated_bomb", "with_pickle", "rewrite", "good_pickle", "stored"}  # fmt: skip
    loads = {"message_hub_override", "billion_lists", "holds_itself"}  # in tests/checkpoint
    assert builders == used | loads | {"state", "tensor", "word"}
