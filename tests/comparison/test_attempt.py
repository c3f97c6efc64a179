"""One run: what is scored, and what is kept."""

from __future__ import annotations

import json

import pytest
import torch

import medtransfer as mt
from medtransfer.comparison import run
from medtransfer.comparison.results import read_results
from tests.comparison.conftest import cheaply
from tests.training.interruptions import newest


def test_what_the_source_does_not_cover_is_drawn_again_for_the_drift(start, source, tmp_path):
    """Frozen, an encoder ends as it began, also where a stage of it was drawn from the seed."""
    weights = {key: value for key, value in mt.load(source).state_dict().items() if not key.startswith("layer2")}
    torch.save(weights, tmp_path / "part.pt")
    start(sources={"part": tmp_path / "part.pt"}, policies=["frozen"], changes={"transfer": {"min_coverage": 0.1}})
    receipt = json.loads((tmp_path / "work/runs/part__frozen_002_s0/transfer.json").read_text())
    assert receipt["coverage"] < 1
    assert min(read_results(tmp_path / "work/results")[0].drift.values()) > 0.999


@pytest.fixture(scope="class")
def kept(options, source, tmp_path_factory, picture):
    """The training folders, with their checkpoints, of policies of the config's own."""
    policies = {"averaged": {"policy": "full", "ema": 0.5}, "low": {"policy": "lora", "rank": 2}}
    folder = tmp_path_factory.mktemp("kept")
    compared = {"sources": {"tiny": str(source)}, "policies": policies, "cases": [2], "seeds": [0]}
    with cheaply(picture), pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "reduce_folder", lambda folder, keep_models: None)
        run.compare("resunet18_hippocampus", folder, cfg_options={**options, "compare": compared})
    return folder


class TestPoliciesOfTheConfigsOwn:
    """Given as a mapping."""

    def test_with_a_moving_average_that_is_what_is_scored(self, kept, source):
        folder = kept / "runs" / "tiny__averaged_002_s0"
        best, last = mt.load(folder / "best").state_dict(), newest(folder)
        average, trained = last["state_dict"], last["ema_state_dict"]  # named the other way round by mmengine
        key, begin = "encoder_1.1.0.conv1.weight", mt.load(source).state_dict()["layer1.0.conv1.weight"]
        assert all(torch.equal(value, average[f"network.{name}"]) for name, value in best.items())
        assert 0 < (best[key] - begin).norm() < (trained[f"module.network.{key}"] - begin).norm()

    def test_adapters_are_merged_before_the_score(self, kept, source):
        folder = kept / "runs" / "tiny__low_002_s0"
        best = mt.load(folder / "best").state_dict()
        assert not [key for key in best if "lora" in key]
        assert best.keys() == mt.load(kept / "runs/scratch_002_s0/best").state_dict().keys()
        drift = {result.arm: result.drift for result in read_results(kept / "results")}
        assert 0.5 < min(drift["tiny/low"].values()) < 1

    def test_each_arm_says_its_policy(self, kept):
        assert {(r.arm, r.policy) for r in read_results(kept / "results")} == {
            ("scratch", "full"), ("tiny/averaged", "averaged"), ("tiny/low", "low"),
        }  # fmt: skip


@pytest.mark.usefixtures("cheap")
def test_a_classification_gives_probabilities_of_every_class(table, source, tmp_path):
    options = {
        "model.network": {"type": "resnet10", "base_channels": 4, "stem_channels": 4},
        "data_root": str(table),
        "split": {"val": 4, "seed": 0},
        "patch_size": [16, 16, 16],
        "train_dataloader.batch_size": 2,
        "train_cfg": {"by_epoch": False, "max_iters": 2},
        "optim_wrapper.dtype": "float32",
    }
    few = {"sources": {"tiny": source}, "policies": ["head"], "cases": [2], "seeds": [0], "keep_models": True}
    lines: list[str] = []
    outcome = run.compare("resnet18_table", tmp_path / "w", cfg_options=options, log=lines.append, **few)
    assert (outcome.finished, outcome.failed) == (2, {})
    for result in read_results(tmp_path / "w/results"):
        assert (result.task, result.classes, len(result.answers)) == ("classification", ["above", "below"], 4)
        for case, answer in result.answers.items():
            assert sum(answer.probabilities) == pytest.approx(1, abs=1e-3)
            assert answer.label == 1 - int(case[-1]) % 2
    assert lines[0].startswith("run 1/2 scratch, 2 cases, seed 0: accuracy ")
    assert "AUC" in outcome.report.read_text() or "AUROC" in outcome.report.read_text()
    assert (tmp_path / "w/runs/tiny__head_002_s0/best/model.json").is_file()
    assert not list(tmp_path.rglob("*.pth"))
