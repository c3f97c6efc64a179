"""Reading the list of operations of a pickle, without running it: which globals it names, how many tensors it makes.

torch's own safe loader stops at the first global that it does not allow; this scan names them all, allows fewer (no
``bytearray(10**12)``), looks at what the allowed ones are called with, and refuses before anything is allocated.
"""

from __future__ import annotations

import io
import pickletools
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import torch

from .pickle_calls import STORAGE_DTYPES, PickleFaultError, Stored
from .pickle_machine import PickleMachine
from .tensor_checks import MAX_TENSORS

TORCH_PICKLE_PROTOCOL = 2
_SEARCHED = 1 << 20

_DTYPES = {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)}

#: What a file of dense tensors, numbers, words and containers needs: a part of what torch's safe loader allows.
PLAIN_GLOBALS = frozenset(
    {
        "_codecs.encode",
        "builtins.complex",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.Tensor",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.storage.UntypedStorage",
        *STORAGE_DTYPES,
        *(name for name in _DTYPES if not name.startswith(("torch.q", "torch.bits"))),
    }
)

#: The globals of which it is known what torch makes of them: those of state dicts and training states.
_SHADOWED = frozenset(
    {
        "_codecs.encode",
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        *STORAGE_DTYPES,
        *map(str, STORAGE_DTYPES.values()),
    }
)


@dataclass(frozen=True)
class PickleScan:
    """What a pickle would do.

    Attributes:
        globals: In order of appearance, as ``module.name``.
        references: How often stored data is referred to.
        stored: The bytes and type of each storage, by its key, as the pickle claims them.
        protocol: The pickle protocol.
        fault: What no file of plain weights does, or None.
        end: Where the pickle ends.
        tree: What it leaves, with shadows for tensors and tuples; None where torch's loader may make something else.
    """

    globals: tuple[str, ...]
    references: int
    stored: dict[str, Stored]
    protocol: int
    fault: str | None
    end: int
    tree: Any = None

    @property
    def claimed(self) -> int:
        """Bytes of all storages."""
        return sum(claim.nbytes for claim in self.stored.values())

    def refused(self, allowed: Collection[str]) -> list[str]:
        """The globals that are neither plain nor among ``allowed``."""
        return [name for name in self.globals if name not in PLAIN_GLOBALS and name not in allowed]


def scan_pickle(data: bytes | mmap, begin: int = 0) -> PickleScan:
    """Walk over the pickle that begins there; stops early above the limit of tensors.

    Raises:
        ValueError: the bytes are no pickle.

    >>> import os, pickle
    >>> scan_pickle(pickle.dumps({"run": os.getcwd}, protocol=2)).globals
    ('posix.getcwd',)
    """
    machine = PickleMachine(data, begin, _modern_name)
    fault = None
    try:
        machine.run(MAX_TENSORS)
    except PickleFaultError as error:
        fault = str(error)
    except (LookupError, struct.error, UnicodeError, TypeError) as error:
        raise ValueError(f"no pickle: {error}") from error
    names = dict.fromkeys([*machine.names, *(_names_anywhere(data, begin) if fault else ())])
    stored = {key: claim for (key, view), claim in machine.stored.items() if not view}
    is_exact = machine.exact and not fault and machine.stack and _SHADOWED.issuperset(names)
    tree = machine.stack[-1] if is_exact else None
    return PickleScan(tuple(names), machine.references, stored, machine.protocol, fault, machine.at, tree)


def _names_anywhere(data: bytes | mmap, begin: int) -> Iterator[str]:
    """The globals that are named from there on, for the message about a pickle that is refused anyway."""
    stream = io.BytesIO(data[begin : begin + _SEARCHED])
    with suppress(ValueError, LookupError, struct.error, OverflowError):
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                yield _modern_name(*str(argument).split(" ", 1))


def _modern_name(module: str, name: str = "") -> str:
    """Protocol 2 names things as Python 2 did: ``commands Popen`` -> ``subprocess.Popen``; torch maps them alike."""
    if (module, name) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, name])
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"
