"""Whether raw bytes of a file, seen as numbers of a type, are surely finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np


def always(_content: memoryview) -> bool:
    """For whole numbers, and what holds no numbers."""
    return True


def never(_content: memoryview) -> bool:
    """For types that are not told here: not sure."""
    return False


def _finite_sum(kind: str) -> Callable[[memoryview], bool]:
    """One NaN or infinity makes the sum so; a sum of finite numbers that overflows only makes it unsure."""

    def check(content: memoryview) -> bool:
        with np.errstate(all="ignore"):
            return bool(np.isfinite(np.add.reduce(np.frombuffer(content, kind))))

    return check


def _finite_bits(exponent: int) -> Callable[[memoryview], bool]:
    """Numbers of 16 bits are NaN or infinite if all bits of the exponent are set."""

    def check(content: memoryview) -> bool:
        return not bool(((np.frombuffer(content, "<u2") & exponent) == exponent).any())

    return check


FINITE: Mapping[str, Callable[[memoryview], bool]] = MappingProxyType(
    {
        **{f"torch.{kind}Storage": always for kind in ("Byte", "Char", "Short", "Int", "Long", "Bool")},
        "torch.FloatStorage": _finite_sum("<f4"),
        "torch.DoubleStorage": _finite_sum("<f8"),
        "torch.ComplexFloatStorage": _finite_sum("<c8"),
        "torch.ComplexDoubleStorage": _finite_sum("<c16"),
        "torch.HalfStorage": _finite_bits(0x7C00),
        "torch.BFloat16Storage": _finite_bits(0x7F80),
    }
)
"""A test for each type of storage: True only if all its numbers are finite. Little-endian, as torch writes."""
