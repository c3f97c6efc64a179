"""A classifier's weights in an FCN, by ``to_fcn`` and by ``transfer``; and a document's recipe, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.adapter.convert import convert
from medtransfer.adapter.source import read_source
from medtransfer.errors import ModelError
from tests.adapter.conftest import fill
from tests.adapter.dialects.torchvision_vgg_oracle import torchvision_tensors

FLAT: dict[str, Any] = {"conv_cfg": {"type": "Conv2d"}}
HIDDEN: dict[str, dict[str, Any]] = {
    "2-D": {"fc_channels": 6, **FLAT},
    "3-D": {"fc_channels": 6, "head_pool": 2},
    "3-D, thin": {"fc_channels": 6, "head_pool": (1, 2, 2), "batch_norm": True},
    "with an activation that learns": {"fc_channels": 6, "head_pool": 2, "act_cfg": {"type": "PReLU"}},
}


def vgg(name: str = "vgg11", seed: int = 1, **arguments: Any) -> nn.Module:
    network = mt.create_model(name, **{"in_channels": 1, "num_classes": 3, "base_channels": 4, **arguments})
    return fill(network, seed).eval()


@pytest.mark.parametrize("ndim", [2, 3])
@torch.no_grad()
def test_fully_connected_to_1x1_convolution_as_a_tutorial_has_it(ndim: int) -> None:
    """VGG-11 with 7 classes over 512 channels: backbone by reference, weights of the last layer copied, upsampling.

    The document's own steps stand on the left, each beside what it is here.
    """
    conv, size = (nn.Conv2d, (64, 32)) if ndim == 2 else (nn.Conv3d, (32, 32, 32))
    arguments = {"in_channels": 1, "num_classes": 7, "fc_channels": 0, **(FLAT if ndim == 2 else {})}
    width = {} if ndim == 2 else {"base_channels": 8}
    classifier = mt.create_model("vgg11", **arguments, **width).eval()
    channels = 512 if ndim == 2 else 64

    # nn.Linear(in, out).weight is (out, in)
    fc_out = classifier.head_fc
    assert fc_out.weight.shape == (7, channels)

    segmenter = mt.to_fcn(classifier)
    # modelS.backbone = modelC.backbone
    assert all(a is b for a, b in zip(segmenter.stages(), classifier.stages(), strict=True))
    # reshaped_fc_out = torch.reshape(fc_out.weight.detach(), (7, 512, 1, 1)), element by element
    reshaped = torch.reshape(fc_out.weight.detach(), (7, channels, *(1,) * ndim))
    assert isinstance(segmenter.head_conv, conv)
    assert segmenter.head_conv.weight.shape == reshaped.shape
    assert all(segmenter.head_conv.weight[k, c] == fc_out.weight[k, c] for k in range(7) for c in range(channels))
    assert torch.equal(segmenter.head_conv.bias, fc_out.bias)
    # no storage is shared: the document's detach() alone would leave one
    assert segmenter.head_conv.weight.data_ptr() != fc_out.weight.data_ptr()
    # torch.nn.Upsample(scale_factor=16, mode='bilinear', align_corners=False)
    upsample = nn.Upsample(scale_factor=16, mode="bilinear" if ndim == 2 else "trilinear", align_corners=False)
    x = torch.rand(2, 1, *size)
    by_hand = upsample(F.conv3d(last, reshaped, fc_out.bias) if (last := classifier.features(x)[-1]).ndim == 5
                       else F.conv2d(last, reshaped, fc_out.bias))  # fmt: skip
    assert segmenter(x).shape == (2, 7, *size)
    torch.testing.assert_close(segmenter(x), by_hand)
    # and what the document does not say: the mean of the volume's logits is the classifier's answer
    torch.testing.assert_close(segmenter.scores(segmenter.features(x))[0].flatten(2).mean(2), classifier(x))


@pytest.mark.parametrize("arguments", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("share", [True, False])
def test_hidden_layers_have_the_classifiers_weights(arguments: dict[str, Any], share: bool, tmp_path: Path) -> None:
    classifier = vgg(**arguments)
    fcn = mt.to_fcn(classifier, share=share, fcn_stride=8)
    assert (fcn.stage2[1] is classifier.stage2[1]) is share
    assert not any(tensor.is_meta for tensor in (*fcn.parameters(), *fcn.buffers()))
    own, theirs = fcn.state_dict(), classifier.state_dict()
    renamed = {key.replace("head_fc", "head_conv"): tensor for key, tensor in theirs.items()}
    assert set(own) - set(renamed) == {f"head_skips.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert all(torch.equal(own[key].flatten(1) if own[key].ndim > 1 else own[key],
                           tensor.flatten(1) if tensor.ndim > 1 else tensor)
               for key, tensor in renamed.items())  # fmt: skip
    assert own["head_hidden.fc1.weight"].shape[1] == classifier.stage_channels[-1]
    mt.save(fcn, tmp_path / "fcn")  # it is as create_model builds it


def test_a_stride_that_no_map_has_is_refused() -> None:
    with pytest.raises(ModelError, match="fcn_stride must be one of 32, 16, 8, 4, 2 in this network, got 12"):
        mt.to_fcn(vgg(fc_channels=6, head_pool=2), fcn_stride=12)


def test_skips_train_though_the_classifier_is_frozen_and_half() -> None:
    classifier = vgg(fc_channels=6, head_pool=2).to(torch.bfloat16).requires_grad_(False)
    fcn = mt.to_fcn(classifier, fcn_stride=16)
    assert [(p.dtype, p.requires_grad) for p in fcn.head_skips.parameters()] == [(torch.bfloat16, True)] * 2
    assert not fcn.head_conv.weight.requires_grad


@pytest.mark.parametrize("arguments", HIDDEN.values(), ids=HIDDEN)
@torch.no_grad()
def test_transfer_converts_there_and_back(arguments: dict[str, Any]) -> None:
    classifier = vgg(**arguments)
    target = mt.create_model("vgg11_fcn", in_channels=1, num_classes=3, base_channels=4, fcn_stride=8, **arguments)
    report = mt.transfer(classifier, target.eval(), head="convert")
    assert report.coverage == 1
    assert {entry.key for entry in report.missing} == {key for key in target.state_dict() if "head_skips" in key}
    kernel = "x".join(map(str, target.head_hidden.fc1.kernel_size))
    said = {entry.key: entry.how for entry in report.adapted}
    assert said["head_hidden.fc1.weight"] == f"fully connected <-> {kernel} convolution"
    x = torch.rand(1, 1, *(48,) * target.ndim)
    assert torch.equal(target(x), mt.to_fcn(classifier, fcn_stride=8).eval()(x))
    back = vgg(seed=5, **arguments)
    mt.transfer(target, back, head="convert")
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), classifier.parameters(), strict=True))


@torch.no_grad()
def test_new_classes_keep_the_hidden_layers() -> None:
    """A map of classes is about the last layers; 6 hidden units are no classes."""
    classifier = vgg(fc_channels=6, head_pool=2)
    target = mt.create_model("vgg11_fcn", 1, 2, base_channels=4, fc_channels=6, head_pool=2)
    mt.transfer(classifier, target, head={0: 2, 1: None})
    assert torch.equal(target.head_hidden.fc1.weight.flatten(1), classifier.head_hidden.fc1.weight)
    assert torch.equal(target.head_conv.weight[0].flatten(), classifier.head_fc.weight[2])


@pytest.mark.parametrize("letter", ["11", "16"])
@torch.no_grad()
def test_torchvisions_vgg_with_its_fully_connected_layers(letter: str, tmp_path: Path) -> None:
    """Narrow, with the keys and the layout of torchvision's VGG: fc6 becomes a convolution of 7x7."""
    torch.save(torchvision_tensors(letter, normed=False), tmp_path / "vgg.pth")
    home = read_source(tmp_path / "vgg.pth").home
    classifier = mt.create_model(home.name, **home.arguments).eval()
    mt.transfer(tmp_path / "vgg.pth", classifier, head="keep")
    given = {"in_channels": 3, "num_classes": 5, "base_channels": 4, "fc_channels": 16, "fcn_stride": 8}
    fcn = mt.create_model(f"vgg{letter}_fcn", **given, **FLAT).eval()
    report = mt.transfer(tmp_path / "vgg.pth", fcn, head="convert")
    assert report.coverage == 1
    assert fcn.head_hidden.fc1.weight.shape == (16, 32, 7, 7)
    x = torch.rand(1, 3, 224, 224)
    logits = classifier(x)
    torch.testing.assert_close(fcn.scores(fcn.features(x))[0][:, :, 3, 3], logits)

    # in 3-D, over a map of one voxel along the new axis: on a volume that is constant along it the same answer
    solid = mt.create_model(f"vgg{letter}_fcn", **given, head_pool=(1, 7, 7)).eval()
    report = mt.transfer(tmp_path / "vgg.pth", solid, head="convert", inflation="center")
    assert report.coverage == 1
    if letter == "11":
        scores = solid.scores(solid.features(x.unsqueeze(2).expand(-1, -1, 32, -1, -1)))
        torch.testing.assert_close(scores[0][:, :, 0, 3, 3], logits)


FCNS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("vgg11_fcn", {}),
    "hidden": ("vgg11_fcn", {"fc_channels": 6, "head_pool": 2, "fcn_stride": 8}),
    "2-D": ("vgg16_fcn", {"fc_channels": 6, "fcn_stride": 16, **FLAT}),
    "normed": ("vgg13_fcn", {"batch_norm": True, "fcn_stride": 2}),
    "residual": ("resnet18", {"head_type": "fcn", "stem_channels": 4, "fcn_stride": 8}),
}


@pytest.mark.parametrize(("name", "arguments"), FCNS.values(), ids=FCNS)
@torch.no_grad()
def test_weights_alone_say_what_network_they_are(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    network = fill(mt.create_model(name, in_channels=2, num_classes=3, base_channels=4, **arguments)).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    convert(tmp_path / "weights.pth", tmp_path / "folder")
    x = torch.rand(1, 2, *(40,) * network.ndim)
    assert torch.equal(mt.load(tmp_path / "folder")(x), network(x))
