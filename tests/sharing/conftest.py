"""A hub on loopback for each test, a cache and a token of its own, and no way to any other machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http, close_session

from medtransfer.checkpoint.card import Architecture, ModelCard
from medtransfer.checkpoint.folder import write_model_folder
from tests.sharing.stub_hub import StubHub

TOKEN = "hf_secretsecretsecret"


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    honest_connect, honest_look_up = socket.socket.connect, socket.getaddrinfo

    def connect(self: socket.socket, address: Any) -> None:
        assert isinstance(address, tuple), address
        assert address[0] == "127.0.0.1", address
        honest_connect(self, address)

    def look_up(host: Any, *more: Any, **options: Any) -> Any:
        # a question for a name leaves the machine too
        assert host in ("127.0.0.1", b"127.0.0.1"), host
        return honest_look_up(host, *more, **options)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True, scope="module")
def _connections() -> Iterator[None]:
    """The library's client, which takes a while to make, serves all tests of a module."""
    yield
    close_session()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    """The library's settings are constants that it reads from the environment when it is imported."""
    stub = StubHub()
    settings = {
        "ENDPOINT": stub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{stub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # how long it waits before it tries again
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=time.time, sleep=lambda seconds: None))
    yield stub
    stub.close()


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        task="segmentation",
        architecture=Architecture("resunet10", {"in_channels": 1, "num_classes": 2}),
        input_channels=["CT"],
        classes=["background", "liver"],
        license="CC-BY-4.0",
        metrics={"dice": 0.91},
    )


@pytest.fixture
def folder(tmp_path: Path, card: ModelCard) -> Path:
    """A model folder with random weights."""
    torch.manual_seed(0)
    write_model_folder(tmp_path / "net", {"stem.weight": torch.randn(4, 1, 3, 3, 3)}, card)
    return tmp_path / "net"


@pytest.fixture
def files(folder: Path) -> dict[str, bytes]:
    """The same, as a repository holds it."""
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {".gitattributes": b"*.safetensors filter=lfs\n", **held}
