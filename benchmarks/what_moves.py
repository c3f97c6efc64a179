"""What transfers into what: every source format into every kind of network, by doing it.

    python -m benchmarks.what_moves            # prints a row a format
    python -m benchmarks.what_moves --write    # puts it into README.md, and a row a file into benchmarks/what_moves.md

Each source is a file in the format's real layout with random weights (those of `benchmarks.dialects`), or a model
folder of this zoo. Each target is a 3-D network around the encoder that the file names; 2-D kernels are inflated. A
cell is `report.coverage`, the share of the target encoder's parameters that came from the file, or why none did.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import nn

import medtransfer as mt
from benchmarks.dialects import all_cases
from benchmarks.markdown import markdown, put
from medtransfer.adapter.dialects import dialect_named
from medtransfer.adapter.dialects.base import Home
from medtransfer.adapter.guess import num_classes
from medtransfer.adapter.source import SourceWeights, read_source
from medtransfer.model_zoo.catalog import FAMILIES, inherited_arguments
from medtransfer.model_zoo.names import ENCODERS, MODEL_NAMES
from tests.adapter.dialects.oracle_case import OracleCase

ROOT = Path(__file__).parents[1]
PAGE = """# What transfers into what

Made by `python -m benchmarks.what_moves --write`. A row a file, a column a target: the share of the target encoder's
parameters that came from the file, and what else came with it.

"""
INTRO = """Into 3-D networks around the encoder that the file names: the share of that encoder's parameters that came,
and what came with it, over all files of a format; [benchmarks/what_moves.md](benchmarks/what_moves.md) has a row a
file. Every cell is a transfer that was done; `python -m benchmarks.what_moves --write` does them again."""

TINY = {"base_channels": 4, "stem_channels": 4}
HEADS = {"organs": {"task": "segmentation", "num_classes": 3}, "ill": {"task": "classification", "num_classes": 2}}
#: networks of this zoo that are sources too: what they are -> name and arguments
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "classifier": ("resnet18", TINY),
    "segmenter": ("resunet18", TINY),
    "detector": ("faster_rcnn_resnet18", {**TINY, "out_channels": 8, "box_head_size": 8}),
    "multi-task network": ("multitask_resnet18", {**TINY, "heads": HEADS}),
}
#: encoder -> the segmenter around it, both without their depth
SEGMENTERS = {"resnet": "resunet", "vgg": "vggunet", "plain_encoder": "plain_unet", "resenc_encoder": "resenc_unet"}
#: what a transfer brings beyond the encoder -> how its keys look
BESIDE = {"decoder": re.compile(r"decoder_\d"), "pyramid": re.compile(r"\.fpn\.")}
#: dialects of networks that restore scans: what their last layer gives are no classes
RESTORERS = ("genesis", "nnssl")
#: channels of a target that has others than the source
OTHER_CHANNELS = 4
#: columns of the full table that are one in the README
DETECTORS = ("Faster R-CNN", "RetinaNet")
STRANGER = "an encoder of another family"


@dataclass(frozen=True)
class Cell:
    """What came of one transfer: a share of the encoder, and what else came; or why there was none."""

    coverage: float | None
    more: str = ""

    def __str__(self) -> str:
        if self.coverage is None:
            return self.more
        # downwards: only a whole encoder is 100 %
        share = f"{math.floor(1000 * self.coverage) / 10:g} %"
        return f"{share} + {self.more}" if self.more else share


@dataclass(frozen=True)
class Trial:
    """A network to move weights into, and the options of the transfer."""

    network: nn.Module
    options: dict[str, Any] = field(default_factory=dict)


Maker = Callable[[SourceWeights, Home], Trial | Cell]


@dataclass(frozen=True)
class File:
    """A source, and the row that it stands in."""

    group: str
    title: str
    layout: str
    path: Path


@dataclass(frozen=True)
class Row:
    """All transfers of one file: column -> what came of it."""

    file: File
    dimensions: str
    cells: dict[str, Cell]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables where they are shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(file) for file in files(Path(folder))]
    if not options.write:
        print(by_format(rows))
        return
    (ROOT / "benchmarks" / "what_moves.md").write_text(PAGE + by_file(rows) + "\n", encoding="utf-8")
    put(ROOT / "README.md", "moves", by_format(rows))


def files(folder: Path) -> Iterator[File]:
    """Every source: the formats' files, then this zoo's model folders."""
    for case in all_cases(folder):
        yield file_of(case)
    for kind in OWN:
        yield own_file(kind, folder)


def file_of(case: OracleCase) -> File:
    """The file of a format."""
    return File(case.dialect, dialect_named(case.dialect).title, case.layout or case.path.suffix, case.path)


def own_file(kind: str, folder: Path) -> File:
    """A model folder of a network of this zoo."""
    name, arguments = OWN[kind]
    path = folder / kind
    mt.save(mt.create_model(name, in_channels=1, num_classes=3, **arguments), path)
    return File("model folder", f"{kind} of this zoo", name, path)


def row(file: File) -> Row:
    """Move one file into every target."""
    weights = read_source(file.path)
    flat = max(tensor.ndim for tensor in weights.tensors.values()) == 4
    cells = {name: attempt(weights, make) for name, make in TARGETS.items()}
    return Row(file, "2-D, inflated" if flat else "3-D", cells)


def attempt(weights: SourceWeights, make: Maker) -> Cell:
    """Build a target and move the weights into it."""
    assert weights.home is not None
    assert weights.path is not None
    trial = make(weights, weights.home)
    if isinstance(trial, Cell):
        return trial
    try:
        report = mt.transfer(weights.path, trial.network, **trial.options)
    except mt.MedTransferError as error:
        return Cell(None, f"refused: {error.reason.partition(';')[0]}")
    return Cell(report.coverage, beside(report))


def beside(report: mt.TransferReport) -> str:
    """What came that is not the encoder's: other parts, or the rows of old classes."""
    if any("rows 0 <- 0" in entry.how for entry in report.adapted):
        return "every old class"
    moved = [entry.key for entry in (*report.loaded, *report.adapted)]
    return ", ".join(name for name, pattern in BESIDE.items() if any(map(pattern.search, moved)))


def encoder_name(home: Home) -> str:
    """The classifier of the zoo that has a network's encoder."""
    kind, given = MODEL_NAMES[home.name]
    same = (name for name, (own, _) in ENCODERS.items() if FAMILIES[own].encoder is FAMILIES[kind].encoder)
    return next(name for name in same if ENCODERS[name][1].get("depth") == given.get("depth"))


def segmenter_name(home: Home) -> str:
    """The segmenter around that encoder."""
    kind, given = ENCODERS[encoder_name(home)]
    return f"{SEGMENTERS[kind]}{given.get('depth', '')}"


def built(home: Home, name: str, **more: Any) -> nn.Module:
    """A 3-D network around the source's encoder; one of the source's own name is like it in all else."""
    given = {key: value for key, value in home.arguments.items() if key != "conv_cfg"}
    if name != home.name:
        given = inherited_arguments(home.name, given, name)
    usual = {"in_channels": home.arguments.get("in_channels", 1), "num_classes": 3}
    return mt.create_model(name, **{**given, **usual, **more})


def into(name_of: Callable[[Home], str], **sizes: Any) -> Maker:
    """A maker of targets of another kind; those of the source's own kind have its sizes."""

    def make(_: SourceWeights, home: Home) -> Trial:
        name = name_of(home)
        return Trial(built(home, name, **({} if name == home.name else sizes)))

    return make


def channels_target(_: SourceWeights, home: Home) -> Trial:
    """A segmenter of four input channels."""
    return Trial(built(home, segmenter_name(home), in_channels=OTHER_CHANNELS), {"input_channels": "interpolate"})


def classes_target(weights: SourceWeights, home: Home) -> Trial | Cell:
    """The source's own network with a class more, into which the rows of the old ones are copied."""
    if home.name.startswith("multitask"):
        return Cell(None, "a head at a time, by `to_single_task`")
    old = num_classes(weights.tensors, home)
    if weights.dialect in RESTORERS or not old:
        return Cell(None, "no head that is read")
    # a VGG's layer over 7x7 of a 2-D map fits that over 1x7x7 of a 3-D one
    pool = {"head_pool": (1, 7, 7)} if "head_hidden.fc1.weight" in weights.tensors else {}
    network = built(home, home.name, num_classes=old + 1, **pool)
    return Trial(network, {"head": {**{number: number for number in range(old)}, old: None}})


def stranger_target(_: SourceWeights, home: Home) -> Trial:
    """A network whose encoder is of another family."""
    return Trial(mt.create_model("vgg11" if encoder_name(home).startswith("resnet") else "resnet10", base_channels=4))


#: column -> what makes its target
TARGETS: dict[str, Maker] = {
    "classifier": into(encoder_name),
    "segmenter": into(segmenter_name),
    "Faster R-CNN": into(lambda home: f"faster_rcnn_{encoder_name(home)}", out_channels=8, box_head_size=8),
    "RetinaNet": into(lambda home: f"retinanet_{encoder_name(home)}", out_channels=8),
    "several tasks": into(lambda home: f"multitask_{encoder_name(home)}", heads=HEADS),
    "4 input channels": channels_target,
    "a class more": classes_target,
    STRANGER: stranger_target,
}
#: column of the README -> those of the full table
SHOWN: dict[str, tuple[str, ...]] = {
    "classifier": ("classifier",),
    "segmenter": ("segmenter",),
    "detector": DETECTORS,
    "several tasks": ("several tasks",),
    "4 input channels": ("4 input channels",),
    "a class more": ("a class more",),
}


def by_file(rows: list[Row]) -> str:
    lines = [[r.file.title, r.file.layout, r.dimensions, *map(str, r.cells.values())] for r in rows]
    return markdown([["format", "file", "is", *TARGETS], *lines])


def by_format(rows: list[Row]) -> str:
    """A row a format, what came of all its files; then what came of the transfers that must be refused."""
    lines = [["from", "files", "is", *SHOWN]]
    for title, group in groupby(rows, lambda r: r.file.title):
        found = list(group)
        dimensions = "; ".join(sorted({r.dimensions for r in found}, reverse=True))
        cells = [summed([r.cells[name] for r in found for name in names]) for names in SHOWN.values()]
        lines.append([title, str(len(found)), dimensions, *cells])
    refused = sum(r.cells[STRANGER].coverage is None for r in rows)
    return f"{INTRO}\n\n{markdown(lines)}\n\nInto {STRANGER}: {refused} of {len(rows)} refused, with the reason."


def summed(cells: list[Cell]) -> str:
    """The cells of several files in a few words, each said once."""
    return "; ".join(dict.fromkeys(map(str, cells)))


if __name__ == "__main__":
    main()
