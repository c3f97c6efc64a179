"""What predictions of each task become: files, tables, and what may be asked for. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..checkpoint.card import MULTITASK, ModelCard
from ..errors import UsageError
from ..reporting.boxes_table import NAME as BOXES
from ..reporting.label_tables import LABEL_TABLES
from ..reporting.predictions import NAME as PREDICTIONS

LABELS = LABEL_TABLES[0]


@dataclass(frozen=True)
class Kind:
    """A task, as the files of its predictions show it.

    Args:
        maker: What a network of this task is called.
        map: What the name of a case's map ends in; empty where there is none.
        tables: Files of a whole batch.
        can: Options that make sense for it, of those that not all have.
    """

    maker: str
    map: str = ""
    tables: tuple[str, ...] = ()
    can: frozenset[str] = frozenset()


KINDS = {
    "segmentation": Kind(
        "segmenter", ".nii.gz", LABEL_TABLES, frozenset({"save_probabilities", "view", "also", "bids", "crop"})
    ),
    "classification": Kind("classifier", "", (LABELS, PREDICTIONS), frozenset({"cam", "crop"})),
    "regression": Kind("regression", "", (PREDICTIONS,)),
    "detection": Kind("detector", "_boxes.nii.gz", (*LABEL_TABLES, BOXES), frozenset({"view", "crop", "score"})),
}
#: what is for one result a case
_OF_ONE = frozenset({"cam", "bids", "view"})


@dataclass(frozen=True)
class Head:
    """One result of a network: its task, and the names of its classes or quantities; ``name`` is empty of an only one.

    >>> Head("organs", "segmentation", ("background", "liver")).suffix
    '_organs'
    """

    name: str
    task: str
    classes: Sequence[str]

    @property
    def kind(self) -> Kind:
        """What its files are."""
        return KINDS[self.task]

    @property
    def suffix(self) -> str:
        """What stands between the case's name and the endings of its files."""
        return f"_{self.name}" if self.name else ""

    @property
    def tables(self) -> list[str]:
        """Files of a whole batch.

        >>> Head("ill", "classification", ("no", "yes")).tables
        ['labels_ill.json', 'predictions_ill.csv']
        """
        return [re.sub("^[a-z]+", rf"\g<0>{self.suffix}", name) for name in self.kind.tables]

    def maps(self, probabilities: bool = False) -> list[str]:
        """Endings of the files with a case's result; its record is not among them.

        >>> Head("", "segmentation", ("background", "liver")).maps(probabilities=True)
        ['.nii.gz', '_probabilities.nii.gz']
        """
        shares = ["_probabilities.nii.gz"] * (probabilities and "save_probabilities" in self.kind.can)
        return [f"{self.suffix}{ending}" for ending in [self.kind.map, *shares] if ending]


def heads_of(card: ModelCard) -> list[Head]:
    """What the network of a card gives: one result, or one a head.

    >>> from medtransfer.checkpoint.card import Architecture
    >>> card = ModelCard(task="classification", architecture=Architecture("resnet10"), input_channels=["CT"],
    ...                  classes=["well", "ill"])
    >>> heads_of(card)
    [Head(name='', task='classification', classes=['well', 'ill'])]
    """
    if card.task == MULTITASK:
        return [Head(name, head.task, head.classes) for name, head in (card.heads or {}).items()]
    return [Head("", card.task, card.classes)]


def _abilities(card: ModelCard) -> frozenset[str]:
    """The options that make sense for a network, of those that not all have."""
    kinds = [head.kind for head in heads_of(card)]
    if card.task != MULTITASK:
        return kinds[0].can
    able = frozenset[str]().union(*(kind.can for kind in kinds)) - _OF_ONE
    # what is cropped is cropped for all heads
    return able if all(kind.map for kind in kinds) else able - {"crop"}


def _who_can(option: str) -> str:
    """The networks that an option is for, in words."""
    return " or a ".join(kind.maker for kind in KINDS.values() if option in kind.can)


def refuse_unable(card: ModelCard, asked: Mapping[str, bool]) -> None:
    """Raise if an option is asked for that makes no sense for a model.

    Raises:
        UsageError: it does; the message says for which models it is.
    """
    able = _abilities(card)
    wrong = next((option for option, wanted in asked.items() if wanted and option not in able), None)
    if wrong is not None:
        reason = f"{wrong} is for a {_who_can(wrong)}, the model is made for {card.task}"
        raise UsageError(reason, hint="Leave it out")
