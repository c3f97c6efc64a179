"""The machine's own limits, and which share of them the convolutions of the networks reach."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from medtransfer.allocator import reused_memory
from medtransfer.devices import dtype_name
from medtransfer.lowering.lower import lower

from .layers import Clock, Limits, Work, network_work
from .measure import Row, alone, compare, timed
from .options import Options
from .ways import TITLES, build, random_scan

SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
GOALS = {"resunet18": "≥ 0.60", "resunet50": "≥ 0.50"}
SHOWN = 12  # layers that take longest
#: passes for one round of longer measurements: a virtual machine's clock doubles and halves within seconds
PASSES = 5
COPIED = {"cpu": 1 << 28, "cuda": 1 << 32}  # bytes, beyond any cache


def rows(options: Options) -> list[Row]:
    """Of each network: the convolutions together, the whole pass, and every layer."""
    kind = torch.device(options.device).type
    dtype = torch.bfloat16 if options.has_short_numbers else torch.float32
    product = best_product(dtype, options.device, SIZES[kind])
    plain = best_product(torch.float32, options.device, SIZES[kind][:2])
    copied = copier(COPIED[kind], options.device)
    rates = [(product(), plain()) for _ in range(options.rounds)]
    short, long = ([pair[number] for pair in rates] for number in range(2))
    limits = compare("matrix product, bfloat16", short, long, "GFLOP/s", "the same in float32")
    found = [limits] if dtype == torch.bfloat16 else []
    for name in TITLES:
        found += _network(name, options, dtype, product, copied)
    return found


@torch.no_grad()
def _network(
    name: str, options: Options, dtype: torch.dtype, product: Callable[[], float], copied: Callable[[], float]
) -> list[Row]:
    network, image = build(name).to(options.device), random_scan(options.shape).to(options.device)[None]
    work = network_work(network, tuple(image.shape[1:]))
    lowered = lower(network, dtype)
    if lowered is None:
        return [alone(TITLES[name], None, "GFLOP/s", note=f"not measured: it cannot be lowered to {dtype}")]
    clock = Clock(lowered, work, options.device)
    rates, widths = [], []
    with _memory(options.device):
        clock.run(image)
        clock.passes.clear()
        clock.seconds.clear()
        for _ in range(PASSES * options.rounds):
            rates.append(product())
            clock.run(image)
            widths.append(copied())
    return _shares(name, clock, work, rates, widths, dtype)


def _shares(
    name: str, clock: Clock, work: dict[str, Work], rates: list[float], widths: list[float], dtype: torch.dtype
) -> list[Row]:
    """Rates beside that of the matrix product of the same round."""
    flops = sum(work[layer].flops for layer in clock.layers) / 1e9
    beside = f"matrix product, {dtype_name(dtype)}"
    together = [sum(times) for times in zip(*clock.seconds.values(), strict=True)]
    title = f"{TITLES[name]}, {flops:.0f} GFLOP in {len(clock.layers)} of {len(work)} convolutions"
    found = [
        compare(title, [flops / s for s in together], rates, "GFLOP/s", beside, GOALS[name]),
        compare(f"{TITLES[name]}, the whole pass", [flops / s for s in clock.passes], rates, "GFLOP/s", beside),
    ]
    limits = Limits(statistics.median(rates), statistics.median(widths))
    slowest = sorted(clock.layers, key=clock.median, reverse=True)[:SHOWN]
    return found + [_layer(name, layer, clock, work[layer], rates, limits, dtype) for layer in slowest]


def _layer(
    network: str, name: str, clock: Clock, work: Work, rates: list[float], limits: Limits, dtype: torch.dtype
) -> Row:
    moved = work.values * dtype.itemsize / 1e9 / clock.median(name)
    told = f"{work.kernel}: {work.flops / 1e9:.1f} GFLOP in {clock.median(name) * 1000:.1f} ms, {moved:.1f} GB/s = "
    told += f"{moved / limits.bandwidth:.0%} of a copy's, held back by {limits.holds_back(work, dtype.itemsize)}"
    reached = [work.flops / 1e9 / seconds for seconds in clock.seconds[name]]
    row = compare(f"{TITLES[network]} {name}", reached, rates, "GFLOP/s", "matrix product", note=told)
    return Row(**{**row.to_dict(), "detail": True})


def best_product(dtype: torch.dtype, device: str, sizes: tuple[int, ...]) -> Callable[[], float]:
    """GFLOP/s of a square matrix product, of the size that is fastest here; the result's memory is there before."""
    ways = [_product(dtype, device, size) for size in sizes]
    rates = [max(way() for _ in range(3)) for way in ways]
    return ways[rates.index(max(rates))]


def _product(dtype: torch.dtype, device: str, size: int) -> Callable[[], float]:
    a, b, out = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(3))
    repeats = max(1, (4096 // size) ** 2)
    return lambda: 2e-9 * size**3 * repeats / timed(lambda: _repeat(a, b, out, repeats), device)


def _repeat(a: Tensor, b: Tensor, out: Tensor, times: int) -> None:
    for _ in range(times):
        torch.mm(a, b, out=out)


def copier(size: int, device: str) -> Callable[[], float]:
    """GB/s of a copy into memory that is there before, bytes read and written both counted."""
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return lambda: 2e-9 * size / timed(lambda: target.copy_(source), device)


def _memory(device: str) -> AbstractContextManager[None]:
    return reused_memory() if device == "cpu" else nullcontext()
