"""The networks that are ranked: each source in the architecture that its weights belong to, and the same untrained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from ..adapter.report import TransferReport
from ..adapter.source import SourceWeights, read_source
from ..adapter.transfer import transfer
from ..data.preprocessing import Preprocessing, read_preprocessing
from ..errors import ConfigError, TransferError, UsageError
from ..model_zoo.catalog import create_model, inherited_arguments
from ..model_zoo.names import DETECTORS, MODEL_NAMES

_AROUND = (*DETECTORS, "multitask")
#: arguments that say how a network is trained or used, not what its encoder computes; and what the data decide
LEFT_OUT = ("in_channels", "num_classes", "conv_cfg", "aux_train", "with_cp", "frozen_stages", "norm_eval")


@dataclass(frozen=True)
class Contender:
    """A source in a network that takes the data's channels, frozen.

    Attributes:
        name: As it is called in the ranking.
        path: The weight file or model folder.
        format: Container, wrapper and dialect in words; ``dialect`` is the last of them.
        network: Name in the zoo, and ``arguments`` to build it again.
        module: The network with the source's weights, in evaluation mode.
        coverage: Share of the encoder's parameters that came from the source, 0 to 1.
        preprocessing: How scans are prepared for it; ``preprocessing_from`` says where that is known from.
        patch_size: The patch that it was trained on, in voxels, where that is known.
        notes: What the reader and the transfer noticed.
    """

    name: str
    path: Path
    format: str
    dialect: str | None
    network: str
    arguments: dict[str, Any]
    module: nn.Module
    coverage: float
    preprocessing: Preprocessing
    preprocessing_from: str
    patch_size: tuple[int, ...] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def build(self) -> str:
        """All that decides what an untrained network of this kind sees and computes, as a word to compare by."""
        return repr((self.network, sorted(self.arguments.items()), self.preprocessing, self.patch_size))

    def untrained(self, seed: int) -> nn.Module:
        """The same network with random weights."""
        return _built(self.network, self.arguments, seed)


def build_contender(
    name: str,
    path: Path,
    channels: Sequence[str],
    dialect: str | None = None,
    input_channels: str = "interpolate",
) -> Contender:
    """Read a source and build its own network around its weights, for inputs of these channels.

    Raises:
        CheckpointError: the file was refused.
        TransferError: the weights belong to no network of the zoo, or too few of them fit.
    """
    weights = read_source(path, dialect)
    if weights.home is None:
        reason = "the weights belong to no network of the zoo, so there is none to compute features with"
        raise TransferError(reason, path=path, hint="See `medtransfer inspect`, or name the format by dialect")
    network, own = _bare_encoder(weights.home.name, weights.home.arguments)
    arguments = {**_encoder_arguments(own), "in_channels": len(channels)}
    module = _built(network, arguments, seed=0)
    report = transfer(path, module, input_channels, dialect=dialect, channel_names=channels)
    preprocessing, origin = _preprocessing(weights, len(channels))
    return Contender(
        name=name,
        path=path,
        format=weights.format,
        dialect=weights.dialect,
        network=network,
        arguments=arguments,
        module=module,
        coverage=report.coverage,
        preprocessing=preprocessing,
        preprocessing_from=origin,
        patch_size=_patch_size(weights),
        notes=[*_changes(report), *_told(report.notes), *filter(None, [weights.home.note])],
    )


def read_names(sources: Sequence[str | Path] | Mapping[str, str | Path]) -> dict[str, Path]:
    """Names of the sources: those given (``NAME=PATH`` or a mapping), else the last parts of the paths that differ.

    Raises:
        UsageError: no source, or two of one name.

    >>> read_names(["ct=a/encoder.pt", "runs/one/best", "runs/two/best"])
    {'ct': PosixPath('a/encoder.pt'), 'one/best': PosixPath('runs/one/best'), 'two/best': PosixPath('runs/two/best')}
    """
    pairs = list(sources.items()) if isinstance(sources, Mapping) else [_name_and_path(source) for source in sources]
    if not pairs:
        raise UsageError("there is no source to rank", hint="Name weight files or model folders")
    unnamed = [Path(path) for name, path in pairs if not name]
    names = {path: _shortest_name(path, unnamed) for path in unnamed}
    named = [(name or names[Path(path)], Path(path)) for name, path in pairs]
    twice = sorted({name for name, _ in named if [other for other, _ in named].count(name) > 1})
    if twice:
        raise UsageError(f"two sources are called {twice[0]!r}", hint="Give them names: NAME=PATH")
    return dict(named)


def _name_and_path(source: str | Path) -> tuple[str, str | Path]:
    name, equals, path = str(source).partition("=")
    return (name, path) if equals and name and path and not Path(source).exists() else ("", source)


def _shortest_name(path: Path, others: Sequence[Path]) -> str:
    parts = path.parts or (str(path),)
    for count in range(1, len(parts) + 1):
        tail = parts[-count:]
        if sum(other.parts[-count:] == tail for other in others) == 1:
            return "/".join(tail)
    return str(path)


def _bare_encoder(name: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The encoder alone of a detector or of a network of several heads, which need more than classes to be built.

    >>> _bare_encoder("faster_rcnn_resnet18", {"pool": "none", "box_head_size": 256}), _bare_encoder("vgg11", {})
    (('resnet18', {'pool': 'none'}), ('vgg11', {}))
    """
    bare = next((name.removeprefix(f"{kind}_") for kind in _AROUND if name.startswith(f"{kind}_")), name)
    return (name, arguments) if bare == name else (bare, inherited_arguments(name, arguments, bare))


def _encoder_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """What an encoder is built by, in 3-D also where the weights are flat."""
    kept = {name: value for name, value in given.items() if name not in LEFT_OUT}
    if isinstance(norm := kept.get("norm_cfg"), Mapping):
        kept["norm_cfg"] = {**norm, "type": re.sub(r"[12]d$", "", str(norm.get("type", "BN")))}
    return kept


def _built(network: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # the head, which a segmenter cannot be without, plays no part
        has_head = MODEL_NAMES[network][0].endswith("unet")
        module = create_model(network, num_classes=2 if has_head else None, **arguments)
    return module.eval().requires_grad_(False)


def _preprocessing(weights: SourceWeights, channels: int) -> tuple[Preprocessing, str]:
    known = msgspec.to_builtins(weights.card) if weights.card else weights.facts
    kept = {name: known[name] for name in Preprocessing.__struct_fields__ if known.get(name) is not None}
    if len(kept.get("spacing", (0, 0, 0))) != 3:
        del kept["spacing"]  # that of a 2-D network
    if isinstance(kept.get("intensity"), list) and len(kept["intensity"]) != channels:
        del kept["intensity"]  # one a channel, of other channels
    if not kept:
        return Preprocessing(), "default: z-score, no resampling"
    try:
        return read_preprocessing(kept), "its card" if weights.card else "its file"
    except ConfigError:
        return Preprocessing(), "default: z-score, no resampling (what its file says cannot be used)"


def _patch_size(weights: SourceWeights) -> tuple[int, ...] | None:
    size = weights.card.patch_size if weights.card else weights.facts.get("patch_size")
    return tuple(size) if size and len(size) == 3 else None


def _changes(report: TransferReport) -> list[str]:
    """What was done to the weights, the first of its kind: the input convolution leads."""
    return [entry.how for entry in report.adapted[:1]]


def _told(notes: Sequence[str]) -> Iterator[str]:
    """The notes that bear on what the features are worth; where a file keeps its weights does not."""
    return (note for note in notes if not note.startswith(("weights found under", "the target computes")))


@contextmanager
def on_device(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Keep networks on a device for as long as they compute there."""
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.cpu()


def stage_maps(module: nn.Module, image: Tensor) -> list[Tensor]:
    """The encoder's feature maps (N, C, D, H, W) of each stage, from high to low resolution."""
    with torch.inference_mode():
        maps: list[Tensor] = module.features(image)  # type: ignore[operator]
    return maps
