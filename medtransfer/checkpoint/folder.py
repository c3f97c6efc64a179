"""The model folder: ``model.safetensors``, ``model.json`` (the card) and a ``README.md`` for people. No code in it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import msgspec
import safetensors
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, OutputExistsError, ResourceError
from ..files import atomic_folder
from ..version import __version__
from .card import CARD_NAME, ModelCard, folder_member, format_card, read_card
from .safetensors_file import load_safetensors
from .source import file_sha256, read_steadily, unreadable
from .tensor_checks import MAX_TENSORS, nonfinite_keys, tensor_fault

WEIGHTS_NAME = "model.safetensors"
README_NAME = "README.md"


def write_model_folder(
    folder: str | Path, tensors: Mapping[str, Tensor], card: ModelCard, overwrite: bool = False
) -> ModelCard:
    """Write a model folder, whole or not at all.

    Tensors that share memory (one parameter under two names) are each written, so that every reader finds every key.

    Args:
        folder: Where; the folders above are made.
        tensors: The weights by name, as ``module.state_dict()`` gives them.
        card: What they are; ``sha256`` and ``versions`` are filled in the card that is written and returned.
        overwrite: Replace a model folder that stands there. Any other folder with content is never replaced.

    Raises:
        CheckpointError: weights that are empty, not finite or not dense, or a card that a reader would refuse.
        OutputExistsError: something stands there.
        ResourceError: the disk is full or the place cannot be written.

    >>> import tempfile
    >>> from medtransfer.checkpoint.card import Architecture
    >>> card = ModelCard(task="classification", architecture=Architecture("resnet10"), input_channels=["CT"],
    ...                  classes=["healthy", "ill"])
    >>> folder = Path(tempfile.mkdtemp()) / "net"
    >>> written = write_model_folder(folder, {"fc.bias": torch.zeros(2)}, card)
    >>> sorted(file.name for file in folder.iterdir()), len(written.sha256)
    (['README.md', 'model.json', 'model.safetensors'], 64)
    """
    folder = Path(folder)
    refuse_other_folder(folder)
    _refuse_unfit(tensors)
    format_card(card)
    card = msgspec.structs.replace(card, sha256="", versions={**card.versions, **_versions()})
    # brings jinja2, which readers of folders need not wait for
    from .readme import render_readme

    with atomic_folder(folder, overwrite) as part:
        _save(part / WEIGHTS_NAME, tensors, folder)
        card = msgspec.structs.replace(card, sha256=file_sha256(part / WEIGHTS_NAME))
        (part / CARD_NAME).write_bytes(format_card(card))
        # safetensors makes its files readable by their owner only, whatever the umask says
        (part / WEIGHTS_NAME).chmod((part / CARD_NAME).stat().st_mode)
        (part / README_NAME).write_text(render_readme(card, folder.name), encoding="utf-8")
    return card


def read_model_folder(folder: str | Path) -> tuple[dict[str, Tensor], ModelCard]:
    """Read a model folder: its tensors (mapped from the file, on the CPU) and its card; the checksum is verified.

    Raises:
        CheckpointError: not a model folder, a card that breaks the schema, a link out of the folder, or weights whose
            sha256 is not the card's.
    """
    return read_steadily(Path(folder), _read_folder)


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], ModelCard]:
    card = read_card(folder)
    path = folder_member(folder, WEIGHTS_NAME)
    try:
        found = file_sha256(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if found != card.sha256:
        expected = f"{card.sha256[:12]}..." if card.sha256 else "none"
        reason = f"the sha256 is {found[:12]}..., but `sha256` in {CARD_NAME} is {expected}: damaged or exchanged"
        raise CheckpointError(reason, path=path, hint="Copy the folder again")
    return load_safetensors(path)[0], card


def refuse_other_folder(folder: Path) -> None:
    """Replacing deletes what stood there, so it must be a model folder (or nothing), not somebody's home.

    Raises:
        OutputExistsError: the folder holds something and is no model folder.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD_NAME).is_file():
        reason = "stands already and is not a model folder, so it is not replaced"
        raise OutputExistsError(reason, path=folder, hint="Name a new folder")


def _refuse_unfit(tensors: Mapping[str, Tensor]) -> None:
    if not 0 < len(tensors) <= MAX_TENSORS:
        raise CheckpointError(f"a model folder holds 1 to {MAX_TENSORS} tensors, got {len(tensors)}")
    for key, tensor in tensors.items():
        if fault := tensor_fault(tensor):
            raise CheckpointError(f"the tensor {key!r} is {fault}", hint="Save dense tensors")
    if keys := nonfinite_keys(tensors):
        raise CheckpointError(f"NaN or infinite values in {', '.join(keys[:3])}: not saved as a model")


def _save(path: Path, tensors: Mapping[str, Tensor], folder: Path) -> None:
    try:
        save_file(_unshared(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:  # its own kind, also for a full disk
        raise ResourceError(f"cannot be written: {error}", path=folder) from error


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dense CPU tensors with memory of their own, which the format demands."""
    seen: set[int] = set()
    unshared = {}
    for key, tensor in tensors.items():
        dense = tensor.detach().cpu().contiguous()
        address = dense.untyped_storage().data_ptr()
        unshared[key] = dense.clone() if address in seen else dense
        seen.add(address)
    return unshared


def _versions() -> dict[str, str]:
    return {
        "medtransfer": __version__,
        "torch": str(torch.__version__),
        "safetensors": safetensors.__version__,
        "python": platform.python_version(),
    }
