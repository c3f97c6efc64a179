"""What transfers into what: cells of the written tables done again, and the tables' shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks import what_moves as moves
from medtransfer.adapter.dialects import DIALECTS
from medtransfer.adapter.source import read_source
from tests.adapter.dialects import medicalnet_oracle, nnunet_oracle, torchvision_vgg_oracle

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BEGIN, END = "<!-- moves: begin -->", "<!-- moves: end -->"
FULL = (ROOT / "benchmarks" / "what_moves.md").read_text(encoding="utf-8")


def cells(line: str) -> list[str]:
    return line.strip("| ").split(" | ")


def table(text: str) -> list[list[str]]:
    """Header and rows, the ruler left out."""
    lines = [cells(line) for line in text.splitlines() if line.startswith("|")]
    return [lines[0], *lines[2:]]


@pytest.mark.parametrize(
    ("oracle", "layout"),
    [
        (medicalnet_oracle, "resnet_10"),
        (nnunet_oracle, "plain encoder in 2-D, batch norm, ReLU"),
        (torchvision_vgg_oracle, "vgg11"),
    ],
    ids=["medicalnet", "nnunet", "vgg"],
)
def test_a_written_row_comes_out_again(tmp_path: Path, oracle: object, layout: str) -> None:
    (case,) = [case for case in oracle.cases(tmp_path) if case.layout == layout]  # type: ignore[attr-defined]
    found = moves.row(moves.file_of(case))
    assert moves.by_file([found]).splitlines()[-1] in FULL.splitlines()
    assert found.cells["segmenter"].coverage == 1
    assert found.cells[moves.STRANGER].coverage is None


def test_what_does_not_come_is_not_counted(tmp_path: Path) -> None:
    file = moves.own_file("classifier", tmp_path)
    whole, less = load_file(file.path / "model.safetensors"), tmp_path / "less.safetensors"
    save_file({key: tensor for key, tensor in whole.items() if key != "layer4.1.conv2.weight"}, less)
    weights = replace(read_source(file.path), path=less)
    cell = moves.attempt(weights, moves.TARGETS["classifier"])
    lacking = whole["layer4.1.conv2.weight"].numel() / sum(t.numel() for k, t in whole.items() if "head" not in k)
    assert cell.coverage == pytest.approx(1 - lacking, abs=0.02)
    assert str(moves.Cell(0.9999)) == "99.9 %"


def test_the_readme_has_a_row_for_every_format_and_every_kind_of_network() -> None:
    assert README.count(BEGIN) == README.count(END) == 1
    shown = README.partition(BEGIN)[2].partition(END)[0]
    header, *rows = table(shown)
    assert header == ["from", "files", "is", *moves.SHOWN]
    assert all(len(line) == len(header) for line in rows)
    titles = {line[0] for line in rows}
    assert {f"{kind} of this zoo" for kind in moves.OWN} <= titles
    foreign = {row[0] for row in table((ROOT / "benchmarks" / "dialects.md").read_text(encoding="utf-8"))[1:]}
    assert {dialect.title for dialect in DIALECTS if dialect.name in foreign} <= titles
    assert "refused" not in " ".join(cell for line in rows for cell in line)


def test_the_readme_sums_up_the_full_table() -> None:
    header, *lines = table(FULL)
    assert header == ["format", "file", "is", *moves.TARGETS]
    files = [int(line[1]) for line in table(README.partition(BEGIN)[2].partition(END)[0])[1:]]
    assert sum(files) == len(lines)
    assert f"{len(lines)} of {len(lines)} refused" in README
