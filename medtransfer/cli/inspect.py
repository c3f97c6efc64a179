"""``medtransfer inspect``: what is in a weight file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .results import Results

USAGE = "CKPT [--dialect NAME] [--json]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="a weight file (.pth, .pt, .ckpt, .safetensors) or model folder"
    )
    parser.add_argument("--dialect", metavar="NAME", help="the naming, when it should not be told from the content")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: Namespace, results: Results) -> int:
    """Show the file's format, architecture, channels, classes and tensors."""
    from medtransfer.adapter.inspect import inspect

    found = inspect(options.checkpoint, options.dialect)
    results.write_either(found.to_dict(), str(found), options.json)
    return 0
