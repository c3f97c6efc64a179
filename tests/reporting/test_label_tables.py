"""Label tables, read back as ITK-SNAP and 3D Slicer read them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations

import pytest

from medtransfer.errors import OutputExistsError
from medtransfer.reporting.label_tables import LABEL_TABLES, write_label_tables
from medtransfer.reporting.palette import PALETTE, class_colour, class_rgb

NAMES = ["background", "left kidney", 'the "big" one', "Leberläsion (3 mm)", "'quoted'", "肝", "a_b", "# not a comment"]


def read_itksnap(text: str) -> dict[int, tuple[str, tuple[int, ...], float, tuple[bool, bool]]]:
    """Lines but comments: seven numbers, then what stands between the next two double quotes."""
    found = {}
    for line in text.split("\n"):
        if line and not line.startswith("#"):
            numbers, name, _ = line.split('"')
            index, red, green, blue, opacity, visible, mesh = numbers.split()
            colour = (int(red), int(green), int(blue))
            found[int(index)] = (name, colour, float(opacity), (visible == "1", mesh == "1"))
    return found


def read_slicer(text: str) -> dict[int, tuple[str, tuple[int, ...], int]]:
    """Lines but comments: index, a name without spaces, four numbers from 0 to 255."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            index, name, *numbers = line.split()
            red, green, blue, opacity = map(int, numbers)
            found[int(index)] = (name, (red, green, blue), opacity)
    return found


@pytest.fixture
def texts(tmp_path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in write_label_tables(tmp_path / "out", NAMES)]


def test_json_has_the_names_as_they_are(texts):
    assert json.loads(texts[0]) == {str(label): name for label, name in enumerate(NAMES)}


def test_itksnap_reads_names_and_colours(texts):
    found = read_itksnap(texts[1])
    assert list(found) == list(range(len(NAMES)))
    assert [name for name, *_ in found.values()] == [name.replace('"', "'") for name in NAMES]
    assert found[0][1:] == ((0, 0, 0), 0.0, (False, False))
    assert all(found[label][1:] == (class_rgb(label), 1.0, (True, True)) for label in range(1, len(NAMES)))


def test_slicer_reads_names_and_colours(texts):
    assert texts[2].startswith("# Color table file"), "by this line Slicer tells it from a procedural table"
    found = read_slicer(texts[2])
    assert [name for name, *_ in found.values()] == ["_".join(name.split()) for name in NAMES]
    assert found[0][1:] == ((0, 0, 0), 0)
    assert all(found[label][1:] == (class_rgb(label), 255) for label in range(1, len(NAMES)))


def test_nothing_is_written_when_one_exists(tmp_path):
    (tmp_path / "labels.ctbl").write_text("older")
    with pytest.raises(OutputExistsError, match=r"labels\.ctbl"):
        write_label_tables(tmp_path, NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.ctbl"]
    assert [path.name for path in write_label_tables(tmp_path, NAMES, overwrite=True)] == list(LABEL_TABLES)


def test_colours_stay_apart():
    rgb = [class_rgb(label) for label in range(1, len(PALETTE) + 1)]
    assert len(rgb) == 128
    assert min(max(abs(x - y) for x, y in zip(a, b, strict=True)) for a, b in combinations(rgb, 2)) >= 17
    assert min(max(one) for one in rgb) > 60, "none vanishes on black"
    assert class_colour(129) == class_colour(1)


def test_tables_are_written_without_torch_and_matplotlib():
    code = "import sys, medtransfer.reporting.label_tables; print({'torch', 'matplotlib', 'monai'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
