"""Tiny networks of the whole zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from tests.tiny_zoo import tiny_arguments


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    """A network of the zoo with 4 channels to begin with."""

    def build(name: str = "resnet10", **arguments: Any) -> nn.Module:
        return mt.create_model(name, **{"num_classes": 3, **tiny_arguments(name), **arguments})

    return build
