"""References in docstrings to names of the package that the site has no entry for."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import medtransfer


def on_missing_reference(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Sphinx's event: a public name is found by the place where it is defined; an inner one stands as plain text.

    A name that is nowhere in the package stays missing, which is a warning.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    if public := _public_names().get(target):
        domain = env.get_domain("py")
        return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], public, node, contnode)
    return contnode if _is_of_the_package(target) else None


@cache
def _public_names() -> dict[str, str]:
    """``medtransfer.adapter.report.TransferReport`` -> ``medtransfer.TransferReport``."""
    values = {name: getattr(medtransfer, name) for name in medtransfer.__all__ if name != "__version__"}
    return {f"{value.__module__}.{value.__qualname__}": f"medtransfer.{name}" for name, value in values.items()}


def _is_of_the_package(name: str) -> bool:
    """Whether a module of the package that the docstrings brought in holds the name, or is the name."""
    home, _, last = name.rpartition(".")
    modules = {key: module for key, module in sys.modules.items() if key.split(".")[0] == "medtransfer"}
    homes = [modules[home]] if home in modules else [] if home else list(modules.values())
    return name in modules or any(hasattr(module, last) for module in homes)
