"""Whether a transfer helped: the same training from scratch and from sources, at equal budget, over cases and seeds."""
