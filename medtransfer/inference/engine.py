"""A network ready to run on its device: the one place that calls it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..devices import dtype_name, tensor_float
from ..errors import ModelError, ResourceError
from ..lowering.layers import takes_input_statistics
from ..lowering.lower import distance, lower, noise_for, results, strides_of, tensors_in
from ..model_zoo.bfloat16 import guard_for
from ..volumes.memory import available_memory, size_text
from .compiling import compile_graphs
from .footprint import bytes_per_voxel, trace_bytes
from .shapes import shape_text

#: Logits, or what the heads of a network give by name; of a detector boxes, labels and scores.
Output = Tensor | dict[str, Tensor]
AGREES = 0.05  # of the logits' length; trained networks differ by 0.005 in bfloat16
_SHARE = 0.6  # of what is free; the rest is for the results and for other programs


class PassTooLargeError(ResourceError):
    """One pass of the network took more memory than there is; windows may still do."""


class Engine:
    """A snapshot of a network in eval mode on ``device``, computing in ``dtype``.

    At its first call it is lowered, see :func:`medtransfer.lowering.lower.lower`; a network for which that is not
    possible, or a detector, runs by autocast.

    Args:
        network: (1, C, D, H, W) -> (1, K, D, H, W) or (1, K), or a dict of them by name; or a detector, which takes a
            list of images and gives a list of dicts. Copied: later training of it does not reach the engine.
        device: Where it runs.
        dtype: The numbers of its convolutions.
        on_trial: :attr:`settled` compares them with float32.
        tf32: Let CUDA shorten float32 to 19 bits where it multiplies.
        compiled: Compile it on CUDA, with CUDA graphs: the first pass over each size of tile takes a minute.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        on_trial: bool = False,
        tf32: bool = False,
        compiled: bool = False,
    ) -> None:
        self.network = _snapshot(network).eval().requires_grad_(False).to(device)
        self.device, self.dtype, self.tf32, self.compiled = device, dtype, tf32, compiled
        self._lowered_to, self._on_trial = dtype, on_trial and dtype != torch.float32
        self._guard = guard_for(device, dtype) or nullcontext()
        self.in_channels = int(network.in_channels)  # type: ignore[arg-type]
        self.strides = _strides(network)
        self.detects = getattr(network, "task", None) == "detection"
        self._activations: dict[tuple[tuple[int, ...], torch.dtype], int] = {}
        self._voxels: dict[torch.dtype, float | None] = {}
        self._hidden: list[Tensor] = []
        if self.detects:
            self._watch()

    @cached_property
    def lowered(self) -> fx.GraphModule | None:
        """The faster form of the network, if there is one."""
        if self.detects or self.device.type not in ("cpu", "cuda"):
            return None
        return lower(self.network, self._lowered_to)

    def __getstate__(self) -> dict[str, Any]:
        """Without the faster form, whose weights lie as oneDNN alone reads them: a copy finds its own."""
        return {name: value for name, value in self.__dict__.items() if name not in ("lowered", "_fast")}

    @cached_property
    def _fast(self) -> Callable[..., Any]:
        """What a call runs as long as its numbers are those that were asked for."""
        network = self.network if self.lowered is None else self.lowered
        if self.compiled:
            return compile_graphs(network)
        # a graph's call would print its code around what it raises
        return network.forward if isinstance(network, fx.GraphModule) else network

    @property
    def precision(self) -> str:
        """The numbers in which convolutions multiply now: ``float32``, ``tf32``, ``bfloat16`` or ``float16``."""
        return "tf32" if self.tf32 else dtype_name(self.dtype)

    def over(self, network: nn.Module) -> Engine:
        """The same device and numbers for another network, which is run as it is: not copied, not lowered."""
        found = copy.copy(self)
        found.network = found._fast = network
        found.lowered, found._activations, found._voxels = None, {}, {}
        return found

    @property
    def sees_whole_input(self) -> bool:
        """Whether a norm layer takes its statistics from the input, which then should be as large as in training."""
        return any(takes_input_statistics(module) for module in self.network.modules())

    def __call__(self, image: Tensor) -> Output:
        """What the network gives for an image (1, C, D, H, W) from anywhere, in float32 on the device.

        Raises:
            PassTooLargeError: the device's memory did not suffice.
        """
        return self._run(self._fast if self.dtype == self._lowered_to else self.network, image)

    def plain(self, image: Tensor) -> Output:
        """What the network as it was given says in float32; errors as of a call."""
        with self._in_float32():
            return self._run(self.network, image)

    def _run(self, network: Callable[..., Any], image: Tensor) -> Output:
        try:
            # not inference_mode: in it the guard does not see the convolutions
            with torch.no_grad(), tensor_float(self.tf32), self._autocast(), self._guard:
                # a copy, into which the network may write: other models and windows see the same scan
                placed = image.to(self.device, non_blocking=True, copy=True)
                output = network(list(placed) if self.detects else placed)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._out_of_memory(image) from error
        except RuntimeError as error:
            if "allocate" not in str(error):
                raise
            raise self._out_of_memory(image) from error
        return _as_float(output[0] if isinstance(output, list | tuple) else output)

    def finite(self, image: Tensor, what: str = "logits") -> tuple[Output, str | None]:
        """What a call gives; where shorter numbers overflow, in float32, with a note that says so.

        Raises:
            ModelError: it is NaN or infinite in float32 too; ``what`` names it in the message.
            PassTooLargeError: the device's memory did not suffice.
        """
        found = self._finite_or_none(image)
        if found is not None:
            return found, None
        if self.dtype == torch.float32:
            raise ModelError(f"the network gives NaN or infinite {what} for this scan", hint="Check the weights")
        name = dtype_name(self.dtype)
        with self._in_float32():
            return self.finite(image, what)[0], f"{name} overflowed: computed in float32"

    @cached_property
    def settled(self) -> str | None:
        """Of numbers on trial: float32 in their place if they differ on noise, and a note that says so.

        On noise, so that what is found in one scan does not depend on which came before it.
        """
        error = self._difference() if self._on_trial else 0.0
        if error <= AGREES:
            return None
        name, self.dtype = dtype_name(self.dtype), torch.float32
        return f"{name} differs from float32 by {error:.0%} in this network: computed in float32"

    def _difference(self) -> float:
        """On noise, of the numbers from float32, as a share of the result's length; 0 where noise does not do."""
        if self.lowered is not None:
            return float(self.lowered.meta["error"])
        if self.detects:
            return 0.0
        try:
            noise = noise_for(self.network)
            pairs = list(zip(results(self(noise)), results(self.plain(noise)), strict=True))
        except Exception:  # whatever a user's own forward pass raises, of an input of this size
            return 0.0
        return max(distance(*pair) for pair in pairs)

    @contextmanager
    def _in_float32(self) -> Iterator[None]:
        short, self.dtype = self.dtype, torch.float32
        try:
            yield
        finally:
            self.dtype = short

    def estimate_bytes(self, shape: tuple[int, ...], classes: int) -> int:
        """Memory that one pass over (D, H, W) voxels takes at its peak, with input and logits in float32."""
        key = (shape, self.dtype)
        if key not in self._activations:
            self._activations[key] = self._activation_bytes(shape)
        return self._activations[key] + 4 * (self.in_channels + 2 * classes) * math.prod(shape)

    def _activation_bytes(self, shape: tuple[int, ...]) -> int:
        if self.dtype not in self._voxels:
            found = bytes_per_voxel(self.network, self.in_channels, self.strides, self.dtype)
            self._voxels[self.dtype] = found
        each = self._voxels[self.dtype]
        if each is None:
            return trace_bytes(self.network, (self.in_channels, *shape), self.dtype)
        return int(each * math.prod(shape))

    def fits(self, shape: tuple[int, ...], classes: int, memory: str | float = "auto") -> bool:
        """Whether one pass over (D, H, W) voxels stays in the budget."""
        free = self.free_bytes(memory)
        # asking takes a while the first time; small volumes fit even if every channel were alive at full size
        channels = sum(max(weight.shape[:2]) for weight in self.network.parameters() if weight.ndim > 2)
        channels += self.in_channels + 2 * classes
        return 4 * channels * math.prod(shape) <= free or self.estimate_bytes(shape, classes) <= free

    def free_bytes(self, memory: str | float = "auto") -> int:
        """The budget: ``memory`` GiB, or for ``auto`` a share of what the device has free."""
        if memory != "auto":
            return int(float(memory) * 2**30)
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else available_memory()
        return int(_SHARE * free)

    def _finite_or_none(self, image: Tensor) -> Output | None:
        self._hidden.clear()
        try:
            found = self(image)
        except ModelError:  # a detector makes no boxes of what is not finite
            if all(map(bool, self._hidden)):
                raise
            return None
        return found if all(map(bool, [*self._hidden, *_finite(found)])) else None

    def _autocast(self) -> torch.autocast:
        """Not where a lowered network does without: what follows its convolutions would be shortened too."""
        wanted = self.lowered is None or self.lowered.meta["autocast"]
        return torch.autocast(self.device.type, self.dtype, enabled=wanted and self.dtype != torch.float32)

    def _watch(self) -> None:
        """Keep, of each pass, whether what the telling parts of a detector give is finite: NaN makes no box at all."""

        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            self._hidden.extend(_finite(output))

        # a detector of a user's own need not say them
        for part in getattr(self.network, "telling_parts", list)():
            part.register_forward_hook(look)

    def _out_of_memory(self, image: Tensor) -> PassTooLargeError:
        sizes, channels = tuple(image.shape[2:]), int(getattr(self.network, "num_classes", None) or 1)
        needed = size_text(self.estimate_bytes(sizes, channels))
        reason = f"no memory for one pass over {shape_text(sizes)} voxels on {self.device} (about {needed})"
        return PassTooLargeError(reason, hint="Give a smaller tile")


def _snapshot(network: nn.Module) -> nn.Module:
    """A copy in float32, whatever the numbers of the network: scans come in float32."""
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise ModelError("has weights without values, on the device meta", hint="Load its weights first")
    try:
        return copy.deepcopy(network).float()
    except RuntimeError as error:
        # torch.nn.utils.weight_norm, the older one, keeps a tensor that autograd made
        reason = f"cannot be copied: {str(error).split('.')[0]}"
        hint = "Of torch.nn.utils.weight_norm take parametrizations.weight_norm, or run the network under no_grad once"
        raise ModelError(reason, hint=hint) from error


def _finite(output: Any) -> list[Tensor]:
    """Whether each of the tensors is finite, as tensors: asking a GPU for the answer makes it wait."""
    told = (tensor for tensor in tensors_in(output) if tensor.is_floating_point() and tensor.numel())
    # both are NaN where one number is; that takes a fraction of the time of looking at each
    return [torch.stack(torch.aminmax(tensor)).isfinite().all() for tensor in told]


def _as_float(output: Output) -> Output:
    """Numbers in float32; whole numbers, such as those of classes, stay."""
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in output.items()}


def _strides(network: nn.Module) -> tuple[int, int, int]:
    """The network's total stride along each axis, 1 if it does not say."""
    if getattr(network, "ndim", 3) != 3:
        raise ModelError("is a 2-D network; only 3-D networks run over volumes", hint="Build or inflate it in 3-D")
    return strides_of(network, default=1)
