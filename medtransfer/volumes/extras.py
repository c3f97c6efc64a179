"""Libraries that only some formats need."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, VolumeError


def require_extra(module: str, extra: str, what: str, path: Path | None = None) -> Any:
    """The module, or an error that names the extra which brings it.

    Raises:
        MissingExtraError: it is not installed.

    >>> require_extra("numpy", "itk", "this example").__name__
    'numpy'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f"Run pip install 'medtransfer[{extra}]'"
        raise MissingExtraError(f"{what} needs {module.split('.')[0]}", path=path, hint=hint) from error


@contextmanager
def quiet_itk(path: Path, extra: str = "itk") -> Iterator[Any]:
    """SimpleITK, with its warnings kept off the terminal inside the block.

    Raises:
        MissingExtraError: it is not installed.
        VolumeError: the name of the file is no text, which would end the whole process.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        hint = "Rename the file or its folder"
        raise VolumeError(
            "its name is not UTF-8, which SimpleITK cannot open", path=ascii(str(path)), hint=hint
        ) from None
    sitk = require_extra("SimpleITK", extra, "this format", path)
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def itk_reason(error: RuntimeError) -> str:
    """The last, most special thing that ITK says, without its addresses and source lines.

    >>> itk_reason(RuntimeError("Thrown at a.cxx:12:\\nITK ERROR: GDCM(0x55): Cannot decode.\\nReason: Success"))
    'Cannot decode'
    """
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    last = lines[-1] if lines else "no reason given"
    return " ".join(re.sub(r"^.*?(\(0x[0-9a-f]+\)|\[nrrd\] \w+): ?", "", last).split()).rstrip(".")[:200]
