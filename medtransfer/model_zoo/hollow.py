"""Networks without numbers: to compare shapes, or to take the tensors of another network or file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWS = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


@contextmanager
def hollow() -> Iterator[None]:
    """Inside, networks are built on the meta device: no memory is asked for, and no random number is drawn.

    >>> with hollow():
    ...     layer = nn.Conv3d(1000, 1000, 9)
    >>> layer.weight.is_meta, layer.weight.shape[0]
    (True, 1000)
    """
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Leaves out the start values of layers: only to draw them on the meta device torch imports its compiler, 1 s."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
