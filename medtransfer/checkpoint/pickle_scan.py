"""Reading the list of operations of a pickle, without running it: which globals it names, how many tensors it makes.

torch's own safe loader stops at the first global that it does not allow; this scan names them all, allows fewer (no
``bytearray(10**12)``), and refuses before anything is allocated.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection
from dataclasses import dataclass
from typing import IO

import torch

from .tensor_checks import MAX_TENSORS

TORCH_PICKLE_PROTOCOL = 2

_STORAGES = (
    *("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long"),
    *("Bool", "ComplexFloat", "ComplexDouble"),
)
_DTYPES = {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)}

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
        *(f"torch.{kind}Storage" for kind in _STORAGES),
        *(name for name in _DTYPES if not name.startswith(("torch.q", "torch.bits"))),
    }
)
"""What a file of dense tensors, numbers, words and containers needs: a part of what torch's safe loader allows."""


@dataclass(frozen=True)
class PickleScan:
    """``globals`` in order of appearance as ``module.name``; ``storages`` counts references to stored data."""

    globals: tuple[str, ...]
    storages: int
    protocol: int

    def refused(self, allowed: Collection[str]) -> list[str]:
        """The globals that are neither plain nor among ``allowed``."""
        return [name for name in self.globals if name not in PLAIN_GLOBALS and name not in allowed]


def scan_pickle(stream: IO[bytes]) -> PickleScan:
    """Walk over one pickle and leave the stream behind it; stops early above the limit of tensors.

    Raises:
        ValueError: the bytes are no pickle.

    >>> import io, os, pickle
    >>> scan_pickle(io.BytesIO(pickle.dumps({"run": os.getcwd}, protocol=2))).globals
    ('posix.getcwd',)
    """
    names: dict[str, None] = {}
    storages, protocol = 0, 0
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            names[_modern_name(str(argument))] = None
        elif opcode.name in ("BINPERSID", "PERSID"):
            storages += 1
        elif opcode.name == "PROTO":
            protocol = max(protocol, int(str(argument)))
        if storages > MAX_TENSORS:
            break
    return PickleScan(tuple(names), storages, protocol)


def _modern_name(argument: str) -> str:
    """Protocol 2 names things as Python 2 did: ``commands Popen`` -> ``subprocess.Popen``; torch maps them alike."""
    module, _, name = argument.partition(" ")
    if (module, name) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, name])
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"
