"""``ORG/NAME@REVISION``: which model of a hub is meant, and which state of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..checkpoint.wording import shown
from ..errors import UsageError

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Reference:
    """A repository of a hub and a revision of it.

    Attributes:
        repository: ``ORG/NAME``.
        revision: A commit of 40 hexadecimal digits, a branch or a tag.
    """

    repository: str
    revision: str

    @property
    def pinned(self) -> bool:
        """Whether it means the same files for ever: a branch moves and a tag can be moved, a commit cannot."""
        return COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def parse_repository(text: str) -> str:
    """Check ``ORG/NAME``.

    Raises:
        UsageError: it is no name of a repository.

    >>> parse_repository("clinic/liver-ct")
    'clinic/liver-ct'
    """
    if not _REPOSITORY.fullmatch(text) or re.search(r"--|\.\.|\.git$", text):
        hint = "Write ORG/NAME, both of letters, digits, '-', '_' and '.'"
        raise UsageError(f"{shown(text)!r} is no name of a repository", hint=hint)
    return text


def parse_reference(text: str) -> Reference:
    """Read ``ORG/NAME@REVISION``.

    Raises:
        UsageError: it has no revision, or one of its parts is no name.

    >>> parse_reference("clinic/liver-ct@v1.0")
    Reference(repository='clinic/liver-ct', revision='v1.0')
    >>> parse_reference("clinic/liver-ct")
    Traceback (most recent call last):
    medtransfer.errors.UsageError: 'clinic/liver-ct' names no revision. Write clinic/liver-ct@COMMIT, ...
    """
    name, _, revision = text.partition("@")
    repository = parse_repository(name)
    if not revision:
        hint = f"Write {name}@COMMIT, or {name}@main for whatever is newest now"
        raise UsageError(f"{shown(text)!r} names no revision", hint=hint)
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise UsageError(f"{shown(revision)!r} is no commit, branch or tag", hint=f"Write {name}@COMMIT")
    return Reference(repository, revision)
