"""What a hub says a repository holds at one commit, and whether a file is the one that it lists."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.card import CARD_NAME, MAX_CARD_BYTES
from ..checkpoint.folder import README_NAME, WEIGHTS_NAME
from ..checkpoint.source import file_sha256
from .hub import Hub, HubError
from .reference import COMMIT

LICENSE_NAME = "LICENSE"
#: The files that are sent and fetched, all others being left where they are; how long each may be. Weights are last.
MAX_BYTES = {LICENSE_NAME: 1 << 20, README_NAME: 1 << 20, CARD_NAME: MAX_CARD_BYTES, WEIGHTS_NAME: 8 << 30}


@dataclass(frozen=True)
class ListedFile:
    """A file as the hub lists it.

    Attributes:
        size: Bytes.
        sha256: Of the content, where it is in large file storage.
        blob: Git's own hash, where it is not.
    """

    size: int
    sha256: str | None
    blob: str | None

    def is_of(self, content: bytes | Path) -> bool:
        r"""Whether this is the content.

        >>> ListedFile(3, None, "45b983be36b73c0788dc9cbcb76cbb80fc7bb057").is_of(b"hi\n")
        True
        """
        if self.sha256 is not None:
            return self.sha256 == sha256_of(content)
        data = content if isinstance(content, bytes) else content.read_bytes()
        # git names a file by this hash; it is compared here, nothing rests on it
        return self.blob == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit.

    Attributes:
        commit: 40 hexadecimal digits.
        files: By path within the repository.
        private: Whether only its members see it; None if the hub does not say.
    """

    commit: str
    files: dict[str, ListedFile]
    private: bool | None


def read_snapshot(hub: Hub, repository: str, revision: str | None = None) -> Snapshot:
    """Ask the hub, in one request, which commit a revision is and what it holds.

    Raises:
        HubError: the answer names no commit, or lists no sizes and hashes.
    """
    found = hub.api.model_info(repository, revision=revision, files_metadata=True, timeout=hub.timeout)
    files = {str(file.rfilename): _listed(file) for file in found.siblings or ()}
    if not COMMIT.fullmatch(str(found.sha)):
        raise HubError(f"{repository}: the hub's answer names no commit", hint="Check HF_ENDPOINT")
    return Snapshot(str(found.sha), files, found.private)


def _listed(file: Any) -> ListedFile:
    if file.lfs is not None:
        return ListedFile(int(file.lfs.size), str(file.lfs.sha256), None)
    return ListedFile(int(file.size), None, str(file.blob_id))


def sha256_of(content: bytes | Path) -> str:
    """The sha256 of a text or a file, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_sha256(content)
