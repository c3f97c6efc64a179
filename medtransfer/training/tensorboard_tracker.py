"""TensorBoard: event files in the training folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..volumes.extras import require_extra
from .registry import TRACKERS
from .tracker import Start, Tracker

FOLDER = "tensorboard"
FLUSH = 20  # seconds until what was written is seen


class TensorBoard(Tracker):
    """Writes ``WORK_DIR/tensorboard``, whatever the number of times that the run is resumed.

    A run that goes on hides what an earlier process wrote of steps that are trained again.
    """

    def connect(self) -> None:
        """See that the library is there.

        Raises:
            MissingExtraError: it is not.
        """
        require_extra("tensorboard", "tensorboard", "trackers=['tensorboard']")

    def open(self, start: Start) -> str:
        """Begin another event file."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.work_dir / FOLDER
        again = start.step + 1 if start.step else None
        self._writer: Any = SummaryWriter(str(folder), purge_step=again, flush_secs=FLUSH)
        return f"{folder}; see it with: tensorboard --logdir {self.work_dir.parent}"

    def write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """A point of each curve."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def write_text(self, name: str, text: str) -> None:
        """Words with their line breaks and spaces: TensorBoard reads text as Markdown."""
        self._writer.add_text(name, f"```\n{text}\n```", 0)

    def write_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """A picture of the tab Images."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def end(self, outcome: str, start: Start, scores: Mapping[str, float]) -> None:
        """Let the tab HParams compare the run with others by its config and best scores, and close the file."""
        from torch.utils.tensorboard.summary import hparams

        try:
            if outcome == "FINISHED":
                # add_hparams of the writer would make one more run out of it, named by the time
                for part in hparams(dict(start.parameters), dict(scores)):
                    self._writer.file_writer.add_summary(part)
        finally:
            self._writer.close()


TRACKERS.register_module(name="tensorboard", module=TensorBoard)
