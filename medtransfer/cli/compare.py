"""``medtransfer compare``: from scratch against transfer, at equal budget."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from medtransfer.errors import UsageError

from .messages import write_log
from .options import add_cfg_options, add_json
from .outputs import refuse_unusable_folder
from .parser import number_between
from .results import Results

if TYPE_CHECKING:
    from medtransfer.comparison.run import Outcome

USAGE = "CONFIG --work-dir FOLDER [options]"
#: some runs failed, the others are done
SOME_FAILED = 5
#: runs that are named in a line
SHOWN = 8


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("config", metavar="CONFIG",
        help="a training config, with the key `compare` or the options below; it is code: trust it")  # fmt: skip
    add("--work-dir", metavar="FOLDER", required=True,
        help="where runs, results and report.html go; a comparison that was cut goes on there, and several processes "
        "may be started on one folder")  # fmt: skip
    add("--sources", metavar="NAME=PATH", nargs="+", help="weight files or model folders, each with a name")
    add("--policies", metavar="NAME", nargs="+",
        help="full, frozen, head, lp_ft, gradual, lora, or those that the config names")  # fmt: skip
    add("--cases", metavar="N", nargs="+", type=number_between(1, math.inf, int), help="numbers of training cases")
    add("--seeds", metavar="N", nargs="+", type=number_between(0, math.inf, int), help="seeds")
    add_cfg_options(parser)
    add("--keep-models", action="store_true", help="keep the model folder of every run")
    add("--report-only", action="store_true", help="train nothing; write the report of what is finished")
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Compare; the summary and the report's path are printed at the end."""
    refuse_unusable_folder(options.work_dir)
    from medtransfer.comparison.run import compare

    outcome = compare(
        options.config,
        options.work_dir,
        sources=None if options.sources is None else _named(options.sources),
        policies=options.policies,
        cases=options.cases,
        seeds=options.seeds,
        cfg_options=options.cfg_options,
        keep_models=options.keep_models,
        report_only=options.report_only,
        log=write_log,
    )
    results.write_either(_document(outcome), _words(outcome), options.json)
    return SOME_FAILED if outcome.failed else 0


def _named(pairs: list[str]) -> dict[str, str]:
    """``NAME=PATH`` texts as a dict.

    >>> _named(["genesis=weights/a=b.pt"])
    {'genesis': 'weights/a=b.pt'}
    """
    named: dict[str, str] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise UsageError(
                f"--sources {pair!r} is not of the form NAME=PATH", hint="Write genesis=weights/genesis.pt"
            )
        if name in named:
            raise UsageError(f"--sources names {name!r} twice", hint="Give each source a name of its own")
        named[name] = path
    return named


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "work_dir": outcome.folder,
        "runs": outcome.runs,
        "finished": outcome.finished,
        "failed": dict(outcome.failed),
        "unfinished": list(outcome.unfinished),
        "summary": outcome.summary,
        "report": outcome.report,
    }


def _words(outcome: Outcome) -> str:
    lines = [f"{outcome.finished} of {outcome.runs} runs are finished"]
    lines += [f"failed: {name}: {reason}" for name, reason in outcome.failed.items()]
    if outcome.unfinished:
        more = " ..." if len(outcome.unfinished) > SHOWN else ""
        lines.append(f"not finished: {', '.join(outcome.unfinished[:SHOWN])}{more}")
    lines += [outcome.summary] if outcome.summary else []
    lines += [f"report: {outcome.report}"] if outcome.report else []
    return "\n".join(lines)
