"""``medtransfer diff``: how two weight files differ."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .options import WEIGHTS, add_json
from .results import Results

USAGE = "A B [--json]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("a", metavar="A", help=WEIGHTS)
    parser.add_argument("b", metavar="B", help="another; the exit code is 0 whether they differ or not")
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Show what is the same, what changed and by how much, and what only one has."""
    from medtransfer.adapter.diff import diff

    found = diff(options.a, options.b)
    results.write_either(found.to_dict(), str(found), options.json)
    return 0
