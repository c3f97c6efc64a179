"""What a ranking advises, and of what it warns, from made-up scores."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medtransfer.ranking.ranking import Ranking, Rated, advise, cautions_of


def rated(name: str, score: float, best: float | None, above: float | None, spread: float | None = 0.1) -> Rated:
    interval = None if spread is None else (score - spread, score + spread)
    return Rated(name, "resnet18", score, interval, score, interval, best, above, coverage=1.0)


def ranked(*sources: Rated, untrained: float = -1.0) -> Ranking:
    nothing = replace(rated("untrained", untrained, None, None), coverage=None)
    return Ranking("data", "segmentation", {"background": 20, "organ": 20}, 20, 20, 480, "all", 0, 200, list(sources),
                   [nothing])  # fmt: skip


def test_a_clear_winner():
    ranking = ranked(rated("a", 1.0, 0.99, 1.0), rated("b", 0.0, 0.01, 1.0))
    assert advise(ranking.sources).startswith("Take a: ")
    assert list(cautions_of(ranking)) == []


def test_two_that_cannot_be_told_apart():
    ranking = ranked(rated("a", 1.0, 0.6, 1.0), rated("b", 0.95, 0.39, 1.0), rated("c", 0.0, 0.01, 1.0))
    assert advise(ranking.sources).startswith("Take a, or b: these cases do not tell")
    assert list(cautions_of(ranking)) == ["the intervals of a and b overlap"]


def test_no_better_than_random_weights():
    ranking = ranked(rated("a", 1.0, 0.99, 0.7), rated("b", 0.0, 0.01, 1.0))
    assert advise(ranking.sources).startswith("No source is surely better")
    assert list(cautions_of(ranking)) == ["hardly better than random weights in the same network: a"]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"patients": 9}, "9 patients only, fewer than 10"),
        ({"classes": {"background": 20, "cyst": 1}}, "the class 'cyst' has samples in 1 case only"),
        ({"untrained": [rated("untrained", 0.5, None, None)]}, "below a resnet18 with random weights, whose width"),
    ],
)
def test_thin_evidence_is_named(change, said):
    ranking = replace(ranked(rated("a", 1.0, 0.99, 1.0), rated("b", 0.0, 0.01, 1.0)), **change)
    (caution,) = cautions_of(ranking)
    assert caution.startswith(said)


def test_an_encoder_that_is_not_filled_is_named():
    first = replace(rated("a", 1.0, 0.99, 1.0), coverage=0.5)
    (caution,) = cautions_of(ranked(first, rated("b", 0.0, 0.01, 1.0)))
    assert caution.endswith("the source fills less than all: a 50%")


def test_the_h_score_disagrees():
    low = replace(rated("a", 1.0, 0.99, 1.0), h_score=-1.0)
    (caution,) = cautions_of(ranked(low, rated("b", 0.0, 0.01, 1.0)))
    assert caution.startswith("the H-score puts b first")
