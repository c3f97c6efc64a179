"""The block of metadata that opens a model page on a hub: YAML of which every value is a quoted JSON text.

A quoted JSON text of printable characters on one line is a YAML scalar too (https://yaml.org/spec/1.2.2/#10), so no
name of a class or licence can end the block or add a key to it.
"""

from __future__ import annotations

import json

from .card import ModelCard

MAX_METRICS = 20
#: The hub's word for what a network does; the other tasks have none that fits.
PIPELINES = {
    "segmentation": "image-segmentation",
    "classification": "image-classification",
    "detection": "object-detection",
}

#: Licences that a hub's pages can be filtered by (https://huggingface.co/docs/hub/repositories-licenses).
HUB_LICENSES = frozenset({
    *("apache-2.0", "mit", "isc", "mpl-2.0", "unlicense", "wtfpl", "zlib", "bsd-2-clause", "bsd-3-clause"),
    *("bsd-3-clause-clear", "bsl-1.0", "afl-3.0", "artistic-2.0", "epl-2.0", "eupl-1.1", "ofl-1.1"),
    *("gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-3.0"),
    *("cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "odbl", "odc-by", "pddl"),
    *("openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigcode-openrail-m"),
})  # fmt: skip


def front_matter(card: ModelCard) -> str:
    """Draw the block, from one ``---`` to the other.

    >>> from medtransfer.checkpoint.card import Architecture
    >>> card = ModelCard(task="segmentation", architecture=Architecture("resunet18"), input_channels=["T1"],
    ...                  classes=["background", "hippocampus"], license="CC-BY-4.0")
    >>> print(front_matter(card))
    ---
    library_name: "medtransfer"
    license: "cc-by-4.0"
    pipeline_tag: "image-segmentation"
    tags: ["medtransfer", "medical-imaging", "segmentation", "resunet18"]
    ---
    """
    entries = {
        "library_name": "medtransfer",
        **_license(card.license),
        "pipeline_tag": PIPELINES.get(card.task),
        "tags": ["medtransfer", "medical-imaging", card.task, card.architecture.name],
        "metrics": [_plain(name) for name in card.metrics][:MAX_METRICS],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items() if value]
    return "\n".join(["---", *lines, "---"])


def _license(text: str) -> dict[str, str]:
    """A licence that the hub knows by its identifier; any other by its own name."""
    name = _plain(text)
    if name.lower() in HUB_LICENSES:
        return {"license": name.lower()}
    return {"license": "other", "license_name": name} if name else {}


def _plain(text: str) -> str:
    """Words on one line, without what is not printable, which YAML has no place for."""
    words = " ".join(text.split())
    return "".join(letter for letter in words if letter.isprintable())[:200]
