"""The config key ``finetune`` end to end on scans of 16 voxels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

import medtransfer as mt
from medtransfer.errors import CheckpointError, ConfigError
from medtransfer.finetune.plan import read_finetune
from medtransfer.training.policies import ParameterGroups, prepare
from medtransfer.training.preview import preview

Train = Callable[..., Path]
TINY = {"base_channels": 4, "stem_channels": 4}
#: dense enough that every tensor gets a gradient in the first step
NETWORK = {"type": "resunet10", "zero_init_residual": False, **TINY}


def weights_of(checkpoint: Path) -> dict[str, Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {key.removeprefix("network.") for key in first if not torch.equal(first[key], second[key])}


def encoder_of(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("encoder")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    mt.save(mt.create_model("resnet10", num_classes=5, zero_init_residual=False, **TINY), tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def tune(train: Train, source: Path) -> Train:
    """Fine-tune from the source; the first checkpoint is of the first step."""

    def start(name: str = "run", resume: Any = None, loop: dict[str, Any] | None = None, **changes: Any) -> Path:
        steps = {"type": "IterBasedTrainLoop", "max_iters": 4, "val_interval": 4, **(loop or {})}
        hooks = {"checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 1, "max_keep_ckpts": -1}}
        fixed = {"train_cfg": steps, "default_hooks": hooks, "model__network": NETWORK, "param_scheduler": None}
        return train(name, resume, **{**fixed, "transfer": {"source": str(source)}, **changes})

    return start


def test_the_encoder_stays_bit_equal_and_all_else_trains(tune: Train, source: Path) -> None:
    folder = tune(finetune={"policy": "frozen"}, optim_wrapper__optimizer__weight_decay=0.5)
    changed = differing(weights_of(folder / "iter_1.pth"), weights_of(folder / "iter_4.pth"))
    assert not encoder_of(changed)
    assert {name.split(".")[0] for name in changed} >= {"decoder_0", "decoder_3", "final_layer"}
    trained, given = mt.load(folder / "best").state_dict(), mt.load(source).state_dict()
    assert torch.equal(trained["encoder_0.0.weight"], given["conv1.weight"])
    assert torch.equal(trained["encoder_4.0.bn1.running_mean"], given["layer4.0.bn1.running_mean"])
    assert json.loads((folder / "report.json").read_text())["finetune"] == {"policy": "frozen"}
    log = next(folder.glob("*/*.log")).read_text()
    assert "what trains:" in log
    assert "encoder_4" in log


def test_the_head_alone_trains(tune: Train) -> None:
    folder = tune(finetune={"policy": "head"})
    changed = differing(weights_of(folder / "iter_1.pth"), weights_of(folder / "iter_4.pth"))
    assert changed == {"final_layer.1.weight", "final_layer.1.bias"}


def test_linear_probing_then_everything(tune: Train) -> None:
    folder = tune(finetune={"policy": "lp_ft", "share": 0.5, "freeze": ["stem"]})
    steps = [weights_of(folder / f"iter_{step}.pth") for step in (1, 2, 3, 4)]
    assert not encoder_of(differing(steps[0], steps[1]))
    assert differing(steps[0], steps[1])
    later = encoder_of(differing(steps[1], steps[2]))
    assert {name.split(".")[0] for name in later} == {f"encoder_{i}" for i in (1, 2, 3, 4)}
    assert "encoder_4.0.bn1.running_mean" in later
    assert "from step 3 on these train: encoder, decoder, head" in next(folder.glob("*/*.log")).read_text()


def test_gradual_unfreezing_and_resuming_in_the_midst_of_it(tune: Train) -> None:
    tuning = {"policy": "gradual", "every": 0.5, "layer_decay": 0.5}  # an epoch has two steps
    loop = {"max_iters": 7, "val_interval": 7}
    whole = tune("whole", finetune=tuning, loop=loop)
    steps = {step: weights_of(whole / f"iter_{step}.pth") for step in range(1, 8)}
    for step in range(2, 7):
        moved = {name.split(".")[0] for name in encoder_of(differing(steps[step - 1], steps[step]))}
        assert moved == {f"encoder_{i}" for i in range(4, 5 - step, -1)}, step
    cut = tune("cut", finetune=tuning, loop=loop)
    for path in cut.glob("iter_[4-7].pth"):
        path.unlink()
    tune("cut", resume="auto", finetune=tuning, loop=loop)
    assert not differing(weights_of(whole / "iter_7.pth"), weights_of(cut / "iter_7.pth"))


def test_training_too_short_for_the_policy_is_refused_before_it_begins(tune: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finetune: gradual with every=1 lets encoder_0 train from step 10"):
        tune(finetune={"policy": "gradual"})
    assert not [path for path in (tmp_path / "run").glob("*") if path.name.startswith(("iter", "2"))]


def learning_rates(checkpoint: Path) -> list[tuple[float, float, int]]:
    groups = torch.load(checkpoint, weights_only=True)["optimizer"]["param_groups"]
    return [(group["lr"], group["weight_decay"], group["layer"]) for group in groups]


def test_layers_have_learning_rates_and_decay_of_their_own(tune: Train) -> None:
    tuning = {"layer_decay": 0.5, "head_lr_mult": 10}
    optimizer = {"optim_wrapper__optimizer__lr": 0.01, "optim_wrapper__optimizer__weight_decay": 0.1}
    folder = tune(finetune=tuning, **optimizer)
    rates = learning_rates(folder / "iter_1.pth")
    assert {layer: lr for lr, _, layer in rates if layer < 5} == pytest.approx(
        {i: 0.01 * 0.5 ** (5 - i) for i in range(5)}
    )
    assert {lr for lr, _, layer in rates if layer == 5} == {0.01, 0.1}
    assert {decay for _, decay, _ in rates} == {0.1, 0.0}


def test_the_one_cycle_schedule_keeps_the_ratios(tune: Train) -> None:
    cycle = {"type": "OneCycle", "eta_max": 0.01, "by_epoch": False}
    folder = tune(finetune={"layer_decay": 0.5}, param_scheduler=cycle)
    for step in (1, 3):
        rates = {layer: lr for lr, _, layer in learning_rates(folder / f"iter_{step}.pth")}
        assert [rates[i] / rates[5] for i in range(6)] == pytest.approx([0.5 ** (5 - i) for i in range(6)])


def test_warm_up_and_cosine_keep_the_ratios(tune: Train) -> None:
    warm_up = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 3}
    cosine = {"type": "CosineAnnealingLR", "by_epoch": False, "begin": 2, "end": 4, "T_max": 2}
    folder = tune(finetune={"layer_decay": 0.5}, param_scheduler=[warm_up, cosine])
    tops = []
    for step in (1, 2, 3):  # with the rates of the step that comes next
        rates = {layer: lr for lr, _, layer in learning_rates(folder / f"iter_{step}.pth")}
        assert [rates[i] / rates[5] for i in range(6)] == pytest.approx([0.5 ** (5 - i) for i in range(6)])
        tops.append(rates[5])
    assert tops[0] < tops[1] > tops[2]


def test_the_log_has_the_table_of_info_trainable(train: Train, options: dict[str, Any], tmp_path: Path) -> None:
    tuning = {"policy": "lp_ft", "share": 0.5, "freeze": ["stem"], "layer_decay": 0.5, "l2sp": 0.1}
    options["train_cfg.max_epochs"] = 1
    for name, changes in (("tuned", {"finetune": tuning}), ("plain", {})):
        log = next(train(name, **changes).glob("*/*.log")).read_text()
        assert f"what trains:\n{preview('resunet18_hippocampus', {**options, **changes}).table}\n" in log


def test_a_schedule_that_would_level_the_rates_is_refused() -> None:
    schedule = {"type": "OneCycleLR", "eta_max": 0.01, "total_steps": 4, "by_epoch": False}
    given = {"finetune": {"layer_decay": 0.5}, "param_scheduler": schedule, "optim_wrapper": {"optimizer": {"lr": 1}}}
    with pytest.raises(ConfigError, match="OneCycleLR gives all parts one learning rate"):
        prepare(Config(given))
    prepare(Config({**given, "finetune": {}}))


@pytest.mark.parametrize("optimizer, decay", [("AdamW", 0.01), ("SGD", 0.0)])
def test_weight_decay_that_is_not_stated_is_the_optimizers_own(optimizer: str, decay: float) -> None:
    build = ParameterGroups({"type": "OptimWrapper", "optimizer": {"type": optimizer, "lr": 0.1}})
    groups = build(mt.create_model("resnet10", **TINY)).optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {decay, 0.0}


def test_a_strong_penalty_keeps_the_encoder_near_the_source(tune: Train, source: Path) -> None:
    given = mt.load(source).conv1.weight

    def distance(folder: Path) -> float:
        return float((mt.load(folder / "best").encoder_0[0].weight - given).norm().detach())

    plain = {"optim_wrapper__optimizer": {"type": "SGD", "lr": 0.1, "weight_decay": 0.1}}
    strengths = {"free": 1e-9, "bound": 5.0}
    free, bound = (tune(n, finetune={"l2sp": l2sp, "layer_decay": 1.0}, **plain) for n, l2sp in strengths.items())
    assert 0 < distance(bound) < 0.8 * distance(free)
    decays = [(layer < 5, decay) for _, decay, layer in learning_rates(bound / "iter_1.pth")]
    assert set(decays) == {(True, 0.0), (False, 0.1), (False, 0.0)}  # the penalty stands in for decay in the encoder


def test_a_resumed_run_knows_its_source_and_its_average(tune: Train) -> None:
    tuning = {"policy": "full", "l2sp": 1.0, "ema": 0.5}
    whole, cut = (tune(name, finetune=tuning) for name in ("whole", "cut"))
    for path in cut.glob("iter_[34].pth"):
        path.unlink()
    tune("cut", resume="auto", finetune=tuning)
    first, second = (torch.load(folder / "iter_4.pth", weights_only=True) for folder in (whole, cut))
    assert not differing(first["state_dict"], second["state_dict"])
    assert not differing(first["ema_state_dict"], second["ema_state_dict"])


def test_the_average_is_what_is_validated_and_saved(tune: Train) -> None:
    folder = tune(finetune={"ema": 0.5})
    checkpoint = torch.load(folder / "iter_4.pth", weights_only=True)
    # mmengine keeps the average under state_dict, and the weights that train under ema_state_dict
    average, weights = checkpoint["state_dict"], checkpoint["ema_state_dict"]
    best = mt.load(folder / "best").state_dict()
    key = "final_layer.1.weight"
    assert torch.equal(best[key], average[f"network.{key}"])
    assert not torch.equal(best[key], weights[f"module.network.{key}"])


def test_adapters_train_and_the_best_model_is_plain(tune: Train, source: Path) -> None:
    tuning = {"policy": "lora", "rank": 2, "pattern": "layer[34]"}
    folder = tune(finetune=tuning)
    changed = differing(weights_of(folder / "iter_1.pth"), weights_of(folder / "iter_4.pth"))
    assert {name.split(".")[-2] for name in encoder_of(changed)} == {"lora_down", "lora_up"}
    assert "final_layer.1.weight" in changed
    best, given = mt.load(folder / "best").state_dict(), mt.load(source).state_dict()
    assert not [name for name in best if "lora" in name]
    assert torch.equal(best["encoder_2.0.conv1.weight"], given["layer2.0.conv1.weight"])
    assert not torch.equal(best["encoder_4.0.conv1.weight"], given["layer4.0.conv1.weight"])
    with pytest.raises(CheckpointError, match="another network"):
        tune(resume="auto")


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"policy": "lpft"}, "policy"),
        ({"polcy": "full"}, "polcy"),
        ({"policy": "lp_ft", "share": 2}, "share"),
        ({"policy": "full", "rank": 4}, "rank belongs to policy='lora'"),
        ({"layer_decay": 0}, "layer_decay"),
        ({"ema": 1}, "ema"),
        ({"l2sp": -1}, "l2sp"),
        ({"freeze": 3}, "freeze"),
        ({"freeze_except": "layer4"}, "`freeze_except` needs `freeze`"),
        ({"l2sp_parts": "decoder"}, "l2sp_parts needs l2sp"),
        ("full", "must be a dict"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_finetune(wrong)


def test_parts_that_are_not_there_are_named(tune: Train) -> None:
    with pytest.raises(ConfigError, match="finetune: 'layer7' stands for no part"):
        tune(finetune={"freeze": "layer7"})


def test_groups_of_the_users_own_are_not_overwritten(tune: Train) -> None:
    with pytest.raises(ConfigError, match="optim_wrapper"):
        tune(finetune={}, optim_wrapper__paramwise_cfg={"norm_decay_mult": 0})
