"""Norms in runs of several processes: equal statistics in all of them, and synchronised norms without CUDA too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from .checkpoint_hooks import plain_model
from .registry import HOOKS

SMALL = 8  # scans in a batch below which its statistics are poor: Wu and He, ECCV 2018, Group Normalization


class GatheredBatchNorm(_BatchNorm):
    """What torch's ``SyncBatchNorm``, which is for CUDA alone, computes: a batch norm over all processes."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # any number of axes, as its model

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...) by mean and variance over all processes; in evaluation by the running ones."""
        if not self.training or get_world_size() == 1:
            return super().forward(input)
        values, axes = input.float(), [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        own = values.new_full((1,), values.numel() / values.shape[1])
        *total, count = _sum_of_all(torch.cat([values.sum(axes), own])).split([values.shape[1], 1])
        mean = total[0] / count
        centred = values - mean.view(shape)
        # in two turns: the mean of squares less the square of the mean would lose digits
        variance = _sum_of_all(centred.square().sum(axes)) / count
        self._follow(mean.detach(), (variance * count / (count - 1)).detach())
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _SumOfAll(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        # each process's loss depends on the total
        total = gradient.clone().contiguous()
        distributed.all_reduce(total)
        return total


def _sum_of_all(values: Tensor) -> Tensor:
    return _SumOfAll.apply(values)


def synchronise_without_cuda(model: nn.Module) -> None:
    """Let synchronised norms work with gloo. The modules and all in them stay, so that what shares them still does."""
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = GatheredBatchNorm  # type: ignore[assignment]


class EqualStatistics(Hook):
    """Keep the running statistics of norms equal in all processes, by their mean after every step.

    In training each process normalises its own scans, and would come to statistics of its own: processes would
    validate different networks, and checkpoints hold those of the first. Since the statistics are moving averages,
    their mean moves over all scans (that of the variance within processes). The weights do not depend on it.
    """

    priority = "VERY_HIGH"  # before averages and checkpoints are made

    def before_train(self, runner: Runner) -> None:
        """Warn of norms that see a part of the batch only."""
        norms, size = list(_separate(plain_model(runner))), runner.train_dataloader.batch_size
        self._needed = get_world_size() > 1 and bool(norms)
        if self._needed and size and size < SMALL and any(isinstance(norm, _BatchNorm) for norm in norms):
            runner.logger.warning(
                f"batch norms see the {size} scans of their own process, not all {size * get_world_size()}: the run "
                "will not equal one process with the whole batch. Use norm_cfg=dict(type='SyncBN') or dict(type='IN')"
            )

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Make them equal."""
        if self._needed:
            # frozen ones are equal, and must not be rounded
            norms = [norm for norm in _separate(plain_model(runner)) if norm.training]
            buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
            all_reduce_params(buffers, op="mean") if buffers else None


def _separate(model: nn.Module) -> Iterator[_NormBase]:
    """Norms with running statistics that come from one process."""
    for module in model.modules():
        together = isinstance(module, nn.SyncBatchNorm | GatheredBatchNorm)
        if isinstance(module, _NormBase) and module.running_mean is not None and not together:
            yield module


HOOKS.register_module(module=EqualStatistics)
