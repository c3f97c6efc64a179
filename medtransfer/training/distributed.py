"""Runs of several processes: how they find each other, and how the end of one becomes the end of all."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Any

import msgspec
import torch
from mmengine.config import Config
from torch import distributed

from ..errors import ConfigError, MedTransferError, ResourceError, UsageError
from .launchers import LAUNCHERS, set_environment

TIMEOUT = 1800.0  # seconds that a process waits for the others, unless env_cfg.dist_cfg.timeout says otherwise
JOIN = 600.0  # seconds until all processes must have been started
BEAT, SILENCE, GRACE = 1.0, 60.0, 5.0  # seconds: between signs of life, without any, and to end in good order
# what gloo, NCCL and torch say when another process has ended or does not answer
_OTHERS = re.compile(
    r"gloo|NCCL|ProcessGroup|connection (?:closed|reset|refused)|broken pipe|timed out (?:waiting|after)", re.IGNORECASE
)
_SLOW = re.compile(r"timed? ?out", re.IGNORECASE)
_HINT = "Go on with --resume auto"
_runs = count()


class End(msgspec.Struct, frozen=True):
    """Why a run ends: the exit code of all its processes and, unless it was told to end, what went wrong."""

    code: int
    text: str


@contextmanager
def launched(launcher: str) -> Iterator[Crew | None]:
    """Join the processes that a launcher started; whatever ends one of them inside ends all of them.

    The process that fails first raises its error. The others leave with the same exit code and say nothing.

    Raises:
        UsageError: an unknown launcher, or this process was not started by it.
        ResourceError: not all processes were there in time, or one was lost.
    """
    if launcher not in LAUNCHERS:
        raise UsageError(f"launcher must be one of {', '.join(LAUNCHERS)}, got {launcher!r}")
    if launcher == "none":
        yield None
        return
    crew = Crew.join(launcher)
    try:
        yield crew
        crew.part()
    except BaseException as error:
        said = crew.tell(error)
        if said is error:
            raise
        raise said from error


class Crew:
    """The processes of a run, as one of them sees them.

    Args:
        rank: Number of this process, from 0.
        size: How many there are.
        store: What they share besides the process group of torch, which exists after :meth:`connect`.

    Attributes:
        clean_up: What must be done before this process is ended by force.
        said: Why the run ends, once a process has said so.
    """

    def __init__(self, rank: int, size: int, store: Any) -> None:
        self.rank, self.size, self.store = rank, size, store
        self.clean_up: Callable[[], None] = lambda: None
        self.timeout = TIMEOUT
        self.said: End | None = None
        self.over = threading.Event()
        # a client of its own: one that waits would block the other
        threading.Thread(target=self._watch, args=(store.clone(),), daemon=True, name="medtransfer-watch").start()

    @classmethod
    def join(cls, launcher: str) -> Crew:
        """Find the other processes.

        Raises:
            ResourceError: they are not there.
            UsageError: the launcher's variables are missing.
        """
        set_environment(launcher)
        try:
            store, rank, size = next(iter(distributed.rendezvous("env://", timeout=timedelta(seconds=JOIN))))
        except (RuntimeError, ValueError) as error:
            reason = f"the processes of the run did not find each other: {_in_one_line(error)}"
            raise ResourceError(reason, hint="Look at MASTER_ADDR and MASTER_PORT") from error
        # one run after another may meet at the same store
        return cls(rank, size, distributed.PrefixStore(f"medtransfer{next(_runs)}", store))

    def connect(self, cfg: Config) -> None:
        """Start torch's process group: NCCL where there is CUDA, else gloo.

        Raises:
            ConfigError: a timeout that cannot be meant, or a network that is to be sharded.
            UsageError: more processes than CUDA devices on this machine.
        """
        stated = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
        self.timeout = stated.get("timeout", TIMEOUT)
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not self.timeout > 0:
            raise ConfigError(f"env_cfg.dist_cfg.timeout must be a number of seconds, got {self.timeout!r}")
        if "FullySharded" in str((cfg.get("model_wrapper_cfg") or {}).get("type", "")):
            reason = "model_wrapper_cfg: a sharded network cannot be saved, since the first process writes checkpoints"
            raise ConfigError(reason, path=cfg.filename, hint="Try with_cp=True; docs/distributed.md shows FSDP")
        backend = _on_device(stated) if torch.cuda.is_available() else _on_cpu(cfg)
        store, limit = distributed.PrefixStore("group", self.store), timedelta(seconds=self.timeout)
        distributed.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=limit)

    def part(self) -> None:
        """End together: the work is done, and no process is to take the end of another for a loss."""
        if distributed.is_initialized():
            # the watch goes on meanwhile, since another process may fail in what it does last
            distributed.barrier()
        self.over.set()
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def tell(self, error: BaseException) -> BaseException:
        """Tell the others why this process ends; return what it is to raise."""
        self.over.set()
        with _deaf(), suppress(RuntimeError):  # nobody is left to be told
            end = self.said or (self._wait_for_word() if _is_of_others(error) else None)
            error = self._lost(error) if _is_of_others(error) else error
            own = End(_exit_code(error), f"process {self.rank}: {_in_one_line(error)}")
            end = end or _first(self.store, own, self.rank)
            if end is not None:
                return SystemExit(end.code)
            self._wait_for_hearers()
            return error
        return self._lost(error) if _is_of_others(error) else error

    def _wait_for_word(self) -> End | None:
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            if (end := _heard(self.store, self.rank)) is not None:
                return end
            time.sleep(0.1)
        return None

    def _wait_for_hearers(self) -> None:
        """The store may end with the first process: let those that still live read why, before it does."""
        deadline = time.monotonic() + GRACE
        for other in range(1, self.size if self.rank == 0 else 1):
            while not self.store.check([f"heard{other}"]) and time.monotonic() < deadline:
                time.sleep(0.1)

    def _lost(self, error: BaseException) -> ResourceError:
        if _SLOW.search(str(error)):
            reason = f"another process of the run has not answered for {self.timeout:g} s"
            return ResourceError(reason, hint=f"{_HINT}; env_cfg.dist_cfg.timeout is that time")
        return ResourceError(f"another process of the run was lost, as process {self.rank} sees", hint=_HINT)

    def _watch(self, store: Any) -> None:
        """Give signs of life and look for those of the others, while the main thread is at work or waits in vain."""
        # the first process sees to all, the others to the first
        others = [number for number in range(self.size) if (number == 0) != (self.rank == 0)]
        heard = {number: (b"", time.monotonic()) for number in others}
        for beat in range(sys.maxsize):
            if self.over.wait(BEAT):
                return
            try:
                store.set(f"beat{self.rank}", str(beat))
                end = self._end(store, heard)
            except RuntimeError:
                end = End(ResourceError.exit_code, "the process that keeps the run together is gone")
                self._leave(end, loud=self.rank <= 1)
            if end is not None:
                self.said = end  # where it was read may be gone soon
                self._leave(end, loud=False)

    def _end(self, store: Any, heard: dict[int, tuple[bytes, float]]) -> End | None:
        if (end := _heard(store, self.rank)) is not None:
            return end
        now = time.monotonic()
        for number, (before, _) in heard.items():
            beat = store.get(f"beat{number}") if store.check([f"beat{number}"]) else b""
            if beat != before:
                heard[number] = (beat, now)
        silent = [number for number, (_, last) in heard.items() if now - last > SILENCE]
        if not silent:
            return None
        end = End(ResourceError.exit_code, f"process {silent[0]} of the run is gone")
        if _first(store, end, self.rank) is None:
            self._leave(end, loud=True)
        return end

    def _leave(self, end: End, loud: bool) -> None:
        """End this process: its main thread may wait in torch for ever, where no signal and no exception arrives."""
        if self.over.wait(GRACE):
            return
        if loud:
            sys.stderr.write(f"medtransfer: error: {end.text}. {_HINT}.\n")
        sys.stderr.flush()
        with suppress(Exception):
            self.clean_up()
        os._exit(end.code)


def _heard(store: Any, rank: int) -> End | None:
    """Why the run ends, if any process has said so."""
    if not store.check(["end"]):
        return None
    end = msgspec.json.decode(store.get("end"), type=tuple[int, End])[1]
    store.set(f"heard{rank}", "")
    return end


def _first(store: Any, end: End, rank: int) -> End | None:
    """Say why the run ends, unless another process has said so before: then return what it said."""
    own = msgspec.json.encode((rank, end))
    return None if bytes(store.compare_set("end", "", own.decode())) == own else _heard(store, rank)


@contextmanager
def _deaf() -> Iterator[None]:
    """Pass over SIGTERM: torchrun sends it to all when it sees the end of one, and that must not come in between."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _is_of_others(error: BaseException | None) -> bool:
    """Whether it is only what another process's end looks like from here, or came while that was handled."""
    if _is_termination(error) and error is not None:
        return _is_of_others(error.__context__)
    of_torch = isinstance(error, RuntimeError) and not isinstance(error, MedTransferError)
    return of_torch and bool(_OTHERS.search(str(error)))


def _is_termination(error: BaseException | None) -> bool:
    return type(error).__name__ == "Terminated"  # the command line's own, which stands above this room


def _exit_code(error: BaseException) -> int:
    if isinstance(error, MedTransferError):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 128 + signal.SIGTERM if _is_termination(error) else 1


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _on_device(stated: Mapping[str, Any]) -> str:
    local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= devices:
        reason = f"process {local} of this machine has no CUDA device of its own: there are {devices}"
        raise UsageError(reason, hint="Start one process a device, or set CUDA_VISIBLE_DEVICES= to train on the CPU")
    torch.cuda.set_device(local)
    return str(stated.get("backend", "nccl"))


def _on_cpu(cfg: Config) -> str:
    """Tell mmengine's wrapper of no device; its own default is the CUDA device of the process."""
    if cfg.get("sync_bn"):
        hint = "On CPUs use model.network.norm_cfg=dict(type='SyncBN')"
        raise ConfigError("sync_bn exchanges the norms on CUDA only", path=cfg.filename, hint=hint)
    wrapper = {"type": "MMDistributedDataParallel", **(cfg.get("model_wrapper_cfg") or {})}
    if wrapper["type"] == "MMDistributedDataParallel":
        unused = bool(cfg.get("find_unused_parameters"))
        wrapper = {"broadcast_buffers": False, "find_unused_parameters": unused, "device_ids": None, **wrapper}
    cfg.model_wrapper_cfg = wrapper
    return "gloo"
