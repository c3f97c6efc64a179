"""A training step through the code that `medtransfer train` runs, beside plain PyTorch and a network of MONAI's.

Plain PyTorch is what people write: the same network in contiguous tensors, autocast, ``torch.optim.AdamW``, and
``loss.item()`` in each step. Loss, batches, learning rate and initial weights are the same, and so must be the losses.
All run inside ``reused_memory``, which `medtransfer train` holds and plain PyTorch has not: that favours the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import FlexibleUNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medtransfer.allocator import reused_memory
from medtransfer.training.optimizers import AdamW
from medtransfer.training.precision import MixedPrecision, fast_dtype
from medtransfer.training.tasks import Segmenter

from .loader import loader_calls, loader_rows
from .measure import Row, alone, alternate, compare, peak_memory
from .memory import pair
from .options import Options
from .ways import build

Batch = dict[str, Tensor]
Step = Callable[[], float]
HERE = "benchmarks.speed.training"
TARGET = "≥ 1.3"
RATE, BATCH = 1e-3, 2
PLAIN = "plain PyTorch, bfloat16 autocast"


def rows(options: Options) -> list[Row]:
    """Steps of ResUNet-18 for each patch, the loader beside them, their memory, and whether the losses agree."""
    edges = (32,) if options.quick else (64, 96)
    found = [row for edge in edges for row in _speed(edge, options)]
    return [*found, _memory(edges[-1], options), _agreement(32 if options.quick else 64, options)]


def _speed(edge: int, options: Options) -> list[Row]:
    batch = made_up(edge, 0, options.device)
    ways: dict[str, tuple[str, nn.Module]] = {
        "ours": ("ours", build("resunet18")),
        PLAIN: ("plain", build("resunet18")),
        f"MONAI FlexibleUNet resnet18, {PLAIN}": ("plain", monai_network()),
    }
    flops = {name: forward_flops(network, batch["image"]) for name, (_, network) in ways.items()}
    steps = {name: _MAKERS[way](network, options.device) for name, (way, network) in ways.items()}
    with reused_memory():
        calls: dict[str, Callable[[], object]] = {name: lambda s=step: s(batch) for name, step in steps.items()}  # type: ignore[misc]
        calls |= loader_calls(edge, BATCH, options.device)
        seconds = alternate(calls, 3 if options.quick else 7, options.device)
    what = f"ResUNet-18, a step of {BATCH} patches of {edge}^3"
    first, second = (
        compare(what, seconds["ours"], seconds[name], "s", name, TARGET if number == 0 else "")
        for number, name in enumerate(list(steps)[1:])
    )
    mine, theirs = (f"{flops[name] / 1e9:.0f}" for name in ("ours", list(steps)[2]))
    second = replace(second, note=f"{mine} GFLOP forward a batch, {theirs} in MONAI's")
    return [first, second, *loader_rows(edge, BATCH, seconds, "ours")]


def _memory(edge: int, options: Options) -> Row:
    given: dict[str, Any] = {"edge": edge, "device": options.device}
    mine, theirs = (peak_memory(f"{HERE}:prepared_step", way=way, **given) for way in ("ours", "plain"))
    return pair(f"ResUNet-18, memory of a step of {BATCH} patches of {edge}^3", mine, theirs, PLAIN, options)


def _agreement(edge: int, options: Options, count: int = 20) -> Row:
    """The same network and batches, trained in both ways."""
    start, curves = build("resunet18"), []
    for way in ("ours", "plain"):
        step = _MAKERS[way](copy.deepcopy(start), options.device)
        with reused_memory():
            curves.append([step(made_up(edge, number % 4, options.device)) for number in range(count)])
    largest = max(abs(one - other) for one, other in zip(*curves, strict=True))
    told = "; ".join(
        f"{name} {' '.join(f'{loss:.3f}' for loss in curve[::3])}"
        for name, curve in zip(("ours", "plain"), curves, strict=True)
    )
    return alone(f"largest difference of the loss in {count} steps", largest, "loss", note=f"every third: {told}")


def prepared_step(way: str, edge: int, device: str) -> Callable[[], object]:
    """A step after one that made the optimizer's state, for :func:`peak_memory`."""
    step, batch = _MAKERS[way](build("resunet18"), device), made_up(edge, 0, device)
    step(batch)
    return lambda: step(batch)


def ours(network: nn.Module, device: str) -> Callable[[Batch], float]:
    """A step as the shipped configs have it: the task, its optimizer wrapper, numbers and layout by the device."""
    short = fast_dtype(torch.device(device)) != torch.float32
    task = Segmenter(network, channels_last=short).to(device).train()
    wrapper = MixedPrecision(optimizer=AdamW(task.parameters(), lr=RATE, fused=True))
    return lambda batch: float(task.train_step(batch, wrapper)["loss"].detach())


def plain(network: nn.Module, device: str) -> Callable[[Batch], float]:
    """A step as people write it."""
    network = network.to(device).train()
    criterion = DiceCELoss(softmax=True, to_onehot_y=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            logits = network(batch["image"])
        loss = criterion(logits.float(), batch["label"])
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


_MAKERS: dict[str, Callable[[nn.Module, str], Callable[[Batch], float]]] = {"ours": ours, "plain": plain}


def monai_network() -> nn.Module:
    """The network of MONAI's that has the same encoder."""
    torch.manual_seed(0)
    return FlexibleUNet(in_channels=1, out_channels=3, backbone="resnet18", spatial_dims=3)


def forward_flops(network: nn.Module, image: Tensor) -> int:
    """Of a forward pass over the batch."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(image[:1].cpu())
    return int(counter.get_total_flops() * len(image))


def made_up(edge: int, number: int, device: str) -> Batch:
    """A batch in which there is something to learn: two bright boxes in noise."""
    generator = torch.Generator().manual_seed(number)
    label = torch.zeros(BATCH, 1, edge, edge, edge, dtype=torch.int64)
    low, high = edge // 4 + number, edge // 2 + number
    label[:, :, low:high, low:high, :high] = 1
    label[:, :, low:high, :low, :low] = 2
    image = label * 1.5 + torch.randn(label.shape, generator=generator)
    return {"image": image.to(device), "label": label.to(device)}
