"""Questions about the steps of a graph, and changes of single ones."""

from __future__ import annotations

from collections import Counter

from torch import fx, nn

from ..model_zoo.layer_types import torch_type

#: forward passes that are the plain convolution; a subclass with another one is left alone
_PLAIN = {nn.Conv3d.forward, nn.ConvTranspose3d.forward}


def own_modules(graph: fx.GraphModule) -> dict[fx.Node, nn.Module]:
    """The module of each step that is a call of one, but for modules that several steps call."""
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    counts = Counter(node.target for node in calls)
    return {node: graph.get_submodule(str(node.target)) for node in calls if counts[node.target] == 1}


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
