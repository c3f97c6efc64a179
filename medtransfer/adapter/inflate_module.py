"""Whole 2-D networks as 3-D ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..errors import MedTransferError, ModelError, UsageError
from .inflate import AXES, INFLATION_MODES
from .inflate_layers import LAYERS, Inflation, owns_kernels
from .inflate_zoo import inflate_zoo_network, is_of_zoo

#: a layer with a forward of its own -> the same in layers of torch.nn
Rewrite = Mapping[type[nn.Module], Callable[[Any], nn.Module]]

#: their forward adds nothing to torch's but old torch's missing support of empty tensors
_TRANSPARENT = ("mmcv.cnn.bricks.wrappers",)
#: layers of torch.nn that mean two axes of space without saying "2d" in their name
_TWO_AXES = ("Fold", "Unfold", "PixelShuffle", "PixelUnshuffle", "Bilinear")


def inflate(
    module2d: nn.Module,
    depth: int | None = None,
    mode: str = "mean",
    axis: int = 2,
    *,
    stride: str | int = "same",
    rewrite: Rewrite | None = None,
) -> nn.Module:
    """A 2-D network as a 3-D one: every layer a 3-D one, the same names, the weights inflated.

    Along the new axis, convolutions and pooling take kernel, stride, padding and dilation of the axis of the image that
    has the larger kernel (its height where both are equal), so that a square network becomes a cubic one; 1x1 kernels
    become 1x1x1. With ``stride=1`` the new axis keeps its size: pooling, transposed convolutions and even kernels do
    not act along it. Adaptive pooling pools the new axis to one voxel, so that a linear layer behind it fits.

    On volumes that are constant along the axis, the network computes what the 2-D one computes: with ``"center"`` up
    to the borders (average pooling that counts its padding excepted), with ``"mean"`` as far as the padding of the new
    axis does not reach.

    What a ``forward`` does with functions is not seen. Those of any dimension stay right (activations, sums,
    concatenation, ``flatten(1)``); most others fail on the first volume (``F.adaptive_avg_pool2d``, ``permute``). Two
    do neither: ``F.pad`` with four numbers leaves the depth without padding, and ``x.mean([2, 3])`` leaves the width.

    Args:
        module2d: Any 2-D network; it is not changed.
        depth: Kernel size of all convolutions along the new axis, but 1x1 and transposed ones; None takes each one's.
        mode: ``"mean"``, ``"center"`` or ``"acs"``, as in :func:`inflate_conv`.
        axis: Where the new axis stands in (N, C, D, H, W): 2, 3 or 4.
        stride: ``"same"`` or 1.
        rewrite: For layers with a ``forward`` of their own: class -> function that gives the same in layers of
            torch.nn, for example a convolution that pads itself as ``nn.Sequential(padding, convolution)``.

    Raises:
        ModelError: a layer has no 3-D form here; it is named.
        UsageError: an option is unknown.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.MaxPool2d(2))
    >>> inflate(net)(torch.rand(1, 1, 8, 8, 8)).shape, inflate(net, stride=1)(torch.rand(1, 1, 8, 8, 8)).shape
    (torch.Size([1, 2, 4, 4, 4]), torch.Size([1, 2, 8, 4, 4]))
    """
    if mode not in INFLATION_MODES:
        raise UsageError(f"the mode of inflation must be one of {', '.join(INFLATION_MODES)}, got {mode!r}")
    if axis not in AXES or stride not in ("same", 1):
        raise UsageError(f"axis must be 2, 3 or 4 and stride 'same' or 1, got axis={axis!r}, stride={stride!r}")
    if depth is not None and (not isinstance(depth, int) or depth < 1):
        raise UsageError(f"depth must be a positive whole number or None, got {depth!r}")
    return _inflated(module2d, Inflation(mode, axis, depth, stride), rewrite)


def to_acs(model2d: nn.Module, *, rewrite: Rewrite | None = None) -> nn.Module:
    """A 2-D network as a 3-D one with ACS convolutions (Yang et al., IEEE JBHI 2021).

    The convolutions keep the 2-D weights, keys and shapes, and lay them on the three planes of the volume
    (:class:`~medtransfer.model_zoo.acs.ACSConv3d`): no parameter is added. All other layers are inflated as by
    :func:`inflate` with ``stride="same"``; transposed convolutions, for which there is no ACS form, by ``"mean"``.

    Args:
        model2d: Any 2-D network with odd square kernels; it is not changed.
        rewrite: As in :func:`inflate`.

    Raises:
        ModelError: a layer has no 3-D form here; it is named.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> [tuple(tensor.shape) for tensor in to_acs(net).state_dict().values()][:2]
    [(8, 3, 3, 3), (8,)]
    """
    return _inflated(model2d, Inflation("acs-layers"), rewrite)


def _inflated(module2d: nn.Module, how: Inflation, rewrite: Rewrite | None) -> nn.Module:
    walk = _Walk(how, rewrite or {})
    new = walk.convert(copy.deepcopy(module2d), type(module2d).__name__)
    if not walk.inflated:
        raise ModelError(f"{type(module2d).__name__} has no 2-D layer to inflate")
    return new


class _Walk:
    """One pass over a copy of a network. A layer that stands in several places is inflated once, and stays one."""

    def __init__(self, how: Inflation, rewrite: Rewrite) -> None:
        self.how = how
        self.rewrite = rewrite
        self.inflated = 0
        # the layers themselves are the keys: an id could be given again once its layer is gone
        self._done: dict[nn.Module, nn.Module] = {}
        self._kernels: dict[nn.Parameter, nn.Parameter] = {}

    def convert(self, layer: nn.Module, path: str) -> nn.Module:
        """The 3-D form of a layer and of all inside."""
        if layer not in self._done:
            self._done[layer] = self._new(layer, path)
        return self._done[layer]

    def _new(self, layer: nn.Module, path: str) -> nn.Module:
        if type(layer) in self.rewrite:
            return self._rewritten(layer, path)
        if is_of_zoo(layer):
            self.inflated += 1
            return self._named(path, lambda: inflate_zoo_network(layer, self.how))
        kind = next((kind for kind in LAYERS if isinstance(layer, kind)), None)
        fault = _container_fault(layer) if kind is None else _layer_fault(layer, kind)
        if fault:
            raise ModelError(f"{path} ({type(layer).__name__}) {fault}", hint=_HINT)
        if kind is not None:
            self.inflated += 1
            return self._named(path, lambda: self._tied(layer, LAYERS[kind]))
        for name, child in layer._modules.items():
            if child is not None:
                layer._modules[name] = self.convert(child, f"{path}.{name}")
        return layer

    def _rewritten(self, layer: nn.Module, path: str) -> nn.Module:
        plain = self.rewrite[type(layer)](layer)
        if type(plain) in self.rewrite:
            raise UsageError(f"rewrite of {path} gives a {type(plain).__name__} again, not layers of torch.nn")
        return self.convert(plain, path)

    def _tied(self, layer: nn.Module, rule: Callable[[Any, Inflation], nn.Module]) -> nn.Module:
        """Convolutions that share their weights still do."""
        old = layer._parameters.get("weight")
        new = rule(layer, self.how).train(layer.training)
        kernel = new._parameters.get("weight")
        if old is not None and kernel is not None:
            shared = self._kernels.setdefault(old, kernel)
            if shared.shape == kernel.shape:
                new._parameters["weight"] = shared
        return new

    def _named(self, path: str, build: Callable[[], nn.Module]) -> nn.Module:
        try:
            return build()
        except MedTransferError as error:
            raise ModelError(f"{path}: {error.reason}", hint=error.hint) from error


_HINT = "Pass rewrite={that class: a function that gives the same in layers of torch.nn}"


def _layer_fault(layer: nn.Module, kind: type[nn.Module]) -> str | None:
    """Why a layer does not compute what its base class in torch.nn does."""
    methods = ("forward", "_conv_forward")
    own = any(getattr(type(layer), name, None) is not getattr(kind, name, None) for name in methods)
    if own and not type(layer).__module__.startswith(_TRANSPARENT):
        return "has a forward of its own"
    if layer._modules or layer._forward_hooks or layer._forward_pre_hooks:
        return "has parametrizations or hooks, which its 3-D form would lose"
    return None


def _container_fault(layer: nn.Module) -> str | None:
    """Why a module that is no known 2-D layer does not stay right around 3-D ones."""
    if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d | nn.BatchNorm3d | nn.InstanceNorm3d):
        return "is 3-D already"
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1:
        return f"normalises over the fixed shape {tuple(layer.normalized_shape)}"
    if type(layer).__name__.removeprefix("Lazy") in _TWO_AXES:
        return "is a layer of two axes of space"
    if not isinstance(layer, nn.Conv1d) and (name := owns_kernels(layer)):
        return f"holds {name!r}, which has axes of space"
    if "2d" in type(layer).__name__.lower() and not layer._modules:
        return "is a 2-D layer that has no 3-D form here"
    return None
