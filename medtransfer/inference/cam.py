"""Class activation volumes: where in a scan a classifier sees its classes, on the scan's own grid.

Of a network that ends in global average pooling and one linear layer the logit of a class is a mean over places. The
layer as a 1x1x1 convolution of the last feature map gives what each place adds to it, exactly (Zhou et al., CVPR 2016,
"Learning Deep Features for Discriminative Localization"). Other heads are taken as linear around the scan at hand by
their gradient (Selvaraju et al., ICCV 2017, "Grad-CAM"), here with both signs, so that for the first kind of head both
are one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..checkpoint.card import ModelCard
from ..errors import ModelError, UsageError
from ..model_zoo.encoder import Encoder
from ..model_zoo.layers import to_size
from ..volumes.memory import require_memory
from ..volumes.prepare import Prepared
from ..volumes.read import Volume
from ..volumes.write import write_image
from .engine import Engine
from .windows import Plan, plan_whole, run_slabs

Method = Literal["cam", "grad-cam"]


def activation_method(network: nn.Module) -> Method:
    """How class activations of a network are computed: ``cam`` is exact, ``grad-cam`` an approximation.

    Raises:
        ModelError: the network is not a classifier of the zoo.

    >>> from medtransfer.model_zoo.catalog import create_model
    >>> activation_method(create_model("resnet10", base_channels=4, stem_channels=4))
    'cam'
    """
    if not isinstance(network, Encoder) or network.head_type != "classification":
        raise ModelError(
            f"class activations need a classifier of the zoo, got {type(network).__name__}",
            hint="Take a resnet, vgg, plain_encoder or resenc_encoder with classes; a segmenter gives masks already",
        )
    return "cam" if hasattr(network, "head_avgpool") else "grad-cam"


def class_maps(network: nn.Module, image: Tensor, classes: Sequence[int] | None = None) -> Tensor:
    """What each place of the last feature map adds to the logits of the classes, without the layer's bias.

    With ``cam`` the mean over the places plus the bias is the logit.

    Args:
        network: A classifier of the zoo, in eval mode.
        image: (N, C, D, H, W).
        classes: Their numbers; None: all.

    Returns:
        (N, len(classes), d, h, w), one voxel for each of the last feature map's.

    Raises:
        ModelError: see :func:`activation_method`.

    >>> from medtransfer.model_zoo.catalog import create_model
    >>> net = create_model("resnet10", num_classes=3, base_channels=4, stem_channels=4).eval()
    >>> image = torch.rand(1, 1, 40, 32, 33)
    >>> maps = class_maps(net, image)
    >>> maps.shape, torch.allclose(maps.mean(dim=(2, 3, 4)) + net.head_fc.bias, net(image), atol=1e-5)
    (torch.Size([1, 3, 2, 1, 2]), True)
    """
    exact = activation_method(network) == "cam"
    encoder = cast("Encoder", network)
    rows = list(range(int(encoder.num_classes or 0))) if classes is None else list(classes)
    last = encoder.features(image)[-1]
    # the sums are few, and too long for 16 bits
    with torch.autocast(last.device.type, enabled=False):
        wide = last if last.dtype == torch.float64 else last.float()
        return _linear_maps(encoder, wide, rows) if exact else _gradient_maps(encoder, wide, rows)


def class_activation(
    model: Engine | nn.Module,
    prepared: Prepared,
    card: ModelCard,
    class_name: str | None = None,
    plan: Plan | None = None,
) -> npt.NDArray[np.float32]:
    """What each voxel of a scan adds to the logit of a class: above 0 speaks for it, below 0 against it.

    Each voxel of the last feature map stands for a box of the network's stride; between their middles the maps are
    interpolated linearly, then brought back to the scan's grid. With several windows the maps of each are blended as a
    segmenter's logits are, while the classifier's logits are the plain mean over the windows. Logits are those before
    the card's temperature.

    Args:
        model: An engine, or a classifier of the zoo, which then runs where its weights are.
        prepared: The scan as the network sees it.
        card: The model's card.
        class_name: One class; None: all, in the card's order.
        plan: How the classifier was run; None: whole, in one pass.

    Returns:
        (1, I, J, K), or (number of classes, I, J, K), on the scan's own grid.

    Raises:
        ModelError: the network is not a classifier of the zoo, or gives NaN.
        UsageError: the card has no such class.
        ResourceError: memory does not suffice.

    >>> import nibabel as nib
    >>> from medtransfer.adapter.persist import card_of
    >>> from medtransfer.model_zoo.catalog import create_model
    >>> from medtransfer.volumes.prepare import prepare
    >>> from medtransfer.volumes.read import read_volume
    >>> net = create_model("resnet10", num_classes=3, base_channels=4, stem_channels=4).eval()
    >>> scan = read_volume(nib.Nifti1Image(np.random.rand(18, 17, 16).astype(np.float32), np.eye(4)))
    >>> class_activation(net, prepare(scan), card_of(net), "class_2").shape
    (1, 18, 17, 16)
    """
    engine = model if isinstance(model, Engine) else Engine(model, next(model.parameters()).device)
    rows = _rows(card, class_name)
    voxels = max(math.prod(prepared.grid.shape), math.prod(prepared.source_grid.shape))
    require_memory(4 * voxels * (3 * len(rows) + 1), "the class activation")
    chosen = plan or plan_whole(prepared.grid.shape, engine.strides, card.patch_size)
    # the weights are the same, not copied
    mapper = engine.over(ActivationNetwork(engine.network, rows))

    def run(patch: Tensor) -> Tensor:
        return cast("Tensor", mapper.finite(patch, "activations")[0])

    slabs = run_slabs(run, torch.from_numpy(prepared.array), chosen)
    return prepared.restore_logits(torch.cat(list(slabs), dim=1))


def write_activation(
    activation: npt.NDArray[np.float32], volume: Volume, path: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Write what :func:`class_activation` gave, as float32 NIfTI on the scan's grid; several classes along a 4th axis.

    Args:
        activation: (1, I, J, K), or (number of classes, I, J, K).
        volume: The scan.
        path: Ends in ``.nii`` or ``.nii.gz``.
        overwrite: Replace a file that exists.

    Returns:
        The path.

    Raises:
        UsageError: another ending.
        OutputExistsError: the output exists and ``overwrite`` is false.
        VolumeError: the scan is of another shape.
        ResourceError: the disk is full or the folder cannot be written.

    >>> import nibabel as nib, tempfile
    >>> from medtransfer.volumes.read import read_volume
    >>> scan = read_volume(nib.Nifti1Image(np.random.rand(4, 5, 6).astype(np.float32), np.eye(4)))
    >>> file = Path(tempfile.mkdtemp()) / "activation.nii.gz"
    >>> nib.load(write_activation(np.zeros((2, 4, 5, 6), np.float32), scan, file)).shape
    (4, 5, 6, 2)
    """
    return write_image(activation[0] if len(activation) == 1 else activation, volume, path, overwrite)


class ActivationNetwork(nn.Module):
    """A classifier as a network to the class activations of its input: (N, C, D, H, W) -> (N, K, D, H, W).

    Args:
        network: A classifier of the zoo, taken as it is.
        classes: The numbers of the K classes.

    Raises:
        ModelError: see :func:`activation_method`.
    """

    def __init__(self, network: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        activation_method(network)
        self.network, self.classes = network, tuple(classes)
        self.in_channels, self.num_classes = network.in_channels, len(self.classes)

    def forward(self, image: Tensor) -> Tensor:
        """The maps at the image's own resolution."""
        return to_size(class_maps(self.network, image, self.classes), image.shape[2:], "trilinear")


def _linear_maps(network: Encoder, last: Tensor, rows: list[int]) -> Tensor:
    """The linear layer behind the pooling, as a 1x1x1 convolution."""
    weight = network.head_fc.weight[rows].to(last.dtype)
    return torch.einsum("nc...,kc->nk...", last, weight)


def _gradient_maps(network: nn.Module, last: Tensor, rows: list[int]) -> Tensor:
    """Each channel times the sum of its logit's gradient; of a linear layer behind pooling that is its weight."""
    places = tuple(range(2, last.ndim))
    with torch.enable_grad():
        leaf = last.detach().requires_grad_()
        logits = network.head_fc(network.head_hidden(leaf))  # type: ignore[operator]
        slopes = [torch.autograd.grad(logits[:, row].sum(), leaf, retain_graph=True)[0] for row in rows]
    return torch.stack([(slope.sum(places, keepdim=True) * last).sum(1) for slope in slopes], dim=1)


def _rows(card: ModelCard, class_name: str | None) -> list[int]:
    if class_name is None:
        return list(range(len(card.classes)))
    if class_name not in card.classes:
        raise UsageError(f"the model has no class {class_name!r}", hint=f"Its classes: {', '.join(card.classes[:24])}")
    return [card.classes.index(class_name)]
