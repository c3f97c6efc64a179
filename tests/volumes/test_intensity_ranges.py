"""Scans that are not of the kind that a network was trained on are told; those that are give no alarm."""

from __future__ import annotations

from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.intensity import IntensityRange
from medtransfer.volumes.prepare import prepare
from medtransfer.volumes.ranges import SAMPLES, look, range_warnings, sample_channel
from medtransfer.volumes.read import read_volume

HU = IntensityRange(-1012.0, 834.0, -156.0, 406.0, lows=(-1023.0, -231.0), highs=(435.0, 1018.0))
MR = IntensityRange(10.0, 488_000.0, 106_000.0, 157_000.0, lows=(6.0, 16_000.0), highs=(100.0, 531_000.0))
PET = IntensityRange(0.0, 9.0, 0.8, 1.4, lows=(0.0, 0.0), highs=(5.0, 14.0))
CT = {"scheme": "ct", "low": -160.0, "high": 240.0, "mean": 50.0, "std": 60.0}
ZSCORE = {"scheme": "zscore"}


def body(seed: int = 0) -> np.ndarray:
    """A torso in Hounsfield units: air around it, fat, organs, some bone; (1, 24, 24, 24)."""
    rng = np.random.default_rng(seed)
    ranges = [-1000, -100, 40, 500]
    kinds = rng.choice(4, p=[0.4, 0.2, 0.35, 0.05], size=(24, 24, 24))
    return (np.array(ranges)[kinds] + rng.normal(0, 20, kinds.shape))[None].astype(np.float32)


def tissue(scale: float, seed: int = 0) -> np.ndarray:
    """A T1-weighted crop in whatever unit; (1, 20, 20, 20), with background."""
    rng = np.random.default_rng(seed)
    array = rng.gamma(3.0, 0.1, (1, 20, 20, 20)) * scale
    array[:, :3] = rng.uniform(0, 0.02, (1, 3, 20, 20)) * scale
    return array.astype(np.float32)


FOREIGN: list[tuple[str, np.ndarray, str]] = [
    ("0 to 1", (body() + 1100) / 1800, "are these Hounsfield units?"),
    ("8 bits", np.clip((body() + 160) / 400 * 255, 0, 255).round(), "are these Hounsfield units?"),
    ("without the offset", np.maximum(body() + 1024, 0), "are these Hounsfield units?"),
    ("thousandths", body() / 1000, "are these Hounsfield units?"),
    ("ten times", body() * 10, "are these Hounsfield units?"),
    ("an MR", tissue(400), "are these Hounsfield units?"),
    ("z-scored", (body() - body().mean()) / body().std(), "this scan was normalised already"),
    ("normalised by the same scheme", (np.clip(body(), -160, 240) - 50) / 60, "are these Hounsfield units?"),
]


@pytest.mark.parametrize(("array", "said"), [case[1:] for case in FOREIGN], ids=[case[0] for case in FOREIGN])
@pytest.mark.parametrize("scheme", [CT, {"scheme": "clip", "low": -1000.0, "high": 1000.0}], ids=["ct", "clip"])
def test_i32_intensities_out_of_the_training_range_are_a_warning_with_both_ranges(
    array: np.ndarray, said: str, scheme: dict[str, Any]
) -> None:
    (warning,) = range_warnings(array.astype(np.float32), [HU], ["CT"], scheme)
    seen = look(array[0])
    assert warning.startswith(f"CT: intensities {seen.low:.4g} to {seen.high:.4g}, the training scans had -1012 to 834")
    assert said in warning
    assert "\n" not in warning


def test_i32_prepare_warns_by_what_was_read_not_by_what_it_made(tmp_path: Any) -> None:
    volume = read_volume(nib.Nifti1Image(body()[0] / 1000, np.diag([2, 2, 2, 1])))
    ready = prepare(volume, spacing=[3, 3, 3], intensity=CT, ranges=[HU], channels=["CT"])
    assert "CT: intensities -1." in ready.warnings[0]
    assert prepare(volume, intensity=CT).warnings == []


KIND: dict[str, np.ndarray] = {
    "as trained": body(1),
    "soft tissue alone": np.clip(body(2), -150, 400),
    "metal": np.where(body(3) > 480, 3000, body(3)),
    "padding of the scanner": np.where(body(4) < -1000, -3024, body(4)),
    "lungs": np.where(body(5) > 0, -800, body(5)),
}


@pytest.mark.parametrize("name", KIND)
def test_i32_no_alarm_for_ct_of_other_parts_and_scanners(name: str) -> None:
    assert range_warnings(KIND[name].astype(np.float32), [HU], ["CT"], CT) == []


@pytest.mark.parametrize("scale", [20.0, 300.0, 5e4, 4e6])
@pytest.mark.parametrize("scheme", [ZSCORE, {"scheme": "percentile"}], ids=["zscore", "percentile"])
def test_i32_no_alarm_for_mr_in_another_unit_where_the_scheme_makes_it_of_no_account(
    scale: float, scheme: dict[str, Any]
) -> None:
    assert range_warnings(tissue(scale), [MR], ["T1"], scheme) == []


def test_i32_mr_in_another_unit_is_told_where_the_scheme_needs_the_unit() -> None:
    assert range_warnings(tissue(1e4), [MR], ["T1"], {"scheme": "none"}) == []
    assert "is the unit right?" in range_warnings(tissue(1e8), [MR], ["T1"], {"scheme": "none"})[0]


@pytest.mark.parametrize("scheme", [ZSCORE, {"scheme": "percentile"}, {"scheme": "none"}], ids=lambda s: s["scheme"])
def test_i32_a_second_normalisation_is_told(scheme: dict[str, Any]) -> None:
    raw = tissue(1000)
    masked = np.where(raw > 20, (raw - raw[raw > 20].mean()) / raw[raw > 20].std(), 0)
    for done in ((raw - raw.mean()) / raw.std(), masked):
        (warning,) = range_warnings(done.astype(np.float32), [MR], ["T1"], scheme)
        assert warning.endswith("this scan was normalised already (mean 0, deviation 1), give it as it was")
    for done in (raw / raw.max(), raw / raw.max() * 2 - 1):
        (warning,) = range_warnings(done, [MR], ["T1"], scheme)
        assert warning.endswith(("was this scan normalised already?", "is the unit right?"))
        assert "the training scans had 10 to 4.88e+05" in warning


def test_i32_scans_normalised_before_training_are_of_its_kind() -> None:
    standard = IntensityRange(-2.1, 3.9, 0.0, 1.0, lows=(-2.4, -0.9), highs=(2.0, 6.0))
    unit = IntensityRange(0.0, 1.0, 0.3, 0.2, lows=(0.0, 0.05), highs=(0.7, 1.0))
    raw = tissue(1000)
    assert range_warnings((raw - raw.mean()) / raw.std(), [standard], ["T1"], ZSCORE) == []
    assert range_warnings(raw / raw.max(), [unit], ["T1"], {"scheme": "none"}) == []
    assert range_warnings(raw, [unit], ["T1"], {"scheme": "none"}) != []


def test_i32_ct_for_a_model_of_mr_is_told_whatever_the_scheme() -> None:
    assert "T1: intensities -1" in range_warnings(body(), [MR], ["T1"], ZSCORE)[0]


def test_i30_channels_in_another_order_are_recognised() -> None:
    uptake = np.random.default_rng(0).gamma(1.0, 1.0, (1, 24, 24, 24)).astype(np.float32)
    schemes = [CT, ZSCORE]
    assert range_warnings(np.concatenate([body(), uptake]), [HU, PET], ["CT", "PET"], schemes) == []
    (warning,) = range_warnings(np.concatenate([uptake, body()]), [HU, PET], ["CT", "PET"], schemes)
    assert warning.startswith("channels CT and PET look swapped: CT has ")
    assert "(in training -1012 to 834)" in warning


def test_i30_sequences_of_mr_cannot_be_told_apart_and_are_not_guessed_at() -> None:
    for left, right in product((30, 4e5), repeat=2):
        both = np.concatenate([tissue(left), tissue(right, seed=1)])
        assert range_warnings(both, [MR, MR], ["T1", "T2"], ZSCORE) == []


@pytest.mark.parametrize("array", [np.zeros((1, 4, 4, 4)), np.full((1, 4, 4, 4), 7.0), np.zeros((1, 1, 1, 1))])
def test_i15_a_constant_scan_has_its_own_warning_and_no_other(array: np.ndarray) -> None:
    for training, scheme in ((MR, ZSCORE), (HU, CT)):
        assert range_warnings(array.astype(np.float32), [training], None, scheme) == []


def test_a_card_that_knows_no_ranges_warns_of_nothing() -> None:
    assert range_warnings(body(), None, ["CT"]) == []
    assert range_warnings(body(), [HU, HU], ["CT"]) == []


def test_samples_are_spread_over_every_axis_and_always_the_same() -> None:
    places = np.stack(np.meshgrid(*[np.arange(64, dtype=np.float32)] * 3, indexing="ij"))
    for axis, channel in enumerate(places):
        sample = sample_channel(channel)
        assert len(sample) == SAMPLES
        counts = np.bincount(sample.astype(int), minlength=64)
        assert counts.min() > 0.7 * SAMPLES / 64, axis
        np.testing.assert_array_equal(sample, sample_channel(np.asfortranarray(channel)))
    labels = (places[0] > 40).astype(np.uint8)
    assert sample_channel(places[0], labels).min() > 40
    assert len(sample_channel(places[0], labels * 0)) == 0
