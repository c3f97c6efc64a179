"""Argument parsing that answers a slip with a suggestion, in one line under a one-line usage."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from .messages import write_error, write_log


class Parser(argparse.ArgumentParser):
    """An argparse parser without abbreviations; a wrong option is named together with the nearest right one."""

    def __init__(self, prog: str, description: str, usage: str) -> None:
        super().__init__(prog=prog, description=description, usage=usage, allow_abbrev=False)
        self._given: Sequence[str] = ()

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse, or print the usage and one line of error to stderr and exit with 2."""
        self._given = arguments
        options, extra = self.parse_known_args(list(arguments))
        if extra:
            self.error(f"unexpected argument {extra[0]!r}")
        self._refuse_empty(options)
        return options

    def _refuse_empty(self, options: argparse.Namespace) -> None:
        """An empty text is what a shell makes of a variable that is not set; as a path it would be this folder."""
        for action in self._actions:
            given = getattr(options, action.dest, None)
            if given == "" or (isinstance(given, list) and "" in given):
                self.error(f"argument {'/'.join(action.option_strings) or action.metavar}: must not be empty")

    def error(self, message: str) -> NoReturn:
        """Exit with 2; an unknown option among what was given is blamed first, since it often causes the rest."""
        unknown = [name for name in map(_option_name, self._given) if name and name not in self._option_string_actions]
        if unknown:
            message = f"unknown option {unknown[0]!r}{did_you_mean(unknown[0], self._option_string_actions)}"
        refuse(f"usage: {self.usage}", message, self.prog)


def refuse(usage: str, message: str, program: str) -> NoReturn:
    """Write the usage and the error, a line each, and exit with 2."""
    write_log(usage)
    write_error(f"{message}{'' if message.endswith('?') else '.'} See {program} --help.")
    sys.exit(2)


def _option_name(argument: str) -> str:
    """The option's name in ``--name=value`` and ``-n``; empty for values such as ``-1`` or ``scan.nii``.

    >>> [_option_name(argument) for argument in ("--tile=3", "-o", "-1", "--", "-weird.nii")]
    ['--tile', '-o', '', '', '']
    """
    name = argument.split("=", 1)[0]
    is_long = name.startswith("--") and len(name) > 2
    is_short = len(name) == 2 and name[0] == "-" and name[1].isalpha()
    return name if is_long or is_short else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a clause, or nothing.

    >>> did_you_mean("predct", ["predict", "train"])
    ". Did you mean 'predict'?"
    >>> did_you_mean("xyz", ["predict", "train"])
    ''
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f". Did you mean {near[0]!r}?" if near else ""


def number_between(low: float, high: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    """An argparse type: a finite number of ``kind`` in the closed range.

    >>> number_between(0, 1)("0.25")
    0.25
    >>> number_between(1, math.inf, int)("0")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: must be a whole number of at least 1, got '0'
    """
    name = "a whole number" if kind is int else "a number"
    range_text = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
    range_text = "that is finite" if math.isinf(low) else range_text

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"must be {name} {range_text}, got {text!r}")
        return value

    return convert
