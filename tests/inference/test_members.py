"""Several networks, mirror images, crops and cleaned masks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import medtransfer as mt
from medtransfer.errors import ResourceError, UsageError
from medtransfer.inference import assemble, planning
from medtransfer.inference.components import fill_holes, keep_largest
from medtransfer.inference.postprocess import keep_classes
from medtransfer.inference.predictor import Predictor
from medtransfer.volumes import scratch

NONE = {"intensity": {"scheme": "none"}}


@pytest.fixture
def pair(networks: Any) -> list[nn.Module]:
    """Two networks that differ."""
    torch.manual_seed(0)
    return [networks["convolutions"](nn.BatchNorm3d) for _ in range(2)]


def mask_of(result: Any) -> np.ndarray:
    return np.asanyarray(result.labels.dataobj)


@pytest.mark.parametrize("tile", ["whole", (8, 8, 8)])
def test_an_ensemble_gives_the_mean_of_the_probabilities(pair: Any, scan: Any, tile: Any) -> None:
    path, options = scan(shape=(14, 12, 10)), {"tile": tile, "card": NONE}
    single = [Predictor(network, **options).predict(path).probabilities for network in pair]
    both = Predictor(pair, **options).predict(path)
    # float16 logits, as they are kept
    np.testing.assert_allclose(both.probabilities, np.mean(single, axis=0), atol=2e-3)
    mean = np.mean(single, axis=0)
    clear = np.abs(mean[0] - mean[1]) > 2e-3
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(mask_of(both)[clear], mean.argmax(0)[clear])
    assert both.details["models"] == 2


def test_members_of_other_spacing_meet_on_the_scans_grid(pair: Any, scan: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    models = [mt.create_model("resunet10", num_classes=2, base_channels=4, stem_channels=4) for _ in range(2)]
    cards = [{**NONE, "spacing": spacing} for spacing in ([1.0, 1.0, 1.0], [2.0, 2.0, 3.0])]
    folders = [tmp_path / "a", tmp_path / "b"]
    for model, folder, card in zip(models, folders, cards, strict=True):
        mt.save(model, folder, card)
    path = scan(shape=(16, 12, 10))
    single = [Predictor(folder).predict(path).probabilities for folder in folders]
    np.testing.assert_allclose(Predictor(folders).predict(path).probabilities, np.mean(single, axis=0), atol=2e-3)


def test_models_that_do_not_belong_together_are_refused(networks: Any, pair: Any) -> None:
    with pytest.raises(UsageError, match="the models of an ensemble differ in task"):
        Predictor([pair[0], networks["mean"]()])
    with pytest.raises(UsageError, match="differ in classes"):
        Predictor([pair[0], networks["threshold"]()])


def test_an_ensemble_of_classifiers_averages_probabilities(networks: Any, scan: Any) -> None:
    one, other = networks["mean"](), networks["mean"]()
    other.forward = lambda x: 3 * type(other).forward(other, x)
    path = scan(array=np.full((4, 4, 4), 0.5))
    single = [Predictor(network, card=NONE).predict(path).probabilities["class_1"] for network in (one, other)]
    assert Predictor([one, other], card=NONE).predict(path).probabilities["class_1"] == pytest.approx(np.mean(single))


def test_a_temperature_softens_probabilities_and_keeps_the_class(networks: Any, scan: Any) -> None:
    path = scan(array=np.full((4, 4, 4), 0.5))
    sharp, soft = (
        Predictor(networks["mean"](), card={**NONE, "temperature": temperature}).predict(path).probabilities
        for temperature in (None, 2.0)
    )
    logits = np.log(list(sharp.values()))
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum()
    np.testing.assert_allclose(list(soft.values()), expected, rtol=1e-6)


@pytest.mark.parametrize("axes", [[0], [0, 2], [0, 1, 2]])
def test_flips_average_over_mirror_images(pair: Any, scan: Any, axes: list[int]) -> None:
    path = scan(shape=(8, 7, 6))
    network = pair[0]
    card = {**NONE, "mirror_axes": axes}
    result = Predictor(network, "cpu", "float32", tile="whole", card=card, tta=True).predict(path)
    image = torch.from_numpy(result.prepared.array)[None]
    images = [image]
    for axis in axes:
        images += [torch.flip(one, [axis + 2]) for one in images]
    with torch.no_grad():
        logits = torch.stack([_undo(network.eval()(one), image, one) for one in images]).mean(0)[0]
    expected = result.prepared.restore_logits(logits)
    torch.testing.assert_close(result.logits, torch.from_numpy(expected - expected.max(0)), atol=1e-5, rtol=1e-3)
    assert result.details["flips"] == axes
    assert len(images) == 2 ** len(axes)


def _undo(logits: torch.Tensor, image: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Mirror back along the axes that make ``mirrored`` the image again."""
    for dims in ([], [2], [3], [4], [2, 3], [2, 4], [3, 4], [2, 3, 4]):
        if torch.equal(torch.flip(mirrored, dims), image):
            return torch.flip(logits, dims)
    raise AssertionError


def test_flips_ask_the_card_which_axes_training_mirrored(pair: Any, scan: Any) -> None:
    unknown = Predictor(pair[0], tta=True).predict(scan())
    assert "does not say which axes training mirrored" in unknown.warnings[0]
    with pytest.raises(UsageError, match="was trained without mirror images"):
        Predictor(pair[0], tta=True, card={"mirror_axes": []})


def test_a_crop_changes_nothing_inside_and_runs_less(networks: Any, scan: Any) -> None:
    array = np.zeros((40, 38, 36))
    array[20:24, 18:21, 16:20] = np.random.default_rng(0).normal(size=(4, 3, 4)) + 2
    network = networks["threshold"]()
    path = scan(array=array)
    full = Predictor(network, card=NONE).predict(path)
    cropped = Predictor(network, card=NONE, crop=True).predict(path)
    np.testing.assert_array_equal(mask_of(cropped), mask_of(full))
    assert network.shapes == []  # the engine runs a copy
    assert cropped.details["window"] == [4 + 16, 3 + 16, 4 + 16]
    assert full.details["window"] == [40, 38, 36]


@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_i16_nothing_to_see_is_an_empty_mask_and_a_warning(networks: Any, scan: Any, value: float) -> None:
    scheme = {"intensity": {"scheme": "clip", "low": 0.0, "high": 100.0}}
    for card in (NONE, scheme):
        result = Predictor(networks["threshold"](), card=card, crop=True).predict(scan(array=np.full((6, 5, 4), value)))
        assert not mask_of(result).any()
        assert any("shows nothing but its surroundings" in text for text in result.warnings)


@pytest.mark.parametrize("tile", ["whole", (8, 8, 8)])
@pytest.mark.parametrize("orientation", ["RAS", "SPL"])
def test_rows_in_any_number_give_the_same_mask(
    pair: Any, scan: Any, tile: Any, orientation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = {**NONE, "spacing": [1.5, 1.0, 2.0], "orientation": orientation}
    path = scan(shape=(10, 21, 13))
    whole = Predictor(pair[0], tile=tile, card=card).predict(path)
    monkeypatch.setattr(assemble, "CHUNK_BYTES", 1)  # a row at a time
    rows = Predictor(pair[0], tile=tile, card=card).predict(path)
    np.testing.assert_array_equal(mask_of(rows), mask_of(whole))
    torch.testing.assert_close(rows.logits, whole.logits, atol=1e-5, rtol=1e-3)


def test_logits_that_memory_does_not_hold_are_left_out_or_kept_in_a_file(
    pair: Any, scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scan(shape=(9, 8, 7))
    predictor = Predictor(pair[0], tile="whole", card=NONE)
    plenty = predictor.predict(path)
    monkeypatch.setattr(scratch, "available_memory", lambda: 64)
    without = predictor.predict(path)
    np.testing.assert_array_equal(mask_of(without), mask_of(plenty))
    with pytest.raises(ResourceError, match="the probabilities of 2 classes were not kept"):
        _ = without.probabilities
    with pytest.raises(ResourceError, match="were not kept"):
        without.save(tmp_path / "out", probabilities=True)
    kept = predictor.predict(path, probabilities=True)
    assert isinstance(kept.voxel_logits.base, np.memmap) or isinstance(kept.voxel_logits, np.memmap)
    np.testing.assert_allclose(kept.probabilities, plenty.probabilities, atol=1e-3)
    assert predictor.predict(path, probabilities=False).voxel_logits is None


def test_probabilities_are_written_as_one_volume_a_class(networks: Any, scan: Any, tmp_path: Path) -> None:
    path = scan()
    result = Predictor(networks["threshold"](), card={**NONE, "orientation": "PIR"}).predict(path)
    written = result.save(tmp_path / "out", probabilities=True)
    assert [file.name for file in written] == ["case.nii.gz", "case_probabilities.nii.gz", "case.json"]
    image = nib.load(written[1])
    np.testing.assert_array_equal(image.affine, nib.load(path).affine)
    np.testing.assert_allclose(np.moveaxis(image.get_fdata(), 3, 0), result.probabilities, atol=1e-5)
    assert image.shape == (9, 8, 7, 3)


def test_memory_for_one_row_of_windows_is_asked_for(pair: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(needed: int, what: str) -> None:
        raise ResourceError(f"{what} needs {needed}")

    monkeypatch.setattr(planning, "require_memory", none)
    # 3 x 8 rows x (9 x 8) of the other axes x 4 bytes, along the longest axis
    with pytest.raises(ResourceError, match=f"one row of windows needs {3 * 4 * 8 * 9 * 8}"):
        Predictor(pair[0], tile=(8, 8, 8), card=NONE).predict(scan(shape=(9, 8, 30)))


def test_only_the_largest_part_of_a_class_is_kept_and_its_holes_filled(networks: Any, scan: Any) -> None:
    array = np.full((12, 12, 12), -1.0)
    array[2:7, 2:7, 2:7] = 0.5
    array[4, 4, 4] = -1.0  # a hole
    array[9, 9, 9] = 0.5  # a stray voxel
    array[8:10, 2:4, 2:4] = 2.0
    array[11, 11, 11] = 2.0
    options: dict[str, Any] = {"card": {**NONE, "classes": ["background", "organ", "lesion"]}}
    plain = mask_of(Predictor(networks["threshold"](), **options).predict(scan(array=array)))
    network = networks["threshold"]()
    cleaned = Predictor(network, largest_component=True, fill_holes=["organ"], **options).predict(scan(array=array))
    mask = mask_of(cleaned)
    assert (plain[4, 4, 4], plain[9, 9, 9], plain[11, 11, 11]) == (0, 1, 2)
    assert (mask[4, 4, 4], mask[9, 9, 9], mask[11, 11, 11]) == (1, 0, 0)
    assert cleaned.volumes_ml["organ"] == pytest.approx(125 * 0.003)
    lesions = mask_of(Predictor(network, classes=["lesion"], **options).predict(scan(array=array)))
    assert set(np.unique(lesions)) == {0, 2}


def test_a11_an_unknown_class_lists_those_there_are(networks: Any) -> None:
    card = {"classes": ["background", "organ", "lesion"]}
    for option in ("classes", "largest_component", "fill_holes"):
        with pytest.raises(UsageError, match=f"{option}: 'liver' is no class of the model. Its classes are organ, les"):
            Predictor(networks["threshold"](), card=card, **{option: ["liver"]})


def test_cleaning_agrees_with_a_plain_way_over_random_masks() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        labels = random.integers(0, 4, (9, 8, 7)).astype(np.uint8) * (random.random((9, 8, 7)) < 0.6)
        kept, filled, chosen = (copy.copy(labels) for _ in range(3))
        keep_largest(kept, (1, 3))
        fill_holes(filled, (2,))
        keep_classes(chosen, (1, 3))
        for number in (1, 3):
            parts, count = ndimage.label(labels == number, np.ones((3, 3, 3)))
            sizes = [(parts == part).sum() for part in range(1, count + 1)]
            assert (kept == number).sum() == max(sizes)
        assert np.array_equal(kept == 2, labels == 2)
        holes = ndimage.binary_fill_holes(labels == 2) & (labels == 0)
        assert np.array_equal(filled, np.where(holes, 2, labels))
        assert np.array_equal(chosen, np.where(labels == 2, 0, labels))


def test_odd_members_and_options_are_refused(networks: Any, pair: Any, tmp_path: Path) -> None:
    model = mt.create_model("resunet10", num_classes=2, base_channels=4, stem_channels=4)
    mt.save(model, tmp_path / "model", NONE)
    with pytest.raises(UsageError, match="is given twice for one ensemble"):
        Predictor([tmp_path / "model", tmp_path / "." / "model"])
    with pytest.raises(UsageError, match="an empty list of models"):
        Predictor([])
    with pytest.raises(UsageError, match="change masks, the model is made for classification"):
        Predictor(networks["mean"](), fill_holes=True)


def test_one_number_is_a_window_of_three_equal_sizes(networks: Any, scan: Any) -> None:
    found = [Predictor(networks["threshold"](), device="cpu", tile=tile).predict(scan()) for tile in (4, (4, 4, 4))]
    assert found[0].details["window"] == found[1].details["window"]


def test_kept_logits_give_probabilities_that_are_off_by_less_than_a_thousandth() -> None:
    logits = 40 + 8 * torch.randn(5, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    kept = assemble.shortened(logits)
    assert kept.dtype == torch.float16
    assert float((kept.float().softmax(0) - logits.softmax(0)).abs().max()) < 5e-4
