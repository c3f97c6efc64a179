"""A network as a graph of layers, which can be rewritten and runs on volumes of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from .layers import has_hooks

#: their forward passes ask for sizes, or are one kernel: steps of the graph
LAYERS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.GroupNorm,
    nn.Upsample,
)
_MOST_KINDS = 50


class UntraceableError(Exception):
    """The network decides by sizes or values of its input what it computes, or hooks look at it."""


class _OpaqueError(Exception):
    """The forward pass of one kind of module cannot be traced."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind


def trace(network: nn.Module) -> fx.GraphModule:
    """The graph of a network in eval mode, which shares its layers.

    A module whose forward pass cannot be traced, since it asks for sizes or values, is one step.

    Args:
        network: Takes one tensor; what else its forward pass could take has its default.

    Raises:
        UntraceableError: the outermost forward pass cannot be traced, or has hooks.

    >>> graph = trace(nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU()).eval())
    >>> [node.op for node in graph.graph.nodes]
    ['placeholder', 'call_module', 'call_module', 'output']
    """
    if has_hooks(network):
        raise UntraceableError(f"{type(network).__name__} has hooks")
    opaque: set[type[nn.Module]] = set()
    while len(opaque) < _MOST_KINDS:
        try:
            return _assembled(network, _Tracer(network, opaque).whole(network))
        except _OpaqueError as error:
            opaque.add(error.kind)
        except Exception as error:  # whatever a user's own forward pass raises when it meets no tensor
            raise UntraceableError(f"{type(network).__name__}: {error}") from error
    raise UntraceableError(f"{type(network).__name__} has too many kinds of modules that cannot be traced")


def _assembled(network: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """A module of the graph's steps under flat names: of "stage0.in" fx would write code that is no Python."""
    names: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            flat = f"part{len(names)}_{node.target}".replace(".", "_")
            node.target = names.setdefault(str(node.target), flat)
    parts = {name: _part(network, target) for target, name in names.items()}
    return fx.GraphModule(parts, graph, type(network).__name__)


def _part(network: nn.Module, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(network.get_submodule(owner), name)


class _Tracer(fx.Tracer):
    """Goes into modules as deep as it can."""

    def __init__(self, network: nn.Module, opaque: set[type[nn.Module]]) -> None:
        super().__init__()
        self.opaque, self._registered = opaque, set(map(id, network.modules()))
        self._asked = False

    def whole(self, network: nn.Module) -> fx.Graph:
        """The graph of a network, unless it asked something that only an input answers and caught the error."""
        graph = self.trace(network)
        if self._asked:
            raise UntraceableError(f"{type(network).__name__} decides by its input")
        return graph

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """One input alone: of others ``is None`` would be wrong for what stands for them."""
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Refuse, and remember it."""
        self._asked = True
        return super().to_bool(obj)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step of the graph."""
        return type(m) in self.opaque or isinstance(m, LAYERS) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a module's call, or say of which kind the innermost one is that cannot be."""
        if id(m) not in self._registered:
            return forward(*args, **kwargs)  # made on the way, of registered parts
        try:
            return super().call_module(m, forward, args, kwargs)
        except _OpaqueError:
            raise
        except Exception as error:
            raise _OpaqueError(type(m)) from error
