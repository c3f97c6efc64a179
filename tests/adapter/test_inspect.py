"""What a file holds, told from its tensors, and from the card where there is one."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import medtransfer as mt
from medtransfer.errors import CheckpointError

ARGUMENTS = {
    "plain": {"in_channels": 2, "num_classes": 5},
    "tutorial": {"in_channels": 3, "num_classes": 4, "deep_stem": True, "pool": "conv"},
    "flat": {"in_channels": 1, "num_classes": 3, "conv_cfg": {"type": "Conv2d"}},
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("name", mt.list_models("res*[0-9]"))
def test_the_fields_of_every_network_of_the_zoo_are_right(name, arguments, tiny, tmp_path):
    network = tiny(name, **arguments)
    state = network.state_dict()
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    found = mt.inspect(tmp_path / "net.pth")
    assert found.architecture == name
    assert (found.in_channels, found.num_classes) == (arguments["in_channels"], arguments["num_classes"])
    assert found.ndim == network.ndim
    rebuilt = mt.create_model(name, found.in_channels, found.num_classes, **found.arguments).state_dict()
    assert {key: value.shape for key, value in rebuilt.items()} == {key: value.shape for key, value in state.items()}
    assert found.tensors == len(state) == sum(found.dtypes.values())
    assert found.parameters == sum(t.numel() for t in state.values())
    norms = sum(key.endswith("num_batches_tracked") for key in state)
    assert found.dtypes == {"float32": len(state) - norms, "int64": norms}
    assert found.keys[:6] == list(state)[:6]
    assert found.keys[-6:] == list(state)[-6:]
    assert found.card is None
    assert found.path == str(tmp_path / "net.pth")
    own = "resunet" if "resu" in name else "resnet"
    for words in ("torch", "'state_dict'", "ptimz keys" if "pool" in arguments else f"{own} keys"):
        assert words in found.format


def test_every_container_is_named(tiny, tmp_path):
    network = tiny()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    mt.save(network, tmp_path / "folder")
    formats = [mt.inspect(tmp_path / name).format for name in ("net.pth", "net.safetensors", "folder")]
    assert formats == ["torch, resnet keys", "safetensors, resnet keys", "model_folder, resnet keys"]


def test_a_model_folders_card_is_shown(tiny, tmp_path):
    mt.save(tiny("resunet10"), tmp_path / "model", {"classes": ["background", "tumour"], "spacing": [1, 1, 1]})
    found = mt.inspect(tmp_path / "model")
    assert found.card["classes"] == ["background", "tumour"]
    assert found.card["architecture"]["name"] == "resunet10"
    assert "tumour" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["card"]["spacing"] == [1, 1, 1]


def test_a_card_in_a_torch_file_is_not_taken_for_one(tiny, tmp_path):
    torch.save({"state_dict": tiny().state_dict(), "card": {"classes": ["x"]}}, tmp_path / "net.pth")
    assert mt.inspect(tmp_path / "net.pth").card is None


def test_half_precision_and_prefixes_are_told(tiny, tmp_path):
    state = {f"module.{k}": t.half() if t.is_floating_point() else t for k, t in tiny("resnet18").state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    found = mt.inspect(tmp_path / "net.pth")
    assert found.architecture == "resnet18"
    assert found.keys[0] == "module.conv1.weight"
    assert found.dtypes["float16"] > found.dtypes["int64"] > 0
    assert any("float16" in note for note in found.notes)


def test_weights_of_something_else_say_so(tmp_path):
    torch.save(nn.TransformerEncoderLayer(8, 2).state_dict(), tmp_path / "net.pth")
    found = mt.inspect(tmp_path / "net.pth")
    assert (found.architecture, found.in_channels, found.num_classes, found.ndim) == (None,) * 4
    assert "unknown keys" in found.format
    assert "architecture    unknown" in str(found)
    assert len(found.keys) == found.tensors == 12


def test_a_short_file_shows_all_keys_and_a_long_one_its_ends(tiny, tmp_path):
    torch.save(tiny().state_dict(), tmp_path / "net.pth")
    assert len(mt.inspect(tmp_path / "net.pth").keys) == 13
    assert mt.inspect(tmp_path / "net.pth").keys[6] == "..."


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "net.pth").write_text("hello")
    with pytest.raises(CheckpointError) as caught:
        mt.inspect(tmp_path / "net.pth")
    assert caught.value.path == tmp_path / "net.pth"
