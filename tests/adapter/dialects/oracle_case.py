"""One source format's oracle: a file in its real layout, and what the source's own code computes from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: values compared of each golden feature map
GOLDEN_VALUES = 64


@dataclass(frozen=True)
class OracleCase:
    """A file of random weights, and the maps that the source's network gives from them.

    Attributes:
        dialect: The name that must be detected.
        path: The file, as the source's own code or its documentation lays it out.
        x: The input (N, C, ...).
        maps: What the source's own code computes from x, or a golden file of it (:func:`load_golden`).
        oracle: Whose code that was, in words, with its version.
        layout: What stands in the file, in words, when a dialect has more than one case.
        maps_here: (network of the zoo, x) -> the same maps; ``network.features`` by default.
        arguments: Arguments of the network where the home that is told from the file must be changed.
    """

    dialect: str
    path: Path
    x: Tensor
    maps: list[Tensor] | list[dict[str, Any]]
    oracle: str
    layout: str = ""
    maps_here: Callable[[nn.Module, Tensor], list[Tensor]] | None = None
    arguments: dict[str, Any] | None = None


def difference(case: OracleCase, found: list[Tensor]) -> float:
    """The largest max |a - b| / max |b| over all maps."""
    assert len(found) == len(case.maps)
    return max(_difference(a, b) for a, b in zip(found, case.maps, strict=True))


def _difference(found: Tensor, expected: Tensor | dict[str, Any]) -> float:
    if isinstance(expected, Tensor):
        assert found.shape == expected.shape
        return float((found - expected).abs().max() / expected.abs().max())
    assert tuple(found.shape) == tuple(expected["shape"])
    values = found.flatten()[torch.from_numpy(expected["positions"])].numpy()
    return float(np.abs(values - expected["values"]).max() / expected["max"])


def fill(state: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Values for a state dict by a rule that any project's environment can run: no torch generator is involved.

    Keys in sorted order, each from its own numpy RandomState; variances are positive, weights of He's size.
    """
    return {key: _filled(state[key], seed + i) for i, key in enumerate(sorted(state))}


def _filled(tensor: Tensor, seed: int) -> Tensor:
    if not tensor.is_floating_point():
        return torch.zeros_like(tensor)
    draw = np.random.RandomState(seed)
    if tensor.ndim < 2:  # norms and biases; as variances and scales they must be positive
        return torch.from_numpy(draw.uniform(0.5, 1.5, tuple(tensor.shape)).astype(np.float32))
    values = draw.standard_normal(tuple(tensor.shape)) * np.sqrt(2 / tensor[0].numel())
    return torch.from_numpy(values.astype(np.float32))


def golden_of(maps: list[Tensor], seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for ``np.savez`` that stand for feature maps: shape, largest size, and values at seeded positions."""
    arrays: dict[str, np.ndarray] = {}
    for i, values in enumerate(maps):
        flat = values.detach().flatten().numpy()
        positions = np.random.RandomState(seed + i).randint(0, flat.size, GOLDEN_VALUES)
        arrays |= {f"{i}.shape": np.array(values.shape), f"{i}.max": np.abs(flat).max(), f"{i}.positions": positions,
                   f"{i}.values": flat[positions]}  # fmt: skip
    return arrays


def load_golden(path: Path) -> list[dict[str, Any]]:
    """Maps as :func:`golden_of` wrote them."""
    with np.load(path) as arrays:
        count = 1 + max(int(name.partition(".")[0]) for name in arrays)
        return [
            {
                name: arrays[f"{i}.{name}"] if name != "max" else float(arrays[f"{i}.max"])
                for name in ("shape", "max", "positions", "values")
            }
            for i in range(count)
        ]
