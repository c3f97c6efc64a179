"""Whether a case of an earlier run is whole, and was made from the same models, options and scans."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import nibabel as nib

from ..checkpoint.card import ModelCard
from ..errors import OutputExistsError, UsageError
from ..files import text_of
from ..volumes.dicom import split_series
from .order import Order
from .parts import read_json
from .predictor import Predictor
from .scans import Scan

#: where ``CASE.json`` says, within "run", what the case was made from
KEY = "made_from"
_WORDS = ("sha256", "versions", "parent", "description")
_OTHERS = {"models": "by another model", "cards": "by the same weights, with another card"}
#: files whose voxels lie beside them
_HEADERS = {".hdr", ".nhdr", ".mhd"}


def identity_of(predictor: Predictor, order: Order) -> dict[str, Any]:
    """The models, by weights and card, and the options that change a result; device and memory do not."""
    settings, cleaning = predictor.members[0].settings, predictor.cleaning
    options = {
        "nan": order.nan,
        "volume": order.volume,
        "tile": settings.tile,
        "overlap": settings.overlap,
        "precision": predictor.engine.precision,
        "compiled": predictor.engine.compiled,
        "tta": predictor.tta,
        "crop": predictor.crop,
        "classes": cleaning.kept,
        "largest_component": cleaning.largest,
        "fill_holes": cleaning.filled,
        # not of other networks: their cases from before boxes could be predicted can be kept
        **({"score": predictor.thresholds.score} if predictor.thresholds else {}),
    }
    cards = [member.card for member in predictor.members]
    return {
        "models": [card.sha256 for card in cards],
        "cards": [_digest(card) for card in cards],
        "options": _plain(options),
    }


def _digest(card: ModelCard) -> str:
    """Of what a card says that changes a result; its words and the models it came from do not."""
    fields = {key: value for key, value in msgspec.to_builtins(card).items() if key not in _WORDS}
    return hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()[:16]


def require_checksums(identity: Mapping[str, Any]) -> None:
    """Raise if a case could not be told from one of another model.

    Raises:
        UsageError: a network was given that was never saved.
    """
    if not all(identity["models"]):
        raise UsageError("resume needs model folders: a network in memory has no checksum", hint="Save it first")


def files_of(scan: Scan) -> list[list[Any]]:
    """Name, bytes and time of change of every file of a scan; of a folder, those of its files together."""
    return [_facts(path) for path in scan.files]


def read_case(record: Path, outputs: Sequence[Path], identity: Mapping[str, Any], scan: Scan) -> dict[str, Any] | None:
    """``CASE.json`` of a case that is whole and was made from these files; None if it must be done, or done again.

    Raises:
        OutputExistsError: the case is there, but of another model or other options.
    """
    found = read_json(record) or {}
    run = found.get("run")
    made = run.get(KEY) if isinstance(run, dict) else None
    if not isinstance(made, dict):
        return None
    made = {**made, "options": _in_these_words(made.get("options"), identity["options"])}
    other = [key for key in identity if made.get(key) != identity[key]]
    if other:
        reason = f"was made {_difference(made, identity, other[0])}"
        raise OutputExistsError(reason, path=record, hint="Pass --overwrite to do it again, or name another output")
    try:
        same = made.get("files") == files_of(scan)
    except OSError:  # a scan that is gone; reading it will say so
        same = False
    return found if same and all(map(is_whole, outputs)) else None


def is_whole(path: Path) -> bool:
    """Whether an output is there and not cut short: of a NIfTI file, whether it is as long as its header says.

    The gate of ``volumes.read`` would unpack every mask of a batch; these were written here, and two numbers tell.
    """
    if not path.is_file() or not path.stat().st_size:
        return False
    if not path.name.endswith(".nii.gz"):
        return True
    try:
        image = nib.load(path)
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            (length,) = struct.unpack("<I", file.read(4))  # of what was packed, modulo 2^32
        voxels = image.dataobj  # type: ignore[attr-defined]
        return bool(length == (voxels.offset + math.prod(voxels.shape) * voxels.dtype.itemsize) % 2**32)
    except Exception:  # whatever is wrong with it, it is not whole
        return False


def _facts(path: Path) -> list[Any]:
    stats = [file.stat() for file in _files_behind(path)]
    return [
        text_of(path.name),
        sum(stat.st_size for stat in stats),
        max((stat.st_mtime_ns for stat in stats), default=0),
    ]


def _files_behind(path: Path) -> list[Path]:
    """All files of a scan: those of a DICOM series' folder, or a header with what lies beside it under its name."""
    series = split_series(path)
    if series is not None:
        return [file for file in series[0].iterdir() if file.is_file()]
    if path.suffix.lower() in _HEADERS:
        return [file for file in path.parent.iterdir() if file.stem == path.stem and file.is_file()]
    return [path]


def _in_these_words(made: Any, now: Mapping[str, Any]) -> Any:
    """The options of an older record, which says neither ``compiled`` nor whether float32 was tf32.

    What it does not say is taken to be as now, so that batches from then can be continued.

    >>> now = {"precision": "tf32", "compiled": True}
    >>> _in_these_words({"precision": "torch.float32"}, now) == now
    True
    """
    if not isinstance(made, dict) or "compiled" in made:
        return made
    precision = str(made.get("precision")).removeprefix("torch.")
    shortened = precision == "float32" and now["precision"] == "tf32"
    return {**made, "precision": "tf32" if shortened else precision, "compiled": now["compiled"]}


def _plain(options: dict[str, Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(options))


def _difference(made: Mapping[str, Any], identity: Mapping[str, Any], key: str) -> str:
    if key in _OTHERS:
        return _OTHERS[key]
    before, now = made.get(key) or {}, identity[key]
    changed = [f"{name} {before.get(name)} (now {now[name]})" for name in now if before.get(name) != now[name]]
    return f"with other options: {', '.join(changed)}"
