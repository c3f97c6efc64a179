"""Foreign files into model folders: the same function, every tensor accounted for, or nothing written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.adapter.convert import convert
from medtransfer.errors import CheckpointError, OutputExistsError, TransferError, UsageError


@pytest.fixture(params=["resnet10", "resunet10"])
def network(request, tiny) -> nn.Module:
    return tiny(request.param, in_channels=2, num_classes=3).eval()


def test_a_file_becomes_a_folder_that_computes_the_same(network, tmp_path: Path) -> None:
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "net.pth")
    report = convert(tmp_path / "net.pth", tmp_path / "net")
    assert len(report.loaded) == len(network.state_dict())
    assert [entries for name, entries in report.groups() if name != "loaded" and entries] == []
    loaded = mt.load(tmp_path / "net")
    x = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


def test_the_card_says_where_the_weights_came_from(network, tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save(network.state_dict(), file)
    convert(file, tmp_path / "net")
    parent = mt.load(tmp_path / "net").card.parent
    assert parent["source"] == "net.pth"
    assert parent["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert parent["format"].startswith("torch")


def test_a_card_is_kept(network, tmp_path: Path) -> None:
    card = mt.save(network, tmp_path / "a", {"classes": ["x", "y", "z"], "spacing": [1.0, 1.0, 3.0]})
    convert(tmp_path / "a", tmp_path / "b")
    kept = mt.load(tmp_path / "b").card
    assert (kept.classes, kept.spacing, kept.input_channels) == (card.classes, card.spacing, card.input_channels)
    assert kept.parent["sha256"] == card.sha256


def test_a_network_in_memory_is_converted_too(network, tmp_path: Path) -> None:
    assert not convert(network, tmp_path / "net").missing
    assert "sha256" not in mt.load(tmp_path / "net").card.parent


@pytest.mark.parametrize("lost", ["layer3.0.conv2.weight", "layer1.0.bn1.running_var", "head_fc.weight"])
def test_a_tensor_that_is_missing_is_an_error_and_nothing_is_written(tiny, tmp_path: Path, lost: str) -> None:
    state = tiny().state_dict()
    del state[lost]
    with pytest.raises((TransferError, UsageError)) as caught:
        convert(state, tmp_path / "net")
    assert caught.value.hint
    assert not (tmp_path / "net").exists()


def test_tensors_without_a_place_are_listed(network, tmp_path: Path) -> None:
    report = convert({**network.state_dict(), "projection.weight": torch.ones(3)}, tmp_path / "net")
    assert [entry.key for entry in report.unexpected] == ["projection.weight"]


def test_counters_of_batches_may_lack(tiny, tmp_path: Path) -> None:
    state = {key: t for key, t in tiny().state_dict().items() if not key.endswith("num_batches_tracked")}
    report = convert(state, tmp_path / "net")
    assert {entry.key.rpartition(".")[2] for entry in report.missing} == {"num_batches_tracked"}


def test_an_encoder_alone_needs_classes_for_a_new_head(tiny, tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in tiny().state_dict().items() if not key.startswith("head_fc")}
    with pytest.raises(UsageError, match="without a head") as caught:
        convert(state, tmp_path / "net")
    assert "num_classes" in caught.value.hint
    report = convert(state, tmp_path / "net", num_classes=7)
    assert {entry.key for entry in report.missing} == {"head_fc.weight", "head_fc.bias"}
    assert mt.load(tmp_path / "net").num_classes == 7


def test_classes_for_weights_that_have_a_head_are_refused(network, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a head of 3 classes"):
        convert(network, tmp_path / "net", num_classes=7)


def test_weights_of_no_known_network(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="no network of the zoo is known"):
        convert({"a.weight": torch.ones(2, 2)}, tmp_path / "net")


def test_an_older_folder_is_left_unless_overwritten(network, tmp_path: Path) -> None:
    convert(network, tmp_path / "net")
    with pytest.raises(OutputExistsError):
        convert(network, tmp_path / "net")
    convert(network, tmp_path / "net", overwrite=True)


def test_refused_files_and_formats(network, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"\0" * 99)
    with pytest.raises(CheckpointError):
        convert(tmp_path / "bad.pth", tmp_path / "net")
    with pytest.raises(UsageError, match="there is no source format"):
        convert(network, tmp_path / "net", dialect="keras")
    assert not (tmp_path / "net").exists()
