"""What the command was asked for, and what every section needs of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .facts import cpu_flags


@dataclass(frozen=True)
class Options:
    """How much is measured, and where.

    Args:
        quick: Small scans and few rounds: to see that all runs, not to be quoted.
        long: MONAI on the largest scans too, which takes minutes each.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        data: The folder Task04_Hippocampus, for Dice against experts.
        model: A model folder trained on it; None: a short training makes one.
    """

    quick: bool = False
    long: bool = False
    device: str = "cpu"
    data: Path | None = None
    model: Path | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the scan that is predicted."""
        return (96, 128, 96) if self.quick else (160, 192, 160)

    @property
    def rounds(self) -> int:
        """Of what takes seconds."""
        return 3 if self.quick else 5

    @property
    def has_short_numbers(self) -> bool:
        """Whether the device computes in bfloat16 by itself, as far as oneDNN may use it."""
        if self.device != "cpu":
            return True
        return "avx512_bf16" in cpu_flags() and os.environ.get("ONEDNN_MAX_CPU_ISA") not in _WITHOUT


_WITHOUT = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
