"""nnU-Net's files: second names of tensors, plans old and new, what a card can say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

import medtransfer as mt
from medtransfer.adapter.dialects.nnunet_plans import mirror_axes
from medtransfer.adapter.source import SourceWeights, read_source
from medtransfer.errors import TransferError
from medtransfer.volumes.intensity import normalise
from tests.adapter.dialects.nnunet_oracle import SPECS, checkpoint, filled, first_keys, plans_of

Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(content: Any) -> Path:
        # never over a file whose tensors are still mapped
        path = tmp_path / f"checkpoint_{len(list(tmp_path.iterdir()))}.pth"
        torch.save(content, path)
        return path

    return save


def read(spec_name: str, write: Write, dataset: dict[str, Any] | None = None, **plans: Any) -> SourceWeights:
    spec = SPECS[spec_name]
    return read_source(write(checkpoint(spec, plans_of(spec, **plans), **(dataset or {}))))


# --- second names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, keys, tensors", [("plain", 136, 48), ("residual", 224, 66)])
def test_every_tensor_is_taken_once_and_its_other_names_are_told(name, keys, tensors, write):
    state = filled(SPECS[name])
    weights = read_source(write({"network_weights": state}))
    assert (len(state), len(weights.tensors), len(weights.unread)) == (keys, tensors, keys - tensors)
    assert set(weights.keys.values()) == set(first_keys(SPECS[name]))
    assert all(".all_modules." in key or key.startswith("decoder.encoder.") for key in weights.unread)
    report = mt.transfer(write({"network_weights": state}), home_of(weights), head="keep", min_coverage=1)
    assert (len(report.loaded), len(report.dropped), report.missing) == (tensors, keys - tensors, [])


def home_of(weights: SourceWeights) -> torch.nn.Module:
    assert weights.home is not None
    return mt.create_model(weights.home.name, **weights.home.arguments)


SECOND_NAMES = [
    "encoder.stages.1.0.convs.0.all_modules.0.weight",
    "encoder.stages.1.0.convs.0.all_modules.1.bias",
    "decoder.encoder.stages.1.0.convs.0.conv.weight",
    "decoder.encoder.stages.1.0.convs.0.all_modules.0.weight",
    "decoder.stages.0.convs.0.all_modules.0.bias",
]


@pytest.mark.parametrize("key", SECOND_NAMES)
def test_a_second_name_with_other_values_is_refused_by_name(key, write):
    state = filled(SPECS["plain"])
    state[key] = state[key] + 1
    with pytest.raises(TransferError, match=f"'{key}' is another name of .* and holds other values"):
        read_source(write({"network_weights": state}))
    state[key] = state[key][:2]
    with pytest.raises(TransferError, match="is another name of"):
        read_source(write({"network_weights": state}))


def test_second_names_with_memory_of_their_own_are_compared(write):
    state = {key: value.clone() for key, value in filled(SPECS["plain"]).items()}
    assert len(read_source(write({"network_weights": state})).tensors) == 48


@pytest.mark.parametrize("prefix", ["decoder.encoder.", "module.", "_orig_mod.module."])
def test_names_are_found_behind_prefixes_and_where_the_first_lack(prefix, write):
    state = filled(SPECS["plain"])
    if prefix == "decoder.encoder.":
        kept = {key: value for key, value in state.items() if not key.startswith("encoder.")}
    else:
        kept = {f"{prefix}{key}": value for key, value in state.items()}
    weights = read_source(write(kept))
    expected = read_source(write(state))
    assert weights.dialect == "nnunet"
    assert weights.home == expected.home
    assert {k: v.tolist() for k, v in weights.tensors.items()} == {k: v.tolist() for k, v in expected.tensors.items()}


# --- into other networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_a_saved_segmenter_becomes_a_classifier_of_other_channels(name, write):
    path = write(checkpoint(SPECS[name], plans_of(SPECS[name])))
    segmenter = home_of(read_source(path))
    mt.transfer(path, segmenter, head="keep")
    kind = segmenter.architecture["name"].replace("unet", "encoder")
    units = {"num_blocks": [1, 2, 2]} if name == "residual" else {}
    classifier = mt.create_model(kind, in_channels=2, num_classes=4, channels=[4, 8, 16], **units)
    report = mt.transfer(path, classifier, input_channels="repeat")
    assert report.coverage == 1
    assert [entry.key for entry in report.adapted] == ["stem.0.conv.weight" if units else "stage0.0.conv.weight"]
    x = torch.randn(1, 1, 8, 8, 8)
    theirs, ours = (net.eval().features(x.expand(1, net.in_channels, 8, 8, 8)) for net in (segmenter, classifier))
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert mt.to_classifier(segmenter, num_classes=4)(x).shape == (1, 4)


def test_a_target_of_another_activation_is_told_so(write):
    path = write(checkpoint(SPECS["plain"], plans_of(SPECS["plain"])))
    target = mt.create_model("plain_unet", channels=[4, 8, 16], act_cfg={"type": "ReLU"}, num_classes=3)
    assert any("act_cfg={'type': 'LeakyReLU'}" in note for note in mt.transfer(path, target).notes)
    same = mt.create_model("plain_unet", channels=[4, 8, 16], num_classes=3)
    assert not any("something else" in note for note in mt.transfer(path, same).notes)


# --- what the plans say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_plans_and_tensors_alone_lead_to_one_home(name, write):
    spec = SPECS[name]
    alone = read_source(filled(replace(spec))).home
    planned = read(name, write).home
    assert {**alone.arguments, **planned.arguments} == planned.arguments
    assert "no plans" in alone.note
    assert "no plans" not in planned.note


def with_architecture(**changes: Any) -> dict[str, Any]:
    plans = plans_of(SPECS["plain"])
    architecture = plans["configurations"]["base"]["architecture"]
    changed = {**architecture, "arch_kwargs": {**architecture["arch_kwargs"], **changes}}
    return {"configuration": {"architecture": changed}}


@pytest.mark.parametrize(
    "changes, arguments, said",
    [
        ({"nonlin_kwargs": {"inplace": True, "negative_slope": 0.1}},
         {"act_cfg": {"type": "LeakyReLU", "negative_slope": 0.1}}, ""),
        ({"nonlin": "torch.nn.modules.activation.GELU", "nonlin_kwargs": None}, {"act_cfg": {"type": "GELU"}}, ""),
        ({"nonlin": "my.project.Swish9"}, {}, "its activation Swish9 is taken for LeakyReLU"),
        ({"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.1}}, {}, "trained with dropout"),
        ({"strides": [[2, 2, 2], [2, 2, 2], [2, 2, 2]]}, {"strides": [2, 2, 2]}, ""),
        ({"strides": [[1, 2, 2], [2, 2, 2], [2, 2, 2]]}, {"strides": [[1, 2, 2], 2, 2]}, ""),
    ],
    ids=["slope", "gelu", "unknown activation", "dropout", "first stride", "first stride of axes"],
)  # fmt: skip
def test_what_no_tensor_tells_is_taken_from_the_plans(changes, arguments, said, write):
    home = read("plain", write, **with_architecture(**changes)).home
    assert {key: home.arguments[key] for key in arguments} == arguments
    assert home.arguments.keys() - arguments.keys() == {"in_channels", "num_classes", "channels", "aux_train"}
    assert said in home.note
    mt.create_model(home.name, **home.arguments)


def test_a_network_that_the_zoo_cannot_compute_has_no_home(write):
    assert read("plain", write, **with_architecture(nonlin_first=True)).home is None
    state = {key: value for key, value in filled(SPECS["plain"]).items() if ".norm." not in key and "s.1." not in key}
    assert read_source(write({"network_weights": state})).home is None


# --- what a card can say ------------------------------------------------------------------------------------------


def test_channels_and_classes_stand_in_the_order_of_their_numbers(write):
    spec = replace(SPECS["plain"], in_channels=11, num_classes=4)
    names = {str(i): f"MR{i}" for i in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)}
    labels = {"vessel": 2, "background": 0, "liver": 1, "tumour": [7], "ignore": 8}
    facts = read_source(write(checkpoint(spec, plans_of(spec), channel_names=names, labels=labels))).facts
    assert facts["input_channels"] == [f"MR{i}" for i in range(11)]
    assert facts["classes"] == ["background", "liver", "vessel", "tumour"]


def test_what_does_not_fit_the_network_is_left_away(write):
    weights = read("plain", write, {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "liver": 1}})
    assert not {"input_channels", "classes"} & set(weights.facts)
    regions = {"background": 0, "whole tumour": [1, 2], "core": [2], "edema": 1}
    weights = read("plain", write, {"labels": regions})
    assert "classes" not in weights.facts
    assert "one sigmoid each" in weights.home.note
    assert "modality" not in str(read("plain", write, {"channel_names": {}, "modality": {"0": "CT"}}).facts)


@pytest.mark.parametrize(
    "plans, stated, said",
    [
        ({}, {"patch_size": [32, 64, 64]}, "orientation='SAR' and spacing 3 x 0.7 x 0.7 mm"),
        ({"transpose_forward": [2, 0, 1]}, {"patch_size": [32, 64, 64]}, "orientation='RSA' and spacing"),
        ({"configuration": {"spacing": [1, 1, 1]}}, {"patch_size": [32, 64, 64], "spacing": [1.0] * 3}, "'SAR'"),
        ({"image_reader_writer": "NibabelIOWithReorient"},
         {"patch_size": [32, 64, 64], "spacing": [3.0, 0.7, 0.7], "orientation": "SAR"}, ""),
        ({"configuration": {"patch_size": [64, 64], "spacing": [1, 1]}}, {"patch_size": [64, 64]}, "slices"),
    ],
    ids=["as stored", "transposed", "isotropic", "reoriented", "slices"],
)  # fmt: skip
def test_axes_are_stated_only_where_they_are_known(plans, stated, said, write):
    weights = read("plain", write, **plans)
    found = {key: weights.facts[key] for key in ("patch_size", "spacing", "orientation") if key in weights.facts}
    assert found == stated
    assert said in weights.home.note


CT = {"scheme": "ct", "nonzero": False, "low": -17.0, "high": 201.0, "mean": 99.5, "std": 38.25}


def normalised(*schemes: str, masks: tuple[bool, ...] = (False,)) -> dict[str, Any]:
    return {"configuration": {"normalization_schemes": list(schemes), "use_mask_for_norm": list(masks)}}


@pytest.mark.parametrize(
    "plans, scheme, said",
    [
        (normalised("ZScoreNormalization"), {"scheme": "zscore", "nonzero": False}, ""),
        (normalised("ZScoreNormalization", masks=(True,)), {"scheme": "zscore", "nonzero": True}, ""),
        (normalised("ZScoreNormalization", "ZScoreNormalization", masks=(True, False)),
         [{"scheme": "zscore", "nonzero": True}, {"scheme": "zscore", "nonzero": False}], ""),
        (normalised("NoNormalization"), {"scheme": "none"}, ""),
        (normalised("CTNormalization"), CT, ""),
        (normalised("CTNormalization", "ZScoreNormalization", masks=(False, True)),
         [CT, {"scheme": "zscore", "nonzero": True}], ""),
        (normalised("RescaleTo01Normalization"),
         {"scheme": "percentile", "low_percentile": 0.0, "high_percentile": 100.0}, ""),
        (normalised("RGBTo01Normalization"), {"scheme": "clip", "low": 0.0, "high": 255.0}, ""),
        (normalised("OwnNormalization"), None, "no such intensities: OwnNormalization"),
        ({**normalised("CTNormalization"), "foreground_intensity_properties_per_channel": None}, None, "percentiles"),
        ({**normalised("CTNormalization"), "foreground_intensity_properties_per_channel": {
            "0": {"mean": 1.0, "std": 0.0, "percentile_00_5": -17.0, "percentile_99_5": 201.0}}}, None, "percentiles"),
    ],
    ids=["zscore", "within the mask", "mixed", "none", "ct", "ct and mr", "rescaled", "colour", "of another",
         "ct without numbers", "ct that does not vary"],
)  # fmt: skip
def test_intensities_are_stated_where_a_card_has_them(plans, scheme, said, write):
    weights = read("plain", write, **plans)
    assert weights.facts.get("intensity") == scheme
    assert said in weights.home.note


def test_ct_is_normalised_as_nnunet_does(write):
    """nnU-Net's own steps: clip, minus mean, over deviation (CTNormalization.run), in float32."""
    facts = read("plain", write, **normalised("CTNormalization")).facts
    scan = np.random.default_rng(0).normal(0, 500, (1, 6, 7, 8)).astype(np.float32)
    expected = scan.copy()
    np.clip(expected, -17.0, 201.0, out=expected)
    expected -= 99.5
    expected /= 38.25
    np.testing.assert_array_equal(normalise(scan, facts["intensity"])[0], expected)


def test_the_facts_make_a_card(write, tmp_path):
    weights = read("plain", write, image_reader_writer="NibabelIOWithReorient")
    network = home_of(weights)
    mt.transfer(write(checkpoint(SPECS["plain"], plans_of(SPECS["plain"]))), network, head="keep")
    card = mt.save(network, tmp_path / "model", weights.facts)
    assert (card.orientation, card.classes, card.input_channels) == ("SAR", ["background", "part 1", "part 2"], ["MR0"])
    assert msgspec.to_builtins(card.intensity)["scheme"] == "zscore"


JUNK = [None, 3, "plans", [], {"plans": 5}, {"plans": {"configurations": [1]}, "configuration": "x"},
        {"plans": {"configurations": {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}}, "configuration": "a"},
        {"plans": {"configurations": {"a": {"architecture": 1, "spacing": ["x"], "patch_size": [0, 1, 1]}}},
         "configuration": "a"},
        {"dataset_json": {"channel_names": {"x": 1}, "labels": {"background": "zero"}}},
        {"dataset_json": {"channel_names": {"0": "../a"}, "labels": {"background": 0, "b": 1, "\n": 2}}}]  # fmt: skip


@pytest.mark.parametrize("given", JUNK, ids=range(len(JUNK)))
def test_plans_that_are_none_do_no_harm(given, write):
    weights = read_source(write({"network_weights": filled(SPECS["plain"]), "init_args": given}))
    assert weights.home.name == "plain_unet"
    assert weights.facts == {}


def test_all_values_are_moved(write):
    """Each tensor of the network equals the file's, by the rule written out here once more."""
    state: dict[str, Tensor] = filled(SPECS["plain"])
    network = home_of(read_source(write({"network_weights": state})))
    mt.transfer(write({"network_weights": state}), network, head="keep")
    pairs = {
        "encoder_2.1.conv.weight": "encoder.stages.2.0.convs.1.conv.weight",
        "encoder_0.0.in.bias": "encoder.stages.0.0.convs.0.norm.bias",
        "decoder_0.up.weight": "decoder.transpconvs.1.weight",
        "decoder_1.conv.0.conv.weight": "decoder.stages.0.convs.0.conv.weight",
        "final_layer.1.bias": "decoder.seg_layers.1.bias",
        "aux_layers.0.1.weight": "decoder.seg_layers.0.weight",
    }
    own = network.state_dict()
    assert all(torch.equal(own[ours], state[theirs]) for ours, theirs in pairs.items())


def test_axes_that_may_be_mirrored_come_into_the_card(write):
    assert read("plain", write).facts["mirror_axes"] == [0, 1, 2]


@pytest.mark.parametrize("given", [None, 2, (0, 3), ("x",), (0, 1, 2, 0)])
def test_axes_that_no_scan_has_are_left_away(given):
    assert mirror_axes({"inference_allowed_mirroring_axes": given}) is None
    assert mirror_axes({"inference_allowed_mirroring_axes": ()}) == []
