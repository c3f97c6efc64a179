"""Class activation volumes: equal to the logits where they are exact, and at the right place in space."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.adapter.persist import card_of
from medtransfer.errors import ModelError, OutputExistsError, UsageError
from medtransfer.inference.cam import (
    ActivationNetwork,
    activation_method,
    class_activation,
    class_maps,
    write_activation,
)
from medtransfer.inference.engine import Engine
from medtransfer.inference.windows import plan_windows
from medtransfer.model_zoo.names import MODEL_NAMES
from medtransfer.volumes.prepare import Prepared, prepare
from medtransfer.volumes.read import Volume, read_volume

SMALL: dict[str, Any] = {"base_channels": 4, "stem_channels": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": SMALL,
    "vgg": {"base_channels": 4},
    "plain_encoder": {"channels": (4, 8, 8)},
    "resenc_encoder": {"channels": (4, 8, 8), "num_blocks": 1},
}
CLASSIFIERS = [name for name, (family, fixed) in MODEL_NAMES.items() if family in FAMILIES and "head_type" not in fixed]


def build(name: str, **arguments: Any) -> nn.Module:
    """A classifier of three classes."""
    torch.manual_seed(0)
    return mt.create_model(name, **{"num_classes": 3, **FAMILIES[MODEL_NAMES[name][0]], **arguments}).eval()


def positive(network: nn.Module) -> nn.Module:
    """A network that adds up what it sees: no negative weights, and norms that change nothing."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm3d | nn.Linear):
            nn.init.ones_(module.weight)
    return network


def head_mean(maps: Tensor) -> Tensor:
    return maps.mean(dim=(2, 3, 4))


class TestMaps:
    """At the resolution of the last feature map."""

    @pytest.mark.parametrize("name", CLASSIFIERS)
    def test_their_mean_and_the_bias_are_the_logits(self, name: str) -> None:
        network, image = build(name).double(), torch.rand(2, 1, 40, 20, 18, dtype=torch.float64)
        nn.init.uniform_(network.head_fc.bias)
        maps = class_maps(network, image)
        assert maps.shape[:2] == (2, 3)
        assert math.prod(maps.shape[2:]) > 1
        assert activation_method(network) == "cam"
        torch.testing.assert_close(head_mean(maps) + network.head_fc.bias, network(image), atol=1e-10, rtol=0)

    @pytest.mark.parametrize(
        "changes",
        [{"deep_stem": True, "avg_down": True}, {"geometry": "medicalnet"}, {"num_stages": 2}, {"pool": "none"}],
    )
    def test_so_they_are_in_other_geometries(self, changes: dict[str, Any]) -> None:
        network, image = build("resnet10", **changes).double(), torch.rand(1, 1, 33, 34, 35, dtype=torch.float64)
        means = head_mean(class_maps(network, image)) + network.head_fc.bias
        torch.testing.assert_close(means, network(image), atol=1e-10, rtol=0)

    def test_they_are_the_head_as_a_convolution(self) -> None:
        network, image = build("resnet18"), torch.rand(1, 1, 40, 33, 34)
        coarse = mt.to_fcn(network).head_conv(network.features(image)[-1])
        maps = class_maps(network, image) + network.head_fc.bias[:, None, None, None]
        torch.testing.assert_close(maps, coarse)

    def test_some_classes_are_those_of_all(self) -> None:
        network, image = build("resnet10"), torch.rand(1, 1, 33, 33, 33)
        assert torch.equal(class_maps(network, image, [2, 0]), class_maps(network, image)[:, [2, 0]])

    def test_hidden_layers_are_taken_by_their_gradient_as_monai_does(self) -> None:
        from monai.visualize import GradCAM

        network, image = build("vgg11", fc_channels=8, head_pool=2), torch.rand(1, 1, 48, 32, 32)
        assert activation_method(network) == "grad-cam"
        maps = class_maps(network, image)
        oracle = GradCAM(network, "stage4", upsampler=lambda size: nn.Identity(), postprocessing=lambda x: x)
        for number in range(3):
            expected = oracle(image, class_idx=number)[0, 0].detach()
            assert expected.max() > 0 or number
            ours = maps[0, number].clamp(min=0) / maps[0, number].numel()
            torch.testing.assert_close(ours, torch.as_tensor(expected), atol=1e-7, rtol=1e-4)

    def test_by_gradient_a_linear_head_gives_the_exact_map(self) -> None:
        network, image = build("vgg11"), torch.rand(1, 1, 40, 33, 70)
        exact = class_maps(network, image)
        network.head_hidden = nn.Sequential(network.head_avgpool, nn.Flatten())
        del network.head_avgpool
        assert activation_method(network) == "grad-cam"
        torch.testing.assert_close(class_maps(network, image), exact, atol=1e-6, rtol=1e-5)


@pytest.fixture
def blob(tmp_path: Path) -> Volume:
    """A bright place in a scan in PIR order, 1.5 x 2 x 1 mm, oblique."""
    data = np.zeros((40, 36, 72), np.float32)
    data[22:26, 12:16, 40:48] = 1
    turn = nib.eulerangles.euler2mat(0.1, 0.05, 0.02)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 1.0], [-1.5, 0, 0], [0, -2.0, 0]])
    affine[:3, 3] = -30, 40, 20
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "blob.nii.gz")
    return read_volume(tmp_path / "blob.nii.gz")


def ready(volume: Volume, spacing: Any = (1, 1, 1)) -> Prepared:
    return prepare(volume, "RAS", spacing, {"scheme": "none"})


def centre_of(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    weights = np.clip(values, 0, None) ** 2
    voxel = [(weights * np.indices(values.shape)[axis]).sum() / weights.sum() for axis in range(3)]
    return np.asarray(affine @ np.array([*voxel, 1.0]))[:3]


class TestVolumes:
    """On the scan's own grid."""

    def test_the_file_lies_on_the_scan_bit_for_bit_and_peaks_where_the_network_saw(
        self, blob: Volume, tmp_path: Path
    ) -> None:
        # pooling windows of two voxels look at the middle of their box, as trained strides come to do
        network = positive(build("vgg11", strides=(1, 2, 2, 1, 1)))
        array = class_activation(network, ready(blob), card_of(network), "class_1")
        assert array.shape == (1, 40, 36, 72)
        assert array.dtype == np.float32
        written = nib.load(write_activation(array, blob, tmp_path / "cam.nii.gz"))
        source = nib.load(tmp_path / "blob.nii.gz")
        assert np.array_equal(written.affine, source.affine)
        assert written.shape == source.shape
        assert written.get_data_dtype() == np.float32
        found, wanted = (centre_of(image.get_fdata(), image.affine) for image in (written, source))
        assert np.abs(found - wanted).max() < 0.5

    def test_all_classes_lie_along_the_fourth_axis(self, blob: Volume, tmp_path: Path) -> None:
        network = build("resnet10")
        prepared, card = ready(blob, None), card_of(network)
        every = class_activation(network, prepared, card)
        assert every.shape == (3, 40, 36, 72)
        one = class_activation(network, prepared, card, "class_2")
        np.testing.assert_allclose(one[0], every[2], rtol=1e-5, atol=1e-6)
        path = write_activation(every, blob, tmp_path / "cam.nii.gz")
        assert np.array_equal(nib.load(path).get_fdata(dtype=np.float32), np.moveaxis(every, 0, 3))
        with pytest.raises(OutputExistsError):
            write_activation(every, blob, path)
        assert write_activation(one, blob, path, overwrite=True) == path

    def test_windows_without_overlap_are_put_side_by_side(self, blob: Volume) -> None:
        network = build("resnet10")
        prepared, card = ready(blob, None), card_of(network)
        sizes = prepared.grid.shape
        window = (sizes[0] // 2, sizes[1], sizes[2])
        array = class_activation(network, prepared, card, "class_0", plan_windows(sizes, window, overlap=0))
        image = torch.from_numpy(prepared.array)[None]
        mapper = ActivationNetwork(network, [0])
        with torch.no_grad():
            halves = [mapper(image[:, :, start : start + window[0]]) for start in (0, window[0])]
        expected = prepared.restore_logits(torch.cat(halves, dim=2)[0])
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)

    def test_the_engine_stays_what_it_was(self, blob: Volume) -> None:
        network = build("resnet10")
        engine, image = Engine(network, torch.device("cpu")), torch.rand(1, 1, 32, 32, 32)
        before = engine(image)
        class_activation(engine, ready(blob, None), card_of(network))
        assert torch.equal(engine(image), before)
        assert engine.network.training is False

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_shorter_numbers_come_near_and_overflow_is_mended(self, blob: Volume, dtype: torch.dtype) -> None:
        network, prepared = build("resnet10"), ready(blob, None)
        card, engine = card_of(network), Engine(network, torch.device("cpu"), dtype)
        exact = class_activation(network, prepared, card)
        assert np.abs(class_activation(engine, prepared, card) - exact).max() < 0.03 * np.abs(exact).max()
        engine.network.conv1.weight.data *= 1e6
        engine.network.bn1.running_var.data *= 1e12
        np.testing.assert_allclose(
            class_activation(engine, prepared, card), exact, atol=0.03 * float(np.abs(exact).max())
        )
        assert engine.dtype == dtype


class TestRefusals:
    """What has no class activations."""

    def test_a_segmenter(self) -> None:
        with pytest.raises(ModelError, match="class activations need a classifier of the zoo, got UNet"):
            activation_method(mt.create_model("resunet10", **SMALL))
        with pytest.raises(ModelError, match="need a classifier"):
            activation_method(mt.to_fcn(build("resnet10")))

    def test_a_network_of_ones_own(self, networks: Any) -> None:
        with pytest.raises(ModelError, match=r"got Mean\. Take a resnet, vgg"):
            class_maps(networks["mean"](), torch.rand(1, 1, 8, 8, 8))

    def test_a_class_that_is_not_there(self, blob: Volume) -> None:
        network = build("resnet10")
        with pytest.raises(UsageError, match=r"no class 'ill'\. Its classes: class_0, class_1"):
            class_activation(network, ready(blob), card_of(network), "ill")

    def test_weights_that_are_nan(self, blob: Volume) -> None:
        network = build("resnet10")
        network.head_fc.weight.data[:] = torch.nan
        with pytest.raises(ModelError, match="NaN or infinite activations"):
            class_activation(network, ready(blob), card_of(network))
