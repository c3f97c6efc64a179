"""``medtransfer info``: versions, devices and models, or a model folder's card; at once, since no torch is imported.

With ``--trainable`` what a config would train, for which torch is.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import sys
from argparse import ArgumentParser, Namespace
from importlib import metadata, util
from pathlib import Path
from typing import Any

from medtransfer.errors import UsageError
from medtransfer.version import __version__

from .options import add_cfg_options, add_json
from .results import Results

USAGE = "[MODEL | --trainable CONFIG [--cfg-options K=V ...]] [--json]"
_PACKAGES = ("torch", "mmengine", "mmcv-lite", "monai", "nibabel", "numpy", "safetensors", "nilearn")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a model folder, whose card is shown")
    parser.add_argument(
        "--trainable",
        metavar="CONFIG",
        help="what `train CONFIG` would train, how fast and from which step on; nothing is trained or written",
    )
    add_cfg_options(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Show what is installed, a card, or what a config would train.

    Raises:
        UsageError: options that do not go together.
    """
    if options.trainable is not None:
        return _show_trainable(options, results)
    if options.cfg_options:
        raise UsageError("--cfg-options belongs to --trainable CONFIG")
    document = _facts() if options.model is None else _card(options.model)
    results.write_either(document, "\n".join(_lines(document)), options.json)
    return 0


def _show_trainable(options: Namespace, results: Results) -> int:
    if options.model is not None:
        raise UsageError("a MODEL and --trainable are two questions", hint="Ask them one after the other")
    from medtransfer.training.preview import preview

    shown = preview(options.trainable, options.cfg_options)
    results.write_either(shown.to_dict(), str(shown), options.json)
    return 0


def _card(folder: str) -> dict[str, Any]:
    import msgspec

    from medtransfer.checkpoint.card import read_card

    return dict(msgspec.to_builtins(read_card(folder)))


def _facts() -> dict[str, Any]:
    from medtransfer.model_zoo.names import MODEL_NAMES

    return {
        "medtransfer": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": _devices(),
        "models": list(MODEL_NAMES),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    """The processor, and the NVIDIA cards that the driver lists; whether torch can use them is read from its files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices: list[dict[str, Any]] = [{"name": "cpu", "cores": cores}]
    usable = _torch_cuda() is not None
    for file in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        model = re.search(r"Model:\s*(.+)", Path(file).read_text(errors="replace"))
        devices.append({"name": "cuda", "model": model.group(1).strip() if model else "unknown", "usable": usable})
    if sys.platform == "darwin" and platform.machine() == "arm64":
        devices.append({"name": "mps"})
    return devices


def _torch_cuda() -> str | None:
    """The CUDA version that torch was built for, from its version file; None for a CPU build or without torch."""
    found = util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).with_name("version.py")
    cuda = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", file.read_text() if file.is_file() else "", re.MULTILINE)
    return cuda.group(1) if cuda else None


def _lines(document: dict[str, Any]) -> list[str]:
    """``key  value`` lines, with nested dicts and lists indented under their key."""
    width = max(map(len, document), default=0) + 2
    lines = []
    for key, value in document.items():
        if isinstance(value, dict) and value:
            lines += [f"{key}:", *(f"  {line}" for line in _lines(value))]
        else:
            lines.append(f"{key:<{width}}{_text(value)}")
    return lines


def _text(value: object) -> str:
    if isinstance(value, dict):
        name, *rest = [str(item) if key == "name" else f"{key} {item}" for key, item in value.items()] or ["-"]
        return f"{name} ({', '.join(rest)})" if rest else name
    if isinstance(value, list):
        return ("; " if value and isinstance(value[0], dict) else ", ").join(map(_text, value))
    return "-" if value in (None, "") else str(value)
