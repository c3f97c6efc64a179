"""Networks to model folders and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
from torch import Tensor, nn

from ..checkpoint.card import MULTITASK, RESTORATION, Architecture, HeadCard, ModelCard, Task
from ..checkpoint.folder import read_model_folder, write_model_folder
from ..errors import CheckpointError, MedTransferError, ModelError, UsageError
from ..model_zoo.catalog import create_model
from ..model_zoo.hollow import hollow

SAVE_AGAIN = "Save the folder again with medtransfer.save"


def card_of(model: nn.Module, card: ModelCard | Mapping[str, Any] | None = None) -> ModelCard:
    """What scans must be like for a network, and what comes out.

    Args:
        model: A network with the attributes task, in_channels and num_classes.
        card: A card, or the fields that differ from the network's own card. A network without one has a card that says
            no more than its shape: no resampling, z-score, channels and classes by number.

    Raises:
        ModelError: the network does not say its task, channels or classes.
        UsageError: the card's fields are not valid, or not those of the network.
    """
    lacking = [name for name in ("task", "in_channels", "num_classes") if not getattr(model, name, None)]
    if lacking:
        raise ModelError(
            f"this {type(model).__name__} has no {', '.join(lacking)}",
            hint="Build it with num_classes, so that it has a head; a network of your own needs these attributes",
        )
    full = _complete(cast("ModelCard | None", getattr(model, "card", None)) or _plain_card(model), card)
    named = (len(full.input_channels), len(full.classes), _network_task(full.task))
    own: tuple[Any, ...] = (model.in_channels, model.num_classes, model.task)
    if named != own:
        raise UsageError(f"the card says {named} (channels, classes, task), the network {own}")
    heads, own_heads = _sizes(full.heads or {}), _sizes(_plain_heads(model))
    if heads != own_heads:
        raise UsageError(f"the card says {heads} (heads with task and classes), the network {own_heads}")
    return full


def _sizes(heads: Mapping[str, HeadCard]) -> dict[str, tuple[str, int]]:
    return {name: (head.task, len(head.classes)) for name, head in heads.items()}


def _plain_card(model: nn.Module) -> ModelCard:
    in_channels, num_classes = cast(int, model.in_channels), cast(int, model.num_classes)
    architecture = getattr(model, "architecture", None) or {"name": type(model).__name__, "arguments": {}}
    return ModelCard(
        task=cast("Task", model.task),
        architecture=Architecture(architecture["name"], architecture["arguments"]),
        input_channels=[f"channel_{i}" for i in range(in_channels)],
        **_plain_classes(model, num_classes),
    )


def _plain_classes(model: nn.Module, num_classes: int) -> dict[str, Any]:
    """Classes by number; a detector's first is the background by contract, those of several heads are their names."""
    names = [f"class_{i}" for i in range(num_classes)]
    if heads := _plain_heads(model):
        return {"classes": list(heads), "heads": heads}
    return {"classes": ["background", *names[1:]] if model.task == "detection" else names}


def _plain_heads(model: nn.Module) -> dict[str, HeadCard]:
    """The heads of a multi-task network, as the argument ``heads`` of its architecture says, outputs by number."""
    if model.task != MULTITASK:
        return {}
    architecture = cast("Mapping[str, Any]", getattr(model, "architecture", None) or {})
    described = architecture.get("arguments", {}).get("heads")
    if not described:
        raise ModelError(f"this {type(model).__name__} does not say its heads", hint="Build it with create_model")
    return {name: HeadCard(head["task"], _plain_outputs(head)) for name, head in described.items()}


def _plain_outputs(head: Mapping[str, Any]) -> list[str]:
    if head["task"] == "regression":
        return [f"value_{i}" for i in range(head.get("num_outputs", 1))]
    return [f"class_{i}" for i in range(head["num_classes"])]


def save(
    model: nn.Module, folder: str | Path, card: ModelCard | Mapping[str, Any] | None = None, overwrite: bool = False
) -> ModelCard:
    """Write a model folder: ``model.safetensors``, ``model.json`` and a readable ``README.md``; no code, no pickle.

    Args:
        model: A network of the zoo.
        folder: The folder to make; it appears whole or not at all.
        card: See :func:`card_of`.
        overwrite: Replace a folder that exists.

    Returns:
        The card as written.

    Raises:
        ModelError: the network does not know how it was built.
        OutputExistsError: the folder exists.
        UsageError: the card's fields are not those of the network.

    >>> import tempfile, medtransfer as mt
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> card = mt.save(create_model("resnet10", base_channels=4, stem_channels=4), folder, {"classes": ["no", "yes"]})
    >>> mt.load(folder).card.classes
    ['no', 'yes']
    """
    built = getattr(model, "architecture", None)
    if not built:
        raise ModelError(
            f"{type(model).__name__} does not know how it was built, so a model folder could not rebuild it",
            hint="Build it with create_model, to_segmenter or to_classifier, with one set of layer types",
        )
    full = card_of(model, _of_network(card, model, Architecture(built["name"], built["arguments"])))
    state = model.state_dict()
    _refuse_altered(model, state, full.architecture)
    return write_model_folder(Path(folder), state, full, overwrite=overwrite)


def load(folder: str | Path) -> nn.Module:
    """Rebuild the network of a model folder, in eval mode, with its card as the attribute ``card``.

    Args:
        folder: As :func:`save` wrote it; nothing in it is run.

    Returns:
        The network, on the CPU; its weights are mapped from the file.

    Raises:
        CheckpointError: the folder was refused, or its weights do not fit the architecture that it names.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> card = save(create_model("resunet10", num_classes=3, base_channels=4, stem_channels=4), folder)
    >>> network = load(folder)
    >>> network.training, network.card.classes
    (False, ['class_0', 'class_1', 'class_2'])
    """
    tensors, card = read_model_folder(Path(folder))
    try:
        model = _without_memory(card.architecture)
    except Exception as error:  # whatever the arguments of a card make the constructors say
        said = error.reason if isinstance(error, MedTransferError) else str(error).split("\n")[0]
        raise CheckpointError(
            f"model.json names no network of the zoo: {said}", path=folder, hint=SAVE_AGAIN
        ) from error
    if getattr(model, "task", None) not in (None, _network_task(card.task)):
        reason = f"`task` in model.json is {card.task}, but {card.architecture.name} is a network for {model.task}"
        raise CheckpointError(reason, path=folder, hint=SAVE_AGAIN)
    if misfit := _misfit(tensors, model):
        reason = f"the weights do not fit the architecture that model.json names: {misfit}"
        raise CheckpointError(reason, path=folder, hint=SAVE_AGAIN)
    model.load_state_dict(tensors, assign=True)
    model.card = card  # type: ignore[assignment]
    return model.eval()


def _without_memory(architecture: Architecture) -> nn.Module:
    """The network on the meta device: shapes are compared before any memory is asked for, a card may claim any size."""
    with hollow():
        return create_model(architecture.name, **architecture.arguments)


def _refuse_altered(model: nn.Module, state: Mapping[str, Tensor], architecture: Architecture) -> None:
    """A folder that is written must be one that can be loaded: layers exchanged by hand are not in the card."""
    if any(".lora_" in key for key in state):
        raise ModelError("the network has low-rank adapters, which no model folder holds", hint="Call merge_lora first")
    built = _without_memory(architecture)
    misfit = _misfit(state, built) or _exchanged(model, built)
    if misfit:
        raise ModelError(
            f"the network is not as {architecture.name} was built: {misfit}",
            hint="Build it with create_model in its final sizes, and transfer the weights",
        )


def _exchanged(model: nn.Module, built: nn.Module) -> str | None:
    """The first setting of a detector's parts without weights that is not as it was built: anchors, pooling, scores."""
    if model.task != "detection":
        return None
    own, before = _settings(model), _settings(built)
    changed = (name for name in {**before, **own} if own.get(name) != before.get(name))
    return next((f"{name} is {own.get(name)}, the architecture has {before.get(name)}" for name in changed), None)


def _settings(network: nn.Module) -> dict[str, str]:
    parts = {name: part for name, part in network.named_modules() if not part.state_dict()}
    parts["suppression"] = network.suppression
    plain = int | float | str | list | tuple | None
    # anchors come of the sizes and ratios beside them
    return {
        f"{name}.{key}": str(value)
        for name, part in parts.items()
        for key, value in vars(part).items()
        if not key.startswith("_") and key not in ("training", "cell_anchors") and isinstance(value, plain)
    }


def _misfit(state: Mapping[str, Tensor], network: nn.Module) -> str | None:
    """The first tensor that is on one side only, or of another shape."""
    own = network.state_dict()
    for key in {**own, **state}:
        if key not in state or key not in own:
            return f"{key} is {'missing' if key in own else 'one too many'}"
        if state[key].shape != own[key].shape:
            return f"{key} is of shape {list(state[key].shape)}, the architecture has {list(own[key].shape)}"
    return None


def _of_network(
    card: ModelCard | Mapping[str, Any] | None, model: nn.Module, architecture: Architecture
) -> ModelCard | Mapping[str, Any]:
    """The card with this network's architecture and task, whatever network it was written for."""
    stated = card.task if isinstance(card, ModelCard) else (card or {}).get("task")
    own = {"architecture": architecture, "task": stated if _network_task(stated) == model.task else model.task}
    if not isinstance(card, ModelCard):
        return {**(card or {}), **msgspec.to_builtins(own)}
    try:
        return msgspec.structs.replace(card, **own)
    except ValueError as error:
        raise UsageError(f"the card is not valid: {error}") from error


def _network_task(task: str | None) -> str | None:
    """What the network of a card is built for: one that restores scans is a segmenter, with intensities for logits."""
    return "segmentation" if task == RESTORATION else task


def _complete(base: ModelCard, card: ModelCard | Mapping[str, Any] | None) -> ModelCard:
    try:
        if card is None or isinstance(card, ModelCard):
            return card or base
        return msgspec.convert({**msgspec.to_builtins(base), **card}, ModelCard)
    except ValueError as error:  # msgspec.ValidationError is one
        raise UsageError(f"the card is not valid: {error}") from error
