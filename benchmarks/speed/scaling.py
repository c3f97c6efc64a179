"""How the cost grows with the size of a scan and with the number of classes: ours and MONAI's, time and memory."""

from __future__ import annotations

from typing import Any

from .measure import Peak, Row, alone, compare, peak_memory
from .options import Options

MAKER = "benchmarks.speed.scaling:prediction"
SIZES = (64, 128, 192, 256, 384, 512)
CLASSES = (2, 5, 20, 100)
#: the largest scans that MONAI is waited for; with --long all
PATIENCE, QUICK_PATIENCE = 192, 64
QUICK_SIZES, QUICK_CLASSES = (64, 256), (100,)
RIVAL = "MONAI windows, bfloat16 autocast"


def rows(options: Options) -> list[Row]:
    """Seconds per megavoxel and peak memory, each in a process of its own, whose first call counts."""
    sizes, classes = (QUICK_SIZES, QUICK_CLASSES) if options.quick else (SIZES, CLASSES)
    edge = 64 if options.quick else 128
    found = [row for size in sizes for row in _rows(size, 3, options)]
    return found + [row for number in classes for row in _rows(edge, number, options)]


def _rows(size: int, classes: int, options: Options) -> list[Row]:
    given: dict[str, Any] = {"size": size, "classes": classes, "device": options.device}
    mine = peak_memory(MAKER, way="auto", **given)
    waits = options.long or size <= (QUICK_PATIENCE if options.quick else PATIENCE)
    theirs = peak_memory(MAKER, way="MONAI bfloat16", **given) if waits else None
    return both(f"{size}x{size}x{size}, {classes} classes", size**3 / 1e6, mine, theirs, options.device)


def both(what: str, megavoxels: float, mine: Peak, theirs: Peak | None, device: str = "cpu") -> list[Row]:
    """A row of time and one of memory."""
    values = [(seconds(mine, megavoxels), "s/Mvoxel"), (mine.mib(device), "MiB")]
    if theirs is None:
        return [alone(what, value, unit, note="MONAI only with --long") for value, unit in values]
    rivals = [seconds(theirs, megavoxels), theirs.mib(device)]
    return [compare(what, [value], [rival], unit, RIVAL) for (value, unit), rival in zip(values, rivals, strict=True)]


def seconds(peak: Peak, megavoxels: float) -> float:
    """Per million voxels of the scan.

    >>> seconds(Peak(0, 0, seconds=6.0), 3.0)
    2.0
    """
    return peak.seconds / megavoxels


def prediction(size: int, classes: int, way: str, device: str) -> Any:
    """For `peak_memory`: one way over a cube that is read, after a smaller one to warm up."""
    from .ways import WINDOW, Scene, build, random_scan

    network = build("resunet18", classes)
    scenes = [Scene(network, random_scan((edge,) * 3), device) for edge in (WINDOW[0] if "MONAI" in way else 64, size)]
    small, large = (
        scene.windows(way.removeprefix("MONAI "), 1) if "MONAI" in way else scene.ours(way) for scene in scenes
    )
    small()
    return large
