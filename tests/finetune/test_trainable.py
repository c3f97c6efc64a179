"""The table of what trains: it counts each value once, and says how fast and from when on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import medtransfer as mt
from medtransfer.finetune.freeze import freeze
from medtransfer.finetune.groups import param_groups
from medtransfer.finetune.lora import add_lora
from medtransfer.finetune.phases import build_phases, frozen_now
from medtransfer.finetune.statistics import has_statistics
from medtransfer.finetune.trainable import trainable_table

Build = Callable[..., nn.Module]


def test_it_adds_up_and_leaves_the_modes(tiny: Build) -> None:
    net = tiny("resunet10").eval()
    net.decoder_0.train()
    freeze(net, "encoder", except_="layer4")
    modes = [module.training for module in net.modules()]
    *rows, total = trainable_table(net)
    assert [module.training for module in net.modules()] == modes
    assert total.parameters == sum(p.numel() for p in net.parameters()) == sum(row.parameters for row in rows)
    assert total.trainable == sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert [row.name for row in rows[:2]] == ["encoder_0", "encoder_1"]
    assert rows[0].norms_held == 1
    assert rows[4].norms_held == 0 < rows[4].norms_moving
    assert total.norms_held + total.norms_moving == sum(has_statistics(module) for module in net.modules())


def test_it_sees_what_the_networks_own_arguments_hold(tiny: Build) -> None:
    total = trainable_table(tiny("resnet10", norm_eval=True))[-1]
    assert total.norms_moving == 0 < total.norms_held
    frozen = trainable_table(tiny("resnet10", frozen_stages=1))
    assert [row.trainable > 0 for row in frozen[:3]] == [False, False, True]


def test_any_network_has_one(tiny: Build) -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.BatchNorm3d(2))
    assert [(row.name, row.parameters, row.norms_moving) for row in trainable_table(net)] == [
        ("0", 4, 0),
        ("2", 4, 1),
        ("total", 8, 1),
    ]
    both: Any = nn.ModuleList([tiny("resnet10"), nn.Linear(2, 2)])
    assert trainable_table(both)[-2].name == "other"
    assert "held" not in str(trainable_table(both))


def test_phases_say_when_a_part_begins_to_train(tiny: Build) -> None:
    net = tiny("resunet10")
    fixed = freeze(net, "stem")
    before = [p.requires_grad for p in net.parameters()]
    table = trainable_table(net, phases=build_phases("gradual", net, steps=10), fixed=fixed)
    assert [p.requires_grad for p in net.parameters()] == before
    starts = {row.name: row.from_step for row in table}
    assert starts["encoder_0"] is None
    assert [starts[f"encoder_{i}"] for i in (4, 3, 2, 1)] == [2, 3, 4, 5]
    assert starts["decoder_0"] == starts["head"] == 1
    assert [phase.from_step for phase in table.phases] == [1, 2, 3, 4, 5, 6]
    assert table.phases[0].trainable == sum(
        row.trainable for row in table if row.from_step == 1 and row.name != "total"
    )
    assert table.phases[-1].trainable == table[-1].trainable == table[-1].parameters - table[0].parameters
    assert "never" in str(table).splitlines()[1]
    assert "from step 2: decoder, head, encoder_4 (" in str(table)


def test_one_phase_is_no_news(tiny: Build) -> None:
    net = tiny("resnet10")
    table = trainable_table(net, phases=build_phases("frozen", net, steps=10))
    assert not table.phases
    assert [row.name for row in table if row.trainable] == ["head", "total"]
    assert "from step" not in str(table)


def test_learning_rates_are_those_of_the_groups(tiny: Build) -> None:
    net = tiny("resnet18")
    freeze(net, "stem")
    groups = param_groups(net, lr=1.0, weight_decay=0.1, layer_decay=0.5, head_lr_mult=10)
    rows = {row.name: row for row in trainable_table(net, torch.optim.AdamW(groups).param_groups)}
    assert rows["stem"].learning_rates == rows["stem"].weight_decays == ()
    assert rows["layer4"].learning_rates == (0.25, 0.5)
    assert rows["layer4"].weight_decays == (0.1, 0.0)
    assert rows["head"].learning_rates == (10.0,)
    assert rows["total"].learning_rates == (0.5**8, 0.5**7, 0.5**6, 0.5**5, 0.125 / 2, 0.125, 0.25, 0.5, 10.0)


def test_adapters_are_values_of_their_part(tiny: Build) -> None:
    net = tiny("resnet10")
    plain = {row.name: row for row in trainable_table(net)}
    add_lora(net, rank=2, pattern="layer4")
    rows = {row.name: row for row in trainable_table(net)}
    assert rows["layer4"].trainable == rows["layer4"].parameters - plain["layer4"].parameters > 0
    assert rows["layer3"].trainable == 0


def test_an_encoder_of_two_networks_is_counted_once(tiny: Build) -> None:
    classifier = tiny("resnet10")
    both = nn.ModuleDict({"cls": classifier, "seg": mt.to_segmenter(classifier, num_classes=2, share=True)})
    table = trainable_table(both, phases=build_phases("lp_ft", both, steps=4), fixed=frozen_now(both))
    assert table[-1].parameters == sum(p.numel() for p in both.parameters())
    assert table[-1].norms_moving == sum(has_statistics(module) for module in both.modules())
    assert {row.from_step for row in table if row.name.startswith(("stem", "layer"))} == {2}


def test_the_document_is_plain(tiny: Build) -> None:
    net = tiny("resnet10")
    document = trainable_table(net, phases=build_phases("lp_ft", net, steps=8)).to_dict()
    assert [part["name"] for part in document["parts"]] == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert document["total"]["parameters"] == sum(part["parameters"] for part in document["parts"])
    assert [phase["from_step"] for phase in document["phases"]] == [1, 3]
