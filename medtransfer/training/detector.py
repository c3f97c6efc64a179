"""Training of detectors: the weighted losses of the network, and the boxes that it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data.utils import dense_patch_slices
from torch import Tensor, nn

from ..data.anchors import suggest_anchors
from ..data.cases import Layout
from ..errors import ConfigError, MedTransferError, ModelError
from ..model_zoo.detection.box_set import BoxSet
from ..model_zoo.detection.box_windows import detect_in_windows
from ..model_zoo.detection.suppress import overlap_of
from ..model_zoo.layers import as_plain
from .loss_weights import checked_weights
from .registry import MODELS
from .tasks import FROM_DATA, Config, Task, check_windows

#: anchors at each place of a map that is fitted to the data: three sizes in three shapes, as RetinaNet has
PER_PLACE = 9


class Detector(Task):
    """A detector, which computes its own losses.

    Scans of a batch may differ in size: ``image`` is a list of (C, D, H, W), ``label`` a list of
    ``dict(boxes=(N, 6), labels=(N,))``, with voxel corners from 0 and class numbers from 1.

    Args:
        network: A module, or its config (``dict(type="faster_rcnn_resnet18")``). ``anchor_sizes="data"`` in it are
            measured from the boxes of the training cases.
        loss_weights: Factors of the network's losses by their names, 1 where none is given.
        window: Voxels of the windows of validation, for scans that are too large for one pass; None: the whole scan.
            Their boxes are joined as those of a prediction.
        overlap: Share by which windows overlap: structures should fit into what two of them share.
        **arguments: See :class:`~medtransfer.training.tasks.Task`.

    Raises:
        ConfigError: a loss that the network does not have, a factor below 0, or a network for another task.
    """

    task = network_task = "detection"
    best_metric = "boxes/map50"
    network_hint = "A detector is faster_rcnn_resnet18, retinanet_resnet18 ..."
    dataset_hint = "Set dataset.type='Boxes', which also makes boxes of masks"

    def __init__(
        self,
        network: nn.Module | Config,
        loss_weights: Mapping[str, float] | None = None,
        window: Sequence[int] | None = None,
        overlap: float = 0.5,
        **arguments: Any,
    ) -> None:
        super().__init__(network, **arguments)
        check_windows(window, overlap)
        self.window, self.overlap = window, overlap
        # a network of the user's own need not say the names of its losses before it gives them
        self.loss_weights = checked_weights(loss_weights, getattr(self.network, "loss_names", ()))

    @classmethod
    def network_words(cls, stated: Config, layout: Layout, dataset: Any = None) -> dict[str, Any]:
        """As :class:`Task`, with the anchors that are to be measured; the network's own ones without a dataset."""
        words = super().network_words(stated, layout, dataset)
        if words.get("anchor_sizes") != FROM_DATA:
            return words
        if dataset is not None and layout.task == cls.task:
            return {**words, **_fitted_anchors(words, dataset)}
        return {**words, "anchor_sizes": None}

    def forward(self, image: Any, label: Any = None, case: Sequence[str] = (), mode: str = "tensor") -> Any:
        """As :class:`Task`.

        Raises:
            MedTransferError: scans or boxes that the network cannot take, or numbers that are not finite; the cases of
                the batch are named.
        """
        try:
            return super().forward(image, label, case, mode)
        except ModelError as error:
            raise MedTransferError(f"{error.reason}, with the cases {', '.join(case)}", hint=error.hint) from error

    def compute_losses(self, image: Sequence[Tensor], label: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """``loss``, the weighted sum, and the network's losses by their own names, as they enter it."""
        parts = self.network(list(image), [dict(target) for target in label])
        weights = checked_weights(self.loss_weights, parts)
        weighted = {name: weights[name] * part.float() for name, part in parts.items()}
        return {
            "loss": torch.stack(list(weighted.values())).sum(),
            **{n: part.detach() for n, part in weighted.items()},
        }

    def predict(
        self, image: Sequence[Tensor], label: Sequence[Mapping[str, Tensor]] | None, case: Sequence[str]
    ) -> list[dict[str, Any]]:
        """``dict(case, boxes (N, 6), labels (N,), scores (N,), reference)`` for each case, best boxes first."""
        references = [None] * len(image) if label is None else label
        return [
            {"case": name, **vars(self._found(scan)), "reference": reference}
            for name, scan, reference in zip(case, image, references, strict=True)
        ]

    def _found(self, scan: Tensor) -> BoxSet:
        """The boxes of a scan (C, *spatial)."""
        size = tuple(scan.shape[1:])
        window = [min(pair) for pair in zip(self.window or size, size, strict=True)]
        steps = [max(1, int(edge * (1 - self.overlap))) for edge in window]
        starts = [[axis.start for axis in place] for place in dense_patch_slices(size, window, steps)]
        return detect_in_windows(self._detect, scan, starts, window, overlap_of(self.network))

    def _detect(self, image: Tensor) -> BoxSet:
        return BoxSet.of(self.network(list(image))[0])


def _fitted_anchors(words: Config, dataset: Any) -> dict[str, Any]:
    """``anchor_sizes`` and, unless they are stated, ``aspect_ratios`` for the boxes of a dataset."""
    # only its strides are asked for; what is drawn for its weights is not to change the run
    with torch.random.fork_rng(devices=()):
        network = MODELS.build({**words, "anchor_sizes": None})
    sizes = dataset.box_sizes
    if not len(sizes):
        raise ConfigError("the training cases have no box that anchors could be fitted to",
                          hint="Lower the dataset's min_voxels, or give the network anchor_sizes")  # fmt: skip
    found = suggest_anchors(sizes, network.backbone.strides, PER_PLACE)
    fitted = {"anchor_sizes": found.sizes, "aspect_ratios": found.aspect_ratios}
    return {**as_plain(fitted), **{key: words[key] for key in ("aspect_ratios",) if words.get(key) is not None}}


MODELS.register_module(module=Detector)
