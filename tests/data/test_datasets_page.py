"""What docs/datasets.md says about Python and configs is true."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from medtransfer.training.config import read_config

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "datasets.md").read_text(), re.MULTILINE | re.DOTALL)


def test_python_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = [text for text in BLOCKS if not text.startswith("_base_")]
    assert len(code) == 2
    exec(compile("\n".join(code), "datasets.md", "exec"), {})


def test_the_config_is_read_with_its_base(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (config,) = (text for text in BLOCKS if text.startswith("_base_"))
    (tmp_path / "configs" / "mine.py").write_text(config)
    dataset = read_config(tmp_path / "configs" / "mine.py").val_dataloader.dataset
    assert (dataset.type, dataset.part, dataset.select) == ("Cases", "val", {"run": 1, "pipeline": "manual"})
