"""A temperature for the classifier that was just trained: fitted to the validation cases, written into its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ..adapter.persist import load, save
from ..checkpoint.card import ModelCard
from ..errors import ConfigError, MedTransferError
from ..finetune.calibration import FEWEST_CASES, calibrate
from .checkpoint_hooks import plain_model
from .registry import HOOKS
from .tasks import Task

NOTE = "fitted to the validation cases, which chose the best weights too: measure the gain on other cases"
Answers = list[tuple[np.ndarray, int]]


def refuse_uncalibrated(cfg: Config, task: Task, loaders: Mapping[str, DataLoader[Any]]) -> None:
    """See before training that there will be cases to fit a temperature to, if the config asks for one.

    Raises:
        ConfigError: it is no classification, or the validation has fewer than 10 cases, or cases of one class only.
    """
    if not cfg.get("calibrate"):
        return
    if not task.calibrates:
        raise ConfigError(f"calibrate is for classification, the dataset is for {task.task}")
    validation: Any = loaders.get("val_dataloader")
    labels = [case.label for case in validation.dataset.cases] if validation else []
    if len(labels) < FEWEST_CASES or len(set(labels)) < 2:
        found = f"{len(labels)} validation cases of {len(set(labels))} classes"
        reason = f"calibrate needs {FEWEST_CASES} validation cases or more, of 2 classes or more, got {found}"
        raise ConfigError(reason, hint="Set split.val to more cases, or leave calibrate away")


class Calibrate(Hook):
    """After training, fit a temperature to what ``best`` says of the validation cases, and write it into its card.

    Cases that have no best temperature, as when all are right, are told in the log and in ``report.json``; the card
    then stays as it is. Comes between :class:`BestModel` and :class:`RunReport`.
    """

    priority = "LOW"

    def after_train(self, runner: Runner) -> None:
        """Every process runs its share of the cases; the first one fits and writes."""
        barrier()  # the first process may be writing best/
        best = Path(runner.work_dir) / "best"
        network = load(best)
        answers = collect_results(_answers(runner, network), len(runner.val_dataloader.dataset), device="gpu")
        if is_main_process():
            record = self._fit(runner, network.cpu(), best, answers or [])
            runner.message_hub.update_info("calibration", record)

    def _fit(self, runner: Runner, network: nn.Module, best: Path, answers: Answers) -> dict[str, Any]:
        try:
            found = calibrate(np.stack([logits for logits, _ in answers]), [label for _, label in answers])
        except MedTransferError as error:
            runner.logger.warning(f"not calibrated: {error}")
            return {"temperature": None, "reason": error.reason}
        card: ModelCard = network.card  # type: ignore[assignment]
        save(network, best, msgspec.structs.replace(card, temperature=found.temperature), overwrite=True)
        change = (
            f"NLL {found.nll_before:.3f} -> {found.nll_after:.3f}, ECE {found.ece_before:.3f} -> {found.ece_after:.3f}"
        )
        runner.logger.info(f"temperature {found.temperature:.4g} for {found.cases} cases ({change}); {NOTE}")
        return {**asdict(found), "note": NOTE}


def _answers(runner: Runner, network: nn.Module) -> Answers:
    """Logits (K,) in float32, and the true class, of this process's share of the validation cases."""
    network.eval().to(get_device())
    answers: Answers = []
    with torch.no_grad():
        for batch in runner.val_dataloader:
            moved = plain_model(runner).data_preprocessor(batch)  # type: ignore[operator]
            logits = network(moved["image"]).float().cpu().numpy()
            answers += zip(logits, moved["label"].tolist(), strict=True)
    return answers


HOOKS.register_module(module=Calibrate)
