"""The config key ``finetune`` as a checked object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from ..errors import ConfigError
from .parts import ENCODER

Words: TypeAlias = str | list[str]

#: words that belong to one policy only
OWN_WORDS = {"lp_ft": ("share",), "gradual": ("every",), "lora": ("rank", "alpha", "pattern")}


class FineTuning(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What trains, when and how fast.

    Attributes:
        policy: ``full``, ``frozen`` (all but the encoder trains), ``head``, ``lp_ft``, ``gradual``, see
            :func:`~medtransfer.finetune.phases.build_phases`; or ``lora``, see
            :func:`~medtransfer.finetune.lora.add_lora`.
        share: Of ``lp_ft``: share of the steps before the encoder trains.
        every: Of ``gradual``: epochs from one stage to the next.
        rank, alpha, pattern: Of ``lora``.
        freeze, freeze_except: Parts that stay frozen in any case, and what of them does not, in the words of
            :func:`medtransfer.freeze`.
        layer_decay, head_lr_mult, no_decay_norms: See :func:`medtransfer.param_groups`.
        l2sp, l2sp_parts: Strength of the penalty for leaving the source weights, see
            :class:`~medtransfer.finetune.l2sp.SourcePenalty`, and the parts that it holds in place of weight decay:
            the encoder, unless more came from the source.
        ema: Decay of the moving average of the weights that are validated and saved as ``best``, such as 0.999.
    """

    policy: Literal["full", "frozen", "head", "lp_ft", "gradual", "lora"] = "full"
    share: float = 0.25
    every: float = 1.0
    rank: int = 8
    alpha: float | None = None
    pattern: Words | None = None
    freeze: Words = msgspec.field(default_factory=list)
    freeze_except: Words = msgspec.field(default_factory=list)
    layer_decay: float | None = None
    head_lr_mult: float = 1.0
    no_decay_norms: bool = True
    l2sp: float | None = None
    l2sp_parts: Words = msgspec.field(default_factory=lambda: [ENCODER])
    ema: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"`share` must be above 0 and below 1, got {self.share}")
        for name in ("every", "rank", "head_lr_mult", "alpha", "l2sp"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"`{name}` must be a number above 0, got {value}")
        if self.freeze_except and not self.freeze:
            raise ValueError("`freeze_except` needs `freeze`, from which it leaves out")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must be above 0 and at most 1, got {self.layer_decay}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"`ema` must be above 0 and below 1, such as 0.999, got {self.ema}")


def read_finetune(given: Mapping[str, Any] | FineTuning | None) -> FineTuning | None:
    """The config key ``finetune``; None where it is left away.

    Raises:
        ConfigError: an unknown word, a value of the wrong kind, or a word that the policy does not take.

    >>> read_finetune(dict(policy="lp_ft", share=0.3)).share
    0.3
    >>> read_finetune(dict(policy="full", share=0.3))
    Traceback (most recent call last):
    ...
    medtransfer.errors.ConfigError: finetune: share belongs to policy='lp_ft', got policy='full'
    """
    if given is None or isinstance(given, FineTuning):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"finetune must be a dict, got {given!r}", hint="For example finetune=dict(policy='lp_ft')")
    try:
        plan = msgspec.convert(msgspec.to_builtins(dict(given)), FineTuning)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        hint = f"It takes {', '.join(field.name for field in msgspec.structs.fields(FineTuning))}"
        raise ConfigError(f"finetune: {error}", hint=hint) from error
    if "l2sp_parts" in given and plan.l2sp is None:
        raise ConfigError("finetune: l2sp_parts needs l2sp, the strength of the penalty")
    for policy, words in OWN_WORDS.items():
        for word in words:
            if word in given and plan.policy != policy:
                raise ConfigError(f"finetune: {word} belongs to policy={policy!r}, got policy={plan.policy!r}")
    return plan
