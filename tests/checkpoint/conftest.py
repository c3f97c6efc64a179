"""Small valid files of each kind, and the one way to say that a file is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from medtransfer import errors
from medtransfer.checkpoint.card import Architecture, ModelCard
from medtransfer.checkpoint.folder import write_model_folder
from medtransfer.checkpoint.reader import read_weights

ATTACKS = Path(__file__).parents[1] / "attacks" / "payloads.py"


@pytest.fixture(scope="session")
def attacks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attack_payloads", ATTACKS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def state_dict() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = ("stem.weight", "layer1.0.conv1.weight", "layer1.0.bn1.bias", "fc.weight")
    return {name: torch.randn(4, 2, 3, 3, 3, generator=generator) for name in names}


@pytest.fixture
def torch_file(tmp_path: Path, state_dict: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "net.pth"
    torch.save(state_dict, path)
    return path


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        task="segmentation",
        architecture=Architecture("resunet18", {"in_channels": 1, "num_classes": 3, "norm_cfg": {"type": "BN3d"}}),
        input_channels=["T1"],
        classes=["background", "Anterior", "Posterior"],
        spacing=[1.0, 1.0, 1.5],
        patch_size=[48, 64, 48],
    )


@pytest.fixture
def model_folder(tmp_path: Path, state_dict: dict[str, torch.Tensor], card: ModelCard) -> Path:
    write_model_folder(tmp_path / "net", state_dict, card)
    return tmp_path / "net"


@pytest.fixture
def refused() -> Callable[..., errors.CheckpointError]:
    """Read a path, and return the one error that must come: of the right kind, on one line, with path and reason."""

    def read_refused(
        path: Path, *words: str, reader: Callable[[Path], object] = read_weights
    ) -> errors.CheckpointError:
        with pytest.raises(errors.CheckpointError) as caught:
            reader(path)
        error = caught.value
        assert error.path is not None
        assert str(error).startswith(f"{error.path}: {error.reason}")
        assert str(error).isprintable()
        assert error.exit_code == 4
        assert len(str(error)) < 1000
        for word in words:
            assert word in str(error)
        return error

    return read_refused
