"""Networks to model folders and back: bit-equal, or refused before any memory is taken."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import medtransfer as mt
from medtransfer.checkpoint.card import Intensity
from medtransfer.errors import CheckpointError, MedTransferError, ModelError, OutputExistsError, UsageError

VARIANTS = {
    "plain": ("resnet18", {}),
    "tutorial": ("resnet50", {"deep_stem": True, "pool": "conv"}),
    "medicalnet": ("resnet34", {"geometry": "medicalnet"}),
    "flat": ("resnet10", {"conv_cfg": {"type": "Conv2d"}, "norm_cfg": {"type": "GN", "num_groups": 2}}),
    "frozen": ("resunet10", {"frozen_stages": 2, "norm_eval": True, "with_cp": True}),
    "full": (
        "resunet18",
        {"aux_train": True, "full_resolution_skip": 4, "upsample_type": "interp", "dropout_rate": 0.1},
    ),
    "anisotropic": ("resunet50", {"first_stride": (1, 2, 2), "strides": (1, (1, 2, 2), 2, 2)}),
}


@pytest.mark.parametrize("name, arguments", VARIANTS.values(), ids=VARIANTS)
def test_a_network_comes_back_bit_equal(name, arguments, tiny, same, tmp_path):
    network = tiny(name, seed=1, in_channels=2, num_classes=3, **arguments).eval()
    card = mt.save(network, tmp_path / "model")
    loaded = mt.load(tmp_path / "model")
    assert same(loaded, network.state_dict())
    assert not loaded.training
    assert loaded.architecture == network.architecture
    assert loaded.card == card
    flags = {key: p.requires_grad for key, p in network.named_parameters()}
    assert {key: p.requires_grad for key, p in loaded.named_parameters()} == flags
    x = torch.rand(1, 2, *(17, 18, 19)[: network.ndim])
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_precisions_come_back_as_they_are(dtype, tiny, same, tmp_path):
    network = tiny(seed=1).to(dtype)
    mt.save(network, tmp_path / "model")
    assert same(mt.load(tmp_path / "model"), network.state_dict())


def test_a_loaded_network_trains_without_changing_the_folder(tiny, tmp_path):
    mt.save(tiny(seed=1, zero_init_residual=False), tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    network = mt.load(tmp_path / "model").train()
    network(torch.rand(2, 1, 33, 16, 16)).sum().backward()
    torch.optim.SGD(network.parameters(), lr=1).step()
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_a_folder_written_over_the_one_that_is_loaded_keeps_both_right(tiny, same, tmp_path):
    mt.save(tiny(seed=1), tmp_path / "model")
    network = mt.load(tmp_path / "model")
    with torch.no_grad():
        network.conv1.weight.mul_(2)
    mt.save(network, tmp_path / "model", network.card, overwrite=True)
    assert same(mt.load(tmp_path / "model"), network.state_dict())
    assert torch.equal(network.conv1.weight, 2 * tiny(seed=1).conv1.weight)


def test_without_a_card_everything_is_by_number(tiny, tmp_path):
    card = mt.save(tiny("resunet10", in_channels=2, num_classes=3), tmp_path / "model")
    assert card.input_channels == ["channel_0", "channel_1"]
    assert card.classes == ["class_0", "class_1", "class_2"]
    assert (card.task, card.spacing, card.orientation) == ("segmentation", None, "RAS")
    assert card.intensity == Intensity("zscore")


FIELDS = {"input_channels": ["ct"], "classes": ["background", "liver"], "spacing": [1.5, 1.5, 2], "license": "CC0-1.0"}


def test_a_card_may_be_a_mapping_or_a_card(tiny, tmp_path):
    network = tiny("resunet10")
    written = mt.save(network, tmp_path / "a", FIELDS)
    again = mt.save(network, tmp_path / "b", written)
    assert again == written
    assert written.spacing == [1.5, 1.5, 2]
    assert mt.load(tmp_path / "b").card.classes == ["background", "liver"]
    text = json.loads((tmp_path / "a" / "model.json").read_text())
    assert text["license"] == "CC0-1.0"
    assert text["architecture"]["name"] == "resunet10"


def test_a_card_of_another_network_takes_this_networks_architecture(tiny, tmp_path):
    other = mt.save(tiny("resnet18"), tmp_path / "other")
    card = mt.save(tiny("resunet10"), tmp_path / "model", other)
    assert (card.task, card.architecture.name) == ("segmentation", "resunet10")
    assert mt.load(tmp_path / "model").task == "segmentation"


@pytest.mark.parametrize(
    "card, said",
    [
        ({"classes": ["a", "b", "c"]}, "num_classes` is 2, but the card names 3"),
        ({"input_channels": ["a", "b"]}, "in_channels` is 1, but the card names 2"),
        ({"colour": "red"}, "colour"),
        ({"spacing": [1, 1, -1]}, "spacing"),
        ({"spacing": "1mm"}, "spacing"),
        ({"orientation": "XYZ"}, "orientation"),
    ],
    ids=["classes", "channels", "unknown", "negative", "type", "orientation"],
)
def test_a_card_that_does_not_fit_is_refused_and_nothing_written(tiny, tmp_path, card, said):
    with pytest.raises(UsageError, match=said):
        mt.save(tiny(), tmp_path / "model", card)
    assert list(tmp_path.iterdir()) == []


def test_a_card_object_with_other_counts_is_refused(tiny, tmp_path):
    three = mt.save(tiny(num_classes=3), tmp_path / "three")
    with pytest.raises(UsageError, match=r"the card is not valid: .*num_classes` is 2, but the card names 3"):
        mt.save(tiny(), tmp_path / "model", three)
    assert not (tmp_path / "model").exists()


def test_a_network_that_cannot_be_rebuilt_is_not_saved(tiny, tmp_path):
    altered = tiny()
    altered.head_fc = nn.Linear(32, 9)
    extended = tiny()
    extended.extra = nn.Linear(2, 2)
    bare = tiny()
    del bare.layer4
    for network, said in ((altered, "head_fc.weight is of shape"), (extended, "extra.weight"), (bare, "layer4")):
        with pytest.raises(ModelError, match=f"the network is not as resnet10 was built: {said}"):
            mt.save(network, tmp_path / "model")
    with pytest.raises(ModelError, match="Linear does not know how it was built"):
        mt.save(nn.Linear(2, 2), tmp_path / "model")
    with pytest.raises(
        ModelError, match=r"this ResNet has no num_classes. Build it with num_classes, so that it has a head"
    ):
        mt.save(tiny(num_classes=None), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_stands_is_replaced_only_on_request(tiny, same, tmp_path):
    mt.save(tiny(seed=1), tmp_path / "model")
    with pytest.raises(OutputExistsError):
        mt.save(tiny(seed=2), tmp_path / "model")
    assert same(mt.load(tmp_path / "model"), tiny(seed=1).state_dict())
    mt.save(tiny(seed=2), tmp_path / "model", overwrite=True)
    assert same(mt.load(tmp_path / "model"), tiny(seed=2).state_dict())


# --- cards that lie -------------------------------------------------------------------------------------------------


def rewrite(folder: Path, **arguments) -> Path:
    """Change architecture arguments, channels or classes in the card."""
    path = folder / "model.json"
    card = json.loads(path.read_text())
    for name in ("input_channels", "classes"):
        card[name] = arguments.pop(name, card[name])
    card["architecture"]["name"] = arguments.pop("name", card["architecture"]["name"])
    card["architecture"]["arguments"].update(arguments)
    path.write_text(json.dumps(card))
    return folder


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    mt.save(tiny(), tmp_path / "model")
    return tmp_path / "model"


LIES = {
    "c37 channels by the billion": {"in_channels": 10**9},
    "channels by the hundred thousand": {"in_channels": 4096, "input_channels": [f"c{i}" for i in range(4096)]},
    "width": {
        "base_channels": 100_000,
        "said": "conv1.weight is of shape [4, 4, 3, 3, 3], the architecture has [100000",
    },
    "stem": {
        "stem_channels": 100_000,
        "said": "conv1.weight is of shape [4, 1, 7, 7, 7], the architecture has [100000, 1, 7, 7, 7]",
    },
    "classes": {"num_classes": 100_000, "classes": [f"c{i}" for i in range(100_000)]},
    "depth": {"name": "resnet200"},
    "family": {"name": "resunet10"},
    "unknown model": {"name": "resnet11"},
    "unknown argument": {"colour": 3},
    "other stem": {"deep_stem": True},
    "dimension": {"conv_cfg": {"type": "Conv2d"}},
    "type that is a module": {"act_cfg": {"type": "this"}},
    "type that is no layer": {"act_cfg": {"type": "StochasticWeightAverage"}},
    "strides of words": {"strides": ["a", "b", "c", "d"]},
    "strides of nothing": {"strides": None},
}


def test_a_card_for_another_task_than_its_network_is_refused_as_a_folder(folder):
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"task": "classification"', '"task": "detection"'))
    with pytest.raises(CheckpointError, match=r"`task` in model.json is detection, but resnet10 is .* classification"):
        mt.load(folder)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_card_that_lies_is_refused_without_taking_memory(folder, lie):
    sys.modules.pop("this", None)
    said = lie.get("said", "")
    lie = {name: value for name, value in lie.items() if name != "said"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        mt.load(rewrite(folder, **lie))
    assert str(folder) in str(caught.value.path)
    assert "\n" not in str(caught.value)
    assert ".." not in caught.value.reason
    # a shape that is compared is a shape that was not allocated
    assert said in caught.value.reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    assert "this" not in sys.modules


WORDS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 5), st.floats(-2, 2), st.sampled_from(["BN", "max", "Conv3d", "x"])
)
VALUES = st.recursive(
    WORDS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.sampled_from(["type", "a"]), v, max_size=2)
)
NAMES = (
    "strides",
    "norm_cfg",
    "act_cfg",
    "pool",
    "pool_stride",
    "out_indices",
    "frozen_stages",
    "expansion",
    "geometry",
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from((*NAMES, "dilations", "style", "num_stages", "first_stride", "conv_cfg")), value=VALUES)
def test_any_plain_value_in_a_card_loads_or_is_refused_as_a_checkpoint(folder, name, value):
    card = (folder / "model.json").read_text()
    try:
        mt.load(rewrite(folder, **{name: value}))
    except MedTransferError as error:
        refusal = error
    else:
        refusal = None
    finally:
        (folder / "model.json").write_text(card)
    assert refusal is None or isinstance(refusal, CheckpointError)
