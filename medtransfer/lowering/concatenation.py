"""A convolution of joined maps is the sum of those of the parts: the joined map is never made."""

from __future__ import annotations

import torch
from torch import fx, nn

from ..model_zoo.layers import to_size
from .convolution import Convolution
from .layers import called_module, own_modules


def split_concatenations(graph: fx.GraphModule) -> int:
    """Convolve the parts of every ``torch.cat`` that only convolutions read, in place; returns how many went.

    At full resolution a skip connection's joined map is the largest of a network: writing and reading it takes as long
    as a convolution of it, and the network's peak of memory is there.

    >>> from medtransfer.model_zoo.catalog import create_model
    >>> from .fold import drop_identities, fold_norms
    >>> from .fuse import fuse_convolutions
    >>> from .trace import trace
    >>> graph = trace(create_model("resunet10", base_channels=4, stem_channels=4).eval())
    >>> drop_identities(graph), fold_norms(graph)
    (None, 28)
    >>> split_concatenations(fuse_convolutions(graph, torch.float32))
    4
    """
    modules = own_modules(graph)
    joined = [node for node in graph.graph.nodes if _is_joined(node)]
    found = 0
    for cat in joined:
        parts: list[fx.Node] = list(cat.args[0])
        widths = [_width(graph, part) for part in parts]
        if None not in widths and all(_splits(reader, cat, modules) for reader in cat.users):
            for reader in list(cat.users):
                _split(graph, reader, modules[reader], parts, widths)  # type: ignore[arg-type]
            graph.graph.erase_node(cat)
            found += 1
    graph.delete_all_unused_submodules()
    graph.recompile()
    return found


def _is_joined(node: fx.Node) -> bool:
    """Whether a step joins maps along their channels."""
    if node.op != "call_function" or node.target is not torch.cat:
        return False
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return bool(axis == 1) and isinstance(node.args[0], list | tuple)


def _width(graph: fx.GraphModule, node: object) -> int | None:
    """Channels of a map, of what a convolution or norm gives, through what changes only values or sizes."""
    while isinstance(node, fx.Node):
        module = called_module(graph, node)
        if isinstance(module, Convolution | nn.modules.batchnorm._NormBase):
            return module.out_channels if isinstance(module, Convolution) else module.num_features
        if node.target is not to_size and not isinstance(module, nn.ReLU | nn.LeakyReLU):
            return None
        node = node.args[0]
    return None


def _splits(reader: fx.Node, cat: fx.Node, modules: dict[fx.Node, nn.Module]) -> bool:
    found = modules.get(reader)
    alone = reader.args[0] is cat and cat not in reader.args[1:]
    return alone and isinstance(found, Convolution) and found.is_split


def _split(graph: fx.GraphModule, node: fx.Node, whole: Convolution, parts: list[fx.Node], widths: list[int]) -> None:
    """A chain of convolutions in place of one, each of which adds to what the one before it gave."""
    others, start = tuple(node.args[1:]), 0
    with graph.graph.inserting_before(node):
        for number, (part, width) in enumerate(zip(parts, widths, strict=True)):
            name, is_last = f"{node.target}_of{number}", number == len(parts) - 1
            graph.add_submodule(name, whole.of_channels(slice(start, start + width), is_last))
            others, start = (graph.graph.call_module(name, (part, *others)), True), start + width
    node.replace_all_uses_with(others[0])  # type: ignore[arg-type]
    graph.graph.erase_node(node)
