"""Questions about the steps of a graph, and changes of single ones."""

from __future__ import annotations

from collections import Counter

from torch import fx, nn

from ..model_zoo.layer_types import torch_type

#: forward passes that are the plain convolution; a subclass with another one is left alone
_PLAIN = {nn.Conv3d.forward, nn.ConvTranspose3d.forward}


def own_modules(graph: fx.GraphModule) -> dict[fx.Node, nn.Module]:
    """The module of each step that is a call of one, but for modules that several steps call or that have hooks."""
    counts = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    own = {node: called_module(graph, node) for node in graph.graph.nodes if counts[node.target] == 1}
    return {node: module for node, module in own.items() if module is not None}


def called_module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a step calls; none if it has hooks, which see or change what it takes and gives."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    return None if module is None or has_hooks(module) else module


def has_hooks(module: nn.Module) -> bool:
    """Whether something is called before, after or in place of the forward pass of a module's class.

    As by ``register_forward_hook``, or by a ``forward`` of the one module's own.

    >>> layer = nn.ReLU()
    >>> handle = layer.register_forward_hook(lambda module, inputs, output: None)
    >>> has_hooks(layer), has_hooks(nn.ReLU())
    (True, False)
    """
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def is_convolution(module: nn.Module | None) -> bool:
    """Whether a module is a plain 3-D convolution or transposed convolution.

    >>> is_convolution(nn.Conv3d(1, 1, 3)), is_convolution(nn.Conv2d(1, 1, 3)), is_convolution(None)
    (True, False, False)
    """
    return getattr(torch_type(module), "forward", None) in _PLAIN


def only_user(node: fx.Node) -> fx.Node | None:
    """The one step that takes what this one gives."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def replace(graph: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    """Give what takes one step's result another's, and remove the first."""
    node.replace_all_uses_with(by)
    graph.graph.erase_node(node)


def takes_input_statistics(module: nn.Module) -> bool:
    """Whether a norm looks at its whole input in eval mode too, so that the input should be as large as in training.

    >>> [takes_input_statistics(norm) for norm in (nn.InstanceNorm3d(4), nn.GroupNorm(2, 4), nn.BatchNorm3d(4))]
    [True, True, False]
    """
    # the base class of batch and instance norm
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.running_mean is None
    return isinstance(module, nn.GroupNorm)
