"""The runs of a comparison: their cases, their budget, their configs."""

from __future__ import annotations

from collections import Counter

import pytest

from medtransfer.comparison.plan import read_comparison
from medtransfer.comparison.runs import equal_steps, plan_runs, run_config
from medtransfer.errors import ConfigError, DatasetError
from medtransfer.training.check import check_config
from medtransfer.training.config import read_config


@pytest.fixture
def plan(options):
    def make(changes=None, **arguments):
        few = {"sources": {"tiny": "tiny.pt"}, "policies": ["frozen"], "cases": [1, 2, 4], "seeds": [0, 1]}
        cfg = read_config("resunet18_hippocampus", {**options, **(changes or {})})
        return plan_runs(cfg, read_comparison({**few, **arguments}))

    return make


def test_training_cases_are_nested_and_the_same_for_all_arms(plan):
    made = plan()
    cases = {run.name: run.training_cases for run in made.runs}
    assert len(cases) == 12
    for seed in (0, 1):
        most = cases[f"scratch_004_s{seed}"]
        for number in (1, 2, 4):
            assert (
                cases[f"scratch_{number:03d}_s{seed}"] == cases[f"tiny__frozen_{number:03d}_s{seed}"] == most[:number]
            )
    assert cases["scratch_004_s0"] != cases["scratch_004_s1"]
    test = {case.id for case in made.test}
    assert len(test) == 2
    assert not test & set(cases["scratch_004_s0"])


def test_cases_do_not_depend_on_what_else_is_compared(plan):
    few, many = plan(cases=[2], seeds=[1]), plan()
    cases = {run.name: run.training_cases for run in many.runs}
    assert all(cases[run.name] == run.training_cases for run in few.runs)
    assert few.test == many.test


def test_runs_go_seed_by_seed(plan):
    assert [run.seed for run in plan().runs] == [0] * 6 + [1] * 6
    assert [arm.name for arm in plan().arms] == ["scratch", "tiny/frozen"]


def test_a_run_has_its_own_cases_and_nothing_is_chosen_by_the_test_cases(plan):
    made = plan({"finetune": {"policy": "head"}, "transfer": {"source": "other.pt", "head": "drop"}})
    run = next(run for run in made.runs if run.name == "tiny__frozen_002_s1")
    cfg = run_config(made, run)
    check_config(cfg)
    assert (cfg.split.train, cfg.split.val) == (list(run.training_cases), [case.id for case in made.test])
    assert (cfg.randomness.seed, cfg.finetune.policy) == (1, "frozen")
    assert cfg.transfer == {"source": "tiny.pt", "head": "drop"}
    assert not {"val_dataloader", "val_evaluator", "val_cfg", "best_metric", "compare"} & set(cfg)
    assert "val_interval" not in cfg.train_cfg
    assert "transfer" not in run_config(made, made.runs[0])


def test_cases_of_a_table_begin_with_one_of_each_class(table):
    cfg = read_config("resnet18_table", {"data_root": str(table), "split": {"val": 2, "seed": 0}})
    made = plan_runs(cfg, read_comparison({"sources": {"a": "a.pt"}, "cases": [2, 4], "seeds": list(range(6))}))
    labels = {case.id: case.label for case in made.dataset.layout.cases}
    for run in made.runs:
        assert len(Counter(labels[case] for case in run.training_cases)) == 2


class TestBudget:
    """As many steps for 4 cases as for 32."""

    @pytest.mark.parametrize(
        "changes, steps",
        [
            ({}, 4),
            ({"train_cfg": {"by_epoch": True, "max_epochs": 3, "val_interval": 1}}, 300),
            ({"train_cfg": {"max_epochs": 3}, "train_dataloader.batch_size": 3}, 201),
            (
                {"train_cfg": {"max_epochs": 3}, "train_dataloader.batch_size": 3, "train_dataloader.drop_last": True},
                198,
            ),
        ],
    )
    def test_steps(self, options, changes, steps):
        assert equal_steps(read_config("resunet18_hippocampus", {**options, **changes})) == steps

    @pytest.mark.parametrize("sampler", [None, {"type": "CaseSampler"}, {"type": "DefaultSampler", "shuffle": True}])
    def test_steps_that_depend_on_the_number_of_cases_are_refused(self, plan, sampler):
        changes = {"train_cfg": {"max_epochs": 3}, "train_dataloader.sampler": sampler}
        with pytest.raises(ConfigError, match=r"as many steps for 4 cases as for 32.*samples_per_epoch"):
            plan(changes)


@pytest.mark.parametrize(
    "changes, error, said",
    [
        ({"split": {"val": 3}}, ConfigError, "asks for 4 training cases, but 3 are left beside 3 test cases"),
        ({"split": {"val": 0}}, ConfigError, "the split leaves no case for the test"),
        ({"split": {"vall": 2}}, ConfigError, "split: .*vall"),
        ({"split": {"val": ["case_9"]}}, DatasetError, "case_9"),
        ({"train_dataloader.dataset.tpye": 1}, ConfigError, "train_dataloader: .*tpye"),
    ],
)
def test_refusals(plan, changes, error, said):
    with pytest.raises(error, match=said):
        plan(changes)


def test_the_shipped_config(options):
    cfg = read_config("resunet18_hippocampus_compare")
    assert equal_steps(cfg) == 500
    assert len(plan_runs(read_config(cfg, options), read_comparison(cfg.compare, cases=[1, 2, 3, 4])).runs) == 48
