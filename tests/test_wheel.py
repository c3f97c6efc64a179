"""The wheel alone: built from a clean tree, installed into an empty environment, run from an empty folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as users do, from what git knows alone."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, source, cwd=target)
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``medtransfer`` of an environment with nothing else in it."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    install = ("-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt")
    run(folder / "bin" / "python", *install, f"{wheel}[demo]", cwd=folder)
    return folder / "bin" / "medtransfer"


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_configs_and_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    held = {name.partition("/")[2] for name in names if name.startswith("medtransfer/")}
    wanted = {path.relative_to(ROOT / "medtransfer").as_posix() for path in (ROOT / "medtransfer").rglob("*.py")}
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.py")}
    assert wanted | configs | {"py.typed"} <= held
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in Path(name).parts[0]]


@pytest.mark.slow
def test_it_runs_the_demo_from_an_empty_folder(program: Path, tmp_path: Path) -> None:
    assert "resunet18" in run(program, "info", cwd=tmp_path)
    run(program, "demo", cwd=tmp_path)
    assert (tmp_path / "medtransfer_demo" / "report.html").stat().st_size > 10_000
    assert list(tmp_path.iterdir()) == [tmp_path / "medtransfer_demo"]
