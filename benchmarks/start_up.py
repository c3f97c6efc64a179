"""How long each command takes on next to nothing, beside `import torch`.

    python benchmarks/start_up.py --rounds 5 [--beside CHECKOUT]

Tiny networks, scans of 16 voxels: what is timed is the start, from the shell to the end of the process. Every round
runs every command once, each time right after a process that only imports torch; the ratio is the median over the
rounds, beside it the smallest and largest. The seconds are processor time of all threads, which other work on the
machine disturbs least. With --beside the commands of another checkout are run in turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

import medtransfer as mt

ROOT = Path(__file__).resolve().parents[1]
TINY = {"base_channels": 4, "stem_channels": 4}
NETWORKS = {"segmenter": "resunet10", "classifier": "resnet10", "detector": "retinanet_resnet10"}
YARDSTICK = ["-c", "import torch"]
COMMANDS = {
    **{f"import medtransfer; medtransfer.{name}": f"import medtransfer; medtransfer.{name}"
       for name in ("__version__", "create_model", "transfer", "Predictor")},
    **dict.fromkeys(("--help", "info", "inspect segmenter", "diff segmenter classifier", "check .")),
    "evaluate -p labelsTr -r labelsTr": None,
    "transfer classifier --to resunet10 -o OUT --arguments base_channels=4 stem_channels=4": None,
    "convert classifier -o OUT": None,
    **{f"predict -m {name} -i imagesTr/a.nii.gz -o OUT --device cpu": None for name in NETWORKS},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", metavar="CHECKOUT", type=Path, help="another checkout, such as one before a change")
    options = parser.parse_args()
    trees = [ROOT, *([options.beside.resolve()] if options.beside else [])]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(place)
        found = measure(place, trees, options.rounds)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    print(table(found, [str(tree.name) for tree in trees]))


def prepare(place: Path) -> None:
    """A model folder of each task, and a dataset of three cases."""
    for folder, name in NETWORKS.items():
        mt.save(mt.create_model(name, **TINY), place / folder)
    entries, rng = [], np.random.default_rng(0)
    for case, part in itertools.product("abc", ("imagesTr", "labelsTr")):
        array = np.zeros((16, 15, 14), np.uint8)
        array[4:9, 4:9, 4:9] = 1
        values = array if part == "labelsTr" else (array + rng.random(array.shape)).astype(np.float32)
        (place / part).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.eye(4)), place / part / f"{case}.nii.gz")
    entries = [{"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in "abc"]
    listing = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "box"}, "training": entries}
    (place / "dataset.json").write_text(json.dumps(listing))


def measure(place: Path, trees: list[Path], rounds: int) -> dict[str, list[list[tuple[float, float]]]]:
    """Command -> for each tree the seconds of every round, and those of the yardstick beside them."""
    found: dict[str, list[list[tuple[float, float]]]] = {name: [[] for _ in trees] for name in COMMANDS}
    outputs: Iterator[int] = itertools.count()
    for _, name in itertools.product(range(rounds), COMMANDS):
        for number, tree in enumerate(trees):
            code = COMMANDS[name]
            words = name.replace("OUT", f"out{next(outputs)}").split()
            arguments = ["-c", code] if code else ["-m", "medtransfer", *words]
            yardstick = seconds(YARDSTICK, place, tree)
            found[name][number].append((seconds(arguments, place, tree), yardstick))
    return found


def seconds(arguments: list[str], place: Path, tree: Path) -> float:
    """Processor time of a Python process."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=place, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr.decode()}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def table(found: dict[str, list[list[tuple[float, float]]]], trees: list[str]) -> str:
    """The rows, with two columns for each tree."""
    heads = [head for tree in trees for head in (f"{tree}, s", "x `import torch`")]
    lines = [f"| command | {' | '.join(heads)} |", "|" + " --- |" * (len(heads) + 1)]
    for name, runs in found.items():
        cells = [cell for rounds in runs for cell in cells_of(rounds)]
        lines.append(f"| `{name.split(' -o ')[0].split(' -i ')[0]}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def cells_of(rounds: list[tuple[float, float]]) -> list[str]:
    """The median seconds, and the median ratio with the smallest and largest."""
    ratios = [own / yardstick for own, yardstick in rounds]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [f"{statistics.median(own for own, _ in rounds):.2f}", spread]


if __name__ == "__main__":
    main()
