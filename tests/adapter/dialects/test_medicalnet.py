"""MedicalNet: how its files are told, what its geometry is, and what is said when the target has another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.medicalnet_oracle import medicalnet_tensors
from tests.adapter.dialects.resnet_keys import behind

TINY = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture
def published(tmp_path):
    """A file as MedicalNet publishes it."""

    def write(depth: int = 10, **more: Tensor):
        path = tmp_path / f"resnet_{depth}_23dataset.pth"
        torch.save({"state_dict": behind("module.", {**medicalnet_tensors(depth), **more})}, path)
        return path

    return write


def wide_stem() -> dict[str, Tensor]:
    """A bare state dict with the stem of the published files."""
    return mt.create_model("resnet10", in_channels=1, num_classes=None).state_dict()


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_home_is_the_faithful_geometry(published, depth):
    home = read_source(published(depth)).home
    assert (home.name, home.arguments["geometry"]) == (f"resnet{depth}", "medicalnet")
    assert "shortcut" not in home.arguments
    assert (home.arguments["in_channels"], home.arguments["num_classes"]) == (1, None)


def test_shortcuts_of_another_kind_than_published_are_kept(published):
    """A ResNet-18 trained with shortcut B: MedicalNet's own code allows it."""
    own = mt.create_model("resnet18", in_channels=1, num_classes=None, **TINY).state_dict()
    shortcuts = {key: value for key, value in own.items() if "downsample" in key}
    home = read_source(published(18, **shortcuts)).home
    network = mt.create_model(home.name, **home.arguments)
    assert network.output_stride == (8, 8, 8)
    assert network.state_dict().keys() == own.keys()
    assert [network.layer4[0].conv2.dilation, network.layer3[0].conv2.dilation] == [(4, 4, 4), (2, 2, 2)]


def test_the_report_says_when_the_target_computes_something_else(published):
    path = published(50)
    strided = mt.create_model("resunet50", in_channels=1, num_classes=3, **TINY)
    report = mt.transfer(path, strided)
    assert report.coverage == 1
    (note,) = [note for note in report.notes if "computes something else" in note]
    assert "geometry='medicalnet'" in note
    assert "dilations 2 and 4" in note
    faithful = mt.create_model("resunet50", in_channels=1, num_classes=3, geometry="medicalnet", **TINY)
    assert not any("computes something else" in note for note in mt.transfer(path, faithful).notes)


def test_shortcut_a_is_named_for_a_target_that_has_convolutions_there(published):
    report = mt.transfer(published(18), mt.create_model("resnet18", in_channels=1, **TINY))
    assert {entry.key for entry in report.missing if "downsample" in entry.key}
    assert any("geometry='medicalnet'" in note for note in report.notes)


def test_a_fine_tuned_segmenters_head_is_listed_as_without_a_place(tmp_path):
    torch.save({"state_dict": medicalnet_tensors(50, classes=3), "ecpoch": 3}, tmp_path / "seg.pth")
    weights = read_source(tmp_path / "seg.pth")
    assert weights.dialect == "medicalnet"
    report = mt.transfer(tmp_path / "seg.pth", mt.create_model(weights.home.name, **weights.home.arguments))
    assert {entry.key.split(".")[0] for entry in report.unexpected} == {"conv_seg"}
    assert len(report.unexpected) == 14


def test_a_bare_state_dict_with_the_published_stem_is_taken_for_it_and_said_to_be_a_guess():
    weights = read_source(wide_stem())
    assert weights.dialect == "medicalnet"
    assert "look like MedicalNet" in weights.home.note


def test_what_has_a_head_or_says_that_it_is_ours_is_not_medicalnet(tmp_path, tiny):
    ours = mt.create_model("resnet10", in_channels=1, num_classes=None)
    assert read_source(ours).dialect == "resnet"
    mt.save(mt.create_model("resnet10", in_channels=1, num_classes=2), tmp_path / "folder")
    assert read_source(tmp_path / "folder").dialect == "resnet"
    for head in ("head_fc.weight", "final_layer.1.weight"):
        assert read_source({**wide_stem(), head: torch.ones(2, 512)}).dialect == "resnet"
    # a narrow network of one's own, of which the published layout says nothing
    assert read_source(tiny("resnet10", in_channels=1, num_classes=None).state_dict()).dialect == "resnet"
    # ResNet-D's shortcuts
    pooled = mt.create_model("resnet10", in_channels=1, num_classes=None, avg_down=True).state_dict()
    assert read_source(pooled).dialect == "resnet"


def test_the_published_layout_is_needed_for_other_widths(published):
    assert read_source(published()).dialect == "medicalnet"
    assert read_source(medicalnet_tensors(10)).dialect == "resnet"
    assert read_source(medicalnet_tensors(10), dialect="medicalnet").home.arguments["geometry"] == "medicalnet"


def test_other_input_channels_are_somebodys_own_training(tmp_path):
    """The same layout with more channels and no ``conv_seg``: nothing says MedicalNet."""
    own = mt.create_model("resnet10", in_channels=2, num_classes=None, **TINY).state_dict()
    torch.save({"state_dict": behind("module.", own)}, tmp_path / "net.pth")
    assert read_source(tmp_path / "net.pth").dialect == "resnet"


def test_its_intensities_are_known(published):
    assert read_source(published()).facts == {"intensity": {"scheme": "zscore", "nonzero": True}}
