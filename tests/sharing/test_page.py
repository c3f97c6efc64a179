"""The model's page: metadata that hubs parse whatever the card says, and nothing that the card does not say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml
from huggingface_hub import ModelCard as HubCard

from medtransfer.checkpoint.card import STATED, Architecture, ModelCard, format_card, parse_card
from medtransfer.checkpoint.front_matter import HUB_LICENSES, front_matter
from medtransfer.checkpoint.readme import render_readme
from medtransfer.errors import CheckpointError

HOSTILE = [
    "---",
    "a\n---\nlicense: mit\n",
    'say "no": {x: 1}',
    "it's # not a comment",
    "\x00\x1b[2J\x7f\x85\u2028\ufeff",
    "&anchor *alias !!python/object/apply:os.system [x]",
    "- item: [1, 2",
    "Größe 漢字 😀 \\n \\u0041",
    "no",
    "1e3",
    " ",
]


def metadata(card: ModelCard) -> dict[str, Any]:
    """As the hub's own library reads a page."""
    return HubCard(render_readme(card, "net")).data.to_dict()


def test_the_hub_reads_the_metadata(card: ModelCard) -> None:
    assert metadata(card) == {
        "library_name": "medtransfer",
        "license": "cc-by-4.0",
        "pipeline_tag": "image-segmentation",
        "tags": ["medtransfer", "medical-imaging", "segmentation", "resunet10"],
        "metrics": ["dice"],
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_gets_out_of_its_place(card: ModelCard, text: str) -> None:
    honest = metadata(card)
    stated = dict.fromkeys(STATED, text)
    card = msgspec.structs.replace(card, **stated, metrics={text: 0.5}, parent={text: text})
    found = metadata(card)
    assert set(found) - {"license_name"} <= set(honest)
    assert (found["tags"], found["pipeline_tag"]) == (honest["tags"], honest["pipeline_tag"])
    shown = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    assert found.get("license_name", "") == shown
    assert found["metrics"] == [shown]
    page = render_readme(card, text)
    assert page.count("> **Not a medical device.**") == 1
    assert page.startswith("---\nlibrary_name:")


def test_class_names_of_the_schema_are_safe_too(card: ModelCard) -> None:
    names = ["---", "![x](http:~example.org~x.png)", 'a|b"<script>']
    arguments = {"in_channels": 1, "num_classes": 3}
    card = msgspec.structs.replace(card, classes=names, architecture=Architecture("resunet10", arguments))
    page = render_readme(parse_card(format_card(card)), "net")
    assert "| 0 | --- |\n| 1 | !\\[x](" in page
    assert '| 2 | a\\|b"&lt;script> |' in page


@pytest.mark.parametrize("text", ["```", "~~~\nall of it", "fine\n\n```python"])
def test_no_fence_swallows_the_page(card: ModelCard, text: str) -> None:
    page = render_readme(msgspec.structs.replace(card, description=text), "net")
    fences = [line for line in page.splitlines() if line.startswith(("```", "~~~"))]
    assert fences == ["```", "```", "```python", "```"]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("cc-by-nc-sa-4.0", {"license": "cc-by-nc-sa-4.0"}),
        ("Hospital licence 3", {"license": "other", "license_name": "Hospital licence 3"}),
        ("", {}),
    ],
)
def test_licences_go_by_the_hubs_names(card: ModelCard, text: str, wanted: dict[str, str]) -> None:
    found = metadata(msgspec.structs.replace(card, license=text))
    assert {key: value for key, value in found.items() if key.startswith("license")} == wanted


def test_identifiers_of_licences_are_in_lower_case() -> None:
    assert all(name == name.lower() for name in HUB_LICENSES)


def test_what_is_not_stated_is_said_to_be() -> None:
    card = ModelCard(
        task="restoration", architecture=Architecture("resunet10"), input_channels=["MR"], classes=["restored"]
    )
    page = render_readme(card, "net")
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    assert list(sections) == [
        *("Intended use", "Training data", "Input", "Output", "Measured", "Limitations", "Use", "Origin"),
    ]
    for name in ("Intended use", "Training data", "Measured", "Limitations"):
        assert sections[name].strip().startswith("Not stated."), name
    assert "Cases trained on: not stated" in page
    assert "- Licence: not stated" in page
    assert yaml.safe_load(front_matter(card).strip("-")) == {
        "library_name": "medtransfer",
        "tags": ["medtransfer", "medical-imaging", "restoration", "resunet10"],
    }


def test_what_is_stated_stands_there(card: ModelCard) -> None:
    stated = {name: f"About {name}.\n\nMore <b>of</b> it." for name in STATED}
    page = render_readme(msgspec.structs.replace(card, **stated, training_cases=260), "net", "clinic/liver-ct")
    for name in set(STATED) - {"license"}:
        assert f"About {name}.\n\nMore &lt;b>of&lt;/b> it." in page
    assert "Cases trained on: 260" in page
    assert "medtransfer pull clinic/liver-ct@COMMIT -o FOLDER\nmedtransfer predict" in page


def test_older_readers_read_cards_that_state_nothing_new(card: ModelCard) -> None:
    later = {"intended_use", "out_of_scope", "training_data", "training_cases", "limitations"}
    assert not later & set(msgspec.json.decode(format_card(card)))
    stated = msgspec.structs.replace(card, intended_use="Research.", training_cases=3)
    assert later & set(msgspec.json.decode(format_card(stated))) == {"intended_use", "training_cases"}
    assert parse_card(format_card(stated)) == stated


@pytest.mark.parametrize("field, value", [("training_cases", 0), ("limitations", "x" * 20_001), ("intended_use", 1)])
def test_wrong_statements_are_refused(card: ModelCard, field: str, value: Any) -> None:
    tree = {**msgspec.to_builtins(card), field: value}
    with pytest.raises(CheckpointError, match=rf"\$\.{field}"):
        parse_card(msgspec.json.encode(tree))
