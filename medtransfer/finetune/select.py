"""Parameters and norms by name, stage or type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from torch import nn

from ..errors import ModelError, UsageError
from .parts import names_of, unwrapped, zoo_networks
from .statistics import has_statistics, hold, release

#: a regex or the name of a stage or module, a type of modules, or several of them
What = str | type[nn.Module] | Iterable["str | type[nn.Module]"]


@dataclass
class Parameters:
    """Parameters of a network with their names, and the norms that belong to them.

    Iterates over the parameters, each once, however many names it has. Printed, it lists them with their shapes.

    Attributes:
        model: The network.
        by_name: Name -> parameter.
        norms: Name -> norm with running statistics of which a tensor was collected.
    """

    model: nn.Module
    by_name: dict[str, nn.Parameter] = field(default_factory=dict)
    norms: dict[str, nn.Module] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The full names, in the network's order."""
        return list(self.by_name)

    def __iter__(self) -> Iterator[nn.Parameter]:
        return iter(self.by_name.values())

    def __len__(self) -> int:
        return len(self.by_name)

    def __str__(self) -> str:
        lines = [f"  {name} {tuple(p.shape)}{'' if p.requires_grad else ' frozen'}" for name, p in self.by_name.items()]
        return "\n".join([f"{len(self)} parameters, {sum(p.numel() for p in self):,} values (", *lines, ")"])

    def freeze(self, norm_stats: bool = True) -> Parameters:
        """No gradients, so that optimizers leave them alone; running statistics that survive ``train()``."""
        for parameter in self:
            parameter.requires_grad = False
            # with an old gradient, momentum or weight decay would still move it
            parameter.grad = None
        for norm in self.norms.values() if norm_stats else ():
            hold(norm)
        return self

    def unfreeze(self, norm_stats: bool = True) -> Parameters:
        """Gradients again, and running statistics that move in training.

        Raises:
            ModelError: the network was built with ``frozen_stages`` and would freeze them at its next ``train()``.
        """
        _refuse_built_frozen(self)
        for parameter in self:
            parameter.requires_grad = True
        for norm in self.norms.values() if norm_stats else ():
            release(norm, self.model.training)
        return self

    def without(self, other: Parameters) -> Parameters:
        """Those that are not in the other collection."""
        left, norms = {id(p) for p in other}, {id(norm) for norm in other.norms.values()}
        return Parameters(
            self.model,
            {name: p for name, p in self.by_name.items() if id(p) not in left},
            {name: norm for name, norm in self.norms.items() if id(norm) not in norms},
        )


def collect_params(model: nn.Module, pattern: str = ".*") -> Parameters:
    """Parameters whose full name matches a regex from its start, as GluonCV's ``collect_params`` has it.

    A parameter that is shared counts once, under the first of its names that matches.

    Args:
        model: Any network.
        pattern: For ``re.match``: ``"layer1"`` finds ``layer1.0.conv1.weight`` and not ``x.layer1.weight``;
            ``"(?!head).*"`` finds all whose name does not begin with ``head``.

    Returns:
        A collection with ``.freeze()``, ``.unfreeze()`` and ``.names``; it may be empty.

    Raises:
        UsageError: the pattern is no regex.

    Source: GluonCV and MXNet, ``Block.collect_params``.

    >>> net = nn.Sequential()
    >>> net.add_module("features", nn.Conv3d(1, 2, 3))
    >>> net.add_module("head", nn.Conv3d(2, 3, 1))
    >>> collect_params(net, "(?!head).*").freeze().names
    ['features.weight', 'features.bias']
    >>> print(collect_params(net, "feat"))
    2 parameters, 56 values (
      features.weight (2, 1, 3, 3, 3) frozen
      features.bias (2,) frozen
    )
    """
    matches = _regex(pattern).match
    return _collect(unwrapped(model), lambda name, _: bool(matches(name)))


def select(model: nn.Module, what: What | None) -> Parameters:
    """What a user means by a word.

    A word is tried as the name of a stage (see :func:`~medtransfer.finetune.parts.names_of`) or of a module, then as a
    regex of tensors' full names, from their start, then as a regex of whole names of stages, then as the name of a type
    of modules (``"BatchNorm3d"``); such a type itself stands for all of them. Several words add up, None is everything.

    Raises:
        UsageError: a word stands for nothing in this network; the stages are listed.

    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("resunet10", base_channels=4, stem_channels=4)
    >>> len(select(net, "layer1")), len(select(net, ["stem", "layer[12]"])), len(select(net, nn.BatchNorm3d).norms)
    (6, 18, 28)
    """
    model = unwrapped(model)
    if what is None:
        return _collect(model, lambda name, _: True)
    found: set[int] = set()
    for word in [what] if isinstance(what, str | type) else what:
        one = _select_word(model, word)
        found |= {id(thing) for thing in (*one, *one.norms.values())}
    # in the network's order and each once: two words may find a shared parameter under two names
    return _collect(model, lambda _, thing: id(thing) in found)


def _select_word(model: nn.Module, word: str | type[nn.Module]) -> Parameters:
    if isinstance(word, type):
        found = _inside(model, [module for module in model.modules() if isinstance(module, word)])
        return found if len(found) or found.norms else _refuse(model, word.__name__)
    stages, modules = names_of(model), dict(model.named_modules(remove_duplicate=False))
    if word and (word in stages or word in modules):
        return _inside(model, stages.get(word) or [modules[word]])
    pattern = _regex(word)
    found = _collect(model, lambda name, _: bool(pattern.match(name)))
    if not (len(found) or found.norms):
        named = [module for name, parts in stages.items() if pattern.fullmatch(name) for module in parts]
        named = named or [module for module in model.modules() if type(module).__name__ == word]
        found = _inside(model, named)
    return found if len(found) or found.norms else _refuse(model, word)


def _inside(model: nn.Module, modules: Iterable[nn.Module]) -> Parameters:
    inner = [part for module in modules for part in module.modules()]
    found = {id(part) for part in inner} | {id(p) for part in inner for p in part.parameters(recurse=False)}
    return _collect(model, lambda _, thing: id(thing) in found)


def _refuse(model: nn.Module, word: str) -> Parameters:
    known = list(names_of(model)) or [name for name, _ in model.named_children()]
    near = difflib.get_close_matches(word, known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known[:24])}; or a regex of full names"
    raise UsageError(f"{word!r} stands for no part of this {type(model).__name__}", hint=hint)


def _collect(model: nn.Module, wanted: Callable[[str, object], bool]) -> Parameters:
    """Parameters, and norms of which a tensor is wanted, each under the first of its names that is."""
    found = Parameters(model)
    seen: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in seen and wanted(name, parameter):
            seen.add(id(parameter))
            found.by_name[name] = parameter
    for name, norm in model.named_modules(remove_duplicate=False):
        if has_statistics(norm) and id(norm) not in seen and _wants_norm(name, norm, wanted):
            seen.add(id(norm))
            found.norms[name] = norm
    return found


def _wants_norm(name: str, norm: nn.Module, wanted: Callable[[str, object], bool]) -> bool:
    tensors = [key for key, _ in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False))]
    prefix = f"{name}." if name else ""
    return wanted(name, norm) or any(wanted(prefix + key, None) for key in tensors)


def _refuse_built_frozen(chosen: Parameters) -> None:
    wanted = {id(parameter) for parameter in chosen}
    for network in zoo_networks(chosen.model):
        stages = network.stages()[: network.frozen_stages + 1]
        if any(id(parameter) in wanted for stage in stages for parameter in stage.parameters()):
            reason = f"the network was built with frozen_stages={network.frozen_stages}, which its train() applies"
            raise ModelError(reason, hint="Set its frozen_stages to -1 first, and freeze by name")


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regex: {error}", hint="See Python's re for the syntax") from error
