"""Trees that checkpoints are made of: those that need no loader, and those that are left to torch."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)
NUMBERS = (0, -1, 255, 256, 65536, -(2**31), 2**31, 2**63, -(2**200), 1e308, -0.0, float("inf"), float("nan"))


def filled(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 100
    return numbers > 50 if dtype is torch.bool else numbers.to(dtype)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 1), nn.Flatten(), nn.Linear(2, 2))


def tied() -> dict[str, Tensor]:
    base = torch.arange(24.0)
    return {"all": base, "rows": base.view(4, 6), "late": base[6:], "again": base, "across": base.view(4, 6).t()}


def _training() -> dict[str, Any]:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(2, 1, 3, 3, 3)).sum().backward()
    optimizer.step()
    schedule = {"milestones": [2, 3], "gamma": 0.1, "verbose": False, "last": None}
    return {"state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "schedule": schedule}


def _shared() -> dict[str, Any]:
    words, tensor = ["a", "b"], torch.ones(3)
    return {"one": words, "two": words, "pair": (words, tensor), "w": tensor, "nested": {"w": tensor, "words": words}}


class Odd(OrderedDict[str, Any]):
    pass


SHADOWED: dict[str, Callable[[], Any]] = {
    "state dict": lambda: network().state_dict(),
    "training": _training,
    "plain dict": lambda: dict(network().state_dict()),
    "wrapped twice": lambda: {"model": {"state_dict": network().state_dict(), "step": 5}},
    "parameters": lambda: dict(network().named_parameters()),
    "frozen parameter": lambda: {"w": nn.Parameter(torch.ones(2), requires_grad=False)},
    "whole parameter": lambda: {"w": nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)},
    "with gradient": lambda: {"w": torch.ones(2, requires_grad=True)},
    "tied": tied,
    "shared": _shared,
    "permuted": lambda: {"w": torch.rand(2, 3, 4).permute(2, 0, 1), "v": torch.rand(8)[::2], "u": torch.rand(4, 1).t()},
    "channels last": lambda: {"w": torch.rand(2, 3, 4, 4, 4).to(memory_format=torch.channels_last_3d)},
    "part": lambda: {"w": torch.rand(100)[10:20].view(2, 5)},
    "empty": lambda: {"w": torch.empty(0), "v": torch.empty(3, 0, 2), "u": torch.ones(4)[4:]},
    "scalars": lambda: {"w": torch.tensor(2.5), "n": torch.tensor(7), "v": torch.rand(5)[3]},
    **{str(dtype): lambda dtype=dtype: {"w": filled((3, 4), dtype), "n": filled((), dtype)} for dtype in DTYPES},
    "dtype": lambda: {"w": torch.ones(1), "dtype": torch.float16, "kinds": [torch.int64, (torch.bool,)]},
    "size": lambda: {"w": torch.ones(1), "size": torch.Size((2, 3)), "none": torch.Size(())},
    "numbers": lambda: {"w": torch.ones(1), "n": NUMBERS},
    "words": lambda: {"w": torch.ones(1), "größe ✓ 𝄞": "naïve", "": "", "a" * 300: "b" * 70000, "\ud800": "\udfff"},
    "bytes": lambda: {"w": torch.ones(1), "b": [b"ab\xff\x00", b"x" * 300]},
    "whole keys": lambda: {"w": torch.ones(1), 0: "a", -5: {1: [2]}, 2**40: None},
    "nested": lambda: {"m": [[], {}, (), [({"a": [(1, (2, [3]))]},)], (torch.ones(2), [torch.ones(2)])]},
    "list": lambda: [torch.ones(2), {"a": 1}],
    "tuple": lambda: (torch.ones(2), ({"a": 1},)),
    "tensor": lambda: torch.ones(2, 3),
    "ordered": lambda: OrderedDict(b=torch.ones(1), a=OrderedDict(x=1)),
    "many": lambda: {f"w{index}": torch.full((2, 2), float(index)) for index in range(700)},
}

BY_TORCH: dict[str, Callable[[], Any]] = {
    "numpy scalar": lambda: {"w": torch.ones(1), "n": np.float64(3)},
    "numpy array": lambda: {"w": torch.ones(1), "n": np.arange(3)},
    "complex number": lambda: {"w": torch.ones(1), "n": 1 + 2j},
    "no bytes": lambda: {"w": torch.ones(1), "n": b""},
    "set": lambda: {"w": torch.ones(1), "n": {1, 2}},
    "counter": lambda: {"w": torch.ones(1), "n": Counter("abb")},
    "device": lambda: {"w": torch.ones(1), "n": torch.device("cpu")},
    "path": lambda: {"w": torch.ones(1), "n": Path("a/b")},
    "tuple as key": lambda: {"w": torch.ones(1), (1, 2): 3},
    "true as key": lambda: {"w": torch.ones(1), True: 3},
    "number as key": lambda: {"w": torch.ones(1), 0.5: 3},
    "huge key": lambda: {"w": torch.ones(1), 2**61 - 1: 3},
    "unsigned": lambda: {"w": torch.ones(2, dtype=torch.uint16)},
    "conjugate": lambda: {"w": torch.ones(2, dtype=torch.complex64).conj()},
    "negative": lambda: {"w": torch.ones(2, dtype=torch.complex64).conj().imag},
    "None": lambda: None,
}
