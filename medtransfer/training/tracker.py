"""What every tracker is: a place beside the training folder where a run's numbers, config and pictures go."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.visualization import BaseVisBackend
from torch import Tensor

#: of a row of the log, what counts it rather than tells about it
COUNTS = ("epoch", "iter")


@dataclass(frozen=True)
class Start:
    """Where a run begins, or goes on.

    Attributes:
        name: Of the run.
        step: Steps done already; 0 of a new run.
        parameters: Every entry of the config by its dotted name, as a number or a word.
        memory: mmengine's, which goes into the checkpoints: what is kept there comes back when the run is resumed.
    """

    name: str
    step: int
    parameters: Mapping[str, Any]
    memory: MessageHub


class Tracker(BaseVisBackend, ABC):
    """A backend of mmengine's visualizer that is opened when training begins and ended with its outcome.

    What goes wrong in it while the run trains is no reason to lose the run: it is told once, and the tracker is left
    alone from then on. Subclasses give the six functions that follow the constructor.

    Args:
        work_dir: The training folder.
    """

    def __init__(self, work_dir: str | Path, /) -> None:
        super().__init__(str(work_dir))
        self.work_dir = Path(work_dir).absolute()
        self.log = logging.getLogger(__name__)
        self.is_open = False

    @abstractmethod
    def connect(self) -> None:
        """See that it can be used, before anything is read or written.

        Raises:
            MissingExtraError: its library is not installed.
            ConfigError: it cannot be used as configured.
        """

    @abstractmethod
    def open(self, start: Start) -> str:
        """Begin, or go on; return where everything goes, for the log.

        Raises:
            ConfigError: it cannot be used as configured.
        """

    @abstractmethod
    def write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by their names, such as ``train/loss``."""

    @abstractmethod
    def write_text(self, name: str, text: str) -> None:
        """Write words, such as those of the file ``config.py``."""

    @abstractmethod
    def write_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Write a picture, (height, width, RGB) of 0 to 255."""

    @abstractmethod
    def end(self, outcome: str, start: Start, scores: Mapping[str, float]) -> None:
        """End it.

        Args:
            outcome: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
            start: What it was opened with.
            scores: The best ones, without any of a run that failed.
        """

    def try_to(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do something, unless the tracker is not open; a failure is told, and closes it."""
        if not self.is_open:
            return
        try:
            act(*arguments)
        except Exception as error:  # whatever a library of somebody else raises
            self.is_open = False
            self.log.warning(f"{type(self).__name__} gets no more of this run: {in_one_line(error)}")

    def _init_env(self) -> None:
        """Nothing is made before :meth:`open`."""

    @property
    def experiment(self) -> Tracker:
        """This tracker."""
        return self

    def add_config(self, config: Config, **more: Any) -> None:
        """Not yet: mmengine shows the config before it is known whether the run can start."""

    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **more: Any
    ) -> None:
        """A row of the training's log. Rows of validations count epochs; their scores come by the hook, with steps."""
        if COUNTS[-1] in scalar_dict:
            named = {f"train/{name}": value for name, value in scalar_dict.items() if name not in COUNTS}
            self.try_to(self.write_numbers, plain_numbers(named), step)

    def add_scalar(self, name: str, value: Any, step: int = 0, **more: Any) -> None:
        """A number of a hook of the user's own."""
        self.try_to(self.write_numbers, plain_numbers({name: value}), step)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **more: Any) -> None:
        """A picture of a hook of the user's own, (height, width, RGB)."""
        self.try_to(self.write_picture, name, image, step)


def plain_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of the values that are numbers, as floats; NaN and infinities among them.

    >>> import torch
    >>> plain_numbers({"loss": np.float32(0.5), "eta": "1:20", "flag": True, "each": torch.zeros(2)})
    {'loss': 0.5}
    """
    return {name: float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    one = not isinstance(value, Tensor) or value.numel() == 1  # a metric of one's own may give a tensor
    return isinstance(value, int | float | np.number | Tensor) and not isinstance(value, bool) and one


def flat(config: Mapping[str, Any], trail: str = "") -> dict[str, Any]:
    """The entries of a config by their dotted names: numbers as they are, all else as text; what is None is left out.

    >>> flat({"lr": 0.1, "model": {"type": "Segmenter", "strides": [1, 2], "loss": None}})
    {'lr': 0.1, 'model.type': 'Segmenter', 'model.strides': '[1, 2]'}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{trail}{key}.")
        elif value is not None:
            found[f"{trail}{key}"] = (
                value if isinstance(value, bool | int | float) and _is_finite(value) else str(value)
            )
    return found


def _is_finite(value: float) -> bool:
    return math.isfinite(value)


def in_one_line(error: BaseException) -> str:
    """What an error says first, without a final stop.

    >>> in_one_line(ValueError("no such store.\\nTraceback ..."))
    'no such store'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".:")
