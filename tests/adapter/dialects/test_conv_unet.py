"""The zoo's own stacked convolutions from bare state dicts: told apart from ResNets, and built again from tensors."""

from __future__ import annotations

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from medtransfer.errors import TransferError

TINY = {"channels": [4, 8, 12]}
#: what tensors hold; activation, pooling and the stride of the first stage they do not
NETWORKS = {
    "plain": ("plain_unet", TINY),
    "residual": ("resenc_unet", {**TINY, "num_blocks": [1, 2, 1]}),
    "bottleneck": ("resenc_unet", {**TINY, "block": "bottleneck", "expansion": 2, "stem_channels": 6,
                                   "aux_train": True}),
    "anisotropic": ("plain_unet", {**TINY, "kernel_sizes": [[1, 3, 3], 3, 3], "strides": [1, [1, 2, 2], 2]}),
    "narrow": ("plain_unet", {**TINY, "up_channels": "below", "num_convs": [1, 2, 3],
                              "inner_channels": [4, 4, 8], "decoder_convs": [1, 3]}),
    "flat": ("resenc_unet", {**TINY, "conv_cfg": {"type": "Conv2d"}, "conv_bias": False}),
    "batch norm": ("plain_unet", {**TINY, "norm_cfg": {"type": "BN"}}),
    "batch statistics": ("plain_unet", {**TINY, "norm_cfg": {"type": "BN", "track_running_stats": False}}),
    "residual decoder": ("plain_unet", {**TINY, "decoder_block": "basic", "full_resolution_skip": 4}),
    "interpolated": ("resenc_unet", {**TINY, "upsample_type": "interp"}),
    "many stages": ("resenc_unet", {"channels": [4] * 7}),
    "plain classifier": ("plain_encoder", TINY),
    "residual classifier": ("resenc_encoder", {**TINY, "num_blocks": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name, arguments", NETWORKS.values(), ids=NETWORKS)
def test_tensors_alone_build_the_network_again(name, arguments):
    network = mt.create_model(name, in_channels=2, num_classes=5, **arguments)
    weights = read_source(network.state_dict())
    assert weights.dialect == "conv_unet"
    assert weights.home.name == name
    again = mt.create_model(name, **weights.home.arguments)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (network, again)]
    assert shapes[0] == shapes[1]
    assert (again.in_channels, again.num_classes) == (2, 5)
    # and nothing is said that need not be
    known = {**arguments, "in_channels": 2, "num_classes": 5}
    assert weights.home.arguments.items() <= known.items()


@pytest.mark.parametrize("name, arguments", [NETWORKS["plain"], NETWORKS["residual"]], ids=["plain", "residual"])
def test_a_segmenter_and_its_encoder_have_one_set_of_names(name, arguments, tmp_path):
    segmenter = mt.create_model(name, **arguments)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in segmenter.state_dict().items()}}, tmp_path / "a.pth"
    )
    classifier = mt.create_model(name.replace("unet", "encoder"), num_classes=4, **arguments)
    report = mt.transfer(tmp_path / "a.pth", classifier)
    assert report.coverage == 1
    assert all(torch.equal(one, other) for one, other in zip(
        classifier.stages()[1].state_dict().values(), segmenter.encoder_1.state_dict().values(), strict=True
    ))  # fmt: skip
    assert mt.transfer(classifier, mt.create_model(name, **arguments)).coverage == 1
    assert mt.inspect(tmp_path / "a.pth").architecture == name


def test_a_network_of_other_units_is_refused_unless_a_part_is_asked_for():
    source = mt.create_model("resenc_encoder", **TINY, num_blocks=[1, 3, 2])
    target = mt.create_model("resenc_unet", **TINY, num_blocks=[1, 2, 2])
    with pytest.raises(TransferError, match="the checkpoint looks like resenc_encoder, the target is resenc_unet"):
        mt.transfer(source, target)
    assert mt.transfer(source, target, min_coverage=0).coverage == 1
    fewer = mt.create_model("resenc_unet", channels=[4, 8], num_blocks=[1, 3])
    assert mt.transfer(source, fewer).coverage == 1


def test_resnets_are_not_taken_for_it():
    for pool in ("max", "conv"):
        for deep_stem in (False, True):
            small = {"base_channels": 4, "stem_channels": 4, "pool": pool, "deep_stem": deep_stem}
            for name in ("resnet18", "resunet18", "resunet50"):
                assert read_source(mt.create_model(name, **small).state_dict()).dialect != "conv_unet"
