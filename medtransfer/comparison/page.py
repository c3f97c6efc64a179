"""The page of a comparison: did the transfer help, and how many labelled cases is it worth?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..reporting.page import Section, Table, write_page
from ..reporting.words import counted
from .features import DEAD_RANGE, MAX_SAMPLES
from .gathered import Gathered, gather
from .measures import MEASURES
from .pictures import features_picture, loss_picture, scores_picture
from .record import stage_means, write_summary, write_table
from .resampling import DRAWS
from .results import RunResult
from .statistics import LEAST_SEEDS, Analysis, analyse
from .wording import answer, cases_listed, interval_words, score_words, worth_words

FEW_TEST_CASES = 20


def write_report(results: Sequence[RunResult], folder: Path, title: str) -> Path:
    """Write ``report.html`` with its pictures, ``table.csv`` (one row a run) and ``summary.json`` (all figures).

    Any part of a comparison will do: what is missing is listed. Files of an older report are replaced, each at once.

    Args:
        results: The finished runs.
        folder: Where to write; made if it is missing.
        title: The page's heading.

    Returns:
        The page's path.

    Raises:
        UsageError: there is no run.
        DatasetError: the runs cannot be compared.
        ResourceError: the disk is full or the folder cannot be written.
    """
    gathered, folder = gather(results), Path(folder)
    main, *others = (analyse(gathered, measure) for measure in MEASURES[gathered.first.task])
    lead = answer(main, gathered)
    sections = [
        _outcome(gathered, main, folder),
        _scores(gathered, main),
        _differences(main),
        *(_other_measure(gathered, analysis) for analysis in others),
        _training(gathered, folder),
        _features(gathered, folder),
        _missing(gathered),
        Section("How it was done", _method(gathered)),
        Section("What this does not show", _LIMITS),
    ]
    write_table(gathered, folder / "table.csv")
    write_summary(gathered, [main, *others], folder / "summary.json", title=title, answer=lead)
    shown = [section for section in sections if section]
    return write_page(folder / "report.html", title, shown, lead=lead, overwrite=True)


def _sizes_table(gathered: Gathered, caption: str, cells: dict[tuple[str, int], object]) -> Table:
    """Arms by numbers of labelled cases; an arm without any cell is left out."""
    arms = [arm for arm in gathered.arms if any((arm, size) in cells for size in gathered.sizes)]
    rows = [[arm, *(cells.get((arm, size)) for size in gathered.sizes)] for arm in arms]
    return Table(["arm", *(f"{counted(size, 'case')}" for size in gathered.sizes)], rows, caption)


_OUTCOME = """
An arm is a source of weights and a way of fine-tuning it; scratch is the same training from random weights. "Helps"
and "hurts" are said when the 95 % interval of the difference to scratch, with as many labelled cases, leaves out zero.

A score is worth the number of labelled cases with which scratch reaches it, read off the curve from scratch between
the measured numbers, and never beyond them.
"""


def _outcome(gathered: Gathered, analysis: Analysis, folder: Path) -> Section:
    verdicts = {(d.arm, d.training_cases): f"{d.verdict} ({d.value:+.3f})" for d in analysis.differences}
    worths = {(w.arm, w.training_cases): worth_words(w) for w in analysis.worths}
    against = f"Against scratch with as many labelled cases (difference in {analysis.measure})."
    needed = "Labelled cases that scratch needs for the arm's score, with 95 % intervals."
    tables = [_sizes_table(gathered, against, {**verdicts}), _sizes_table(gathered, needed, {**worths})]
    picture = scores_picture(gathered, analysis, folder)
    return Section("Did it help?", _OUTCOME, [table for table in tables if table.rows], [picture])


def _scores(gathered: Gathered, analysis: Analysis) -> Section:
    return Section(f"{analysis.measure} of every arm", "", _score_tables(gathered, analysis))


def _score_tables(gathered: Gathered, analysis: Analysis) -> list[Table]:
    scores = {(s.arm, s.training_cases): score_words(s, len(gathered.seeds)) for s in analysis.scores}
    spreads = {(s.arm, s.training_cases): s.spread for s in analysis.scores if s.spread is not None}
    test_cases = counted(len(gathered.test_cases), "test case")
    caption = f"Mean {analysis.measure} over {test_cases} and the seeds, with 95 % intervals."
    tables = [_sizes_table(gathered, caption, {**scores})]
    if spreads:
        caption = f"Standard deviation of the seeds' mean {analysis.measure}."
        tables.append(_sizes_table(gathered, caption, {**spreads}))
    return tables


def _differences(analysis: Analysis) -> Section | None:
    table = _difference_table(analysis)
    return Section("Differences to scratch", "", [table]) if table.rows else None


def _difference_table(analysis: Analysis) -> Table:
    ordered = sorted(analysis.differences, key=lambda difference: difference.training_cases)
    rows = [[d.training_cases, d.arm, len(d.seeds), f"{d.value:+.3f}", interval_words(d), d.verdict] for d in ordered]
    header = ["labelled cases", "arm", "seeds", "difference", "95 % interval", "verdict"]
    return Table(header, rows, f"{analysis.measure} less that of scratch, over the same seeds and test cases.")


def _other_measure(gathered: Gathered, analysis: Analysis) -> Section:
    tables = [*_score_tables(gathered, analysis), _difference_table(analysis)]
    return Section(f"The same by {analysis.measure}", "", [table for table in tables if table.rows])


def _training(gathered: Gathered, folder: Path) -> Section | None:
    picture = loss_picture(gathered, folder)
    return Section("Training", pictures=[picture]) if picture else None


_FEATURES = f"""
Drift is measured by linear CKA (Kornblith et al., ICML 2019) between the encoder's features before and after
fine-tuning, on the same images and at most {MAX_SAMPLES} positions of a stage: 1 is no change but turning and scaling,
0 nothing in common. Where a stage has fewer positions than channels it leans towards 1. What stays frozen stays at 1,
unless its norms went on learning statistics.

A channel is dead when its values over all images vary by less than {DEAD_RANGE:g} of the stage's largest value: it
tells nothing about any of them. Dead channels in a source are a reason to train the encoder, or to choose another.
"""


def _features(gathered: Gathered, folder: Path) -> Section | None:
    captions = {
        "drift": "Linear CKA to the start by stage, mean over all seeds and numbers of labelled cases.",
        "dead": "Share of dead channels by stage, mean over all seeds and numbers of labelled cases.",
    }
    tables = [_stage_table(gathered, what, caption) for what, caption in captions.items()]
    pictures = [features_picture(gathered, what, folder) for what in captions]
    shown = [table for table in tables if table.rows]
    if not shown:
        return None
    return Section("What became of the features", _FEATURES, shown, [picture for picture in pictures if picture])


def _stage_table(gathered: Gathered, what: str, caption: str) -> Table:
    means = {arm: stage_means([run for run in gathered.all_runs if run.arm == arm], what) for arm in gathered.arms}
    stages = list(dict.fromkeys(stage for by_stage in means.values() for stage in by_stage))
    rows = [[arm, *map(by_stage.get, stages)] for arm, by_stage in means.items() if by_stage]
    return Table(["arm", *stages], rows, caption)


def _missing(gathered: Gathered) -> Section | None:
    if not gathered.missing:
        return None
    wanted = len(gathered.missing) + len(gathered.all_runs)
    text = f"""
    {counted(len(gathered.missing), "run")} of {wanted} have not finished, or failed. The figures above are of the
    others; a difference is taken over the seeds that both sides have. Run the same command again to finish them.
    """
    return Section("Missing runs", text, [Table(["arm", "labelled cases", "seed"], gathered.missing)])


def _method(gathered: Gathered) -> str:
    runs, steps = gathered.all_runs, sorted({run.steps for run in gathered.all_runs})
    equal = f"Every run had {counted(steps[0], 'step')} of the optimizer, however many cases it had."
    unequal = f"Careful: the runs had different numbers of steps, from {steps[0]} to {steps[-1]}, not an equal budget."
    hours = sum(run.seconds for run in runs) / 3600
    versions = {name: found for run in runs for name, found in sorted(run.versions.items())}
    return "\n\n".join(
        [
            f"{counted(len(runs), 'run')} of {counted(len(gathered.arms), 'arm')} with {cases_listed(gathered.sizes)}, "
            f"{_seeds_words(gathered)}, {hours:.1f} hours of training in all. {unequal if steps[1:] else equal}",
            _METHOD,
            _intervals_words(gathered),
            f"Versions: {', '.join(map(' '.join, versions.items()))}." if versions else "",
        ]
    )


def _seeds_words(gathered: Gathered) -> str:
    return f"seed{'s' * (len(gathered.seeds) > 1)} {', '.join(map(str, gathered.seeds))}"


_METHOD = """
A seed draws the training cases (the 4 are among the 8, and so on) and all that is random in the training; all arms
have the same cases in the same seed. The test cases are the same for all runs and were never used for choosing:
neither weights nor settings nor the moment to stop, since the last weights of a run count.
"""


def _intervals_words(gathered: Gathered) -> str:
    parts = [
        f"Intervals hold 95 % of {DRAWS} redraws of test cases and of seeds, the same redraws for all arms, so that "
        "differences are paired. They say where the score would lie with other patients of this kind and other seeds. "
        "Seeds are too few to be drawn from themselves, so their share follows Student's distribution: three seeds "
        "give wide intervals, five much narrower ones."
    ]
    if len(gathered.seeds) == 1:
        parts.append("Here there is one seed: the intervals are about other patients only, and too narrow for a claim.")
    if 1 < len(gathered.seeds) < LEAST_SEEDS:
        parts.append(f"Below {LEAST_SEEDS} seeds nothing is claimed.")
    if len(gathered.test_cases) < FEW_TEST_CASES:
        parts.append(f"With {counted(len(gathered.test_cases), 'test case')} they are somewhat too narrow.")
    return " ".join(parts)


_LIMITS = """
It does not show how a model does on scans of other hospitals, scanners or patients than those in the test cases, nor
with a longer training: a budget that is right for one arm can be short for another, often for scratch.

Where many arms are compared, the best of them looks better than it is, and of forty comparisons without any effect one
will seem to help and one to hurt. Choose an arm here, then confirm it with new seeds or new cases.

"No difference shown" is not "equal": the interval says how large a difference could be.
"""
