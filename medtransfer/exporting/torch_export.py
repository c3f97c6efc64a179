"""``.pt2``: the graph of torch.export with its weights, read again by ``torch.export.load``."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch.export import ExportedProgram

from ..errors import ModelError
from .subject import Subject, quiet


def capture(subject: Subject) -> ExportedProgram:
    """The network's graph.

    Raises:
        ModelError: a step of it depends on the values or the size of the input in a way that no graph holds.
    """
    axes = subject.axes
    try:
        with quiet(), torch.no_grad():
            # the only argument, whatever it is called
            return torch.export.export(subject.network, (subject.example(),), dynamic_shapes=(axes.open() or None,),
                                       strict=False)  # fmt: skip
    except Exception as error:  # whatever the network's own code makes the tracer say
        said = str(error).strip().split("\n")[0][:200]
        hint = "Give spatial_size (--spatial-size)" if axes.spatial_size is None else "Try the format torchscript"
        what = "with open axes" if axes.dynamic() else "at this size"
        raise ModelError(f"torch.export cannot hold this network {what}: {said}", hint=hint) from error


def encode(subject: Subject) -> bytes:
    """The file's content; the texts are extra files in it.

    Raises:
        ModelError: see :func:`capture`.
    """
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(capture(subject), buffer, extra_files=dict(subject.texts))
    return buffer.getvalue()


def versions(data: bytes) -> dict[str, str]:
    """What the file depends on."""
    return {"torch": str(torch.__version__)}


def decode(data: bytes) -> Any:
    """The network in bytes that this process has made.

    Reading them evaluates expressions that they hold (the sizes that are allowed), so it is done with our own alone.
    """
    with quiet():
        return torch.export.load(io.BytesIO(data)).module()
