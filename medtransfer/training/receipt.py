"""What a run's weights came from: the receipt of its transfer, which stays with the run however often it is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from mmengine.config import Config
from mmengine.dist import is_main_process
from torch import nn

from ..adapter.report import TransferReport
from ..adapter.transfer import transfer
from ..data.dataset import CaseDataset
from ..files import write_json

NAME = "transfer.json"


def transferred(
    cfg: Config, network: nn.Module, dataset: CaseDataset, checkpoint: Path | None
) -> tuple[TransferReport | None, str]:
    """Put the weights of the config's ``transfer`` into a network; of a resumed run, read what was put in.

    A resumed run has its weights from the checkpoint, so its receipt lies beside that, whatever the config says now.
    One that is missing, damaged or of another network is no reason to stop: the run goes on without it.

    Args:
        cfg: The config.
        network: Untouched if there is a checkpoint.
        dataset: Names the channels and classes.
        checkpoint: What the run is resumed from.

    Returns:
        The receipt, and what is wrong with it, or nothing.

    Raises:
        TransferError: the weights do not fit.
    """
    if checkpoint is not None:
        return _read(checkpoint.with_name(NAME), network, expected=bool(cfg.get("transfer")))
    if not cfg.get("transfer"):
        return None, ""
    channels, classes = list(dataset.layout.channels), list(dataset.layout.classes)
    return transfer(target=network, channel_names=channels, class_names=classes, **cfg.transfer), ""


def _read(path: Path, network: nn.Module, expected: bool) -> tuple[TransferReport | None, str]:
    if not path.exists():
        return None, f"{path}: is missing" if expected else ""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=TransferReport)
    except (OSError, msgspec.DecodeError) as error:
        return None, f"{path}: cannot be read ({error})"
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    foreign = [entry.key for entry in (*report.loaded, *report.adapted) if own.get(entry.key) != entry.target_shape]
    if foreign or not 0 <= report.coverage <= 1:
        return None, f"{path}: is of another network ({', '.join(foreign[:3]) or f'coverage {report.coverage}'})"
    return report, ""


def write_receipt(work_dir: str | Path, report: TransferReport | None, fault: str, logger: Any) -> None:
    """Write it into the run's folder, where a run that is resumed will look for it, and into the log."""
    if not is_main_process():
        return
    if fault:
        logger.warning(f"{fault}: report.json and the card of best/ will not say where the weights came from")
    if report is None:
        return
    logger.info(f"transfer {report}")
    write_json(Path(work_dir) / NAME, report.to_dict())
