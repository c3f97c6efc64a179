"""The model folder: complete or absent, checked by its sha256, and never a way out of itself."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from medtransfer.checkpoint.card import ModelCard, read_card
from medtransfer.checkpoint.folder import read_model_folder, write_model_folder
from medtransfer.checkpoint.reader import read_weights
from medtransfer.errors import CheckpointError, OutputExistsError, ResourceError


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_folder_comes_back_bit_for_bit(tmp_path: Path, state_dict: dict[str, Tensor], card: ModelCard) -> None:
    written = write_model_folder(tmp_path / "a" / "net", state_dict, card)
    tensors, read = read_model_folder(tmp_path / "a" / "net")
    assert read == written == read_card(tmp_path / "a" / "net")
    assert written.sha256 == hashlib.sha256((tmp_path / "a" / "net" / "model.safetensors").read_bytes()).hexdigest()
    assert set(written.versions) >= {"medtransfer", "torch"}
    assert card.sha256 == ""
    assert set(tensors) == set(state_dict)
    assert all(torch.equal(tensors[key], value) for key, value in state_dict.items())


def test_folder_holds_no_code(model_folder: Path) -> None:
    assert sorted(path.name for path in model_folder.iterdir()) == ["README.md", "model.json", "model.safetensors"]


def test_same_weights_give_the_same_bytes(tmp_path: Path, state_dict: dict[str, Tensor], card: ModelCard) -> None:
    write_model_folder(tmp_path / "net", state_dict, card)
    first = _bytes(tmp_path / "net")
    write_model_folder(tmp_path / "net", state_dict, card, overwrite=True)
    assert _bytes(tmp_path / "net") == first


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6, 0.999])
def test_c36_bit_flip_is_found_by_the_sha256(model_folder: Path, refused, fraction: float) -> None:
    path = model_folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[int(len(data) * fraction)] ^= 1
    path.write_bytes(data)
    refused(model_folder, "sha256", "damaged or exchanged")


def test_c36_card_without_a_checksum_is_refused(model_folder: Path, refused) -> None:
    card = model_folder / "model.json"
    card.write_text(card.read_text().replace(read_card(model_folder).sha256, ""))
    refused(model_folder, "is none")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_c39_link_out_of_the_folder_is_refused(tmp_path: Path, model_folder: Path, refused, name: str) -> None:
    outside = tmp_path / "outside"
    (model_folder / name).rename(outside)
    (model_folder / name).symlink_to(outside)
    refused(model_folder, "link that leads out of the model folder")


def test_c39_loop_of_links_is_refused(model_folder: Path, refused) -> None:
    (model_folder / "model.safetensors").unlink()
    (model_folder / "model.safetensors").symlink_to("model.safetensors")
    refused(model_folder)


def test_c39_links_within_and_to_the_folder_are_fine(tmp_path: Path, model_folder: Path) -> None:
    (model_folder / "model.safetensors").rename(model_folder / "weights")
    (model_folder / "model.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(model_folder)
    assert read_weights(tmp_path / "link").format == "model_folder"


def test_c02_missing_weights_are_named(model_folder: Path, refused) -> None:
    (model_folder / "model.safetensors").unlink()
    refused(model_folder, "model.safetensors is missing")


def test_existing_folder_is_refused_without_overwrite(
    model_folder: Path, state_dict: dict[str, Tensor], card: ModelCard
) -> None:
    before = _bytes(model_folder)
    with pytest.raises(OutputExistsError):
        write_model_folder(model_folder, state_dict, card)
    assert _bytes(model_folder) == before


def test_overwrite_never_replaces_a_folder_that_is_no_model(
    tmp_path: Path, state_dict: dict[str, Tensor], card: ModelCard
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years")
    with pytest.raises(OutputExistsError, match="is not a model folder"):
        write_model_folder(home, state_dict, card, overwrite=True)
    assert (home / "thesis.tex").read_text() == "years"


def test_mapped_tensors_may_overwrite_their_own_folder(model_folder: Path, card: ModelCard) -> None:
    tensors, _ = read_model_folder(model_folder)
    before = {key: value.clone() for key, value in tensors.items()}
    write_model_folder(model_folder, tensors, card, overwrite=True)
    assert all(torch.equal(read_model_folder(model_folder)[0][key], value) for key, value in before.items())


@contextmanager
def small_disk() -> Iterator[None]:
    """A limit on the size of a file stands for a full disk; Python ignores the signal, so writes fail.

    Held around one call only: it is the whole process's, and pytest's own output may go to a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("existing", [False, True])
def test_e01_full_disk_leaves_the_older_folder_and_no_part(
    tmp_path: Path,
    state_dict: dict[str, Tensor],
    card: ModelCard,
    existing: bool,
) -> None:
    folder = tmp_path / "net"
    if existing:
        write_model_folder(folder, {"w": torch.ones(2)}, card)
    before = _bytes(folder) if existing else {}
    with pytest.raises(ResourceError) as caught, small_disk():
        write_model_folder(folder, {"w": torch.ones(5000)}, card, overwrite=True)
    assert caught.value.exit_code == 6
    assert caught.value.path == folder
    assert [path.name for path in tmp_path.iterdir()] == (["net"] if existing else [])
    assert not existing or _bytes(folder) == before


def test_shared_and_strided_tensors_are_written_whole(tmp_path: Path, card: ModelCard) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "again": base, "turned": base.t(), "part": base[1:], "column": base[:, 1]}
    write_model_folder(tmp_path / "net", tensors, card)
    found = load_file(tmp_path / "net" / "model.safetensors")
    assert all(torch.equal(found[key], value) for key, value in tensors.items())


def test_tied_parameters_load_strictly_again(tmp_path: Path, card: ModelCard) -> None:
    net = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)})
    net["b"] = net["a"]
    write_model_folder(tmp_path / "net", net.state_dict(), card)
    net.load_state_dict(read_model_folder(tmp_path / "net")[0], strict=True)


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({}, "1 to"),
        ({"w": torch.tensor([float("nan")])}, "NaN or infinite values in w"),
        ({"w": torch.zeros(2, device="meta")}, "meta"),
        ({"w": torch.zeros(1).expand(10**12)}, "expanded"),
    ],
    ids=["none", "nan", "meta", "expanded"],
)
def test_unfit_weights_are_not_written(tmp_path: Path, card: ModelCard, tensors: dict[str, Tensor], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        write_model_folder(tmp_path / "net", tensors, card)
    assert not list(tmp_path.iterdir())


def test_unfit_card_is_not_written(tmp_path: Path, state_dict: dict[str, Tensor], card: ModelCard) -> None:
    card.classes = ["a"]
    with pytest.raises(CheckpointError, match="num_classes"):
        write_model_folder(tmp_path / "net", state_dict, card)
    assert not list(tmp_path.iterdir())


def test_modes_of_the_files_follow_the_umask(tmp_path: Path, state_dict: dict[str, Tensor], card: ModelCard) -> None:
    previous = os.umask(0o027)
    try:
        write_model_folder(tmp_path / "net", state_dict, card)
    finally:
        os.umask(previous)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "net").iterdir()} == {0o640}


def test_readme_says_what_a_user_needs(tmp_path: Path, state_dict: dict[str, Tensor], card: ModelCard) -> None:
    card.metrics = {"val/dice": 0.876543}
    card.parent = {"format": "torch", "coverage": 0.98, "sha256": "0" * 64}
    card.description = "Hippocampus <script>alert(1)</script>"
    card.classes[2] = "a|b"
    write_model_folder(tmp_path / "hippo", state_dict, card)
    text = (tmp_path / "hippo" / "README.md").read_text()
    for words in (
        *("# hippo", "Not a medical device", "1. T1", "| 1 | Anterior |", "1 x 1 x 1.5 mm", "48 x 64 x 48 voxels"),
        *("z-score", "| val/dice | 0.8765 |", "- coverage: 0.98", "medtransfer predict", "resunet18", "a\\|b"),
        *("&lt;script>", card.architecture.name),
    ):
        assert words in text, words
