"""Selection by GluonCV's rule, and by the words of a user."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError, UsageError
from medtransfer.finetune.parts import names_of
from medtransfer.finetune.select import Parameters, collect_params, select
from tests.tiny_zoo import SEVERAL, single_outputs

Build = Callable[..., nn.Module]


def the_questions_network() -> nn.Sequential:
    """The network of the question about GluonCV (conv0, a pooling layer, flatten, dense0) in PyTorch's layers."""
    layers = [
        ("conv0", nn.Conv2d(1, 6, kernel_size=5, padding=2)),
        ("sigmoid0", nn.Sigmoid()),
        ("pool0", nn.MaxPool2d(2, 2)),
        ("flatten0", nn.Flatten()),
        ("dense0", nn.Linear(6 * 4 * 4, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


def test_the_answer_of_the_question_trains_the_dense_layer_only() -> None:
    net = the_questions_network()
    frozen = collect_params(net, "(?!dense).*").freeze()
    assert frozen.names == ["conv0.weight", "conv0.bias"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(collect_params(net), lr=0.1, weight_decay=0.0005, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.rand(2, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    moved = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == ["dense0.weight", "dense0.bias"]
    assert collect_params(net, "(?!dense).*").unfreeze().names == frozen.names
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_pattern_is_anchored_at_the_start_and_open_at_the_end() -> None:
    net = nn.ModuleDict({"layer1": nn.Linear(1, 1), "x": nn.ModuleDict({"layer1": nn.Linear(1, 1)})})
    assert collect_params(net, "layer1").names == ["layer1.weight", "layer1.bias"]
    assert collect_params(net, ".*layer1.*bias").names == ["layer1.bias", "x.layer1.bias"]
    assert collect_params(net, "weight").names == []
    assert len(collect_params(net)) == 4
    assert list(collect_params(net)) == list(net.parameters())


def test_a_broken_regex_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'\(' is no regex"):
        collect_params(nn.Linear(1, 1), "(")


def test_tied_weights_count_once_under_any_of_their_names() -> None:
    net = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2)})
    net["second"].weight = net["first"].weight
    assert collect_params(net).names == ["first.weight", "first.bias", "second.bias"]
    assert collect_params(net, "second").names == ["second.weight", "second.bias"]
    assert len(select(net, ["first", "second"])) == 3
    select(net, "second").freeze()
    assert not net["first"].weight.requires_grad


def test_an_encoder_of_two_networks_counts_once(tiny: Build) -> None:
    classifier = tiny("resnet10")
    segmenter = mt.to_segmenter(classifier, num_classes=2, share=True)
    both = nn.ModuleDict({"cls": classifier, "seg": segmenter})
    encoder = select(both, "encoder")
    assert len(encoder) == len(select(classifier, "encoder")) == len(select(segmenter, "encoder"))
    assert len(encoder.norms) == len(select(classifier, nn.BatchNorm3d).norms)
    assert len(select(both, None)) == len(list(both.parameters()))
    select(segmenter, "encoder").freeze()
    assert not any(parameter.requires_grad for parameter in select(classifier, "encoder"))
    assert all(norm.training is False for norm in select(classifier.train(), "encoder").norms.values())


@pytest.mark.parametrize("name", [*single_outputs(), *SEVERAL])
def test_stages_are_encoder_decoder_and_head_without_rest(name: str, tiny: Build) -> None:
    net = tiny(name)
    words = names_of(net)
    kinds = [kind for kind in ("encoder", "decoder", "head") if kind in words]
    assert kinds == (["encoder", "decoder", "head"] if "unet" in name or name in SEVERAL else ["encoder", "head"])
    sizes = [len(select(net, kind)) for kind in kinds]
    assert sum(sizes) == len(list(net.parameters()))
    stages = [f"encoder_{i}" for i in range(len(net.stages()))]
    assert len(select(net, stages)) == sizes[0]
    assert sum(len(select(net, stage)) for stage in stages) == sizes[0]


def test_deep_supervision_and_the_skip_at_full_resolution_are_parts_too(tiny: Build) -> None:
    net = tiny("resunet10", aux_train=True, full_resolution_skip=4)
    assert sum(len(select(net, kind)) for kind in ("encoder", "decoder", "head")) == len(list(net.parameters()))
    assert {name.split(".")[0] for name in select(net, "head").names} == {"final_layer", "aux_layers"}
    assert {"input_skip", "input_decoder"} <= {name.split(".")[0] for name in select(net, "decoder").names}


def test_a_unet_knows_the_names_of_its_encoders_stages(tiny: Build) -> None:
    net = tiny("resunet10")
    assert select(net, "layer3").names == select(net, "encoder_3").names
    assert select(net, "layer[34]").names == select(net, ["encoder_3", "encoder_4"]).names
    assert select(net, "stem").names == select(net, "encoder_0").names
    assert select(net, "encoder_4.0.conv1").names == ["encoder_4.0.conv1.weight"]
    # tensors' own names come before names of stages
    assert select(net, "(?!encoder).*").names == select(net, ["decoder", "head"]).names


def test_types_of_modules(tiny: Build) -> None:
    net = tiny("resnet10")
    norms = select(net, nn.BatchNorm3d)
    assert all(re.search(r"(bn\d|downsample\.1)\.(weight|bias)$", name) for name in norms.names)
    assert len(norms) == 2 * len(norms.norms) == 2 * sum(isinstance(m, nn.BatchNorm3d) for m in net.modules())


def test_a_type_by_its_name_as_a_config_has_it(tiny: Build) -> None:
    net = tiny("resnet10")
    assert select(net, "BatchNorm3d").names == select(net, nn.BatchNorm3d).names
    assert select(net, ["head", "Conv3d"]).names == [*select(net, nn.Conv3d).names, "head_fc.weight", "head_fc.bias"]


def test_norms_without_parameters_are_found_by_their_statistics() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.InstanceNorm3d(2, track_running_stats=True))
    assert list(select(net, "1").norms) == list(select(net, "1.running").norms) == ["1"]
    assert select(net, "1").names == []


@pytest.mark.parametrize("word, hint", [("layr1", "layer1"), ("tail", "Known: encoder, stem"), (nn.LSTM, "Known")])
def test_what_stands_for_nothing_is_refused(word: str, hint: str, tiny: Build) -> None:
    with pytest.raises(UsageError, match=hint):
        select(tiny("resnet10"), word)


def test_what_was_built_frozen_is_not_unfrozen_in_vain(tiny: Build) -> None:
    net = tiny("resnet10", frozen_stages=1)
    with pytest.raises(ModelError, match="frozen_stages=1"):
        mt_unfreeze(net, "layer1")
    assert mt_unfreeze(net, "layer2").names


def mt_unfreeze(net: nn.Module, what: str) -> Parameters:
    return select(net, what).unfreeze()
