"""MONAI's own bundle code reads a bundle, runs it and gives the masks of ``medtransfer predict``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai import bundle
from monai.bundle.properties import InferProperties, MetaProperties

import medtransfer as mt
from medtransfer.errors import ModelError, UsageError
from medtransfer.exporting.run import export
from tests.exporting.test_export import tiny

CT = {"scheme": "ct", "low": -1.0, "high": 3.0, "mean": 0.5, "std": 1.5}
CARDS: dict[str, dict[str, Any]] = {
    "zscore": {},
    "nonzero": {"intensity": {"scheme": "zscore", "nonzero": True}},
    "clip": {"orientation": "LPS", "intensity": {"scheme": "clip", "low": -1.0, "high": 4.0}},
    "ct": {"orientation": "SAR", "intensity": CT},
    "percentile": {"intensity": {"scheme": "percentile"}},
    "none": {"intensity": {"scheme": "none"}},
    "windows": {"patch_size": [12, 8, 8]},
}


@pytest.fixture(autouse=True)
def _monai_may_warn() -> Iterator[None]:
    """It warns that configs are code, and of its own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def segmenter(**arguments: Any) -> torch.nn.Module:
    return tiny("plain_unet", **{"in_channels": 1, "num_classes": 3, "norm_cfg": {"type": "BN"}, **arguments})


def run(folder: Path, scans: Path, output: Path) -> None:
    config = str(folder / "configs" / "inference.json")
    bundle.run(config_file=config, bundle_root=str(folder), dataset_dir=str(scans), output_dir=str(output))


@pytest.mark.parametrize("kind", CARDS)
def test_masks_are_those_of_predict(kind: str, tmp_path: Path, make_scan: Callable[..., Path]) -> None:
    card, network = CARDS[kind], segmenter()
    turn = np.array([[0.6, -0.8, 0, 3], [0.8, 0.6, 0, 4], [0, 0, -2.0, 5], [0, 0, 0, 1]]) @ np.diag([1.5, 1, 1, 1])
    scan = make_scan("scans/one.nii.gz", shape=(21, 18, 13), affine=turn)
    array = np.asarray(nib.load(scan).dataobj).copy()
    array[:, :, :5] = 0  # which `nonzero` leaves out
    nib.save(nib.Nifti1Image(array, turn), scan)
    export(network, tmp_path / "bundle", format="monai_bundle", card=card)
    run(tmp_path / "bundle", scan.parent, tmp_path / "out")
    tiles = {"tile": tuple(card["patch_size"]), "overlap": 0.5} if "patch_size" in card else {}
    wanted = mt.Predictor(network, card=card, device="cpu", precision="float32", **tiles).predict(scan).labels
    given = nib.load(tmp_path / "out" / "one.nii.gz")
    assert np.array_equal(np.asarray(given.dataobj), np.asarray(wanted.dataobj))
    assert np.array_equal(given.affine, wanted.affine)
    assert len(np.unique(np.asarray(wanted.dataobj))) > 1


def test_channels_of_several_schemes(tmp_path: Path, make_scan: Callable[..., Path]) -> None:
    card = {"input_channels": ["CT", "T1"], "intensity": [CT, {"scheme": "zscore"}]}
    network = segmenter(in_channels=2)
    one = np.asarray(nib.load(make_scan()).dataobj)
    (tmp_path / "scans").mkdir()
    scan = tmp_path / "scans" / "both.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([one, one[::-1] * 100], axis=-1), np.diag([1.0, 2, 1.5, 1])), scan)
    export(network, tmp_path / "bundle", format="monai_bundle", card=card)
    run(tmp_path / "bundle", scan.parent, tmp_path / "out")
    wanted = mt.Predictor(network, card=card, device="cpu", precision="float32").predict(scan).labels
    given = nib.load(tmp_path / "out" / "both.nii.gz")
    assert np.array_equal(np.asarray(given.dataobj), np.asarray(wanted.dataobj))


def test_another_spacing_comes_back_to_the_grid_and_is_told_to_differ(
    tmp_path: Path, make_scan: Callable[..., Path]
) -> None:
    scan = make_scan("scans/one.nii.gz", shape=(16, 15, 14))
    report = export(segmenter(), tmp_path / "bundle", format="monai_bundle", card={"spacing": [2.0, 3.0, 2.1]})
    assert any("no transform of MONAI samples at medtransfer's points" in note for note in report.notes)
    run(tmp_path / "bundle", scan.parent, tmp_path / "out")
    given, wanted = nib.load(tmp_path / "out" / "one.nii.gz"), nib.load(scan)
    assert given.shape == wanted.shape
    assert np.array_equal(given.affine, wanted.affine)


def test_a_classifier_gives_calibrated_probabilities(tmp_path: Path, make_scan: Callable[..., Path]) -> None:
    card = {"classes": ["healthy", "ill"], "temperature": 2.0}
    network = tiny("plain_encoder", in_channels=1, norm_cfg={"type": "BN"})
    scan = make_scan("scans/one.nii.gz")
    export(network, tmp_path / "bundle", format="monai_bundle", card=card)
    run(tmp_path / "bundle", scan.parent, tmp_path / "out")
    given = json.loads((tmp_path / "out" / "predictions.json").read_text())["one.nii.gz"]
    wanted = mt.Predictor(network, card=card, device="cpu", precision="float32").predict(scan).to_dict()
    assert given == pytest.approx(wanted["probabilities"], abs=1e-5)


def test_what_monai_asks_of_a_bundle_is_there(tmp_path: Path) -> None:
    report = export(segmenter(), tmp_path / "bundle", format="monai_bundle")
    folder = tmp_path / "bundle"
    config, meta = folder / "configs" / "inference.json", folder / "configs" / "metadata.json"
    bundle.verify_net_in_out("network_def", meta_file=str(meta), config_file=str(config), device="cpu", n=2,
                             bundle_root=str(folder))  # fmt: skip
    parser = bundle.ConfigParser()
    parser.read_config(config)
    parser.read_meta(meta)
    asked = {**InferProperties, **MetaProperties}
    assert all(entry["id"] in parser for entry in asked.values() if entry["required"])
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert set(state) == set(torch.jit.load(folder / "models" / "model.ts").state_dict())
    page = (folder / "docs" / "README.md").read_text()
    assert "Not a medical device" in page
    assert "pip install monai nibabel fire" in page
    assert (1, 1, 4, 8, 8) in [check.shape for check in report.checks]


@pytest.mark.parametrize("text", ["$__import__('os').abort()", "@device", "%/etc/hostname"])
@pytest.mark.parametrize("field", ["classes", "input_channels", "description", "license"])
def test_no_text_of_a_card_becomes_code(field: str, text: str, tmp_path: Path) -> None:
    card = {field: [text, "a", "b"][: {"classes": 3}.get(field, 1)] if field[-1] == "s" else text}
    try:
        export(segmenter(), tmp_path / "bundle", format="monai_bundle", card=card)
    except (ModelError, UsageError):  # or the card itself refuses it
        assert not list(tmp_path.iterdir())
    else:
        pytest.fail("written")


@pytest.mark.parametrize(
    "name,options,message",
    [
        ("multitask_resnet10", {}, "not a multitask"),
        ("resunet10", {"conv_cfg": {"type": "Conv2d"}}, "this one is 2-D"),
    ],
)
def test_networks_that_no_bundle_holds(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        export(tiny(name, **options), tmp_path / "bundle", format="monai_bundle")
    assert not list(tmp_path.iterdir())


def test_only_a_bundle_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("mine")
    with pytest.raises(UsageError, match="so no bundle: it would be deleted"):
        export(segmenter(), tmp_path / "photos", format="monai_bundle", overwrite=True)
    export(segmenter(), tmp_path / "bundle", format="monai_bundle")
    export(segmenter(), tmp_path / "bundle", format="monai_bundle", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "photos"]
