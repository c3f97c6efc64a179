"""An upsampling and the 1x1x1 convolutions of what it gives are one linear map: the map between them is never made."""

from __future__ import annotations

from torch import fx

from ..model_zoo.layers import to_size
from .convolution import Convolution, own_convolutions
from .layers import only_user


def compose_upsamplings(graph: fx.GraphModule) -> int:
    """Multiply every transposed convolution with the 1x1x1 ones behind it, in place; returns how many went.

    At full resolution writing the map between them, and reading it once for each convolution, takes longer than
    computing it. Interpolation between the two commutes with a 1x1x1 convolution, since its weights sum to one.

    >>> import torch
    >>> from medtransfer.model_zoo.catalog import create_model
    >>> from .concatenation import split_concatenations
    >>> from .fold import drop_identities, fold_norms
    >>> from .fuse import fuse_convolutions
    >>> from .trace import trace
    >>> graph = trace(create_model("resunet10", base_channels=4, stem_channels=4).eval())
    >>> drop_identities(graph), fold_norms(graph)
    (None, 28)
    >>> graph = fuse_convolutions(graph, torch.float32)
    >>> split_concatenations(graph), compose_upsamplings(graph)
    (4, 4)
    """
    layers = own_convolutions(graph)
    found = 0
    for node, up in list(layers.items()):
        resized = _resized(node)
        if up.transposed and _is_linear(up) and _are_composed(resized, up, layers):
            for number, reader in enumerate(list(resized.users)):
                _compose(graph, node, reader, up.before(layers[reader]), number)
            found += 1
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return found


def _resized(node: fx.Node) -> fx.Node:
    """The step that gives the upsampled map its last size, if there is one."""
    following = only_user(node)
    return node if following is None or following.target is not to_size else following


def _is_linear(layer: Convolution | None) -> bool:
    """Whether a step is a linear map of all its channels, and rounds."""
    return layer is not None and layer.is_linear and not layer.exact


def _are_composed(resized: fx.Node, up: Convolution, layers: dict[fx.Node, Convolution]) -> bool:
    """Whether all that read a map may take it multiplied, and that needs no more multiplications."""
    if not resized.users or not all(_is_composed(reader, resized, layers) for reader in resized.users):
        return False
    given, between = sum(layers[reader].out_channels for reader in resized.users), up.out_channels
    return len(up.weight) * given <= between * (len(up.weight) + given)


def _is_composed(reader: fx.Node, resized: fx.Node, layers: dict[fx.Node, Convolution]) -> bool:
    """Whether a step is a 1x1x1 convolution of the map alone, or adds one to what may as well be added to it."""
    layer = layers.get(reader)
    if layer is None or not _is_linear(layer) or layer.transposed or not layer.is_pointwise:
        return False
    return reader.args == (resized,) or _takes_sum(reader, resized, layers)


def _takes_sum(reader: fx.Node, resized: fx.Node, layers: dict[fx.Node, Convolution]) -> bool:
    """Whether the other part of a sum is a convolution that only this step reads, and that can add itself to it."""
    other = reader.args[1]
    layer = layers.get(other) if isinstance(other, fx.Node) else None
    if layer is None or not _is_linear(layer) or layer.transposed or not isinstance(other, fx.Node):
        return False
    return reader.args[0] is resized < other and len(other.args) == 1 and only_user(other) is reader


def _compose(graph: fx.GraphModule, node: fx.Node, reader: fx.Node, product: Convolution, number: int) -> None:
    name, resized = f"{node.target}_of{number}", _resized(node)
    graph.add_submodule(name, product)
    other = reader.args[1] if len(reader.args) > 1 else None
    with graph.graph.inserting_before(other if isinstance(other, fx.Node) else reader):
        given = graph.graph.call_module(name, (node.args[0],))
        if resized is not node:
            given = graph.graph.call_function(to_size, (given, *resized.args[1:]))
    if isinstance(other, fx.Node):
        other.args, given = (*other.args, given, True), other
    reader.replace_all_uses_with(given)
    graph.graph.erase_node(reader)
