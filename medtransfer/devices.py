"""Which device computes, and in which numbers."""

from __future__ import annotations

import torch

from .errors import ResourceError, UsageError

_PRECISIONS = {
    **dict.fromkeys(("float32", "fp32"), torch.float32),
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
    **dict.fromkeys(("float16", "fp16"), torch.float16),
}


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``auto`` is the first CUDA device, or else the CPU.

    Raises:
        UsageError: a name that means no device.
        ResourceError: a device that this machine does not have; never the CPU instead, without a word.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {str(name)!r}", hint=_existing())
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= count:
        raise ResourceError(f"there is no device {str(name)!r}", hint=_existing())
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that convolutions compute in; ``auto`` is float32, on CUDA float16 by autocast.

    Raises:
        UsageError: an unknown name.

    >>> choose_precision("auto", torch.device("cpu"))
    torch.float32
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in _PRECISIONS:
        raise UsageError(f"precision must be auto, float32, bfloat16 or float16, got {name!r}")
    return _PRECISIONS[name]


def _existing() -> str:
    found = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    found += ["mps"] if torch.backends.mps.is_available() else []
    return f"This machine has: {', '.join(found)}"
