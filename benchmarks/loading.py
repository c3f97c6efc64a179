"""Time and memory from a file to a model: medtransfer beside torch.load(mmap=True) and load_state_dict.

    python benchmarks/loading.py --rounds 9

A ResNet-200 (507 MB in float32) is written to a temporary folder as .pth, .safetensors and model folder. Each round
runs every way once, in turn, each in a process of its own with the file in the page cache and all modules imported:
what is timed is one call, from the path to the weights in a network that is already built. `mt.transfer` also checks
every checksum that the file has (crc32 of a .pth, sha256 of a model folder), refuses NaN and infinity, matches names
and writes a report; the ways beside it do not. Compared are ratios within one round (median and middle half), those of
the fastest rounds, which a busy machine disturbs least, and processor time, which counts all threads.

Memory is measured in other processes than time: the highest resident size during the call over that before
(`peak`, which counts pages of the mapped file, although the system may drop them), and the same for anonymous memory
alone (`private`, what nobody else could use). The goals are a ratio of 1.3 in time and a peak of 1.15 file sizes.
Rows are added to loading.jsonl; --table prints them all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import medtransfer as mt

RESULTS = Path(__file__).with_name("loading.jsonl")
FILES = {"pth": "net.pth", "safetensors": "net.safetensors", "model folder": "net"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", default="resnet200")
    parser.add_argument("--files", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--table", action="store_true", help="print the rows so far as a table, and measure nothing")
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "WAY", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(table())
    elif options.one:
        what, way, path = options.one
        print(json.dumps((timed if what == "time" else weighed)(WAYS[way], path, build(options.model))))
    else:
        measure(options.model, options.files, options.rounds)


def build(name: str) -> nn.Module:
    """The network with all its memory in use, without the minutes that random values would take."""
    with torch.device("meta"):
        model = mt.create_model(name, in_channels=1, num_classes=2)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


def by_torch(path: str, model: nn.Module) -> None:
    model.load_state_dict(torch.load(path, mmap=True, weights_only=True))


def by_safetensors(path: str, model: nn.Module) -> None:
    file = Path(path)
    model.load_state_dict(load_file(file / "model.safetensors" if file.is_dir() else file))


def by_medtransfer(path: str, model: nn.Module) -> None:
    mt.transfer(path, model, head="keep")


WAYS: dict[str, Callable[[str, nn.Module], None]] = {
    "torch": by_torch,
    "safetensors": by_safetensors,
    "medtransfer": by_medtransfer,
}
BESIDE = {"pth": "torch", "safetensors": "safetensors", "model folder": "safetensors"}


def timed(way: Callable[[str, nn.Module], None], path: str, model: nn.Module) -> dict[str, float]:
    """Seconds by the clock, and of processor time over all threads."""
    mt.transfer  # noqa: B018 - import what is needed before the clock starts
    begin, spent = time.perf_counter(), time.process_time()
    way(path, model)
    return {"wall": time.perf_counter() - begin, "cpu": time.process_time() - spent}


def weighed(way: Callable[[str, nn.Module], None], path: str, model: nn.Module) -> dict[str, int]:
    """The rise of peak resident and of anonymous memory, in bytes; the latter seen every two milliseconds."""
    mt.transfer  # noqa: B018
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory()
    private, done = [before["RssAnon"]], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            private.append(memory()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    way(path, model)
    done.set()
    watcher.join()
    return {"peak": memory()["VmHWM"] - before["VmRSS"], "private": max(private) - before["RssAnon"]}


def memory() -> dict[str, int]:
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    wanted = ("VmHWM:", "VmRSS:", "RssAnon:")
    return {words[0][:-1]: int(words[1]) << 10 for words in lines if words and words[0] in wanted}


def measure(name: str, kinds: list[str], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model = build(name)
        for tensor in model.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape))
        torch.save(model.state_dict(), Path(folder) / FILES["pth"])
        save_file(model.state_dict(), Path(folder) / FILES["safetensors"])
        mt.save(model, Path(folder) / FILES["model folder"])
        size = (Path(folder) / FILES["safetensors"]).stat().st_size
        del model
        for kind in kinds:
            file = FILES[kind]
            ways = (BESIDE[kind], "medtransfer")
            times: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
            for index in range(rounds):
                for way in ways if index % 2 else reversed(ways):
                    times[way].append(child("time", way, f"{folder}/{file}", name))
            weights = {way: [child("memory", way, f"{folder}/{file}", name) for _ in range(3)] for way in ways}
            record(name, kind, size, times, weights)


def child(what: str, way: str, path: str, name: str) -> Any:
    warm(Path(path))
    command = [sys.executable, __file__, "--model", name, "--one", what, way, path]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def warm(path: Path) -> None:
    """Read the file once, so that the disk has no part in it."""
    for file in path.iterdir() if path.is_dir() else [path]:
        with file.open("rb") as stream:
            while stream.read(1 << 24):
                pass


def record(
    name: str,
    kind: str,
    size: int,
    times: dict[str, list[dict[str, float]]],
    weights: dict[str, list[dict[str, int]]],
) -> None:
    beside, ours = times
    row = {
        "model": name,
        "file": kind,
        "megabytes": round(size / 1e6),
        "rounds": len(times[ours]),
        "beside": beside,
        **{f"{clock}_ratio": ratios(times[beside], times[ours], clock) for clock in ("wall", "cpu")},
        "seconds": {way: round(min(t["wall"] for t in values), 3) for way, values in times.items()},
        "peak": {way: round(max(w["peak"] for w in found) / size, 3) for way, found in weights.items()},
        "private": {way: round(max(w["private"] for w in found) / size, 3) for way, found in weights.items()},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }
    with RESULTS.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def ratios(beside: list[dict[str, float]], ours: list[dict[str, float]], clock: str) -> dict[str, float]:
    """The ratio within each round: its median and quartiles; and that of the fastest rounds of both."""
    each = [b[clock] / a[clock] for a, b in zip(beside, ours, strict=True)]
    low, _, high = statistics.quantiles(each, n=4)
    fastest = min(b[clock] for b in ours) / min(a[clock] for a in beside)
    found = {"median": statistics.median(each), "low": low, "high": high, "fastest": fastest}
    return {key: round(value, 3) for key, value in found.items()}


def table() -> str:
    """All rows as Markdown."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    columns = ["file", "beside", "rounds", "time ratio", "middle half", "fastest", "processor time", "peak", "private",
               "threads", "load"]  # fmt: skip
    lines = [columns, ["---"] * len(columns)]
    for row in rows:
        wall = row["wall_ratio"]
        measured = [wall["median"], (wall["low"], wall["high"]), wall["fastest"], row["cpu_ratio"]["median"],
                    row["peak"]["medtransfer"], row["private"]["medtransfer"]]  # fmt: skip
        shown = [f"{m[0]:.2f} to {m[1]:.2f}" if isinstance(m, tuple) else f"{m:.2f}" for m in measured]
        lines.append([f"{row['model']} {row['file']}", row["beside"], str(row["rounds"]), *shown,
                      str(row["threads"]), str(row["load"])])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
