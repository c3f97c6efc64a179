"""Safetensors files and model folders that ask for too much, or name what lies outside them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from medtransfer.checkpoint.card import Architecture, ModelCard
from medtransfer.checkpoint.folder import write_model_folder
from tests.attacks.payloads import flag_calls, in_state_dict

EIGHT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def safetensors(path: Path, header: Any, data: bytes = bytes(8), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def tensor(**fields: Any) -> dict[str, Any]:
    return {"w": {**EIGHT, **fields}}


HEADERS: dict[str, tuple[Any, ...]] = {
    "c34 two tensors over the same bytes": ({"a": EIGHT, "b": EIGHT},),
    "c34 two tensors that overlap": ({"a": EIGHT, "b": {**EIGHT, "data_offsets": [4, 12]}}, bytes(12)),
    "c34 a hole": ({"a": EIGHT, "b": {**EIGHT, "data_offsets": [12, 20]}}, bytes(20)),
    "c34 a negative size": (tensor(shape=[-2]),),
    "c34 a size beyond 64 bits": (tensor(shape=[2**70]),),
    "c34 sizes whose product overflows": (tensor(shape=[2**33, 2**33]),),
    "c34 a size of 5000 digits": (b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}',),
    "c34 sizes in words": (tensor(shape=["2"]),),
    "c34 sizes with a fraction": (tensor(shape=[2.0]),),
    "c34 a size of nothing": (tensor(shape=[None]),),
    "c34 a million dimensions": (tensor(shape=[1] * 1_000_000),),
    "c34 a thousand dimensions": (tensor(shape=[2] + [1] * 1000),),
    "c34 offsets turned": (tensor(data_offsets=[8, 0]),),
    "c34 offsets beyond the file": (tensor(data_offsets=[0, 2**40]),),
    "c34 a type of code": (tensor(dtype="__import__('os')"),),
    "c34 a header of 2^63 bytes": (tensor(), bytes(8), 2**63),
    "c34 a header longer than the file": (tensor(), bytes(8), 1 << 20),
    "c34 nested a hundred thousand times": (b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}",),
    "c34 a header of 17 MB": (b'{"__metadata__":{"a":"' + b"x" * (17 << 20) + b'"}}',),
    "c34 a tail": (tensor(), bytes(9)),
    "c34 control characters in a name": ({"\x1b[2Jw\n": EIGHT},),
    "c34 a name of 10 000 letters": ({"w" * 10_000: EIGHT},),
    "c34 metadata that nest": ({**tensor(), "__metadata__": {"a": {"b": "c"}}},),
    "c34 NaN in the header": (b'{"w": NaN}',),
    "c35 a name given twice": (b'{"w":' + json.dumps(EIGHT).encode() + b',"w":' + json.dumps(EIGHT).encode() + b"}",),
    "c35 a name given twice, once escaped": (
        b'{"w":' + json.dumps(EIGHT).encode() + b',"\\u0077":' + json.dumps(EIGHT).encode() + b"}",),
    "c21 60 000 tensors": ({f"w{i}": {**EIGHT, "data_offsets": [8 * i, 8 * i + 8]} for i in range(60_000)},
                           bytes(480_000)),
    "c22 NaN": (tensor(), b"\xff" * 8),
}  # fmt: skip


def model_folder(folder: Path) -> Path:
    card = ModelCard(
        task="classification",
        architecture=Architecture("resnet10", {"in_channels": 1, "num_classes": 2}),
        input_channels=["CT"],
        classes=["healthy", "ill"],
    )
    write_model_folder(folder, {"w": torch.ones(2)}, card)
    return folder


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    card = json.loads((model_folder(folder) / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def set_at(*trail: str, value: Any) -> Callable[[Path], Path]:
    """A folder whose card has this value there."""

    def change(card: dict[str, Any]) -> None:
        for key in trail[:-1]:
            card = card[key]
        card[trail[-1]] = value

    return lambda folder: changed(folder, change)


def replaced(name: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A folder in which something else stands in the place of a file."""

    def build(folder: Path) -> Path:
        (model_folder(folder) / name).unlink()
        write(folder / name)
        return folder

    return build


def nested(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(levels):
        tree = {"a": tree}
    return tree


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def outside(path: Path) -> None:
    target = path.parent.parent / "outside.safetensors"
    path.symlink_to(safetensors(target, tensor()))


def pickled(path: Path) -> None:
    in_state_dict(path, flag_calls(path.parent.parent / "flag")["posix.system"])


def index_of_shards(folder: Path) -> Path:
    """The index of a sharded model, whose parts lie elsewhere, beside a module to import."""
    (model_folder(folder) / "model.safetensors").unlink()
    index = {"weight_map": {"w": "../../outside.safetensors", "v": "/etc/passwd"}, "auto_map": {"AutoModel": "evil.M"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'flag')!r}, 'w')")
    return folder


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "c36 weights exchanged": replaced("model.safetensors", lambda path: safetensors(path, tensor())),
    "c37 an unknown field": set_at("code", value="import os"),
    "c37 10^9 channels": set_at("architecture", "arguments", "in_channels", value=10**9),
    "c37 a number of 4000 digits": set_at("architecture", "arguments", "base_channels", value=int("9" * 4000)),
    "c37 arguments nested": set_at("architecture", "arguments", "a", value=nested(500)),
    "c37 a parent nested": set_at("parent", value=nested(500)),
    "c37 a type from a module": set_at("architecture", "arguments", "conv_cfg", value={"type": "os.system"}),
    "c37 a network from a module": set_at("architecture", "name", value="os.system"),
    "c37 a wrong number of classes": set_at("classes", value=["a"]),
    "c37 a newer version": set_at("format_version", value=2),
    "c38 a path as architecture": set_at("architecture", "name", value="../../evil"),
    "c38 a path in the arguments": set_at("architecture", "arguments", "pool", value="/etc/passwd"),
    "c38 a file for the weights": set_at("weights", value="../outside.safetensors"),
    "c38 control characters in a class": set_at("classes", value=["a", "\x1b[2J"]),
    "c38 a class that is a path": set_at("classes", value=["a", "../../b"]),
    "c39 weights that lie outside": replaced("model.safetensors", outside),
    "c39 a card that lies outside": replaced("model.json", lambda path: path.symlink_to("/etc/hostname")),
    "c39 a loop of links": replaced("model.safetensors", loop),
    "c39 a pipe for the weights": replaced("model.safetensors", os.mkfifo),
    "c39 a pipe for the card": replaced("model.json", os.mkfifo),
    "c39 a folder for the weights": replaced("model.safetensors", Path.mkdir),
    "c39 a device for the weights": replaced("model.safetensors", lambda path: path.symlink_to("/dev/zero")),
    "c12 a pickle for the weights": replaced("model.safetensors", pickled),
    "c12 an index of shards and code": index_of_shards,
    "c02 no card": replaced("model.json", lambda path: None),
    "c37 a card of 5 MB": replaced("model.json", lambda path: path.write_bytes(b"{" + b" " * (5 << 20) + b"}")),
    "c37 a card of brackets": replaced("model.json", lambda path: path.write_text("[" * 1_000_000)),
    "c37 a field given twice": replaced("model.json", lambda path: path.write_text('{"task": 1, "task": 2}')),
}  # fmt: skip
