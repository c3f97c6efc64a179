"""Prediction beside MONAI's windows: seconds from a prepared scan to labels, and how equal the labels are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from medtransfer.errors import MissingExtraError

from .agreement import Labels, by_class, foreground
from .brain import QUICK_STEPS, STEPS, Brain, fit, read_brain
from .measure import Row, alone, alternate, compare
from .options import Options
from .ways import TITLES, Scene, build, random_scan

CLASSES = 3
#: (ours, theirs) -> least ratio where the processor has bfloat16, where it has not
TARGETS = {("auto", "float32"): ("≥ 10", "≥ 3"), ("auto", "short"): ("≥ 5", ""), ("float32", "float32"): ("", "≥ 3")}


@dataclass(frozen=True)
class Found:
    """What one network gave: rows of seconds, and the labels of every way."""

    rows: list[Row]
    labels: dict[str, Labels]


def rows(options: Options) -> list[Row]:
    """ResUNet-18, trained on the spot, with its quality; ResUNet-50, with random weights."""
    brain, reason = _brain(options)
    small = build("resunet18", CLASSES)
    if brain is not None:
        fit(small, brain, QUICK_STEPS if options.quick else STEPS)
    image = random_scan(options.shape) if brain is None else brain.image
    scene = Scene(small, image, options.device)
    found = _timed("resunet18", scene, options, options.rounds)
    large = [] if options.quick else _large(image, options)
    quality = (
        [alone("masks, ResUNet-18", None, "Dice", note=reason)] if brain is None else _quality(found, scene, brain)
    )
    return [*found.rows, *large, *quality]


def _large(image: Tensor, options: Options) -> list[Row]:
    return _timed("resunet50", Scene(build("resunet50", CLASSES), image, options.device), options, 3).rows


def _brain(options: Options) -> tuple[Brain | None, str]:
    try:
        return read_brain(options.shape), ""
    except MissingExtraError as error:
        return None, f"not measured: {error.reason}"


def _timed(name: str, scene: Scene, options: Options, rounds: int) -> Found:
    """Every way in turn, and what each gave."""
    labels: dict[str, Labels] = {}

    def kept(key: str, way: Callable[[], Labels]) -> Callable[[], object]:
        return lambda: labels.__setitem__(key, way())

    ways = {key: kept(key, scene.ours(key)) for key in ("auto", "float32")}
    rivals = {"float32": "float32", "short": scene.short}
    ways |= {f"MONAI {key}": kept(f"MONAI {key}", scene.best_windows(numbers)) for key, numbers in rivals.items()}
    for key in ("auto", "float32"):  # the choice of the windows' batch warmed up the others
        ways[key]()
    seconds = alternate(ways, rounds, options.device, warm=False)
    size = "x".join(map(str, options.shape))
    made = [
        compare(
            f"{TITLES[name]}, {size}, {CLASSES} classes" + (", both in float32" if mine == "float32" else ""),
            seconds[mine],
            seconds[f"MONAI {theirs}"],
            beside=scene.name_of_windows(rivals[theirs]),
            target=TARGETS[mine, theirs][not options.has_short_numbers] if name == "resunet18" else "",
        )
        for mine, theirs in TARGETS
    ]
    return Found(made, labels)


def _quality(found: Found, scene: Scene, brain: Brain) -> list[Row]:
    """Agreement of the masks with one pass of the plain network in float32, and with the template's tissue."""
    whole, tissue = scene.whole(), brain.labels.numpy()
    made = []
    for mine, theirs in (("auto", "MONAI short"), ("float32", "MONAI float32")):
        labels = (found.labels[mine], found.labels[theirs])
        beside = f"the same of {scene.name_of_windows(scene.short if mine == 'auto' else 'float32')}"
        title = f"mask of {mine} beside that of one float32 pass"
        shares = {"all foreground": [foreground(one, whole) for one in labels]}
        shares["worst class"] = [min(by_class(one, whole, CLASSES)) for one in labels]
        made += [level(f"{title}, {what}", pair, beside, "≥ 0.999") for what, pair in shares.items()]
    means = [sum(by_class(labels, tissue, CLASSES)) / (CLASSES - 1) for labels in (found.labels["auto"], whole)]
    return [*made, level("Dice with the template's tissue, mean of classes", means, "one float32 pass", "± 0.002")]


def level(what: str, pair: Sequence[float], beside: str, target: str = "") -> Row:
    """A row of two Dice values, ours and theirs, which have no ratio."""
    mine, theirs = pair
    return Row(what, mine, theirs, None, None, None, "Dice", beside, target)
