"""What is measured of a dataset: from its training cases alone, by plain numpy once more, the same at every run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.data import dataset as module
from medtransfer.data import fingerprint, preparation
from medtransfer.data.cases import Layout
from medtransfer.data.dataset import CaseDataset, DecathlonDataset, ScanDataset
from medtransfer.data.fingerprint import Collector, median_spacing
from medtransfer.data.preprocessing import Preprocessing, read_plan, read_preprocessing
from medtransfer.errors import ConfigError, DatasetError, VolumeError
from medtransfer.intensity import Intensity
from medtransfer.volumes.intensity import normalise
from medtransfer.volumes.ranges import range_warnings
from medtransfer.volumes.read import read_volume

SHAPE = (9, 8, 7)
SPACINGS = [1.0, 2.0, 2.0, 4.0, 9.0]
VAL = {"val": ["c4"], "train": ["c0", "c1", "c2", "c3"]}
CT = {"intensity": {"scheme": "ct"}}


def intensities(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A CT of which the last case, which validates, is far off all others."""
    rng = np.random.default_rng(number)
    label = (rng.random(SHAPE) < 0.3).astype(np.uint8)
    image = rng.normal(-600, 300, SHAPE) + label * 650.0 + (50_000 if number == 4 else 0)
    return image.astype(np.float32).round(), label


def write(root: Path, channels: tuple[str, ...] = ("CT",)) -> Path:
    entries = []
    for number, third in enumerate(SPACINGS):
        image, label = intensities(number)
        stacked = np.stack([image, *(np.abs(image) * (image > -500) for _ in channels[1:])], axis=-1)
        entry = {"image": f"imagesTr/c{number}.nii", "label": f"labelsTr/c{number}.nii"}
        arrays = (stacked[..., 0] if len(channels) == 1 else stacked, label)
        for name, array in zip(entry.values(), arrays, strict=True):
            (root / name).parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.5, third, 1.0])), root / name)
        entries.append(entry)
    modality = {str(number): name for number, name in enumerate(channels)}
    listing = {"modality": modality, "labels": {"0": "background", "1": "a"}, "numTraining": 5, "training": entries}
    (root / "dataset.json").write_text(json.dumps(listing))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ct_mr"), ("CT", "MR"))


def dataset(root: Path, preprocessing: Any, part: Any = "train", **arguments: Any) -> CaseDataset:
    return DecathlonDataset(root, part=part, split=VAL, preprocessing=preprocessing, **arguments)


def labelled() -> np.ndarray:
    pairs = [intensities(number) for number in range(4)]
    return np.concatenate([image[label > 0] for image, label in pairs]).astype(np.float64)


def test_i32_ct_is_measured_over_the_labelled_voxels_of_the_training_cases_alone(root: Path) -> None:
    found = dataset(root, CT).preprocessing.intensity
    voxels = labelled()
    low, high = np.percentile(voxels, [0.5, 99.5])
    expected = [float(f"{number:.6g}") for number in (low, high, voxels.mean(), voxels.std())]
    assert isinstance(found, Intensity)
    assert [found.low, found.high, found.mean, found.std] == expected
    assert high < 10_000  # the validation case plays no part


def test_i32_the_raw_ranges_are_measured_whatever_the_scheme(root: Path) -> None:
    whole = [intensities(number)[0].ravel().astype(np.float64) for number in range(4)]
    ends = np.array([np.percentile(one, [0.5, 99.5]) for one in whole])
    for preprocessing in (None, {"intensity": {"scheme": "none"}}, CT):
        for cache in (True, False):
            (found,) = dataset(root, preprocessing, cache=cache).intensity_ranges
            low, high = np.percentile(np.concatenate(whole), [0.5, 99.5])
            assert [found.low, found.high] == pytest.approx([low, high], rel=1e-5)
            assert found.mean == pytest.approx(np.concatenate(whole).mean(), rel=1e-5)
            assert found.std == pytest.approx(np.concatenate(whole).std(), rel=1e-5)
            assert found.lows == pytest.approx((ends[:, 0].min(), ends[:, 0].max()), rel=1e-5)
            assert found.highs == pytest.approx((ends[:, 1].min(), ends[:, 1].max()), rel=1e-5)


def test_both_parts_have_the_same_numbers_kept_in_memory_or_not(root: Path) -> None:
    wanted = {"spacing": "median", "intensity": "auto"}
    numbers = {
        (part, cache): dataset(root, wanted, part=part, cache=cache).preprocessing
        for part in ("train", "val")
        for cache in (True, False)
    }
    assert len({str(one) for one in numbers.values()}) == 1
    again = read_preprocessing(numbers["train", True])
    samples = [dataset(root, given, cache=cache)[2] for given in (wanted, again) for cache in (True, False)]
    for sample in samples[1:]:
        np.testing.assert_array_equal(sample["image"].numpy(), samples[0]["image"].numpy())
        np.testing.assert_array_equal(sample["label"].numpy(), samples[0]["label"].numpy())
    assert samples[0]["image"].dtype.is_floating_point


@pytest.mark.parametrize("wanted", [None, CT, {"spacing": "median", "intensity": "auto"}], ids=["none", "ct", "all"])
def test_no_scan_is_read_twice_to_be_measured(root: Path, wanted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(source: Any, **arguments: Any) -> Any:
        read.append(source)
        return original(source, **arguments)

    original = preparation.read_volume
    for place in (preparation, fingerprint):
        monkeypatch.setattr(place, "read_volume", counted)
    data = dataset(root, wanted)
    assert data.preprocessing.intensity
    assert data.intensity_ranges
    assert len(read) == len(set(read)) == 4


def test_the_median_spacing_is_that_of_the_training_cases_along_the_working_axes(root: Path) -> None:
    assert dataset(root, {"spacing": "median"}).preprocessing.spacing == (1.0, 1.5, 2.0)
    turned = dataset(root, {"spacing": "median", "orientation": "SAL"})
    assert turned.preprocessing.spacing == (2.0, 1.5, 1.0)
    assert turned[0]["image"].shape == (1, 4, 8, 9)  # 7 slices of 1 mm become 4 of 2 mm


@pytest.mark.parametrize(
    ("spacings", "expected"),
    [
        ([(1, 1, 3)] * 3, (1, 1, 3)),
        ([(1, 1, 3)] * 5 + [(1, 1, 5)] * 6, (1, 1, 3)),
        ([(0.7, 0.8, 5)] * 10 + [(0.7, 0.8, 0.5)] * 4, (0.7, 0.8, 0.8)),
        ([(5, 1, 1)] * 9 + [(2, 1, 1)], (4.7, 1, 1)),
        ([(1, 1, 0.2)] * 3, (1, 1, 0.2)),
    ],
    ids=["not thick enough", "10th percentile", "no finer than the others", "along the first axis", "fine"],
)
def test_thick_slices_take_the_10th_percentile(spacings: Any, expected: tuple[float, ...]) -> None:
    assert median_spacing(spacings) == pytest.approx(expected)


def test_i30_each_channel_is_measured_by_itself_and_auto_goes_by_its_name(two: Path) -> None:
    data = dataset(two, {"intensity": "auto"})
    assert isinstance(data.preprocessing.intensity, list)
    first, second = data.preprocessing.intensity
    assert (first.scheme, second) == ("ct", Intensity("zscore", nonzero=True))
    assert first == dataset(two, {"intensity": ["auto", {"scheme": "none"}]}).preprocessing.intensity[0]  # type: ignore[index]
    assert [found.lows[0] < 0 for found in data.intensity_ranges] == [True, False]
    image = data[0]["image"].numpy()
    raw = np.stack([intensities(0)[0], np.abs(intensities(0)[0]) * (intensities(0)[0] > -500)])[:, ::-1]
    expected = (np.clip(raw[0], first.low, first.high) - first.mean) / first.std
    np.testing.assert_allclose(image[0], expected, atol=1e-5)
    assert (image[1][raw[1] == 0] == 0).all()


def test_i30_a_list_of_schemes_is_one_a_channel(two: Path) -> None:
    with pytest.raises(ConfigError, match=r"a list of 3, the dataset has 2 channels\. Give one scheme .* CT, MR"):
        dataset(two, {"intensity": ["auto"] * 3})


def test_scans_without_labels_are_measured_over_all_voxels(root: Path) -> None:
    data = ScanDataset(root / "imagesTr", channels=["CT"], split=VAL, preprocessing=CT, patch_size=[4, 4, 4])
    (seen,) = data.intensity_ranges
    assert data.preprocessing.intensity == Intensity("ct", low=seen.low, high=seen.high, mean=seen.mean, std=seen.std)


def test_voxels_of_no_class_are_not_foreground() -> None:
    layout = Layout(Path(), "segmentation", (), ("CT",), ("background", "a"), ignore=255)
    image = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4)
    labels = np.where(image[0] > 50, 255, image[0] > 30).astype(np.int32)
    collector = Collector(layout, 1)
    collector.add_arrays(image, labels)
    assert 31 <= collector.fingerprint().foreground[0].low < collector.fingerprint().foreground[0].high <= 50


def test_large_datasets_are_measured_by_a_sample_of_bounded_size() -> None:
    layout = Layout(Path(), "restoration", (), ("CT",), ("CT",))
    assert Collector(layout, 40).count == 10_000
    assert Collector(layout, 1000).count == 4_000
    assert Collector(layout, 10**6).count == 500
    rng = np.random.default_rng(0)
    collector = Collector(layout, 1)
    collector.add_arrays(rng.normal(100, 20, (1, 64, 64, 32)).astype(np.float32), None)
    (found,) = collector.fingerprint().ranges
    assert [found.mean, found.std] == pytest.approx([100, 20], rel=0.02)
    assert [found.low, found.high] == pytest.approx([100 - 51.5, 100 + 51.5], rel=0.05)


def test_a_training_set_that_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    for number, third in enumerate(SPACINGS):
        flat = nib.Nifti1Image(np.full(SHAPE, 7, np.float32), np.diag([-1.0, 1.5, third, 1]))
        nib.save(flat, tmp_path / f"imagesTr/c{number}.nii")
    with pytest.raises(DatasetError, match="channel CT does not vary in the labelled voxels of the training cases"):
        dataset(tmp_path, CT)


def test_damaged_scans_are_named_whatever_is_measured(tmp_path: Path) -> None:
    write(tmp_path)
    for number in (0, 2):
        (tmp_path / f"imagesTr/c{number}.nii").write_bytes(b"text")
    with pytest.raises(DatasetError, match=r"2 of 4 cases: .*c0.*c2"):
        dataset(tmp_path, {"spacing": "median", **CT})
    with pytest.raises(VolumeError, match="c0"):
        dataset(tmp_path, CT, cache=False).preprocessing  # noqa: B018


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"spacing": "mean"}, "spacing"),
        ({"intensity": "ct"}, "intensity"),
        ({"intensity": []}, "intensity"),
        ({"intensity": {"scheme": "ct", "low": 0, "high": 1}}, "`mean` and a `std`"),
        ({"intensity": [{"scheme": "clip"}]}, "finite `low` < `high`"),
        ({"orientation": "RAX"}, "48 codes"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_read(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"preprocessing: .*{said}"):
        read_plan(wrong)


def test_what_is_not_measured_yet_is_no_preprocessing() -> None:
    with pytest.raises(ConfigError, match="left to be measured from training cases"):
        read_preprocessing({"intensity": "auto"})
    assert read_preprocessing({"intensity": {"scheme": "none"}}) == Preprocessing(intensity=Intensity("none"))
    assert module.Measured is fingerprint.Measured


def measured(scans: list[np.ndarray], name: str) -> Any:
    collector = Collector(Layout(Path(), "restoration", (), (name,), (name,)), len(scans))
    for scan in scans:
        collector.add_arrays(scan, None)
    return collector.fingerprint().ranges


def test_i32_real_mr_gives_no_alarm_until_it_is_normalised_twice(hippocampus: Path) -> None:
    files = sorted((hippocampus / "imagesTr").glob("hippocampus*.nii.gz"))[:60]
    scans = [read_volume(file).array for file in files]
    assert max(scan.max() for scan in scans) > 1000 * min(scan.max() for scan in scans)
    ranges = measured(scans[::4], "MRI")
    others = [scan for number, scan in enumerate(scans) if number % 4]
    for scheme in ({"scheme": "zscore"}, {"scheme": "percentile"}):
        assert [range_warnings(scan, ranges, ["MRI"], scheme) for scan in others] == [[]] * len(others)
        for again in (normalise(scan, done)[0] for scan in others for done in ({"scheme": "zscore"}, scheme)):
            assert "normalised already" in range_warnings(again, ranges, ["MRI"], scheme)[0]


def test_i32_real_ct_gives_no_alarm_for_another_part_of_the_body_but_for_mr(hippocampus: Path) -> None:
    data = hippocampus.parent
    abdomen = read_volume(data / "ct_abdomen/image.nii.gz").array
    spine, mr = (read_volume(data / f"spine/sub-{name}.nii.gz").array for name in ("ct_label-22_ct", "mri_label-6_T2w"))
    scheme = {"scheme": "ct", "low": -160.0, "high": 240.0, "mean": 50.0, "std": 60.0}
    for trained, other in ((abdomen, spine), (spine, abdomen)):
        ranges = measured([trained], "CT")
        assert range_warnings(other, ranges, ["CT"], scheme) == []
        for foreign in (mr, other / 1000, other + 1300):
            assert "Hounsfield units?" in range_warnings(foreign, ranges, ["CT"], scheme)[0]
