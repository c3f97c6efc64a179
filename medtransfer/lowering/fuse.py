"""Convolutions of a graph take over the sums and activations behind them."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from .convolution import Activation, Convolution
from .layers import called_module, is_convolution, only_user, own_modules, replace

_SUMS = (operator.add, operator.iadd, torch.add)
_RECTIFIERS = (F.relu, torch.relu, F.relu_, torch.relu_)
#: what these give is new memory, and nothing else looks into it
_READERS = (operator.add, torch.add)


def fuse_convolutions(folded: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """The same graph with a :class:`Convolution` in place of every plain one and of what follows it.

    The last ones are exact: the network's results are float32 that no rounding to ``dtype`` went through.

    Args:
        folded: Of a network in eval mode; it is not changed.
        dtype: The numbers that are multiplied.

    >>> from .trace import trace
    >>> graph = trace(nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU()).eval())
    >>> [node.op for node in fuse_convolutions(graph, torch.float32).graph.nodes]
    ['placeholder', 'call_module', 'output']
    """
    graph = fx.GraphModule(folded, copy.deepcopy(folded.graph))
    layers = {node: module for node, module in own_modules(graph).items() if is_lowered(module)}
    last = set(_last_steps(graph, layers))
    for node, layer in layers.items():
        fused = Convolution(layer, dtype, exact=node in last)  # type: ignore[arg-type]
        graph.add_submodule(str(node.target), fused)
        _take_sum(graph, node, layers)
        if dtype != torch.float16:  # which overflows, and oneDNN's activations make 0 of NaN
            fused.activation = _take_activation(graph, node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def is_lowered(module: nn.Module | None) -> bool:
    """Whether a module is a convolution that :class:`Convolution` can be."""
    if not is_convolution(module) or getattr(module, "padding_mode", "") != "zeros":
        return False
    even = any(size % 2 == 0 for size in module.kernel_size)  # type: ignore[union-attr]
    return not (module.padding == "same" and even)  # type: ignore[union-attr]


def _take_sum(graph: fx.GraphModule, node: fx.Node, layers: dict[fx.Node, nn.Module]) -> None:
    """Add within the convolution, if it is the later of the two that a sum adds."""
    total = only_user(node)
    if total is None or total.op != "call_function" or total.target not in _SUMS or total.kwargs:
        return
    (other,) = [arg for arg in total.args if arg is not node] or (None,)
    if not isinstance(other, fx.Node) or len(total.args) != 2 or not other < node:
        return
    if isinstance(layers[node], nn.ConvTranspose3d):
        return
    node.args = (*node.args, other, _is_free(graph, other, node, layers))
    replace(graph, total, node)


def _is_free(graph: fx.GraphModule, other: fx.Node, node: fx.Node, layers: dict[fx.Node, nn.Module]) -> bool:
    """Whether the sum may go into the memory of ``other``: a convolution's own, which no later step reads.

    Not what the convolution itself reads, nor what a ``torch.cat`` does, whose parts are read later once it is split.
    """
    if other is node.args[0]:
        return False
    readers = [user for user in other.users if user is not node]
    plain = all(user in layers or user.target in _READERS or _is_pool(graph, user) for user in readers)
    ends = next(user for user in node.users)  # the sum, which goes
    return other in layers and plain and all(user < node or user is ends for user in readers)


def _is_pool(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(called_module(graph, node), nn.modules.pooling._MaxPoolNd)


def _take_activation(graph: fx.GraphModule, node: fx.Node) -> Activation:
    """The activation behind a step, which goes from the graph; none if there is none that oneDNN has."""
    following = only_user(node)
    found = None if following is None else _activation(graph, following)
    if following is None or found is None:
        return Activation()
    replace(graph, following, node)
    return found


def _activation(graph: fx.GraphModule, node: fx.Node) -> Activation | None:
    if node.op == "call_function" and node.target in _RECTIFIERS and len(node.args) == 1:
        return Activation("relu")
    module = called_module(graph, node)
    read: Callable[[Any], Activation] | None = _MODULES.get(type(module))  # type: ignore[arg-type]
    return None if read is None else read(module)


_MODULES: dict[type[nn.Module], Callable[[Any], Activation]] = {
    nn.ReLU: lambda module: Activation("relu"),
    nn.LeakyReLU: lambda module: Activation("leaky_relu", (module.negative_slope,)),
}


def _last_steps(graph: fx.GraphModule, layers: dict[fx.Node, nn.Module]) -> Iterator[fx.Node]:
    """The convolutions from which a way leads to the output that meets no other."""
    waiting, seen = [node for node in graph.graph.nodes if node.op == "output"], set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node in layers:
            yield node
        elif node not in seen:
            seen.add(node)
            waiting += node.all_input_nodes
