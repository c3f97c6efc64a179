"""Networks to model folders and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import torch
from torch import Tensor, nn

from ..checkpoint.card import Architecture, ModelCard
from ..checkpoint.folder import read_model_folder, write_model_folder
from ..errors import CheckpointError, MedTransferError, ModelError, UsageError
from ..model_zoo.catalog import create_model

SAVE_AGAIN = "Save the folder again with medtransfer.save"


def default_card(model: nn.Module) -> ModelCard:
    """A card for a network of the zoo that says no more than its shape: no resampling, z-score, numbered names.

    Raises:
        ModelError: the network does not know how it was built.
    """
    architecture = getattr(model, "architecture", None)
    if not architecture:
        raise ModelError(
            f"{type(model).__name__} does not know how it was built, so a model folder could not rebuild it",
            hint="Build it with create_model, to_segmenter or to_classifier, with one set of layer types",
        )
    in_channels, num_classes = _sizes(model)
    if not num_classes:
        raise ModelError(
            f"this {type(model).__name__} has no head, and a model folder names the classes",
            hint="Build it with num_classes, or save it by torch.save(model.state_dict(), path)",
        )
    return ModelCard(
        task=cast(Literal["classification", "segmentation"], model.task),
        architecture=Architecture(architecture["name"], architecture["arguments"]),
        input_channels=[f"channel_{i}" for i in range(in_channels)],
        classes=[f"class_{i}" for i in range(num_classes)],
    )


def save(
    model: nn.Module, folder: str | Path, card: ModelCard | Mapping[str, Any] | None = None, overwrite: bool = False
) -> ModelCard:
    """Write a model folder: ``model.safetensors``, ``model.json`` and a readable ``README.md``; no code, no pickle.

    Args:
        model: A network of the zoo.
        folder: The folder to make; it appears whole or not at all.
        card: What the scans must be like and what comes out; a mapping fills the fields it names. Without one: no
            resampling, z-score intensities, channels and classes named by number.
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
    full = _complete(default_card(model), card)
    state = model.state_dict()
    _refuse_altered(state, full.architecture)
    return write_model_folder(Path(folder), state, full, overwrite=overwrite)


def load(folder: str | Path) -> nn.Module:
    """Rebuild the network of a model folder, in eval mode, with its card as the attribute ``card``.

    Raises:
        CheckpointError: the folder was refused, or its weights do not fit the architecture that it names.
    """
    tensors, card = read_model_folder(Path(folder))
    try:
        model = _without_memory(card.architecture)
    except Exception as error:  # whatever the arguments of a card make the constructors say
        said = error.reason if isinstance(error, MedTransferError) else str(error).split("\n")[0]
        raise CheckpointError(
            f"model.json names no network of the zoo: {said}", path=folder, hint=SAVE_AGAIN
        ) from error
    if misfit := _misfit(tensors, model):
        reason = f"the weights do not fit the architecture that model.json names: {misfit}"
        raise CheckpointError(reason, path=folder, hint=SAVE_AGAIN)
    model.load_state_dict(tensors, assign=True)
    model.card = card  # type: ignore[assignment]
    return model.eval()


def _without_memory(architecture: Architecture) -> nn.Module:
    """The network on the meta device: shapes are compared before any memory is asked for, a card may claim any size."""
    with torch.device("meta"):
        return create_model(architecture.name, **architecture.arguments)


def _refuse_altered(state: Mapping[str, Tensor], architecture: Architecture) -> None:
    """A folder that is written must be one that can be loaded: layers exchanged by hand are not in the card."""
    misfit = _misfit(state, _without_memory(architecture))
    if misfit:
        raise ModelError(
            f"the network is not as {architecture.name} was built: {misfit}",
            hint="Build it with create_model in its final sizes, and transfer the weights",
        )


def _misfit(state: Mapping[str, Tensor], network: nn.Module) -> str | None:
    """The first tensor that is on one side only, or of another shape."""
    own = network.state_dict()
    for key in {**own, **state}:
        if key not in state or key not in own:
            return f"{key} is {'missing' if key in own else 'one too many'}"
        if state[key].shape != own[key].shape:
            return f"{key} is of shape {list(state[key].shape)}, the architecture has {list(own[key].shape)}"
    return None


def _sizes(model: nn.Module) -> tuple[int, int]:
    """Input channels and classes; 0 classes without a head."""
    return int(cast(int, model.in_channels)), int(cast(int, model.num_classes or 0))


def _complete(base: ModelCard, card: ModelCard | Mapping[str, Any] | None) -> ModelCard:
    try:
        if card is None or isinstance(card, ModelCard):
            return msgspec.structs.replace(card or base, architecture=base.architecture, task=base.task)
        return msgspec.convert({**msgspec.to_builtins(base), **card}, ModelCard)
    except ValueError as error:  # msgspec.ValidationError is one
        raise UsageError(f"the card is not valid: {error}") from error
