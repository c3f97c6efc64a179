"""Anchors: torchvision's to the bit, MONAI's where they stand, cubes by hand."""

from __future__ import annotations

import pytest
import torch
from monai.apps.detection.utils.anchor_utils import AnchorGenerator as MonaiAnchors
from torch import Tensor

from medtransfer.errors import ModelError
from medtransfer.model_zoo.detection.anchors import AnchorGenerator


def test_agrees_with_torchvision(golden: dict[str, Tensor]) -> None:
    make = AnchorGenerator(((9, 32), (64, 100)), ((0.5, 1.0, 2.0),) * 2, ndim=2)
    maps = [torch.zeros(3, 2, 4, 6), torch.zeros(3, 2, 2, 3)]
    found = make(torch.zeros(3, 1, 64, 96), maps)
    assert len(found) == 3
    assert torch.equal(found[0], golden["anchors"])


def test_pairs_are_monais() -> None:
    ratios = ((1.0, 1.0), (0.5, 2.0), (4.0, 0.5))
    maps, images = [torch.zeros(1, 2, 3, 2, 4)], torch.zeros(1, 1, 12, 8, 8)
    ours = AnchorGenerator(((8, 12),), (ratios,), centered=True)(images, maps)[0]
    assert torch.equal(ours, MonaiAnchors(((8, 12),), (ratios,))(images, maps)[0])


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_a_ratio_is_the_first_axis_over_the_others(ratio: float) -> None:
    cell = AnchorGenerator(((6,),), (ratio,), rounded=False).cell_anchors[0][0]
    extent = cell[3:] - cell[:3]
    assert float(extent[0] / extent[1]) == pytest.approx(ratio)
    assert float(extent[1]) == pytest.approx(float(extent[2]))
    assert float(extent.prod()) == pytest.approx(6**3, rel=1e-5)


def test_order_of_places() -> None:
    make = AnchorGenerator(((4,), (8,)), ((1.0,), (1.0, 2.0)))
    assert make.num_anchors_per_location() == [1, 2]
    maps = [torch.zeros(1, 1, 2, 1, 3).half(), torch.zeros(1, 1, 1, 1, 1).half()]
    anchors = make(torch.zeros(1, 1, 8, 4, 12), maps)[0]
    assert anchors.dtype == torch.float32
    middles = (anchors[:, :3] + anchors[:, 3:]) / 2
    assert middles[:6].tolist() == [[d, 0, w] for d in (0, 4) for w in (0, 4, 8)]
    assert anchors.shape == (8, 6)


def test_numbers_alone_stand_for_every_map() -> None:
    make = AnchorGenerator((8, 16), (0.5, 1.0))
    assert make.sizes == ((8.0,), (16.0,))
    assert make.aspect_ratios == ((0.5, 1.0), (0.5, 1.0))


def test_refusals() -> None:
    with pytest.raises(ModelError, match="same feature maps, got 2 and 1"):
        AnchorGenerator(((8,), (16,)), ((1.0,),))
    with pytest.raises(ModelError, match=r"has no extent. Give sizes above 1 voxel, or rounded=False"):
        AnchorGenerator(((1,),), (1.0,))
    with pytest.raises(ModelError, match="a positive number or 2 of them, got"):
        AnchorGenerator(((8,),), (((1.0, 2.0, 3.0),),))
    with pytest.raises(ModelError, match="there are 1 feature maps and anchor sizes for 2"):
        AnchorGenerator((8, 16), (1.0,))(torch.zeros(1, 1, 8, 8, 8), [torch.zeros(1, 1, 2, 2, 2)])
