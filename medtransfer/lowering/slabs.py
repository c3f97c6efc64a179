"""The last steps of a network a few planes at a time: its widest maps stay in the processor's cache."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn

from .convolution import LAYOUT, Convolution, own_convolutions
from .substitutes import interpolated

#: bytes of the widest map of one slab
CACHED = 12 << 20
Scale = tuple[int, ...]


def run_in_slabs(graph: fx.GraphModule) -> None:
    """Gather voxelwise convolutions that end in a narrow map as :class:`Slabs`, in place.

    At full resolution the maps of a decoder's shortcut and of the head before it are the largest of a network, and
    are written and read several times, though each voxel needs one voxel of them.

    >>> from medtransfer.model_zoo.catalog import create_model
    >>> from .lower import lower
    >>> lowered = lower(create_model("resunet10", base_channels=4, stem_channels=16, num_classes=2).eval())
    >>> any(isinstance(part, Slabs) for part in lowered.children())
    True
    """
    layers = own_convolutions(graph)
    taken: set[fx.Node] = set()
    for last in reversed(layers):
        steps = [] if last in taken else _steps_before(last, layers)
        scales = _scales(steps, layers) if _is_worth(steps, layers) else None
        if scales:
            _gather(graph, steps, scales, layers)
            taken.update(steps)
    graph.delete_all_unused_submodules()
    graph.recompile()


class Slabs(nn.Module):
    """Steps of which each voxel needs one voxel, run a few planes at a time on a CPU.

    Args:
        steps: A graph that ends in one map.
        scales: Of each of its inputs, maps or sizes: voxels along each axis for one of the coarsest.
        given: The same of the map that comes out.
        widest: Channels of its widest map.
    """

    def __init__(self, steps: fx.GraphModule, scales: list[Scale], given: Scale, widest: int) -> None:
        super().__init__()
        self.steps, self.scales, self.given, self.widest = steps, scales, given, widest

    def forward(self, *inputs: Any) -> Tensor:
        """What the steps give of maps (N, C, D, H, W) and sizes."""
        coarsest = self._coarsest(inputs)
        count = 1 if coarsest is None else coarsest[0] // self._planes(coarsest, inputs)
        if coarsest is None or count < 2:
            whole: Tensor = self.steps(*inputs)
            return whole
        edges = [coarsest[0] * number // count for number in range(count + 1)]
        slabs = (self.steps(*self._cut(inputs, *edge)) for edge in pairwise(edges))
        first = next(slabs)
        sizes = [size * scale for size, scale in zip(coarsest, self.given, strict=True)]
        shape = first.shape[:2] + torch.Size(sizes)
        found = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=LAYOUT)
        for start, slab in zip(edges, chain([first], slabs), strict=False):
            found.narrow(2, start * self.given[0], slab.shape[2]).copy_(slab)
        return found

    def _coarsest(self, inputs: tuple[Any, ...]) -> Scale | None:
        """The size of the coarsest map; None where a map would be interpolated, or another device has no such cache."""
        parts = [
            divmod(length, scale)
            for value, scales in zip(inputs, self.scales, strict=True)
            for length, scale in zip(_size(value), scales, strict=True)
        ]
        whole = [quotient for quotient, _ in parts]
        found = tuple(whole[:3])
        fits = whole == [*found] * len(inputs) and not any(rest for _, rest in parts)
        on_cpu = all(value.device.type == "cpu" for value in inputs if isinstance(value, Tensor))
        return found if fits and on_cpu else None

    def _planes(self, coarsest: Scale, inputs: tuple[Any, ...]) -> int:
        """Planes of the coarsest map of which the widest map stays in the cache; of one alone oneDNN is very slow."""
        depth, height, width = self.given
        voxels = depth * height * width * coarsest[1] * coarsest[2]
        bytes_of_one = max(value.element_size() * len(value) for value in inputs if isinstance(value, Tensor))
        return max(2, CACHED // (voxels * self.widest * bytes_of_one))

    def _cut(self, inputs: tuple[Any, ...], start: int, end: int) -> Iterator[Any]:
        for value, scale in zip(inputs, self.scales, strict=True):
            first, count = start * scale[0], (end - start) * scale[0]
            yield value.narrow(2, first, count) if isinstance(value, Tensor) else (count, *value[1:])


def _size(value: Any) -> Scale:
    return tuple(value.shape[2:] if isinstance(value, Tensor) else value)


def _steps_before(last: fx.Node, layers: dict[fx.Node, Convolution]) -> list[fx.Node]:
    """The voxelwise steps that only this one needs, and itself, in their order."""
    found, waiting = {last}, list(last.all_input_nodes) if layers[last].is_voxelwise else []
    while waiting:
        node = waiting.pop()
        local = _is_cut(node) if node.target is interpolated else node in layers and layers[node].is_voxelwise
        if local and all(user in found for user in node.users):
            found.add(node)
            waiting += node.all_input_nodes
    return sorted(found)


def _is_cut(resized: fx.Node) -> bool:
    """Whether the size that a map is interpolated to is a step's, and so an input: a slab would keep another one's."""
    return isinstance(resized.args[1], fx.Node)


def _is_worth(steps: list[fx.Node], layers: dict[fx.Node, Convolution]) -> bool:
    """Whether what lies between is at least twice as wide as what comes out."""
    between = [layers[node].out_channels for node in steps[:-1] if node in layers]
    return len(between) > 1 and max(between) >= 2 * layers[steps[-1]].out_channels


def _scales(steps: list[fx.Node], layers: dict[fx.Node, Convolution]) -> dict[fx.Node, Scale] | None:
    """Of what the steps read and give: voxels along each axis for one of the coarsest; None if they do not fit."""
    spans: dict[fx.Node, Scale] = {steps[-1]: (1, 1, 1)}
    for node in reversed(steps):
        for source, span in _read(node, spans[node], layers):
            if spans.setdefault(source, span) != span:
                return None
    coarsest = [max(axis) for axis in zip(*spans.values(), strict=True)]
    if any(length % part for span in spans.values() for length, part in zip(coarsest, span, strict=True)):
        return None
    return {node: tuple(map(operator.floordiv, coarsest, span)) for node, span in spans.items()}


def _read(node: fx.Node, span: Scale, layers: dict[fx.Node, Convolution]) -> Iterator[tuple[fx.Node, Scale]]:
    """What a step reads, with the voxels of the last map that one of its voxels spans."""
    upsampling = node in layers and layers[node].transposed
    for number, source in enumerate(node.all_input_nodes):
        inner = upsampling and number == 0
        yield source, tuple(map(operator.mul, span, layers[node].stride)) if inner else span


def _gather(
    graph: fx.GraphModule, steps: list[fx.Node], scales: dict[fx.Node, Scale], layers: dict[fx.Node, Convolution]
) -> None:
    """One call of :class:`Slabs` in place of the steps."""
    inner, last = fx.Graph(), steps[-1]
    outside = list(dict.fromkeys(source for node in steps for source in node.all_input_nodes if source not in steps))
    known = {source: inner.placeholder(source.name) for source in outside}
    for node in steps:
        known[node] = inner.node_copy(node, known.__getitem__)
    inner.output(known[last])
    widest = max(layers[node].out_channels for node in steps if node in layers)
    gathered = fx.GraphModule(graph, inner)
    name = f"slabs_{last.target}"
    graph.add_submodule(name, Slabs(gathered, [scales[source] for source in outside], scales[last], widest))
    with graph.graph.inserting_before(last):
        call = graph.graph.call_module(name, tuple(outside))
    last.replace_all_uses_with(call)
    for node in reversed(steps):
        graph.graph.erase_node(node)
