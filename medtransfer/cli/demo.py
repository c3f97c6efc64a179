"""``medtransfer demo``: the whole path on an embedded brain scan."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from .messages import write_log
from .options import add_json, add_overwrite
from .outputs import refuse_foreign_folder, refuse_unusable_folder
from .results import Results

USAGE = "[-o FOLDER] [--overwrite] [--json]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("-o", "--output", metavar="FOLDER", default="medtransfer_demo",
        help="where everything is written (medtransfer_demo)")  # fmt: skip
    add_overwrite(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Run the demo and show what came out."""
    refuse_unusable_folder(Path(options.output).parent)
    refuse_foreign_folder(options.output, "demo.json", options.overwrite)
    # threads that spin while they wait make the small networks of the demo several times slower on a busy machine;
    # read once, when torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from medtransfer.demo.run import run_demo

    result = run_demo(options.output, overwrite=options.overwrite, log=write_log)
    results.write_either(result.to_dict(), str(result), options.json)
    return 0
