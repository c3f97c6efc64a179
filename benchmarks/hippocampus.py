"""Dice on unseen hippocampus cases: the shipped config beside MONAI's U-Net and a tutorial's ResUNet, at one budget.

    python benchmarks/hippocampus.py --data PATH/Task04_Hippocampus --cases 8 32 --seeds 0 1

All networks see the same training cases, the same patches with the same augmentation in the same order (500 batches
of 4), and the same optimiser (AdamW, one-cycle learning rate up to 2e-3, DiceCE, bfloat16). Nothing is chosen by the
scored cases: the last weights count. The ResUNets go the user's way (`train`, then `predict` on the files of 60 cases
that were left out); MONAI's U-Net is trained by a plain loop. `tutorial` is the ptimz tutorial's plain ResUNet-18: deep
stem, strided convolution for pooling, no skip connection at full resolution. Dice is the mean over cases and both
structures, on each scan's own grid. Rows are added to hippocampus.jsonl as they come; --table prints them all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medtransfer import Predictor
from medtransfer.data.cases import Case
from medtransfer.data.dataset import DecathlonDataset
from medtransfer.data.sampler import CaseSampler
from medtransfer.training.run import run

#: the ptimz tutorial's network, as changes of the shipped config
TUTORIAL = {"decoder_block": "bottleneck", "pool": "conv", "full_resolution_skip": 0, "aux_train": False}
STEPS, BATCH, UNSEEN = 500, 4, 60
PATCH = (48, 64, 48)
RESULTS = Path(__file__).with_name("hippocampus.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder Task04_Hippocampus")
    parser.add_argument("--table", action="store_true", help="print the rows so far as a table, and train nothing")
    parser.add_argument("--cases", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--networks", nargs="+", choices=sorted(TRAINERS), default=sorted(TRAINERS))
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    if options.data is None:
        parser.error("--data is needed")
    for cases in options.cases:
        for seed in options.seeds:
            for name in options.networks:
                split = {"train": cases, "val": UNSEEN, "seed": seed}
                record(name, cases, seed, TRAINERS[name](options.data, split, seed))


def train_tutorial(data: str, split: dict[str, int], seed: int) -> dict[str, Any]:
    return train_resunet(data, split, seed, {f"model.network.{key}": value for key, value in TUTORIAL.items()})


def train_resunet(data: str, split: dict[str, int], seed: int, network: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train by the shipped config, then predict the left-out files with the model folder it leaves."""
    changes = {
        "data_root": data,
        "randomness.seed": seed,
        "train_cfg.val_interval": STEPS * BATCH // 200,  # once, at the end
        **{f"split.{key}": value for key, value in split.items()},
        **(network or {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        work_dir = run("resunet18_hippocampus", work_dir=Path(folder) / "run", cfg_options=changes)
        seconds = time.perf_counter() - begin
        predictor = Predictor(work_dir / "best")
        unseen = DecathlonDataset(data, part="val", split=split, cache=False).cases
        scores = [dice(np.asarray(predictor.predict(case.images[0]).labels.dataobj), case) for case in unseen]
    return {"scores": scores, "train_seconds": seconds}


def train_monai_unet(data: str, split: dict[str, int], seed: int) -> dict[str, Any]:
    """MONAI's residual U-Net in a plain loop."""
    train = DecathlonDataset(data, part="train", split=split, patch_size=PATCH, augmentation="light")
    sampler = CaseSampler(train, seed=seed, samples_per_epoch=STEPS * BATCH)
    torch.manual_seed(seed)
    network = UNet(3, 1, 3, (32, 64, 128, 256), (2, 2, 2), num_res_units=2, norm="batch")
    network = network.to(memory_format=torch.channels_last_3d)
    begin = time.perf_counter()
    fit(network, DataLoader(train, batch_size=BATCH, sampler=sampler))
    seconds = time.perf_counter() - begin
    unseen = DecathlonDataset(data, part="val", split=split)
    scores = [dice(segment(network, unseen[i]["image"]), case) for i, case in enumerate(unseen.cases)]
    return {"scores": scores, "train_seconds": seconds}


def fit(network: nn.Module, batches: DataLoader[dict[str, Any]]) -> None:
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    network.train()
    for batch in batches:
        image = batch["image"].contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
        loss = criterion(logits.float(), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def segment(network: nn.Module, image: Tensor) -> np.ndarray:
    logits = sliding_window_inference(image[None], PATCH, 1, network.eval(), mode="gaussian")
    return logits[0].argmax(0).numpy()


def dice(found: np.ndarray, case: Case) -> list[float]:
    """Dice of both structures. The scans of this task are stored in RAS order, so that grids agree as they are."""
    reference = np.asarray(nib.load(case.label).dataobj)
    pairs = [(found == label, reference == label) for label in (1, 2)]
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def record(name: str, cases: int, seed: int, result: dict[str, Any]) -> None:
    scores = np.array(result["scores"])
    row = {
        "network": name,
        "training_cases": cases,
        "seed": seed,
        "dice": round(float(scores.mean()), 4),
        "anterior": round(float(scores[:, 0].mean()), 4),
        "posterior": round(float(scores[:, 1].mean()), 4),
        "lowest_case": round(float(scores.mean(1).min()), 4),
        "train_seconds": round(result["train_seconds"]),
        "torch": torch.__version__,
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def table() -> str:
    """All rows as Markdown."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    rows.sort(key=lambda row: (row["training_cases"], row["seed"], row["network"]))
    columns = ["training_cases", "seed", "network", "dice", "anterior", "posterior", "lowest_case"]
    lines = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TRAINERS = {"resunet18": train_resunet, "monai_unet": train_monai_unet, "tutorial": train_tutorial}

if __name__ == "__main__":
    main()
