"""The oldest versions of other packages that this one works with, held against those that are installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata

from .errors import UsageError

_FLOOR = re.compile(r"([A-Za-z0-9_.-]+)\s*>=\s*([0-9.]+)\s*$")


class OldPackageError(UsageError, ImportError):  # type: ignore[misc]
    """A package that is installed, but too old."""


@cache
def refuse_old_packages() -> None:
    """Refuse to start on packages that are older than the floors that this package's own metadata state.

    What is missing is left to the import that needs it. Metadata alone is read, once in a process: nothing heavy is
    imported.

    Raises:
        OldPackageError: names every such package with both versions.
    """
    old = [
        f"{name} {found} (at least {floor})"
        for name, floor in _floors(_required())
        if (found := _installed(name)) and _numbers(found) < _numbers(floor)
    ]
    if old:
        raise OldPackageError(f"needs newer packages than are installed: {', '.join(old)}", hint=_hint(old))


def _required() -> list[str]:
    try:
        return metadata.requires("medtransfer") or []
    except metadata.PackageNotFoundError:  # a checkout on the path
        return []


def _floors(requirements: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and version of the requirements of every install, not of the extras.

    >>> list(_floors(["torch>=2.10", "nilearn>=0.11; extra == 'demo'"]))
    [('torch', '2.10')]
    """
    for requirement in requirements:
        found = _FLOOR.match(requirement)
        if found:
            yield found[1], found[2]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, so that they can be compared.

    >>> _numbers("2.13.0+cpu") > _numbers("2.9.1")
    True
    """
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def _hint(old: list[str]) -> str:
    names = " ".join(entry.split(" ")[0] for entry in old)
    return f"Update them: pip install --upgrade {names}"
