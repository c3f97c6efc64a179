"""Trainings with two processes, with one, and with two of which one is disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medtransfer.training.run import run

from .distributed_script import Ended, Plan, processes
from .interruptions import newest

ROOT = Path(__file__).resolve().parents[2]
NETWORK = {"type": "resunet10", "base_channels": 4, "stem_channels": 4}
GROUPS = {"type": "GN", "num_groups": 1}  # normalise each scan by itself
# two epochs of two steps; three cases to validate are an odd number for two processes
TINY = {
    "model.network": {**NETWORK, "norm_cfg": GROUPS},
    "split": {"train": 3, "val": 3, "seed": 0},
    "patch_size": [16, 16, 16],
    "train_dataloader.sampler.samples_per_epoch": 8,
    "train_cfg.max_epochs": 2,
    "train_cfg.val_interval": 1,
    "optim_wrapper.dtype": "float32",
    "randomness.seed": 5,  # whose scores are not 0
    "default_hooks": {"checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 1}},
}
# Adam makes steps of full size of gradients that are nothing but rounding, as those of a bias before a norm
SGD = {"optim_wrapper.optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9}, "param_scheduler": None}
RANDOM = {**TINY, "model.network": {**NETWORK, "norm_cfg": GROUPS, "dropout_rate": 0.3}, "randomness.seed": 4}
SHORT = {"env_cfg": {"dist_cfg": {"timeout": 4}}}
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """What to train on, and where."""

    data: Path
    folder: Path

    def arguments(self, name: str, options: Options, resume: bool = False, launcher: str = "pytorch") -> list[str]:
        """Those of ``medtransfer train`` in one of two processes with a batch of two."""
        chosen = {"data_root": str(self.data), "train_dataloader.batch_size": 2, **TINY, **options}
        words = [f"{key}={value!r}" for key, value in chosen.items()]
        first = ["resunet18_hippocampus", "--work-dir", str(self.folder / name), "--launcher", launcher]
        return [*first, *(["--resume", "auto"] if resume else []), "--cfg-options", *words]

    def train(self, name: str, options: Options, resume: bool = False, launcher: str = "pytorch") -> list[Ended]:
        """Train with two processes, and see that both end well."""
        part = {"arguments": self.arguments(name, options, resume, launcher), "weights": str(self.folder / name)}
        ended = processes([part], self.folder, launcher=launcher)
        assert [process.code for process in ended] == [0, 0], ended
        return ended

    def one(self, name: str, options: Options, **more: Any) -> Path:
        """Train with one process with a batch of four."""
        chosen = {"data_root": str(self.data), "train_dataloader.batch_size": 4, **TINY, **options}
        return run("resunet18_hippocampus", self.folder / name, cfg_options=chosen, **more)

    def broken(
        self, when: int | str, action: str, rank: int = 1, options: Options = SHORT, limit: float = 60
    ) -> list[Ended]:
        """Train with two processes, one of which is disturbed."""
        part = {"arguments": self.arguments("broken", options), "disturb": [rank, when, action]}
        return processes([part], self.folder, limit)


def ends(folder: Path) -> list[dict[str, torch.Tensor]]:
    """The networks that the two processes ended with."""
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def difference(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def scores(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())["validations"]


def assert_equal(two: Path, one: Path) -> None:
    """Both processes hold one network, that of the one process; all cases were counted once, and scored the same."""
    first, second = ends(two)
    assert difference(first, second) == 0
    assert difference(newest(two)["state_dict"], newest(one)["state_dict"]) < 1e-5
    assert scores(two) == scores(one)
    first_best, second_best = (json.loads((folder / "report.json").read_text())["best"] for folder in (two, one))
    assert first_best == second_best
    assert any(row[first_best["metric"]] for row in scores(one))


def errors_of(ended: list[Ended]) -> list[str]:
    lines = [line for process in ended for line in process.text.splitlines()]
    return [line for line in lines if line.startswith("medtransfer: error: ") or "Traceback" in line]


def torchrun(plan: Plan, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Two processes under torch's own launcher."""
    (folder / "plan.json").write_text(json.dumps(plan))
    script = [str(Path(__file__).with_name("distributed_script.py")), str(folder / "plan.json")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *more, *script]
    path = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=path, cwd=folder, check=False)
