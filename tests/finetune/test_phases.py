"""Policies say which part trains when; the penalty says how far from the source."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from medtransfer.errors import ModelError, UsageError
from medtransfer.finetune.freeze import freeze
from medtransfer.finetune.l2sp import SourcePenalty
from medtransfer.finetune.phases import POLICIES, Phase, build_phases, encoder_stages, phase_at, train_only
from medtransfer.finetune.select import select

Build = Callable[..., nn.Module]
STAGES = ["stem", "layer1", "layer2"]


def test_linear_probing_comes_first() -> None:
    phases = build_phases("lp_ft", STAGES, steps=10, share=0.3)
    assert [phase_at(phases, step).trains for step in (0, 2)] == [("decoder", "head")] * 2
    assert phase_at(phases, 3).trains == ("encoder", "decoder", "head") == phase_at(phases, 9).trains
    assert build_phases("lp_ft", STAGES, steps=2, share=0.01)[1].start == 1  # never without a first phase


def test_gradual_unfreezing_goes_from_the_top_down_by_epochs() -> None:
    phases = build_phases("gradual", STAGES, steps=100, steps_per_epoch=10, every=2)
    assert [phase.start for phase in phases] == [0, 20, 40, 60]
    assert [phase.trains[2:] for phase in phases] == [
        (),
        ("layer2",),
        ("layer2", "layer1"),
        ("layer2", "layer1", "stem"),
    ]
    halves = build_phases("gradual", STAGES, steps=100, steps_per_epoch=10, every=0.5)
    assert [phase.start for phase in halves] == [0, 5, 10, 15]


def test_gradual_unfreezing_that_would_not_end_is_refused() -> None:
    with pytest.raises(UsageError, match="lets stem train from step 60, training has 60") as error:
        build_phases("gradual", STAGES, steps=60, steps_per_epoch=10, every=2)
    every = float(str(error.value.hint).split("every to ")[1].split()[0])
    assert build_phases("gradual", STAGES, steps=60, steps_per_epoch=10, every=every)[-1].start < 60


def test_the_stages_may_be_those_of_a_network(tiny: Build) -> None:
    net = tiny("resunet10")
    assert build_phases("gradual", net, steps=10) == build_phases("gradual", encoder_stages(net), steps=10)


@pytest.mark.parametrize("policy", ["full", "frozen", "head"])
def test_constant_policies_have_one_phase(policy: str) -> None:
    assert len(build_phases(policy, STAGES, steps=10)) == 1


@pytest.mark.parametrize(
    "wrong", [{"policy": "ful"}, {"policy": "lp_ft", "share": 1}, {"policy": "gradual", "every": 0}]
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        build_phases(**{"encoder": STAGES, "steps": 10, **wrong})  # type: ignore[arg-type]
    assert "full" in POLICIES


@pytest.mark.parametrize("name", ["resnet10", "resunet10", "vgg11", "plain_unet", "resenc_unet"])
def test_every_phase_trains_its_parts_and_holds_the_rest(name: str, tiny: Build) -> None:
    net = tiny(name, **({"norm_cfg": {"type": "BN"}} if "re" in name else {}))
    stages = encoder_stages(net)
    phases = build_phases("gradual", stages, steps=100)
    for number, phase in enumerate(phases):
        train_only(net, phase.trains)
        net.train()
        on = [stage for stage in stages if all(p.requires_grad for p in select(net, stage))]
        off = [stage for stage in stages if not any(p.requires_grad for p in select(net, stage))]
        assert on == stages[len(stages) - number :]
        assert off == stages[: len(stages) - number]
        assert not any(norm.training for stage in off for norm in select(net, stage).norms.values())
        assert all(norm.training for stage in on for norm in select(net, stage).norms.values())
        assert all(parameter.requires_grad for parameter in select(net, "head"))
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_what_is_fixed_stays_fixed(tiny: Build) -> None:
    net = tiny("resnet10")
    fixed = freeze(net, "stem")
    chosen = train_only(net, ("encoder", "decoder", "head"), fixed)
    assert not any(parameter.requires_grad for parameter in fixed)
    assert len(chosen) + len(fixed) == len(list(net.parameters()))
    assert not net.train().bn1.training


def test_gradients_of_what_goes_on_training_stay(tiny: Build) -> None:
    net = tiny("resnet10")
    train_only(net, ("head",))
    net(torch.randn(2, 1, 9, 9, 9)).sum().backward()
    train_only(net, ("encoder", "head"))
    assert net.head_fc.weight.grad is not None


def test_networks_that_are_not_known_are_refused(tiny: Build) -> None:
    with pytest.raises(ModelError, match="stages of Linear are not known"):
        encoder_stages(nn.Linear(1, 1))
    with pytest.raises(UsageError, match="has no decoder to train"):
        train_only(tiny("resnet10"), ("decoder",))
    assert Phase(0, ("head",)) == Phase(0, ("head",))


class TestSourcePenalty:
    def test_its_gradient_pulls_towards_the_source(self, tiny: Build) -> None:
        net = tiny("resnet10")
        penalty = SourcePenalty(net, alpha=0.5)
        assert float(penalty().detach()) == 0
        with torch.no_grad():
            net.conv1.weight += 0.25
            net.head_fc.weight += 1  # not the encoder's
        value = penalty()
        assert float(value.detach()) == pytest.approx(0.25 * net.conv1.weight.numel() * 0.25**2, rel=1e-5)
        value.backward()
        assert torch.allclose(net.conv1.weight.grad, torch.full_like(net.conv1.weight, 0.5 * 0.25), rtol=1e-4)
        assert net.head_fc.weight.grad is None

    def test_it_holds_the_parts_that_are_named(self, tiny: Build) -> None:
        net = tiny("resunet10")
        penalty = SourcePenalty(net, 1.0, ["decoder", "head"])
        assert {name.split("_")[0] for name in penalty.source} == {"decoder", "final"}

    def test_what_is_frozen_costs_nothing(self, tiny: Build) -> None:
        net = tiny("resnet10")
        penalty = SourcePenalty(net)
        with torch.no_grad():
            net.conv1.weight += 1
        freeze(net, "stem")
        assert float(penalty().detach()) == 0
        freeze(net)
        assert float(penalty()) == 0

    def test_the_source_can_be_kept_and_loaded(self, tiny: Build) -> None:
        net = tiny("resnet10")
        source = copy.deepcopy(SourcePenalty(net).source)
        with torch.no_grad():
            net.conv1.weight += 1
        penalty = SourcePenalty(net)
        assert float(penalty().detach()) == 0
        penalty.load(source)
        assert float(penalty().detach()) > 0
        with pytest.raises(UsageError, match="of other parameters"):
            penalty.load({"a": torch.zeros(1)})

    @pytest.mark.parametrize("alpha", [0, -1, float("nan")])
    def test_alpha_is_a_number_above_zero(self, alpha: float) -> None:
        with pytest.raises(UsageError, match="alpha"):
            SourcePenalty(nn.Linear(1, 1), alpha)
