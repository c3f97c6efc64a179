"""The tree from shadows is what torch's own loader gives: compared over trees of every kind."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.serialization import LoadEndianness

from medtransfer.checkpoint.torch_file import load_torch_file
from tests.checkpoint.shadow_oracle import assert_as_torch, assert_same
from tests.checkpoint.usual_trees import BY_TORCH, DTYPES, SHADOWED, Odd, filled, network, tied


@pytest.mark.parametrize("name", SHADOWED)
def test_trees_of_every_usual_kind_need_no_loader(tmp_path: Path, name: str) -> None:
    torch.save(SHADOWED[name](), tmp_path / "a.pth")
    assert_as_torch(tmp_path / "a.pth")


@pytest.mark.parametrize("name", BY_TORCH)
def test_unusual_trees_are_left_to_torch(tmp_path: Path, name: str) -> None:
    torch.save(BY_TORCH[name](), tmp_path / "a.pth")
    assert_as_torch(tmp_path / "a.pth", by_shadows=False)


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(min_size=1, max_size=8)
)
_TENSORS = st.builds(filled, st.lists(st.integers(0, 3), max_size=4).map(tuple), st.sampled_from(DTYPES))
_TREES = st.recursive(
    _LEAVES | _TENSORS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(-(2**40), 2**40), inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=20,
)


@given(tree=_TREES.filter(lambda tree: tree is not None))
@settings(max_examples=150, deadline=None)
def test_any_plain_tree(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.mktemp("tree") / "a.pth"
    torch.save(tree, path)
    assert_as_torch(path)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_view(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    base = filled((data.draw(st.integers(0, 30)),), data.draw(st.sampled_from(DTYPES)))
    views = [base]
    for _ in range(data.draw(st.integers(1, 4))):
        size = data.draw(st.lists(st.integers(0, 3), max_size=3))
        stride = [data.draw(st.integers(0, 9)) for _ in size]
        reach = sum((count - 1) * step for count, step in zip(size, stride, strict=True)) if 0 not in size else -1
        if reach < len(base):
            views.append(base.as_strided(size, stride, data.draw(st.integers(0, max(len(base) - 1 - reach, 0)))))
    path = tmp_path_factory.mktemp("view") / "a.pth"
    torch.save(views, path)
    assert_as_torch(path)


def test_the_usual_archive_alone(tmp_path: Path, attacks: ModuleType) -> None:
    path = tmp_path / "a.pth"
    torch.save(network().state_dict(), path)
    whole = path.read_bytes()
    for name, content in (("version", b"2\n"), ("version", b"x"), ("byteorder", b""), ("byteorder", b"middle")):
        attacks.rewrite(path, whole, replace={f"a/{name}": content})
        assert_as_torch(path, by_shadows=False)
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=False)
    assert_as_torch(path, by_shadows=False)


def test_files_without_sums_and_of_other_byte_order_are_left_to_torch(tmp_path: Path, attacks: ModuleType) -> None:
    path = tmp_path / "a.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(network().state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_as_torch(path, by_shadows=False)
    torch.save(network().state_dict(), path)
    attacks.rewrite(path, path.read_bytes(), replace={"a/byteorder": b"big"})
    assert_as_torch(path, by_shadows=False)
    torch.save(network().state_dict(), path)
    assert_as_torch(path)
    torch.serialization.set_default_load_endianness(LoadEndianness.BIG)
    try:
        assert_as_torch(path, by_shadows=False)
    finally:
        torch.serialization.set_default_load_endianness(None)


def test_devices_and_modes_of_the_caller_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(network().state_dict(), path)
    expected = load_torch_file(path)
    with torch.device("meta"):
        assert_same(load_torch_file(path), expected)


def test_tensors_stay_when_the_file_is_gone_and_never_write_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(tied(), path)
    before = path.read_bytes()
    tree = load_torch_file(path)
    tree["rows"].zero_()
    assert path.read_bytes() == before
    assert (tree["all"] == 0).all()
    path.unlink()
    assert (tree["across"] == 0).all()
    path.write_bytes(before)
    assert torch.equal(load_torch_file(path)["all"], torch.arange(24.0))


def test_subclasses_of_dicts_are_no_usual_trees(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "odd": Odd(a=1)}, tmp_path / "a.pth")
    assert_as_torch(tmp_path / "a.pth", by_shadows=None)
