"""Freezing parts of a network so that neither their weights nor their norms' statistics move."""

from __future__ import annotations

from torch import nn

from .select import Parameters, What, select


def freeze(
    model: nn.Module, what: What | None = None, norm_stats: bool = True, except_: What | None = None
) -> Parameters:
    """Freeze parts of a network; several calls add up.

    Their parameters get no gradients, and keep none, so that optimizers leave them alone, weight decay and momentum
    included. Statistics of their norms stay as they are, through ``model.train()``, deep copies and checkpoints; a norm
    that is exchanged afterwards (``convert_sync_batchnorm``) has to be frozen anew. Dropout goes on.

    Args:
        model: Any network; of one inside a data-parallel wrapper the inner names count.
        what: Names of stages (``"stem"``, ``"layer1"``, ``"encoder_0"``, ``"encoder"``, ``"decoder"``, ``"head"``) or
            of modules, regexes of full names, types of modules or their names (``"BatchNorm3d"``); one or several;
            None: everything.
        norm_stats: Whether the statistics of norms are held too.
        except_: What is left as it is, in the same words.

    Returns:
        What was frozen.

    Raises:
        UsageError: a word stands for nothing in this network.

    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> frozen = freeze(net, ["stem", "layer1"])
    >>> net.train().layer1[0].bn1.training, net.layer2[0].bn1.training
    (False, True)
    >>> freeze(net, except_="head").names[-1]
    'layer4.0.downsample.1.bias'
    """
    return _selected(model, what, except_).freeze(norm_stats)


def unfreeze(
    model: nn.Module, what: What | None = None, norm_stats: bool = True, except_: What | None = None
) -> Parameters:
    """Let parts train again, the inverse of :func:`freeze`.

    Args:
        model: Any network.
        what: Which parts, in the words of :func:`freeze`; everything when None.
        norm_stats: Whether the statistics of norms move again too.
        except_: What is left as it is, in the same words.

    Returns:
        What trains again.

    Raises:
        UsageError: a word stands for nothing in this network.
        ModelError: the network was built with ``frozen_stages`` and would freeze them again at its next ``train()``.

    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> frozen = freeze(net)
    >>> unfreeze(net, ["layer4", "head"]).names[-2:], net.layer3[0].conv1.weight.requires_grad
    (['head_fc.weight', 'head_fc.bias'], False)
    """
    return _selected(model, what, except_).unfreeze(norm_stats)


def _selected(model: nn.Module, what: What | None, except_: What | None) -> Parameters:
    chosen = select(model, what)
    return chosen if except_ is None else chosen.without(select(model, except_))
