"""Every public name says what it is: a summary, its parameters, its errors, an example that runs; and types throughout.

Doctests are run where they stand; here it counts that there are some.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest

import medtransfer
from medtransfer.errors import MedTransferError

#: modules whose ``__all__`` users may rely on; of ``errors`` all classes
MODULES = ("medtransfer", "medtransfer.model_zoo", "medtransfer.model_zoo.detection")
#: public name -> why nothing short shows it
NO_EXAMPLE = {
    "medtransfer.compare": "trains networks, which takes minutes",
    "medtransfer.pull": "asks a server for a model folder",
    "medtransfer.rank_sources": "needs weight files and a dataset",
}


def _public() -> Iterator[tuple[str, Any]]:
    for home in MODULES:
        module = import_module(home)
        for name in module.__all__:
            if name != "__version__":
                yield f"{home}.{name}", getattr(module, name)
    errors = import_module("medtransfer.errors")
    yield from ((f"{errors.__name__}.{name}", thing) for name, thing in vars(errors).items() if inspect.isclass(thing))


@pytest.fixture(scope="module")
def public() -> dict[str, Any]:
    """Name -> thing; read here, since they bring torch and more, which collecting tests need not wait for."""
    return {name: thing for name, thing in _public() if thing.__module__.startswith("medtransfer")}


def _is_container(thing: Any) -> bool:
    """What holds values, and is told by its fields: no example is needed to use it."""
    held = (msgspec.Struct, tuple, Exception)
    return inspect.isclass(thing) and (dataclasses.is_dataclass(thing) or issubclass(thing, held))


def _parameters(thing: Any) -> list[inspect.Parameter]:
    """Those of a function, or of a constructor that the class has of its own."""
    own = not inspect.isclass(thing) or "__init__" in vars(thing) or issubclass(thing, msgspec.Struct | tuple)
    return list(inspect.signature(thing).parameters.values()) if own else []


def _text(thing: Any) -> str:
    return thing.__doc__ or ""


def test_a_summary_says_what_it_is(public: dict[str, Any]) -> None:
    summaries = {name: inspect.cleandoc(_text(thing)).partition("\n\n")[0] for name, thing in public.items()}
    assert {name: text for name, text in summaries.items() if not 10 < len(text) < 300 or text[-1] not in ".:;"} == {}


def test_every_parameter_is_explained(public: dict[str, Any]) -> None:
    given = {name: [one.name for one in _parameters(thing)] for name, thing in public.items()}
    unsaid = {name: [word for word in words if not re.search(rf"\b{word}\b", _text(public[name]))]
              for name, words in given.items()}  # fmt: skip
    assert {name: words for name, words in unsaid.items() if words} == {}


def test_types_are_complete(public: dict[str, Any]) -> None:
    untyped = [f"{name}: {one.name}" for name, thing in public.items() for one in _parameters(thing)
               if one.annotation is one.empty]  # fmt: skip
    functions = {name: thing for name, thing in public.items() if not inspect.isclass(thing)}
    untyped += [name for name, thing in functions.items() if "return" not in thing.__annotations__]
    assert untyped == []


def test_an_example_shows_it(public: dict[str, Any]) -> None:
    bare = {name for name, thing in public.items() if ">>> " not in _text(thing) and not _is_container(thing)}
    assert bare == set(NO_EXAMPLE)


def test_errors_are_named(public: dict[str, Any]) -> None:
    found = {name: next(_raising(thing, set()), None) for name, thing in public.items()}
    assert {name: place for name, place in found.items() if place and "Raises:\n" not in _text(public[name])} == {}
    # what is looked through is not nothing
    assert sum(place is not None for place in found.values()) > 60


@pytest.mark.parametrize("home", MODULES)
def test_lists_of_lazy_names_agree(home: str) -> None:
    module = import_module(home)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    checked = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in checked[0].body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: node.module for node in imports for alias in node.names}
    assert typed == module._HOMES
    eager = {"MedTransferError", "__version__"} if home == "medtransfer" else set()
    assert {*module._HOMES, *eager} == set(module.__all__)
    assert list(module.__all__) == sorted(set(module.__all__))
    assert set(module.__all__) <= set(dir(module))


def test_each_name_has_one_home() -> None:
    zoo = import_module("medtransfer.model_zoo")
    both = set(zoo.__all__) & set(medtransfer.__all__)
    assert all(getattr(zoo, name) is getattr(medtransfer, name) for name in both)


# --- what raises ---------------------------------------------------------------------------------------------------


def _raising(thing: Any, seen: set[Any]) -> Iterator[str]:
    """Places where an error of ours is raised, reached by plain calls from a function or constructor."""
    for function in _functions(thing):
        if function in seen:
            continue
        seen.add(function)
        home, node = sys.modules[function.__module__], _nodes(function.__module__).get(function.__qualname__)
        for inner in ast.walk(node) if node is not None else ():
            if isinstance(inner, ast.Raise) and _is_ours(inner.exc, home):
                yield f"{function.__module__}.{function.__qualname__}, line {inner.lineno}"
            if isinstance(inner, ast.Call):
                yield from _raising(_resolved(inner.func, home, function), seen)


def _functions(thing: Any) -> list[FunctionType]:
    if inspect.isclass(thing):
        names = ("__init__", "__post_init__")
        return [function for name in names for function in _functions(vars(thing).get(name)) if not _is_error(thing)]
    thing = inspect.unwrap(thing) if callable(thing) else thing
    ours = isinstance(thing, FunctionType) and thing.__module__.startswith("medtransfer.")
    return [thing] if ours else []


def _resolved(called: ast.expr, home: ModuleType, function: Callable[..., Any]) -> Any:
    """What a call calls, where that is a name of the module, of a module that it imported, or of the same class."""
    if isinstance(called, ast.Name):
        return vars(home).get(called.id)
    if not isinstance(called, ast.Attribute) or not isinstance(called.value, ast.Name):
        return None
    if called.value.id == "self":
        owner = getattr(home, function.__qualname__.partition(".")[0], None)
        return inspect.getattr_static(owner, called.attr, None)
    base = vars(home).get(called.value.id)
    return vars(base).get(called.attr) if isinstance(base, ModuleType) else None


def _is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, MedTransferError)


def _is_ours(raised: ast.expr | None, home: ModuleType) -> bool:
    """``raise VolumeError(...)``, or ``raise _refusal(...)`` of a function that returns such an error."""
    named = raised.func if isinstance(raised, ast.Call) else None
    kind = vars(home).get(named.id) if isinstance(named, ast.Name) else None
    returned = getattr(kind, "__annotations__", {}).get("return", "") if isinstance(kind, FunctionType) else ""
    return _is_error(kind) or _is_error(vars(home).get(str(returned)))


@functools.cache
def _nodes(module: str) -> dict[str, ast.AST]:
    """Functions of a module by qualified name, two levels deep."""
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}": inner for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found
