"""Several processes equal one, and are exact in what they measure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import nn

from medtransfer import load
from medtransfer.data.sampler import CaseSampler
from medtransfer.errors import ConfigError, DatasetError
from medtransfer.training import agreement, distributed
from medtransfer.training.agreement import check_same_data
from medtransfer.training.norms import synchronise_without_cuda
from medtransfer.training.run import run

from .distributed_script import processes
from .interruptions import newest
from .two_processes import (
    GROUPS,
    NETWORK,
    ROOT,
    SGD,
    Options,
    Pair,
    assert_equal,
    difference,
    ends,
)


def test_two_processes_equal_one_with_twice_the_batch(pair: Pair, tmp_path: Path) -> None:
    # AdamW, one cycle, clipped gradients; the learning rate follows the whole batch
    options = {"auto_scale_lr": {"enable": True, "base_batch_size": 2}}
    ended = pair.train("two", options)
    one = pair.one("one", options)
    assert_equal(tmp_path / "two", one)
    assert newest(one)["optimizer"]["param_groups"][0]["lr_scale"] == 2
    assert newest(tmp_path / "two")["param_schedulers"] == newest(one)["param_schedulers"]
    # the first process speaks for all
    assert [process.text.count("best model: ") for process in ended] == [1, 0]
    assert [process.text.count("best/ holds") > 0 for process in ended] == [True, False]
    assert "warning" not in ended[0].text.lower()


# shares in which scaled learning rates, waiting gradients, phases and norms would go wrong
EQUAL = {
    "sync_bn": {"model.network": {**NETWORK, "norm_cfg": {"type": "SyncBN"}}, **SGD},
    "accumulated": {"optim_wrapper.accumulative_counts": 2, **SGD},
    "lora": {"finetune": {"policy": "lora", "rank": 2}},
    "gradual": {"finetune": {"policy": "gradual", "every": 0.5}, "train_cfg.max_epochs": 4},
    "ema": {"finetune": {"ema": 0.5}},
    "deep_supervision": {"model.network": {**NETWORK, "norm_cfg": GROUPS, "aux_train": True}, **SGD},
    "l2sp": {"finetune": {"l2sp": 0.1}},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", EQUAL.values(), ids=EQUAL)
def test_ways_of_training_equal_one_process(pair: Pair, tmp_path: Path, options: Options) -> None:
    pair.train("two", options)
    assert_equal(tmp_path / "two", pair.one("one", options))


@pytest.mark.slow
@pytest.mark.parametrize("policy, frozen", [("frozen", "network.encoder"), ("lp_ft", "")])
def test_frozen_parts_are_frozen_in_all(pair: Pair, tmp_path: Path, policy: str, frozen: str) -> None:
    # norms with statistics, which must not move either; their batches differ from one process's
    network = {"model.network": NETWORK, "train_dataloader.batch_size": 2, "finetune": {"policy": policy}}
    pair.train("two", {**network, **SGD})
    pair.one("none", {**network, **SGD, "train_cfg": {"by_epoch": False, "max_iters": 1}, "val_evaluator": None,
                       "val_dataloader": None})  # fmt: skip
    first, second = ends(tmp_path / "two")
    start = newest(tmp_path / "none")["state_dict"]
    encoder = [name for name in first if name.startswith("network.encoder")]
    still = [name for name in encoder if torch.equal(first[name], start[name])]
    assert encoder
    assert (len(still) == len(encoder)) == bool(frozen)
    assert difference(first, second) == 0


@pytest.mark.slow
def test_batch_norms_of_their_own_are_told_and_kept_equal(pair: Pair, tmp_path: Path) -> None:
    options = {"model.network": NETWORK, **SGD}
    ended = pair.train("two", options)
    assert "batch norms see the 2 scans of their own process, not all 4" in ended[0].text
    first, second = ends(tmp_path / "two")
    assert difference(first, second) == 0  # the statistics are among them
    assert difference(first, newest(pair.one("one", options))["state_dict"]) > 1e-3


SMALL = {"base_channels": 4, "stem_channels": 4, "norm_cfg": GROUPS}
#: the config, and its network; losses are means over scans, so that two processes of one scan are one of two
SCORED: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("resnet18_table", {"type": "resnet10", **SMALL}),
    "boxes": (
        "faster_rcnn_boxes",
        {
            "type": "retinanet_resnet10",
            **SMALL,
            "pool": "none",
            "returned_layers": [2, 3],
            "out_channels": 8,
            # an untrained network finds boxes too
            "score_thresh": 0.0,
            "detections_per_img": 500,
        },
    ),
    "several heads": ("multitask_resnet18_table", {"type": "multitask_resnet10", **SMALL}),
}
TARGETS = {
    "organs": {"task": "segmentation", "column": "mask", "classes": ["background", "box"]},
    "ill": {"task": "classification", "column": "label"},
    "age": {"task": "regression", "column": "number"},
}


def listed(decathlon: Path, folder: Path) -> Path:
    """The scans with a class and a number; of one that is validated the number is not known."""
    names = [f"case_{number}.nii.gz" for number in range(6)]
    rows = [
        f"{decathlon}/imagesTr/{name},{decathlon}/labelsTr/{name},{'no' if n % 2 else 'yes'},{n if n != 4 else ''},"
        f"p{n},{'train' if n < 3 else 'val'}"
        for n, name in enumerate(names)
    ]
    (folder / "table.csv").write_text("\n".join(["image,mask,label,number,patient,split", *rows]))
    return folder / "table.csv"


@pytest.mark.slow
@pytest.mark.parametrize("what", SCORED)
def test_scores_are_those_of_one_process(what: str, decathlon: Path, tmp_path: Path) -> None:
    """Three cases to validate, an odd number for two processes."""
    name, network = SCORED[what]
    options = {
        "model.network": network,
        "data_root": str(decathlon if what == "boxes" else listed(decathlon, tmp_path)),
        **({"split": {"train": 3, "val": 3, "seed": 0}} if what == "boxes" else {}),
        **({"targets": TARGETS} if what == "several heads" else {}),
        **({"find_unused_parameters": True, "best_metric": "boxes/map"} if what == "boxes" else {}),
        "patch_size": [16, 16, 16],
        "train_dataloader.batch_size": 1,
        "train_dataloader.sampler.samples_per_epoch": 4,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 1,
        "optim_wrapper.dtype": "float32",
        **SGD,
    }
    words = [f"{key}={value!r}" for key, value in options.items()]
    first = [name, "--work-dir", str(tmp_path / "two"), "--launcher", "pytorch", "--cfg-options", *words]
    ended = processes([{"arguments": first, "weights": str(tmp_path / "two")}], tmp_path)
    assert [process.code for process in ended] == [0, 0], ended
    doubled = {**options, "train_dataloader.batch_size": 2}
    assert_equal(tmp_path / "two", run(name, tmp_path / "one", cfg_options=doubled))


def test_too_few_draws_for_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(DatasetError, match="1 samples an epoch are too few for 2 processes"):
        CaseSampler(["a", "b"], samples_per_epoch=1)
    assert len(CaseSampler(["a", "b", "c"])) == 1


def test_processes_with_other_data_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    loaders: Any = {"val_dataloader": torch.utils.data.DataLoader([1, 2, 3])}
    monkeypatch.setattr(agreement, "all_gather_object", lambda own: [own, {"val_dataloader": (2, ["0", "1"])}])
    with pytest.raises(DatasetError, match="val_dataloader of process 1 has 2 cases in 2 batches, others 3 in 3"):
        check_same_data(loaders)


def test_synchronised_norms_without_cuda_keep_the_module() -> None:
    norm, plain = nn.SyncBatchNorm(3), nn.BatchNorm3d(3)
    network = nn.Sequential(norm)
    synchronise_without_cuda(network)
    assert network[0] is norm
    assert not isinstance(norm, nn.SyncBatchNorm)
    image = torch.randn(2, 3, 4, 4, 4)
    assert torch.equal(norm(image), plain(image))
    assert torch.equal(norm.running_var, plain.running_var)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"model_wrapper_cfg": {"type": "MMFullyShardedDataParallel"}}, "a sharded network cannot be saved"),
        ({"env_cfg": {"dist_cfg": {"timeout": "1h"}}}, "timeout must be a number of seconds, got '1h'"),
        ({"sync_bn": "torch"}, "sync_bn exchanges the norms on CUDA only"),
    ],
)
def test_what_cannot_be_distributed_is_refused(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    alone = distributed.Crew(0, 1, torch.distributed.HashStore())
    alone.over.set()
    with pytest.raises(ConfigError, match=said):
        alone.connect(Config(changes))


@pytest.mark.slow
def test_the_sharded_training_of_the_docs_equals_one_process(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "sharded.py").write_text(block)
    found = []
    for number in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        ended = subprocess.run(
            [*command, "sharded.py"],
            cwd=tmp_path,
            env=environment,
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found.append(load(tmp_path / "sharded").state_dict())
        (tmp_path / "sharded").rename(tmp_path / f"sharded{number}")
    assert difference(*found) < 1e-6
