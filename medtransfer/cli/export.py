"""``medtransfer export``: a model folder as a file that runs without medtransfer."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from medtransfer.exporting.formats import FORMATS, choose_format
from medtransfer.files import refuse_existing, refuse_inside, refuse_unusable_folder

from .options import add_json, add_overwrite
from .parser import number_between
from .results import Results

USAGE = "MODEL -o OUT [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    suffixes = ", ".join(f"{one.suffix} ({one.what})" for one in FORMATS.values() if one.suffix)
    size = number_between(1, 100_000, int)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model folder")
    add("-o", "--output", metavar="OUT", required=True,
        help=f"the file to write, whose suffix tells the format: {suffixes}; of a MONAI bundle a folder")  # fmt: skip
    add("--format", metavar="NAME", help=f"{', '.join(FORMATS)}, where the suffix does not tell")
    add("--spatial-size", metavar="N", nargs="+", type=size,
        help="fix the spatial axes: voxels, one number for all or one an axis; open when not given")  # fmt: skip
    add("--batch-size", metavar="N", type=size, help="fix the batch; open when not given")
    add_overwrite(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Export, compare, print the report."""
    _refuse_output(options)
    from medtransfer.exporting.run import export

    sizes = options.spatial_size
    report = export(
        options.model,
        options.output,
        format=options.format,
        spatial_size=sizes[0] if sizes and len(sizes) == 1 else sizes,
        batch_size=options.batch_size,
        overwrite=options.overwrite,
    )
    results.write_either(report.to_dict(), str(report), options.json)
    return 0


def _refuse_output(options: Namespace) -> None:
    """Before torch is imported."""
    choose_format(options.output, options.format)
    refuse_existing(options.output, options.overwrite)
    refuse_unusable_folder(Path(options.output).parent)
    refuse_inside(options.output, options.model, "the model folder")
