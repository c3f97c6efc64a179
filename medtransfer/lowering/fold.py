"""What does nothing goes, and batch norm with fixed statistics becomes a part of the convolution before it."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from .layers import called_module, is_convolution, only_user, own_modules, replace

_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def drop_identities(graph: fx.GraphModule) -> None:
    """Take out in place what does nothing in eval mode.

    >>> from .trace import trace
    >>> graph = trace(nn.Sequential(nn.Conv3d(1, 2, 3), nn.Dropout(0.5)).eval())
    >>> drop_identities(graph)
    >>> len(graph.graph.nodes)
    3
    """
    for node in list(graph.graph.nodes):
        module = called_module(graph, node)
        if isinstance(module, _NOTHING) and not module.training:
            replace(graph, node, node.args[0])
    graph.recompile()


def fold_norms(graph: fx.GraphModule) -> int:
    """Fold in place every batch norm that alone takes what a convolution gives; returns how many.

    A layer that the graph calls twice stays as it is.

    >>> from .trace import trace
    >>> graph = trace(nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)).eval())
    >>> fold_norms(graph), len(graph.graph.nodes)
    (1, 3)
    """
    modules, folded = own_modules(graph), 0
    for node, conv in modules.items():
        norm = only_user(node)
        if _takes_weights(conv) and norm is not None and _has_fixed_statistics(modules.get(norm)):
            _fold(conv, modules[norm])  # type: ignore[arg-type]
            replace(graph, norm, node)
            folded += 1
    graph.recompile()
    return folded


def _takes_weights(conv: nn.Module) -> bool:
    """Whether torch can fold a norm into a convolution: its formula has no transposed ones in groups."""
    if not is_convolution(conv) or is_parametrized(conv):
        return False
    return not (conv.transposed and conv.groups > 1)  # type: ignore[operator]


def _has_fixed_statistics(norm: nn.Module | None) -> bool:
    kind = nn.modules.batchnorm._BatchNorm
    return isinstance(norm, kind) and norm.running_mean is not None and not norm.training


def _fold(conv: nn.modules.conv._ConvNd, norm: nn.modules.batchnorm._BatchNorm) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,  # type: ignore[arg-type]
        norm.running_var,  # type: ignore[arg-type]
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=conv.transposed,
    )
