"""Which training framework wrote a checkpoint: a wrapper around any dialect, told by what stands beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def framework(metadata: Mapping[str, Any]) -> str | None:
    """The framework and its version, for the report's words on where the weights came from.

    Lightning's files hold ``pytorch-lightning_version`` (also ``hyper_parameters``, ``loops``, ``callbacks``), with the
    network under an attribute of the module, such as ``model.`` or ``net.``; mmengine's hold ``meta``.

    >>> framework({"epoch": 3, "pytorch-lightning_version": "2.5.0"})
    'Lightning 2.5.0'
    """
    if "pytorch-lightning_version" in metadata:
        return f"Lightning {metadata['pytorch-lightning_version']}"
    meta = metadata.get("meta")
    if not isinstance(meta, Mapping):
        return None
    known = {"mmengine_version": "mmengine", "mmcv_version": "mmcv", "mmcls_version": "mmcls"}
    return next((f"{words} {meta[key]}" for key, words in known.items() if key in meta), None)
