"""Detectors in the catalog, and the encoders that they stand around."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.model_zoo import ResNet
from medtransfer.model_zoo.catalog import inherited_arguments
from medtransfer.model_zoo.detection import EncoderBackbone, FasterRCNN, RetinaNet
from tests.tiny_zoo import tiny_arguments

KINDS = ("faster_rcnn", "retinanet")


@pytest.mark.parametrize("name", [name for kind in KINDS for name in mt.list_models(f"{kind}_*")])
def test_every_detector_of_the_zoo_is_rebuilt_from_its_record(name: str) -> None:
    network: Any = mt.create_model(name, in_channels=2, num_classes=5, **tiny_arguments(name))
    record = json.loads(json.dumps(network.architecture))
    again: Any = mt.create_model(record["name"], **record["arguments"])
    assert record["name"] == name
    assert again.architecture == record
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}
    assert (network.task, network.in_channels, network.num_classes, network.ndim) == ("detection", 2, 5, 3)


def test_detectors_are_in_the_list_beside_every_classifier() -> None:
    assert mt.list_models("*_resnet18") == ["multitask_resnet18", "faster_rcnn_resnet18", "retinanet_resnet18"]
    assert len(mt.list_models("retinanet_*")) == len(mt.list_models("faster_rcnn_*")) == 13


def test_an_encoder_keeps_its_arguments_on_the_way_to_a_detector_and_back() -> None:
    given = {"strides": [1, 2, 2, 1], "num_classes": 3, "depth": 18}
    assert inherited_arguments("resnet18", given, "faster_rcnn_resnet18") == {"strides": [1, 2, 2, 1]}
    own = {"strides": [1, 2, 2, 1], "out_channels": 8, "box_nms": "soft"}
    assert inherited_arguments("faster_rcnn_resnet18", own, "resunet18") == {"strides": [1, 2, 2, 1]}
    assert inherited_arguments("retinanet_vgg11", own, "resnet18") == {}
    hidden = {"base_channels": 4, "fc_channels": 16, "head_pool": 2}
    assert inherited_arguments("vgg11", hidden, "faster_rcnn_vgg11") == {"base_channels": 4}


@pytest.mark.parametrize("trainable", [0, 1, 3, 5])
def test_frozen_stages_stay_frozen_in_training(trainable: int) -> None:
    tiny_encoder = {"base_channels": 4, "stem_channels": 4, "out_channels": 4}
    network = mt.create_model("faster_rcnn_resnet10", trainable_backbone_layers=trainable, **tiny_encoder)
    stages = network.backbone.body.stages()
    trained = [any(p.requires_grad for p in stage.parameters()) for stage in stages]
    assert trained == [False] * (5 - trainable) + [True] * trainable
    for _ in range(2):
        norms = [[m.training for m in stage.modules() if isinstance(m, nn.BatchNorm3d)] for stage in stages]
        assert [all(of) for of in norms] == trained
        network.train()
    assert all(p.requires_grad for p in network.backbone.fpn.parameters())


def test_an_encoder_is_taken_by_reference_and_keeps_its_own_head() -> None:
    bare = ResNet(10, in_channels=1, base_channels=4, stem_channels=4)
    assert FasterRCNN.around(bare, num_classes=2).backbone.body is bare
    classifier = mt.create_model("vgg11", base_channels=4, num_classes=2)
    detector = RetinaNet.around(classifier, num_classes=2, out_channels=4)
    assert detector.backbone.body.stage3 is classifier.stage3
    assert not any("head_fc" in key for key in detector.state_dict())
    assert classifier.head_fc.out_features == 2
    assert detector.architecture["name"] == "retinanet_vgg11"


@pytest.mark.parametrize(
    "arguments, layers, strides",
    [
        ({}, [1, 2, 3, 4], [4, 8, 16, 32]),
        ({"geometry": "medicalnet"}, [1, 4], [4, 8]),
        ({"pool": "none", "first_stride": 1}, [3, 4], [4, 8]),
        ({"fpn": False}, [4], [32]),
        ({"extra_levels": "p6p7", "returned_layers": [2, 3]}, [2, 3], [8, 16, 32, 64]),
    ],
)
def test_levels_follow_the_strides(arguments: dict[str, Any], layers: list[int], strides: list[int]) -> None:
    network = mt.create_model("retinanet_resnet10", base_channels=4, stem_channels=4, **arguments).eval()
    assert network.backbone.returned_layers == layers
    assert network.backbone.strides == [(stride,) * 3 for stride in strides]
    assert network.output_stride == (strides[-1],) * 3
    maps = network.backbone(torch.zeros(1, 1, *network.output_stride))
    sizes = [x.shape[2] for x in maps.values()] if isinstance(maps, dict) else [maps.shape[2]]
    assert sizes == [strides[-1] // stride for stride in strides]


def test_stages_behind_the_last_map_are_not_run() -> None:
    backbone = EncoderBackbone(ResNet(10, in_channels=1, base_channels=4, stem_channels=4), returned_layers=[1, 2])
    backbone.body.layer3.forward = lambda x: pytest.fail("layer3 was run")
    backbone(torch.zeros(1, 1, 16, 16, 16))
