"""Several heads in one training: what is known counts, what is not does not, and all of it learns."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.data.cases import Layout
from medtransfer.data.multitask import MultiTaskDataset
from medtransfer.errors import ConfigError
from medtransfer.training import registry
from medtransfer.training.multitask import MultiTask
from medtransfer.training.multitask_scores import MultiTaskScores
from medtransfer.training.preview import preview
from medtransfer.training.run import run

from .conftest import write_scan

HEADS: dict[str, Any] = {
    "organs": {"task": "segmentation", "num_classes": 3, "aux_train": True},
    "ill": {"task": "classification", "num_classes": 2},
    "age": {"task": "regression", "mean": [50.0], "std": [10.0]},
}
TARGETS = {
    "ball": {"task": "segmentation", "column": "mask", "classes": ["background", "ball"]},
    "bright": {"task": "classification"},
    "radius": {"task": "regression"},
}
TINY = {"base_channels": 4, "stem_channels": 4}


def build(**arguments: Any) -> MultiTask:
    """Norms over each sample alone, so that samples do not see one another."""
    torch.manual_seed(0)
    norm = {"type": "GN", "num_groups": 1}
    network = mt.create_model("multitask_resnet10", heads=HEADS, norm_cfg=norm, zero_init_residual=False, **TINY)
    return MultiTask(network, **arguments).double().train()


def batch(known: dict[str, list[bool]]) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(1)
    values = {
        "organs": torch.randint(0, 3, (4, 1, 16, 16, 16), generator=generator),
        "ill": torch.tensor([0, 1, 1, 0]),
        "age": torch.tensor([[40.0], [55.0], [70.0], [61.0]]).double(),
    }
    label = {name: {"value": value, "known": torch.tensor(known[name])} for name, value in values.items()}
    return torch.randn(4, 1, 16, 16, 16, generator=generator).double(), label


def gradients(task: MultiTask, loss: Tensor) -> dict[str, Tensor]:
    task.zero_grad()
    loss.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in task.named_parameters()}


def test_missing_targets_leave_the_gradient_of_the_samples_that_have_them() -> None:
    task = build(loss_weights={"age": 0.25})
    known = {"organs": [True, False, True, False], "ill": [False, True, True, True], "age": [True] * 4}
    image, label = batch(known)
    whole = gradients(task, task.compute_losses(image, label)["loss"])
    parts = []
    for head, flags in known.items():
        rows = torch.tensor(flags)
        output, value = task.network(image[rows])[head], label[head]["value"][rows]
        if head == "organs":
            terms = [task.criteria[head](level.float(), value) for level in output]
            loss = sum(0.5**i * term for i, term in enumerate(terms)) / sum(0.5**i for i in range(len(terms)))
        elif head == "age":
            loss = 0.25 * task.criteria[head](((output - 50) / 10).float(), (value - 50) / 10)
        else:
            loss = task.criteria[head](output.float(), value)
        parts.append(gradients(task, loss))
    for name, gradient in whole.items():
        assert torch.allclose(gradient, sum(part[name] for part in parts), rtol=1e-5, atol=1e-7), name
    assert all(gradient.any() for name, gradient in whole.items() if name.endswith("weight"))


def test_a_head_without_any_target_gets_no_gradient_and_says_nothing() -> None:
    task = build()
    image, label = batch({"organs": [False] * 4, "ill": [True] * 4, "age": [False] * 4})
    label["age"]["value"].fill_(math.nan)
    losses = task.compute_losses(image, label)
    assert losses.keys() == {"loss", "loss_ill"}
    assert losses["loss"] == losses["loss_ill"]
    losses["loss"].backward()
    for name, parameter in task.network.named_parameters():
        # in the graph all the same, as distributed training wants it
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()) <= name.startswith(("encoder", "heads.ill")), name
    label["ill"]["known"].fill_(False)
    nothing = task.compute_losses(image, label)
    assert nothing["loss"] == 0
    nothing["loss"].backward()


def test_learnt_weights_are_those_of_the_paper() -> None:
    task = build(loss_weights="uncertainty")
    with torch.no_grad():
        task.log_variances.copy_(torch.tensor([0.5, -1.0, 2.0]))
    image, label = batch({"organs": [True] * 4, "ill": [True] * 4, "age": [True, False, True, True]})
    found = task.compute_losses(image, label)
    one, two, three = (float(found[f"loss_{name}"]) for name in HEADS)
    wanted = math.exp(-0.5) * one + 0.25 + math.exp(1) * two - 0.5 + 0.5 * math.exp(-2) * three + 1
    assert float(found["loss"].detach()) == pytest.approx(wanted, rel=1e-6)
    image, label = batch({"organs": [True] * 4, "ill": [False] * 4, "age": [True] * 4})
    task.compute_losses(image, label)["loss"].backward()
    assert task.log_variances.grad is not None
    assert [bool(value) for value in task.log_variances.grad] == [True, False, True]


def test_losses_are_chosen_by_head() -> None:
    loss = nn.L1Loss()
    task = build(losses={"age": loss, "ill": {"type": "CrossEntropyLoss", "label_smoothing": 0.1}})
    assert task.criteria["age"] is loss
    assert task.criteria["ill"].label_smoothing == 0.1
    assert type(task.criteria["organs"]).__name__ == "DiceCELoss"
    for words, message in (
        ({"losses": {"agee": loss}}, "losses: there is no head 'agee'"),
        ({"loss_weights": {"agee": 1}}, "loss_weights: there is no head 'agee'"),
        ({"loss_weights": {"age": -1}}, r"loss_weights\.age must be a number, 0 or above, got -1"),
        ({"loss_weights": "learnt"}, "must be a dict or 'uncertainty', got 'learnt'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(**words)
    with pytest.raises(ConfigError, match="MultiTask trains a network for multitask, got one for classification"):
        MultiTask(mt.create_model("resnet10", **TINY))


def test_predictions_are_by_case_and_head_in_windows_too() -> None:
    task = build().eval()
    image, label = batch({"organs": [True, False, True, True], "ill": [True] * 4, "age": [False] * 4})
    found = task(image, label, case=list("abcd"), mode="predict")
    outputs = task.network(image)
    assert [one["case"] for one in found] == list("abcd")
    assert torch.equal(found[0]["heads"]["organs"]["labels"], outputs["organs"][0].argmax(0))
    assert torch.allclose(found[2]["heads"]["ill"]["probabilities"], outputs["ill"][2].softmax(0).float())
    assert torch.allclose(found[2]["heads"]["age"]["values"], outputs["age"][2].float())
    assert found[1]["heads"]["organs"]["reference"] is None
    assert torch.equal(found[3]["heads"]["organs"]["reference"], label["organs"]["value"][3, 0])
    assert found[0]["heads"]["age"]["reference"] is None
    task.window = [16, 16, 16]
    again = task(image, label, case=list("abcd"), mode="predict")
    assert torch.equal(again[1]["heads"]["organs"]["labels"], found[1]["heads"]["organs"]["labels"])
    assert torch.equal(again[1]["heads"]["age"]["values"], found[1]["heads"]["age"]["values"])


def test_scores_are_of_known_targets_and_their_mean() -> None:
    metric = MultiTaskScores()
    sizes = {"organs": ["background", "liver"], "ill": ["no", "yes"], "age": ["age"], "rest": ["a", "b"]}
    tasks = {"organs": "segmentation", "ill": "classification", "age": "regression", "rest": "classification"}
    metric.dataset_meta = {"heads": [{"name": n, "task": tasks[n], "classes": names} for n, names in sizes.items()]}
    mask = torch.tensor([0, 1, 1, 0])
    for number in range(4):
        sure = torch.tensor([0.1, 0.9]) if number % 2 else torch.tensor([0.8, 0.2])
        heads = {
            "organs": {"labels": mask, "reference": mask if number == 0 else None},
            "ill": {"probabilities": sure, "reference": torch.tensor(number % 2)},
            "age": {"values": torch.tensor([float(number)]), "reference": torch.tensor([number + (number == 3)])},
            "rest": {"probabilities": sure, "reference": None},
        }
        metric.process(None, [{"case": str(number), "heads": heads}])
    scores = metric.evaluate(4)
    r2 = 1 - 1 / np.array([0, 1, 2, 4]).var() / 4
    wanted = {"organs/dice/mean": 1, "organs/dice/liver": 1, "ill/auroc": 1, "ill/accuracy": 1, "ill/auroc_no": 1,
              "ill/auroc_yes": 1, "age/mae": 0.25, "age/r2": r2, "multitask/score": (2 + r2) / 3}  # fmt: skip
    assert scores == pytest.approx(wanted)
    named = MultiTaskScores.score_names(metric.dataset_meta)
    assert [name for name in named if not name.startswith("rest")] == list(scores)


def test_a_bad_regression_and_a_head_without_score_do_not_spoil_the_mean() -> None:
    metric = MultiTaskScores()
    heads = [{"name": "age", "task": "regression", "classes": ["a", "b"]},
             {"name": "ill", "task": "classification", "classes": ["no", "yes"]}]  # fmt: skip
    metric.dataset_meta = {"heads": heads}
    for number in range(3):
        values, reference = torch.tensor([-9.0 * number, number]), torch.tensor([number, number])
        age = {"values": values, "reference": reference}
        ill = {"probabilities": torch.tensor([0.5, 0.5]), "reference": torch.tensor(0)}
        metric.process(None, [{"case": str(number), "heads": {"age": age, "ill": ill}}])
    scores = metric.evaluate(3)
    assert scores["age/r2_b"] == 1
    assert scores["age/r2"] < -10
    assert math.isnan(scores["ill/auroc"])
    assert scores["multitask/score"] == 0
    assert MultiTaskScores.score_names(metric.dataset_meta) == list(scores)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls of different size, bright or dark; of every third scan one of the three targets is missing."""
    root, rng = tmp_path_factory.mktemp("balls"), np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))
    rows = ["image,mask,bright,radius,patient"]
    for number in range(24):
        radius, bright = 2.5 + 3.5 * rng.random(), number % 2
        centre = rng.uniform(7, 9, 3)
        ball = ((places - centre[:, None, None, None]) ** 2).sum(axis=0) <= radius**2
        image = rng.normal(size=ball.shape) * 0.3 + ball * (3 if bright else -3)
        write_scan(root / f"scan_{number}.nii", image.astype(np.float32))
        write_scan(root / f"mask_{number}.nii", ball.astype(np.uint8))
        cells = [f"mask_{number}.nii", ("no", "yes")[bright], f"{radius:.3f}"]
        if number % 3 == 0:
            cells[number // 3 % 3] = ""
        rows.append(",".join([f"scan_{number}.nii", *cells, f"p{number}"]))
    (root / "table.csv").write_text("\n".join(rows))
    return root / "table.csv"


def options(table: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data_root": str(table),
        "model.network": {
            "type": "multitask_resnet10",
            "base_channels": 8,
            "stem_channels": 8,
            "pool": "none",
            "decoder": {"full_resolution_skip": 8, "decoder_block": "basic"},
        },
        "split": {"train": 16, "val": 8, "seed": 1},
        "patch_size": [16, 16, 16],
        "preprocessing.intensity": {"scheme": "none"},
        "train_dataloader.batch_size": 4,
        "train_dataloader.sampler.samples_per_epoch": 40,
        "train_dataloader.dataset.augmentation.preset": "none",
        "optim_wrapper.dtype": "float32",
        **changes,
    }


def config(path: Path) -> Path:
    base = Path(__file__).resolve().parents[2] / "configs" / "_base_"
    names = ("models/multitask_resnet18", "datasets/multitask", "schedules/onecycle", "runtime/default")
    path.write_text(f"_base_ = {[str(base / f'{name}.py') for name in names]}\ntargets = {TARGETS!r}\n")
    return path


def test_mask_class_and_quantity_are_learnt_together(balls: Path, tmp_path: Path) -> None:
    changes = {"train_cfg.max_epochs": 6, "train_cfg.val_interval": 6}
    folder = run(config(tmp_path / "balls.py"), tmp_path / "run", cfg_options=options(balls, **changes))
    report = json.loads((folder / "report.json").read_text())
    scores = report["best"]["scores"]
    assert report["best"]["metric"] == "multitask/score"
    assert scores["ball/dice/mean"] > 0.7
    assert scores["bright/auroc"] > 0.9
    assert scores["radius/r2"] > 0.3
    chosen = [scores["ball/dice/mean"], scores["bright/auroc"], scores["radius/r2"]]
    assert scores["multitask/score"] == pytest.approx(sum(chosen) / 3)
    model = mt.load(folder / "best")
    card = model.card
    assert (card.task, card.classes) == ("multitask", ["ball", "bright", "radius"])
    assert card.heads["bright"].classes == ["no", "yes"]
    assert card.heads["radius"].classes == ["radius"]
    dataset = MultiTaskDataset(balls, TARGETS, part="val", split={"train": 16, "val": 8, "seed": 1},
                               preprocessing={"intensity": {"scheme": "none"}})  # fmt: skip
    assert model.heads["radius"].mean.tolist() == pytest.approx(dataset.layout.heads[2].mean)
    found = model(dataset[0]["image"][None])
    assert 2 < float(found["radius"].detach()) < 6.5
    logged = "".join(path.read_text() for path in folder.glob("*/vis_data/scalars.json"))
    assert all(f'"loss_{name}"' in logged for name in TARGETS)


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_with_the_weights_it_learnt(balls: Path, tmp_path: Path) -> None:
    path = config(tmp_path / "balls.py")
    few = {"train_cfg.max_epochs": 2, "train_cfg.val_interval": 1, "model.loss_weights": "uncertainty",
           "train_dataloader.sampler.samples_per_epoch": 8, "param_scheduler": None}  # fmt: skip
    whole = run(path, tmp_path / "whole", cfg_options=options(balls, **few))
    run(path, tmp_path / "parts", cfg_options=options(balls, **{**few, "train_cfg.max_epochs": 1}))
    again = run(path, tmp_path / "parts", resume="auto", cfg_options=options(balls, **few))
    one, other = (torch.load(folder / "epoch_2.pth")["state_dict"] for folder in (whole, again))
    assert one["log_variances"].any()
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_the_config_and_the_data_must_have_the_same_heads(balls: Path, tmp_path: Path) -> None:
    path = config(tmp_path / "balls.py")
    wrong = {"model.network.heads": {"bal": {"aux_train": True}}}
    with pytest.raises(ConfigError, match=r"the data have no target 'bal'\. Did you mean ball"):
        preview(path, {**options(balls), **wrong})
    wrong = {"model.network.heads": {"bright": {"num_classes": 3}}}
    with pytest.raises(ConfigError, match=r"the network's heads are .*'bright': \('classification', 3\)"):
        preview(path, {**options(balls), **wrong})
    with pytest.raises(ConfigError, match=r"model\.losses\.ball: there is no type 'DiceLos'"):
        preview(path, {**options(balls), "model.losses": {"ball": {"type": "DiceLos"}}})
    shown = preview(path, {**options(balls), "model.network.decoder": {"aux_train": True}})
    assert {"ball.head", "bright.head", "radius.head"} <= {row.name for row in shown.table}
    assert preview("multitask_resnet18_table").classes == ("organs", "ill", "age")


def test_the_best_metric_is_checked_before_training(balls: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'ball/dice' is not among the scores: multitask/score, ball/dice/mean"):
        run(config(tmp_path / "balls.py"), tmp_path / "run", cfg_options=options(balls, best_metric="ball/dice"))
    with pytest.raises(ConfigError, match="'radius/mae' is better the lower it is, but the highest score is chosen"):
        run(config(tmp_path / "balls.py"), tmp_path / "run", cfg_options=options(balls, best_metric="radius/mae"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"model.losses": 3}, "model.losses must be a dict of heads and their losses, got 3"),
        ({"model.network.heads": 3}, "model.network.heads must be a dict of heads and their words, got 3"),
        ({"model.window": [8, 8]}, "window must be three whole numbers above 0"),
    ],
)
def test_words_of_the_wrong_kind_are_refused_before_training(
    balls: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        preview(config(tmp_path / "balls.py"), {**options(balls), **changed})


def test_data_of_another_task_are_named() -> None:
    layout = Layout(Path("data"), "segmentation", (), ("image",), ("background", "a"))
    with pytest.raises(ConfigError, match="the model is for multitask, the dataset for segmentation"):
        MultiTask.network_words({}, layout)


def test_every_part_is_a_type_of_a_config() -> None:
    assert registry.MODELS.get("MultiTask") is MultiTask
    assert registry.DATASETS.get("MultiTask") is MultiTaskDataset
    assert registry.METRICS.get("MultiTaskScores") is MultiTaskScores
