"""The names and colours of a mask's labels, in the formats that viewers read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import atomic_file, refuse_existing, write_json
from .palette import class_rgb

#: what `write_label_tables` writes, in this order
LABEL_TABLES = ("labels.json", "labels_itksnap.txt", "labels.ctbl")

_ITKSNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   label number, 0 is background
#    -R-:   red   (0..255)
#    -G-:   green (0..255)
#    -B-:   blue  (0..255)
#    -A-:   opacity (0.00 .. 1.00)
#    VIS:   shown in slices (0 or 1)
#    MSH:   shown as a surface (0 or 1)
#  LABEL:   name
################################################
"""


def write_label_tables(
    folder: str | Path, classes: Sequence[str], overwrite: bool = False, names: Sequence[str] = LABEL_TABLES
) -> list[Path]:
    """Write ``labels.json``, ``labels_itksnap.txt`` (ITK-SNAP) and ``labels.ctbl`` (3D Slicer) into ``folder``.

    The colours are those of the pictures. ITK-SNAP's names stand in double quotes, so one within a name becomes a
    single one; 3D Slicer's end at a space, so a space becomes an underscore.

    Args:
        folder: The prediction folder; made if it is missing.
        classes: Names by label; ``classes[0]`` is background.
        overwrite: Replace existing files.
        names: Of the files, in the order of `LABEL_TABLES`; the colour table names itself in its first line.

    Returns:
        The paths, in the order of ``names``.

    Raises:
        OutputExistsError: one of them exists and ``overwrite`` is false; then none is written.
        ResourceError: the disk is full or the folder cannot be written.

    Sources: the header that ITK-SNAP 3 and 4 write themselves; 3D Slicer 5.6, Developer guide, Colors.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> [path.name for path in write_label_tables(folder, ["background", "left kidney"])]
    ['labels.json', 'labels_itksnap.txt', 'labels.ctbl']
    >>> print(Path(folder, "labels.ctbl").read_text().splitlines()[-1])
    1 left_kidney 86 180 233 255
    """
    paths = [refuse_existing(Path(folder) / name, overwrite) for name in names]
    write_json(paths[0], dict(enumerate(classes)), overwrite)
    for path, text in zip(paths[1:], (_itksnap(classes), _slicer(classes, paths[2].name)), strict=True):
        with atomic_file(path, overwrite) as part:
            part.write_text(text, encoding="utf-8", newline="\n")
    return paths


def _itksnap(classes: Sequence[str]) -> str:
    lines = [_itksnap_line(label, name) for label, name in enumerate(classes)]
    return _ITKSNAP_HEADER + "\n".join(lines) + "\n"


def _itksnap_line(label: int, name: str) -> str:
    """One label; the background is clear and drawn nowhere.

    >>> _itksnap_line(0, "background")
    '    0     0    0    0        0  0  0    "background"'
    """
    red, green, blue = class_rgb(label)
    shown = int(label > 0)
    quoted = name.replace('"', "'")
    return f'{label:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{quoted}"'


def _slicer(classes: Sequence[str], name: str) -> str:
    lines = [_slicer_line(label, name) for label, name in enumerate(classes)]
    return "\n".join([f"# Color table file {name}", f"# {len(classes)} values", *lines]) + "\n"


def _slicer_line(label: int, name: str) -> str:
    red, green, blue = class_rgb(label)
    return f"{label} {'_'.join(name.split())} {red} {green} {blue} {255 if label else 0}"
