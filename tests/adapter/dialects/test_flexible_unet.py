"""FlexibleUNet: its encoder moves, its decoder and head are listed as without a place."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import FlexibleUNet

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.flexible_unet_oracle import flexible_unet


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return flexible_unet("resnet10", 3).state_dict()


def test_the_decoder_and_the_head_are_listed_as_without_a_place(state):
    home = read_source(state).home
    report = mt.transfer(state, mt.create_model(home.name, **home.arguments), head="keep")
    parts = [entry.key.split(".")[0] for entry in report.unexpected]
    assert set(parts) == {"decoder", "segmentation_head"}
    assert len(report.loaded) + len(parts) == len(state)
    assert len(report.loaded) == sum(key.startswith("encoder.") for key in state)
    assert home.arguments["num_classes"] is None


def test_its_encoder_goes_into_a_segmenter_of_ours(state):
    report = mt.transfer(state, mt.create_model("resunet10", in_channels=1, num_classes=2, decoder_block="basic"))
    assert report.coverage == 1
    assert [entry.key for entry in report.adapted] == ["encoder_0.0.weight"]
    assert {entry.key.split(".")[0].split("_")[0] for entry in report.missing} == {"decoder", "final"}


def test_another_backbone_is_not_taken_for_a_resnet():
    net = FlexibleUNet(1, 2, "efficientnet-b0", spatial_dims=2)
    assert read_source(net).dialect not in ("flexible_unet", "monai_resnet", "resnet")
