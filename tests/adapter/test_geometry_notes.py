"""What tensors cannot tell: differences in geometry are named, and only those that are known."""

from __future__ import annotations

import pytest
from torch import nn

import medtransfer as mt
from medtransfer.adapter.dialects.base import Home
from medtransfer.adapter.geometry import geometry_differences, geometry_notes

SMALL = {"base_channels": 4, "stem_channels": 4}


def differences(source: dict, target: dict, complete: bool = False, name: str = "resnet18") -> list[str]:
    source_home = Home(name, source, complete=complete)
    return geometry_differences(source_home, Home(name.replace("resnet", "resunet"), target))


@pytest.mark.parametrize(
    "source, target, said",
    [
        ({"first_stride": 1}, {}, ["first_stride=1"]),
        ({"first_stride": 2}, {}, []),
        ({"first_stride": 2}, {"first_stride": [2, 2, 2]}, []),
        ({"first_stride": [1, 2, 2]}, {"first_stride": (1, 2, 2)}, []),
        ({"first_stride": [1, 2, 2]}, {"first_stride": None}, ["first_stride=[1, 2, 2]"]),
        ({"pool": "none"}, {}, ["pool='none'"]),
        ({"pool": "none", "pool_stride": 2}, {"pool": "none", "pool_stride": 1}, []),
        ({"deep_stem": True, "pool": "conv"}, {}, ["deep_stem=True", "pool='conv'"]),
        ({"strides": [1, 2, 2, 2]}, {"strides": [1, 2, [2, 2, 2], 2]}, []),
        ({"avg_down": True}, {"avg_down": True}, []),
        ({"style": "caffe"}, {}, ["style='caffe'"]),
        ({"norm_cfg": {"type": "BN3d", "requires_grad": True}}, {}, []),
        ({"norm_cfg": {"type": "IN"}}, {"norm_cfg": None}, ["norm_cfg={'type': 'IN'}"]),
        ({"act_cfg": {"type": "ReLU", "inplace": True}}, {}, []),
        ({"act_cfg": {"type": "LeakyReLU", "negative_slope": 0.1}}, {"act_cfg": {"type": "LeakyReLU"}},
         ["act_cfg={'type': 'LeakyReLU', 'negative_slope': 0.1}"]),
        ({"in_channels": 1, "num_classes": 3}, {"in_channels": 4}, []),
    ],
)  # fmt: skip
def test_what_the_source_names_is_compared(source, target, said):
    assert differences(source, target) == said


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_medicalnets_geometry_is_one_word(depth):
    source = {"geometry": "medicalnet"}
    name = f"resnet{depth}"
    assert differences(source, {}, name=name) == ["geometry='medicalnet'"]
    assert differences(source, {"geometry": "medicalnet"}, name=name) == []
    written_out = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4), "shortcut": "A" if depth in (18, 34) else "B"}
    assert differences(source, written_out, name=name) == []
    assert differences(written_out, source, name=name) == []
    other = {**written_out, "shortcut": "B" if depth in (18, 34) else "A"}
    assert differences(source, other, name=name) == ["geometry='medicalnet'"]


def test_defaults_of_a_source_read_off_tensors_are_not_known_those_of_a_card_are():
    assert differences({}, {"first_stride": 1}) == []
    assert differences({}, {"first_stride": 1}, complete=True) == ["first_stride=2"]
    assert differences({}, {}, complete=True) == []


def test_other_families_have_no_such_arguments():
    assert geometry_differences(Home("another", {"strides": [1]}), Home("resnet10", {})) == []


def test_notes_say_it_with_the_reason():
    home = Home("resnet10", {"first_stride": 1}, "MONAI's default")
    (note,) = geometry_notes(home, mt.create_model("resnet10", **SMALL))
    assert "first_stride=1 (MONAI's default)" in note
    assert "computes something else" in note
    assert geometry_notes(home, mt.create_model("resnet10", first_stride=1, **SMALL)) == []
    assert geometry_notes(None, mt.create_model("resnet10", **SMALL)) == []


def test_a_network_that_is_not_of_the_zoo_gets_the_sources_own_note():
    assert geometry_notes(Home("resnet10", {"first_stride": 1}, "a note"), nn.Conv3d(1, 1, 1)) == ["a note"]
    assert geometry_notes(Home("resnet10", {}), nn.Conv3d(1, 1, 1)) == []
