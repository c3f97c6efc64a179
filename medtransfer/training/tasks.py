"""What mmengine trains: a plain network with its loss, in the modes ``loss``, ``predict`` and ``tensor``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from mmengine.model import BaseModel
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from ..data.cases import Layout
from ..errors import ConfigError
from .faults import told_single_values
from .registry import MODELS

Config = Mapping[str, Any]
#: the word for what of a network is measured from the training cases
FROM_DATA = "data"


class Task(BaseModel):
    """A network and what it is trained for. The network is an ordinary module and keeps its weights.

    What a run has to know of a task is said by its class, so that a new task is one class and nothing else.

    Args:
        network: A module, or its config (``dict(type="resunet18", in_channels=1, num_classes=3)``).
        channels_last: Keep activations in the ``channels_last_3d`` layout, which is faster in bfloat16;
            ``run`` chooses it by the number format where the config does not.
        data_preprocessor: mmengine's; it only moves tensors to the device.

    Attributes:
        task: What the dataset must be for, and what the card says.
        network_task: What the network must be for.
        best_metric: The score that ``best`` is chosen by, unless the config names another.
        calibrates: Whether ``calibrate=True`` can fit a temperature to what the network gives.
        network_hint, dataset_hint: What to do about a network or a dataset for another task.
        penalty: What is added to the loss in each step (see ``finetune=dict(l2sp=...)``), or None.
    """

    task: str
    network_task: str
    best_metric: str
    calibrates = False
    network_hint = "A classifier is resnet..., a segmenter resunet..., a detector faster_rcnn_... or retinanet_..."
    dataset_hint: str | None = None

    def __init__(
        self,
        network: nn.Module | Config,
        channels_last: bool = False,
        data_preprocessor: Any = None,
    ) -> None:
        super().__init__(data_preprocessor or {"type": "BaseDataPreprocessor", "non_blocking": True})
        self.network = network if isinstance(network, nn.Module) else MODELS.build(dict(network))
        self.penalty: Callable[[], Tensor] | None = None
        self._layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        if getattr(self.network, "task", self.network_task) != self.network_task:
            raise ConfigError(
                f"{type(self).__name__} trains a network for {self.network_task}, got one for {self.network.task}",
                hint=self.network_hint,
            )
        self.network.to(memory_format=self._layout)  # type: ignore[call-overload]

    @classmethod
    def network_words(cls, stated: Config, layout: Layout, dataset: Any = None) -> dict[str, Any]:
        """The words of a network's config, completed by what the data say.

        Args:
            stated: The config's own, which are left as they are.
            layout: The dataset's channels and classes.
            dataset: What trains, for words that are measured; None where only its layout is known.
        """
        return {"in_channels": len(layout.channels), "num_classes": len(layout.classes), **stated}

    @classmethod
    def stated_sizes(cls, network: Config) -> tuple[int | None, int | None]:
        """How many channels and classes the config of a network states, each None where it does not."""
        encoder = network.get("encoder") or {}
        return network.get("in_channels") or encoder.get("in_channels"), network.get("num_classes")

    @classmethod
    def assumed_layout(cls, layout: Layout, dataset: Config) -> Layout:
        """A layout without cases, made up for data that are not there, with what the dataset's config says of them."""
        return layout

    def refuse_other_data(self, layout: Layout) -> None:
        """See that the network has the channels and classes of the data.

        Raises:
            ConfigError: it has not.
        """
        for what, found in (("in_channels", layout.channels), ("num_classes", layout.classes)):
            stated = getattr(self.network, what)
            if stated is not None and stated != len(found):
                reason = f"model.network.{what} is {stated}, but the dataset has {len(found)}: {', '.join(found)}"
                raise ConfigError(reason, hint=f"Leave {what} away to take the dataset's")

    def card_facts(self, layout: Layout) -> dict[str, Any]:
        """What the card of ``best`` says of the task."""
        return {"task": self.task, "classes": list(layout.classes)}

    def init_weights(self) -> None:
        """Nothing: Runner.train() calls this, and weights may have been transferred already."""

    def forward(self, image: Any, label: Any = None, case: Sequence[str] = (), mode: str = "tensor") -> Any:
        """Run the network.

        Args:
            image: (N, C, D, H, W); of tasks whose scans differ in size a list of (C, D, H, W).
            label: (N, 1, D, H, W) class numbers for a segmenter, (N,) for a classifier, the undamaged image for a
                restorer; of other tasks see their classes.
            case: Names of the cases.
            mode: ``"loss"`` gives ``dict(loss=...)``, with more entries where the loss has parts, ``"predict"`` one
                dict a case, ``"tensor"`` the network's output.

        Raises:
            ConfigError: another mode, or a batch that norms cannot train on.
        """
        if mode == "predict":
            return self.predict(image, label, case)
        if mode == "tensor":
            return self.network(self.laid_out(image))
        if mode == "loss":
            with told_single_values():
                losses = self.compute_losses(image, label)
            return losses if self.penalty is None else {**losses, "loss": losses["loss"] + self.penalty()}
        raise ConfigError(f"mode must be loss, predict or tensor, got {mode!r}")

    def laid_out(self, image: Any) -> Any:
        """A batch in the layout in memory that the network computes in; scans in a list are left as they are."""
        return image.contiguous(memory_format=self._layout) if isinstance(image, Tensor) else image

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, ``loss``, and what is logged; mmengine's would add the parts to it a second time."""
        return losses["loss"], dict(losses)

    @abstractmethod
    def compute_losses(self, image: Any, label: Any) -> dict[str, Tensor]:
        """``loss``, which is minimised, and its parts, if it has any, by the names that they are logged by."""

    @abstractmethod
    def predict(self, image: Any, label: Any, case: Sequence[str]) -> list[dict[str, Any]]:
        """One dict a case for the metrics."""


class SingleLoss(Task):
    """A network whose output goes into one loss.

    Args:
        network: See :class:`Task`.
        loss: A module, or its config, called with (logits, target); the class's own by default.
        **arguments: See :class:`Task`.
    """

    default_loss: Config

    def __init__(self, network: nn.Module | Config, loss: nn.Module | Config | None = None, **arguments: Any) -> None:
        super().__init__(network, **arguments)
        chosen = self.default_loss if loss is None else loss
        self.criterion = chosen if isinstance(chosen, nn.Module) else MODELS.build(dict(chosen))

    def compute_losses(self, image: Tensor, label: Tensor | None) -> dict[str, Tensor]:
        """``dict(loss=...)``."""
        return {"loss": self.compute_loss(self.network(self.laid_out(image)), label)}

    @abstractmethod
    def compute_loss(self, output: Any, label: Tensor | None) -> Tensor:
        """Loss of what the network gave, computed in float32."""


class VoxelTask(SingleLoss):
    """A network from (N, C, D, H, W) to (N, K, D, H, W), or to a list of them (deep supervision)."""

    network_task = "segmentation"

    def compute_loss(self, output: Tensor | list[Tensor], label: Tensor | None) -> Tensor:
        """The loss; see :func:`deep_loss`."""
        return deep_loss(self.criterion, output, label)


def deep_loss(criterion: Callable[..., Tensor], output: Tensor | Sequence[Tensor], target: Any) -> Tensor:
    """A loss in float32; of several outputs a mean whose weights halve from one to the next, the first counting most.

    >>> float(deep_loss(nn.L1Loss(), [torch.ones(2), torch.full((2,), 4.0)], torch.zeros(2)))
    2.0
    """
    outputs = [output] if isinstance(output, Tensor) else output
    weights = [0.5**level for level in range(len(outputs))]
    terms = [w * criterion(found.float(), target) for w, found in zip(weights, outputs, strict=True)]
    return torch.stack(terms).sum() / sum(weights)


def by_case(case: Sequence[str], word: str, found: Tensor, references: Tensor | None) -> list[dict[str, Any]]:
    """What a network found of N cases, with what is right, if that is known: a dict a case, as metrics take it.

    >>> by_case(["a"], "labels", torch.tensor([1]), None)
    [{'case': 'a', 'labels': tensor(1), 'reference': None}]
    """
    known = [None] * len(found) if references is None else references
    rows = zip(case, found, known, strict=True)
    return [{"case": name, word: one, "reference": reference} for name, one, reference in rows]


def check_windows(window: Any, overlap: Any) -> None:
    """Refuse windows of validation that cannot be laid over a scan; else the first epoch would be trained for nothing.

    Raises:
        ConfigError: voxels or a share that are none.

    >>> check_windows([32, 32, 16], 0.5), check_windows(None, 0.25)
    (None, None)
    """
    fine = isinstance(window, Sequence) and len(window) == 3 and all(type(n) is int and n > 0 for n in window)
    if window is not None and not fine:
        raise ConfigError(f"window must be three whole numbers above 0, got {window!r}")
    if not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise ConfigError(f"overlap must be a share from 0 to below 1, got {overlap!r}")


def in_windows(image: Tensor, window: Sequence[int], overlap: float, network: Callable[[Tensor], Tensor]) -> Tensor:
    """Logits (N, K, D, H, W) of an image (N, C, D, H, W) from windows, blended, as validations run.

    >>> in_windows(torch.ones(1, 1, 6, 6, 6), [4, 4, 4], 0.5, lambda patch: 2 * patch).unique()
    tensor([2.])
    """
    return cast("Tensor", sliding_window_inference(image, window, 1, network, overlap, mode="gaussian"))


class Segmenter(VoxelTask):
    """A network to logits (N, K, D, H, W).

    Args:
        window: Voxels of the sliding windows of validation; None: the whole volume in one pass.
        overlap: Share by which windows overlap.
        **arguments: See :class:`Task`. The default loss is Dice plus cross-entropy.
    """

    task, best_metric = "segmentation", "dice/mean"
    default_loss = {"type": "DiceCELoss", "softmax": True, "to_onehot_y": True}

    def __init__(self, network: Any, window: Sequence[int] | None = None, overlap: float = 0.25, **arguments: Any):
        super().__init__(network, **arguments)
        check_windows(window, overlap)
        self.window, self.overlap = window, overlap

    def predict(self, image: Tensor, label: Tensor | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """``dict(case, labels (D, H, W), reference (D, H, W))`` for each case."""
        labels = self._logits(image).argmax(dim=1)
        return by_case(case, "labels", labels, None if label is None else label[:, 0])

    def _logits(self, image: Tensor) -> Tensor:
        image = self.laid_out(image)
        return (
            self.network(image) if self.window is None else in_windows(image, self.window, self.overlap, self.network)
        )


class Restorer(VoxelTask):
    """A segmentation network that gives damaged scans back as they were, so that it learns without labels.

    The default loss is SmoothL1: scans hold outliers, which squares would chase.
    """

    task, best_metric = "restoration", "restoration/r2"
    default_loss = {"type": "SmoothL1Loss"}

    @classmethod
    def stated_sizes(cls, network: Config) -> tuple[int | None, int | None]:
        """Who restores scans gives back their channels."""
        channels, classes = super().stated_sizes(network)
        return channels, classes or channels or 1

    def predict(self, image: Tensor, label: Tensor | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """``dict(case, restored (C, D, H, W), reference)`` for each case."""
        return by_case(case, "restored", self.network(self.laid_out(image)).float(), label)


class Classifier(SingleLoss):
    """A network from (N, C, D, H, W) to logits (N, K). The default loss is cross-entropy."""

    task = network_task = "classification"
    best_metric, calibrates = "scores/auroc", True
    default_loss = {"type": "CrossEntropyLoss"}

    def compute_loss(self, output: Tensor, label: Tensor | None) -> Tensor:
        """The loss against class numbers (N,)."""
        return self.criterion(output.float(), label)

    def predict(self, image: Tensor, label: Tensor | None, case: Sequence[str]) -> list[dict[str, Any]]:
        """``dict(case, probabilities (K,), reference)`` for each case."""
        probabilities = self.network(self.laid_out(image)).float().softmax(dim=1)
        return by_case(case, "probabilities", probabilities, label)


for _task in (Segmenter, Restorer, Classifier):
    MODELS.register_module(module=_task)
