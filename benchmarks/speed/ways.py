"""The ways from a prepared scan to labels that are compared: ours, and MONAI's windows with their usual settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.inference.predictor import Predictor

from .measure import timed

Labels = npt.NDArray[Any]
WINDOW = (96, 96, 96)  # the window of training that MONAI's tutorials and its bundles use most
OVERLAP = 0.5
BATCHES = (1, 4)
TITLES = {"resunet18": "ResUNet-18", "resunet50": "ResUNet-50"}


@dataclass
class Scene:
    """A network and a scan that is read, scaled and waiting: what every way starts from.

    Args:
        network: In eval mode, with one input channel.
        image: The scan (1, D, H, W), scaled.
        device: Where all ways run.
        window: MONAI's window.
        short: The numbers that the rival's autocast takes.
    """

    network: nn.Module
    image: Tensor
    device: str = "cpu"
    window: tuple[int, int, int] = WINDOW
    short: str = "bfloat16"
    _batches: dict[str, int] = field(default_factory=dict)

    def ours(self, precision: str = "auto", **settings: Any) -> Callable[[], Labels]:
        """`Predictor.run`: network, way back to the scan's grid, labels; reading and scaling are done before."""
        return runner(Predictor(self.network, self.device, precision, **settings), self.image)

    def windows(self, precision: str = "float32", batch: int = 1) -> Callable[[], Labels]:
        """MONAI's ``sliding_window_inference`` with Gaussian weights, and argmax."""
        # here, so that a process that measures our memory does not hold MONAI
        from monai.inferers.utils import sliding_window_inference

        network, image, dtype = self._placed, self.image.to(self.device)[None], getattr(torch, precision)
        device_type = torch.device(self.device).type

        def run() -> Labels:
            with torch.inference_mode(), torch.autocast(device_type, dtype, enabled=precision != "float32"):
                logits = sliding_window_inference(image, self.window, batch, network, OVERLAP, mode="gaussian")
                return logits.argmax(1)[0].byte().cpu().numpy()  # type: ignore[union-attr]

        return run

    def best_windows(self, precision: str = "float32") -> Callable[[], Labels]:
        """With the batch of windows that is faster here; one call each decides, and warms up."""
        if precision not in self._batches:
            seconds = {batch: timed(self.windows(precision, batch), self.device) for batch in BATCHES}
            self._batches[precision] = min(seconds, key=lambda batch: seconds[batch])
        return self.windows(precision, self._batches[precision])

    def name_of_windows(self, precision: str = "float32") -> str:
        """With the batch that was chosen."""
        numbers = "float32" if precision == "float32" else f"{precision} autocast"
        return f"MONAI windows, {numbers}, batch {self._batches[precision]}"

    def whole(self) -> Labels:
        """One pass of the plain network over everything, in float32: what the masks of all ways are held to."""
        with torch.inference_mode():
            return self._placed(self.image.to(self.device)[None]).argmax(1)[0].byte().cpu().numpy()

    @cached_property
    def _placed(self) -> nn.Module:
        # on a CPU the very module, contiguous, as a user's script has it
        return self.network.to(self.device) if self.device != "cpu" else self.network


def runner(predictor: Predictor, image: Tensor) -> Callable[[], Labels]:
    """The second half of a prediction over an image (C, D, H, W) that is on the working grid already."""
    job = predictor.read((image.numpy(), np.eye(4)))
    for ready in job.prepared:
        ready.array[...] = image.numpy()  # scaled once: both ways get the same numbers
    return lambda: np.asanyarray(predictor.run(job, probabilities=False).labels.dataobj)


def build(name: str, num_classes: int = 3, in_channels: int = 1) -> nn.Module:
    """A network of the zoo with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    return mt.create_model(name, in_channels=in_channels, num_classes=num_classes).eval()


def random_scan(shape: tuple[int, ...], channels: int = 1) -> Tensor:
    """(C, D, H, W) of normal noise."""
    return torch.randn(channels, *shape, generator=torch.Generator().manual_seed(0))
