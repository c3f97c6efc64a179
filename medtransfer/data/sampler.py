"""Which case is drawn when: a stream that depends on the seed and the number of the draw alone."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

from ..errors import DatasetError


class Draw(NamedTuple):
    """The number of a case and the seed of its random transforms."""

    case: int
    seed: int


class CaseSampler(Sampler[Draw]):
    """Draw cases in shuffled rounds; each draw brings the seed of its own augmentation.

    Nothing depends on the state of a global generator, so that a resumed run sees the very patches that the unbroken
    run would have seen, with any number of loader processes. Several processes take the draws in turns: with batches of
    B they see together what one process sees with batches of twice, three times ... B.

    Args:
        dataset: What is drawn from; only its length is used.
        seed: Seed of the stream.
        samples_per_epoch: Draws that count as one epoch, all processes together; None: every case once. What is left
            when it is divided by the processes is not drawn.

    Raises:
        DatasetError: fewer draws than processes.

    >>> sampler = CaseSampler(["a", "b", "c"], seed=1, samples_per_epoch=6)
    >>> sorted(draw.case for draw in sampler)
    [0, 0, 1, 1, 2, 2]
    """

    def __init__(self, dataset: Sized, seed: int | None = None, samples_per_epoch: int | None = None) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if distributed else 0
        self.world_size = torch.distributed.get_world_size() if distributed else 1
        self.num_cases = len(dataset)
        self.seed = seed or 0
        self.samples_per_epoch = samples_per_epoch or self.num_cases
        if self.samples_per_epoch < self.world_size:
            reason = f"{self.samples_per_epoch} samples an epoch are too few for {self.world_size} processes"
            raise DatasetError(reason, hint="Set the sampler's samples_per_epoch, or start fewer processes")
        self.epoch = 0
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def set_epoch(self, epoch: int) -> None:
        """Go to the first draw of an epoch; mmengine calls this before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples_per_epoch // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        first = self.epoch * self.samples_per_epoch
        for number in range(first + self.rank, first + len(self) * self.world_size, self.world_size):
            yield self.draw(number)

    def draw(self, number: int) -> Draw:
        """The draw of that number, from 0."""
        turn, position = divmod(number, self.num_cases)
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return Draw(int(self._order(turn)[position]), seed)

    def _shuffled(self, turn: int) -> np.ndarray:
        return np.random.default_rng([self.seed, turn]).permutation(self.num_cases)
