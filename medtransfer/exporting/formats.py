"""The formats that a network is exported to, as data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What ``format=`` takes.
        suffix: Of the file, by which the format is chosen; empty for a folder, which has none.
        what: In words.
        module: Of this room: has ``encode`` and ``decode``.
        needs: Modules of optional packages.
    """

    name: str
    suffix: str
    what: str
    module: str
    needs: tuple[str, ...] = ()


FORMATS = {
    one.name: one
    for one in (
        Format("onnx", ".onnx", "ONNX", "onnx_file", ("onnx", "onnxscript", "onnxruntime")),
        Format("torch_export", ".pt2", "torch.export", "torch_export", ()),
        Format("torchscript", ".ts", "TorchScript", "torchscript", ()),
        # its model.ts is a TorchScript file
        Format("monai_bundle", "", "a MONAI bundle, a folder", "torchscript", ()),
    )
}
BUNDLE = FORMATS["monai_bundle"]
#: The extra of the package that brings what a format needs.
EXTRA = "onnx"


def choose_format(path: str | Path, name: str | None = None) -> Format:
    """The format of an output: by name, else by the suffix of the path.

    Raises:
        UsageError: no format has that name or suffix, or the suffix is that of another format than the name's.

    >>> choose_format("model.onnx").name, choose_format("out/bundle", "monai_bundle").name
    ('onnx', 'monai_bundle')
    >>> choose_format("model.h5")
    Traceback (most recent call last):
    medtransfer.errors.UsageError: model.h5: no format has the suffix '.h5'. Use .onnx (ONNX), .pt2 (torch.export), ...
    """
    suffix = Path(path).suffix.lower()
    by_suffix = next((one for one in FORMATS.values() if one.suffix and one.suffix == suffix), None)
    if name is None and by_suffix is None:
        missing = f"no format has the suffix {suffix!r}" if suffix else "has no suffix, which tells the format"
        raise UsageError(missing, path=path, hint=f"Use {_choices()}")
    if name is not None and name not in FORMATS:
        raise UsageError(f"there is no format {name!r}", hint=f"Use {', '.join(FORMATS)}")
    chosen = FORMATS[name] if name is not None else by_suffix
    assert chosen is not None
    if by_suffix is not None and chosen is not by_suffix:
        reason = f"the suffix is that of {by_suffix.what}, the format asked for is {chosen.name}"
        raise UsageError(reason, path=path, hint="Name another output, or leave the format out")
    return chosen


def _choices() -> str:
    files = [f"{one.suffix} ({one.what})" for one in FORMATS.values() if one.suffix]
    return f"{', '.join(files)}, or a folder with the format {BUNDLE.name}"
