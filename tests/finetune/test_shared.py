"""A classifier and a segmenter around one encoder: every policy meets the encoder once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import medtransfer as mt
from medtransfer.finetune.l2sp import SourcePenalty
from medtransfer.finetune.phases import train_only
from medtransfer.finetune.select import select

Build = Callable[..., nn.Module]


class Both(nn.Module):
    """Two answers from one encoder."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.cls, self.seg = classifier, mt.to_segmenter(classifier, num_classes=2, share=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cls(x).square().mean() + self.seg(x).square().mean()


@pytest.fixture
def both(tiny: Build) -> Both:
    return Both(tiny("resnet10", zero_init_residual=False))


def test_freezing_one_freezes_the_other_through_train(both: Both) -> None:
    mt.freeze(both.seg, "encoder")
    before = {name: value.clone() for name, value in both.state_dict().items()}
    optimizer = torch.optim.AdamW(mt.param_groups(both, 0.01, 0.1))
    for _ in range(2):
        optimizer.zero_grad()
        both.train()(torch.randn(2, 1, 16, 16, 16)).backward()
        optimizer.step()
    moved = {name for name, value in both.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in moved} <= {"head_fc", "final_layer", *(f"decoder_{i}" for i in range(4))}
    assert {"cls.head_fc.weight", "seg.final_layer.1.weight"} <= moved
    mt.unfreeze(both.cls, "layer4")
    assert both.seg.train().encoder_4[0].bn1.training
    assert not both.seg.encoder_3[0].bn1.training


def test_phases_of_both(both: Both) -> None:
    train_only(both, ("decoder", "head"))
    assert not any(parameter.requires_grad for parameter in select(both, "encoder"))
    train_only(both, ("layer4", "decoder", "head"))
    assert next(name for name, p in both.cls.named_parameters() if p.requires_grad) == "layer4.0.conv1.weight"


def test_every_layer_has_one_adapter(both: Both) -> None:
    layers = mt.add_lora(both, rank=2)
    assert len(layers) == len({id(both.get_submodule(name)) for name in layers}) == 12
    assert both.cls.layer4[0].conv1.lora_up is both.seg.encoder_4[0].conv1.lora_up
    groups = mt.param_groups(both, 0.01, layer_decay=0.5)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(both.parameters()))
    for name, parameter in both.named_parameters():
        if "lora_up" in name:
            nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 1, 16, 16, 16)
    adapted = both.eval()(x).detach()
    assert mt.merge_lora(both) == layers  # once, not once for each network
    assert float(both(x).detach()) == pytest.approx(float(adapted), rel=1e-5)


def test_the_average_shares_its_encoder_too(both: Both) -> None:
    average = AveragedModel(both, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    start = both.cls.conv1.weight.detach().clone()
    average.update_parameters(both)  # the first time it copies
    with torch.no_grad():
        both.cls.conv1.weight += 1
    average.update_parameters(both)
    assert average.module.seg.encoder_0[0] is average.module.cls.conv1
    assert torch.allclose(average.module.cls.conv1.weight, start + 0.5)  # averaged once


def test_the_penalty_counts_the_encoder_once(both: Both) -> None:
    penalty = SourcePenalty(both, alpha=2.0)
    with torch.no_grad():
        both.cls.conv1.weight += 1
    assert float(penalty().detach()) == pytest.approx(both.cls.conv1.weight.numel(), rel=1e-5)
