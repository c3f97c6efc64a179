"""What a config may not say, and what the user is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtransfer.checkpoint.card import read_card
from medtransfer.errors import ConfigError, UsageError
from medtransfer.training.check import check_config
from medtransfer.training.config import find_config, list_configs, parse_options, read_config
from medtransfer.training.run import run
from medtransfer.version import __version__

Train = Callable[..., Path]


@pytest.mark.parametrize("name", list_configs())
def test_every_shipped_config_passes_the_check_and_is_short(name: str) -> None:
    check_config(read_config(name))
    assert len(find_config(name).read_text().splitlines()) <= 15


def test_g01_a_missing_config_names_close_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean resunet18_hippocampus") as raised:
        find_config("resunet18_hipocampus")
    assert raised.value.exit_code == 2
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(ConfigError, match=r"mine\.py"):
        find_config(tmp_path / "mini.py")


def test_g02_a_syntax_error_has_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("a = 1\nmodel = dict(type=\n")
    with pytest.raises(ConfigError, match=r"mine\.py:2: .*was never closed"):
        read_config(path)


def test_g03_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"a='\xff\xfe'\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 3"):
        read_config(tmp_path / "mine.py")


@pytest.mark.parametrize("base, said", [("nothing.py", "nothing.py does not exist"), ("mine.py", "is its own _base_")])
def test_g05_a_wrong_base_names_both_files(tmp_path: Path, base: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(f"_base_ = [{base!r}]\n")
    with pytest.raises(ConfigError, match=said) as raised:
        read_config(tmp_path / "mine.py")
    assert raised.value.path == tmp_path / "mine.py"


def test_g05_a_key_in_two_bases(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("lr = 1\n")
    (tmp_path / "mine.py").write_text("_base_ = ['one.py', 'two.py']\n")
    with pytest.raises(ConfigError, match="Duplicate key"):
        read_config(tmp_path / "mine.py")


def test_g06_an_empty_config_is_told_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(ConfigError, match="lacks model, train_dataloader, train_cfg, optim_wrapper"):
        run(tmp_path / "mine.py", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "suffix, text",
    [
        (".yaml", "model: !!python/object/apply:os.system ['touch FLAG']"),
        (".yml", "custom_imports: {imports: [antigravity]}"),
        (".json", '{"model": {"type": "subprocess.Popen", "args": ["touch", "FLAG"]}}'),
    ],
)
def test_g10_g11_g12_data_formats_are_refused_unread(tmp_path: Path, suffix: str, text: str) -> None:
    path, flag = tmp_path / f"mine{suffix}", tmp_path / "flag"
    path.write_text(text.replace("FLAG", str(flag)))
    with pytest.raises(ConfigError, match="configs are Python files"):
        run(path, tmp_path / "run")
    assert not flag.exists()


def test_g10_a_dotted_name_is_no_type(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no type 'subprocess\.Popen'"):
        train(model__network__type="subprocess.Popen")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"model.network.dephth": 34}, "resunet10 has no argument 'dephth'"),
        ({"modle.network.depth": 34}, "there is no key 'modle'. Did you mean model"),
        ({"optim_wrapper.optimiser.lr": 1}, "no optim_wrapper.optimiser.*Did you mean optimizer"),
        ({"train_cfg.max_epoch": 3}, "there is no such key.*max_epochs"),
        ({"train_dataloader.batchsize": 3}, "no such key|has no key 'batchsize'.*batch_size"),
        ({"train_dataloader.dataset.patchsize": [8, 8, 8]}, "no key 'patchsize'.*patch_size"),
        ({"train_dataloader.sampler.samples": 8}, "no key 'samples'.*samples_per_epoch"),
        ({"val_evaluator.prefx": "a"}, "val_evaluator.* no key 'prefx'.*prefix"),
        ({"split.trian": 3}, "there is no such key.*train"),
        ({"preprocessing": {"spaceing": [1, 1, 1]}}, "preprocessing: .*spaceing"),
        ({"transfr": {"source": "a"}}, "there is no key 'transfr'.*transfer"),
        ({"network.type": "resunet10"}, "there is no key 'network'"),
        ({"default_hooks.checkpoint.max_keep": 3}, "no key 'max_keep'"),
    ],
)
def test_g07_a_wrong_word_is_refused_with_a_close_one(
    train: Train, wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(**wrong)
    assert not (tmp_path / "run").exists()


def test_g07_a_wrong_word_in_the_file(tmp_path: Path) -> None:
    base = find_config("resunet18_hippocampus")
    (tmp_path / "mine.py").write_text(f"_base_ = {str(base)!r}\noptim_wraper = dict()\nmy_own_variable = 3\n")
    with pytest.raises(ConfigError, match=r"mine\.py: there is no key 'optim_wraper'\. Did you mean optim_wrapper"):
        run(tmp_path / "mine.py", tmp_path / "run")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"optim_wrapper.optimizer.lr": "fast"}, "optim_wrapper.optimizer.lr must be a number, 0 or above, got 'fast'"),
        ({"optim_wrapper.optimizer.lr": float("nan")}, "lr must be"),
        ({"optim_wrapper.optimizer.lr": -1.0}, "lr must be"),
        ({"train_cfg.max_epochs": -3}, "train_cfg.max_epochs must be a whole number above 0, got -3"),
        ({"train_cfg.max_epochs": 1.5}, "max_epochs must be a whole number"),
        ({"train_dataloader.batch_size": 0}, "train_dataloader.batch_size must be"),
        ({"train_dataloader.sampler.samples_per_epoch": 0}, "samples_per_epoch must be"),
        ({"patch_size": [16, 16]}, "patch_size must be three whole numbers"),
        ({"split": {"folds": 2, "fold": 2}}, "fold must be 0 to folds - 1"),
        ({"preprocessing": {"orientation": "RAX"}}, "48 codes"),
        ({"train_dataloader.dataset.augmentation": "lots"}, "no augmentation 'lots'.*light"),
        ({"default_hooks.checkpoint.max_keep_ckpts": 1}, "max_keep_ckpts must be 2 or more"),
        ({"load_from": "a.pth"}, "load_from loads whatever happens to fit"),
        ({"transfer": {"head": "drop"}}, "transfer.source is missing"),
        ({"val_dataloader": None}, "validation is asked for, but val_dataloader"),
        ({"best_metric": "dice/box2"}, "'dice/box2' is not among the scores: dice/mean"),
    ],
)
def test_g08_wrong_values_are_refused_by_name(train: Train, wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        train(**wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"model.network.type": "resunet81"}, "no type 'resunet81'.*resunet18"),
        ({"model.loss": {"type": "DiceCELos"}}, "no type 'DiceCELos'.*DiceCELoss"),
        ({"optim_wrapper.optimizer.type": "AdmW"}, "no type 'AdmW'.*AdamW"),
        ({"train_dataloader.dataset.type": "Decathlin"}, "no type 'Decathlin'.*Decathlon"),
        ({"val_evaluator.type": "MeenDice"}, "no type 'MeenDice'.*MeanDice"),
    ],
)
def test_g09_an_unknown_type_is_refused_with_close_ones(
    train: Train, wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(**wrong)
    assert not (tmp_path / "run").exists()


def test_g18_an_environment_variable_that_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("data_root = '{{$MEDTRANSFER_ANOTHER_VARIABLE:data}}'\nb = {'c': {'d': 1}}\n")
    read_config(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text("data_root = '{{$MEDTRANSFER_NO_SUCH_VARIABLE:}}/a'\n")
    with pytest.raises(ConfigError, match="MEDTRANSFER_NO_SUCH_VARIABLE"):
        read_config(tmp_path / "mine.py")


def test_a_config_that_fails_says_where(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("a = 1 / 0\n")
    with pytest.raises(ConfigError, match=r"mine\.py: fails when it is run: ZeroDivisionError"):
        read_config(tmp_path / "mine.py")


def test_options_are_literals_or_words() -> None:
    options = ["a.b=1e-3", "c=[1, 2]", "d=x=y", "e=true", "f='1'"]
    assert parse_options(options) == {"a.b": 1e-3, "c": [1, 2], "d": "x=y", "e": True, "f": "1"}
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_options(["alone"])


def test_a_config_that_was_read_is_left_as_it_is() -> None:
    cfg = read_config("resunet18_hippocampus")
    read_config(cfg, {"data_root": "elsewhere"})
    assert cfg.data_root == "data/Task04_Hippocampus"


def test_an_unknown_launcher_or_precision(train: Train, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="launcher must be one of"):
        run("resunet18_hippocampus", tmp_path / "run", cfg_options=options, launcher="horse")
    with pytest.raises(UsageError, match="amp must be"):
        train(amp="half")


@pytest.mark.parametrize("suffix, text", [(".json", '{"model": '), (".yaml", "model: [")])
def test_g04_broken_json_and_yaml_are_refused_unread_with_their_name(tmp_path: Path, suffix: str, text: str) -> None:
    (tmp_path / f"mine{suffix}").write_text(text)
    with pytest.raises(ConfigError, match=rf"mine{suffix}: {suffix}: configs are Python files"):
        read_config(tmp_path / f"mine{suffix}")


def test_g13_a_depth_that_is_not_there_lists_those_that_are(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"depth must be one of 10, 18, 34, 50, 101, 152, 200, got 17"):
        train(model={"type": "Classifier", "network": {"type": "ResNet", "depth": 17}})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("patch_size", [[17, 20, 12], [24, 24, 40]])
def test_g15_any_patch_size_trains_and_one_larger_than_the_volume_is_padded(
    train: Train, patch_size: list[int]
) -> None:
    folder = train(patch_size=patch_size, train_cfg__max_epochs=1)
    assert read_card(folder / "best").patch_size == patch_size


def test_g16_validation_without_validation_data(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="validation is asked for, but val_dataloader or val_evaluator is missing"):
        train(val_evaluator=None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "key, change",
    [
        ("data_root", {"data_root": "/another/machine/data"}),
        ("transfer.source", {"transfer": {"source": "/another/machine/weights.pth"}}),
        ("val_dataloader.dataset.data_root", {"val_dataloader.dataset.data_root": "/another/machine/data"}),
    ],
)
def test_g17_a_path_of_another_machine_names_its_key(
    train: Train, tmp_path: Path, key: str, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=rf"{key} is '/another/machine/.* --cfg-options {key}=PATH"):
        train(**change)
    assert not (tmp_path / "run").exists()


def test_g20_a_config_of_an_older_version_says_so_when_it_fails(train: Train, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"dephth.* \(the config was written for medtransfer 0\.0\.1, this is "):
        train(medtransfer_version="0.0.1", model__network__dephth=3)
    folder = train(medtransfer_version="0.0.1", train_cfg__max_epochs=1)
    kept = next(folder.glob("*/vis_data/config.py"))
    assert read_config(kept).medtransfer_version == __version__


def test_a_config_in_any_folder_has_shipped_bases(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text('_base_ = "resunet18_cases.py"\ntransfer = dict(source="weights")\n')
    assert read_config(mine).model == read_config("resunet18_cases").model
    mine.write_text('_base_ = ["_base_/models/resunet18.py", "other.py"]\n')
    (tmp_path / "other.py").write_text('_base_ = "_base_/schedules/onecycle.py"\n')
    assert read_config(mine).train_cfg


def test_a_base_beside_the_config_comes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "resunet18_cases.py").write_text("own = True\n")
    (tmp_path / "mine.py").write_text('_base_ = "resunet18_cases.py"\n')
    assert read_config(tmp_path / "mine.py").to_dict() == {"own": True}
    (tmp_path / "mine.py").write_text('_base_ = "resunet18_case.py"\n')
    with pytest.raises(ConfigError, match="or a shipped one: resunet18_cases"):
        read_config(tmp_path / "mine.py")
