"""Boxes of the two parts of the hippocampus: a Faster R-CNN from scratch and from a transferred encoder, at one budget.

    python benchmarks/hippocampus_boxes.py --data PATH/Task04_Hippocampus --source PRETRAINED --cases 8 140 --seeds 0 1

Goes the user's way: `train` by the shipped config, `predict` on the files of 60 cases that were left out, `evaluate`
against boxes around their masks. Each seed leaves out other cases, so that a source may have seen some of them. Nothing
is chosen by the scored cases: the last weights count. With --source (a model
folder or weight file whose encoder fits, see --network) every row has a second one of the same draws whose encoder was
transferred. CPU seconds are those of training, all threads together. Rows are added to hippocampus_boxes.jsonl as they
come; --table prints them all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import medtransfer as mt
from medtransfer.data.layouts import read_layout
from medtransfer.data.splits import split_cases
from medtransfer.training.run import run

UNSEEN, PER_EPOCH, BATCH = 60, 200, 4
RESULTS = Path(__file__).with_name("hippocampus_boxes.jsonl")
SCORES = ("map50", "map10_50", "map70", "iou")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder Task04_Hippocampus")
    parser.add_argument("--source", help="weights whose encoder is transferred")
    parser.add_argument("--table", action="store_true", help="print the rows so far as a table, and train nothing")
    parser.add_argument("--cases", type=int, nargs="+", default=[8, 140])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=10, help="of 50 steps of 4 scans")
    parser.add_argument("--network", nargs="*", default=[], metavar="K=V", help="changes of the config's network")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    if options.data is None:
        parser.error("--data is needed")
    network = {
        f"model.network.{key}": int(value) for key, _, value in (word.partition("=") for word in options.network)
    }
    arms = {"scratch": {}, **({"transferred": {"transfer": transfer_of(options.source)}} if options.source else {})}
    for cases in options.cases:
        for seed in options.seeds:
            for arm, changes in arms.items():
                split = {"train": cases, "val": UNSEEN, "seed": seed}
                found = measure(options.data, split, options.epochs, {**network, **changes})
                record({"arm": arm, "training_cases": cases, "seed": seed, **found, "network": options.network})


def transfer_of(source: str) -> dict[str, Any]:
    return {"source": source, "input_channels": "interpolate", "head": "drop", "min_coverage": 0.5}


def measure(data: str, split: dict[str, int], epochs: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Train, predict the left-out files with the model folder that training leaves, and score its boxes."""
    options = {
        "data_root": data,
        "randomness.seed": split["seed"],
        "train_cfg.max_epochs": epochs,
        "train_cfg.val_interval": epochs,  # once, at the end
        **{f"split.{key}": value for key, value in split.items()},
        **changes,
    }
    unseen = split_cases(read_layout(data), split)[1]
    with tempfile.TemporaryDirectory() as folder:
        begin, cpu = time.perf_counter(), time.process_time()
        work_dir = run("faster_rcnn_hippocampus", work_dir=Path(folder) / "run", cfg_options=options)
        cpu_seconds, seconds = time.process_time() - cpu, time.perf_counter() - begin
        boxes = Path(folder) / "boxes"
        mt.predict_batch(mt.Predictor(work_dir / "best"), [case.images[0] for case in unseen], boxes)
        scores = mt.evaluate(boxes, Path(data) / "labelsTr", boxes="class", missing="skip").summary
    return {
        **summarised(next(iter(scores.values()))),
        "steps": epochs * PER_EPOCH // BATCH,
        "cpu_seconds": round(cpu_seconds),
        "train_seconds": round(seconds),
    }


def summarised(summary: dict[str, Any]) -> dict[str, float]:
    """mAP at an overlap of 0.5, over 0.1 to 0.5 and at 0.7, and the mean overlap of the boxes that hit."""
    mean, classes = summary["mean"], summary["classes"].values()
    strict = [found["ap_by_iou"]["0.7"] for found in classes]
    values = (mean["ap"]["value"], mean["ap_range"]["value"], sum(strict) / len(strict), mean["iou"]["value"])
    return {name: round(value, 4) for name, value in zip(SCORES, values, strict=True)}


def record(row: dict[str, Any]) -> None:
    row = {**row, "torch": str(torch.__version__)}
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def table() -> str:
    """All rows as Markdown."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    rows.sort(key=lambda row: (row["training_cases"], row["steps"], row["seed"], row["arm"]))
    columns = ["training_cases", "steps", "seed", "arm", *SCORES, "cpu_seconds"]
    lines = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
