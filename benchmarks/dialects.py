"""Every source format against its own code: what is detected, what moves, and how far the feature maps lie apart.

    python -m benchmarks.dialects            # prints a row a format
    python -m benchmarks.dialects --write    # puts it into docs/transfer.md, a row a file into benchmarks/dialects.md

Each row is one file in the format's real layout, with random weights and norm statistics, loaded into the network of
the zoo that it belongs to. The difference is max |a - b| / max |b| over all feature maps, in float32 on the CPU; the
oracle is the source's own code, run beside ours or run once (golden values).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

import medtransfer as mt
from benchmarks.markdown import markdown, put
from medtransfer.adapter.dialects import dialect_named
from medtransfer.adapter.source import SourceWeights, read_source
from tests.adapter.dialects.oracle_case import OracleCase, difference
from tests.adapter.dialects.oracles import MODULES

ROOT = Path(__file__).parents[1]
TITLE = "# Every source format against its own code\n\nMade by `python -m benchmarks.dialects --write`.\n\n"


@dataclass(frozen=True)
class Row:
    """What came of one file."""

    dialect: str
    layout: str
    detected: str
    network: str
    tensors: str
    accounted: bool
    worst: float
    oracle: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables where they are shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(case) for case in all_cases(Path(folder))]
    if not options.write:
        print(by_format(rows))
        return
    (ROOT / "benchmarks" / "dialects.md").write_text(TITLE + by_file(rows) + "\n", encoding="utf-8")
    put(ROOT / "docs" / "transfer.md", "dialects", by_format(rows))


def by_file(rows: list[Row]) -> str:
    columns = ["format", "file", "detected", "network here", "tensors", "largest difference", "oracle"]
    cells = [[r.dialect, r.layout, r.detected, f"`{r.network}`", r.tensors, number(r.worst), r.oracle] for r in rows]
    return markdown([columns, *cells])


def by_format(rows: list[Row]) -> str:
    """A row a format: its files, whether all were told, the worst of them."""
    columns = ["`dialect`", "what", "files", "detected", "all tensors accounted for", "largest difference", "held to"]
    lines = [columns]
    for name, group in groupby(rows, lambda r: r.dialect):
        files = list(group)
        told, whole = sum(r.detected == "yes" for r in files), sum(r.accounted for r in files)
        shares = [f"{count} of {len(files)}" for count in (told, whole)]
        oracles = "; ".join(dict.fromkeys(r.oracle for r in files))
        worst = number(max(r.worst for r in files))
        lines.append([f"`{name}`", dialect_named(name).title, str(len(files)), *shares, worst, oracles])
    return markdown(lines)


def number(worst: float) -> str:
    return "0" if worst == 0 else f"{worst:.0e}"


def all_cases(folder: Path) -> Iterator[OracleCase]:
    for module in MODULES:
        own = folder / module.__name__.rpartition(".")[2]
        own.mkdir()
        yield from module.cases(own)


@torch.no_grad()
def row(case: OracleCase) -> Row:
    weights = read_source(case.path)
    assert weights.home is not None
    network = mt.create_model(weights.home.name, **{**weights.home.arguments, **(case.arguments or {})}).eval()
    report = mt.transfer(case.path, network, head="keep", min_coverage=1)
    maps_here = case.maps_here or (lambda net, x: net.features(x))
    return Row(
        case.dialect,
        case.layout or case.path.suffix,
        "yes" if weights.dialect == case.dialect else f"as {weights.dialect}",
        weights.home.name,
        tensor_counts(report),
        is_accounted(weights, report),
        difference(case, maps_here(network, case.x)),
        case.oracle,
    )


def is_accounted(weights: SourceWeights, report: mt.TransferReport) -> bool:
    """Whether every tensor of the file is in the report once, and none of the network's is missing from the file.

    Counters of batches aside: frozen norms, as torchvision's detectors have them, keep none.
    """
    told = sorted(entry.source_key for _, entries in report.groups() for entry in entries if entry.source_key)
    missing = [entry.key for entry in report.missing if not entry.key.endswith("num_batches_tracked")]
    return told == sorted([*weights.keys.values(), *weights.unread]) and not missing


def tensor_counts(report: mt.TransferReport) -> str:
    counts = [f"{len(entries)} {name}" for name, entries in report.groups() if entries]
    return ", ".join(counts)


if __name__ == "__main__":
    main()
