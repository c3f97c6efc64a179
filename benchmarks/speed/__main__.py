"""Speed and memory beside what people use, as one table of ratios.

    python -m benchmarks.speed                   # prints the table; under a quarter of an hour on two cores
    python -m benchmarks.speed --write           # and puts it into docs/speed.md, README.md and results/
    python -m benchmarks.speed --quick           # small scans, few rounds: does it all run?
    python -m benchmarks.speed --only predict    # some sections
    python -m benchmarks.speed --device cuda     # the same on a GPU

    ONEDNN_MAX_CPU_ISA=AVX512_CORE python -m benchmarks.speed --only predict    # as if the processor had no bfloat16

All that is compared runs in turn in one process, after one call to warm up; the ratio is taken within each round, and
its median is shown with the smallest and the largest. nnU-Net is measured if it is installed (pip install nnunetv2).
`--data PATH/Task04_Hippocampus` adds Dice against experts' labels.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from .facts import machine_facts
from .measure import Row, alone
from .options import Options
from .page import TITLES, report, table, write


def main() -> None:
    """Measure, print, and write if asked to."""
    given = parse()
    options = Options(given.quick, given.long, given.device, given.data, given.model)
    facts = machine_facts(options.device) | {"quick": options.quick}
    found = {name: measured(name, options) for name in given.only}
    print(report(found, facts))
    for path in write(found, facts) if given.write else ():
        tell(f"written: {path}")


def parse() -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser("python -m benchmarks.speed", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small scans and few rounds")
    parser.add_argument("--long", action="store_true", help="MONAI on the largest scans too: minutes each")
    parser.add_argument("--only", type=_sections, default=list(TITLES), metavar="A,B", help=", ".join(TITLES))
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--data", type=Path, help="the folder Task04_Hippocampus")
    parser.add_argument("--model", type=Path, help="a model folder trained on it; else a short training makes one")
    parser.add_argument("--write", action="store_true", help="write the table where it is shown")
    return parser.parse_args()


def _sections(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in TITLES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; there are: {', '.join(TITLES)}")
    return names


def measured(name: str, options: Options) -> list[Row]:
    """The rows of a section; one that fails says why, and takes no other with it."""
    begin = time.perf_counter()
    tell(f"{TITLES[name]} ...")
    try:
        rows: list[Row] = import_module(f"benchmarks.speed.{name}").rows(options)
    except Exception as error:
        rows = [alone(TITLES[name], None, "", note=f"failed: {type(error).__name__}: {error}")]
    tell(f"{table(row for row in rows if not row.detail)}\n{time.perf_counter() - begin:.0f} s")
    return rows


def tell(line: str) -> None:
    """Progress, beside the table."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
