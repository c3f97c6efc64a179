"""A penalty for going away from the source weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .parts import source_part, unwrapped
from .select import What, select


class SourcePenalty:
    """L2-SP: ``alpha / 2`` times the squared distance of parameters from what they are now.

    It stands in place of weight decay on them (``param_groups(..., no_decay="encoder")``). What is frozen costs
    nothing.

    Args:
        model: A network that holds its source weights.
        alpha: Strength.
        what: Which parameters, in the words of :func:`medtransfer.freeze`; the encoder when None, or everything where
            no encoder is known.

    Attributes:
        source: Name -> the value that is remembered.

    Raises:
        UsageError: ``alpha`` is no number above 0.

    Source: Li et al., ICML 2018 (there alpha is 0.1 to 0.01).

    >>> layer = nn.Linear(2, 2)
    >>> penalty = SourcePenalty(layer, alpha=1.0)
    >>> with torch.no_grad():
    ...     _ = layer.weight.add_(3.0)
    >>> float(penalty().detach())
    18.0
    """

    def __init__(self, model: nn.Module, alpha: float = 0.01, what: What | None = None) -> None:
        if not 0 < alpha < float("inf"):
            raise UsageError(f"alpha must be a number above 0, got {alpha!r}")
        model = unwrapped(model)
        self.alpha = alpha
        self._parameters = select(model, source_part(model) if what is None else what).by_name
        self.source = {name: p.detach().clone() for name, p in self._parameters.items()}

    def __call__(self) -> Tensor:
        """The penalty, a number with gradients."""
        moving = [(p, self.source[name]) for name, p in self._parameters.items() if p.requires_grad]
        terms = [(p - source.to(p.device)).float().square().sum() for p, source in moving]
        return 0.5 * self.alpha * torch.stack(terms).sum() if terms else torch.zeros(())

    def load(self, source: Mapping[str, Tensor]) -> None:
        """Remember these values in place of the present ones, to go on with a run.

        Raises:
            UsageError: they are of other parameters.
        """
        if {k: v.shape for k, v in source.items()} != {k: v.shape for k, v in self.source.items()}:
            raise UsageError("the source weights of the penalty are of other parameters")
        self.source = {name: value.detach().clone() for name, value in source.items()}
