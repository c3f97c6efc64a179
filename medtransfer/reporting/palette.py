"""Colours that stay apart for colour-blind readers: Okabe and Ito's eight, then Paul Tol's muted set."""

from __future__ import annotations

# Okabe and Ito (2008), https://jfly.uni-koeln.de/color/ without black, which vanishes on a scan; then Tol (2021), muted
PALETTE = (
    "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2",
    "#88ccee", "#ddcc77", "#44aa99", "#aa4499", "#999933", "#cc6677", "#332288", "#117733", "#882255",
)  # fmt: skip


def class_colour(label: int) -> str:
    """Hex colour of a foreground label (1, 2, ...); the palette starts again after its last colour.

    >>> class_colour(1)
    '#56b4e9'
    >>> class_colour(1) == class_colour(1 + len(PALETTE))
    True
    """
    return PALETTE[(label - 1) % len(PALETTE)]
