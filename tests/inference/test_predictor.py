"""A scan in, a result on its own grid out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.checkpoint.card import ModelCard
from medtransfer.devices import choose_device, choose_precision
from medtransfer.errors import ModelError, OutputExistsError, ResourceError, UsageError, VolumeError
from medtransfer.inference import planning
from medtransfer.inference.engine import Engine
from medtransfer.inference.predictor import Predictor
from medtransfer.volumes.read import read_volume

NONE = {"intensity": {"scheme": "none"}}


def expected_mask(path: Path) -> np.ndarray:
    values = nib.load(path).get_fdata()
    return (values > 0).astype(int) + (values > 1)


@pytest.mark.parametrize("tile", ["auto", "whole", (4, 4, 4)])
@pytest.mark.parametrize("orientation", ["RAS", "PIR", "LPS"])
def test_a_mask_lies_on_the_inputs_own_grid(networks: Any, scan: Any, tile: Any, orientation: str) -> None:
    path = scan()
    result = Predictor(networks["threshold"](), tile=tile, card={**NONE, "orientation": orientation}).predict(path)
    np.testing.assert_array_equal(np.asanyarray(result.labels.dataobj), expected_mask(path))
    np.testing.assert_array_equal(result.labels.affine, nib.load(path).affine)
    assert result.labels.get_data_dtype() == np.uint8
    assert result.case == "case"
    assert result.volumes_ml["class_2"] == pytest.approx((expected_mask(path) == 2).sum() * 0.003)
    probabilities = result.probabilities
    assert probabilities.shape == (3, 9, 8, 7)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(0), expected_mask(path))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (12, 9, 1), (200, 3, 3)])
@pytest.mark.parametrize("tile", ["auto", (32, 32, 32)])
def test_i24_volumes_smaller_than_the_network_keep_their_shape(networks: Any, scan: Any, shape: Any, tile: Any) -> None:
    path = scan(shape=shape)
    result = Predictor(networks["threshold"](stride=16), tile=tile, card=NONE).predict(path)
    np.testing.assert_array_equal(np.asanyarray(result.labels.dataobj), expected_mask(path))


def test_spacing_of_the_card_is_used_and_undone(networks: Any, scan: Any) -> None:
    ramp = np.linspace(-3, 3, 24)[:, None, None] * np.ones((24, 10, 12))
    path = scan(array=ramp)
    result = Predictor(networks["threshold"](), card={**NONE, "spacing": [2.0, 1.0, 3.0]}).predict(path)
    assert result.prepared.grid.spacing == pytest.approx((2, 1, 3))
    assert (np.asanyarray(result.labels.dataobj) != expected_mask(path)).mean() < 0.02
    np.testing.assert_array_equal(result.labels.affine, nib.load(path).affine)


def test_i30_the_wrong_number_of_channels_names_the_models(networks: Any, scan: Any) -> None:
    names = ["T1", "T1c", "T2", "FLAIR"]
    predictor = Predictor(networks["threshold"](in_channels=4), card={**NONE, "input_channels": names})
    with pytest.raises(VolumeError, match=r"model needs 4 channels \(T1, T1c, T2, FLAIR\), got 1"):
        predictor.predict(scan())
    result = predictor.predict([scan(f"case_000{index}.nii") for index in range(4)])
    assert result.case == "case"
    assert "the same" not in str(result.warnings)


def test_i15_a_constant_scan_is_a_warning_and_still_a_result(networks: Any, scan: Any) -> None:
    result = Predictor(networks["threshold"]()).predict(scan(array=np.full((5, 5, 5), 80.0)))
    assert "constant" in result.warnings[0]
    assert result.labels.shape == (5, 5, 5)


def test_i32_intensities_unlike_those_of_training_are_warned_of(networks: Any, scan: Any) -> None:
    ranges = [{"low": -1000.0, "high": 800.0, "mean": -200.0, "std": 400.0, "lows": [-1024.0, -1000.0],
               "highs": [700.0, 900.0]}]  # fmt: skip
    card = {"intensity": {"scheme": "clip", "low": -1000.0, "high": 800.0}, "input_channels": ["CT"]}
    predictor = Predictor(networks["threshold"](), card={**card, "intensity_ranges": ranges})
    hounsfield = np.random.default_rng(0).uniform(-1000, 800, (12, 12, 12))
    assert predictor.predict(scan(array=hounsfield)).warnings == []
    (warning,) = predictor.predict(scan(array=(hounsfield + 1000) / 1800)).warnings
    assert "CT: intensities 0." in warning
    assert "the training scans had -1000 to 800: are these Hounsfield units?" in warning


def test_i14_nan_voxels_are_refused_unless_a_value_is_given(networks: Any, scan: Any) -> None:
    array = np.ones((4, 4, 4))
    array[0, 0, 0] = np.nan
    predictor = Predictor(networks["threshold"](), card=NONE)
    with pytest.raises(VolumeError, match="1 of 64 voxels are NaN"):
        predictor.predict(scan(array=array))
    assert predictor.predict(scan(array=array), nan=-1).labels.get_fdata()[0, 0, 0] == 0


def test_a_classifier_gives_probabilities_by_class(networks: Any, scan: Any, tmp_path: Path) -> None:
    card = {**NONE, "classes": ["healthy", "ill"]}
    result = Predictor(networks["mean"](), card=card).predict(scan(array=np.full((4, 4, 4), 2.0)))
    share = 1 / (1 + np.exp(-4.0))
    assert result.probabilities == pytest.approx({"healthy": 1 - share, "ill": share})
    with pytest.raises(ModelError, match="classifies scans"):
        _ = result.labels
    assert result.save(tmp_path / "out") == [tmp_path / "out" / "case.json"]
    found = json.loads((tmp_path / "out" / "case.json").read_text())
    assert (found["class"], found["probabilities"]["ill"]) == ("ill", pytest.approx(share))
    assert result.volumes_ml == {}


def test_what_is_saved_is_what_was_found(networks: Any, scan: Any, tmp_path: Path) -> None:
    path = scan()
    result = Predictor(networks["threshold"](), card=NONE).predict(path)
    mask, record = result.save(tmp_path / "out")
    np.testing.assert_array_equal(np.asanyarray(nib.load(mask).dataobj), expected_mask(path))
    np.testing.assert_array_equal(nib.load(mask).affine, nib.load(path).affine)
    found = json.loads(record.read_text())
    assert found["volumes_ml"] == pytest.approx(result.volumes_ml)
    assert (found["case"], found["inputs"], found["task"]) == ("case", [str(path)], "segmentation")


def test_a03_a04_a05_outputs_are_checked_before_anything_is_written(networks: Any, scan: Any, tmp_path: Path) -> None:
    result = Predictor(networks["threshold"](), card=NONE).predict(scan())
    before = (tmp_path / "case.nii.gz").read_bytes()
    with pytest.raises(UsageError, match="would overwrite the scan itself"):
        result.save(tmp_path, overwrite=True)
    assert (tmp_path / "case.nii.gz").read_bytes() == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case.json").write_text("old")
    with pytest.raises(OutputExistsError):
        result.save(tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["case.json"]
    assert len(result.save(tmp_path / "out", overwrite=True)) == 2
    with pytest.raises(UsageError, match="is a file"):
        result.save(tmp_path / "out" / "case.json")


def test_e01_a_full_disk_leaves_what_was_there(
    networks: Any, scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Predictor(networks["threshold"](), card=NONE).predict(scan())
    result.save(tmp_path / "out")
    before = {entry.name: entry.read_bytes() for entry in (tmp_path / "out").iterdir()}

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match="No space left"):
        result.save(tmp_path / "out", overwrite=True)
    assert {entry.name: entry.read_bytes() for entry in (tmp_path / "out").iterdir()} == before


def test_instance_norms_keep_the_window_of_training(networks: Any, scan: Any) -> None:
    def windows(norm: Any, **options: Any) -> list[int]:
        card = {"patch_size": [8, 8, 8]}
        return (
            Predictor(networks["convolutions"](norm), precision="float32", card=card, **options)
            .predict(scan(shape=(20, 9, 9)))
            .details["window"]
        )

    assert windows(nn.BatchNorm3d) == [20, 9, 9]
    assert windows(nn.InstanceNorm3d) == [8, 8, 8]
    assert windows(nn.InstanceNorm3d, tile="whole") == [20, 9, 9]
    # without room for one pass there are tiles with a halo, and without room for the smallest window it is said
    assert windows(nn.BatchNorm3d, memory=8e-5) == [8, 9, 9]
    with pytest.raises(ResourceError, match="one window of 8x8x8 voxels needs about"):
        windows(nn.BatchNorm3d, memory=1e-6)


def test_windows_and_one_pass_agree_away_from_their_edges(networks: Any, scan: Any) -> None:
    torch.manual_seed(0)
    network, path = networks["convolutions"](nn.BatchNorm3d), scan(shape=(24, 20, 18))
    whole, tiled = (Predictor(network, tile=tile, card=NONE).predict(path).logits for tile in ("whole", (16, 16, 16)))
    assert (whole - tiled).abs().mean() < 0.1 * whole.std()


@pytest.mark.parametrize("precision", ["bfloat16", "bf16", "float16"])
def test_shorter_numbers_come_near_and_overflow_is_mended_and_said(networks: Any, scan: Any, precision: str) -> None:
    torch.manual_seed(0)
    network = networks["convolutions"](nn.BatchNorm3d)
    short, exact = (Predictor(network, precision=name).predict(scan()) for name in (precision, "float32"))
    torch.testing.assert_close(short.logits, exact.logits, atol=0.05, rtol=0.05)
    assert short.logits.dtype == torch.float32
    if precision == "float16":
        network.body[0].weight.data *= 1e6
        large = Predictor(network, precision=precision).predict(scan())
        assert "float16 overflowed: computed in float32" in large.warnings
        assert torch.isfinite(large.logits).all()


def two_balls(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan of a large ball and a small one, z-scored, and its labels."""
    places = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), axis=-1)
    labels = np.zeros((24, 24, 24), int)
    for number, radius in ((1, 6), (2, 4)):
        labels[np.linalg.norm(places - random.uniform(6, 17, 3), axis=-1) < radius] = number
    array = 2 * labels + random.normal(size=labels.shape) * 0.3
    return ((array - array.mean()) / array.std()).astype(np.float32), labels


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A segmenter after 60 steps, whose logits have margins; one voxel of its small ball is 0.002 of Dice."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = mt.create_model("resunet10", num_classes=3, base_channels=8, stem_channels=8, deep_stem=True, pool="none")
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        image, labels = map(torch.from_numpy, two_balls(random))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(image[None, None]), labels[None]).backward()
        optimizer.step()
    return network


DEVICES = ["cpu", pytest.param("cuda", marks=[
    pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
])]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.999), ("float16", 0.996), ("bfloat16", 0.97)])
def test_e22_devices_and_precisions_agree(trained: nn.Module, device: str, precision: str, least: float) -> None:
    scan, labels = two_balls(np.random.default_rng(1))
    image = nib.Nifti1Image(scan, np.eye(4))
    exact, found = (
        np.asanyarray(Predictor(trained, *options).predict(image).labels.dataobj)
        for options in (("cpu", "float32"), (device, precision))
    )
    for number in (1, 2):
        assert dice(found == number, exact == number) > least
        assert dice(exact == number, labels == number) > 0.5


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_thin_scans_in_bfloat16_come_near_float32(scan: Any) -> None:
    # a strided convolution over a last axis of 2 is 120 % off on CPUs with AMX, unless it is guarded
    torch.manual_seed(0)
    network = mt.create_model("resunet10", deep_stem=True, base_channels=8, stem_channels=8)
    path = scan(shape=(33, 33, 2))
    short, exact = (Engine(network, torch.device("cpu"), dtype) for dtype in (torch.bfloat16, torch.float32))
    image = torch.randn(1, 1, 33, 33, 2)
    assert (short(image) - exact(image)).norm() < 0.05 * exact(image).norm()
    assert Predictor(network, precision="bfloat16").predict(path).labels.shape == (33, 33, 2)


def test_a_network_that_gives_nan_is_refused(networks: Any, scan: Any) -> None:
    network = networks["convolutions"](nn.BatchNorm3d)
    network.body[0].weight.data[:] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite logits"):
        Predictor(network).predict(scan())


@pytest.mark.parametrize("name", ["cuda:97", "mps" if not torch.backends.mps.is_available() else "cuda:98"])
def test_a08_a_device_that_is_not_there_is_refused_with_those_that_are(networks: Any, name: str) -> None:
    with pytest.raises(ResourceError, match=r"there is no device .*This machine has: cpu"):
        Predictor(networks["threshold"](), device=name)
    with pytest.raises(UsageError, match="device must be"):
        Predictor(networks["threshold"](), device="gpu")
    assert choose_device("auto").type in ("cpu", "cuda")


def test_options_that_cannot_be_are_refused(networks: Any) -> None:
    network = networks["threshold"]()
    for option in ({"tile": "big"}, {"tile": (4, 4)}, {"overlap": 1.0}, {"memory": 0}, {"memory": "lots"}):
        with pytest.raises(UsageError):
            Predictor(network, **option)
    with pytest.raises(UsageError, match="precision must be"):
        Predictor(network, precision="int8")
    assert choose_precision("auto", torch.device("cuda")) == torch.float16


def test_a_card_that_is_not_the_networks_is_refused(networks: Any) -> None:
    for card in ({"classes": ["a", "b"]}, {"input_channels": ["a", "b"]}, {"orientation": "up"}, {"nonsense": 1}):
        with pytest.raises(UsageError, match="the card"):
            Predictor(networks["threshold"](), card=card)
    with pytest.raises(ModelError, match="has no task, num_classes"):
        Predictor(nn.Conv3d(1, 2, 3))
    flat = networks["threshold"]()
    flat.ndim = 2
    with pytest.raises(ModelError, match="2-D network"):
        Predictor(flat)


@pytest.mark.parametrize("name", ["resunet10", "resnet10"])
def test_a_model_folder_prepares_scans_as_its_card_says(name: str, scan: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mt.create_model(name, num_classes=3, base_channels=4, stem_channels=4)
    fields = {"spacing": [1.0, 1.0, 1.0], "intensity": {"scheme": "clip", "low": -1.0, "high": 1.0}}
    mt.save(model, tmp_path / "model", fields)
    path = scan()
    by_folder = Predictor(tmp_path / "model", device="cpu").predict(path)
    by_module = Predictor(model, device="cpu", card=fields).predict(nib.load(path))
    assert isinstance(by_folder.card, ModelCard)
    assert by_folder.prepared.grid.spacing == pytest.approx((1, 1, 1), rel=0.05)
    assert by_folder.prepared.array.min() == 0
    assert torch.equal(by_folder.logits, by_module.logits)
    with pytest.raises(UsageError, match="inside the model folder"):
        by_folder.save(tmp_path / "model" / "out")
    assert by_folder.to_dict()["model"]["sha256"] == by_folder.card.sha256 != ""


def test_the_scan_itself_is_not_changed(networks: Any, scan: Any) -> None:
    image = nib.load(scan())
    before = read_volume(image).array.copy()
    Predictor(networks["threshold"]()).predict(image)
    np.testing.assert_array_equal(read_volume(image).array, before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("tile", ["auto", (8, 8, 8)])
def test_cuda_gives_what_the_cpu_gives(networks: Any, scan: Any, tile: Any) -> None:
    torch.manual_seed(0)
    network, path = networks["convolutions"](nn.BatchNorm3d), scan(shape=(20, 18, 16))
    exact = Predictor(network, device="cpu", tile=tile).predict(path)
    same, short = (Predictor(network, "cuda", precision, tile).predict(path) for precision in ("float32", "auto"))
    torch.testing.assert_close(same.logits, exact.logits, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(short.logits, exact.logits, atol=5e-2, rtol=5e-2)
    assert short.details["precision"] == "float16"


def _out_of_memory_above(predictor: Predictor, voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every pass over more voxels run out of memory, as CUDA says it."""
    forward = predictor.engine.network.forward

    def limited(image: torch.Tensor) -> Any:
        if image[0, 0].numel() > voxels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(image)

    monkeypatch.setattr(predictor.engine.network, "forward", limited)


def _no_memory(*_: Any) -> None:
    raise MemoryError


def test_e07_one_pass_that_runs_out_of_memory_is_done_in_windows_and_said(
    networks: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, network = {"patch_size": [32, 32, 32]}, networks["convolutions"](nn.BatchNorm3d)
    image = scan(shape=(70, 40, 36))
    windows = Predictor(network, "cpu", "float32", tile=(32, 32, 32), overlap=0.5, card=card).predict(image)
    predictor = Predictor(network, "cpu", "float32", card=card)
    _out_of_memory_above(predictor, 32**3, monkeypatch)
    monkeypatch.setattr(planning, "measure_halo", _no_memory)
    result = predictor.predict(image)
    assert np.array_equal(np.asarray(result.labels.dataobj), np.asarray(windows.labels.dataobj))
    assert "run in windows of 32x32x32 voxels" in result.warnings[-1]
    assert result.details["window"] == [32, 32, 32]


def test_e07_one_pass_that_runs_out_of_memory_is_done_in_tiles(
    networks: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, image = networks["convolutions"](nn.BatchNorm3d), scan(shape=(70, 40, 36))
    whole = Predictor(network, "cpu", "float32", card=NONE).predict(image)
    predictor = Predictor(network, "cpu", "float32", card=NONE)
    _out_of_memory_above(predictor, 40_000, monkeypatch)
    result = predictor.predict(image)
    assert result.details["halo"] == [2, 2, 2]
    torch.testing.assert_close(result.logits, whole.logits, atol=1e-4, rtol=1e-3)
    assert "no memory for one pass over 70x40x36 voxels" in result.warnings[-1]


def test_e07_windows_that_run_out_of_memory_too_end_with_the_estimate(
    networks: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = networks["convolutions"](nn.BatchNorm3d)
    predictor = Predictor(network, "cpu", "float32", card={"patch_size": [32, 32, 32]})
    _out_of_memory_above(predictor, 1000, monkeypatch)
    with pytest.raises(ResourceError, match=r"one pass over 32x32x32 voxels on cpu \(about .*B\)") as caught:
        predictor.predict(scan(shape=(70, 40, 36)))
    assert caught.value.exit_code == 6
