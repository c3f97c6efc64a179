"""One case, read file by file: what is measured of it, and all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.cases import Case, Layout, ListedBoxes
from ..data.leaks import copied_labels
from ..errors import MedTransferError, describe_error
from ..volumes import validate
from ..volumes.grid import Grid
from ..volumes.read import Labels, Volume, read_labels, read_volume
from .boxes import Sizes, box_problems, box_sizes
from .facts import CaseFacts, ClassSize, Problem, Severity
from .measure import Intensities, intensities, label_counts, voxel_hash

Examined = tuple[CaseFacts, list[Problem]]


@dataclass
class _Found:
    """What is known of a case so far; only one channel is in memory at a time, and the label."""

    case: Case
    problems: list[Problem] = field(default_factory=list)
    grid: Grid | None = None
    first: str = ""
    intensities: dict[str, Intensities] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    labels: dict[str, ClassSize] | None = None
    boxes: dict[str, Sizes] | None = None
    label_hash: str | None = None

    def add(self, severity: Severity, rule: str, text: str, file: Path | None) -> None:
        self.problems.append(Problem(severity, rule, text, self.case.id, file))

    def warn(self, rule: str, texts: list[str], file: Path | None) -> None:
        for text in texts:
            self.add("warning", rule, text, file)

    @contextmanager
    def refusing(self, rule: str, file: Path) -> Iterator[None]:
        """What the gate refuses becomes an error of this rule, and the rest of the block is left out."""
        try:
            yield
        except MedTransferError as error:
            self.add("error", rule, f"{error.reason}. {error.hint}" if error.hint else error.reason, error.path or file)
        except Exception as error:  # a reader's own, or memory: this case is lost, the others are not
            self.add("error", rule, describe_error(error)[0], file)


def examine(case: Case, layout: Layout) -> Examined:
    """Read a case and look at everything that can be wrong with it alone; nothing is raised.

    >>> from pathlib import Path
    >>> layout = Layout(Path("."), "segmentation", (), ("MRI",), ("background", "liver"))
    >>> facts, problems = examine(Case("a", (Path("none.nii"),), Path("no_label.nii")), layout)
    >>> [(problem.rule, problem.text.split(".")[0]) for problem in problems]
    [('label', 'no such file'), ('scan', 'no such file')]
    """
    found = _Found(case)
    labels = _read_label(found, case.label) if isinstance(case.label, Path) else None
    for names, volume in _volumes(found, layout):
        _look_at_scan(found, names, volume, labels)
    if labels is not None:
        _look_at_label(found, labels, layout)
    if isinstance(case.label, ListedBoxes) and found.grid is not None:
        found.boxes = box_sizes(case.label, found.grid, layout.classes)
        for severity, text in box_problems(case.label, found.grid):
            found.add(severity, "box-outside", text, case.images[0])
    return _facts(found, layout), found.problems


def _read_label(found: _Found, file: Path) -> Labels | None:
    labels = None
    with found.refusing("label", file):
        copies = copied_labels([found.case])
        for text in copies:
            found.add("error", "label-is-scan", text.partition(": ")[2], file)
        labels = None if copies else read_labels(file)
        found.warn("label", labels.warnings if labels else [], file)
    return labels


def _volumes(found: _Found, layout: Layout) -> Iterator[tuple[tuple[str, ...], Volume]]:
    """The files that can be read, each with the names of its channels."""
    images, channels = found.case.images, layout.channels
    if len(images) == 1:
        with found.refusing("scan", images[0]):
            yield channels, read_volume(images[0], channels=channels)
        return
    if len(images) != len(channels):
        text = f"{len(images)} files for {len(channels)} channels ({', '.join(channels)})"
        found.add("error", "channels", text, images[0] if images else None)
    for number, file in enumerate(images):
        name = channels[number] if number < len(channels) else f"channel {number}"
        with found.refusing("scan", file):
            yield (name,), read_volume(file, channels=1)


def _look_at_scan(found: _Found, names: tuple[str, ...], volume: Volume, labels: Labels | None) -> None:
    file = volume.path
    assert file is not None
    found.warn("scan", volume.warnings, file)
    if found.grid is None:
        found.grid, found.first = volume.grid, names[0]
    else:
        with found.refusing("channel-grid", file):
            pair = (f"channel {found.first}", f"channel {names[0]}")
            found.warn("channel-grid", validate.check_grids(found.grid, volume.grid, pair, file), file)
    for name, channel in zip(names, volume.array, strict=True):
        _look_at_channel(found, name, channel, volume, labels)


def _look_at_channel(
    found: _Found, name: str, channel: npt.NDArray[np.float32], volume: Volume, labels: Labels | None
) -> None:
    measured, content = intensities(channel), voxel_hash(channel, volume.grid)
    twin = next((other for other, known in found.hashes.items() if known == content), None)
    if measured.is_constant:
        found.warn("constant", validate.constant_note([name]), volume.path)
    elif twin is not None:
        found.add("warning", "channel-twice", f"channel {name} holds the same voxels as channel {twin}", volume.path)
    found.intensities[name], found.hashes[name] = measured, content
    if labels is not None and labels.path is not None:
        with found.refusing("label-is-scan", labels.path):
            validate.check_not_scan(labels.array, channel, labels.path)


def _look_at_label(found: _Found, labels: Labels, layout: Layout) -> None:
    file = labels.path
    assert file is not None
    if found.grid is not None:
        with found.refusing("label-grid", file):
            pair = ("the scan", "the label")
            found.warn("label-grid", validate.check_grids(found.grid, labels.grid, pair, file), file)
    if layout.classes:
        with found.refusing("label-classes", file):
            validate.check_classes(labels.array, len(layout.classes), layout.ignore, file)
    counts = label_counts(labels.array)
    named = layout.classes or [str(number) for number in range(max(counts) + 1)]
    ml = labels.grid.voxel_ml
    found.labels = {
        name: ClassSize(counts.get(number, 0), counts.get(number, 0) * ml)
        for number, name in enumerate(named)
        if number
    }
    if set(counts) <= {0, layout.ignore}:
        found.add("warning", "label-empty", "the label is empty: no voxel has a class", file)
    else:
        found.label_hash = voxel_hash(labels.array, labels.grid)


def _facts(found: _Found, layout: Layout) -> CaseFacts:
    case = found.case
    label = case.label if isinstance(case.label, Path) else None
    target = layout.classes[case.label] if isinstance(case.label, int) else None
    files = [*case.images, *([label] if label else [])]
    return CaseFacts(
        case.id,
        case.images,
        label,
        target,
        case.patient,
        case.part,
        found.grid,
        found.intensities,
        found.hashes,
        found.labels,
        found.boxes,
        found.label_hash,
        sum(file.stat().st_size for file in files if file.is_file()),
    )
