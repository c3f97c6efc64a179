"""Refused transfers: the target is bit-equal, the error carries report and path, and says what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import MedTransferError, TransferError, UsageError


@pytest.fixture
def refused(same, snapshot) -> Callable[..., TransferError]:
    """The error of a transfer that must be refused, after seeing that nothing was touched."""

    def attempt(source, target, kind: type[MedTransferError] = TransferError, **options) -> MedTransferError:
        before = snapshot(target)
        with pytest.raises(kind) as caught:
            mt.transfer(source, target, **options)
        assert same(target, before)
        assert "\n" not in str(caught.value)
        return caught.value

    return attempt


@pytest.fixture
def saved(tmp_path) -> Callable[[nn.Module], object]:
    """A weight file of a network."""

    def write(network: nn.Module) -> object:
        torch.save(network.state_dict(), tmp_path / "source.pth")
        return tmp_path / "source.pth"

    return write


def test_c25_no_key_matches(refused, tiny, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(nn.TransformerEncoderLayer(8, 2).state_dict(), path)
    error = refused(path, tiny("resunet10"))
    assert str(error).startswith(
        f"{path}: 0 of 158 tensors of the target match; first keys of the source self_attn.in_proj"
    )
    assert "of the target encoder_0.0.weight" in str(error)
    assert error.path == path
    assert error.report.coverage == 0
    assert len(error.report.missing) == 158
    assert len(error.report.unexpected) == 12


@pytest.mark.parametrize("min_coverage", [0, 0.5])
def test_c25_zero_overlap_is_refused_whatever_is_required(refused, tiny, min_coverage):
    refused(nn.Linear(2, 2), tiny(), min_coverage=min_coverage)


def test_c26_low_coverage_needs_consent(refused, tiny, saved):
    path, target = saved(tiny(seed=1, num_stages=3)), tiny("resunet10", seed=2)
    error = refused(path, target)
    assert f"only {error.report.coverage:.1%} of the target encoder's parameters come from the source" in str(error)
    assert "50% are required" in str(error)
    assert "--min-coverage" in str(error)
    assert error.path == path
    assert 0.1 < error.report.coverage < 0.5
    assert "missing" in str(error.report)
    accepted = mt.transfer(path, target, min_coverage=error.report.coverage)
    assert accepted.coverage == error.report.coverage


def test_c27_a_shape_that_differs_inside_the_encoder(refused, tiny, saved):
    state = tiny(seed=1).state_dict()
    state["layer2.0.conv2.weight"] = torch.rand(8, 8, 3, 3, 1)
    error = refused(state, tiny(seed=2), min_coverage=0)
    assert "1 tensors have other shapes" in str(error)
    assert "layer2.0.conv2.weight: source [8, 8, 3, 3, 1], target [8, 8, 3, 3, 3]" in str(error)
    assert [entry.key for entry in error.report.mismatched] == ["layer2.0.conv2.weight"]


def test_c27_other_widths_name_the_arguments(refused, tiny, saved):
    path = saved(tiny(seed=1, base_channels=8))
    error = refused(path, tiny(seed=2), min_coverage=0)
    assert "base_channels" in str(error)
    assert error.path == path


def test_c27_a_shape_that_differs_in_a_network_without_the_zoos_names(refused):
    source = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 4, 3))
    target = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 3, 3))
    error = refused(source, target, min_coverage=0)
    assert "1.weight: source [4, 2, 3, 3, 3], target [3, 2, 3, 3, 3]" in str(error)


def test_a_decoder_of_other_widths_is_left_as_it_is_and_reported(tiny):
    source, target = tiny("resunet10", seed=1), tiny("resunet10", seed=2, decoder_block="bottleneck")
    report = mt.transfer(source, target)
    assert report.mismatched
    assert {entry.key.split("_")[0] for entry in report.mismatched} == {"decoder"}


def test_c29_a_kept_head_of_another_class_count(refused, tiny, saved):
    for name, other in (("resnet10", "resnet10"), ("resunet10", "resunet10")):
        path = saved(tiny(name, seed=1, num_classes=4))
        error = refused(path, tiny(other, seed=2, num_classes=3), head="keep")
        assert "head='drop'" in str(error)
        assert error.path == path
        assert len(error.report.mismatched) == 2
        assert mt.transfer(path, tiny(other, seed=2, num_classes=3)).coverage == 1


@pytest.mark.parametrize(
    "source, target", [("resnet18", "resnet50"), ("resunet50", "resunet18"), ("resnet34", "resunet10")]
)
def test_c30_another_depth_is_guessed_and_said(refused, tiny, saved, source, target):
    path = saved(tiny(source, seed=1))
    error = refused(path, tiny(target, seed=2))
    assert f"looks like {source}, the target is {target}" in str(error)
    assert error.path == path
    assert error.report.architecture == source


def test_c30_a_deeper_network_covers_a_shallower_one_and_is_refused_unless_anything_is_accepted(refused, tiny):
    """Each block of the target is found by name and shape; what they compute together is lost."""
    source, target = tiny("resnet34", seed=1), tiny("resnet18", seed=2)
    error = refused(source, target, min_coverage=0.01)
    assert error.report.coverage == 1
    assert "96 tensors of the source have no place" in str(error)
    assert mt.transfer(source, target, min_coverage=0).coverage == 1


@pytest.mark.parametrize("source, target", [("resnet50", "resnet101"), ("resnet34", "resnet34")])
def test_c30_stages_that_only_one_side_has_do_not_make_another_depth(tiny, source, target):
    assert mt.transfer(tiny(source, seed=1, num_stages=2), tiny(target, seed=2), min_coverage=0.01).coverage < 0.5


@pytest.mark.parametrize(
    "names", [("resnet10", "resnet10"), ("resnet10", "resunet10"), ("resunet10", "resnet10")], ids=str
)
def test_c31_3d_weights_do_not_fit_a_2d_network(refused, tiny, saved, names):
    """The other way round 2-D kernels are inflated: tests/adapter/test_fitting.py."""
    flat = {"conv_cfg": {"type": "Conv2d"}}
    path = saved(tiny(names[0], seed=1))
    error = refused(path, tiny(names[1], seed=2, **flat))
    assert "The weights are 3-D, the target is 2-D" in str(error)
    assert error.path == path


def test_strict_refuses_other_input_channels(refused, tiny, saved):
    path = saved(tiny(seed=1, in_channels=3))
    error = refused(path, tiny(seed=2, in_channels=2), input_channels="strict")
    assert "conv1.weight: source [4, 3, 7, 7, 7], target [4, 2, 7, 7, 7]" in str(error)
    assert "input_channels='interpolate'" in str(error)
    assert error.path == path
    assert len(error.report.mismatched) == 1


def test_c32_a_tensor_without_data_stops_the_transfer_before_it_begins(refused, tiny):
    state = tiny(seed=1).state_dict()
    state["layer4.0.conv2.weight"] = torch.empty_like(state["layer4.0.conv2.weight"], device="meta")
    assert "'layer4.0.conv2.weight' is on the meta device" in str(refused(state, tiny(seed=2)))
    state["layer4.0.conv2.weight"] = torch.rand(32, 32, 3, 3, 3).to_sparse()
    assert "'layer4.0.conv2.weight' is sparse" in str(refused(state, tiny(seed=2)))


def test_a_target_that_cannot_hold_values(tiny):
    with torch.device("meta"):
        target = mt.create_model("resnet10", base_channels=4, stem_channels=4)
    with pytest.raises(TransferError, match=r"the target's conv1\.weight is on the meta device"):
        mt.transfer(tiny(seed=1), target)


def test_two_networks_in_one_source_or_target_are_ambiguous(refused, tiny):
    both = nn.ModuleDict({"model": tiny(seed=1), "network": tiny(seed=2)})
    assert "'model.conv1.weight' and 'network.conv1.weight' are the same" in str(refused(both, tiny(seed=3)))
    refused(tiny(seed=3), both)


def test_a_map_of_another_length_or_to_an_unknown_channel(refused, tiny):
    error = refused(tiny(in_channels=2), tiny(seed=1, in_channels=2), UsageError, input_channels={"a": 0})
    assert "maps 1 channels (a), the target has 2" in str(error)
    error = refused(tiny(in_channels=2), tiny(seed=1), UsageError, input_channels={"a": "flair"})
    assert "'flair'; the source has 2 channels, unnamed" in str(error)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"input_channels": "average"}, "input_channels must be one of interpolate, .* or a map, got 'average'"),
        ({"head": "heads"}, "head must be one of drop, keep, convert or a map of classes, got 'heads'"),
        ({"min_coverage": 50}, "min_coverage must be between 0 and 1, got 50"),
    ],
    ids=["mode", "head", "percent"],
)
def test_options_that_do_not_exist_are_named(tiny, options, said):
    with pytest.raises(UsageError, match=said):
        mt.transfer(tiny(), tiny(), **options)


@pytest.mark.parametrize("source", [None, 3, {}, {"weight": 3}, {"state_dict": {"a": torch.ones(1)}}], ids=str)
def test_a_source_that_holds_no_weights_is_refused(tiny, source):
    with pytest.raises(UsageError, match=r"a source is a module|a state dict maps names to tensors"):
        mt.transfer(source, tiny())


def test_a_missing_file_is_named(tiny, tmp_path):
    with pytest.raises(MedTransferError, match="no such file") as caught:
        mt.transfer(tmp_path / "none.pth", tiny())
    assert caught.value.path == tmp_path / "none.pth"
