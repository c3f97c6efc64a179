"""What fine-tuning did to an encoder's features: how far they drifted, and how many channels say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from ..finetune.parts import Network, stage_names, unwrapped, zoo_networks

#: Voxel positions of a stage that a CKA is taken over, of all images together.
MAX_SAMPLES = 4096

#: A channel is dead when its highest and lowest value differ by less than this share of the stage's largest value.
DEAD_RANGE = 1e-4


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment of two descriptions of the same samples, 1 when one is a turned or scaled other.

    ``||Y'X||² / (||X'X|| ||Y'Y||)`` with centred columns and Frobenius norms, in float64. It is 0 when one of the two
    does not vary, since then it has nothing in common with the other. With fewer samples than features it leans
    towards 1.

    Args:
        x: (n, p) features.
        y: (n, q) features of the same samples.

    Raises:
        UsageError: not two tables of the same samples.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    >>> round(linear_cka(x, 5 * x.flip(1) + 7), 6), linear_cka(x, torch.ones(3, 4))
    (1.0, 0.0)
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise UsageError(f"CKA needs (n, p) and (n, q) of the same samples, got {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = (table.double() - table.double().mean(dim=0) for table in (x, y))
    own = (_self_similarity(x) * _self_similarity(y)) ** 0.5
    return min(float((y.T @ x).square().sum()) / own, 1.0) if own > 0 else 0.0


def _self_similarity(centred: Tensor) -> float:
    """``||X'X||²`` by the smaller of the two products."""
    rows, columns = centred.shape
    return float((centred.T @ centred if columns <= rows else centred @ centred.T).square().sum())


def feature_report(
    before: nn.Module | None, after: nn.Module, images: Sequence[Tensor]
) -> tuple[dict[str, float] | None, dict[str, float]]:
    """Drift and dead channels of an encoder, by its stages (``stem``, ``layer1`` ...).

    Both networks look at the images in eval mode and without gradients, in the type and on the device of their own
    weights; every module's mode is restored. Drift is :func:`linear_cka` over voxel positions, thinned evenly to
    ``MAX_SAMPLES`` and the same for both networks. Dead is the share of a stage's channels whose values vary by less
    than ``DEAD_RANGE`` times the stage's largest absolute value, over all positions of all images.

    Args:
        before: The network as it was when fine-tuning began, or None (no drift is then given).
        after: The network as it is now; of the zoo, or holding one. Of a foreign network nothing is known: {}.
        images: (1, C, D, H, W) prepared as in training; sizes may differ.

    Returns:
        CKA by stage, None without ``before``; share of dead channels by stage.

    Raises:
        UsageError: there is no image.
        ModelError: the two encoders have different stages, or strides.

    >>> from medtransfer.model_zoo import ResNet
    >>> net = ResNet(10, 1, base_channels=4, stem_channels=4, num_stages=1)
    >>> drift, dead = feature_report(net, net, [torch.rand(1, 1, 12, 12, 12)])
    >>> {stage: round(value, 6) for stage, value in drift.items()}, list(dead)
    ({'stem': 1.0, 'layer1': 1.0}, ['stem', 'layer1'])
    """
    if not len(images):
        raise UsageError("features need at least one image")
    encoder = _encoder(after)
    if encoder is None:
        return (None if before is None else {}), {}
    names = stage_names(encoder)
    seen = _look(encoder, images, len(names))
    dead = {name: stage.dead_share() for name, stage in zip(names, seen, strict=True)}
    if before is None:
        return None, dead
    start = _encoder(before)
    if start is None or stage_names(start) != names:
        raise ModelError(f"drift needs two encoders with the stages {', '.join(names)}")
    earlier = _look(start, images, len(names))
    drift = {name: _drift(name, *pair) for name, *pair in zip(names, earlier, seen, strict=True)}
    return drift, dead


class _Stage:
    """What was seen of a stage: thinned positions, and the range of every channel."""

    def __init__(self) -> None:
        self.samples: list[Tensor] = []
        self.lowest: Tensor | None = None
        self.highest: Tensor | None = None

    def add(self, features: Tensor, quota: int) -> None:
        """Take in a map (1, C, D, H, W), of which at most ``quota`` positions are kept."""
        values = features.float().transpose(0, 1).flatten(1)
        lowest, highest = values.amin(dim=1), values.amax(dim=1)
        self.lowest = lowest if self.lowest is None else torch.minimum(self.lowest, lowest)
        self.highest = highest if self.highest is None else torch.maximum(self.highest, highest)
        kept = torch.linspace(0, values.shape[1] - 1, min(quota, values.shape[1])).round().long()
        self.samples.append(values[:, kept.to(values.device)].T.cpu())

    def dead_share(self) -> float:
        assert self.lowest is not None
        assert self.highest is not None
        largest = torch.maximum(self.lowest.abs(), self.highest.abs()).max()
        return float((self.highest - self.lowest <= DEAD_RANGE * largest).float().mean())


def _drift(name: str, before: _Stage, after: _Stage) -> float:
    if [len(part) for part in before.samples] != [len(part) for part in after.samples]:
        raise ModelError(f"the two encoders' maps of {name} have different sizes, so their positions cannot be paired")
    return linear_cka(torch.cat(before.samples), torch.cat(after.samples))


def _encoder(model: nn.Module) -> Network | None:
    return next(iter(zoo_networks(unwrapped(model))), None)


def _look(encoder: Network, images: Sequence[Tensor], num_stages: int) -> list[_Stage]:
    stages = [_Stage() for _ in range(num_stages)]
    weight = next(encoder.parameters())
    quota = max(1, MAX_SAMPLES // len(images))
    with _evaluating(encoder):
        for image in images:
            maps = encoder.features(image.to(weight.device, weight.dtype))
            for stage, features in zip(stages, maps, strict=True):
                stage.add(features, quota)
    return stages


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
