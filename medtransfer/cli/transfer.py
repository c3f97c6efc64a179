"""``medtransfer transfer``: a weight file into a network for another task, written as a model folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtransfer.errors import ModelError, UsageError

from .options import WEIGHTS, add_dialect, add_json, add_overwrite, key_values
from .outputs import refuse_unusable_model_folder
from .parser import number_between
from .results import Results

if TYPE_CHECKING:
    from medtransfer.adapter.inspect import Inspection
    from medtransfer.adapter.report import TransferReport

USAGE = "SRC --to NAME -o FOLDER [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    count = number_between(1, 100_000, int)
    add = parser.add_argument
    add("source", metavar="SRC", help=WEIGHTS)
    add("--to", metavar="NAME", required=True, help="the network, one of `medtransfer info`: resnet18, resunet50, ...")
    add("-o", "--output", metavar="FOLDER", required=True, help="the model folder to write")
    add("--in-channels", metavar="N", type=count, help="input channels; as the source has, when not given")
    add("--num-classes", metavar="N", type=count,
        help="classes, background included; 2, or the source's with --head keep")  # fmt: skip
    add("--input-channels", metavar="MODE", default="interpolate",
        help="how the network takes its channels from the source's: interpolate, interpolate-rescaled, repeat, sum, "
        "mean, zero, random, strict, or NEW=OLD,NEW=none (interpolate)")  # fmt: skip
    add("--head", metavar="MODE", default="drop", help="drop, keep or convert the layers of the source's classes, or "
        "NEW=OLD,NEW=none: new classes from old ones (drop)")  # fmt: skip
    add_dialect(parser)
    add("--inflation", metavar="MODE", default="mean",
        help="how 2-D kernels become 3-D ones: mean, center or acs (mean)")  # fmt: skip
    add("--inflation-axis", metavar="AXIS", type=number_between(2, 4, int), default=2,
        help="the axis along which they are extended: 2, 3 or 4 of (out, in, D, H, W) (2)")  # fmt: skip
    add("--kernels", metavar="MODE", default="strict",
        help="adapt crops or pads kernels of another size; strict refuses them (strict)")  # fmt: skip
    add("--min-coverage", metavar="SHARE", type=number_between(0, 1), default=0.5,
        help="smallest share of the encoder that must come from the source, 0 to 1 (0.5)")  # fmt: skip
    add("--arguments", metavar="K=V", nargs="+", default=[],
        help="arguments of the network, such as base_channels=32; stem and width follow the source")  # fmt: skip
    add_overwrite(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Build the network, move the weights, save the folder, print the report.

    Raises:
        UsageError: an output that cannot be, or a network that cannot be built as was asked.
    """
    refuse_unusable_model_folder(options.output, options.source, options.overwrite)
    from medtransfer.adapter.inspect import inspect
    from medtransfer.adapter.persist import save
    from medtransfer.adapter.transfer import transfer
    from medtransfer.model_zoo.catalog import create_model

    found = inspect(options.source, options.dialect)
    arguments = _network_arguments(options, found)
    try:
        network = create_model(options.to, **arguments)
    except ModelError as error:  # what was asked for on the command line
        raise UsageError(error.reason, hint=error.hint) from error
    report = transfer(
        options.source,
        network,
        _choice(options.input_channels),
        _choice(options.head),
        options.min_coverage,
        dialect=options.dialect,
        inflation=options.inflation,
        inflation_axis=options.inflation_axis,
        kernels=options.kernels,
    )
    save(network, options.output, _card(found, arguments["in_channels"], report), overwrite=options.overwrite)
    document = {"output": options.output, **report.to_dict()}
    results.write_either(document, f"{report}\nwritten: {options.output}", options.json)
    return 0


def _network_arguments(options: Namespace, found: Inspection) -> dict[str, Any]:
    """What the user asked for, over what the source's card or tensors say of its encoder."""
    from medtransfer.model_zoo.catalog import inherited_arguments

    # the layers' dimension is not a 2-D file's to say: its kernels are inflated
    left = () if found.card else ("conv_cfg",)
    known = {name: value for name, value in found.arguments.items() if name not in left}
    encoder = inherited_arguments(found.architecture or "", known, options.to)
    kept = found.num_classes if options.head == "keep" else None
    return {
        **encoder,
        "in_channels": options.in_channels or found.in_channels or 1,
        "num_classes": options.num_classes or kept or 2,
        **key_values(options.arguments),
    }


def _choice(text: str) -> str | dict[Any, str | int | None]:
    """A mode's name, or the map in ``NEW=OLD,NEW=none``; old channels and classes by name or number."""
    if "=" not in text:
        return text
    pairs = (pair.partition("=") for pair in text.split(","))
    return {_plain(new.strip()): _plain(old.strip()) for new, _, old in pairs}


def _plain(word: str) -> str | int | None:
    return None if word.lower() in ("", "none") else int(word) if word.isdigit() else word


def _card(found: Inspection, in_channels: int, report: TransferReport) -> dict[str, Any]:
    """What stays true of the source's card, and where the weights came from."""
    from medtransfer.checkpoint.source import file_sha256

    source = found.card or found.facts
    kept: dict[str, Any] = {name: source[name] for name in ("spacing", "orientation", "intensity") if name in source}
    if isinstance(kept.get("intensity"), list) and len(kept["intensity"]) != in_channels:
        del kept["intensity"]  # one a channel, of other channels
    if len(source.get("input_channels", ())) == in_channels:
        kept["input_channels"] = source["input_channels"]
    parent = {"source": Path(found.path).name, "format": report.source_format, "coverage": report.coverage}
    return {**kept, "parent": {**parent, "sha256": source.get("sha256") or file_sha256(Path(found.path))}}
