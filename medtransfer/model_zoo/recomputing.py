"""What gradient checkpointing (``with_cp=True``) has to know of the modules that it runs twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from .layers import statistics_unmoved


def both_runs(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for the first and the second run of a module, for ``checkpoint``'s ``context_fn``.

    The second must compute in the way of the first (torch sets function modes aside in a backward pass), and must not
    count the batch in the norms' statistics again.
    """
    return nullcontext(), _second_run(module, _get_current_function_mode_stack())


@contextmanager
def _second_run(module: nn.Module, modes: Sequence[TorchFunctionMode]) -> Iterator[None]:
    with ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        with statistics_unmoved(module):
            yield
