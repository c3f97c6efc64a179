"""Rules that no linter knows, read from the syntax of the package: safe loading, floors of imports, light starts."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "medtransfer"
FILES = sorted(PACKAGE.rglob("*.py"))
SAFE_LOADER = PACKAGE / "checkpoint" / "torch_file.py"

FLOORS = {
    **dict.fromkeys(("errors", "files", "version", "devices", "requirements", "intensity", "allocator"), 0),
    **dict.fromkeys(("model_zoo", "checkpoint", "volumes", "scoring"), 1),
    **dict.fromkeys(("adapter", "finetune", "data", "reporting", "lowering"), 2),
    **dict.fromkeys(("training", "inference", "ranking", "checking", "evaluation", "exporting", "sharing"), 3),
    **dict.fromkeys(("demo", "comparison"), 4),
    "cli": 5,  # it has a command for each
}
TOP = ("__init__", "__main__")
"""The package itself and ``python -m``: above all floors."""

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "imp"}
UNSAFE_NAMES = {"eval", "exec", "compile", "__import__"}
UNSAFE_CALLS = {
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "torch.jit.load", "torch.hub.load"),
    *(
        "torch.export.load",
        "numpy.fromfile",
        "mmengine.load",
        "mmengine.fileio.load",
        "torch.serialization.add_safe_globals",
    ),
}
UNSAFE_METHODS = {"extractall", "extract", "unpack_archive"}
UNSAFE_KEYWORDS = {("allow_pickle", True), ("shell", True), ("weights_only", False), ("trust_remote_code", True)}
ALLOWED = {
    ("checkpoint/torch_file.py", "torch.serialization.add_safe_globals"),
    ("exporting/torchscript.py", "torch.jit.load"),
    ("exporting/torch_export.py", "torch.export.load"),
}
"""The safe loader puts back what others had allowed; an export is read back by the process that has just made it."""


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Local names and what they stand for: ``np`` -> ``numpy``, ``load`` -> ``torch.load``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname})
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """``np.load`` as ``numpy.load``; of what is not a dotted name, its last part."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return ""


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    tree = _tree(path)
    names = _imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _dotted(node.func, names), node


def _modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def _faults(path: Path) -> list[str]:
    """What the file does that no file may, each with its line."""
    faults = [f"import {name}" for name in _modules(_tree(path)) if name.split(".")[0] in UNSAFE_MODULES]
    for name, call in _calls(path):
        keywords = {
            (keyword.arg, keyword.value.value) for keyword in call.keywords if isinstance(keyword.value, ast.Constant)
        }
        unsafe = name in UNSAFE_NAMES | UNSAFE_CALLS or name.rpartition(".")[2] in UNSAFE_METHODS
        if (unsafe or keywords & UNSAFE_KEYWORDS) and (_relative(path), name) not in ALLOWED:
            faults.append(f"line {call.lineno}: {name or 'a call'} {sorted(map(str, keywords & UNSAFE_KEYWORDS))}")
    return faults


def _relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_nothing_runs_what_a_file_says(path: Path) -> None:
    assert _faults(path) == []


def test_torch_load_stands_in_one_place_and_is_safe() -> None:
    found = [(path, call) for path in FILES for name, call in _calls(path) if name == "torch.load"]
    assert [path for path, _ in found] == [SAFE_LOADER]
    keywords = {keyword.arg: keyword.value for keyword in found[0][1].keywords}
    assert ast.unparse(keywords["weights_only"]) == "True"


def test_torch_load_is_not_passed_on_under_another_name() -> None:
    for path in FILES:
        tree = _tree(path)
        names = _imported_names(tree)
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
        passed = [node.lineno for node in uses if _dotted(node, names) == "torch.load" and id(node) not in called]
        assert not passed, (path, passed)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml\nyaml.load(x)",
        "from yaml import load as read\nread(x)",
        "eval(x)",
        "exec(x)",
        "import subprocess\nsubprocess.run(x, shell=True)",
        "import numpy as np\nnp.load(x, allow_pickle=True)",
        "import zipfile\nzipfile.ZipFile(x).extractall()",
        "import torch as t\nt.jit.load(x)",
        "import torch\ntorch.load(x, weights_only=False)",
    ],
)
def test_the_guard_sees_what_it_should(tmp_path: Path, code: str) -> None:
    path = tmp_path / "a.py"
    path.write_text(code)
    assert _faults(path)


def test_the_guard_leaves_networks_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("model.eval()\nimport re\nre.compile('a')\nfrom safetensors.torch import load_file\nload_file(x)")
    assert not _faults(path)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Rooms of this package that a file imports, at the top or inside functions, with the line."""
    package = ["medtransfer", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(_tree(path)):
        for name in _absolute_names(node, package):
            parts = name.split(".")
            if parts[0] == "medtransfer" and len(parts) > 1:
                yield node.lineno, parts[1]  # type: ignore[attr-defined]


def _absolute_names(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = package[: len(package) - node.level + 1] if node.level else []
    module = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
    return [f"{module}.{alias.name}" for alias in node.names]


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_rooms_import_only_from_lower_floors(path: Path) -> None:
    room = _room(path)
    if room in TOP:
        return
    assert room in FLOORS, f"{room} has no floor: add it to the table here and to the page of the design"
    for line, other in _imported_rooms(path):
        if other != room and other in FLOORS:
            # the ground floor is three files, of which `files` needs `errors`
            allowed = FLOORS[other] < FLOORS[room] or FLOORS[room] == 0 == FLOORS[other]
            assert allowed, f"line {line}: {room} may not import {other}"


def test_no_star_imports_and_no_rooms_of_odds_and_ends() -> None:
    for path in FILES:
        assert path.stem not in ("utils", "util", "common", "helpers", "misc"), path
        stars = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.alias) and node.name == "*"]
        assert not stars, path


@pytest.mark.parametrize("module", ["medtransfer", "medtransfer.checkpoint.card", "medtransfer.model_zoo.names"])
def test_light_modules_import_no_torch(module: str) -> None:
    if not (ROOT / module.replace(".", "/")).with_suffix(".py").exists() and module != "medtransfer":
        pytest.skip("not built yet")
    code = f"import sys, {module}; sys.exit(1 if 'torch' in sys.modules else 0)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
