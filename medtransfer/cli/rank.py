"""``medtransfer rank``: which source to take, told from the features of the frozen networks before any training."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace

from .messages import PROGRAM, write_log
from .options import add_device, add_dialect, add_json
from .parser import number_between
from .results import Results

USAGE = "DATA --sources A B ... [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("data", metavar="DATA", help="a Decathlon folder (segmentation), or a CSV table (classification)")
    add("--sources", metavar="[NAME=]PATH", nargs="+", required=True, help="weight files and model folders")
    add("--cases", metavar="N", type=number_between(2, math.inf, int), default=40,
        help="cases to look at, at most (40)")  # fmt: skip
    add("--seed", metavar="N", type=number_between(0, 2**32 - 1, int), default=0,
        help="of the choice of cases and voxels (0)")  # fmt: skip
    add("--stages", choices=("auto", "all", "deepest"), default="auto",
        help="whose features: auto is all for a segmentation, deepest for a classification (auto)")  # fmt: skip
    add("--input-channels", metavar="MODE", default="interpolate",
        help="how a network takes the data's channels from the source's: as of `transfer` (interpolate)")  # fmt: skip
    add_dialect(parser)
    add_device(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Show the sources in order, what to do, and where the evidence is thin."""
    from medtransfer.ranking.rank import rank_sources

    ranking = rank_sources(
        options.data,
        options.sources,
        options.cases,
        options.seed,
        dialect=options.dialect,
        input_channels=options.input_channels,
        stages=options.stages,
        device=options.device,
        log=lambda line: write_log(f"{PROGRAM}: {line}"),
    )
    results.write_either(ranking.to_dict(), str(ranking), options.json)
    return 0
