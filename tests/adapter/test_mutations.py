"""A report that cannot lie: whatever is done to a checkpoint, the report tells of it, or it cannot be told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import medtransfer as mt
from medtransfer.errors import CheckpointError, TransferError


@pytest.fixture
def state(tiny) -> dict[str, Tensor]:
    return dict(tiny("resnet18", seed=1).state_dict())


@pytest.fixture
def target(tiny):
    return tiny("resunet18", seed=2)


def test_the_whole_checkpoint_leaves_nothing_to_say(state, target):
    report = mt.transfer(state, target)
    assert (report.coverage, report.unexpected, report.mismatched) == (1.0, [], [])


@pytest.mark.parametrize("key", ["conv1.weight", "layer1.0.bn1.running_var", "layer3.1.conv2.weight"])
def test_a_deleted_tensor_is_missing(state, target, key):
    gone = state.pop(key)
    report = mt.transfer(state, target)
    missing = [entry for entry in report.missing if entry.key.startswith("encoder")]
    assert [entry.target_shape for entry in missing] == [tuple(gone.shape)]
    parameters = not key.endswith("running_var")
    assert (report.coverage < 1) == parameters
    assert missing[0].key in str(report)


def test_a_renamed_prefix_is_unexpected_on_one_side_and_missing_on_the_other(state, target):
    moved = {key.replace("layer2.", "block2."): value for key, value in state.items()}
    report = mt.transfer(moved, target)
    theirs = {key for key in state if key.startswith("layer2.")}
    assert {entry.source_key for entry in report.unexpected} == {key.replace("layer2", "block2") for key in theirs}
    assert {entry.key for entry in report.missing if entry.key.startswith("encoder_2")} == {
        key.replace("layer2", "encoder_2") for key in theirs
    }


def test_cut_channels_are_refused_with_key_and_both_shapes(state, target):
    before = {key: value.clone() for key, value in target.state_dict().items()}
    state["layer2.0.conv2.weight"] = state["layer2.0.conv2.weight"][:, :-1]
    with pytest.raises(TransferError, match=r"encoder_2\.0\.conv2\.weight: source \[8, 7, 3, 3, 3\], target \[8, 8"):
        mt.transfer(state, target)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_two_layers_of_one_shape_cannot_be_told_apart_by_a_state_dict(state, target):
    """Names and shapes agree, so no reader can see it; the checksum in a model folder's card can."""
    one, other = "layer1.0.conv1.weight", "layer1.1.conv2.weight"
    state[one], state[other] = state[other], state[one]
    report = mt.transfer(state, target)
    assert (report.coverage, report.unexpected, report.mismatched) == (1.0, [], [])


def test_a_swap_in_a_model_folder_is_seen_by_its_checksum(tiny, target, tmp_path):
    from safetensors.torch import load_file, save_file

    mt.save(tiny("resnet18", seed=1), tmp_path / "net")
    path = tmp_path / "net" / "model.safetensors"
    tensors = load_file(path)
    one, other = "layer1.0.conv1.weight", "layer1.1.conv2.weight"
    save_file({**tensors, one: tensors[other], other: tensors[one]}, path)
    with pytest.raises(CheckpointError, match="sha256"):
        mt.transfer(tmp_path / "net", target)


def test_a_swap_between_two_files_is_told_by_diff(state):
    """With the original beside it, the two exchanged layers are named, and nothing else."""
    one, other = "layer1.0.conv1.weight", "layer1.1.conv2.weight"
    swapped = {**state, one: state[other], other: state[one]}
    assert {entry.key for entry in mt.diff(state, swapped).changed} == {one, other}
