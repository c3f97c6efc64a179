"""``medtransfer inspect``: what is in a weight file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .options import WEIGHTS, add_dialect, add_json
from .results import Results

USAGE = "CKPT [--dialect NAME] [--json]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("checkpoint", metavar="CKPT", help=WEIGHTS)
    add_dialect(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Show the file's format, architecture, channels, classes and tensors."""
    from medtransfer.adapter.inspect import inspect

    found = inspect(options.checkpoint, options.dialect)
    results.write_either(found.to_dict(), str(found), options.json)
    return 0
