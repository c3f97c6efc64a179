"""Old packages, no network, few processors: what the machine around a run may be like."""

from __future__ import annotations

import ast
import json
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from mmengine.config import Config

import medtransfer as mt
from medtransfer import requirements
from medtransfer.cli import main
from medtransfer.files import write_json
from medtransfer.training import workers
from tests.test_guards import FILES

CONFIGS = Path(__file__).parents[1] / "configs"
NETWORKING = {"urllib", "http", "requests", "socket", "ftplib", "smtplib", "urllib3", "httpx", "aiohttp"}


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """The answer about packages is kept in a process; here it is not that of another test, nor for another."""
    requirements.refuse_old_packages.cache_clear()
    yield
    requirements.refuse_old_packages.cache_clear()


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize(
    ("package", "version", "floor"),
    [("torch", "2.9.1", "2.10"), ("monai", "1.5.0", "1.6.1"), ("numpy", "1.25", "1.26")],
)
def test_e16_packages_below_the_floor_are_refused_with_both_versions(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, package: str, version: str, floor: str
) -> None:
    honest = metadata.version
    monkeypatch.setattr(requirements.metadata, "version", lambda name: version if name == package else honest(name))
    wanted = rf"needs newer packages than are installed: {package} {version} \(at least {floor}\)\. Update them: pip"
    with pytest.raises(requirements.OldPackageError, match=wanted):
        mt.__getattr__("list_models")
    assert main.run(["inspect", "nothing.pth"]) == 2
    assert f"{package} {version} (at least {floor})" in capsys.readouterr().err
    assert main.run(["info"]) == 0


@pytest.mark.usefixtures("asked_anew")
def test_e16_every_floor_of_the_package_is_looked_at() -> None:
    names = {name for name, _ in requirements._floors(requirements._required())}
    assert {"torch", "monai", "mmengine", "mmcv-lite", "nibabel", "safetensors", "numpy"} <= names
    requirements.refuse_old_packages()


def test_e17_no_module_can_reach_a_network() -> None:
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {
                (path.name, name) for name in names if name.partition(".")[0] in NETWORKING and name != "urllib.parse"
            }
    # the processes of one run agree on a port of this very machine, and say which machine they are on
    assert {name for name, _ in found} <= {"distributed.py", "launchers.py", "lock.py"}


def test_e17_a_transfer_and_a_prediction_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    small = {"base_channels": 4, "stem_channels": 4}
    torch.manual_seed(0)
    source = mt.create_model("resnet10", num_classes=2, **small)
    target = mt.create_model("resunet10", num_classes=2, **small)
    mt.transfer(source, target)
    mt.save(target, tmp_path / "model")
    nib.Nifti1Image(np.eye(8, dtype=np.float32)[None].repeat(8, 0), np.eye(4)).to_filename(tmp_path / "scan.nii.gz")
    arguments = ["predict", "-m", tmp_path / "model", "-i", tmp_path / "scan.nii.gz", "-o", tmp_path / "out"]
    assert main.run([str(argument) for argument in arguments]) == 0
    assert (tmp_path / "out" / "scan.nii.gz").is_file()


def test_e18_more_worker_processes_than_processors_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    workers.warn_of_many(2)
    with pytest.warns(UserWarning, match="num_workers is 8, but there are 2 processors"):
        workers.warn_of_many(8)


def test_e20_no_shipped_config_forks_worker_processes() -> None:
    # a process that is forked from one with threads, as a notebook's is, may hang
    paths = sorted(CONFIGS.glob("*.py"))
    assert len(paths) > 5
    for path in paths:
        loaders = [Config.fromfile(path).get(f"{part}_dataloader") or {} for part in ("train", "val")]
        assert [loader.get("num_workers", 0) for loader in loaders] == [0, 0], path.name


def test_i35_a_name_that_is_no_text_is_written_escaped(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"case": "scan\udce9", "inputs": ["a/scan\udce9.nii"], "dice": float("nan")})
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found == {"case": "scan\\udce9", "inputs": ["a/scan\\udce9.nii"], "dice": None}


def test_an_empty_argument_is_no_path(capsys: Any) -> None:
    assert main.run(["check", ""]) == 2
    assert "must not be empty" in capsys.readouterr().err
