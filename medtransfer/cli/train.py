"""``medtransfer train``: training from an mmengine config."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from .options import add_cfg_options
from .results import Results

USAGE = "CONFIG [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("config", metavar="CONFIG",
        help="a config file, or the name of a shipped one; Python configs are code: trust them")  # fmt: skip
    add("--work-dir", metavar="FOLDER", help="where logs, checkpoints and best/ go (work_dirs/CONFIG)")
    add("--resume", metavar="PATH", nargs="?", const="auto",
        help="go on from the work folder's last checkpoint, or from PATH")  # fmt: skip
    add("--amp", action="store_true", help="mixed precision: bf16 on a CPU, fp16 or bf16 on CUDA")
    add_cfg_options(parser)
    add("--launcher", choices=("none", "pytorch", "slurm"), default="none",
        help="how several processes are started (none)")  # fmt: skip


def run(options: Namespace, results: Results) -> int:
    """Train; the work folder and the best model are printed at the end."""
    from medtransfer.training.run import run as train

    work_dir = train(
        options.config,
        work_dir=options.work_dir,
        resume=options.resume,
        amp=options.amp or None,
        cfg_options=options.cfg_options,
        launcher=options.launcher,
    )
    if options.launcher != "none" and os.environ.get("RANK", "0") != "0":
        return 0  # the first process says it
    results.write(f"work folder: {work_dir}")
    if (work_dir / "best").is_dir():
        results.write(f"best model: {work_dir / 'best'}")
    return 0
