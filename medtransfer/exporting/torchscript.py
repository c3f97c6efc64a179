"""``.ts``: what a network did with one input, as TorchScript, which runs in C++ and in older torch."""

from __future__ import annotations

import io
from typing import Any

import torch

from ..errors import ModelError
from .subject import Subject, quiet


def encode(subject: Subject) -> bytes:
    """The file's content; the texts are extra files in it.

    Raises:
        ModelError: the network cannot be traced.
    """
    buffer = io.BytesIO()
    try:
        with quiet(), torch.no_grad():
            # compared afterwards, at other sizes too; a dict of outputs is not strict
            traced = torch.jit.trace(subject.network, subject.example(), strict=False, check_trace=False)
            torch.jit.save(traced, buffer, _extra_files=dict(subject.texts))
    except RuntimeError as error:
        said = str(error).strip().split("\n")[0][:200]
        raise ModelError(f"TorchScript cannot hold this network: {said}", hint="Try .pt2 or .onnx") from error
    return buffer.getvalue()


def versions(data: bytes) -> dict[str, str]:
    """What the file depends on."""
    return {"torch": str(torch.__version__)}


def decode(data: bytes) -> Any:
    """The network in bytes that this process has made: TorchScript is code, so that no others are read."""
    with quiet():
        return torch.jit.load(io.BytesIO(data), map_location="cpu")
