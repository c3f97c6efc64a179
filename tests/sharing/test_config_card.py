"""What a config states of the model that it trains."""

from __future__ import annotations

from typing import Any

import pytest

from medtransfer.checkpoint.card import STATED, ModelCard
from medtransfer.errors import ConfigError
from medtransfer.training.config import read_config
from medtransfer.training.stated import read_stated


def test_every_statement_is_a_field_of_the_card() -> None:
    assert set(STATED) <= set(ModelCard.__struct_fields__)
    assert read_stated(dict.fromkeys(STATED, "words")) == dict.fromkeys(STATED, "words")
    assert read_stated(None) == {}


@pytest.mark.parametrize(
    "card, words",
    [
        ({"licence": "MIT"}, "card has no key 'licence' for a config to set. Did you mean license?"),
        ({"sha256": "0" * 64}, "card has no key 'sha256'"),
        ({"license": 3}, "card.license must be a text"),
        ({"limitations": "x" * 20_001}, "card.limitations must be a text of up to 20000 letters"),
        ("CC-BY-4.0", "card must be a dict"),
    ],
)
def test_what_is_no_statement_is_refused(card: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_stated(card)
    assert words in str(caught.value)


def test_it_is_set_on_the_command_line() -> None:
    cfg = read_config("resunet18_hippocampus", ["card.license=CC-BY-4.0"])
    assert read_stated(cfg.card) == {"license": "CC-BY-4.0"}
