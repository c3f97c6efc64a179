"""The command line's reference, out of the parsers that the commands themselves use."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator
from importlib import import_module

from medtransfer.cli.main import COMMANDS
from medtransfer.cli.parser import Parser

from .table import plain

OWN_GROUPS = {"options": "", "positional arguments": ""}


def page(commands: dict[str, str] = COMMANDS) -> str:
    """A section for each command: what it does, its usage, and each option as an entry that can be linked to."""
    return "\n\n".join(line for name, summary in commands.items() for line in _section(name, summary))


def _section(name: str, summary: str) -> Iterator[str]:
    module = import_module(f"medtransfer.cli.{name}")
    parser = Parser(f"medtransfer {name}", summary, module.USAGE)
    module.add_arguments(parser)
    yield f"## `medtransfer {name}`"
    yield f"{plain(summary.capitalize())}."
    yield f"```text\nmedtransfer {name} {module.USAGE}\n```"
    yield f"```{{program}} medtransfer {name}\n```"
    yield from _groups(parser)


def _groups(parser: ArgumentParser) -> Iterator[str]:
    own_first = sorted(parser._action_groups, key=lambda group: group.title not in OWN_GROUPS)
    for group in own_first:
        actions = [action for action in group._group_actions if action.help != SUPPRESS and action.dest != "help"]
        if actions and group.title not in OWN_GROUPS:
            yield f"**{(group.title or '').capitalize()}**"
        yield from (_entry(parser, action) for action in actions)


def _entry(parser: ArgumentParser, action: Action) -> str:
    """An option or argument with its values, what it does, and what it is when not given."""
    formatter = parser._get_formatter()
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    values = "" if action.nargs == 0 else formatter._format_args(action, name)
    names = ", ".join(f"{name} {values}".strip() for name in action.option_strings) or values
    says = plain(formatter._expand_help(action)) if action.help else ""
    needed = " *Needed.*" if action.required and action.option_strings else ""
    return f"````{{option}} {names}\n{says[:1].upper()}{says[1:]}.{_choices(action)}{needed}\n````"


def _choices(action: Action) -> str:
    return f" One of {', '.join(f'`{choice}`' for choice in action.choices)}." if action.choices else ""
