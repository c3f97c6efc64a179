"""What each command imports: what it needs, and nothing else, since waiting for an import is the user's time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import medtransfer as mt
from tests.checking.conftest import save
from tests.conftest import TINY

#: packages and parts of packages that take a while; nibabel brings pydicom, PIL and a little of scipy where they are
WATCHED = {
    *("torch", "torch._dynamo", "torch._inductor", "sympy", "mmcv", "mmengine", "monai", "nibabel", "matplotlib"),
    *("scipy.ndimage", "scipy.sparse", "scipy.spatial", "scipy.stats", "scipy.optimize", "pandas", "sklearn"),
    *("jinja2", "rich", "SimpleITK", "highdicom", "cv2", "nilearn", "IPython"),
}
SCORING = {"nibabel", "scipy.ndimage", "scipy.sparse", "scipy.spatial", "rich"}
PAGES = {"matplotlib", "jinja2", "rich"}

#: command -> the watched ones that it needs; all others must not be read
LIGHT = {
    "info": set(),
    "info {models}/segmenter": set(),
    "check {models}": {"nibabel"},
    "evaluate -p {models}/labelsTr -r {models}/labelsTr": SCORING,
    "inspect {models}/segmenter": {"torch"},
    "transfer {models}/classifier --to resunet10 -o {out} --arguments {small}": {"torch", "jinja2", "rich"},
    "predict -m {models}/segmenter -i {models}/imagesTr/a.nii.gz -o {out}": {"torch", "nibabel"},
}
SLOW = {
    "check {models} -o {out}": {"nibabel", "scipy.ndimage"} | PAGES,
    "evaluate -p {models}/labelsTr -r {models}/labelsTr -o {out}": SCORING | PAGES,
    "diff {models}/segmenter {models}/classifier": {"torch", "rich"},
    "convert {models}/classifier -o {out}": {"torch", "jinja2", "rich"},
    "predict -m {models}/classifier -i {models}/imagesTr/a.nii.gz -o {out}": {"torch", "nibabel"},
    "predict -m {models}/detector -i {models}/imagesTr/a.nii.gz -o {out}": {"torch", "nibabel"},
    "predict -m {models}/segmenter -i {models}/imagesTr/a.nii.gz -o {out} --fill-holes": {
        "torch",
        "nibabel",
        "scipy.ndimage",
    },
}
#: name of the interface -> what getting it needs
INTERFACE = {
    "__version__": set(),
    "list_models": set(),
    "read_layout": {"nibabel"},
    "check": {"nibabel"},
    "create_model": {"torch"},
    "load": {"torch"},
    "add_lora": {"torch"},
    "transfer": {"torch", "rich"},
    "Predictor": {"torch", "nibabel"},
}
#: read by training, whose libraries bring much; not even these
NEVER = {"torch._inductor", "SimpleITK", "highdicom", "nilearn", "IPython"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of each task, and a dataset of two cases."""
    root = tmp_path_factory.mktemp("models")
    names = {"segmenter": "resunet10", "classifier": "resnet10", "detector": "retinanet_resnet10"}
    for folder, name in names.items():
        mt.save(mt.create_model(name, **TINY), root / folder)
    array = np.zeros((16, 15, 14), np.float32)
    array[4:9, 4:9, 4:9] = 1
    entries = []
    for case in "ab":
        save(root / "imagesTr" / f"{case}.nii.gz", array + np.random.default_rng(ord(case)).random(array.shape))
        save(root / "labelsTr" / f"{case}.nii.gz", array.astype(np.uint8))
        entries.append({"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"})
    listing = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "box"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(listing))
    return root


def imported(code: str) -> set[str]:
    """What of the watched ones is read when code is run in a new process."""
    code = f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return WATCHED & set(json.loads(done.stderr.splitlines()[-1]))


def imported_by(command: str, models: Path, out: Path) -> set[str]:
    small = " ".join(f"{name}={value}" for name, value in TINY.items())
    arguments = command.format(models=models, out=out, small=small).split()
    return imported(f"from medtransfer.cli.main import run\nassert run({arguments}) == 0")


@pytest.mark.parametrize("command", LIGHT)
def test_a_command_imports_what_it_needs(command: str, models: Path, tmp_path: Path) -> None:
    assert imported_by(command, models, tmp_path / "out") == LIGHT[command]


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW)
def test_other_commands_too(command: str, models: Path, tmp_path: Path) -> None:
    assert imported_by(command, models, tmp_path / "out") == SLOW[command]


@pytest.mark.slow
@pytest.mark.parametrize("name", INTERFACE)
def test_a_name_imports_what_it_needs(name: str) -> None:
    assert imported(f"import medtransfer; medtransfer.{name}") == INTERFACE[name]


@pytest.mark.slow
@pytest.mark.parametrize("room", ["training.run", "ranking.rank", "comparison.run", "demo.run"])
def test_training_and_what_trains_import_no_compiler_and_no_extras(room: str) -> None:
    assert not imported(f"import medtransfer.{room}") & NEVER
