"""Weights of any kind by one call: found under their wrapper, checked, and said."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from medtransfer.checkpoint.reader import read_weights
from medtransfer.checkpoint.wrappers import WRAPPERS


def _saved(path: Path, tree: object) -> Path:
    torch.save(tree, path)
    return path


def _assert_same(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(tensors) == list(expected)
    for key, value in expected.items():
        assert tensors[key].dtype == value.dtype
        assert torch.equal(tensors[key], value)


def test_c02_folder_without_card(tmp_path: Path, refused) -> None:
    refused(tmp_path, "is a folder, not a model folder: model.json is missing")


def test_c22_nan_and_infinity_name_their_keys(tmp_path: Path, refused, state_dict: dict[str, Tensor]) -> None:
    state_dict["fc.weight"][0, 0, 0, 0, 0] = math.nan
    state_dict["stem.weight"][1] = -math.inf
    path = _saved(tmp_path / "a.pth", state_dict)
    refused(path, "NaN or infinite values in stem.weight, fc.weight")
    weights = read_weights(path, allow_nonfinite=True)
    assert any("fc.weight" in note for note in weights.notes)
    save_file(state_dict, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "NaN or infinite values in")


@pytest.mark.parametrize("place", [0, 32_766, 32_767, 65_535, 99_999])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2, torch.complex64])
def test_c22_one_nan_anywhere_is_found(tmp_path: Path, refused, place: int, dtype: torch.dtype) -> None:
    tensor = torch.ones(100_000)
    tensor[place] = math.nan
    refused(_saved(tmp_path / "a.pth", {"w": tensor.to(dtype).reshape(10, -1).t()}), "NaN or infinite values in w")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_c22_large_finite_values_are_no_infinity(tmp_path: Path, dtype: torch.dtype) -> None:
    largest = torch.full((4,), torch.finfo(dtype).max).to(dtype)
    assert torch.equal(read_weights(_saved(tmp_path / "a.pth", {"w": largest})).tensors["w"], largest)


@pytest.mark.parametrize(
    "tree, words",
    [
        ([1, 2], "holds a list"),
        ({}, "the file holds an empty dict"),
        ({"state_dict": 5, "epoch": 1}, "keys are state_dict, epoch"),
        ({"optimizer": {"state": {0: torch.ones(1)}}}, "keys are optimizer"),
        (torch.ones(3), "holds a Tensor"),
        ({index: index for index in range(10)}, "keys are 0, 1, 2, 3, 4, 5 ..."),
    ],
    ids=["list", "empty", "number", "optimizer only", "tensor", "many"],
)
def test_c23_no_weights_says_what_the_file_holds(tmp_path: Path, refused, tree: object, words: str) -> None:
    refused(_saved(tmp_path / "a.pth", tree), "no weights found", words)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_c24_wrappers_are_found_and_said(tmp_path: Path, state_dict: dict[str, Tensor], wrapper: str) -> None:
    tree = {"epoch": 3, "best": torch.tensor(0.5), wrapper: state_dict, "optimizer": {"state": {0: torch.ones(1)}}}
    weights = read_weights(_saved(tmp_path / "a.pth", tree))
    _assert_same(weights.tensors, state_dict)
    assert weights.wrapper == wrapper
    assert weights.metadata["epoch"] == 3
    assert any(repr(wrapper) in note for note in weights.notes)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "encoder.", "module.backbone."])
def test_c24_prefixes_are_kept(tmp_path: Path, state_dict: dict[str, Tensor], prefix: str) -> None:
    tree = {prefix + key: value for key, value in state_dict.items()}
    weights = read_weights(_saved(tmp_path / "a.pth", tree))
    assert weights.wrapper is None
    _assert_same(weights.tensors, tree)


def test_c24_the_trained_set_is_preferred_and_the_others_are_named(
    tmp_path: Path, state_dict: dict[str, Tensor]
) -> None:
    average = {key: value + 1 for key, value in state_dict.items()}
    path = _saved(tmp_path / "a.pth", {"state_dict_ema": average, "state_dict": state_dict})
    weights = read_weights(path)
    _assert_same(weights.tensors, state_dict)
    assert any("'state_dict_ema', not taken" in note for note in weights.notes)
    _assert_same(read_weights(path, wrapper="state_dict_ema").tensors, average)


def test_c24_wrappers_in_wrappers_and_unknown_names(tmp_path: Path, state_dict: dict[str, Tensor], refused) -> None:
    nested = _saved(tmp_path / "a.pth", {"model": {"state_dict": state_dict, "name": "x"}, "epoch": 1})
    assert read_weights(nested).wrapper == "model.state_dict"
    unknown = _saved(tmp_path / "b.pth", {"swin": state_dict, "small": {"a": torch.ones(1)}})
    assert read_weights(unknown).wrapper == "swin"
    assert read_weights(unknown, wrapper="small").wrapper == "small"
    refused(unknown, "no weights found under 'x'", reader=lambda path: read_weights(path, wrapper="x"))


def test_c24_entries_beside_the_tensors_are_said(tmp_path: Path) -> None:
    tree = {"state_dict": {"w": torch.ones(1), "_extra_state": None, "version": 2}}
    weights = read_weights(_saved(tmp_path / "a.pth", tree))
    assert list(weights.tensors) == ["w"]
    assert any("2 entries" in note for note in weights.notes)


def test_nnunet_layout_gives_weights_and_plans(tmp_path: Path, state_dict: dict[str, Tensor]) -> None:
    import numpy as np

    tree = {
        "network_weights": state_dict,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(1)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float32(0.5), np.float64(0.75)]},
        "_best_ema": np.float64(0.75),
        "current_epoch": 12,
        "init_args": {"plans": {"configurations": {"3d_fullres": {"patch_size": [8, 8, 8]}}}, "fold": 0},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    weights = read_weights(_saved(tmp_path / "checkpoint_final.pth", tree))
    _assert_same(weights.tensors, state_dict)
    assert weights.wrapper == "network_weights"
    assert weights.metadata["init_args"]["plans"]["configurations"]["3d_fullres"]["patch_size"] == [8, 8, 8]
    assert weights.metadata["logging"]["ema_fg_dice"] == [0.5, 0.75]
    assert weights.metadata["_best_ema"] == 0.75


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_c33_half_precision_is_kept_and_said(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"w": torch.ones(2, dtype=dtype), "b": torch.ones(2)}
    weights = read_weights(_saved(tmp_path / "a.pth", tensors))
    _assert_same(weights.tensors, tensors)
    assert f"1 of 2 tensors are stored in {str(dtype)[6:]}" in weights.notes[0]
    save_file(tensors, tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors").notes == weights.notes


def test_c24_a_known_wrapper_goes_before_a_larger_unknown_one(tmp_path: Path, state_dict: dict[str, Tensor]) -> None:
    tree = {"discriminator": {**state_dict, "more": torch.ones(1)}, "model": state_dict}
    assert read_weights(_saved(tmp_path / "a.pth", tree)).wrapper == "model"


@pytest.mark.parametrize("name", ["conv\nweight", "\x1b[2J", "", "x" * 2000])
def test_names_that_would_disturb_a_terminal_are_refused(tmp_path: Path, refused, name: str) -> None:
    refused(_saved(tmp_path / "a.pth", {"state_dict": {name: torch.ones(1)}}), "the name of a tensor")
    refused(_saved(tmp_path / "b.pth", {"a" + name: 1}), "no weights found")
    save_file({name: torch.ones(1)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "the name of a tensor")


def test_choosing_among_one_set_is_refused(model_folder: Path, refused) -> None:
    refused(model_folder, "holds one set", reader=lambda path: read_weights(path, wrapper="teacher"))


def test_c40_zipped_model_folder_is_refused_and_nothing_extracted(tmp_path: Path, model_folder: Path, refused) -> None:
    import shutil

    archive = Path(shutil.make_archive(str(tmp_path / "model"), "zip", model_folder))
    before = sorted(tmp_path.rglob("*"))
    refused(archive, "zip archive without data.pkl", "model folder")
    assert sorted(tmp_path.rglob("*")) == before


DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 3, 3, 3)], ids=str)
def test_all_formats_give_the_tensors_bit_for_bit(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    tensors = {"w": torch.randn(shape).mul(3).to(getattr(torch, dtype)), "other": torch.arange(3)}
    torch.save(tensors, tmp_path / "a")
    save_file(tensors, tmp_path / "b")
    _assert_same(read_weights(tmp_path / "a").tensors, tensors)
    found = read_weights(tmp_path / "b").tensors
    _assert_same({key: found[key] for key in tensors}, tensors)


def test_formats_are_told_by_content(tmp_path: Path, state_dict: dict[str, Tensor], model_folder: Path) -> None:
    save_file(state_dict, tmp_path / "a.pth", metadata={"made": "here"})
    torch.save(state_dict, tmp_path / "a.safetensors")
    weights = read_weights(tmp_path / "a.pth")
    assert (weights.format, weights.metadata) == ("safetensors", {"made": "here"})
    assert read_weights(str(tmp_path / "a.safetensors")).format == "torch"
    folder = read_weights(model_folder)
    assert folder.format == "model_folder"
    assert folder.metadata["input_channels"] == ["T1"]
    for key, value in state_dict.items():
        assert torch.equal(folder.tensors[key], value)
