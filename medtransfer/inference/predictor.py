"""From a scan to a result on its own grid, with everything that the model's card asks for in between."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter import persist
from ..checkpoint.card import RESTORATION, ModelCard
from ..devices import choose_device, choose_precision
from ..errors import CheckpointError, ModelError, ResourceError, UsageError
from ..volumes.memory import require_memory, size_text
from ..volumes.prepare import Prepared, prepare
from ..volumes.read import Source, case_name, read_volume
from .engine import Engine, PassTooLargeError
from .result import Prediction
from .windows import Plan, plan_whole, plan_windows, run_classifier, run_segmenter

DEFAULT_WINDOW = 96


class Predictor:
    """A model ready for scans.

    Args:
        model: A model folder, or a 3-D network (copied; it may be trained on meanwhile).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto`` (float32 on a CPU, float16 by autocast on CUDA), ``float32``, ``bfloat16`` or ``float16``.
        tile: ``auto``: the whole scan in one pass if it fits the memory and no norm layer takes its statistics from the
            input, else windows of the card's patch size; ``whole``; or a window size in voxels of the working grid.
        memory: GiB that one pass may take; ``auto``: a share of what is free.
        card: For a network without one: a card, or a mapping of its fields. Default: no resampling, z-score,
            channels and classes by number.
        overlap: Share by which windows overlap.

    Raises:
        CheckpointError: the model folder was refused, or holds a network that only restores scans.
        UsageError: an option that cannot be.
        ResourceError: a device that is not there.

    >>> import nibabel as nib, numpy as np
    >>> from medtransfer.model_zoo.catalog import create_model
    >>> predictor = Predictor(create_model("resunet10", num_classes=3, base_channels=4, stem_channels=4), device="cpu")
    >>> result = predictor.predict(nib.Nifti1Image(np.random.rand(9, 8, 7).astype(np.float32), np.eye(4)))
    >>> result.labels.shape, list(result.volumes_ml)
    ((9, 8, 7), ['class_1', 'class_2'])
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | nn.Module,
        device: str | torch.device = "auto",
        precision: str = "auto",
        tile: str | Sequence[int] = "auto",
        memory: str | float = "auto",
        card: ModelCard | Mapping[str, Any] | None = None,
        overlap: float = 0.5,
    ) -> None:
        chosen = choose_device(device)
        dtype = choose_precision(precision, chosen)
        self.tile, self.memory, self.overlap = _checked_tile(tile, overlap), _checked_memory(memory), overlap
        self.folder = None if isinstance(model, nn.Module) else Path(model)
        network = model if isinstance(model, nn.Module) else persist.load(Path(model))
        self.card = persist.card_of(network, card)
        if self.card.task == RESTORATION:
            reason = "was trained to restore scans, without labels: it has no classes to predict"
            raise CheckpointError(
                reason, path=self.folder, hint="Fine-tune it on labelled scans: transfer=dict(source=...)"
            )
        self.engine = Engine(network, chosen, dtype)

    def predict(self, source: Source, nan: float | None = None) -> Prediction:
        """Run the model over one scan.

        Args:
            source: A path, a nibabel image, or a list of them: one per channel of the model, in its order.
            nan: Value for NaN and infinite voxels, which are refused otherwise.

        Raises:
            VolumeError: the scan was refused.
            ResourceError: memory does not suffice.
            ModelError: the network gives something else than its card says, or NaN.
        """
        begin = time.perf_counter()
        volume = read_volume(source, channels=self.card.input_channels, nan=nan)
        prepared = prepare(volume, self.card.orientation, self.card.spacing, self.card.intensity)
        plan = self._plan(prepared)
        ready = time.perf_counter()
        logits, plan, notes = self._logits_in_memory(prepared, plan)
        details = {
            "device": str(self.engine.device),
            "precision": str(self.engine.dtype).removeprefix("torch."),
            "working_grid": str(prepared.grid),
            "window": list(plan.window),
            "windows": len(plan.starts()),
            "seconds_before_network": round(ready - begin, 4),
            "seconds_network": round(time.perf_counter() - ready, 4),
        }
        warnings = prepared.warnings + notes
        return Prediction(case_name(source), self.card, volume, prepared, logits, warnings, details, self.folder)

    def _plan(self, prepared: Prepared) -> Plan:
        shape, patch = prepared.grid.shape, self.card.patch_size
        whole = plan_whole(shape, self.engine.strides, patch)
        if self.tile == "whole":
            return whole
        if self.tile != "auto":
            return self._affordable(plan_windows(shape, self.tile, self.overlap))  # type: ignore[arg-type]
        fixed = patch is not None and self.engine.sees_whole_input
        if not fixed and self._fits(whole):
            return whole
        return self._windows(prepared)

    def _windows(self, prepared: Prepared) -> Plan:
        window = self.card.patch_size or [_round_up(DEFAULT_WINDOW, stride) for stride in self.engine.strides]
        return self._affordable(plan_windows(prepared.grid.shape, window, self.overlap))

    def _fits(self, plan: Plan) -> bool:
        return self.engine.fits(plan.window, len(self.card.classes), self.memory)

    def _affordable(self, plan: Plan) -> Plan:
        classes = len(self.card.classes)
        if not self._fits(plan):
            sizes = "x".join(str(size) for size in plan.window)
            needed, free = self.engine.estimate_bytes(plan.window, classes), self.engine.free_bytes(self.memory)
            reason = f"one window of {sizes} voxels needs about {size_text(needed)}, the budget is {size_text(free)}"
            raise ResourceError(reason, hint="Give a smaller tile, or more memory")
        require_memory(4 * (classes + 1) * math.prod(plan.padded), "the blended logits")
        return plan

    def _logits_in_memory(self, prepared: Prepared, plan: Plan) -> tuple[Tensor, Plan, list[str]]:
        """Logits, and the plan that gave them: if one pass was estimated to fit and did not, windows, tried once."""
        try:
            logits, notes = self._logits(prepared, plan)
            return logits, plan, notes
        except PassTooLargeError as error:
            smaller = self._windows(prepared)
            if self.tile != "auto" or math.prod(smaller.window) >= math.prod(plan.window):
                raise
            note = f"{error.reason}: run in windows of {'x'.join(map(str, smaller.window))} voxels"
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        logits, notes = self._logits(prepared, smaller)
        return logits, smaller, [note, *notes]

    def _logits(self, prepared: Prepared, plan: Plan) -> tuple[Tensor, list[str]]:
        """Logits on the CPU; where shorter numbers overflow, float32 is used and said."""
        logits = self._run(prepared, plan)
        if torch.isfinite(logits).all():
            return logits, []
        if self.engine.dtype == torch.float32:
            raise ModelError("the network gives NaN or infinite logits for this scan", hint="Check the weights")
        short, self.engine.dtype = self.engine.dtype, torch.float32
        try:
            logits = self._logits(prepared, plan)[0]
        finally:
            self.engine.dtype = short
        return logits, [f"{str(short).removeprefix('torch.')} overflowed: computed in float32"]

    def _run(self, prepared: Prepared, plan: Plan) -> Tensor:
        image = torch.from_numpy(prepared.array)
        run = run_segmenter if self.card.task == "segmentation" else run_classifier
        logits = run(self.engine, image, plan).cpu()
        wanted = (len(self.card.classes), *(image.shape[1:] if self.card.task == "segmentation" else ()))
        if tuple(logits.shape) != wanted:
            raise ModelError(f"the network gives logits of shape {tuple(logits.shape)}, its card says {wanted}")
        return logits


def _checked_tile(tile: str | Sequence[int], overlap: float) -> str | tuple[int, ...]:
    if isinstance(tile, str) and tile not in ("auto", "whole"):
        raise UsageError(f"tile must be auto, whole or three sizes in voxels, got {tile!r}")
    if not isinstance(tile, str):
        plan_windows((1, 1, 1), tile, overlap)
        return tuple(tile)
    plan_windows((1, 1, 1), (1, 1, 1), overlap)
    return tile


def _checked_memory(memory: str | float) -> str | float:
    if memory != "auto" and (isinstance(memory, str) or not memory > 0):
        raise UsageError(f"memory must be auto or a number of GiB above 0, got {memory!r}")
    return memory


def _round_up(size: int, stride: int) -> int:
    return -(-size // stride) * stride
