"""Several heads on one encoder: what comes out, what is shared, what is written down."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError
from medtransfer.model_zoo import ResNet
from medtransfer.model_zoo.multitask import MultiTask
from tests.conftest import TINY
from tests.tiny_zoo import HEADS, tiny_arguments

ENCODERS = ("resnet10", "vgg11", "plain_encoder", "resenc_encoder")


def build(encoder: str = "resnet10", heads=None, **arguments) -> MultiTask:
    return mt.create_model(f"multitask_{encoder}", heads=heads or HEADS, **tiny_arguments(encoder), **arguments)


def keys(network: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(key, tensor.shape) for key, tensor in network.state_dict().items()]


def test_every_classifier_of_the_zoo_has_a_multi_task_network():
    classifiers = [name for name in mt.list_models() if mt.list_models(f"multitask_{name}")]
    assert len(classifiers) == len(mt.list_models("multitask_*")) == 13
    assert {"resnet200", "vgg19", "plain_encoder", "resenc_encoder"} <= set(classifiers)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_it_is_rebuilt_from_its_record_and_describes_itself(encoder, tmp_path):
    network = build(encoder, in_channels=2).eval()
    record = json.loads(json.dumps(network.architecture))
    assert record["name"] == f"multitask_{encoder}"
    again = mt.create_model(record["name"], **record["arguments"])
    assert keys(again) == keys(network)
    assert again.architecture == network.architecture
    assert (network.in_channels, network.num_classes, network.ndim, network.task) == (2, 3, 3, "multitask")
    assert network.output_stride == again.encoder.output_stride
    network.heads["age"].set_scale([50.0], [10.0])
    mt.save(network, tmp_path / "net")
    loaded = mt.load(tmp_path / "net")
    x = torch.randn(1, 2, 16, 16, 16)
    assert all(torch.equal(value, loaded(x)[name]) for name, value in network(x).items())
    assert loaded.card.classes == list(HEADS)
    assert loaded.card.heads["organs"].task == "segmentation"


@pytest.mark.parametrize("encoder", ENCODERS)
def test_shapes_and_a_gradient_for_every_parameter(encoder):
    network = build(encoder).train()
    found = network(torch.randn(2, 1, 18, 16, 17))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "organs": (2, 3, 18, 16, 17),
        "ill": (2, 2),
        "age": (2, 1),
    }
    sum(value.square().mean() for value in found.values()).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


def test_two_dimensions_and_deep_supervision():
    heads = {**HEADS, "parts": {"task": "segmentation", "num_classes": 5, "aux_train": True, "full_resolution_skip": 4}}
    network = build("resnet10", heads, conv_cfg={"type": "Conv2d"})
    found = network.train()(torch.randn(2, 1, 16, 16))
    assert [tuple(level.shape) for level in found["parts"]] == [(2, 5, 16, 16)] * 4
    assert found["organs"].shape == (2, 3, 16, 16)
    assert network.eval()(torch.randn(2, 1, 16, 16))["parts"].shape == (2, 5, 16, 16)


def test_a_segmentation_is_that_of_a_unet_around_the_same_encoder(randomise):
    encoder = ResNet(10, in_channels=1, **TINY)
    network = randomise(MultiTask(encoder, HEADS)).eval()
    assert network.encoder is encoder
    assert sum(p is encoder.conv1.weight for p in network.parameters()) == 1
    segmenter = mt.to_segmenter(encoder, num_classes=3).eval()
    own = {f"heads.organs.{key}" for key in segmenter.state_dict() if not key.startswith("encoder_")}
    assert own == {key for key in network.state_dict() if key.startswith("heads.organs.")}
    segmenter.load_state_dict(
        {k.removeprefix("heads.organs."): v for k, v in network.state_dict().items()}, strict=False
    )
    x = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(network(x)["organs"], segmenter(x))


def test_the_stages_of_a_classifier_are_taken_and_its_head_is_left():
    classifier = mt.create_model("resnet10", **TINY)
    network = MultiTask(classifier, {"age": {"task": "regression"}})
    assert network.encoder is not classifier
    assert network.encoder.layer3 is classifier.layer3
    assert not hasattr(network.encoder, "head_fc")
    assert [key for key in network.state_dict() if "head_fc" in key] == [
        "heads.age.head_fc.weight",
        "heads.age.head_fc.bias",
    ]


def test_a_regression_gives_values_in_their_own_units():
    network = build(heads={"age": {"task": "regression", "num_outputs": 2}}).eval()
    x = torch.randn(3, 1, 16, 16, 16)
    head = network.heads["age"]
    standard = network(x)["age"].detach()
    head.set_scale([40.0, 1.5], [12.0, 0.25])
    values = network(x)["age"]
    assert torch.allclose(values, standard * torch.tensor([12.0, 0.25]) + torch.tensor([40.0, 1.5]))
    assert torch.allclose(head.standardised(values), standard, atol=1e-5)
    with pytest.raises(ModelError, match=r"2 outputs needs as many means and deviations above 0, got \[1\.0\]"):
        head.set_scale([1.0], [1.0])
    with pytest.raises(ModelError, match="above 0"):
        head.set_scale([0.0, 0.0], [1.0, 0.0])


def test_what_is_built_frozen_stays_so():
    network = build(frozen_stages=1, norm_eval=True).train()
    assert not network.encoder.conv1.weight.requires_grad
    assert network.encoder.layer2[0].conv1.weight.requires_grad
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    assert not any(norm.training for norm in norms)
    assert network.frozen_stages == 1


@pytest.mark.parametrize(
    "heads, message",
    {
        "none": ({}, "needs heads"),
        "name": ({"left lung": {"task": "regression"}}, "plain word of its own such as 'organs', got 'left lung'"),
        "dotted": ({"a.b": {"task": "regression"}}, "got 'a.b'"),
        "word of modules": ({"keys": {"task": "regression"}}, "got 'keys'"),
        "word of parts": ({"encoder": {"task": "regression"}}, "got 'encoder'"),
        "capitals": (
            {"age": {"task": "regression"}, "Age": {"task": "regression"}},
            "more than capitals, got age, Age",
        ),
        "no dict": ({"age": "regression"}, r"'age' needs dict\(task=...\) of segmentation, .*got 'regression'"),
        "task": ({"age": {"task": "guess"}}, "got 'guess'"),
        "argument": ({"age": {"task": "regression", "classes": 3}}, "'age' has no argument 'classes'. .*num_outputs"),
        "size": ({"ill": {"task": "classification"}}, "'ill' needs num_classes, a whole number above 0, got None"),
    }.values(),
)
def test_what_describes_no_head_is_refused_in_one_line(heads, message):
    with pytest.raises(ModelError, match=message) as caught:
        build(heads=heads or {"": None}) if heads else MultiTask(ResNet(10, 1, **TINY), heads)
    assert "\n" not in str(caught.value)


def test_only_encoders_of_the_zoo_carry_heads():
    with pytest.raises(ModelError, match="needs an encoder of the zoo, got Conv3d"):
        MultiTask(nn.Conv3d(1, 1, 1), HEADS)
    with pytest.raises(ModelError, match="needs heads"):
        mt.create_model("multitask_resnet10", **TINY)


def test_the_description_is_a_copy():
    heads = copy.deepcopy(HEADS)
    network = build(heads=heads)
    heads["organs"]["num_classes"] = 9
    network.architecture["arguments"]["heads"]["ill"]["num_classes"] = 9
    assert network.architecture["arguments"]["heads"] == HEADS
