"""What a config may hold, out of what training checks it against; and the configs that are shipped."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from medtransfer.training import registry, run  # noqa: F401  # the second registers tasks, hooks and metrics
from medtransfer.training.check import OWN_KEYS, accepted_words
from medtransfer.training.config import SECTION_KEYS

from .examples import ROOT, sections
from .table import from_docstring, table

#: a test holds that no key is forgotten
MEANINGS = {
    "transfer": "weights to move in before the first step: arguments of `medtransfer.transfer`, `source` first",
    "finetune": "what trains, how fast, from which step on",
    "compare": "what `medtransfer compare` compares",
    "data_root": "the dataset: a folder, or a table",
    "boxes": "of a detector: one box a `class`, or one a connected `component` of a mask",
    "targets": "of several tasks: the columns of a table, and the head that each is for",
    "split": "who trains and who validates",
    "preprocessing": "orientation, spacing and intensities, given or measured",
    "patch_size": "voxels of a training patch along the axes of `preprocessing.orientation`; None for whole scans",
    "best_metric": "the score that chooses `best/`",
    "calibrate": "of a classifier: fit a temperature on the validation cases at the end",
    "card": "what people state of the model, for the card of `best/`",
    "trackers": "where a run also reports to",
    "medtransfer_version": "written by a run into its own config; an error of an old config names it",
}
#: the keys that name a type -> where it is looked up
REGISTRIES = {
    "`model` and `model.network`": registry.MODELS,
    "`dataset`": registry.DATASETS,
    "`sampler`": registry.DATA_SAMPLERS,
    "`val_evaluator`": registry.METRICS,
    "`default_hooks` and `custom_hooks`": registry.HOOKS,
    "`optim_wrapper`": registry.OPTIM_WRAPPERS,
    "`optim_wrapper.optimizer`": registry.OPTIMIZERS,
    "`param_scheduler`": registry.PARAM_SCHEDULERS,
    "`visualizer`": registry.VISUALIZERS,
    "`trackers`": registry.TRACKERS,
}


def keys() -> str:
    """The keys that are medtransfer's own, and the words within those that have a fixed set of them."""
    return table(["key", "is", "holds"], [[f"`{key}`", MEANINGS.get(key, ""), _words(key)] for key in OWN_KEYS])


def _words(key: str) -> str:
    return ", ".join(f"`{word}`" for word in SECTION_KEYS.get(key, ()))


def types() -> str:
    """Every type that a config may name and that the package itself brings, with its arguments."""
    return "\n\n".join(part for what, home in REGISTRIES.items() for part in _types_of(what, home.module_dict))


def _types_of(what: str, kinds: dict[str, Any]) -> Iterator[str]:
    if own := [_type(name, kind) for name, kind in sorted(kinds.items()) if _is_own(kind)]:
        yield f"### Types of {what}"
        yield "\n".join(own)


def _type(name: str, kind: Any) -> str:
    words = ", ".join(f"`{word}`" for word in dict.fromkeys(accepted_words(kind) or ()))
    return f"- **`{name}`**: {from_docstring(kind.__doc__)}{f' Arguments: {words}.' if words else ''}"


def _is_own(kind: Any) -> bool:
    # the catalog's names, of which there are hundreds, are partial functions
    return not isinstance(kind, partial) and str(inspect.getmodule(kind).__name__).startswith("medtransfer")  # type: ignore[union-attr]


def shipped() -> str:
    """Every config of configs/, and the parts they are made of."""
    leaves, parts = (sorted((ROOT / "configs").glob(pattern)) for pattern in ("*.py", "_base_/*/*.py"))
    return f"{sections(leaves, 3)}\n\n## Parts\n\n{sections(parts, 3)}"
