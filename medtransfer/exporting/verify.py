"""An exported file held against the network: read again from the disk, run at several sizes, compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError, ResourceError
from .report import Check
from .subject import OUTPUT, Subject, difference, noise

#: Largest difference in float32, as a share of the largest value: another order of sums makes 1e-6.
TOLERANCE = 1e-4


def write_and_read(data: bytes, path: Path) -> bytes:
    """Write a file, and give what then lies on the disk, which is what was written, bit for bit.

    Reading some formats runs code that stands in them: nothing but this process's own bytes may go there.

    Raises:
        ResourceError: the disk gives back something else.
    """
    path.write_bytes(data)
    found = path.read_bytes()
    if hashlib.sha256(found).digest() != hashlib.sha256(data).digest():
        raise ResourceError("reads back otherwise than it was written", path=path, hint="Check the disk")
    return found


def compare(
    run: Callable[[Tensor], Any], subject: Subject, path: Path, more: Sequence[tuple[int, ...]] = ()
) -> list[Check]:
    """Run a file and the network over the same noise.

    Args:
        run: The file.
        subject: The network, and the shapes to compare at.
        path: Named in an error.
        more: Shapes beside those of the subject's axes.

    Raises:
        ModelError: they differ by more than `TOLERANCE`, or the file does not run at a size that it should take.
    """
    return [_compared(run, subject, shape, path) for shape in (*subject.axes.checked(), *more)]


def _compared(run: Callable[[Tensor], Any], subject: Subject, shape: tuple[int, ...], path: Path) -> Check:
    image, sizes = noise(shape), "x".join(map(str, shape))
    with torch.no_grad():
        wanted = _named(subject.network(image))
        try:
            given = _named(run(image))
        except Exception as error:  # each runtime has its own
            said = str(error).strip().split("\n")[0][:200]
            raise ModelError(f"does not run at {sizes}: {said}; nothing was written", path=path, hint=_hint(subject)) \
                from error  # fmt: skip
    if set(given) != set(wanted):
        raise ModelError(f"gives {', '.join(given)}, the network {', '.join(wanted)}; nothing was written", path=path)
    found = difference([given[name] for name in wanted], list(wanted.values()))
    if not found <= TOLERANCE:
        reason = f"differs from the network by {found:.2g} at {sizes}, at most {TOLERANCE:g} is allowed"
        raise ModelError(f"{reason}; nothing was written", path=path, hint=_hint(subject))
    return Check(shape, found)


def _named(output: Any) -> dict[str, Tensor]:
    return {OUTPUT: output} if isinstance(output, Tensor) else dict(output)


def _hint(subject: Subject) -> str:
    return "Give spatial_size (--spatial-size)" if subject.axes.dynamic() else "Try another format"
