"""What the figures say, in words: numbers with their intervals, and the answer to whether it helped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..reporting.words import counted
from .gathered import SCRATCH, Gathered
from .statistics import HELPS, HURTS, LEAST_SEEDS, TOO_FEW_SEEDS, Analysis, Difference, Score, Worth

#: chance that an arm as good as scratch is called better: half of what a 95 % interval leaves out
CHANCE_HELP = 0.025


def score_words(score: Score | None, num_seeds: int = 0) -> str | None:
    """``0.812 (0.790 to 0.834)``, with the number of seeds where it is below ``num_seeds``.

    >>> score_words(Score("full", 8, (0,), 0.8125, 0.79, 0.834, None), 3)
    '0.812 (0.790 to 0.834), 1 seed'
    """
    if score is None or math.isnan(score.value):
        return None
    fewer = f", {counted(len(score.seeds), 'seed')}" if len(score.seeds) < num_seeds else ""
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f}){fewer}"


def difference_words(difference: Difference) -> str:
    """The difference with its interval, for a sentence.

    >>> difference_words(Difference("full", 8, (0, 1, 2), -0.0311, -0.052, 0.01, "no difference shown"))
    '-0.031 (95 % interval -0.052 to +0.010)'
    """
    return f"{difference.value:+.3f} (95 % interval {interval_words(difference)})"


def interval_words(difference: Difference) -> str:
    """``+0.010 to +0.052``."""
    return f"{difference.low:+.3f} to {difference.high:+.3f}"


def worth_words(worth: Worth | None) -> str | None:
    """``21 (12 to >32)``; None where there is nothing to say.

    >>> worth_words(Worth("full", 8, (0, 1, 2), 5.28, float("-inf"), float("inf"), (4, 32)))
    '5.3 (<4 to >32)'
    """
    if worth is None:
        return None
    value, low, high = (cases_words(number, worth.sizes) for number in (worth.value, worth.low, worth.high))
    return value if value == low == high else f"{value} ({low} to {high})"


def cases_words(number: float, sizes: tuple[int, int]) -> str:
    """A number of cases, or on which side of the measured sizes it lies.

    >>> cases_words(21.4, (4, 32)), cases_words(4.0, (4, 32)), cases_words(float("inf"), (4, 32))
    ('21', '4', '>32')
    """
    if math.isinf(number):
        return f">{sizes[1]}" if number > 0 else f"<{sizes[0]}"
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")


def answer(analysis: Analysis, gathered: Gathered) -> str:
    """Whether it helped and what it is worth, in a few sentences; says so where the runs cannot tell."""
    if SCRATCH not in gathered.arms:
        return "No run from scratch is finished, so whether the transfer helped cannot be said yet."
    if not analysis.differences:
        return "No transfer has finished where scratch has too, so whether it helped cannot be said yet."
    found = {word: [d for d in analysis.differences if d.verdict == word] for word in (HELPS, HURTS, TOO_FEW_SEEDS)}
    if len(found[TOO_FEW_SEEDS]) == len(analysis.differences):
        return _too_few_seeds(analysis)
    if found[HELPS]:
        return _helped(analysis, found)
    return _no_help(analysis, found)


def _too_few_seeds(analysis: Analysis) -> str:
    best = max(analysis.differences, key=lambda difference: difference.value)
    most = max(len(difference.seeds) for difference in analysis.differences)
    return (
        f"Too few seeds to say whether it helped: there {'is' if most == 1 else 'are'} {counted(most, 'seed')}, and "
        f"{LEAST_SEEDS} are the least. So far {best.arm} did best against scratch, {difference_words(best)} "
        f"{analysis.measure} with {cases_counted(best.training_cases)}{_worth_clause(analysis, best)}."
    )


def _helped(analysis: Analysis, found: dict[str, list[Difference]]) -> str:
    helps = found[HELPS]
    best = max(helps, key=lambda d: (sum(other.arm == d.arm for other in helps), d.value))
    own = [difference for difference in helps if difference.arm == best.arm]
    sizes = cases_listed([difference.training_cases for difference in own])
    gains = in_a_row([f"{difference.value:.3f}" for difference in own])
    sentences = [
        f"Yes: {best.arm} scored higher than scratch with {sizes}, by {gains} {analysis.measure}.",
        *_needs(analysis, own),
        _tally(analysis, found),
    ]
    expected = CHANCE_HELP * len(analysis.differences)
    if len(helps) <= math.ceil(expected):
        sentences.append(f"So few can be chance: about {expected:.1f} would seem to help if none did.")
    return " ".join(sentences)


def _needs(analysis: Analysis, differences: Sequence[Difference]) -> Iterator[str]:
    """The sentence on what the scores are worth, where that can be said."""
    found = [analysis.worth(difference.arm, difference.training_cases) for difference in differences]
    worths = [worth for worth in found if worth]
    if worths:
        needs = in_a_row([cases_words(worth.value, worth.sizes) for worth in worths])
        ends = in_a_row([f"{cases_words(w.low, w.sizes)} to {cases_words(w.high, w.sizes)}" for w in worths])
        many = "s" * (len(worths) > 1)
        score = "these scores" if many else "that score"
        yield f"Scratch needs about {needs} labelled cases for {score} (95 % interval{many} {ends})."


def _no_help(analysis: Analysis, found: dict[str, list[Difference]]) -> str:
    best = max(analysis.differences, key=lambda difference: difference.value)
    opening = "No, it hurt" if found[HURTS] else "It was not shown to help"
    widest = max((d.high - d.low) / 2 for d in analysis.differences)
    closing = "" if found[HURTS] else f" Effects smaller than about {widest:.2f} {analysis.measure} can hide here."
    return (
        f"{opening}: no arm scored higher than scratch beyond chance. The best was {best.arm} with "
        f"{cases_counted(best.training_cases)}, {difference_words(best)} {analysis.measure}"
        f"{_worth_clause(analysis, best)}. {_tally(analysis, found)}{closing}"
    )


def _tally(analysis: Analysis, found: dict[str, list[Difference]]) -> str:
    total = len(analysis.differences)
    parts = [f"{len(found[HELPS])} help{'s' * (len(found[HELPS]) == 1)}"]
    parts.append(f"{len(found[HURTS])} hurt{'s' * (len(found[HURTS]) == 1)}")
    if found[TOO_FEW_SEEDS]:
        parts.append(f"{len(found[TOO_FEW_SEEDS])} had too few seeds")
    rest = total - sum(map(len, found.values()))
    return f"Of {counted(total, 'comparison')} with scratch {', '.join(parts)}; in {rest} no difference was shown."


def _worth_clause(analysis: Analysis, difference: Difference) -> str:
    worth = analysis.worth(difference.arm, difference.training_cases)
    if worth is None:
        return ""
    low, high = (cases_words(number, worth.sizes) for number in (worth.low, worth.high))
    range_text = "" if low == high else f" (by the interval it needs {low} to {high})"
    if worth.value > worth.sizes[1]:
        return f", more than scratch reached with {worth.sizes[1]}{range_text}"
    if worth.value < worth.sizes[0]:
        return f", less than scratch reached with {worth.sizes[0]}{range_text}"
    return f"; scratch needs about {cases_words(worth.value, worth.sizes)} for that score ({low} to {high})"


def cases_counted(number: int) -> str:
    """``8 labelled cases``."""
    return counted(number, "labelled case")


def cases_listed(sizes: Sequence[int]) -> str:
    """Numbers of cases in a row.

    >>> cases_listed([4, 8, 16]), cases_listed([1])
    ('4, 8 and 16 labelled cases', '1 labelled case')
    """
    noun = "labelled case" if list(sizes) == [1] else "labelled cases"
    return f"{in_a_row(list(map(str, sizes)))} {noun}"


def in_a_row(words: Sequence[str]) -> str:
    """Words with commas and an "and".

    >>> in_a_row(["a", "b", "c"]), in_a_row(["a"])
    ('a, b and c', 'a')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
