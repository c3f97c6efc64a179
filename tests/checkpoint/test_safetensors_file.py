"""Safetensors files: what is damaged is refused with a reason, a key given twice too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medtransfer.checkpoint.safetensors_file import load_safetensors

EIGHT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _write(path: Path, header: object, data: bytes = b"", tail: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data + tail)
    return path


def test_a_file_written_by_hand_loads(tmp_path: Path) -> None:
    header = {"w": EIGHT, "__metadata__": {"a": "b"}}
    tensors, metadata = load_safetensors(_write(tmp_path / "a.safetensors", header, bytes(8)))
    assert torch.equal(tensors["w"], torch.zeros(2))
    assert metadata == {"a": "b"}


BROKEN = {
    "overlap": ({"a": EIGHT, "b": {**EIGHT, "data_offsets": [4, 12]}}, bytes(12)),
    "same bytes twice": ({"a": EIGHT, "b": EIGHT}, bytes(8)),
    "hole": ({"a": EIGHT, "b": {**EIGHT, "data_offsets": [12, 20]}}, bytes(20)),
    "negative shape": ({"a": {**EIGHT, "shape": [-2]}}, bytes(8)),
    "huge shape": ({"a": {**EIGHT, "shape": [2**62, 2**62]}}, bytes(8)),
    "negative offset": ({"a": {**EIGHT, "data_offsets": [-8, 0]}}, bytes(8)),
    "offsets turned": ({"a": {**EIGHT, "data_offsets": [8, 0]}}, bytes(8)),
    "wrong size": ({"a": {**EIGHT, "shape": [3]}}, bytes(8)),
    "unknown dtype": ({"a": {**EIGHT, "dtype": "F33"}}, bytes(8)),
    "missing field": ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "not an object": ([1, 2], b""),
    "number": (b"{5}", b""),
    "metadata is a list": ({"a": EIGHT, "__metadata__": [1]}, bytes(8)),
    "metadata of numbers": ({"a": EIGHT, "__metadata__": {"a": 1}}, bytes(8)),
    "NaN": (b'{"a": NaN}', b""),
    "bad header": (b'{"a": ', b""),
    "not UTF-8": (b'{"\xff": 1}', b""),
    "nested": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_c34_structural_damage_is_refused_with_a_reason(tmp_path: Path, refused, name: str) -> None:
    header, data = BROKEN[name]
    error = refused(_write(tmp_path / "a.safetensors", header, data), "truncated or damaged safetensors file")
    assert error.reason[-3:] != "()"


def test_c34_extra_tail_and_cuts_are_refused(tmp_path: Path, refused) -> None:
    path = tmp_path / "a.safetensors"
    refused(_write(path, {"w": EIGHT}, bytes(8), tail=b"x"), "damaged")
    whole = _write(path, {"w": EIGHT}, bytes(8)).read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        refused(path)


def test_c34_header_longer_than_the_file(tmp_path: Path, refused) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**31).to_bytes(8, "little") + b"{}")
    refused(path, "the header should be 2147483648 bytes long")
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    refused(path, "the header should be")


@pytest.mark.parametrize("place", ["tensor", "field", "metadata"])
def test_c35_key_given_twice_is_refused(tmp_path: Path, refused, place: str) -> None:
    one = json.dumps(EIGHT)
    headers = {
        "tensor": f'{{"w": {one}, "w": {one}}}',
        "field": f'{{"w": {one[:-1]}, "shape": [2]}}}}',
        "metadata": f'{{"w": {one}, "__metadata__": {{"a": "b", "a": "c"}}}}',
    }
    repeated = {"tensor": "w", "field": "shape", "metadata": "a"}[place]
    path = _write(tmp_path / "a.safetensors", headers[place].encode(), bytes(8))
    refused(path, f"the key '{repeated}' stands there twice")


def test_c23_no_tensors(tmp_path: Path, refused) -> None:
    refused(_write(tmp_path / "a.safetensors", {"__metadata__": {"format": "pt"}}), "no weights found")


def test_c21_too_many_tensors(tmp_path: Path, refused) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    refused(_write(tmp_path / "a.safetensors", {str(i): empty for i in range(60_000)}), "holds 60000 tensors")
