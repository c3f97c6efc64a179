"""A network as a file that runs without medtransfer, compared with the network before it gets its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from ..adapter import persist
from ..checkpoint.card import ModelCard
from ..errors import MedTransferError, UsageError
from ..files import atomic_file, refuse_existing, refuse_inside
from ..volumes.extras import require_extra
from .axes import axes_of
from .contents import not_included, texts_of
from .formats import BUNDLE, EXTRA, Format, choose_format
from .report import Check, ExportReport
from .subject import INPUT, Subject, exportable, named_outputs
from .verify import compare, write_and_read


def export(
    model: str | os.PathLike[str] | nn.Module,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    spatial_size: Sequence[int] | int | None = None,
    batch_size: int | None = None,
    card: ModelCard | Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a network as ONNX, torch.export, TorchScript or a MONAI bundle, and compare what was written with it.

    The graph takes (N, C, D, H, W) in float32, prepared as the card says, and gives logits: orientation, spacing,
    intensities, padding, softmax and the way back to the scan's grid are not in it. A bundle's config has them.

    Args:
        model: A model folder, or a network with ``task``, ``in_channels`` and ``num_classes``; it is not changed.
        path: The file, whose suffix tells the format: ``.onnx``, ``.pt2``, ``.ts``; of a bundle the folder.
        format: ``onnx``, ``torch_export``, ``torchscript`` or ``monai_bundle``, where the suffix does not tell.
        spatial_size: Voxels of the spatial axes where they are fixed, one number for all or one an axis. None leaves
            them open: multiples of the network's stride, at least two.
        batch_size: None leaves it open.
        card: For a network without one: a card, or a mapping of its fields.
        overwrite: Replace an output that exists.

    Returns:
        What was written, and the largest difference from the network at each shape that was compared.

    Raises:
        UsageError: a format, a size or an output that cannot be.
        OutputExistsError: the output exists.
        MissingExtraError: the format needs a package that is not installed.
        CheckpointError: the model folder was refused.
        ModelError: the network cannot be exported so, or the file differs from it; nothing is left there.
        ResourceError: the disk is full or the place cannot be written.

    >>> import tempfile
    >>> from medtransfer.model_zoo.catalog import create_model
    >>> network = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> report = export(network, Path(tempfile.mkdtemp()) / "model.ts")
    >>> report.inputs, report.sizes["depth"], report.difference < 1e-6
    ({'image': ['batch', 1, 'depth', 'height', 'width']}, 'multiples of 32, at least 64', True)
    """
    target = Path(path)
    chosen = choose_format(target, format)
    folder = None if isinstance(model, nn.Module) else Path(model)
    _refuse_output(target, folder, chosen, overwrite)
    for module in chosen.needs:
        require_extra(module, EXTRA, f"the format {chosen.name}", target)
    try:
        subject = _subject(persist.load(folder) if folder else model, card, spatial_size, batch_size)  # type: ignore[arg-type]
        return _bundle(subject, target, overwrite) if chosen is BUNDLE else _file(subject, target, chosen, overwrite)
    except MedTransferError as error:
        raise _about(error, folder) from error.__cause__


def _subject(
    network: nn.Module,
    card: ModelCard | Mapping[str, Any] | None,
    spatial_size: Sequence[int] | int | None,
    batch_size: int | None,
) -> Subject:
    ready = exportable(network)
    full = persist.card_of(network, card)
    axes = axes_of(network, spatial_size, batch_size)
    return Subject(ready, full, axes, texts_of(full, axes), named_outputs(ready, axes))


def _file(subject: Subject, path: Path, chosen: Format, overwrite: bool) -> ExportReport:
    module = import_module(f".{chosen.module}", __package__)
    data = module.encode(subject)
    with atomic_file(path, overwrite) as part:
        checks = compare(module.decode(write_and_read(data, part)), subject, path)
    return report_of(subject, path, chosen, data, checks, module.versions(data))


def _bundle(subject: Subject, path: Path, overwrite: bool) -> ExportReport:
    from .bundle import write_bundle  # other formats need nothing of it

    data, checks, versions, notes = write_bundle(subject, path, overwrite)
    return report_of(subject, path, BUNDLE, data, checks, versions, notes)


def report_of(
    subject: Subject,
    path: Path,
    chosen: Format,
    data: bytes,
    checks: list[Check],
    versions: dict[str, str],
    notes: Sequence[str] = (),
) -> ExportReport:
    """The receipt of what was written and compared."""
    axes = subject.axes
    batch: int | str = axes.batch_size or "batch"
    spatial: list[int | str] = [*(axes.spatial_size or axes.names)]
    outputs = {
        name: [batch, *(spatial[at] if size < 0 else size for at, size in enumerate(shape, -1))]
        for name, shape in subject.outputs.items()
    }
    return ExportReport(
        str(path),
        chosen.name,
        {INPUT: [batch, axes.channels, *spatial]},
        outputs,
        axes.described(),
        axes.dynamic(),
        checks,
        hashlib.sha256(data).hexdigest(),
        len(data),
        versions,
        not_included(subject.card, axes),
        list(notes),
    )


def _refuse_output(target: Path, folder: Path | None, chosen: Format, overwrite: bool) -> None:
    """Before any work is done."""
    refuse_existing(target, overwrite)
    if folder is not None:
        refuse_inside(target, folder, "the model folder")
    if chosen is not BUNDLE and target.is_dir():
        raise UsageError("is a folder, but a file is to be written", path=target, hint="Name another output")


def _about(error: MedTransferError, folder: Path | None) -> MedTransferError:
    """The error with the model folder that it is about, where it names nothing."""
    if error.path is not None or folder is None or isinstance(error, UsageError):
        return error
    named = type(error)(error.reason, path=folder, hint=error.hint)
    return named.with_traceback(error.__traceback__)
