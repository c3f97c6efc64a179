"""ptimz: what tells its files apart, and what becomes of them here."""

from __future__ import annotations

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.ptimz_oracle import classifier_tensors, segmenter_tensors


@pytest.mark.parametrize(
    "tensors, name, arguments",
    [
        (classifier_tensors(18), "resnet18", {"num_classes": 5, "deep_stem": True, "shortcut": None}),
        (classifier_tensors(50, deep=False), "resnet50", {"num_classes": 5, "deep_stem": None}),
        (segmenter_tensors(18), "resunet18", {"num_classes": 3, "deep_stem": True, "aux_train": True}),
        (segmenter_tensors(50), "resunet50", {"num_classes": 3, "deep_stem": True, "aux_train": None}),
    ],
    ids=["classifier", "plain stem", "segmenter", "bottlenecks"],
)
def test_home_has_what_the_tensors_show(tensors, name, arguments):
    home = read_source(tensors).home
    assert home.name == name
    assert {key: home.arguments.get(key) for key in arguments} == arguments
    assert home.arguments["pool"] == "conv"
    built = mt.create_model(home.name, **home.arguments).state_dict()
    assert {key: value.shape for key, value in built.items()} == {key: value.shape for key, value in tensors.items()}


def test_a_segmenters_encoder_goes_into_a_classifier_and_back_bit_by_bit(tmp_path):
    torch.save(segmenter_tensors(18), tmp_path / "unet.pth")
    shape = {"in_channels": 2, "base_channels": 4, "stem_channels": 4, "deep_stem": True, "pool": "conv"}
    classifier = mt.create_model("resnet18", num_classes=5, **shape)
    assert mt.transfer(tmp_path / "unet.pth", classifier).coverage == 1
    again = mt.create_model("resunet18", num_classes=3, aux_train=True, **shape)
    assert mt.transfer(classifier, again).coverage == 1
    found, expected = again.state_dict(), segmenter_tensors(18)
    encoder = [key for key in expected if key.startswith("encoder_")]
    assert len(encoder) > 100
    assert all(torch.equal(found[key], expected[key]) for key in encoder)


def test_only_the_pooling_by_convolution_tells(tiny):
    """The keys of this zoo are ptimz's; with a real max-pooling, or what only this zoo has, it is not ptimz."""
    assert read_source(tiny("resnet10", pool="conv").state_dict()).dialect == "ptimz"
    assert read_source(tiny("resnet10").state_dict()).dialect == "resnet"
    assert read_source(tiny("resunet10", pool="conv").state_dict()).dialect == "ptimz"
    assert read_source(tiny("resunet10", pool="conv", full_resolution_skip=4).state_dict()).dialect == "resunet"
