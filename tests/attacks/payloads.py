"""Working attacks on readers of weight files, each harmless: at most a flag file appears, or memory is asked for.

Every builder writes a file and returns its path. A test that opens one asserts that it is refused and that the flag
is absent; ``tests/checkpoint/test_torch_file.py::test_payloads_do_work_on_an_unsafe_reader`` shows that they bite.
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.attacks.hostile_pickles import state, stored, tensor, word


class Call:
    """Pickles as the call of a function: whoever unpickles it makes the call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def flag_calls(flag: Path) -> dict[str, Call]:
    """Calls that each make the file ``flag``, by the name under which a scan lists them."""
    return {
        "posix.system": Call(os.system, f"touch '{flag}'"),
        "subprocess.Popen": Call(subprocess.Popen, ["touch", str(flag)]),
        "builtins.exec": Call(builtins.exec, f"open({str(flag)!r}, 'w').close()"),
        "builtins.eval": Call(builtins.eval, f"open({str(flag)!r}, 'w').close()"),
        "io.open": Call(builtins.open, str(flag), "w"),
    }


def in_state_dict(path: Path, call: Call, legacy: bool = False, protocol: int = 2) -> Path:
    """A checkpoint with good tensors and a call beside them."""
    tree = {"state_dict": {"w": torch.ones(2)}, "meta": call}
    torch.save(tree, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return path


def bare_pickle(path: Path, call: Call) -> Path:
    """A plain pickle under a checkpoint's name."""
    path.write_bytes(pickle.dumps({"w": call}, protocol=2))
    return path


def message_hub_override(path: Path) -> Path:
    """An mmengine checkpoint whose history would replace the class's own ``mean`` for the whole process."""
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.0], [1])
    history._statistics_methods = {"mean": HistoryBuffer.max}
    torch.save({"state_dict": {"w": torch.ones(2)}, "message_hub": {"log_scalars": {"loss": history}}}, path)
    return path


def numpy_array_bomb(path: Path) -> Path:
    """A pickle that asks for a numpy array of 2**31 - 1 elements and more."""
    return with_pickle(path, b"\x80\x02}X\x01\x00\x00\x00wcnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85Rs.")


def many_tensors(path: Path, count: int = 100_000) -> Path:
    """A pickle that refers to stored data ever again."""
    reference = stored(2)[:-1]
    return with_pickle(path, b"\x80\x02" + reference + b"q\x000" + b"h\x00Q0" * count + b"}.")


def bytearray_bomb(path: Path) -> Path:
    """A pickle of 40 bytes that asks for a bytearray of 2**31 - 1 bytes; torch's safe loader allows the call."""
    return with_pickle(path, b"\x80\x02}X\x01\x00\x00\x00wc__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85Rs.")


def billion_lists(path: Path) -> Path:
    """Lists that hold each other ten times over, 40 deep: a copy that does not share them never ends."""
    value: list[Any] = [1.0]
    for _ in range(40):
        value = [value] * 10
    torch.save({"w": torch.ones(2), "meta": value}, path)
    return path


def holds_itself(path: Path) -> Path:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    torch.save({"w": torch.ones(2), "meta": value}, path)
    return path


def deflated_bomb(path: Path, megabytes: int = 64) -> Path:
    """A torch archive whose tensor of zeros is compressed a thousandfold."""
    whole = io.BytesIO()
    torch.save({"w": torch.zeros(megabytes << 18)}, whole)
    return rewrite(path, whole.getvalue(), compression=zipfile.ZIP_DEFLATED)


def with_pickle(path: Path, pickled: bytes) -> Path:
    """A sound torch archive around any bytes in the place of ``data.pkl``, with right checksums."""
    whole = io.BytesIO()
    torch.save({"w": torch.ones(2)}, whole)
    return rewrite(path, whole.getvalue(), replace={"archive/data.pkl": pickled})


def rewrite(
    path: Path, data: bytes, replace: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    """Write a zip archive again with some members replaced or added."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        contents = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in {**contents, **(replace or {})}.items():
            target.writestr(name, content)
    return path


def good_pickle() -> bytes:
    """The content of ``data.pkl`` for a dict of one tensor ``w``, in the same hand as the hostile ones."""
    return state(word("w"), tensor(stored(2)))
