"""docs/volumes.md says what the code does, and there is one door for scans."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

from medtransfer.checking import across, outliers
from medtransfer.volumes import validate, validate_header

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "volumes.md").read_text(encoding="utf-8")
STATED = re.compile(r"`([A-Z][A-Z_]+)` ([0-9.e]+)(?: to ([0-9.e]+))?")
READERS = {"nib.load", "nibabel.load", "sitk.ReadImage", "SimpleITK.ReadImage", "LoadImage", "pydicom.dcmread"}
OTHER_DOORS = {"inference/identity.py"}
"""It looks whether a mask that was written earlier is whole; nothing of it goes on from there."""


def constants(module: ModuleType) -> dict[str, tuple[float, ...]]:
    """The limits that a module states: its own public names in capitals that are numbers or pairs of them."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    values = {name: getattr(module, name) for name in names if name.isupper() and not name.startswith("_")}
    numbers = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
    return {name: value for name, value in numbers.items() if all(isinstance(one, int | float) for one in value)}


KNOWN = {
    name: value for module in (validate, validate_header, across, outliers) for name, value in constants(module).items()
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_limit_stands_in_the_page(name: str) -> None:
    stated = {found[1]: tuple(float(one) for one in found.groups()[1:] if one) for found in STATED.finditer(PAGE)}
    assert stated.get(name) == pytest.approx(KNOWN[name])


def test_the_page_names_no_limit_that_is_gone() -> None:
    assert set(re.findall(r"`([A-Z][A-Z]*_[A-Z_]+|FEWEST|SPREADS)`", PAGE)) == set(KNOWN)


def test_scans_are_opened_in_the_room_of_volumes_only() -> None:
    package = ROOT / "medtransfer"
    others = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] != "volumes"]
    opening = {
        path.relative_to(package).as_posix()
        for path in others
        if any(reader in (text := path.read_text(encoding="utf-8")) for reader in READERS)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in READERS
    }
    assert opening <= OTHER_DOORS
