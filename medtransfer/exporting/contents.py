"""What stands beside the graph in an exported file: the model's card, and in words what the graph does not do."""

from __future__ import annotations

import msgspec

from ..checkpoint.card import CARD_NAME, ModelCard, format_card
from ..checkpoint.readme import intensity_words
from ..version import __version__
from .axes import Axes

FACTS_NAME = "export.json"
_AFTER = {
    "segmentation": "argmax over the logits gives the labels, softmax the probabilities",
    "classification": "softmax over the logits gives the probabilities",
    "regression": "the outputs are values in their own units",
    "restoration": "the output is the scan given back, in scaled intensities",
}


def texts_of(card: ModelCard, axes: Axes) -> dict[str, str]:
    """File name -> text: ``model.json``, the card as model folders have it, and ``export.json``.

    Raises:
        CheckpointError: a card that a reader would refuse.
    """
    facts = {"medtransfer": __version__, "axes": axes.described(), "not_included": not_included(card, axes)}
    return {CARD_NAME: format_card(card).decode(), FACTS_NAME: msgspec.json.encode(facts).decode()}


def not_included(card: ModelCard, axes: Axes) -> list[str]:
    """What a scan needs before and behind the network, in the order in which it is done.

    >>> from medtransfer.checkpoint.card import Architecture
    >>> card = ModelCard(task="classification", architecture=Architecture("resnet10"), input_channels=["CT"],
    ...                  classes=["healthy", "ill"], temperature=2.0)
    >>> not_included(card, Axes(1, (32, 32, 32)))[-1]
    'after: softmax over the logits divided by 2 gives the probabilities'
    """
    before = [
        f"orientation: axes flipped and permuted to {card.orientation}",
        f"spacing: resampled to {_by(card.spacing)} mm, trilinear" if card.spacing else "spacing: as scanned",
        f"intensities: {intensity_words(card)}",
    ]
    if axes.spatial_size is None:
        wanted = "; ".join(f"{name} {axes.described()[name]}" for name in axes.names)
        before.append(f"size: padded with 0 on both sides ({wanted})")
    return [*(f"before: {text}" for text in before), *(f"after: {text}" for text in _after(card))]


def _after(card: ModelCard) -> list[str]:
    heads: list[tuple[str, str]] = [(f"{name}: ", head.task) for name, head in (card.heads or {}).items()] or [
        ("", card.task)
    ]
    texts = [f"{name}{_AFTER[task]}" for name, task in heads]
    if card.temperature:
        texts = [text.replace("the logits", f"the logits divided by {card.temperature:g}") for text in texts]
    mapped = any(task in ("segmentation", "restoration") for _, task in heads)
    return [*texts, *(["padding cut off, and back to the scan's own grid"] if mapped else [])]


def _by(numbers: list[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
