"""All modules of oracle cases, found by their name: ``<dialect>_oracle.py`` with ``cases(folder)``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

MODULES = [
    import_module(f"tests.adapter.dialects.{path.stem}") for path in sorted(Path(__file__).parent.glob("*_oracle.py"))
]
