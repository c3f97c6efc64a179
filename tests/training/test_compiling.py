"""``compile=True`` in a config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import medtransfer as mt
from medtransfer.errors import ConfigError
from medtransfer.training import runner
from medtransfer.training.compiling import compile_network, read_compile

TINY = {"base_channels": 4, "stem_channels": 4}


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_weights_under_the_same_names(train: Callable[..., Path]) -> None:
    states = [
        torch.load(train(name, **words) / "epoch_2.pth", weights_only=True)["state_dict"]
        for name, words in (("plain", {}), ("compiled", {"compile": {"backend": "eager"}}))
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)


def test_the_word_of_the_config_reaches_the_network(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(runner, "compile_network", lambda network, *words: found.append((type(network), *words)))
    train(compile={"mode": "default"}, train_cfg__max_epochs=1)
    assert found == [(mt.model_zoo.UNet, {"mode": "default"}, torch.float32)]


def test_the_network_is_what_is_compiled() -> None:
    network = mt.create_model("resnet10", num_classes=2, **TINY)
    compile_network(network, False, torch.float32)
    assert network._compiled_call_impl is None
    compile_network(network, {"backend": "eager"}, torch.float32)
    assert network._compiled_call_impl is not None
    assert not any("_orig_mod" in name for name in network.state_dict())


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("no g++\na page of more")

    network = mt.create_model("resnet10", num_classes=2, **TINY)
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match="cannot compile: no g") as caught:
        compile_network(network, True, torch.float32)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_compiled_is_refused() -> None:
    network = mt.create_model("resnet10", num_classes=2, **TINY)
    with pytest.raises(ConfigError, match="bfloat16 on a CPU"):
        compile_network(network, True, torch.bfloat16)
    for wrong in ("yes", {"mod": "max-autotune"}):
        with pytest.raises(ConfigError, match="compile must be True, False or a dict of"):
            read_compile(wrong)
