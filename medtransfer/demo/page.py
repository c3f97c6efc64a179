"""The demo's page: what came out, what was done, what moved, and what none of it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..reporting.page import Picture, Section, Table, write_page
from .cases import HELD_OUT_FROM, LABELLED, PATCH_VOXELS, VALIDATED
from .result import DemoResult

_SHOWS = """
This shows that the parts fit together: weights move exactly, a scan's geometry comes back, and two trainings can be
compared fairly. The two segmenters had the same network, the same labelled slices, the same seed and the same number
of steps; only the encoder's first values differ.

It does not show how well a model does on new patients. There is one scan, and it is an average of 152 healthy brains,
smoother than any real one. The classifier and the segmenter learned from the same scan, and from labels of the same
origin: pretraining had many tissue labels where the segmenter had few. The held-out part, on which nothing was
trained or chosen, is another part of that same brain. With other seeds and budgets the difference changes; a claim
needs several seeds and many patients.
"""

_SOURCE = """
Scan and tissue maps: ICBM 2009a nonlinear symmetric template, from the files of the Python package nilearn.
Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. V. S. Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54 (2011).
"""

_OWN_DATA = """
medtransfer inspect WEIGHTS.pth
medtransfer transfer WEIGHTS.pth --to resunet18 --num-classes 3 -o MODEL
medtransfer train CONFIG.py --cfg-options transfer.source=WEIGHTS.pth --work-dir RUN
medtransfer predict -m RUN/best -i SCAN.nii.gz -o MASKS
""".strip()


def write_report(result: DemoResult, folder: Path) -> Path:
    """Write ``report.html`` from the pictures and reports in ``folder``."""
    sections = [
        _outcome(result, folder),
        _pictures(folder),
        _steps(result, folder),
        Section("What moved", _MOVED, printed=result.report),
        Section("What this shows, and what not", _SHOWS),
        Section("The same with your own data", "Each line is one command; --help says more.", printed=_OWN_DATA),
        Section("Where the scan is from", _SOURCE),
    ]
    lead = f"{result.verdict()} This shows the pipeline, not how well a model does on new patients."
    return write_page(folder / "report.html", "medtransfer demo: from a classifier to a segmenter", sections, lead=lead)


_MOVED = """
The transfer report names every tensor of both networks once. Loaded tensors are copied bit for bit; dropped is the
classifier's head, which means nothing to a segmenter; missing is the decoder, which starts from random values.
"""


def _outcome(result: DemoResult, folder: Path) -> Section:
    header, rows = result.table()
    text = f"""
    Dice overlap (1 is perfect) between the written mask and the template's own tissue maps, in the slices from
    {HELD_OUT_FROM + 1} up, on which nothing was trained or chosen, on the scan's own grid of 1 mm.
    """
    curve = Picture(
        folder / "curves.png",
        "Two rising curves of mean Dice over training steps, with transfer and from scratch",
        "The validation slices, scored on the working grid of 2 mm after every round of steps; the best weights stay.",
    )
    return Section("What came out", text, [Table(header, rows)], [curve])


def _pictures(folder: Path) -> Section:
    captions = {"transfer": "With the classifier's weights.", "scratch": "From scratch, with as many steps."}
    shown = [
        Picture(folder / f"overlay_{name}.png", f"Axial, coronal and sagittal planes of the brain, {caption}", caption)
        for name, caption in captions.items()
    ]
    text = f"""
    Top: the scan. Middle: the predicted tissue. Bottom: the template's tissue maps. The axial plane lies in the
    held-out part, as does everything above axial slice {HELD_OUT_FROM} in the other two.
    """
    return Section("The masks", text, pictures=shown)


def _steps(result: DemoResult, folder: Path) -> Section:
    pretrained, tuned = (_read(folder / run / "report.json") for run in ("pretrain", "transfer"))
    text = f"""
    1. A small ResNet-10 learned to say which tissue lies at the centre of a patch of {PATCH_VOXELS} mm
    ({pretrained["steps"]} steps).

    2. Its encoder moved into a ResUNet-10, which learned to segment from {LABELLED.stop - LABELLED.start} labelled
    slices, {LABELLED.start + 1} to {LABELLED.stop} ({tuned["steps"]} steps). The same was done from scratch.

    3. Both segmented the whole scan. The networks work at 2 mm; the masks lie on the scan's own grid of 1 mm.

    Counted from the neck, all patches and labelled slices lie below slice {VALIDATED.start + 1}; slices
    {VALIDATED.start + 1} to {VALIDATED.stop} chose the best weights of each run; the rest was scored.
    """
    seconds = Table(
        ["part", "seconds"],
        [[part, round(wall)] for part, wall in result.seconds.items()],
        "Wall time on this machine.",
    )
    picture = Picture(folder / "pretraining.png", "A rising curve of the classifier's accuracy over training steps")
    return Section("How it was done", text, [seconds], [picture])


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
