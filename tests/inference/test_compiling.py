"""Compiling is for CUDA; what can be held on a CPU is whose memory results are, and who is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.errors import UsageError
from medtransfer.inference.compiling import compile_graphs
from medtransfer.inference.engine import Engine


def test_results_are_the_callers_own() -> None:
    kept = torch.zeros(2)

    def graph(network: nn.Module) -> object:
        def replay(image: Tensor) -> object:
            kept.copy_(network(image))
            return {"organs": kept, "ill": [kept]}

        return replay

    ready = compile_graphs(nn.ReLU(), graph)  # type: ignore[arg-type]
    first, second = ready(torch.ones(2)), ready(torch.full((2,), 3.0))
    assert first["organs"].tolist() == first["ill"][0].tolist() == [1, 1]
    assert second["organs"].tolist() == [3, 3]


def test_an_engine_runs_what_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(network: nn.Module) -> object:
        return lambda image: calls.append(image.shape) or network(image)

    monkeypatch.setattr("medtransfer.inference.compiling._graphs", counted)
    network = mt.create_model("resunet10", base_channels=4, stem_channels=4).eval()
    image, plain = torch.randn(1, 1, 32, 32, 32), Engine(network, torch.device("cpu"))
    compiled = Engine(network, torch.device("cpu"), compiled=True)
    assert torch.equal(compiled(image), plain(image))  # type: ignore[arg-type]
    assert calls == [image.shape]


def test_a_cpu_is_refused() -> None:
    network = mt.create_model("resunet10", base_channels=4, stem_channels=4)
    with pytest.raises(UsageError, match="compile is for CUDA, the device is cpu"):
        mt.Predictor(network, device="cpu", compiled=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_it_gives_the_same() -> None:
    network = mt.create_model("resunet10", base_channels=8, stem_channels=8).eval()
    image = torch.randn(1, 1, 32, 32, 32)
    plain, compiled = (Engine(network, torch.device("cuda"), compiled=flag) for flag in (False, True))
    assert torch.allclose(compiled(image), plain(image), atol=1e-4)  # type: ignore[arg-type]
