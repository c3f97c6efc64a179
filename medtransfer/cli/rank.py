"""``medtransfer rank``: which source to take, told from the features of the frozen networks before any training."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace

from .messages import PROGRAM, write_log
from .parser import number_between
from .results import Results

USAGE = "DATA --sources A B ... [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("data", metavar="DATA", help="a Decathlon folder (segmentation), or a CSV table (classification)")
    add("--sources", metavar="[NAME=]PATH", nargs="+", required=True, help="weight files and model folders")
    add(
        "--cases", metavar="N", type=number_between(2, math.inf, int), default=40, help="cases to look at, at most (40)"
    )
    add("--seed", metavar="N", type=number_between(0, 2**32 - 1, int), default=0,
        help="of the choice of cases and voxels (0)")  # fmt: skip
    add("--stages", choices=("auto", "all", "deepest"), default="auto",
        help="whose features: of all stages for a segmentation, of the deepest for a classification")  # fmt: skip
    add("--input-channels", metavar="MODE", default="interpolate",
        help="how a source takes the data's channels: interpolate, repeat, sum, mean, names ...")  # fmt: skip
    add("--dialect", metavar="NAME", help="the sources' naming, when it should not be told from the content")
    add("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--json", action="store_true", help="one JSON document")


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
