"""Running statistics of norms that stay as they are while the network trains."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def has_statistics(module: nn.Module) -> bool:
    """Whether a module is a norm that keeps running statistics: BatchNorm, SyncBatchNorm, InstanceNorm or another.

    >>> [has_statistics(nn.InstanceNorm3d(2, track_running_stats=on)) for on in (False, True)]
    [False, True]
    """
    return isinstance(getattr(module, "running_mean", None), Tensor)


class _EvalOnly:
    """Stands in for ``train`` on one norm: it stays in eval mode.

    An object of its own rather than a bound method, so that deep copies and pickles of the network belong to the copy.
    """

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm

    def __call__(self, mode: bool = True) -> nn.Module:
        return type(self.norm).train(self.norm, False)


def hold(norm: nn.Module) -> None:
    """Use the running statistics as they are, also after ``train()`` of the network.

    >>> net = nn.Sequential(nn.BatchNorm3d(2))
    >>> hold(net[0])
    >>> net.train()[0].training
    False
    """
    norm.train = _EvalOnly(norm)  # type: ignore[method-assign]
    norm.train()


def release(norm: nn.Module, mode: bool) -> None:
    """Let ``train()`` switch the norm again; it is in ``mode``, that of its network, from now on."""
    if is_held(norm):
        del norm.train
        norm.train(mode)


def is_held(norm: nn.Module) -> bool:
    """Whether :func:`hold` was called."""
    return isinstance(norm.__dict__.get("train"), _EvalOnly)


def moving(model: nn.Module) -> Iterator[nn.Module]:
    """The norms whose statistics move in training: those that ``model.train()`` puts into training mode.

    The modes of all modules are left as they are.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    norms = [module for module in model.modules() if has_statistics(module) and module.training]
    for module, mode in modes:
        module.training = mode
    yield from norms
