"""Random halves: whose rows they hold, and that their spread is that of a mean over other cases."""

from __future__ import annotations

import numpy as np
import pytest

from medtransfer.ranking.halves import about_score, draw_halves, interval_of, probabilities_best, probability_better


def test_rows_of_a_group_go_together_and_once():
    groups = [f"case {row // 3}" for row in range(21)]
    halves = draw_halves(groups, [0] * 21, np.random.default_rng(0), 30)
    for rows in halves.rows:
        assert len(set(rows.tolist())) == len(rows) == 9
        assert all(groups.count(groups[row]) == sum(groups[row] == groups[other] for other in rows) for row in rows)


def test_every_half_has_every_stratum():
    groups, strata = list(range(9)), [0] * 6 + [1] * 2 + [2]
    halves = draw_halves(groups, strata, np.random.default_rng(0), 10)
    for rows in halves.rows:
        assert sorted(strata[row] for row in rows) == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("count", [8, 9])
def test_the_spread_of_a_mean_is_its_standard_error(count):
    values = np.random.default_rng(0).normal(size=count)
    halves = draw_halves(range(count), [0] * count, np.random.default_rng(1), 4000)
    means = about_score(values.mean(), np.array([values[rows].mean() for rows in halves.rows]), halves.scale)
    assert means.mean() == pytest.approx(values.mean())
    assert means.std() == pytest.approx(values.std(ddof=1) / count**0.5, rel=0.05)


def test_one_group_says_nothing_about_others():
    halves = draw_halves(["a", "a"], [0, 0], np.random.default_rng(0), 10)
    assert halves.rows == ()
    nothing = about_score(1.0, np.array([]), halves.scale)
    assert interval_of(nothing) is None
    assert probabilities_best(nothing[None]) == [None]
    assert probability_better(nothing, nothing[None]) is None


def test_probabilities():
    replicates = np.array([[3.0, 1.0, 2.0, 2.0], [1.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.0]])
    assert probabilities_best(replicates) == [0.625, 0.25, 0.125]
    assert probability_better(replicates[0], replicates[1:]) == pytest.approx(6 / 8)
