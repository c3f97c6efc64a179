"""Weights from anywhere into a network: exact, and every tensor of both sides in the report once."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import medtransfer as mt

DEPTHS = (10, 18, 34, 50, 101, 152, 200)
STEMS = {"plain": {}, "deep": {"deep_stem": True}}
POOLS = {"max": {}, "conv": {"pool": "conv"}}
GROUPS = ("loaded", "adapted", "dropped", "missing", "unexpected", "mismatched")


def encoder_state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("head")}


# --- ResNet -> ResUNet -> ResNet, from files ------------------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("stem", STEMS.values(), ids=STEMS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_classifier_returns_bit_equal_from_a_saved_segmenter(depth, stem, pool, tiny, same, tmp_path):
    classifier = tiny(f"resnet{depth}", seed=1, **stem, **pool)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    segmenter = tiny(f"resunet{depth}", seed=2, **stem, **pool)
    there = mt.transfer(tmp_path / "classifier.pth", segmenter)
    save_file(segmenter.state_dict(), tmp_path / "segmenter.safetensors")
    again = tiny(f"resnet{depth}", seed=3, num_classes=5, **stem, **pool)
    head = {key: tensor.clone() for key, tensor in again.state_dict().items() if key.startswith("head")}
    back = mt.transfer(tmp_path / "segmenter.safetensors", again)

    assert same(again, {**encoder_state(classifier), **head})
    assert there.coverage == back.coverage == 1
    assert there.architecture == f"resnet{depth}"
    assert back.architecture == f"resunet{depth}"
    assert len(there.loaded) == len(back.loaded) == len(encoder_state(classifier))
    assert [entry.key for entry in back.missing] == ["head_fc.weight", "head_fc.bias"]
    assert {entry.source_key for entry in back.unexpected} == {
        key for key in segmenter.state_dict() if key.startswith("decoder")
    }


NORMS = {
    "groups": {"norm_cfg": {"type": "GN", "num_groups": 2}},
    "instances": {"norm_cfg": {"type": "IN", "affine": True}},
    "learned activation": {"act_cfg": {"type": "PReLU"}},
    "two dimensions": {"conv_cfg": {"type": "Conv2d"}},
    "short": {"num_stages": 2},
}


@pytest.mark.parametrize("arguments", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("stem", STEMS.values(), ids=STEMS)
def test_the_way_there_and_back_is_bit_equal_for_other_layer_types(arguments, stem, tiny, same):
    classifier = tiny(seed=1, **arguments, **stem)
    segmenter = tiny("resunet10", seed=2, **arguments, **stem)
    again = tiny(seed=3, **arguments, **stem)
    mt.transfer(classifier.state_dict(), segmenter)
    report = mt.transfer(segmenter.state_dict(), again, head="drop")
    head = {key: tensor for key, tensor in tiny(seed=3, **arguments, **stem).state_dict().items() if "head" in key}
    assert same(again, {**encoder_state(classifier), **head})
    assert report.coverage == 1
    assert {entry.key for entry in report.missing} == set(head)


# --- sources --------------------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_result(as_source, tiny, same, snapshot):
    source, target = tiny(seed=1, in_channels=2), tiny("resunet10", seed=2, in_channels=2)
    before, own = snapshot(source), snapshot(target)
    report = mt.transfer(as_source(source), target)
    assert same(source, before)
    expected = dict(own)
    for entry in report.loaded:
        expected[entry.key] = before[entry.source_key]
    assert same(target, expected)
    assert report.coverage == 1
    assert len(report.loaded) == len(encoder_state(source))
    words = {
        "module": "module",
        "state dict": "state dict",
        ".pth": "torch, under 'state_dict'",
        "model folder": "model_folder",
    }
    assert words.get(as_source.kind, "safetensors") in report.source_format
    assert "resnet keys" in report.source_format


def test_a_folder_or_a_file_is_not_changed_by_being_read(as_source, tiny):
    source = as_source(tiny(seed=1))
    if isinstance(source, nn.Module | dict):
        pytest.skip("a module or a dict is no file: the test above holds for them")
    files = [source] if source.is_file() else sorted(source.iterdir())
    before = [file.read_bytes() for file in files]
    target = tiny(seed=2)
    mt.transfer(source, target)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(1)
    assert [file.read_bytes() for file in files] == before


PREFIXES = ["module.", "_orig_mod.", "module.backbone.", "model.encoder.", "encoder.", "network._orig_mod.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network_weights", "state_dict_ema"])
def test_c24_wrappers_and_prefixes_are_found_and_said(prefix, wrapper, tiny, same, tmp_path):
    source, target = tiny(seed=1), tiny(seed=2)
    state = {prefix + key: tensor for key, tensor in source.state_dict().items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 1}, tmp_path / "wrapped.pth")
    report = mt.transfer(tmp_path / "wrapped.pth", target, head="keep")
    assert same(target, source.state_dict())
    assert report.loaded[0].source_key == f"{prefix}conv1.weight"
    assert report.loaded[0].key == "conv1.weight"
    assert wrapper is None or repr(wrapper) in report.source_format


def test_prefixes_are_whole_components_only(tiny):
    state = {f"submodule.{key}": tensor for key, tensor in tiny(seed=1).state_dict().items()}
    with pytest.raises(mt.MedTransferError, match="0 of 74 tensors of the target match"):
        mt.transfer(state, tiny(seed=2))


def test_a_stem_of_another_kind_is_said_with_the_arguments_to_build_it(tiny):
    """A file of the tutorial in a network with default arguments: nearly all is covered, the stem is random."""
    source, default = tiny("resnet50", seed=1, deep_stem=True, pool="conv"), tiny("resunet50", seed=2)
    report = mt.transfer(source, default)
    assert report.coverage > 0.9
    assert {"encoder_0.0.weight", "encoder_0.1.weight"} <= {entry.key for entry in report.missing}
    assert "than their own network: that has deep_stem=True, pool='conv'" in str(report)
    alike = tiny("resunet50", seed=2, deep_stem=True, pool="conv")
    assert mt.transfer(source, alike).notes == []


def test_a_wrapped_target_keeps_its_keys(tiny, same):
    source, target = tiny(seed=1), nn.DataParallel(tiny(seed=2))
    report = mt.transfer(source, target, head="keep")
    assert same(target.module, source.state_dict())
    assert report.loaded[0].key == "module.conv1.weight"


# --- input channels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new", [(1, 4), (4, 1), (3, 2)])
@pytest.mark.parametrize("mode", ["interpolate", "interpolate-rescaled", "repeat", "mean", "zero"])
@pytest.mark.parametrize("stem", STEMS.values(), ids=STEMS)
def test_c28_other_input_channels_are_adapted_and_reported(old, new, mode, stem, tiny):
    source, target = tiny(seed=1, in_channels=old, **stem), tiny("resunet10", seed=2, in_channels=new, **stem)
    report = mt.transfer(source, target, input_channels=mode)
    (entry,) = report.adapted
    first, own = ("stem.0.conv.weight", "encoder_0.0.conv.weight") if stem else ("conv1.weight", "encoder_0.0.weight")
    weight = source.state_dict()[first]
    assert torch.equal(target.state_dict()[own], mt.adapt_input_conv(new, weight, mode))
    assert (entry.source_key, entry.key) == (first, own)
    assert (entry.source_shape, entry.target_shape) == (tuple(weight.shape), (weight.shape[0], new, *weight.shape[2:]))
    assert entry.how == f"{old} -> {new} input channels by {mode!r}"
    assert report.coverage == 1
    assert entry.how in str(report)


def test_c28_sum_takes_several_channels_to_one(tiny):
    source, target = tiny(seed=1, in_channels=3), tiny(seed=2, in_channels=1)
    mt.transfer(source, target, input_channels="sum")
    torch.testing.assert_close(target.conv1.weight, source.conv1.weight.sum(1, keepdim=True))


def test_c28_the_adapted_network_answers_replicated_channels_as_before(tiny):
    source, target = tiny(seed=1, in_channels=1).eval(), tiny(seed=2, in_channels=4).eval()
    mt.transfer(source, target, input_channels="interpolate-rescaled", head="keep")
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(target(x.expand(-1, 4, -1, -1, -1)), source(x))


def test_the_full_resolution_skip_sees_the_input_too_and_is_adapted(tiny):
    source = tiny("resunet10", seed=1, in_channels=1, full_resolution_skip=4)
    target = tiny("resunet10", seed=2, in_channels=3, full_resolution_skip=4)
    report = mt.transfer(source, target)
    assert [entry.key for entry in report.adapted] == ["encoder_0.0.weight", "input_skip.conv.weight"]


def test_channels_are_chosen_by_the_names_in_the_folders_card(tiny, tmp_path):
    source = tiny(seed=1, in_channels=3).eval()
    mt.save(source, tmp_path / "source", {"input_channels": ["t1", "flair", "t2"]})
    target = tiny(seed=2, in_channels=4).eval()
    channels = {"adc": None, "t2": "t2", "flair": "flair", "dwi": "t1"}
    report = mt.transfer(tmp_path / "source", target, input_channels=channels, head="keep")
    assert report.adapted[0].how == "input channels adc <- zeros, t2 <- t2, flair <- flair, dwi <- t1"
    assert torch.equal(target.conv1.weight[:, 1:], source.conv1.weight[:, [2, 1, 0]])
    assert not target.conv1.weight[:, 0].any()
    x = torch.rand(1, 3, 16, 16, 16)
    with torch.no_grad():
        anything = torch.cat([1e2 * torch.rand(1, 1, 16, 16, 16), x[:, [2, 1, 0]]], dim=1)
        torch.testing.assert_close(target(anything), source(x))


def test_channels_are_chosen_by_the_names_of_a_loaded_networks_card(tiny, tmp_path):
    mt.save(tiny(seed=1, in_channels=2), tmp_path / "source", {"input_channels": ["ct", "pet"]})
    source, target = mt.load(tmp_path / "source"), tiny(seed=2, in_channels=1)
    mt.transfer(source, target, input_channels={"pet": "pet"})
    assert torch.equal(target.conv1.weight, source.conv1.weight[:, 1:])


def test_a_map_reorders_channels_of_the_same_number(tiny):
    source, target = tiny(seed=1, in_channels=2), tiny(seed=2, in_channels=2)
    report = mt.transfer(source, target, input_channels={"a": 1, "b": 0})
    assert torch.equal(target.conv1.weight, source.conv1.weight[:, [1, 0]])
    assert len(report.adapted) == 1


# --- heads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet10", "resunet10"])
def test_c29_a_head_is_dropped_and_said_unless_it_is_kept(name, tiny):
    source, target = tiny(name, seed=1, num_classes=3), tiny(name, seed=2, num_classes=3)
    head = "head_fc" if name == "resnet10" else "final_layer.1"
    own = target.state_dict()[f"{head}.weight"].clone()
    dropped = mt.transfer(source, target)
    assert [entry.key for entry in dropped.dropped] == [f"{head}.weight", f"{head}.bias"]
    assert torch.equal(target.state_dict()[f"{head}.weight"], own)
    kept = mt.transfer(source, target, head="keep")
    assert kept.dropped == []
    assert torch.equal(target.state_dict()[f"{head}.weight"], source.state_dict()[f"{head}.weight"])


def test_the_heads_of_deep_supervision_are_dropped_with_the_head(tiny):
    source, target = (tiny("resunet10", seed=s, aux_train=True) for s in (1, 2))
    report = mt.transfer(source, target)
    assert {entry.key.split(".")[0] for entry in report.dropped} == {"aux_layers", "final_layer"}


# --- the report -----------------------------------------------------------------------------------------------------


def accounted(report: mt.TransferReport, source: dict, target: dict) -> None:
    """Every tensor of both sides stands in the report exactly once."""
    entries = list(itertools.chain.from_iterable(getattr(report, group) for group in GROUPS))
    assert sorted(e.source_key for e in entries if e.source_key is not None) == sorted(source)
    assert sorted(e.key for e in entries if e.target_shape is not None) == sorted(target)
    for entry in entries:
        assert entry.source_shape == (None if entry.source_key is None else tuple(source[entry.source_key].shape))
        assert entry.target_shape is None or entry.target_shape == tuple(target[entry.key].shape)
        assert entry.source_shape is not None or entry.target_shape is not None
    for entry in (*report.loaded, *report.adapted):
        assert entry.source_shape is not None
        assert entry.target_shape is not None


ARGUMENTS = st.fixed_dictionaries(
    {
        "in_channels": st.integers(1, 3),
        "num_classes": st.integers(1, 3),
        "deep_stem": st.booleans(),
        "pool": st.sampled_from(["max", "conv"]),
        "num_stages": st.integers(1, 4),
        "base_channels": st.sampled_from([4, 8]),
        "conv_cfg": st.sampled_from([{"type": "Conv3d"}, {"type": "Conv2d"}]),
    }
)
NAMES = st.sampled_from(mt.list_models("res*10") + mt.list_models("res*18") + mt.list_models("res*50"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), head=st.sampled_from(["drop", "keep"]), tenth=st.integers(0, 10))
def test_the_report_accounts_for_every_tensor_once_or_nothing_is_touched(data, head, tenth, tiny, same, snapshot):
    given_source = data.draw(ARGUMENTS)
    changed = data.draw(st.sets(st.sampled_from(sorted(given_source)), max_size=2))
    given_target = {**given_source, **{name: data.draw(ARGUMENTS)[name] for name in changed}}
    source = tiny(data.draw(NAMES), seed=1, **given_source)
    target = tiny(data.draw(NAMES), seed=2, **given_target)
    there, here = snapshot(source), snapshot(target)
    refusal = None
    try:
        report = mt.transfer(source, target, head=head, min_coverage=tenth / 10)
    except mt.MedTransferError as error:
        refusal, report = str(error), error.report
    if refusal:
        assert same(target, here)
        assert report.mismatched or report.coverage < max(tenth / 10, 1e-9) or "looks like" in refusal
    else:
        moved = {entry.key for entry in (*report.loaded, *report.adapted)}
        now = target.state_dict()
        assert all(torch.equal(now[key], here[key]) for key in here.keys() - moved)
        assert all(torch.equal(now[entry.key], there[entry.source_key]) for entry in report.loaded)
        assert report.coverage >= tenth / 10
    event("refused" if refusal else "moved")
    assert same(source, there)
    accounted(report, there, here)
    assert 0 <= report.coverage <= 1
    assert json.loads(json.dumps(report.to_dict()))["coverage"] == report.coverage


def test_coverage_is_the_share_of_the_encoders_parameters_by_count(tiny):
    """Counted by hand: buffers, decoder and heads stand outside."""
    source, target = tiny(seed=1, num_stages=2), tiny("resunet10", seed=2)
    sizes = {"conv1": 4 * 343, "bn1": 8, "layer1": 2 * 4 * 4 * 27 + 2 * 8}
    sizes["layer2"] = 8 * 4 * 27 + 16 + 8 * 8 * 27 + 16 + 8 * 4 + 16
    sizes["layer3"] = 16 * 8 * 27 + 32 + 16 * 16 * 27 + 32 + 16 * 8 + 32
    sizes["layer4"] = 32 * 16 * 27 + 64 + 32 * 32 * 27 + 64 + 32 * 16 + 64
    moved = sum(sizes[part] for part in ("conv1", "bn1", "layer1", "layer2"))
    report = mt.transfer(source, target, min_coverage=0)
    assert report.coverage == moved / sum(sizes.values())
    assert f"{report.coverage:.1%} of the encoder's parameters" in str(report)


def test_the_report_can_be_read_and_kept(tiny):
    report = mt.transfer(tiny(seed=1, in_channels=2, num_classes=4), tiny("resunet10", seed=2))
    text = str(report)
    assert text.splitlines()[0] == (
        "from module, resnet keys (looks like resnet10): 71 loaded, 1 adapted, 2 dropped, 86 missing; "
        "100.0% of the encoder's parameters"
    )
    for words in (
        "encoder_0.0.weight",
        "2 -> 1 input channels by 'interpolate'",
        "head_fc.weight",
        "4x32",
        "... and 78 more",
    ):
        assert words in text
    kept = json.loads(json.dumps(report.to_dict()))
    assert {group: len(kept[group]) for group in GROUPS} == {group: len(getattr(report, group)) for group in GROUPS}
    assert kept["adapted"][0]["source_shape"] == [4, 2, 7, 7, 7]


# --- dtypes and places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("from_file", [False, True], ids=["state dict", "file"])
def test_c33_other_precisions_are_cast_and_said(dtype, from_file, tiny, tmp_path):
    state = {
        k: t.to(dtype) if t.is_floating_point() else t for k, t in tiny(seed=1, in_channels=2).state_dict().items()
    }
    source = tmp_path / "half.pth"
    torch.save(state, source)
    target = tiny(seed=2)
    report = mt.transfer(source if from_file else state, target)
    assert {t.dtype for t in target.parameters()} == {torch.float32}
    assert torch.equal(target.layer1[0].conv1.weight, state["layer1.0.conv1.weight"].float())
    # adapted in the wider of both precisions, and rounded once
    wide = state["conv1.weight"].to(torch.promote_types(dtype, torch.float32))
    assert torch.equal(target.conv1.weight, mt.adapt_input_conv(1, wide).float())
    name = str(dtype).removeprefix("torch.")
    assert f"60 tensors cast from {name} to float32" in str(report)
    assert {e.how for e in report.loaded if "num_batches" not in e.key} == {f"{name} cast to float32"}


def test_the_dtype_and_memory_of_the_target_stay(tiny):
    target = tiny(seed=2).half()
    places = {key: tensor.data_ptr() for key, tensor in target.state_dict().items()}
    flags = {key: parameter.requires_grad for key, parameter in target.named_parameters()}
    source = tiny(seed=1)
    mt.transfer(source, target)
    assert {t.dtype for t in target.parameters()} == {torch.float16}
    assert {key: tensor.data_ptr() for key, tensor in target.state_dict().items()} == places
    assert {key: parameter.requires_grad for key, parameter in target.named_parameters()} == flags
    assert torch.equal(target.conv1.weight, source.conv1.weight.half())
    assert all(parameter.grad is None for parameter in target.parameters())


def test_frozen_parameters_and_the_mode_of_the_target_stay(tiny):
    target = tiny("resunet10", seed=2, frozen_stages=2)
    mt.transfer(tiny(seed=1), target)
    assert not target.encoder_1[1][0].conv1.weight.requires_grad
    assert target.training
    assert not target.encoder_0.training


def test_source_and_target_share_no_memory_afterwards(tiny):
    source, target = tiny(seed=1), tiny(seed=2)
    mt.transfer(source, target, head="keep")
    with torch.no_grad():
        target.conv1.weight.add_(1)
    assert not torch.equal(source.conv1.weight, target.conv1.weight)


def test_a_network_may_be_its_own_source(tiny, same, snapshot):
    network = tiny(seed=1)
    before = snapshot(network)
    mt.transfer(network, network, head="keep")
    assert same(network, before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_target_on_a_gpu_stays_there(tiny):
    target = tiny(seed=2).cuda()
    source = tiny(seed=1, in_channels=2)
    mt.transfer(source, target)
    assert {p.device.type for p in target.parameters()} == {"cuda"}
    assert torch.equal(target.layer4[0].conv1.weight.cpu(), source.layer4[0].conv1.weight)


def test_networks_of_other_projects_move_whole_names_and_shapes():
    """Without names of the zoo all tensors but a head's count as the encoder."""
    source, target = (nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Conv3d(2, 4, 3)) for _ in range(2))
    report = mt.transfer(source, copy.deepcopy(target))
    assert report.coverage == 1
    assert report.architecture is None
    assert "unknown keys" in report.source_format


def test_a_stem_that_did_not_come_is_told_though_its_share_is_small() -> None:
    source = mt.create_model("resnet10", base_channels=8, stem_channels=8)
    target = mt.create_model("resunet10", base_channels=8, stem_channels=8, deep_stem=True)
    report = mt.transfer(source.state_dict(), target)
    assert report.coverage > 0.99
    assert any("the first convolution, encoder_0.0.conv.weight, did not come" in note for note in report.notes)
    whole = mt.create_model("resunet10", base_channels=8, stem_channels=8)
    assert not [note for note in mt.transfer(source, whole).notes if "first convolution" in note]
