"""What a finished run of a comparison leaves behind: one checked JSON file each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import DatasetError
from ..files import write_json

SUFFIX = ".json"
#: The arm without a source.
SCRATCH = "scratch"


class Answer(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The answer to one scan of a classification task: probabilities by class, and the number of the true class."""

    probabilities: list[float]
    label: int


class RunResult(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One run of a comparison, scored on the test cases.

    Attributes:
        arm: ``scratch`` or ``SOURCE/POLICY``.
        source: Name of the source; None from scratch.
        policy: The policy's name.
        training_cases: Number of labelled cases that it was trained on.
        seed: Seed of the training and of the choice of those cases.
        steps: Steps of the optimizer.
        task: ``segmentation`` or ``classification``.
        classes: All class names, the background first where there is one.
        cases: As in the file, by id of the test case; read it through :attr:`dice` or :attr:`answers`.
        curve: Training loss as (step, loss).
        drift: Linear CKA between the encoder's features and those of the weights it began from, by stage; None from
            scratch.
        dead: Share of channels that do not vary, by stage.
        seconds: Time that the training took.
        versions: Of the libraries.
    """

    arm: str
    source: str | None
    policy: str
    training_cases: int
    seed: int
    steps: int
    task: Literal["segmentation", "classification"]
    classes: list[str]
    cases: dict[str, dict[str, float | int | list[float] | None]]
    curve: list[tuple[int, float | None]]
    drift: dict[str, float] | None
    dead: dict[str, float]
    seconds: float
    versions: dict[str, str]

    def __post_init__(self) -> None:
        kind = Answer if self.task == "classification" else dict[str, float | None]
        msgspec.convert(self.cases, dict[str, kind])  # type: ignore[valid-type]

    @property
    def dice(self) -> dict[str, dict[str, float]]:
        """Of a segmentation: by case, Dice of each class but the background; NaN where the class is in neither mask."""
        found = msgspec.convert(self.cases, dict[str, dict[str, float | None]])
        return {case: {name: math.nan if d is None else d for name, d in row.items()} for case, row in found.items()}

    @property
    def answers(self) -> dict[str, Answer]:
        """Of a classification: by case."""
        return msgspec.convert(self.cases, dict[str, Answer])


def write_result(result: RunResult, path: str | Path) -> None:
    """Write a result, whole or not at all; NaN becomes null.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    write_json(path, result)


def read_result(path: str | Path) -> RunResult:
    """Read one result.

    Raises:
        DatasetError: the file is no result of a run.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=RunResult)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "Delete it, and the run is done again"
        raise DatasetError(f"is no result of a comparison's run: {error}", path=path, hint=hint) from error


def read_results(folder: str | Path) -> list[RunResult]:
    """Every result of a folder, by name of the run.

    Args:
        folder: The folder ``results`` of a comparison.

    Raises:
        DatasetError: a file is no result of a run.
    """
    return [read_result(path) for path in result_files(folder)]


def result_files(folder: str | Path) -> Sequence[Path]:
    """The files of the finished runs, by name."""
    return sorted(path for path in Path(folder).glob(f"*{SUFFIX}") if f".part{SUFFIX}" not in path.name)
