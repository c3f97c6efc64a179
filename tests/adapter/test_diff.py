"""Two sources compared: what is equal is said to be equal bit for bit, and what is not by how much."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import medtransfer as mt
from medtransfer.adapter import tensor_change as room
from medtransfer.adapter.diff import diff, part_name
from medtransfer.adapter.tensor_change import tensor_change
from medtransfer.errors import CheckpointError


def test_the_same_weights_in_any_form_are_identical(tiny, as_source) -> None:
    network = tiny()
    found = diff(network, as_source(network))
    assert found.identical
    assert found.same == list(diff(network, network).same)
    assert len(found.same) == len(network.state_dict())
    assert f"all {len(found.same)} tensors are equal bit for bit" in str(found)
    assert not any(part.changed or part.only_in_a for part in found.parts.values())


def test_changes_are_told_by_tensor_and_by_part(tiny) -> None:
    one, other = tiny(), tiny()
    with torch.no_grad():
        other.layer2[0].conv1.weight[1, 2, 0, 0, 0] += 0.25
        other.head_fc.bias += 4
    found = diff(one, other)
    assert [(entry.key, entry.part, entry.values) for entry in found.changed] == [
        ("layer2.0.conv1.weight", "layer2", 1),
        ("head_fc.bias", "head", 2),
    ]
    first = found.changed[0]
    assert first.largest == pytest.approx(0.25)
    top = max(float(net.layer2[0].conv1.weight.detach().abs().max()) for net in (one, other))
    assert first.relative == pytest.approx(0.25 / top)
    assert found.parts["layer2"].changed == 1
    assert found.parts["layer2"].largest == first.largest
    assert found.parts["layer1"].changed == 0
    assert list(found.parts) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert not found.identical


def test_a_classifier_beside_a_segmenter_is_compared_by_the_zoos_names(tiny) -> None:
    classifier = tiny("resnet10", in_channels=2)
    segmenter = mt.to_segmenter(classifier, num_classes=3, share=False)
    found = diff(classifier, segmenter)
    assert not found.changed
    assert {entry.part for entry in found.only_in_a} == {"head"}
    assert {entry.part for entry in found.only_in_b} == {"decoder", "head"}
    assert "layer1.0.conv1.weight" in found.same
    assert (found.a.architecture, found.b.architecture) == ("resnet10", "resunet10")


def test_other_shapes_are_set_apart(tiny) -> None:
    found = diff(tiny(in_channels=1), tiny(in_channels=3))
    assert [(entry.key, entry.a_shape[1], entry.b_shape[1]) for entry in found.reshaped] == [("conv1.weight", 1, 3)]
    assert "4x1x7x7x7" in str(found)
    assert found.parts["stem"].reshaped == 1


def test_prefixes_and_wrappers_make_no_difference_and_are_told(tiny, tmp_path: Path) -> None:
    network = tiny()
    state = {f"module.encoder.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 2}, tmp_path / "a.pth")
    found = diff(tmp_path / "a.pth", network)
    assert found.identical
    assert any("weights found under 'state_dict'" in note for note in found.notes)


def test_other_dtypes_are_compared_by_value_and_said(tiny) -> None:
    state = tiny().state_dict()
    half = {key: t.bfloat16() if t.is_floating_point() else t for key, t in state.items()}
    found = diff(half, {key: tensor.clone().to(tensor.dtype) for key, tensor in state.items()})
    assert {entry.a_dtype for entry in found.changed} == {"bfloat16"}
    assert all("bfloat16 -> float32" in entry.how for entry in found.changed)
    assert all(entry.relative < 2**-8 for entry in found.changed)
    exact = diff(half, {key: tensor.double() for key, tensor in half.items()})
    assert all(entry.values == 0 and "equal in value" in entry.how for entry in exact.changed)
    assert not exact.identical


def test_cards_are_compared_field_by_field(tiny, tmp_path: Path) -> None:
    network = tiny()
    mt.save(network, tmp_path / "a", {"classes": ["no", "yes"], "spacing": [1.0, 1.0, 2.0]})
    mt.save(network, tmp_path / "b", {"classes": ["no", "maybe"]})
    found = diff(tmp_path / "a", tmp_path / "b")
    assert found.identical
    assert found.card == {"classes": [["no", "yes"], ["no", "maybe"]], "spacing": [[1.0, 1.0, 2.0], None]}
    assert "card spacing: [1.0, 1.0, 2.0] -> None" in str(found)


def test_the_report_is_plain_data_and_short(tiny) -> None:
    found = diff(tiny("resnet18", seed=1), tiny("resnet18", seed=2))
    document = json.loads(json.dumps(found.to_dict()))
    assert document["identical"] is False
    assert len(document["changed"]) == len(found.changed) > 8
    text = str(found)
    assert f"... and {len(found.changed) - 8} more" in text
    assert max(map(len, text.splitlines()[2:])) <= 140


def test_a_refused_file_is_named(tiny, tmp_path: Path) -> None:
    (tmp_path / "b.pth").write_text("no")
    with pytest.raises(CheckpointError) as caught:
        diff(tiny(), tmp_path / "b.pth")
    assert caught.value.path == tmp_path / "b.pth"


NAN, INF = math.nan, math.inf
CHANGES = {
    "equal": ([1.0, 2.0], [1.0, 2.0], (False, 0, 0.0, 0.0)),
    "equal NaN": ([NAN, 2.0], [NAN, 2.0], (False, 0, 0.0, 0.0)),
    "equal NaN, another value": ([NAN, 1.0], [NAN, 2.0], (True, 1, 1.0, 0.5)),
    "minus zero": ([0.0, 2.0], [-0.0, 2.0], (True, 0, 0.0, 0.0)),
    "one": ([1.0, 4.0], [2.0, 4.0], (True, 1, 1.0, 0.25)),
    "NaN against a number": ([NAN, 4.0], [1.0, 4.0], (True, 1, NAN, NAN)),
    "infinity": ([INF, 4.0], [1.0, 4.0], (True, 1, INF, INF)),
    "equal infinity, another value": ([INF, 4.0], [INF, 2.0], (True, 1, 2.0, 0.5)),
    "all zero": ([0.0], [0.0], (False, 0, 0.0, 0.0)),
    "empty": ([], [], (False, 0, 0.0, 0.0)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_changes_are_exact_in_pieces_of_any_size(monkeypatch, name: str, chunk: int) -> None:
    monkeypatch.setattr(room, "CHUNK", chunk)
    one, other, expected = CHANGES[name]
    assert tensor_change(torch.tensor(one), torch.tensor(other)) == pytest.approx(expected, nan_ok=True)


def test_whole_numbers_and_truth_values_are_compared() -> None:
    assert tensor_change(torch.tensor([3, 5]), torch.tensor([3, 9])) == (True, 1, 4.0, 4 / 9)
    one = torch.tensor([1.0])
    assert tensor_change(one, one.view(torch.int32)).largest == 1065353215.0  # the same bits, other numbers
    assert tensor_change(torch.tensor([True]), torch.tensor([False])).values == 1
    assert tensor_change(torch.tensor(7), torch.tensor(7)).bits is False
    assert tensor_change(torch.tensor([1 + 1j]), torch.tensor([1 - 1j])).largest == 2.0


@pytest.mark.parametrize(
    ("name", "part"),
    [("conv1.weight", "stem"), ("bn1.bias", "stem"), ("maxpool.conv.weight", "stem"), ("layer4.2.bn1.bias", "layer4"),
     ("stage0.0.conv.weight", "stage0"), ("decoder_0.up.weight", "decoder"), ("input_skip.conv.weight", "decoder"),
     ("final_layer.1.bias", "head"), ("mystery", "other")],
)  # fmt: skip
def test_parts_by_name(name: str, part: str) -> None:
    assert part_name(name) == part


def test_big_files_are_not_copied(tmp_path: Path) -> None:
    """Peak memory of this process rises by far less than the 64 MB that the two files hold."""
    tensors = {"w": torch.zeros(8 << 20)}
    save_file(tensors, tmp_path / "a.safetensors")
    tensors["w"][-1] = 1
    save_file(tensors, tmp_path / "b.safetensors")
    del tensors
    diff(tmp_path / "a.safetensors", tmp_path / "a.safetensors")
    before = _anonymous()
    assert diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors").changed[0].values == 1
    assert _anonymous() - before < 32 << 20


def _anonymous() -> int:
    """Bytes of memory that is nobody's file, at present; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)
