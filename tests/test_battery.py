"""Every row of the battery has a test, and the table says honestly how they ended."""

from __future__ import annotations

import types

from tests.battery import Recorder, all_rows, rows_of, rows_with_tests, table


def test_every_row_has_a_test() -> None:
    assert set(all_rows()) - rows_with_tests() == set()


def test_names_hold_rows() -> None:
    assert rows_of("test_i05_i06_a_bomb_is_refused") == (["I05", "I06"], "a bomb is refused")
    assert rows_of("test_x05_something") == ([], "something")
    assert rows_of("test_without_a_row")[0] == []


def report(name: str, outcome: str, when: str = "call", reason: str = "") -> types.SimpleNamespace:
    longrepr = ("file", 1, f"Skipped: {reason}") if outcome == "skipped" else None
    return types.SimpleNamespace(
        nodeid=f"tests/test_x.py::{name}",
        outcome=outcome,
        when=when,
        longrepr=longrepr,
        passed=outcome == "passed",
        skipped=outcome == "skipped",
    )


def test_the_table_tells_passing_failing_skipped_and_missing_rows_apart() -> None:
    recorder = Recorder()
    for given in (
        report("test_c01_a_missing_file[a]", "passed"),
        report("test_c01_a_missing_file[b]", "passed"),
        report("test_c02_a_folder", "passed"),
        report("test_c02_another", "failed"),
        report("test_e22_cuda", "skipped", "setup", "no CUDA device"),
        report("test_g01_set_up", "failed", "setup"),
    ):
        recorder.pytest_runtest_logreport(given)  # type: ignore[arg-type]
    text = table(recorder)
    assert "| C01 | passes | a missing file |" in text
    assert "| C02 | **fails** | a folder; another |" in text
    assert "| E22 | not run: no CUDA device | cuda |" in text
    assert "| G01 | **fails** |" in text
    assert "| A01 | **no test** |  |" in text
    assert f"1 of {len(all_rows())} rows pass." in text
