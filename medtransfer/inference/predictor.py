"""From a scan to a result on its own grid, with everything that the model's card asks for in between."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..adapter import persist
from ..allocator import reused_memory
from ..checkpoint.card import RESTORATION, ModelCard
from ..devices import choose_device, choose_precision
from ..errors import CheckpointError, UsageError
from ..volumes.prepare import Prepared, prepare
from ..volumes.read import Source, Volume, case_name, read_volume
from .choices import checked_cleaning, checked_memory, checked_score, checked_tile
from .compiling import check_compiled
from .engine import Engine
from .kinds import refuse_unable
from .member import Member
from .planning import Record, Settings
from .postprocess import Choice
from .result import Prediction
from .search import Search
from .thresholds import Thresholds, choose_thresholds

Model = str | os.PathLike[str] | nn.Module
#: what all models of an ensemble must agree in
SHARED = ("task", "input_channels", "classes", "heads", "orientation")


@dataclass
class Job:
    """A scan that is read and prepared: all that can be done before the networks run.

    Args:
        case: Its name.
        volume: The scan.
        prepared: The scan as each network wants it; networks that want the same share it.
        seconds: What it took.
    """

    case: str
    volume: Volume
    prepared: list[Prepared]
    seconds: float

    @property
    def held(self) -> int:
        """Bytes of the scan, as read and as prepared, and of its mask."""
        arrays = {id(ready.array): ready.array for ready in self.prepared}.values()
        return self.volume.array.nbytes + sum(array.nbytes for array in arrays) + self.volume.array[0].size


class Predictor:
    """A model, or several that vote, ready for scans.

    Args:
        model: A model folder, a 3-D network (copied; it may be trained on meanwhile), or a list of them: an ensemble,
            whose probabilities are averaged, and whose boxes are fused. Its models must have the same channels,
            classes and orientation.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``: float16 on CUDA, on a CPU bfloat16 if that is faster there; float32 where they differ by
            5 % of the logits' length. ``float32``, ``bfloat16``, ``float16``, or ``tf32`` (CUDA).
        tile: ``auto``: the whole scan in one pass if it fits the memory, else the tiles that compute least, with a halo
            as wide as the network looks; where a norm layer takes its statistics from the input, windows of the card's
            patch size. ``whole``; or the size of a tile in voxels of the working grid, one or three numbers.
        memory: GiB that one pass may take; ``auto``: a share of what is free, and of a segmenter on a CPU no more than
            keeps the process below 4 GiB for a scan of 512x512x512 voxels.
        card: For a network without one: a card, or a mapping of its fields. Default: no resampling, z-score,
            channels and classes by number.
        overlap: Share by which windows overlap, which then are blended by Gaussian weights. None: tiles overlap by
            their halo, windows by a half.
        tta: Average over mirror images (test-time augmentation), along the axes that training mirrored; boxes are
            mirrored back and fused, see :func:`medtransfer.inference.box_fusion.fuse`.
        crop: Run only the box around what the scan shows; outside it is background.
        classes: Names of the classes that a mask shows, all others become background; of a detector, whose boxes are
            kept. None: all.
        largest_component: Keep only the largest connected part of these classes; True: of all.
        fill_holes: Fill what these classes enclose; True: all.
        score: Of a detector: the smallest score of a box that is kept. None: the detector's own.
        compiled: Compile the network for CUDA (``torch.compile``, CUDA graphs): pays for many scans of one size.

    Raises:
        CheckpointError: a model folder was refused, or holds a network that only restores scans.
        UsageError: an option that cannot be, or models that do not fit each other.
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
        model: Model | Sequence[Model],
        device: str | torch.device = "auto",
        precision: str = "auto",
        tile: str | int | Sequence[int] = "auto",
        memory: str | float = "auto",
        card: ModelCard | Mapping[str, Any] | None = None,
        overlap: float | None = None,
        tta: bool = False,
        crop: bool = False,
        classes: Sequence[str] | None = None,
        largest_component: Choice = False,
        fill_holes: Choice = False,
        score: float | None = None,
        compiled: bool = False,
    ) -> None:
        chosen = choose_device(device)
        check_compiled(compiled, chosen)
        choose_precision(precision, chosen)
        settings = Settings(checked_tile(tile, overlap), checked_memory(memory), overlap)
        models = _checked_models(model)
        self.members = [_member(one, card, partial(_engine, chosen, precision, compiled), settings) for one in models]
        self.card, self.crop, self.tta = self._common_card(), crop, tta
        self.cleaning = checked_cleaning(self.card, classes, largest_component, fill_holes)
        refuse_unable(self.card, {"crop": crop, "score": score is not None})
        self.thresholds = self._thresholds(score)
        self._notes = _choose_flips(self.members) if tta else []

    @property
    def folders(self) -> list[Path]:
        """The model folders, of the models that came from one."""
        return [member.folder for member in self.members if member.folder is not None]

    @property
    def engine(self) -> Engine:
        """The first network on its device."""
        return self.members[0].engine

    def predict(
        self, source: Source, nan: float | None = None, volume: int | None = None, probabilities: bool | None = None
    ) -> Prediction:
        """Run the model over one scan.

        Args:
            source: A path, an image or an array with its affine, see :func:`medtransfer.volumes.read.read_volume`; or
                a list of them: one per channel of the model, in its order.
            nan: Value for NaN and infinite voxels, which are refused otherwise.
            volume: Which volume of a 4-D file to take.
            probabilities: Keep the probabilities of a segmentation, in a temporary file if memory is too small. None:
                only if they fit the memory. False: never, which is quickest.

        Raises:
            VolumeError: the scan was refused.
            ResourceError: memory does not suffice.
            ModelError: the network gives something else than its card says, or NaN.
        """
        return self.run(self.read(source, nan, volume), probabilities)

    def read(self, source: Source, nan: float | None = None, volume: int | None = None) -> Job:
        """The first half of :meth:`predict`: read a scan and prepare it; may run in another thread than :meth:`run`."""
        begin = time.perf_counter()
        scan = read_volume(source, channels=self.card.input_channels, nan=nan, volume=volume)
        ready: dict[str, Prepared] = {}
        wanted = [_preprocessing(member.card) for member in self.members]
        for key, member in zip(wanted, self.members, strict=True):
            ready[key] = ready.get(key) or _prepare(scan, member.card)
        return Job(case_name(source), scan, [ready[key] for key in wanted], time.perf_counter() - begin)

    def run(self, job: Job, probabilities: bool | None = None) -> Prediction:
        """The second half of :meth:`predict`: the networks, and the way back to the scan's own grid."""
        with reused_memory():
            return self._run(job, probabilities)

    def _run(self, job: Job, probabilities: bool | None) -> Prediction:
        begin = time.perf_counter()
        records = [Record(job.held) for _ in self.members]
        search = Search(job.volume, self.members, job.prepared, records, self.crop, self.cleaning)
        found = search.boxes(self.thresholds) if self.thresholds else search.heads(probabilities)
        notes = [*(text for ready in job.prepared for text in ready.warnings), *self._notes]
        notes += [text for record in records for text in record.notes]
        return Prediction(
            job.case,
            self.card,
            job.volume,
            job.prepared[0],
            found,
            warnings=list(dict.fromkeys(notes)),
            details=self._details(job, records, time.perf_counter() - begin),
            model_folders=self.folders,
        )

    def _thresholds(self, score: float | None) -> Thresholds | None:
        """Of detectors; None for networks that give no boxes."""
        if self.card.task != "detection":
            return None
        return choose_thresholds([member.engine.network for member in self.members], checked_score(score))

    def _details(self, job: Job, records: Sequence[Record], seconds: float) -> dict[str, Any]:
        engine = self.engine
        return {
            "device": str(engine.device),
            "precision": engine.precision,
            "working_grid": str(job.prepared[0].grid),
            **records[0].to_dict(),
            "flips": list(self.members[0].flips),
            "models": len(self.members),
            "seconds_before_network": round(job.seconds, 4),
            "seconds_network": round(seconds, 4),
        }

    def _common_card(self) -> ModelCard:
        cards = [member.card for member in self.members]
        for field in SHARED:
            values = [getattr(card, field) for card in cards]
            odd = next((index for index, value in enumerate(values) if value != values[0]), None)
            if odd is not None:
                reason = f"the models of an ensemble differ in {field}: {values[0]} and {values[odd]}"
                raise UsageError(reason, path=self.members[odd].folder, hint="Give models of one task and one dataset")
        return cards[0]


def _checked_models(model: Model | Sequence[Model]) -> list[Model]:
    """The models of an ensemble; one that is given twice would have two votes."""
    models: list[Model] = list(model) if isinstance(model, list | tuple) else [model]  # type: ignore[list-item]
    if not models:
        raise UsageError("an empty list of models", hint="Give at least one")
    folders = [os.path.realpath(one) for one in models if not isinstance(one, nn.Module)]
    twice = next((folder for number, folder in enumerate(folders) if folder in folders[:number]), None)
    if twice is not None:
        raise UsageError("is given twice for one ensemble", path=twice, hint="Name each model once")
    return models


def _member(
    model: Model,
    card: ModelCard | Mapping[str, Any] | None,
    engine: Callable[[nn.Module], Engine],
    settings: Settings,
) -> Member:
    folder = None if isinstance(model, nn.Module) else Path(model)
    network = model if isinstance(model, nn.Module) else persist.load(Path(model))
    found = persist.card_of(network, card)
    if found.task == RESTORATION:
        reason = "was trained to restore scans, without labels: it has no classes to predict"
        raise CheckpointError(reason, path=folder, hint="Fine-tune it on labelled scans: transfer=dict(source=...)")
    return Member(engine(network), found, folder, settings)


def _engine(device: torch.device, precision: str, compiled: bool, network: nn.Module) -> Engine:
    dtype = choose_precision(precision, device)
    if precision == "auto" and device.type == "cpu" and getattr(network, "task", None) == "detection":
        dtype = torch.float32  # what short numbers do to boxes was not measured
    return Engine(network, device, dtype, precision == "auto", precision == "tf32", compiled)


def _choose_flips(members: Sequence[Member]) -> list[str]:
    """Mirror along the axes that training mirrored; where a card does not say, along all, and say so."""
    notes = []
    for member in members:
        axes = member.card.mirror_axes
        if axes is not None and not axes:
            reason = "was trained without mirror images, so that they would mislead it"
            raise UsageError(reason, path=member.folder, hint="Leave tta out")
        member.flips = tuple(axes or range(3))
        notes += [] if axes else ["the card does not say which axes training mirrored: all three were at prediction"]
    return list(dict.fromkeys(notes))


def _preprocessing(card: ModelCard) -> str:
    """Equal for cards that prepare a scan in the same way."""
    return repr((card.orientation, card.spacing, card.intensity))


def _prepare(scan: Volume, card: ModelCard) -> Prepared:
    return prepare(scan, card.orientation, card.spacing, card.intensity, card.intensity_ranges, card.input_channels)
