"""Frozen parts stay as they are, bit for bit."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from medtransfer.errors import UsageError
from medtransfer.finetune.freeze import freeze, unfreeze
from medtransfer.finetune.select import select

Build = Callable[..., nn.Module]
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def train_steps(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, size: int = 9) -> None:
    for _ in range(steps):
        net.train()
        optimizer.zero_grad()
        output = net(torch.randn(2, 1, size, size, size))
        output.square().mean().backward()
        optimizer.step()


def snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(net.state_dict())


def moved(net: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_parts_are_bit_equal_after_fifty_steps(optimizer: str, tiny: Build) -> None:
    net = tiny("resnet10")
    # momentum and gradients from before must not act later
    step = OPTIMIZERS[optimizer](net.parameters())
    train_steps(net, step, 2)
    freeze(net, ["stem", "layer1"])
    freeze(net, "layer3")  # calls add up
    before = snapshot(net)
    step.step()
    train_steps(net, step, 50)
    changed = {name.split(".")[0] for name in moved(net, before)}
    assert changed == {"layer2", "layer4", "head_fc"}
    assert {name for name in net.state_dict() if name.startswith("layer2")} <= moved(net, before)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm3d(2),
    "batch norm without parameters": lambda: nn.BatchNorm3d(2, affine=False),
    "cumulative": lambda: nn.BatchNorm3d(2, momentum=None),
    "synchronised": lambda: nn.SyncBatchNorm(2),
    "instance norm": lambda: nn.InstanceNorm3d(2, track_running_stats=True, affine=True),
    "instance norm without parameters": lambda: nn.InstanceNorm3d(2, track_running_stats=True),
}


@pytest.mark.parametrize("kind", NORMS)
def test_statistics_of_every_norm_survive_train(kind: str) -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 1), NORMS[kind](), nn.Conv3d(2, 1, 1))
    frozen = freeze(net, "[01]")
    assert list(frozen.norms) == ["1"]
    before = snapshot(net)
    net.train()
    x = torch.randn(2, 1, 4, 4, 4)
    if kind != "synchronised":  # forward needs a GPU there
        assert torch.equal(net(x), net.eval()(x))
    assert net.train()[1].training is False
    assert not moved(net, before)
    unfreeze(net)
    assert net[1].training is True
    if kind != "synchronised":
        net(x)
        assert {"1.running_mean", "1.running_var"} <= moved(net, before)


def test_statistics_may_move_if_that_is_wanted() -> None:
    net = nn.Sequential(nn.BatchNorm3d(1))
    before = snapshot(net)
    freeze(net, norm_stats=False)
    net.train()(torch.randn(2, 1, 4, 4, 4))
    assert moved(net, before) == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def test_group_norm_and_batch_statistics_have_nothing_to_hold() -> None:
    for norm in (nn.GroupNorm(1, 2), nn.BatchNorm3d(2, track_running_stats=False), nn.InstanceNorm3d(2)):
        net = nn.Sequential(nn.Conv3d(1, 2, 1), norm)
        assert not freeze(net).norms
        assert net.train()[1].training


def copied(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net)


def pickled(net: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(net, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


def averaged(net: nn.Module) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(net).module


@pytest.mark.parametrize("way", [copied, pickled, averaged])
def test_a_copy_is_frozen_by_itself(way: Callable[[nn.Module], nn.Module], tiny: Build) -> None:
    net = tiny("resnet10")
    freeze(net, "encoder")
    other = way(net)
    assert not any(norm.training for norm in select(other.train(), "encoder").norms.values())
    unfreeze(net)
    assert not any(norm.training for norm in select(other.train(), "encoder").norms.values())
    unfreeze(other)
    freeze(net)
    assert all(norm.training for norm in select(other.train(), "encoder").norms.values())


def test_state_dicts_are_those_of_the_network(tiny: Build) -> None:
    net, plain = tiny("resunet10"), tiny("resunet10")
    freeze(net)
    assert net.state_dict().keys() == plain.state_dict().keys()
    net.load_state_dict(plain.state_dict())


def test_except_and_unfreezing_in_parts(tiny: Build) -> None:
    net = tiny("resunet10")
    frozen = freeze(net, except_=["head", "layer4"])
    assert not any(name.startswith(("final_layer", "encoder_4")) for name in frozen.names)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == set(select(net, ["head", "layer4"]).names)
    unfreeze(net, "decoder", except_=nn.BatchNorm3d)
    trains = {name for name, p in net.named_parameters() if p.requires_grad}
    assert "decoder_0.up.weight" in trains
    assert not {name for name in select(net, nn.BatchNorm3d).names if name.startswith("decoder")} & trains


def test_unfreezing_in_eval_mode_leaves_the_mode(tiny: Build) -> None:
    net = tiny("resnet10")
    freeze(net)
    unfreeze(net.eval())
    assert not any(module.training for module in net.modules())
    assert all(module.training for module in net.train().modules())


def test_inside_wrappers(tiny: Build) -> None:
    net = tiny("resnet10")
    assert freeze(nn.DataParallel(net), "layer1").names == select(net, "layer1").names


def test_an_unknown_stage_is_refused_and_nothing_is_frozen(tiny: Build) -> None:
    net = tiny("resnet10")
    with pytest.raises(UsageError, match="'layer9' stands for no part of this ResNet"):
        freeze(net, ["layer1", "layer9"])
    assert all(parameter.requires_grad for parameter in net.parameters())


def _two_processes(rank: int, folder: str) -> None:
    """Gradual unfreezing under DDP: all are trainable when it is wrapped, unused parameters are looked for."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Conv3d(2, 1, 1))
    wrapped = nn.parallel.DistributedDataParallel(net, find_unused_parameters=True, broadcast_buffers=False)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    freeze(wrapped, "[01]")
    states = [snapshot(net)]
    torch.manual_seed(rank)
    for phase in range(2):
        for _ in range(3):
            wrapped.train()
            optimizer.zero_grad()
            wrapped(torch.randn(2, 1, 3, 3, 3)).square().mean().backward()
            optimizer.step()
        states.append(snapshot(net))
        if phase == 0:
            unfreeze(wrapped)
    torch.save(states, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_gradual_unfreezing_under_ddp(tmp_path: Any) -> None:
    torch.multiprocessing.spawn(_two_processes, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    start, middle, end = first
    assert {name for name in start if not torch.equal(start[name], middle[name])} == {"2.weight", "2.bias"}
    assert {name for name in middle if not torch.equal(middle[name], end[name])} == set(start)
    # the ranks saw other data: gradients of what was unfrozen are averaged too
    assert all(torch.equal(end[name], second[2][name]) for name in end if "running" not in name)
    assert not torch.equal(end["1.running_mean"], second[2]["1.running_mean"])
