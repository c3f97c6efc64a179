"""The card of a model folder: strict, and without a way to name a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from medtransfer.checkpoint.card import ORIENTATIONS, Intensity, ModelCard, format_card, parse_card, read_card
from medtransfer.checkpoint.readme import render_readme
from medtransfer.errors import CheckpointError
from medtransfer.intensity import IntensityRange


def _changed(card: ModelCard, place: str, value: Any) -> str:
    tree = msgspec.to_builtins(card)
    *above, last = place.split(".")
    inner = tree
    for key in above:
        inner = inner[key]
    inner[last] = value
    return json.dumps(tree)


RANGE = {"low": -1000.0, "high": 1500.0, "mean": -350.0, "std": 460.0}
WRONG: list[tuple[str, Any, str]] = [
    ("format_version", 2, "`format_version` is 2, but this medtransfer reads up to 1. Update medtransfer"),
    ("format_version", 0, "format_version"),
    ("format_version", "1", "format_version"),
    ("surprise", 1, "unknown field `surprise`"),
    ("\n\x1b" + "x" * 10_000, 1, "unknown field `\\n\\x1bxxx"),
    ("architecture.surprise", 1, "unknown field `surprise`"),
    ("intensity.surprise", 1, "unknown field `surprise`"),
    ("task", "registration", "$.task"),
    ("input_channels", [], "$.input_channels"),
    ("input_channels", ["a"] * 5000, "$.input_channels"),
    ("input_channels", [1], "$.input_channels[0]"),
    ("input_channels", ["a", "b"], "`architecture.arguments.in_channels` is 1, but the card names 2"),
    ("input_channels", ["T1\n"], "`input_channels`"),
    ("classes", ["a", "a", "b"], "`classes` names two things alike"),
    ("classes", ["x" * 201, "b", "c"], "$.classes[0]"),
    ("classes", ["a"], "`architecture.arguments.num_classes` is 3"),
    ("spacing", [1.0, 0.0, 1.0], "$.spacing[1]"),
    ("spacing", [1.0, -1.0, 1.0], "$.spacing[1]"),
    ("spacing", [1.0], "$.spacing"),
    ("spacing", "1", "$.spacing"),
    ("orientation", "RAR", "`orientation`"),
    ("orientation", "ras", "`orientation`"),
    ("intensity.scheme", "minmax", "$.intensity.scheme"),
    ("intensity.scheme", "clip", "needs finite `low` < `high`"),
    ("intensity.low", 1.0, "`low` and `high`"),
    ("intensity.scheme", "ct", "needs finite `low` < `high`"),
    ("intensity", {"scheme": "ct", "low": 0, "high": 1, "mean": 0}, "needs a finite `mean` and a `std` above 0"),
    ("intensity", {"scheme": "ct", "low": 0, "high": 1, "mean": 0, "std": 0}, "`std` above 0, got 0.0 and 0.0"),
    ("intensity", {"scheme": "percentile", "low_percentile": 101}, "$.intensity.low_percentile"),
    ("intensity", {"scheme": "percentile", "high_percentile": 0.1}, "got 0.5 and 0.1"),
    ("intensity", {"scheme": "zscore", "std": 2}, "`std` belong to the scheme 'ct'"),
    ("intensity", [], "$.intensity"),
    ("intensity", [{}, {}], "`intensity` is a list of 2, but there are 1 channels"),
    ("intensity", [{"scheme": "minmax"}], "$.intensity[0].scheme"),
    ("intensity_ranges", [], "`intensity_ranges` must be one a channel, got 0"),
    ("intensity_ranges", [RANGE, RANGE], "`intensity_ranges` must be one a channel, got 2"),
    ("intensity_ranges", [{**RANGE, "low": 2000}], "runs from low to high, got 2000.0 to 1500.0"),
    ("intensity_ranges", [{**RANGE, "std": -1}], "$.intensity_ranges[0].std"),
    ("intensity_ranges", [{**RANGE, "median": 1}], "unknown field `median`"),
    ("patch_size", [0, 1, 1], "$.patch_size[0]"),
    ("patch_size", [1.5, 1, 1], "$.patch_size[0]"),
    ("patch_size", [10**9, 1, 1], "$.patch_size[0]"),
    ("sha256", "abc", "$.sha256"),
    ("metrics", {"dice": "high"}, "$.metrics"),
    ("architecture.name", "os.system", "`name`"),
    ("architecture.name", "../net", "`name`"),
    ("architecture.arguments.in_channels", 10**9, "`arguments.in_channels`"),
    ("architecture.arguments.stem_channels", -(10**9), "`arguments.stem_channels`"),
    ("architecture.arguments.num_classes", 7, "`architecture.arguments.num_classes` is 7"),
    ("architecture.arguments.norm_cfg", {"type": "subprocess.Popen"}, "`arguments.norm_cfg.type`"),
    ("architecture.arguments.norm_cfg", {"type": "a/b"}, "`arguments.norm_cfg.type`"),
    ("architecture.arguments.norm_cfg", {"type": ["BN"]}, "`arguments.norm_cfg.type`"),
    ("architecture.arguments.a b", 1, "`arguments` must have names as keys"),
    ("architecture.arguments.blocks", [[1, "/etc/passwd"]], "`arguments.blocks[0][1]`"),
    ("architecture.arguments.pool", "x" * 100, "`arguments.pool`"),
    ("architecture.arguments.strides", [1] * 2000, "`arguments.strides`"),
    ("parent", [1], "$.parent"),
    ("heads", {"a": {"task": "segmentation", "classes": ["b", "c"]}}, "`heads` belongs to a multitask network"),
    ("heads", {}, "$.heads"),
    ("task", "multitask", "`heads` is missing, which a multitask network needs"),
]
HEADS = {
    "organs": {"task": "segmentation", "classes": ["background", "liver"]},
    "age": {"task": "regression", "classes": ["years"]},
}
WRONG_HEADS: list[tuple[str, Any, str]] = [
    ("classes", ["age", "organs"], "`heads` must be those that `classes` names, got organs, age"),
    ("classes", ["organs"], "`heads` must be those that `classes` names"),
    ("heads.age.task", "detection", "$.heads[...].task"),
    ("heads.age.classes", [], "$.heads[...].classes"),
    ("heads.age.classes", ["../x"], "`classes` must hold plain names"),
    ("heads.age.surprise", 1, "unknown field `surprise`"),
    ("heads.age.classes", ["years", "months"], "as many classes as `architecture.arguments.heads` says"),
    ("heads.age.task", "classification", "of the tasks and as many"),
]


@pytest.mark.parametrize(
    "place, value, words", WRONG, ids=[f"{place[:40]!r}-{i}" for i, (place, _, _) in enumerate(WRONG)]
)
def test_c37_wrong_values_name_their_field(card: ModelCard, place: str, value: Any, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_card(_changed(card, place, value), "net/model.json")
    assert words in str(caught.value)
    assert str(caught.value.path) == "net/model.json"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.fixture
def multitask_card() -> ModelCard:
    arguments = {"organs": {"task": "segmentation", "num_classes": 2}, "age": {"task": "regression"}}
    architecture = {"name": "multitask_resnet10", "arguments": {"heads": arguments}}
    tree = {"task": "multitask", "architecture": architecture, "input_channels": ["CT"], "classes": list(HEADS)}
    return msgspec.convert({**tree, "heads": HEADS}, ModelCard)


def test_a_multitask_card_reads_back_and_its_readme_names_every_head(multitask_card: ModelCard) -> None:
    assert parse_card(format_card(multitask_card)) == multitask_card
    readme = render_readme(multitask_card, "net")
    assert "`organs`, segmentation:\n\n| value | class |" in readme
    assert "`age`, regression:\n\n| value | quantity |\n| --- | --- |\n| 0 | years |" in readme


@pytest.mark.parametrize("place, value, words", WRONG_HEADS)
def test_wrong_heads_name_their_field(multitask_card: ModelCard, place: str, value: Any, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_card(_changed(multitask_card, place, value))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "a/b", "../x", "Organs"])
def test_names_of_heads_become_files_and_are_plain(multitask_card: ModelCard, name: str) -> None:
    tree = msgspec.to_builtins(multitask_card)
    tree["architecture"]["arguments"] = {}
    tree["heads"] = {"organs": HEADS["organs"], name: HEADS["age"]}
    tree["classes"] = ["organs", name]
    with pytest.raises(CheckpointError, match="plain names"):
        parse_card(json.dumps(tree))


@pytest.mark.parametrize("field", ["task", "architecture", "input_channels", "classes"])
def test_c37_missing_fields_are_named(card: ModelCard, field: str) -> None:
    tree = msgspec.to_builtins(card)
    del tree[field]
    with pytest.raises(CheckpointError, match=f"missing required field `{field}`"):
        parse_card(json.dumps(tree))


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "not JSON at line 1"),
        ("{", "not JSON at line 1, column 2"),
        ("[]", "Expected `object`"),
        ("null", "Expected `object`"),
        (b"\xff", "UTF-8"),
        ('{"task": NaN}', "NaN is not a JSON number"),
        ('{"task": "a", "task": "b"}', "the key 'task' stands there twice"),
        ("[" * 100_000, "nested too deep"),
        ('{"format_version": 99, "anything": {}}', "`format_version` is 99"),
    ],
    ids=["empty", "open", "list", "null", "not UTF-8", "NaN", "twice", "deep", "newer, of another shape"],
)
def test_c37_broken_text_says_where(text: str | bytes, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        parse_card(text)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_c37_numbers_beyond_floats_are_refused(card: ModelCard, number: str) -> None:
    with pytest.raises(CheckpointError, match="metrics"):
        parse_card(_changed(card, "metrics", {"dice": "X"}).replace('"X"', number))


PATHS = ["../../etc/x", "/etc/passwd", "C:\\x", "C:/x", "a/../b", "a\\b", ".", "..", "a//b", "", "a\x00b"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("place", ["classes", "input_channels", "architecture.name", "architecture.arguments.pool"])
def test_c38_nothing_in_a_card_can_name_a_file(card: ModelCard, place: str, path: str) -> None:
    value: Any = path
    if place in ("classes", "input_channels"):
        value = [path, *getattr(card, place)[1:]]
    if (place, path) == ("architecture.arguments.pool", ""):
        return  # an empty word names nothing
    with pytest.raises(CheckpointError):
        parse_card(_changed(card, place, value))


@pytest.mark.parametrize("key", ["classes_file", "weights", "path", "include"])
def test_c38_there_is_no_field_for_a_file(card: ModelCard, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"unknown field `{key}`"):
        parse_card(_changed(card, key, "labels.json"))


@pytest.mark.parametrize("name", ["kidney/cyst", "edema & core", "Läsion", "T1 (Gd)", "CD8+", "class 1."])
def test_names_that_people_use_are_taken(card: ModelCard, name: str) -> None:
    assert parse_card(_changed(card, "classes", ["background", "b", name])).classes[2] == name


def test_orientations_are_the_48_codes() -> None:
    import nibabel

    codes = {"".join(nibabel.aff2axcodes(nibabel.orientations.inv_ornt_aff(o, (2, 2, 2)))) for o in _orientations()}
    assert codes == ORIENTATIONS
    assert len(ORIENTATIONS) == 48


def _orientations() -> list[list[list[int]]]:
    from itertools import permutations, product

    return [
        [[axis, flip] for axis, flip in zip(axes, flips, strict=True)]
        for axes in permutations(range(3))
        for flips in product((1, -1), repeat=3)
    ]


def test_card_comes_back_equal_and_with_a_stable_order(card: ModelCard) -> None:
    card.parent = {"format": "torch", "coverage": 0.98, "sha256": "0" * 64, "notes": ["a"]}
    card.intensity = Intensity("clip", low=-1000.0, high=400.0)
    text = format_card(card)
    assert parse_card(text) == card
    assert format_card(parse_card(text)) == text
    assert list(json.loads(text))[:3] == ["format_version", "task", "architecture"]


OLD = b"""\
{
  "format_version": 1,
  "task": "segmentation",
  "architecture": {
    "name": "resunet18",
    "arguments": {
      "in_channels": 1,
      "num_classes": 2
    }
  },
  "input_channels": [
    "CT"
  ],
  "classes": [
    "background",
    "liver"
  ],
  "spacing": [
    1.0,
    1.0,
    2.5
  ],
  "orientation": "RAS",
  "intensity": {
    "scheme": "clip",
    "nonzero": false,
    "low": -1000.0,
    "high": 400.0
  },
  "patch_size": [
    48,
    64,
    48
  ],
  "sha256": "",
  "versions": {
    "medtransfer": "0.4.0"
  },
  "parent": {
    "format": "torch",
    "coverage": 0.98
  },
  "description": "",
  "license": "",
  "metrics": {
    "dice/mean": 0.75
  }
}
"""
"""As `format_card` wrote it when there were the schemes none, zscore and clip alone."""
OLD_CLIP = b'"clip",\n    "nonzero": false,\n    "low": -1000.0,\n    "high": 400.0'
OLD_ZSCORE = b'"zscore",\n    "nonzero": true,\n    "low": null,\n    "high": null'


def test_a_card_of_before_these_schemes_comes_back_byte_for_byte() -> None:
    card = parse_card(OLD)
    assert (card.intensity, card.intensity_ranges) == (Intensity("clip", low=-1000.0, high=400.0), None)
    assert format_card(card) == OLD
    assert format_card(parse_card(OLD.replace(OLD_CLIP, OLD_ZSCORE))) == OLD.replace(OLD_CLIP, OLD_ZSCORE)


@pytest.mark.parametrize(
    "intensity",
    [
        {"scheme": "ct", "nonzero": False, "low": -160.0, "high": 240.0, "mean": 52.5, "std": 61.25},
        {"scheme": "percentile", "nonzero": False, "low": None, "high": None, "low_percentile": 0.5,
         "high_percentile": 99.5},
        [{"scheme": "zscore", "nonzero": True, "low": None, "high": None}],
    ],
    ids=["ct", "percentile", "list"],
)  # fmt: skip
def test_schemes_and_ranges_come_back_equal(card: ModelCard, intensity: Any) -> None:
    ranges = [{**RANGE, "lows": [-1024.0, -200.0], "highs": [400.0, 3000.0]}]
    tree = {**json.loads(format_card(card)), "intensity": intensity, "intensity_ranges": ranges}
    again = parse_card(json.dumps(tree))
    assert json.loads(format_card(again)) == tree
    assert again.intensity_ranges is not None
    assert again.intensity_ranges[0].lows == (-1024, -200)


def test_the_readme_says_how_each_channel_is_scaled(card: ModelCard) -> None:
    card.intensity = [Intensity("ct", low=-160.0, high=240.0, mean=52.5, std=61.25)]
    card.intensity_ranges = [msgspec.convert(RANGE, IntensityRange)]
    text = render_readme(card, "net")
    assert "- Intensity: T1: cut to -160 ... 240, then minus 52.5, over 61.25\n" in text
    assert "- T1 in the training scans: -1000 ... 1500\n" in text
    card.intensity, card.intensity_ranges = Intensity("percentile"), None
    assert (
        "- Intensity: the scan's percentiles 0.5 and 99.5 to 0 ... 1, what lies outside cut\n- Patch"
        in render_readme(card, "net")
    )


def test_a_card_that_a_reader_would_refuse_is_not_written(card: ModelCard) -> None:
    card.classes = [1, 2, 3]  # type: ignore[list-item]
    with pytest.raises(CheckpointError, match=r"\$\.classes"):
        format_card(card)
    card.classes = ["a", "b", object()]  # type: ignore[list-item]
    with pytest.raises(CheckpointError, match="not plain data"):
        format_card(card)


def test_card_is_read_without_the_weights(model_folder: Path, card: ModelCard) -> None:
    (model_folder / "model.safetensors").unlink()
    assert read_card(model_folder).classes == card.classes


def test_oversized_card_is_not_read(model_folder: Path, refused) -> None:
    (model_folder / "model.json").write_bytes(b" " * (5 << 20))
    refused(model_folder, "is larger than", reader=read_card)


def test_card_imports_no_torch() -> None:
    code = "import sys, medtransfer, medtransfer.checkpoint.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("url", ["https://example.org/model", "hf-hub://some/model"])
def test_c46_a_url_is_no_model_folder(url: str) -> None:
    with pytest.raises(CheckpointError, match="is a URL, and local files only are read"):
        read_card(url)
    with pytest.raises(CheckpointError, match="is a URL"):
        read_card(Path(url))
