"""A comparison from its config to its report: run after run, in any number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..errors import MedTransferError, OutputExistsError, ResourceError, UsageError
from ..files import write_json
from ..training.check import check_options
from ..training.config import parse_options, read_config
from ..training.lock import held
from . import identity
from .attempt import reduce_folder, train_and_score
from .page import write_report
from .plan import read_comparison
from .results import SUFFIX, read_results, result_files, write_result
from .runs import Plan, Run, plan_runs
from .scores import check_cases, in_words
from .start import check_starts

MAX_WAIT = 120.0  # seconds, for what another process writes


@dataclass(frozen=True)
class Outcome:
    """What became of a comparison.

    Attributes:
        folder: The comparison's.
        runs: How many were planned.
        finished: How many have a result.
        failed: Name of the run -> why it failed.
        unfinished: Names of the others: runs that other processes are at work on, or that nothing has trained yet.
        report: The page, if it was written; not while others are at work.
        summary: What the page answers.
    """

    folder: Path
    runs: int
    finished: int
    failed: Mapping[str, str] = field(default_factory=dict)
    unfinished: Sequence[str] = ()
    report: Path | None = None
    summary: str = ""


def compare(
    config: str | Path | Mapping[str, Any],
    work_dir: str | Path,
    *,
    sources: Mapping[str, Any] | None = None,
    policies: Sequence[str] | Mapping[str, Any] | None = None,
    cases: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    cfg_options: Mapping[str, Any] | Sequence[str] | None = None,
    keep_models: bool = False,
    report_only: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Train from scratch and from sources at equal budget, score all on the same test cases, and write a report.

    It goes on where an earlier call on the same folder was cut. Several processes may be at work on one folder: each
    takes the next run that is free, and the last one writes the report.

    Args:
        config: A config file, the name of a shipped one, or a config, with the key ``compare``.
        work_dir: Where everything is written.
        sources, policies, cases, seeds: In place of those of the config, see
            :class:`~medtransfer.comparison.plan.Comparison`.
        cfg_options: Keys of the config to set, as a dict or as ``KEY=VALUE`` strings.
        keep_models: Keep the model folder of every run.
        report_only: Train nothing; write the report of what is finished.
        log: Takes one line as each run ends.

    Raises:
        ConfigError: the config cannot be used, or is not that of the runs in the folder.
        DatasetError: a test case, or the dataset, was refused; nothing was trained.
        CheckpointError, TransferError: a source was refused; nothing was trained.
        ResourceError: memory or disk ran out.
        UsageError: there is nothing to report yet.
    """
    options = parse_options(cfg_options)
    check_options(options)
    cfg = read_config(config, options)
    given = read_comparison(cfg.get("compare"), sources=sources, policies=policies, cases=cases, seeds=seeds)
    engine = _Engine(plan_runs(cfg, given), Path(work_dir), keep_models, log)
    engine.refuse_other_plan()
    if not report_only:
        engine.work()
    return engine.outcome(_title(cfg), report_only)


def _title(cfg: Any) -> str:
    return f"Did the transfer help? {Path(cfg.filename).stem}" if cfg.filename else "Did the transfer help?"


class _Engine:
    """The runs of a plan in a folder: ``runs`` (training folders, records, locks), ``results``, ``failed``."""

    def __init__(self, plan: Plan, folder: Path, keep_models: bool, log: Callable[[str], None]) -> None:
        self.plan, self.folder, self.keep_models, self.log = plan, folder, keep_models, log
        self.identity = identity.of_plan(plan)
        self.runs, self.results, self.failed = (folder / name for name in ("runs", "results", "failed"))
        self.began = time.time()

    def refuse_other_plan(self) -> None:
        """See that what is in the folder is of this config and these test cases.

        Raises:
            ConfigError: it is not.
        """
        identity.refuse_change(self.folder / "plan.json", self.identity, "this comparison")

    def work(self) -> None:
        """Do every run that has no result, none twice; those of other processes when these are gone."""
        for run in self.plan.runs:
            identity.refuse_change(self._record(run), identity.of_run(run), f"the run {run.name}")
        pending = self._pending()
        if not pending:
            return
        self._prepare()
        if len(pending) < len(self.plan.runs):
            self.log(f"{len(self.plan.runs) - len(pending)} of {len(self.plan.runs)} runs are finished already")
        # what another process held at first may be free after a while
        while sum(self._attempt(run) for run in self._pending()):
            pass

    def _prepare(self) -> None:
        """Refuse what can be refused before the first step, then make the folders."""
        check_cases(self.plan.test, self.plan.dataset.layout)
        check_starts(self.plan)
        with _faults_of(self.folder):
            for folder in (self.runs, self.results):
                folder.mkdir(parents=True, exist_ok=True)
        with _turn(self.folder / "plan.lock"):
            identity.keep(self.folder / "plan.json", self.identity, "this comparison")

    def _pending(self) -> list[Run]:
        return [run for run in self.plan.runs if self._is_left(run) and not self._has_failed(run)]

    def _is_left(self, run: Run) -> bool:
        """Whether there is something to do: a run whose lock is there was cut, maybe when it had its result."""
        return not self._result(run).exists() or self._lock(run).exists()

    def _has_failed(self, run: Run) -> bool:
        """Whether it failed since this process began; an older failure is tried again."""
        try:
            return self._failure(run).stat().st_mtime >= self.began
        except OSError:
            return False

    def _attempt(self, run: Run) -> bool:
        """Do a run, unless another process is at it; whether it was done."""
        with ExitStack() as stack:
            if not _entered(stack, self._lock(run)):
                return False
            if self._result(run).exists():
                reduce_folder(self.runs / run.name, self.keep_models)
                return False
            self._do(run)
        return True

    def _do(self, run: Run) -> None:
        identity.keep(self._record(run), identity.of_run(run), f"the run {run.name}")
        place = f"run {self.plan.runs.index(run) + 1}/{len(self.plan.runs)} {run}"
        begin = time.perf_counter()
        try:
            result = train_and_score(self.plan, run, self.runs / run.name)
        except ResourceError:
            raise  # the next run would meet it too
        except Exception as error:
            reason = str(error) if isinstance(error, MedTransferError) else f"{type(error).__name__}: {error}"
            _write_failure(self._failure(run), run, reason)
            self.log(f"{place}: failed: {reason}")
            return
        except BaseException:
            self.log(f"{place}: stopped; the same command goes on from there")
            raise
        write_result(result, self._result(run))
        reduce_folder(self.runs / run.name, self.keep_models)
        self._failure(run).unlink(missing_ok=True)
        self.log(f"{place}: {in_words(result)}, {time.perf_counter() - begin:.0f} s")

    def outcome(self, title: str, report_only: bool) -> Outcome:
        """What there is now, with the report if nobody else will write it."""
        left = [run for run in self.plan.runs if not self._result(run).exists()]
        failed = {run.name: _read_failure(self._failure(run)) for run in left if self._failure(run).exists()}
        unfinished = [run.name for run in left if run.name not in failed]
        report = None if unfinished and not report_only else self._report(title)
        if report_only and report is None:
            hint = "Run it without --report-only first"
            raise UsageError("there is no finished run to report", path=self.folder, hint=hint)
        summary = "" if report is None else _answer(report.with_name("summary.json"))
        finished = len(self.plan.runs) - len(left)
        return Outcome(self.folder, len(self.plan.runs), finished, failed, unfinished, report, summary)

    def _report(self, title: str) -> Path | None:
        if not result_files(self.results):
            return None
        with _turn(self.folder / "report.lock"):
            return write_report(read_results(self.results), self.folder, title)

    def _lock(self, run: Run) -> Path:
        return self.runs / f"{run.name}.lock"

    def _record(self, run: Run) -> Path:
        return self.runs / f"{run.name}{SUFFIX}"

    def _result(self, run: Run) -> Path:
        return self.results / f"{run.name}{SUFFIX}"

    def _failure(self, run: Run) -> Path:
        return self.failed / f"{run.name}{SUFFIX}"


def _write_failure(path: Path, run: Run, reason: str) -> None:
    write_json(path, {"run": str(run), "reason": reason})


def _read_failure(path: Path) -> str:
    try:
        return str(msgspec.json.decode(path.read_bytes(), type=dict[str, str])["reason"])
    except (OSError, msgspec.DecodeError, KeyError):
        return "unknown"


def _answer(summary: Path) -> str:
    return str(msgspec.json.decode(summary.read_bytes())["answer"])


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Hold a lock that others hold for moments only.

    Raises:
        OutputExistsError: it was not given free.
    """
    end = time.monotonic() + MAX_WAIT
    with ExitStack() as stack:
        while not _entered(stack, lock):
            if time.monotonic() > end:
                reason = f"another process has held it for {MAX_WAIT:g} s"
                raise OutputExistsError(reason, path=lock, hint="Delete it if there is no such process")
            time.sleep(0.2)
        yield


def _entered(stack: ExitStack, lock: Path) -> bool:
    """Take a lock, unless another process has it."""
    try:
        stack.enter_context(held(lock))
    except OutputExistsError:
        return False
    return True


@contextmanager
def _faults_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror}", path=folder) from error
