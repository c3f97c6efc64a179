"""The errors and their exit codes, out of the classes."""

from __future__ import annotations

from collections.abc import Iterator

from medtransfer import errors
from medtransfer.errors import MedTransferError

from .table import from_docstring, table

CODES = {
    0: "done",
    1: "unexpected error, with the way to report it",
    2: "usage or config",
    3: "a scan, label or dataset was refused",
    4: "a checkpoint or model was refused",
    5: "a batch has finished, and some of its cases failed; all others are written, the failed ones are listed",
    6: "memory, disk, device or network",
    130: "interrupted; the state is saved",
    143: "terminated; the state is saved",
}


def kinds() -> Iterator[type[MedTransferError]]:
    """All errors that are raised on purpose, the base first."""
    yield from (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MedTransferError))


def table_of_kinds() -> str:
    """Name, exit code, what else it is, and what it means."""
    rows = [
        [f"`{kind.__name__}`", str(kind.exit_code), _built_in(kind), from_docstring(kind.__doc__)] for kind in kinds()
    ]
    return table(["error", "exit code", "also a", "means"], rows)


def _built_in(kind: type[MedTransferError]) -> str:
    return ", ".join(f"`{base.__name__}`" for base in kind.__bases__ if not issubclass(base, MedTransferError))


def exit_codes() -> str:
    """Every exit code, and the errors that end with it."""
    raised = {code: [f"`{kind.__name__}`" for kind in kinds() if kind.exit_code == code] for code in CODES}
    unknown = {kind.exit_code for kind in kinds()} - set(CODES)
    if unknown:
        raise LookupError(f"exit codes without a meaning: {unknown}")
    return table(
        ["exit code", "means", "errors"], [[str(code), CODES[code], ", ".join(raised[code])] for code in CODES]
    )
