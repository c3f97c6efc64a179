"""``medtransfer pull``: a model folder from a hub."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .options import add_json, add_overwrite
from .results import Results

USAGE = "ORG/NAME@REVISION -o FOLDER [--overwrite] [--json]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("reference", metavar="ORG/NAME@REVISION",
        help="the model, and its commit; a branch or tag too, whose commit is told")  # fmt: skip
    add("-o", "--output", metavar="FOLDER", required=True, help="the model folder to write")
    add_overwrite(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Fetch, check, write; the token and the hub's address are the library's own (HF_TOKEN, HF_ENDPOINT)."""
    from medtransfer.sharing.pull import pull

    pulled = pull(options.reference, options.output, options.overwrite)
    results.write_either(pulled.to_dict(), str(pulled), options.json)
    return 0
