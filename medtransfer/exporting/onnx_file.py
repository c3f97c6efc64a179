"""``.onnx``: the network as an ONNX model by torch's dynamo exporter, run again by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..volumes.extras import require_extra
from ..volumes.memory import size_text
from .formats import EXTRA
from .subject import INPUT, Subject, quiet
from .torch_export import capture

#: Bytes of weights that one ONNX file holds: protobuf ends at 2 GiB, and the graph needs some of it.
LIMIT = (2 << 30) - (64 << 20)


def encode(subject: Subject) -> bytes:
    """The file's content; the texts are its ``metadata_props``.

    Raises:
        ModelError: weights that no ONNX file holds, or a step that ONNX has no operator for.
    """
    weights = sum(tensor.nbytes for tensor in subject.network.state_dict().values())
    if weights > LIMIT:
        reason = f"has weights of {size_text(weights)}; an ONNX file holds less than 2 GiB"
        raise ModelError(reason, hint="Export to .pt2, which has no such limit")
    program = capture(subject)
    try:
        with quiet(), torch.no_grad():
            found: Any = torch.onnx.export(
                program,
                (subject.example(),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=list(subject.outputs),
                # known to the graph already: for the names of the axes
                dynamic_shapes=(subject.axes.open(),),
            )
    except Exception as error:  # torch.onnx has many kinds of them
        said = str(error.__cause__ or error).strip().split("\n")[0][:200]
        raise ModelError(f"ONNX cannot hold this network: {said}", hint="Try .pt2 or .ts") from error
    found.model.metadata_props.update(subject.texts)
    data: bytes = found.model_proto.SerializeToString()
    return data


def versions(data: bytes) -> dict[str, str]:
    """What the file depends on: the opset, and what wrote it."""
    onnx = require_extra("onnx", EXTRA, "ONNX")
    model = onnx.load_model_from_string(data)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    return {"opset": str(opset), "ir": str(model.ir_version), "torch": str(torch.__version__), "onnx": onnx.__version__}


def decode(data: bytes) -> Callable[[Tensor], dict[str, Tensor]]:
    """The model as onnxruntime runs it on the CPU; it is checked against the rules of ONNX before.

    Raises:
        ModelError: it breaks them.
    """
    onnx = require_extra("onnx", EXTRA, "ONNX")
    runtime = require_extra("onnxruntime", EXTRA, "ONNX")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        onnx.checker.check_model(data)
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # both have their own
        raise ModelError(f"is no model that onnxruntime runs: {str(error).splitlines()[0][:200]}") from error
    names = [output.name for output in session.get_outputs()]

    def run(image: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {INPUT: image.numpy()})
        return {name: torch.from_numpy(array) for name, array in zip(names, found, strict=True)}

    return run
