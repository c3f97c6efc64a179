"""The card of a model folder (``model.json``): what the weights are, and how a scan must be prepared for them.

The schema is strict: an unknown key, a wrong type or a value out of range is an error that names the field. A card
holds data only; no value of it is ever used as the name of a file or of something to import. Imports no torch.
"""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..errors import CheckpointError
from ..intensity import Intensity as Intensity
from ..intensity import IntensityRange, schemes_of
from .card_checks import IDENTIFIER, refuse_argument, refuse_names, refuse_nonfinite, refuse_tree
from .source import refuse_url
from .strict_json import parse_json
from .wording import shown

CARD_NAME = "model.json"
FORMAT_VERSION = 1
#: Fields that only people can fill: what they leave open is shown as not stated, and never made up.
STATED = ("description", "license", "intended_use", "out_of_scope", "training_data", "limitations")
#: Fields that cards did not always have: left away where they say nothing, so that an older medtransfer can read on.
LATER = frozenset({"mirror_axes", "temperature", "intensity_ranges", "heads", "training_cases", *STATED[2:]})
MAX_CARD_BYTES = 4 << 20
MAX_CHANNELS = 4096
MAX_CLASSES = 100_000
MAX_HEADS = 1000

#: The 48 orientation codes, as nibabel's ``aff2axcodes`` writes them: each letter is where an axis points to.
ORIENTATIONS = frozenset("".join(code) for axes in permutations(("RL", "AP", "SI")) for code in product(*axes))

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=20_000)]
Millimetres = Annotated[float, Meta(gt=0, le=1000)]
Voxels = Annotated[int, Meta(ge=1, le=100_000)]
PerChannel = Annotated[list[Intensity], Meta(min_length=1, max_length=MAX_CHANNELS)]


Task = Literal["classification", "segmentation", "restoration", "detection", "multitask"]
#: The task of a segmentation network that gives scans back: it was trained without labels, as a source of weights.
RESTORATION = "restoration"
MULTITASK = "multitask"
HeadTask = Literal["segmentation", "classification", "regression"]


class Architecture(msgspec.Struct, forbid_unknown_fields=True):
    """A catalog name and the keyword arguments that ``create_model`` needs to build the network again."""

    name: Name
    arguments: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.name):
            raise ValueError(f"`name` must be a name of the catalog, got {self.name[:80]!r}")
        refuse_argument("arguments", self.arguments)


class HeadCard(msgspec.Struct, forbid_unknown_fields=True):
    """One head of a multi-task network: its task, and the names of its classes or of the quantities it estimates.

    >>> HeadCard("regression", ["age"]).classes
    ['age']
    """

    task: HeadTask
    classes: Annotated[list[Name], Meta(min_length=1, max_length=MAX_CLASSES)]

    def __post_init__(self) -> None:
        refuse_names("classes", self.classes)


class ModelCard(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What stands in ``model.json``.

    ``classes`` has one name per output channel; for a segmentation and a detection the first is the background, for a
    restoration they are the input channels, given back, and for a multi-task network they are the names of its
    ``heads``, of which each has its own task and classes. ``spacing`` is in mm and, like ``patch_size`` (voxels), in
    the axis order of ``orientation``; None means as scanned. ``intensity`` is one scheme for all channels or a list
    with one a channel, ``intensity_ranges`` what their raw intensities were in training. ``mirror_axes`` are the axes
    along which training mirrored scans, None if that is not known. ``temperature`` divides a classifier's logits before
    the softmax; None means 1. ``sha256`` is that of ``model.safetensors``. ``parent`` says where the weights came from.
    ``training_cases`` is how many cases training saw. ``description``, ``license``, ``intended_use``, ``out_of_scope``,
    ``training_data`` and ``limitations`` are what people state of a model (``STATED``), text for its page. ``metrics``
    are figures by their names, ``versions`` those of the software that wrote the folder.

    Raises:
        ValueError: fields that contradict each other; a value of the wrong kind is one where the card is read.

    >>> card = ModelCard(task="segmentation", architecture=Architecture("resunet18"),
    ...                  input_channels=["MRI"], classes=["background", "hippocampus"], intensity=Intensity())
    >>> card.orientation, card.format_version
    ('RAS', 1)
    """

    format_version: Annotated[int, Meta(ge=1)] = FORMAT_VERSION
    task: Task
    architecture: Architecture
    input_channels: Annotated[list[Name], Meta(min_length=1, max_length=MAX_CHANNELS)]
    classes: Annotated[list[Name], Meta(min_length=1, max_length=MAX_CLASSES)]
    spacing: Annotated[list[Millimetres], Meta(min_length=2, max_length=3)] | None = None
    orientation: str = "RAS"
    intensity: Intensity | PerChannel = msgspec.field(default_factory=Intensity)
    intensity_ranges: Annotated[list[IntensityRange], Meta(max_length=MAX_CHANNELS)] | None = None
    patch_size: Annotated[list[Voxels], Meta(min_length=2, max_length=3)] | None = None
    mirror_axes: Annotated[list[Annotated[int, Meta(ge=0, le=2)]], Meta(max_length=3)] | None = None
    temperature: Annotated[float, Meta(gt=0, le=1000)] | None = None
    heads: Annotated[dict[Name, HeadCard], Meta(min_length=1, max_length=MAX_HEADS)] | None = None
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    versions: Annotated[dict[Name, Annotated[str, Meta(max_length=200)]], Meta(max_length=100)] = {}
    parent: dict[str, Any] | None = None
    description: Text = ""
    license: Text = ""
    intended_use: Text | None = None
    out_of_scope: Text | None = None
    training_data: Text | None = None
    training_cases: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    limitations: Text | None = None
    metrics: Annotated[dict[Name, float], Meta(max_length=10_000)] = {}

    def __post_init__(self) -> None:
        if self.orientation not in ORIENTATIONS:
            raise ValueError(f"`orientation` must be one of the 48 codes such as 'RAS', got {self.orientation[:20]!r}")
        refuse_names("input_channels", self.input_channels)
        refuse_names("classes", self.classes)
        refuse_nonfinite("spacing", self.spacing or ())
        if self.temperature is not None and self.task != "classification":
            raise ValueError(f"`temperature` belongs to a classification, not to a {self.task}")
        refuse_nonfinite("metrics", self.metrics.values())
        _refuse_count(self.architecture, "in_channels", self.input_channels)
        _refuse_count(self.architecture, "num_classes", self.classes)
        _refuse_heads(self)
        refuse_tree("parent", self.parent)
        schemes_of(self.intensity, len(self.input_channels))
        if self.intensity_ranges is not None and len(self.intensity_ranges) != len(self.input_channels):
            raise ValueError(f"`intensity_ranges` must be one a channel, got {len(self.intensity_ranges)}")


def read_card(folder: str | Path) -> ModelCard:
    """Read the card of a model folder, without its weights.

    Raises:
        CheckpointError: not a model folder, or a card that breaks the schema; the reason names the field.

    >>> import tempfile
    >>> read_card(tempfile.mkdtemp())
    Traceback (most recent call last):
    medtransfer.errors.CheckpointError: ...: is a folder, not a model folder: model.json is missing. ...
    """
    path = folder_member(folder, CARD_NAME)
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise CheckpointError(f"is larger than {MAX_CARD_BYTES >> 20} MiB, which no card is", path=path)
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path) from error
    return parse_card(data, path)


def parse_card(data: str | bytes, path: str | Path | None = None) -> ModelCard:
    """Check the text of a card against the schema; ``path`` is the file that an error names.

    Raises:
        CheckpointError: as :func:`read_card`.

    >>> parse_card('{"format_version": 99}')
    Traceback (most recent call last):
    medtransfer.errors.CheckpointError: `format_version` is 99, but this medtransfer reads up to 1. Update medtransfer.
    """
    hint = "Take the folder as medtransfer wrote it"
    try:
        tree = parse_json(data)
        version = tree.get("format_version") if isinstance(tree, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            hint = "Update medtransfer"
            raise ValueError(f"`format_version` is {version}, but this medtransfer reads up to {FORMAT_VERSION}")
        return msgspec.convert(tree, ModelCard)
    except ValueError as error:  # msgspec.ValidationError is one
        raise CheckpointError(shown(error, 300), path=path, hint=hint) from error


def format_card(card: ModelCard) -> bytes:
    """The text of ``model.json``: indented, fields in the schema's order, checked as if it had been read.

    Raises:
        CheckpointError: the card holds something that a reader would refuse.

    >>> card = ModelCard(task="classification", architecture=Architecture("resnet10"), input_channels=["CT"],
    ...                  classes=["healthy", "ill"])
    >>> parse_card(format_card(card)) == card
    True
    """
    try:
        tree = msgspec.to_builtins(card)
        text = msgspec.json.encode(
            {name: value for name, value in tree.items() if value is not None or name not in LATER}
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the card holds something that is not plain data: {error}") from error
    parse_card(text)
    return msgspec.json.format(text, indent=2) + b"\n"


def folder_member(folder: str | Path, name: str) -> Path:
    """The path of a file of a model folder, which must be a plain file inside it.

    Raises:
        CheckpointError: the folder or the file is missing, a URL, or a link that leads out of the folder.
    """
    refuse_url(folder)
    folder = Path(folder)
    path = folder / name
    try:
        if not folder.exists():
            raise CheckpointError("no such folder", path=folder)
        if not folder.is_dir():
            raise CheckpointError("is a file, not a model folder", path=folder)
        if not path.is_file():
            hint = f"A model folder holds {CARD_NAME} and model.safetensors"
            raise CheckpointError(f"is a folder, not a model folder: {name} is missing", path=folder, hint=hint)
        if path.resolve().parent != folder.resolve():
            hint = "Copy the folder with its links followed (cp -rL)"
            raise CheckpointError("is a link that leads out of the model folder", path=path, hint=hint)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise CheckpointError(f"cannot be read: {error}", path=path) from error
    return path


def _refuse_count(architecture: Architecture, argument: str, names: list[str]) -> None:
    """An architecture that states its channels or classes must state as many as the card names."""
    count = architecture.arguments.get(argument)
    if count is not None and count != len(names):
        raise ValueError(f"`architecture.arguments.{argument}` is {str(count)[:80]}, but the card names {len(names)}")


def _refuse_heads(card: ModelCard) -> None:
    """A multi-task network has a head for each of its classes, and no other network has any."""
    if card.heads is None and card.task == MULTITASK:
        raise ValueError(f"`heads` is missing, which a {MULTITASK} network needs")
    if card.heads is not None and card.task != MULTITASK:
        raise ValueError(f"`heads` belongs to a {MULTITASK} network, but `task` is {card.task}")
    heads = card.heads or {}
    if heads and list(heads) != card.classes:
        raise ValueError(f"`heads` must be those that `classes` names, got {', '.join(heads)[:80]}")
    stated = card.architecture.arguments.get("heads")
    if (
        heads
        and isinstance(stated, dict)
        and _outputs_of(stated) != {name: _outputs(head) for name, head in heads.items()}
    ):
        raise ValueError("`heads` must be of the tasks and as many classes as `architecture.arguments.heads` says")
    for name in heads:
        if not IDENTIFIER.fullmatch(name) or [other.lower() for other in heads].count(name.lower()) > 1:
            raise ValueError(f"`heads` must have plain names that tell files apart, got {name[:80]!r}")


def _outputs(head: HeadCard) -> tuple[str, int]:
    return head.task, len(head.classes)


def _outputs_of(arguments: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Task and number of outputs of each head that an architecture's arguments describe."""
    heads = {name: head if isinstance(head, dict) else {} for name, head in arguments.items()}
    return {
        name: (head.get("task"), head.get("num_classes", head.get("num_outputs", 1))) for name, head in heads.items()
    }
