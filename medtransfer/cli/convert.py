"""``medtransfer convert``: a weight file of another project into a model folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .options import WEIGHTS, add_dialect, add_json, add_overwrite
from .outputs import refuse_unusable_model_folder
from .parser import number_between
from .results import Results

USAGE = "SRC -o FOLDER [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("source", metavar="SRC", help=WEIGHTS)
    add("-o", "--output", metavar="FOLDER", required=True, help="the model folder to write")
    add_dialect(parser)
    add("--num-classes", metavar="N", type=number_between(1, 100_000, int),
        help="classes of a new head, for weights that have none")  # fmt: skip
    add_overwrite(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Build the network that computes what the file's did, fill it, save the folder, print the report."""
    refuse_unusable_model_folder(options.output, options.source, options.overwrite)
    from medtransfer.adapter.convert import convert

    report = convert(options.source, options.output, options.dialect, options.overwrite, options.num_classes)
    document = {"output": options.output, **report.to_dict()}
    results.write_either(document, f"{report}\nwritten: {options.output}", options.json)
    return 0
