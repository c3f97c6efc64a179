"""Features at places and pooled ones, by networks whose maps are the scan itself."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medtransfer.ranking import features
from medtransfer.ranking.features import features_at, pooled_features
from medtransfer.ranking.samples import combined
from medtransfer.volumes.prepare import prepare
from medtransfer.volumes.read import read_volume

CPU = torch.device("cpu")


class Echo(nn.Module):
    """Maps of the input's own values, at full and at half resolution."""

    output_stride = (4, 4, 4)
    seen: torch.Size

    def features(self, x: Tensor) -> list[Tensor]:
        self.seen = x.shape
        return [x, F.avg_pool3d(x, 2)]


def scan_of_positions(shape: tuple[int, ...] = (40, 44, 48)) -> tuple[nib.Nifti1Image, np.ndarray]:
    """A scan of three channels that hold each voxel's own world coordinates."""
    affine = np.array([[0, -1.5, 0, 30], [1.0, 0, 0, -20], [0, 0, 2.0, 7], [0, 0, 0, 1]])
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = nib.affines.apply_affine(affine, index).astype(np.float32)
    return nib.Nifti1Image(world, affine), affine


@pytest.mark.parametrize("settings", [{}, {"orientation": "PIR"}, {"orientation": "LAS", "spacing": (1.0, 2.5, 1.5)}])
@pytest.mark.parametrize("least", [None, (20, 24, 40)])
def test_features_at_places_are_those_of_the_places_on_any_grid(settings, least):
    image, affine = scan_of_positions()
    inside = np.random.default_rng(0).uniform(6, 34, size=(20, 3))
    positions = nib.affines.apply_affine(affine, inside)
    scan = prepare(read_volume(image, channels=3), **settings, intensity={"scheme": "none"})
    (found,) = features_at([Echo()], scan, positions, least, CPU)
    for stage in found:
        np.testing.assert_allclose(stage, positions, atol=1e-3)


def test_a_network_sees_the_places_with_context_in_whole_strides_and_no_less_than_its_patch():
    image, affine = scan_of_positions((60, 60, 60))
    positions = nib.affines.apply_affine(affine, [[30.0, 30, 30], [32, 31, 30]])
    scan, network = prepare(read_volume(image, channels=3)), Echo()
    features_at([network], scan, positions, None, CPU)
    assert network.seen[2:] == (36, 36, 36)
    features_at([network], scan, positions, (48, 20, 200), CPU)
    assert network.seen[2:] == (48, 36, 128)


def test_small_scans_are_padded_to_two_voxels_of_the_deepest_map():
    scan, network = prepare(read_volume(nib.Nifti1Image(np.ones((3, 5, 20), np.float32), np.eye(4)))), Echo()
    features_at([network], scan, np.array([[1.0, 2.0, 10.0]]), None, CPU)
    assert network.seen[2:] == (8, 8, 20)


def test_pooled_features_are_the_means_of_the_whole_scan_in_tiles_too(monkeypatch):
    monkeypatch.setattr(features, "TILE", 12)
    array = np.random.default_rng(0).normal(size=(2, 17, 24, 40)).astype(np.float32)
    ((whole, _),) = pooled_features([Echo()], array, CPU)
    np.testing.assert_allclose(whole, array.mean(axis=(1, 2, 3))[None], atol=1e-6)


def test_neither_scale_nor_width_of_a_stage_decides():
    rng = np.random.default_rng(0)
    narrow, wide = rng.normal(size=(8, 2)), rng.normal(size=(8, 50))
    kernel = combined([narrow, wide])
    assert kernel.width == 52
    np.testing.assert_allclose(combined([narrow * 100 + 7, wide]).values, kernel.values, atol=1e-9)
    halves = [combined([narrow]).values, combined([wide]).values]
    np.testing.assert_allclose(kernel.values, np.mean(halves, axis=0), atol=1e-12)
    assert np.trace(halves[0]) == pytest.approx(8)
    assert np.trace(halves[1]) == pytest.approx(8)
