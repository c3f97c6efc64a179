"""Intensity schemes against numpy in double precision and against MONAI, each channel by itself, each scan once."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import NormalizeIntensity, ScaleIntensityRange, ScaleIntensityRangePercentiles

from medtransfer.errors import UsageError
from medtransfer.volumes.intensity import normalise
from medtransfer.volumes.prepare import prepare
from medtransfer.volumes.read import read_volume

CT = {"scheme": "ct", "low": -160.0, "high": 240.0, "mean": 52.5, "std": 61.25}
SHAPE = (5, 6, 7)


@pytest.fixture
def scan() -> np.ndarray:
    rng = np.random.default_rng(3)
    array = rng.normal([[40], [900]], [[300], [200]], (2, 210)).astype(np.float32).reshape(2, *SHAPE)
    array[1][rng.random(SHAPE) < 0.3] = 0
    return array


def in_double(channel: np.ndarray, scheme: dict[str, Any]) -> np.ndarray:
    """The schemes once more, plainly, in float64."""
    x = channel.astype(np.float64)
    kind = scheme["scheme"]
    if kind == "ct":
        return (np.minimum(np.maximum(x, scheme["low"]), scheme["high"]) - scheme["mean"]) / scheme["std"]
    if kind == "clip":
        return (np.clip(x, scheme["low"], scheme["high"]) - scheme["low"]) / (scheme["high"] - scheme["low"])
    if kind == "percentile":
        ordered = np.sort(x.ravel())
        places = [share / 100 * (x.size - 1) for share in (scheme.get("low_percentile", 0.5),
                                                          scheme.get("high_percentile", 99.5))]  # fmt: skip
        low, high = (np.interp(place, np.arange(x.size), ordered) for place in places)
        return (np.clip(x, low, high) - low) / (high - low)
    if kind == "zscore":
        seen = x != 0 if scheme.get("nonzero") else np.ones_like(x, bool)
        return np.where(seen, (x - x[seen].mean()) / x[seen].std(), 0)
    return x


SCHEMES: list[dict[str, Any]] = [
    {"scheme": "none"},
    {"scheme": "zscore"},
    {"scheme": "zscore", "nonzero": True},
    {"scheme": "clip", "low": -100.0, "high": 700.0},
    CT,
    {"scheme": "percentile"},
    {"scheme": "percentile", "low_percentile": 5.0, "high_percentile": 80.0},
]
MONAI: list[Any] = [
    None,
    NormalizeIntensity(channel_wise=True),
    NormalizeIntensity(channel_wise=True, nonzero=True),
    ScaleIntensityRange(-100, 700, 0, 1, clip=True),
    None,
    ScaleIntensityRangePercentiles(0.5, 99.5, 0, 1, clip=True, channel_wise=True),
    ScaleIntensityRangePercentiles(5, 80, 0, 1, clip=True, channel_wise=True),
]
NAMES = ["none", "zscore", "nonzero", "clip", "ct", "percentile", "other percentiles"]


@pytest.mark.parametrize("scheme", SCHEMES, ids=NAMES)
def test_a_scheme_is_what_numpy_gives_in_double_precision(scan: np.ndarray, scheme: dict[str, Any]) -> None:
    before = scan.copy()
    scaled, warnings = normalise(scan, scheme)
    assert (scaled.dtype, warnings) == (np.float32, [])
    for channel, found in zip(scan, scaled, strict=True):
        np.testing.assert_allclose(found, in_double(channel, scheme), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(scan, before)
    assert not np.shares_memory(scan, scaled)


@pytest.mark.parametrize(
    ("scheme", "monai"), [pair for pair in zip(SCHEMES, MONAI, strict=True) if pair[1]], ids=lambda _: ""
)
def test_a_scheme_that_monai_has_too_is_the_same(scan: np.ndarray, scheme: dict[str, Any], monai: Any) -> None:
    np.testing.assert_allclose(normalise(scan, scheme)[0], np.asarray(monai(scan)), rtol=2e-5, atol=2e-5)


def test_sums_are_taken_in_double_precision() -> None:
    # in float32 the mean of so many equal-sized numbers is off by far more than their deviation
    channel = np.full((1, 128, 128, 64), 16_777_000, np.float32)
    channel[:, ::2] += 16
    scaled, _ = normalise(channel, {"scheme": "zscore"})
    assert set(np.unique(scaled)) == {-1.0, 1.0}


def test_i30_each_channel_has_the_scheme_in_its_place(scan: np.ndarray) -> None:
    scaled, _ = normalise(scan, [CT, {"scheme": "percentile"}])
    np.testing.assert_array_equal(scaled[0], normalise(scan[:1], CT)[0][0])
    np.testing.assert_array_equal(scaled[1], normalise(scan[1:], {"scheme": "percentile"})[0][0])
    swapped, _ = normalise(scan[::-1], [CT, {"scheme": "percentile"}])
    assert not np.allclose(swapped[::-1], scaled)
    with pytest.raises(UsageError, match="a list of 3, but there are 2 channels"):
        normalise(scan, [CT, CT, CT])


@pytest.mark.parametrize("scheme", SCHEMES, ids=NAMES)
@pytest.mark.parametrize("value", [0.0, 100.0])
def test_i15_a_constant_volume_is_a_warning_whatever_the_scheme(scheme: dict[str, Any], value: float) -> None:
    scaled, warnings = normalise(np.full((1, *SHAPE), value, np.float32), scheme)
    assert warnings[0] == "channel 0 is constant: nothing can be seen in it"
    assert np.isfinite(scaled).all()
    assert len(np.unique(scaled)) == 1


def test_percentiles_of_hardly_anything_in_much_background_take_the_whole_range() -> None:
    scan = np.zeros((1, 20, 20, 20), np.float32)
    scan[0, 0, 0, :4] = [1, 2, 3, 4]
    assert sorted(np.unique(normalise(scan, {"scheme": "percentile"})[0])) == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("kind", ["clip", "ct"])
def test_i32_a_scan_that_lies_outside_what_the_model_sees_is_a_warning(kind: str) -> None:
    scheme = {**CT, "scheme": kind} if kind == "ct" else {"scheme": "clip", "low": -160.0, "high": 240.0}
    scan = np.linspace(5000, 9000, 210, dtype=np.float32).reshape(1, *SHAPE)
    assert normalise(scan, scheme)[1] == [
        "all intensities lie outside -160 to 240, the model's range: is the unit right?"
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scheme": "minmax"}, "minmax"),
        ({"scheme": "ct"}, "'ct' needs finite `low` < `high`"),
        ({"scheme": "ct", "low": 0.0, "high": 1.0}, "'ct' needs a finite `mean` and a `std`"),
        ({**CT, "std": 0.0}, "`std` above 0, got 52.5 and 0.0"),
        ({"scheme": "zscore", "mean": 1.0}, "`mean`.*belong to the scheme 'ct'"),
        ({"scheme": "clip", "low": 0.0, "high": 1.0, "low_percentile": 1.0}, "belong to the scheme 'percentile'"),
        ({"scheme": "percentile", "low_percentile": 60.0, "high_percentile": 40.0}, "got 60.0 and 40.0"),
        ({"scheme": "percentile", "high_percentile": 101.0}, "high_percentile"),
        ({"scheme": "percentile", "percentile": 1}, "unknown field `percentile`"),
    ],
)
def test_a_scheme_that_cannot_be_says_why(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        normalise(np.ones((1, 3), np.float32), wrong)


def test_what_was_prepared_cannot_be_prepared_again(scan: np.ndarray) -> None:
    volume = read_volume(nib.Nifti1Image(scan[0], np.eye(4)))
    ready = prepare(volume, intensity=CT)
    with pytest.raises(UsageError, match=r"takes a Volume, got Prepared\. Prepare what read_volume gave, once"):
        prepare(ready, intensity=CT)  # type: ignore[arg-type]
    np.testing.assert_array_equal(volume.array[0], scan[0])
    np.testing.assert_array_equal(prepare(volume, intensity=CT).array, ready.array)
