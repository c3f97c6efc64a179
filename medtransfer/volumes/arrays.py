"""Scans that are in memory already: an array with its affine, and MONAI's MetaTensor, known by what it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from . import validate
from .grid import LPS_TO_RAS
from .header import header_of_affine
from .stored import Stored

ArrayWithAffine: TypeAlias = "tuple[Any, Any]"
_RAS, _LPS = "RAS", "LPS"


@runtime_checkable
class MetaTensorLike(Protocol):
    """What MONAI's MetaTensor has: (C, I, J, K) voxels, a 4 x 4 affine, and a mapping of what else is known."""

    @property
    def affine(self) -> Any:
        """4 x 4, RAS+ unless ``meta["space"]`` says LPS."""

    @property
    def meta(self) -> Any:
        """A mapping."""


def is_array(value: object) -> bool:
    """Whether a value is an array or tensor: it has a shape and a type of number."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_array_with_affine(value: object) -> bool:
    """Whether a value is a tuple of an array and an affine; a tuple of two paths or images is not."""
    return isinstance(value, tuple) and len(value) == 2 and is_array(value[0])


def read_array(pair: ArrayWithAffine) -> Stored:
    """Take an array (I, J, K), or (C, I, J, K), and its RAS+ affine in millimetres.

    Raises:
        VolumeError: other axes, an affine that is not 4 x 4 numbers, or what a file would be refused for.

    >>> read_array((np.zeros((2, 4, 5, 6), np.int16), np.eye(4))).grid.shape
    (4, 5, 6)
    """
    array, affine = _numpy(pair[0], "array"), _affine(pair[1])
    if array.ndim not in (3, 4):
        reason = f"an array must be (I, J, K) or (C, I, J, K), got the shape {array.shape}"
        raise VolumeError(reason, hint="Give one scan at a time, without an axis of batches")
    stored = np.moveaxis(array, 0, -1) if array.ndim == 4 else array
    header = header_of_affine(stored.shape, stored.dtype, affine)
    return Stored(stored, header, None, validate.check_header(header, None), holds_channels=True)


def read_meta_tensor(tensor: MetaTensorLike) -> Stored:
    """Take a MetaTensor of MONAI; its affine is RAS+ unless its ``meta["space"]`` says LPS.

    Raises:
        VolumeError: a space that is neither, or what `read_array` refuses.
    """
    space = tensor.meta.get("space") or _RAS
    named = str(getattr(space, "value", space)).upper()
    if named not in (_RAS, _LPS):
        raise VolumeError(f"a MetaTensor in the space {named!r}", hint="Bring its affine to RAS or LPS first")
    affine = _affine(tensor.affine)
    stored = read_array((tensor, LPS_TO_RAS @ affine if named == _LPS else affine))
    stored.path = file_of(tensor)
    return stored


def file_of(tensor: MetaTensorLike) -> Path | None:
    """The file that a MetaTensor came from, if it says so."""
    name = tensor.meta.get("filename_or_obj")
    return Path(name) if isinstance(name, str) and name else None


def _numpy(value: Any, what: str) -> npt.NDArray[Any]:
    """A numpy view of an array or of a tensor on any device."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # numpy has no such type
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise VolumeError(f"the {what} is no array of numbers: {error}") from error


def _affine(value: Any) -> npt.NDArray[np.float64]:
    affine = _numpy(value, "affine")
    if affine.shape != (4, 4) or affine.dtype.kind not in "iuf":
        hint = "Give (array, affine); the channel files of one case are a list"
        raise VolumeError(f"an affine is 4 x 4 numbers, got {affine.dtype} of shape {affine.shape}", hint=hint)
    affine = affine.astype(np.float64)
    if affine[3].tolist() != [0, 0, 0, 1]:
        raise VolumeError(f"the last row of an affine is 0, 0, 0, 1, got {affine[3].tolist()}")
    return affine
