"""A dialect may be asked for by name; what is not written in it is refused with the name of what it looks like."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import medtransfer as mt
from medtransfer.adapter.dialects import DIALECTS
from medtransfer.adapter.source import read_source
from medtransfer.errors import TransferError, UsageError
from tests.adapter.dialects.kinetics_oracle import r3d_tensors, video_tensors
from tests.adapter.dialects.medicalnet_oracle import medicalnet_tensors
from tests.adapter.dialects.mmpretrain_oracle import mmpretrain_tensors
from tests.adapter.dialects.monai_resnet_oracle import monai_net
from tests.adapter.dialects.ptimz_oracle import classifier_tensors, segmenter_tensors
from tests.adapter.dialects.torchvision_resnet_oracle import torchvision_tensors

OWN: dict[str, list[dict[str, Tensor]]] = {
    "ptimz": [classifier_tensors(18), segmenter_tensors(18)],
    "mmpretrain": [mmpretrain_tensors("v1d50")],
    "flexible_unet": [
        {**medicalnet_tensors(10), "decoder.blocks.0.convs.conv_0.conv.weight": torch.ones(2, 2, 3, 3, 3)}
    ],
    "medicalnet": [medicalnet_tensors(10)],
    "kinetics": [video_tensors(18), r3d_tensors()],
    "monai_resnet": [dict(monai_net(18).state_dict())],
    "torchvision_resnet": [torchvision_tensors(18)],
}
#: a dialect -> tensors that make no sense in it, and what they look like
WRONG: list[tuple[str, dict[str, Tensor], str]] = [
    ("ptimz", {"fc.weight": torch.ones(2, 2)}, "Leave dialect away"),
    ("mmpretrain", segmenter_tensors(18), "'ptimz'"),
    ("flexible_unet", medicalnet_tensors(10), "'resnet'"),
    ("medicalnet", torchvision_tensors(18), "'torchvision_resnet'"),
    ("medicalnet", segmenter_tensors(18), "'ptimz'"),
    ("kinetics", torchvision_tensors(18), "'torchvision_resnet'"),
    ("monai_resnet", segmenter_tensors(18), "'ptimz'"),
    ("torchvision_resnet", medicalnet_tensors(10), "'resnet'"),
    ("resnet", segmenter_tensors(18), "'ptimz'"),
    ("resunet", classifier_tensors(18), "'ptimz'"),
]


@pytest.mark.parametrize("name", OWN)
def test_each_can_be_asked_for_by_name(name):
    for tensors in OWN[name]:
        weights = read_source(tensors, dialect=name)
        assert weights.dialect == name
        assert weights.format.endswith(f"{name} keys")
        home = mt.create_model(weights.home.name, **weights.home.arguments)
        report = mt.transfer(tensors, home, head="keep", dialect=name)
        assert (report.coverage, report.missing, report.mismatched) == (1, [], [])


@pytest.mark.parametrize("name, tensors, hint", WRONG, ids=[f"{i}-{case[0]}" for i, case in enumerate(WRONG)])
def test_a_wrong_one_is_refused_before_anything_moves(name, tensors, hint, tiny, snapshot, same):
    target = tiny("resnet10")
    before = snapshot(target)
    with pytest.raises(TransferError, match=f"not the keys of '{name}'") as caught:
        mt.transfer(tensors, target, dialect=name, min_coverage=0)
    assert hint in str(caught.value)
    assert next(iter(tensors)) in str(caught.value)
    assert same(target, before)


def test_an_unknown_name_gives_close_ones():
    with pytest.raises(UsageError, match="medicalnet"):
        read_source(medicalnet_tensors(10), dialect="medicalnets")


def test_names_and_titles_are_of_one_dialect_each():
    assert len({dialect.name for dialect in DIALECTS}) == len({dialect.title for dialect in DIALECTS}) == len(DIALECTS)
