"""``medtransfer diff`` and ``medtransfer convert``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import medtransfer as mt
from medtransfer.cli.main import run

TINY = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Two files of one network, of which the second has another head."""
    torch.manual_seed(0)
    network = mt.create_model("resnet10", 1, 2, **TINY)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    with torch.no_grad():
        network.head_fc.bias += 1
    torch.save(network.state_dict(), tmp_path / "b.pth")
    return str(tmp_path / "a.pth"), str(tmp_path / "b.pth")


def test_diff_shows_what_changed_and_exits_with_0(pair, capfd) -> None:
    assert run(["diff", *pair]) == 0
    out, err = capfd.readouterr()
    assert "head_fc.bias" in out
    assert "1 changed" in out
    assert err == ""


def test_diff_json_is_one_document(pair, capfd) -> None:
    assert run(["diff", *pair, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["identical"] is False
    assert [entry["key"] for entry in document["changed"]] == ["head_fc.bias"]
    assert run(["diff", pair[0], pair[0], "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["identical"] is True


def test_diff_of_a_bad_file_is_one_line_and_4(pair, tmp_path: Path, capfd) -> None:
    (tmp_path / "c.pth").write_bytes(b"")
    assert run(["diff", pair[0], str(tmp_path / "c.pth")]) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"medtransfer: error: {tmp_path / 'c.pth'}: the file is empty. Download or copy it again.\n"


def test_diff_help_says_what_the_exit_code_means(capfd) -> None:
    assert run(["diff", "--help"]) == 0
    assert "exit code is 0 whether they differ" in " ".join(capfd.readouterr().out.split())


def test_convert_writes_a_folder_that_loads(pair, tmp_path: Path, capfd) -> None:
    folder = tmp_path / "net"
    assert run(["convert", pair[0], "-o", str(folder), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["output"] == str(folder)
    assert document["missing"] == document["unexpected"] == []
    assert run(["diff", pair[0], str(folder), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["identical"] is True


def test_convert_refuses_an_existing_output_and_leaves_it(pair, tmp_path: Path, capfd) -> None:
    folder = tmp_path / "net"
    assert run(["convert", pair[0], "-o", str(folder)]) == 0
    before = (folder / "model.json").read_bytes()
    assert run(["convert", pair[1], "-o", str(folder)]) == 2
    assert (folder / "model.json").read_bytes() == before
    assert run(["convert", pair[1], "-o", str(folder), "--overwrite"]) == 0
    assert (folder / "model.json").read_bytes() != before
    assert run(["convert", str(folder), "-o", str(folder), "--overwrite"]) == 2
    capfd.readouterr()


def test_convert_of_unknown_weights_writes_nothing(tmp_path: Path, capfd) -> None:
    torch.save({"a.weight": torch.ones(3, 3)}, tmp_path / "a.pth")
    assert run(["convert", str(tmp_path / "a.pth"), "-o", str(tmp_path / "net")]) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "no network of the zoo is known for these weights" in err
    assert not (tmp_path / "net").exists()


def test_convert_of_an_encoder_alone_asks_for_classes(pair, tmp_path: Path, capfd) -> None:
    state = {key: tensor for key, tensor in torch.load(pair[0]).items() if not key.startswith("head_fc")}
    torch.save(state, tmp_path / "encoder.pth")
    command = ["convert", str(tmp_path / "encoder.pth"), "-o", str(tmp_path / "net")]
    assert run(command) == 2
    assert "--num-classes" in capfd.readouterr().err
    assert run([*command, "--num-classes", "5", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [entry["key"] for entry in document["missing"]] == ["head_fc.weight", "head_fc.bias"]
    assert len(mt.load(tmp_path / "net").card.classes) == 5
