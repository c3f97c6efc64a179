"""The whole path: data, a pretrained classifier, a segmenter with and without its weights, masks, pictures, a page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..adapter.report import TransferReport
from ..files import atomic_folder, write_json
from ..inference.predictor import Predictor
from ..reporting.curves import curves_png
from ..reporting.overlay import overlay_png
from ..scoring.overlap import overlap
from ..training.run import run as train
from .cases import HELD_OUT_FROM, PATCHES, DemoData, write_data
from .page import write_report
from .result import DemoResult
from .template import CLASSES, Template, read_template

#: the planes of the pictures: beside the midline, and through the held-out part
VIEW = (78, 112, 112)
RUNS = {"transfer": "demo_tissue_transfer", "scratch": "demo_tissue"}
FILES = {
    "report.html": "everything on one page: open this",
    "prediction/template_t1.nii.gz": "the mask of the whole scan, on the scan's own grid",
    "overlay_transfer.png": "scan, mask and reference, with transferred weights",
    "overlay_scratch.png": "the same, trained from scratch",
    "curves.png": "Dice on the validation slices over the steps",
    "transfer/best": "the fine-tuned model folder, for medtransfer predict",
    "pretrain/best": "the pretrained classifier",
    "data": "the scan, its tissue labels and the two datasets",
    "demo.json": "the numbers",
}


@dataclass
class Clock:
    """Wall seconds by part, and a line in the log as each begins."""

    log: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time one part."""
        self.log(f"{len(self.seconds) + 1}/6 {name}")
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def run_demo(
    folder: str | Path,
    overwrite: bool = False,
    log: Callable[[str], None] = lambda line: None,
    template: Template | None = None,
    patches: int = PATCHES,
    cfg_options: Mapping[str, Any] | None = None,
) -> DemoResult:
    """Run the demo and write its folder, whole or not at all.

    Args:
        folder: The folder to make.
        overwrite: Replace a folder that exists.
        log: Takes one line as each part begins.
        template: The scan; the MNI152 template when not given.
        patches: Number of patches of the pretraining.
        cfg_options: Entries of the three training configs to change.

    Raises:
        MissingExtraError: the package with the template is not installed.
        OutputExistsError: the folder exists and ``overwrite`` is false.
    """
    clock = Clock(log)
    with atomic_folder(folder, overwrite) as part:
        with clock.part("write the data: patches for the classifier, a few labelled slices for the segmenter"):
            template = read_template() if template is None else template
            data = write_data(template, part / "data", patches)
        options = {"log_level": "WARNING", **(cfg_options or {})}
        with clock.part("pretrain the classifier: which tissue lies at the centre of a patch?"):
            train("demo_patches", part / "pretrain", cfg_options={"data_root": str(data.patches), **options})
        for name, source in (("transfer", {"transfer.source": str(part / "pretrain" / "best")}), ("scratch", {})):
            with clock.part(f"train the segmenter, {_words(name)}"):
                train(RUNS[name], part / name, cfg_options={"data_root": str(data.tissue), **source, **options})
        with clock.part("predict the whole scan with both"):
            masks = {name: _predict(part, name, data) for name in RUNS}
        with clock.part("draw the pictures and write the page"):
            _draw(template, masks, part)
        result = _result(Path(folder), template, masks, part, clock.seconds)
        write_report(result, part)
        write_json(part / "demo.json", result.to_dict())
        _name_final_folder(part, Path(folder))
    return result


def _words(name: str) -> str:
    return {"transfer": "with the classifier's weights", "scratch": "from scratch"}[name]


def _predict(folder: Path, name: str, data: DemoData) -> np.ndarray:
    """Segment the whole scan with the best weights of a run; (I, J, K) labels on the scan's grid."""
    prediction = Predictor(folder / name / "best").predict(data.scan)
    prediction.save(folder / ("prediction" if name == "transfer" else f"prediction_{name}"))
    return np.asanyarray(prediction.labels.dataobj)


def _draw(template: Template, masks: Mapping[str, np.ndarray], folder: Path) -> None:
    spacing = [float(size) for size in np.abs(np.diag(template.affine)[:3])]
    view = tuple(min(index, size - 1) for index, size in zip(VIEW, template.image.shape, strict=True))
    for name, mask in masks.items():
        overlay_png(
            template.image, mask, folder / f"overlay_{name}.png", spacing, CLASSES,
            title=f"Tissue {_words(name)}; the axial plane lies in the held-out part",
            reference=template.labels, centre=view,
        )  # fmt: skip
    curves = {_words(name): _scores(folder / name, "dice/mean") for name in RUNS}
    title = "Segmenter on the validation slices: mean Dice of CSF, grey and white matter"
    curves_png(curves, folder / "curves.png", title=title, value_label="mean Dice", value_range=(0, 1))
    pretraining = {"classifier": _scores(folder / "pretrain", "scores/accuracy")}
    title = "Classifier on patches left out: share of right answers"
    curves_png(pretraining, folder / "pretraining.png", title=title, value_label="accuracy", value_range=(0, 1))


def _scores(run: Path, metric: str) -> list[tuple[float, float]]:
    rows = json.loads((run / "report.json").read_text(encoding="utf-8"))["validations"]
    return [(row["step"], row[metric]) for row in rows if row.get(metric) is not None]


def _result(
    folder: Path, template: Template, masks: Mapping[str, np.ndarray], part: Path, seconds: dict[str, float]
) -> DemoResult:
    held_out = (slice(None), slice(None), slice(HELD_OUT_FROM, None))
    dice = {name: _dice(mask[held_out], template.labels[held_out]) for name, mask in masks.items()}
    moved = msgspec.json.decode((part / "transfer" / "transfer.json").read_bytes(), type=TransferReport)
    return DemoResult(str(folder), dice["transfer"], dice["scratch"], str(moved), seconds, FILES)


def _dice(mask: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Of every class but the background, on the part of the scan that no training saw."""
    return {name: overlap(mask == label, reference == label).dice for label, name in enumerate(CLASSES) if label}


def _name_final_folder(part: Path, folder: Path) -> None:
    """What was written while the folder had its temporary name speaks of it by its own."""
    for file in part.rglob("*"):
        if file.suffix in (".json", ".py", ".log") or file.name == "last_checkpoint":
            text = file.read_text(encoding="utf-8")
            if str(part) in text:
                file.write_text(text.replace(str(part), str(folder)), encoding="utf-8")
