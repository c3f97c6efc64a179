"""The test: every test case is predicted from its files, and scored on the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adapter import persist
from ..data.cases import Case, Layout, refuse
from ..data.dataset import CaseDataset
from ..devices import choose_device, dtype_name
from ..errors import MedTransferError
from ..inference.predictor import Predictor
from ..scoring.classification import confusion
from ..scoring.overlap import class_overlaps
from ..training.precision import fast_dtype
from ..volumes.read import read_labels, read_volume
from .measures import case_dice, class_dice
from .results import RunResult

#: test cases whose features are compared with those of the source
FEATURE_CASES = 6
Scores = dict[str, dict[str, Any]]


def score_cases(model: Path, cases: Sequence[Case], layout: Layout) -> Scores:
    """Predict and score the test cases.

    Args:
        model: A model folder.
        cases: The test cases.
        layout: Their dataset.

    Returns:
        By case: Dice of each class but the background, NaN where neither mask has it; or ``probabilities`` and
        ``label``, the number of the true class.

    Raises:
        VolumeError: a scan or its labels were refused.
        ModelError: the network gives NaN.
    """
    predictor = _predictor(model)
    score = _segmented if layout.task == "segmentation" else _classified
    return {case.id: score(predictor, case, layout) for case in cases}


def _predictor(model: Path) -> Predictor:
    """In the number format that networks train in here, and the layout in which that is fast: the same for all arms."""
    network = persist.load(model)
    dtype = fast_dtype(choose_device("auto"))
    if dtype == torch.bfloat16:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Predictor(network, precision=dtype_name(dtype))


def _segmented(predictor: Predictor, case: Case, layout: Layout) -> dict[str, Any]:
    prediction = predictor.predict(case.source)
    reference = read_labels(case.label, prediction.volume.grid, len(layout.classes)).array  # type: ignore[arg-type]
    labels = np.asanyarray(prediction.labels.dataobj)
    overlaps = class_overlaps(confusion(labels.ravel(), reference.ravel(), len(layout.classes)))
    return {name: one.dice for name, one in zip(layout.classes[1:], overlaps[1:], strict=True)}


def _classified(predictor: Predictor, case: Case, layout: Layout) -> dict[str, Any]:
    probabilities: Any = predictor.predict(case.source).probabilities
    return {"probabilities": [probabilities[name] for name in layout.classes], "label": case.label}


def check_cases(cases: Sequence[Case], layout: Layout) -> None:
    """Read the test cases, so that no run ends at one that cannot be.

    Raises:
        DatasetError: some were refused; they are named.
    """
    refuse(list(_refusals(cases, layout)), layout.path, hint="Every run is scored by these cases: correct or drop them")


def _refusals(cases: Sequence[Case], layout: Layout) -> Iterator[str]:
    for case in cases:
        try:
            volume = read_volume(case.source, channels=layout.channels)
            if isinstance(case.label, Path):
                read_labels(case.label, volume.grid, len(layout.classes))
        except MedTransferError as error:
            yield f"test case {case.id}: {error}"


def feature_images(dataset: CaseDataset, cases: Sequence[Case]) -> list[Tensor]:
    """The middle patches of some test cases as the network sees them, each (1, C, D, H, W)."""
    chosen = CaseDataset(
        dataset.layout,
        part="val",
        split={"train": None, "val": [case.id for case in cases[:FEATURE_CASES]]},
        preprocessing=dataset.preprocessing,
        patch_size=dataset.patch_size,
        cache=False,
    )
    return [_middle(chosen[number]["image"], dataset.patch_size)[None] for number in range(len(chosen))]


def _middle(image: Tensor, size: Sequence[int] | None) -> Tensor:
    wanted = image.shape[1:] if size is None else size
    for axis, (have, want) in enumerate(zip(image.shape[1:], wanted, strict=True), start=1):
        image = image.narrow(axis, (have - want) // 2, want)
    return image


def in_words(result: RunResult) -> str:
    """The score of a run as a person would say it.

    >>> from medtransfer.comparison.results import RunResult
    >>> cases = {"a": {"x": 0.8, "y": None}, "b": {"x": 0.9, "y": 0.5}}
    >>> run = ("scratch", None, "full", 4, 0, 9, "segmentation", ["background", "x", "y"])
    >>> in_words(RunResult(*run, cases, [], None, {}, 1.0, {}))
    'dice 0.675'
    """
    if result.task == "classification":
        right = [int(np.argmax(case.probabilities)) == case.label for case in result.answers.values()]
        return f"accuracy {sum(right) / len(right):.3f}"
    return f"dice {case_dice(class_dice(result)):.3f}"
