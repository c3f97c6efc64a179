"""Arguments that make any network of the catalog tiny, in the words of its kind."""

from __future__ import annotations

from typing import Any

_TINY: dict[str, dict[str, Any]] = {
    "resnet": {"base_channels": 4, "stem_channels": 4},
    "vgg": {"base_channels": 4},
    "plain": {"channels": [4, 8, 8]},
    "resenc": {"channels": [4, 8, 8]},
    "genesis": {"channels": [4, 8, 8], "inner_channels": [2, 4, 8]},
}


def tiny_arguments(name: str) -> dict[str, Any]:
    """Arguments for ``create_model(name, ...)``: 4 channels to begin with."""
    kind = next((kind for kind in _TINY if name.startswith(kind)), "resnet")
    return dict(_TINY[kind])
