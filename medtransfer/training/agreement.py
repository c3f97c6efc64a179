"""What all processes of a run must agree in: what the first one decides, and the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from torch.utils.data import DataLoader

from ..errors import DatasetError

Found = TypeVar("Found")


def first_decides(decide: Callable[[], Found]) -> Found:
    """What the first process finds, in all of them; the others do not look.

    >>> first_decides(lambda: 3)
    3
    """
    found = [decide() if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def check_same_data(loaders: Mapping[str, DataLoader[Any]]) -> None:
    """See that all processes have the same cases and equally many batches: else one would wait for ever.

    Raises:
        DatasetError: they have not.
    """
    own = {name: (len(loader), _cases(loader)) for name, loader in loaders.items()}
    for rank, theirs in enumerate(all_gather_object(own)):
        for name, (length, cases) in theirs.items():
            if (length, cases) != own.get(name):
                what = f"{len(cases)} cases in {length} batches, others {len(own[name][1])} in {own[name][0]}"
                hint = "Give every machine the same data; leave round_up of the sampler away, scores are exact with it"
                raise DatasetError(f"{name} of process {rank} has {what}", hint=hint)


def _cases(loader: DataLoader[Any]) -> list[str]:
    dataset: Any = loader.dataset
    return [str(getattr(case, "id", case)) for case in getattr(dataset, "cases", range(len(dataset)))]
