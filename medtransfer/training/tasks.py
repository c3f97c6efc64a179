"""What mmengine trains: a plain network with its loss, in the modes ``loss``, ``predict`` and ``tensor``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from mmengine.model import BaseModel
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from ..errors import ConfigError
from .registry import MODELS

Config = Mapping[str, Any]


class Task(BaseModel):
    """A network and a loss around it. The network is an ordinary module and keeps its weights.

    Args:
        network: A module, or its config (``dict(type="resunet18", in_channels=1, num_classes=3)``).
        loss: A module, or its config, called with (logits, target).
        channels_last: Keep activations in the ``channels_last_3d`` layout, which is faster in bfloat16;
            ``run`` chooses it by the number format where the config does not.
        data_preprocessor: mmengine's; it only moves tensors to the device.

    Attributes:
        penalty: What is added to the loss in each step (see ``finetune=dict(l2sp=...)``), or None.
    """

    task: str
    network_task: str
    default_loss: Config

    def __init__(
        self,
        network: nn.Module | Config,
        loss: nn.Module | Config | None = None,
        channels_last: bool = False,
        data_preprocessor: Any = None,
    ) -> None:
        super().__init__(data_preprocessor)
        self.network = network if isinstance(network, nn.Module) else MODELS.build(dict(network))
        chosen = self.default_loss if loss is None else loss
        self.criterion = chosen if isinstance(chosen, nn.Module) else MODELS.build(dict(chosen))
        self.penalty: Callable[[], Tensor] | None = None
        self._layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        if getattr(self.network, "task", self.network_task) != self.network_task:
            raise ConfigError(
                f"{type(self).__name__} trains a network for {self.network_task}, got one for {self.network.task}",
                hint="A classifier is resnet..., a segmenter resunet...",
            )
        self.network.to(memory_format=self._layout)  # type: ignore[call-overload]

    def init_weights(self) -> None:
        """Nothing: Runner.train() calls this, and weights may have been transferred already."""

    def forward(
        self, image: Tensor, label: Tensor | None = None, case: Sequence[str] = (), mode: str = "tensor"
    ) -> Any:
        """Run the network.

        Args:
            image: (N, C, D, H, W).
            label: (N, 1, D, H, W) class numbers for a segmenter, (N,) for a classifier, the undamaged image for a
                restorer.
            case: Names of the cases.
            mode: ``"loss"`` gives ``dict(loss=...)``, ``"predict"`` one dict a case, ``"tensor"`` the network's output.
        """
        if mode == "predict":
            return self.predict(image, label, case)
        output = self.network(image.contiguous(memory_format=self._layout))
        if mode == "tensor":
            return output
        if mode == "loss":
            loss = self.compute_loss(output, label)
            return {"loss": loss if self.penalty is None else loss + self.penalty()}
        raise ConfigError(f"mode must be loss, predict or tensor, got {mode!r}")

    @abstractmethod
    def compute_loss(self, output: Any, label: Tensor | None) -> Tensor:
        """Loss of what the network gave, computed in float32."""

    @abstractmethod
    def predict(self, image: Tensor, label: Tensor | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """One dict a case for the metrics."""


class VoxelTask(Task):
    """A network from (N, C, D, H, W) to (N, K, D, H, W), or to a list of them (deep supervision)."""

    network_task = "segmentation"

    def compute_loss(self, output: Tensor | list[Tensor], label: Tensor | None) -> Tensor:
        """The loss; of several outputs a mean whose weights halve from one to the next, the first counting most."""
        outputs = [output] if isinstance(output, Tensor) else output
        weights = [0.5**level for level in range(len(outputs))]
        terms = [w * self.criterion(found.float(), label) for w, found in zip(weights, outputs, strict=True)]
        return torch.stack(terms).sum() / sum(weights)


class Segmenter(VoxelTask):
    """A network to logits (N, K, D, H, W).

    Args:
        window: Voxels of the sliding windows of validation; None: the whole volume in one pass.
        overlap: Share by which windows overlap.
        **arguments: See :class:`Task`. The default loss is Dice plus cross-entropy.
    """

    task = "segmentation"
    default_loss = {"type": "DiceCELoss", "softmax": True, "to_onehot_y": True}

    def __init__(self, network: Any, window: Sequence[int] | None = None, overlap: float = 0.25, **arguments: Any):
        super().__init__(network, **arguments)
        self.window, self.overlap = window, overlap

    def predict(self, image: Tensor, label: Tensor | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """``dict(case, labels (D, H, W), reference (D, H, W))`` for each case."""
        labels = self._logits(image).argmax(dim=1)
        references = [None] * len(labels) if label is None else label[:, 0]
        return [
            {"case": name, "labels": found, "reference": reference}
            for name, found, reference in zip(case, labels, references, strict=True)
        ]

    def _logits(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=self._layout)
        if self.window is None:
            return self.network(image)
        logits = sliding_window_inference(image, self.window, 1, self.network, self.overlap, mode="gaussian")
        return cast("Tensor", logits)


class Restorer(VoxelTask):
    """A segmentation network that gives damaged scans back as they were, so that it learns without labels.

    The default loss is SmoothL1: scans hold outliers, which squares would chase.
    """

    task = "restoration"
    default_loss = {"type": "SmoothL1Loss"}

    def predict(self, image: Tensor, label: Tensor | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """``dict(case, restored (C, D, H, W), reference)`` for each case."""
        restored = self.network(image.contiguous(memory_format=self._layout)).float()
        references = [None] * len(restored) if label is None else label
        return [
            {"case": name, "restored": found, "reference": reference}
            for name, found, reference in zip(case, restored, references, strict=True)
        ]


class Classifier(Task):
    """A network from (N, C, D, H, W) to logits (N, K). The default loss is cross-entropy."""

    task = network_task = "classification"
    default_loss = {"type": "CrossEntropyLoss"}

    def compute_loss(self, output: Tensor, label: Tensor | None) -> Tensor:
        """The loss against class numbers (N,)."""
        return self.criterion(output.float(), label)

    def predict(self, image: Tensor, label: Tensor | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """``dict(case, probabilities (K,), reference)`` for each case."""
        probabilities = self.network(image.contiguous(memory_format=self._layout)).float().softmax(dim=1)
        references = [None] * len(probabilities) if label is None else label
        return [
            {"case": name, "probabilities": found, "reference": reference}
            for name, found, reference in zip(case, probabilities, references, strict=True)
        ]


for _task in (Segmenter, Restorer, Classifier):
    MODELS.register_module(module=_task)
