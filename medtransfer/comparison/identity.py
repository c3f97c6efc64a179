"""What a comparison's folder says of its plan, so that runs of two plans are never mixed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from ..checkpoint.folder import WEIGHTS_NAME
from ..checkpoint.source import file_sha256
from ..errors import ConfigError
from ..files import write_json
from .runs import Plan, Run, plain_config

#: keys that may change: where things lie on this machine, what is said, what is kept
FREE_KEYS = ("data_root", "source", "log_level", "default_hooks", "medtransfer_version", "description", "license")
SHOWN = 4


def of_plan(plan: Plan) -> dict[str, Any]:
    """What all runs of a comparison share: the config, the test cases."""
    return _plain({"config": plain_config(plan.base), "test_cases": [case.id for case in plan.test]})


def of_run(run: Run) -> dict[str, Any]:
    """What belongs to one run; of its source, the checksum."""
    transfer = dict(run.arm.transfer)
    weights = {"weights_sha256": fingerprint(transfer["source"])} if transfer else {}
    return _plain({
        "training_cases": run.training_cases,
        "seed": run.seed,
        "finetune": dict(run.arm.finetune),
        "transfer": {**transfer, **weights},
    })  # fmt: skip


def fingerprint(source: str) -> str | None:
    """SHA-256 of a weight file or of a model folder's weights; None for other folders, which are not looked into."""
    file = os.path.join(source, WEIGHTS_NAME) if os.path.isdir(source) else source
    return _sha256(file, os.stat(file).st_mtime_ns) if os.path.isfile(file) else None


@lru_cache
def _sha256(file: str, changed: int) -> str:
    """Once for all runs."""
    return file_sha256(file)


def keep(path: Path, identity: Mapping[str, Any], what: str) -> None:
    """Write an identity, or compare it with the one that is there.

    Args:
        path: The file.
        identity: From :func:`of_plan` or :func:`of_run`.
        what: Whose it is, for the message.

    Raises:
        ConfigError: the file says something else; the first differences are named.
    """
    refuse_change(path, identity, what)
    if not path.exists():
        write_json(path, identity, overwrite=False)


def refuse_change(path: Path, identity: Mapping[str, Any], what: str) -> None:
    """Compare an identity with the file, if there is one.

    Raises:
        ConfigError: the file says something else, or cannot be read.
    """
    if not path.exists():
        return
    try:
        before = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(
            f"does not say what {what} was: {error}", path=path, hint="Name another --work-dir"
        ) from error
    changes = list(differences(before, identity))
    if changes:
        rest = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        reason = f"{what} was planned otherwise: {'; '.join(changes[:SHOWN])}{rest}"
        raise ConfigError(reason, path=path, hint="Name another --work-dir: runs of two plans are not mixed")


def differences(before: Any, now: Any, trail: str = "") -> Iterator[str]:
    """What differs between two plain documents, in words; :data:`FREE_KEYS` may.

    >>> list(differences({"a": {"lr": 1}, "source": "x"}, {"a": {"lr": 2}, "source": "y"}))
    ['a.lr was 1, is 2']
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            if key not in FREE_KEYS:
                yield from differences(before.get(key), now.get(key), f"{trail}.{key}" if trail else str(key))
    elif before != now:
        yield f"{trail} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read from the file."""
    return dict(json.loads(msgspec.json.encode(document, enc_hook=str)))
