"""The config key ``compare`` as a checked object, and the arms that it asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args, get_type_hints

import msgspec

from ..errors import ConfigError
from ..finetune.plan import OWN_WORDS, FineTuning, read_finetune
from ..training.config import SECTION_KEYS, did_you_mean
from .results import SCRATCH

POLICIES: tuple[str, ...] = get_args(get_type_hints(FineTuning)["policy"])
#: what a policy of a comparison takes over from the config's own ``finetune``; from scratch, what says nothing of a
#: source's weights
SHARED_WORDS = (
    *("freeze", "freeze_except", "layer_decay", "head_lr_mult", "no_decay_norms"),
    *("l2sp", "l2sp_parts", "ema"),
)
SCRATCH_WORDS = ("no_decay_norms", "ema")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")

SourceWords: TypeAlias = dict[str, Any]


class Comparison(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is compared with training from scratch.

    Attributes:
        sources: By name: a weight file or model folder, or the words of ``transfer`` with its ``source``.
        policies: Words of ``finetune.policy``, or by name what ``finetune`` is to be.
        cases: Numbers of labelled cases to train on.
        seeds: Seeds of the training and of the choice of those cases.
        transfer: Words of ``transfer`` for all sources.
    """

    sources: dict[str, str | SourceWords] = {}
    policies: list[str] | dict[str, dict[str, Any]] = msgspec.field(default_factory=lambda: ["frozen", "lp_ft", "full"])
    cases: list[int] = msgspec.field(default_factory=lambda: [4, 8, 16, 32])
    seeds: list[int] = msgspec.field(default_factory=lambda: [0, 1, 2])
    transfer: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for name in ("policies", "cases", "seeds"):
            values = list(getattr(self, name))
            if not values:
                raise ValueError(f"`{name}` is empty")
            if len(set(values)) < len(values):
                raise ValueError(f"`{name}` names one twice: {', '.join(map(str, values))}")
        for name, lowest in (("cases", 1), ("seeds", 0)):
            if min(getattr(self, name)) < lowest:
                raise ValueError(f"`{name}` must be whole numbers from {lowest} on, got {getattr(self, name)}")


@dataclass(frozen=True)
class Arm:
    """One way to train: from where, and how.

    >>> Arm("genesis/lp_ft", "lp_ft", {"policy": "lp_ft"}, "genesis").file_name
    'genesis__lp_ft'
    """

    name: str
    policy: str
    finetune: Mapping[str, Any]
    source: str | None = None
    transfer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name as part of a file's."""
        return self.name.replace("/", "__")


def read_comparison(given: Mapping[str, Any] | None, **changes: Any) -> Comparison:
    """The config key ``compare``, with what the command line says on top (None: nothing).

    Raises:
        ConfigError: an unknown word, or a value of the wrong kind.

    >>> read_comparison(dict(sources=dict(genesis="weights/genesis.pt"), cases=[8]), seeds=[0, 1]).seeds
    [0, 1]
    """
    if not isinstance(given or {}, Mapping):
        raise ConfigError(f"compare must be a dict, got {given!r}", hint="For example compare=dict(cases=[4, 8])")
    chosen = {name: value for name, value in changes.items() if value is not None}
    policies = (given or {}).get("policies")
    if isinstance(policies, Mapping) and "policies" in chosen:
        chosen["policies"] = _named_policies(chosen["policies"], policies)
    words = {**(given or {}), **chosen}
    for word in words:
        if word not in SECTION_KEYS["compare"]:
            raise ConfigError(f"compare has no key {word!r}", hint=did_you_mean(word, SECTION_KEYS["compare"]))
    try:
        return msgspec.convert(msgspec.to_builtins(words, enc_hook=os.fspath), Comparison)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        hint = "Use sources=dict(NAME=PATH), policies=['frozen', 'full'], cases=[4, 8], seeds=[0, 1, 2]"
        raise ConfigError(f"compare: {error}", hint=hint) from error


def _named_policies(names: Sequence[str], policies: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the config's own policies that the command line names; a word of ``finetune`` is one as well."""
    for name in names:
        if name not in (*policies, *POLICIES):
            raise _unknown_policy(name, [*policies, *POLICIES])
    return {name: policies.get(name, {"policy": name}) for name in names}


def build_arms(
    comparison: Comparison, finetune: Mapping[str, Any] | None = None, transfer: Mapping[str, Any] | None = None
) -> list[Arm]:
    """From scratch, and every policy from every source.

    Args:
        comparison: What is compared.
        finetune, transfer: The config's own, of which the arms take over what they do not state.

    Raises:
        ConfigError: an unknown policy or word, or two arms whose files would have one name.
    """
    read_finetune(finetune)
    shared = {word: value for word, value in (finetune or {}).items() if word in SHARED_WORDS}
    kept = {word: value for word, value in shared.items() if word in SCRATCH_WORDS}
    arms = [Arm(SCRATCH, "full", {"policy": "full", **kept})]
    sources = _sources(comparison, transfer or {})
    for source, words in sources.items():
        for policy, tuning in _policies(comparison, finetune or {}):
            arms.append(Arm(f"{source}/{policy}", policy, _checked(policy, {**shared, **tuning}), source, words))
    _refuse_collisions(arms)
    return arms


def _sources(comparison: Comparison, transfer: Mapping[str, Any]) -> dict[str, SourceWords]:
    if not comparison.sources:
        hint = "Name one: compare=dict(sources=dict(NAME=PATH)), or --sources NAME=PATH"
        raise ConfigError("compare.sources is empty: there is nothing to compare with training from scratch", hint=hint)
    common = {word: value for word, value in transfer.items() if word != "source"}
    sources = {}
    for name, given in comparison.sources.items():
        _check_name("sources", name)
        words = {"source": given} if isinstance(given, str) else dict(given)
        sources[name] = {**common, **comparison.transfer, **words}
        _check_transfer(name, sources[name])
    return sources


def _check_transfer(name: str, words: Mapping[str, Any]) -> None:
    for word in words:
        if word not in SECTION_KEYS["transfer"]:
            reason = f"compare: the transfer from {name!r} has no key {word!r}"
            raise ConfigError(reason, hint=did_you_mean(word, SECTION_KEYS["transfer"]))
    if not isinstance(words.get("source"), str) or not words["source"]:
        raise ConfigError(f"compare.sources.{name} names no weights", hint="Name a weight file or a model folder")


def _policies(comparison: Comparison, finetune: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A policy that is only a word has its own words (``share`` of ``lp_ft``) from the config, if that has it too."""
    if isinstance(comparison.policies, Mapping):
        yield from comparison.policies.items()
        return
    for word in comparison.policies:
        if word not in POLICIES:
            raise _unknown_policy(word, POLICIES)
        yield word, {"policy": word, **{key: finetune[key] for key in OWN_WORDS.get(word, ()) if key in finetune}}


def _unknown_policy(word: str, known: Sequence[str]) -> ConfigError:
    return ConfigError(f"compare.policies: there is no policy {word!r}", hint=did_you_mean(word, known))


def _checked(policy: str, tuning: Mapping[str, Any]) -> dict[str, Any]:
    _check_name("policies", policy)
    try:
        read_finetune(tuning)
    except ConfigError as error:
        raise ConfigError(f"compare.policies.{policy}: {error.reason}", hint=error.hint) from error
    return dict(tuning)


def _check_name(where: str, name: str) -> None:
    if not _NAME.fullmatch(name) or name.lower() == SCRATCH:
        hint = f"Use letters, digits and . + _ - ({SCRATCH!r} is the training without a source)"
        raise ConfigError(f"compare.{where}: {name!r} cannot be a name", hint=hint)


def _refuse_collisions(arms: Sequence[Arm]) -> None:
    seen: dict[str, str] = {}
    for arm in arms:
        other = seen.setdefault(arm.file_name.lower(), arm.name)
        if other != arm.name:
            reason = f"compare: the arms {other} and {arm.name} would have one folder, {arm.file_name}"
            raise ConfigError(reason, hint="Rename the source or the policy")
