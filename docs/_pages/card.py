"""The fields of ``model.json``, out of the schema that reads and writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from medtransfer.checkpoint.card import ModelCard

from .table import from_docstring, table

#: what the schema cannot say; a test holds that no field is forgotten
MEANINGS = {
    "format_version": "of this schema; a newer one is refused, with the advice to update",
    "task": "what the network was made for; a `restoration` gives scans back and is a source of weights",
    "architecture": "a name of the zoo and the arguments that build the network again",
    "input_channels": "their names, in order",
    "classes": "one an output channel, background first; of a restoration the channels, of several tasks the heads",
    "spacing": "mm along the axes of `orientation`; null keeps each scan's own",
    "orientation": "where the axes of the network point, one of the 48 codes",
    "intensity": "how intensities are scaled; a list has one scheme a channel",
    "intensity_ranges": "raw intensities of the training scans, one entry a channel",
    "patch_size": "voxels of a training patch along the axes of `orientation`",
    "mirror_axes": "axes along which training mirrored scans, counted from 0; null if that is not known",
    "temperature": "divides a classifier's logits before the softmax; null means 1",
    "heads": "of several tasks: each head's task and classes",
    "sha256": "of `model.safetensors`; a folder without it is not loaded",
    "versions": "of the programs that wrote the folder",
    "parent": "where the weights came from: the report of the transfer, and the parent's own parent",
    "description": "what people say of the model",
    "license": "of the weights",
    "intended_use": "what the model is for; null is shown as not stated",
    "out_of_scope": "what it is not for",
    "training_data": "which scans it learnt from",
    "training_cases": "how many cases training saw",
    "limitations": "what is known to go wrong",
    "metrics": "scores by name, as the training measured them",
    "name": "a name that `medtransfer.list_models` knows",
    "arguments": "keyword arguments of `medtransfer.create_model`: plain data only",
    "scheme": "see the guide on preprocessing",
    "nonzero": "of `zscore`: over the voxels that are not 0, which stay 0",
    "low": "lower end of what is kept (`clip`, `ct`); of a range, percentile 0.5 of all scans together",
    "high": "upper end of what is kept (`clip`, `ct`); of a range, percentile 99.5 of all scans together",
    "mean": "of the dataset (`ct`); of a range, of all scans together",
    "std": "of the dataset (`ct`); of a range, of all scans together",
    "low_percentile": "of the scan (`percentile`); 0.5 when not given",
    "high_percentile": "of the scan (`percentile`); 99.5 when not given",
    "lows": "smallest and largest of percentile 0.5 of single scans",
    "highs": "smallest and largest of percentile 99.5 of single scans",
}
WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
BOUNDS = (
    ("exclusiveMinimum", "above {}"),
    ("minimum", "from {}"),
    ("maximum", "to {}"),
    ("maxLength", "up to {} characters"),
)


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON schema of a card and of each part of it, the card first."""
    return msgspec.json.schema(ModelCard)["$defs"]


def tables() -> str:
    """A table of the card's fields, and one for each part that a field may be."""
    return "\n\n".join(line for name, schema in schemas().items() for line in _part(name, schema))


def _part(name: str, schema: dict[str, Any]) -> Iterator[str]:
    if name != ModelCard.__name__:
        yield f"### {name}"
        yield from_docstring(schema["description"])
    needed = schema["required"]
    rows = [[f"`{f}`", _kind(kind), _default(kind, f in needed), MEANINGS.get(f, "")] for f, kind in _fields(schema)]
    yield table(["field", "holds", "default", "is"], rows)


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema["properties"].items()


def _default(kind: dict[str, Any], needed: bool) -> str:
    if needed:
        return "needed"
    default = kind.get("default", "")
    has_text = default != "" and not isinstance(default, tuple)
    return f"`{json.dumps(default)}`" if has_text else ""


def _kind(schema: dict[str, Any]) -> str:
    """What a value may be, in words.

    >>> _kind({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}]})
    'whole number from 1 to 9; or null'
    """
    if "anyOf" in schema:
        return "; or ".join(map(_kind, schema["anyOf"]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return _list(schema)
    if schema["type"] == "object":
        inner = schema.get("additionalProperties")
        return f"{_kind(inner)}, by name" if isinstance(inner, dict) else "plain data, by name"
    bounds = [words.format(_number(schema[key])) for key, words in BOUNDS if key in schema]
    return " ".join([WORDS[schema["type"]], *bounds])


def _list(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} numbers"
    least, most = schema.get("minItems", 0), schema["maxItems"]
    many = f"{least} or {most}" if least + 1 == most else f"{_number(most)} at most"
    return f"list of {_kind(schema['items'])}, {many}"


def _number(value: float) -> str:
    return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}") if isinstance(value, int) else f"{value:g}"
