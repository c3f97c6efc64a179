"""The catalog's names, as plain data: what `medtransfer info` lists without importing torch."""

from __future__ import annotations

import fnmatch

RESNET_DEPTHS = (10, 18, 34, 50, 101, 152, 200)

#: name -> (family, depth)
MODEL_NAMES: dict[str, tuple[str, int]] = {
    f"{family}{depth}": (family, depth) for family in ("resnet", "resunet") for depth in RESNET_DEPTHS
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the zoo that match a shell pattern, shallow networks first.

    >>> list_models("res*18")
    ['resnet18', 'resunet18']
    """
    return [name for name in MODEL_NAMES if fnmatch.fnmatchcase(name, pattern)]
