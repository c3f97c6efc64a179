"""Loaders that can start amid an epoch, name the case that failed, and leave no worker process behind."""

from __future__ import annotations

import random
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.runner import set_random_seed
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..data.sampler import Draw
from ..errors import ConfigError, DatasetError, MedTransferError, ModelError
from . import faults, registry, workers
from .agreement import first_decides
from .measured import with_numbers
from .runner import TrainingRunner

FUNCTIONS = registry.REGISTRIES["FUNCTIONS"]
TIMEOUT = 600.0  # seconds that a worker process may take for a batch, unless the config says otherwise


def build_loaders(cfg: Config, saved_seed: int | None = None) -> dict[str, DataLoader[Any]]:
    """The loaders of a config, by its keys; all random draws follow from ``cfg.randomness.seed``, which is set.

    Args:
        cfg: The config.
        saved_seed: That of the run to be resumed: the same patches are drawn, whatever the config says.

    Raises:
        ConfigError: an argument that a dataset or loader does not take.
        DatasetError: data that were refused, or a split that leaves no case.
    """
    seed = (cfg.get("randomness") or {}).get("seed") if saved_seed is None else saved_seed
    seed = first_decides(lambda: random.randrange(2**31)) if seed is None else int(seed)
    # what is drawn beside the patches, as dropout is, differs from process to process; the networks are made equal
    cfg.randomness = {"diff_rank_seed": get_world_size() > 1, **(cfg.get("randomness") or {}), "seed": seed}
    set_random_seed(seed)
    loaders: dict[str, DataLoader[Any]] = {}
    for key in ("train_dataloader", "val_dataloader"):
        if cfg.get(key):
            trained = loaders["train_dataloader"].dataset if loaders else None
            loaders[key] = in_config_words(key, partial(_build, with_numbers(cfg[key], trained), seed))
            if not len(cast("Any", loaders[key].dataset)):
                raise DatasetError(f"the split leaves no case for {key}", path=cfg.get("data_root"))
            if not len(loaders[key]):
                hint = "Set drop_last=False, a smaller batch_size, or more samples_per_epoch"
                size = loaders[key].batch_size
                raise ConfigError(f"{key}: a batch of {size} is larger than an epoch and left out", hint=hint)
    return loaders


def _build(part: Mapping[str, Any], seed: int) -> DataLoader[Any]:
    loader = dict(part)
    on_device = _augments_on_device(loader)
    # from such memory a batch goes to a GPU while that computes
    loader.setdefault("pin_memory", torch.cuda.is_available() and not on_device)
    if loader.get("num_workers"):
        loader.setdefault("timeout", TIMEOUT)
        workers.warn_of_many(int(loader["num_workers"]))
    if isinstance(loader["dataset"], Mapping):
        loader["dataset"] = NamedCases(registry.DATASETS.build(loader["dataset"]))
    if on_device:
        loader["dataset"].use_device(get_device())
    # the dataset knows what its samples are; mmengine's default would give lists of tensors
    word = getattr(loader["dataset"], "collate", "default_collate")
    loader.setdefault("collate_fn", {"type": FUNCTIONS.get(word)})
    built = TrainingRunner.build_dataloader(loader, seed)
    # the Runner builds torch's class by name; this one adds methods and no state of its own
    built.__class__ = CaseLoader
    built.collate_fn = Collate(built.collate_fn)
    built.generator = torch.Generator()
    return built


def _augments_on_device(loader: Mapping[str, Any]) -> bool:
    """Whether the dataset is to augment on the device that trains.

    Raises:
        ConfigError: the loader has words that do not go with it.
    """
    dataset = loader["dataset"]
    word = dataset.get("augment_on") if isinstance(dataset, Mapping) else getattr(dataset, "augment_on", None)
    if word != "device":
        return False
    for word, reason in _NOT_ON_DEVICE.items():
        if loader.get(word):
            raise ConfigError(f"augment_on='device' does not go with {word}={loader[word]!r}: {reason}",
                              hint=f"Leave {word} away, or augment_on")  # fmt: skip
    return True


_NOT_ON_DEVICE = {
    "num_workers": "patches come to the device within the process that trains",
    "pin_memory": "its batches are on the device already",
}


def in_config_words(section: str, build: Callable[[], Any]) -> Any:
    """Build a part; what its class says about the arguments is a fault of the config.

    Raises:
        ConfigError: an argument that it does not take.
    """
    try:
        return build()
    except ModelError as error:
        raise ConfigError(f"{section}: {error.reason}", path=error.path, hint=error.hint) from error
    except (TypeError, AssertionError) as error:
        raise ConfigError(f"{section}: {error}") from error


class CaseLoader(DataLoader[Any]):
    """A DataLoader for runs that are interrupted.

    ``first_batch`` is the batch that the next pass starts with; those before are not read. ``on_fault`` is called
    when a worker process is lost between two steps.
    """

    first_batch = 0
    on_fault: Callable[[], None] | None = None

    @property
    def _index_sampler(self) -> Any:
        return _FromBatch(self, super()._index_sampler)

    def __iter__(self) -> Any:
        # the seed of the worker processes: that of the epoch, however often the run was resumed
        cast("torch.Generator", self.generator).manual_seed(getattr(self.sampler, "epoch", 0))
        if isinstance(self.dataset, NamedCases):
            self.dataset.watch(self.num_workers)
        ended = False
        iterator = super().__iter__()
        workers.bound(iterator)
        try:
            while (batch := self._next(iterator)) is not None:
                with workers.at_death(signal.SIG_DFL):
                    yield batch
            ended = True
        finally:
            if not (ended and self.persistent_workers):
                workers.end(iterator)

    def _next(self, iterator: Any) -> Any:
        with workers.at_death(signal.SIG_DFL):  # another death must not disturb what is said of the first
            return self._batch(iterator)

    def _batch(self, iterator: Any) -> Any:
        try:
            with workers.at_death(workers.raise_its_error):
                if self.num_workers:
                    torch._C._error_if_any_worker_fails()
                batch = next(iterator, None)
        except (RuntimeError, OSError, EOFError) as error:  # the latter: a worker ended while it handed over a batch
            if self.on_fault is not None:
                self.on_fault()
            places = self.dataset.places() if isinstance(self.dataset, NamedCases) else {}
            fault = workers.fault(error, iterator, places)
            if fault is None:
                raise
            raise fault from error
        if isinstance(batch, Failure):
            raise batch.error from RuntimeError(batch.traceback)
        return batch


class _FromBatch:
    """The batches of a sampler from ``loader.first_batch`` on, and all of them the next time."""

    def __init__(self, loader: CaseLoader, batches: Any) -> None:
        self.loader, self.batches = loader, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        first, self.loader.first_batch = self.loader.first_batch, 0
        yield from islice(iter(self.batches), first, None)


class Failure:
    """An error on its way out of a worker process: torch would hand on its text alone, or hang if it has no name."""

    def __init__(self, error: MedTransferError, text: str) -> None:
        self.error, self.traceback = error, text


class NamedCases(Dataset[Any]):
    """A dataset whose errors name the case; everything else is the dataset's own."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._at = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "dataset" or name.startswith("__"):  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def watch(self, workers: int) -> None:
        """Let the main process see which case each of so many worker processes, which start now, is at: from 1."""
        if len(self._at) != workers:
            self._at = torch.zeros(workers, dtype=torch.int64).share_memory_()

    def places(self) -> dict[int, str]:
        """The case that each worker process is at, by the process's number; those between two cases are not there."""
        return {worker: self._case(number - 1) for worker, number in enumerate(self._at.tolist()) if number}

    def __getitem__(self, key: Any) -> Any:
        worker, number = get_worker_info(), key.case if isinstance(key, Draw) else key
        if worker is None:
            return self._read(key)
        if isinstance(number, int) and worker.id < len(self._at):
            self._at[worker.id] = number + 1
        try:
            return self._read(key)
        except MedTransferError as error:
            return Failure(error, traceback.format_exc())
        finally:
            self._at[worker.id : worker.id + 1] = 0

    def _read(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except Exception as error:  # whatever a transform raises
            raise _with_case(error, self._case(key)) from error

    def _case(self, key: Any) -> str:
        number = key.case if isinstance(key, Draw) else key
        cases = getattr(self.dataset, "cases", None)
        return str(cases[number].id if cases is not None and isinstance(number, int) else key)


def _with_case(error: Exception, case: str) -> MedTransferError:
    if type(error).__module__ == MedTransferError.__module__ and isinstance(error, MedTransferError):
        reason = error.reason if case in str(error) else f"case {case}: {error.reason}"
        return type(error)(reason, path=error.path, hint=error.hint)
    fault = faults.describe(error)
    if fault is not None:
        return type(fault)(f"case {case}: {fault.reason}", path=fault.path, hint=fault.hint)
    return MedTransferError(f"case {case}: {type(error).__name__}: {' '.join(str(error).split())}")


def list_collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A batch of scans that differ in size: one list an entry of the samples.

    >>> list_collate([{"case": "a", "label": 1}, {"case": "b", "label": 2}])
    {'case': ['a', 'b'], 'label': [1, 2]}
    """
    return {key: [sample[key] for sample in samples] for key in samples[0]}


FUNCTIONS.register_module(module=list_collate)


class Collate:
    """A function that makes a batch of samples, unless one of them is a failure."""

    def __init__(self, function: Callable[[Sequence[Any]], Any]) -> None:
        self.function = function

    def __call__(self, samples: Sequence[Any]) -> Any:
        failures = [sample for sample in samples if isinstance(sample, Failure)]
        return failures[0] if failures else self.function(samples)
