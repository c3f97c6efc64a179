"""A model folder to a hub: read as strictly as one that was pulled, with a licence, in one commit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..checkpoint.card import CARD_NAME, ModelCard, folder_member, format_card
from ..checkpoint.folder import README_NAME, WEIGHTS_NAME, read_model_folder
from ..checkpoint.wording import shown
from ..errors import UsageError
from .hub import Hub, HubError, open_hub
from .reference import parse_repository
from .snapshot import LICENSE_NAME, MAX_BYTES, Snapshot, read_snapshot, sha256_of


@dataclass(frozen=True)
class Parcel:
    """What would be sent: ``str(parcel)`` shows it, :func:`send` sends it.

    Attributes:
        folder: The model folder.
        repository: ``ORG/NAME``.
        contents: The files by name: texts as they will be, weights by their path.
        license: The licence in the card that is sent.
    """

    folder: Path
    repository: str
    contents: dict[str, bytes | Path]
    license: str

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: len(data) if isinstance(data, bytes) else data.stat().st_size
                for name, data in self.contents.items()}  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain data: names, sizes and hashes, not the contents."""
        sizes = self.sizes
        files = [{"name": name, "bytes": sizes[name], "sha256": sha256_of(data)}
                 for name, data in self.contents.items()]  # fmt: skip
        return {"folder": str(self.folder), "repository": self.repository, "license": self.license, "files": files}

    def __str__(self) -> str:
        lines = [f"{self.folder} to {self.repository}, licence {shown(self.license)}"]
        return "\n".join([*lines, *(f"  {name:<18}{size:>14,} bytes" for name, size in self.sizes.items())])


@dataclass(frozen=True)
class Pushed:
    """What was sent.

    Attributes:
        repository: ``ORG/NAME``.
        commit: 40 hexadecimal digits; None after a dry run.
        url: The commit's page; None after a dry run.
        created: Whether the repository was made.
        changed: Whether there is a new commit: none is made where the hub holds the same files already.
        private: Whether only the repository's members see it; None: not known.
        sent: What the parcel was, as plain data.
    """

    repository: str
    commit: str | None
    url: str | None
    created: bool
    changed: bool
    private: bool | None
    sent: dict[str, Any]

    @property
    def reference(self) -> str | None:
        """What to hand on: names these very files for ever."""
        return f"{self.repository}@{self.commit}" if self.commit else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "reference": self.reference}

    def __str__(self) -> str:
        if self.commit is None:
            return f"{self.repository}: nothing was sent (dry run)"
        state = "made, " if self.created else ""
        sight = {True: "private", False: "public", None: "visibility not told"}[self.private]
        news = f"commit: {self.url}" if self.changed else f"no new commit, it holds these files already: {self.url}"
        return f"{self.repository}: {state}{sight}\n{news}\nreference: {self.reference}"


def push(
    folder: str | Path,
    repository: str,
    license: str | None = None,
    create: bool = False,
    public: bool = False,
    message: str | None = None,
    keep_readme: bool = False,
    dry_run: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Send a model folder to a Hugging Face hub, in one commit.

    ``model.safetensors``, ``model.json``, ``README.md`` and, if there is one, ``LICENSE`` are sent, nothing else. The
    same content sent again makes no new commit.

    Args:
        folder: A model folder; it is read as strictly as one that was pulled, and not changed.
        repository: ``ORG/NAME``.
        license: The licence, for a card that names none.
        create: Make the repository if there is none.
        public: Make it public. A repository that is made is private otherwise, since what was shown once cannot be
            taken back; one that exists stays as it is.
        message: The commit's message.
        keep_readme: Send the folder's own ``README.md``, instead of one drawn from ``model.json`` for the repository.
        dry_run: Only say what would be sent; no request is made, and the extra ``hub`` is not needed.
        endpoint: The hub's address, as :func:`medtransfer.pull` takes it; the token goes there.

    Raises:
        CheckpointError: the folder is no sound model folder.
        UsageError: no licence, a name that is none, no such repository, or no right to write to it.
        MissingExtraError: the extra ``hub`` is not installed.
        HubError: the hub cannot be reached, or the transfer broke off.

    >>> import tempfile, medtransfer as mt
    >>> folder = Path(tempfile.mkdtemp()) / "net"
    >>> card = mt.save(mt.create_model("resnet10", base_channels=4, stem_channels=4), folder)
    >>> print(push(folder, "clinic/net", license="CC-BY-4.0", dry_run=True))
    clinic/net: nothing was sent (dry run)
    """
    parcel = pack(folder, repository, license, keep_readme)
    return unsent(parcel) if dry_run else send(parcel, create, public, message, endpoint)


def pack(folder: str | Path, repository: str, license: str | None = None, keep_readme: bool = False) -> Parcel:
    """Check a model folder and put together what is to be sent; no request is made.

    Raises:
        CheckpointError: the folder is no sound model folder.
        UsageError: the card names no licence and none is given, or another; or the name is none.
    """
    repository, folder = parse_repository(repository), Path(folder)
    card = _licensed(read_model_folder(folder)[1], license, folder)
    contents: dict[str, bytes | Path] = {
        README_NAME: _readme(folder, card, repository, keep_readme),
        CARD_NAME: format_card(card),
        WEIGHTS_NAME: folder_member(folder, WEIGHTS_NAME),
    }
    if (folder / LICENSE_NAME).exists():
        contents = {LICENSE_NAME: folder_member(folder, LICENSE_NAME).read_bytes(), **contents}
    parcel = Parcel(folder, repository, contents, card.license)
    for name, size in parcel.sizes.items():
        if size > MAX_BYTES[name]:
            raise UsageError(
                f"{name} is {size} bytes long, more than the {MAX_BYTES[name]} that pull takes", path=folder
            )
    return parcel


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()


def _licensed(card: ModelCard, license: str | None, folder: Path) -> ModelCard:
    stated, given = _printable(card.license), _printable(license or "")
    if not stated and not given:
        hint = "Name it with --license, such as CC-BY-4.0, or in the card; without one nobody may use the model"
        raise UsageError(f"{CARD_NAME} names no licence", path=folder, hint=hint)
    if stated and given and stated.lower() != given.lower():
        hint = "Save the model again with the licence that is meant"
        raise UsageError(
            f"{CARD_NAME} names the licence {shown(stated)!r}, not {shown(given)!r}", path=folder, hint=hint
        )
    return card if stated else msgspec.structs.replace(card, license=given)


def _readme(folder: Path, card: ModelCard, repository: str, keep: bool) -> bytes:
    if keep:
        return folder_member(folder, README_NAME).read_bytes()
    # brings jinja2
    from ..checkpoint.readme import render_readme

    return render_readme(card, repository.partition("/")[2], repository).encode()


def unsent(parcel: Parcel) -> Pushed:
    """What a dry run returns: nothing was sent."""
    return Pushed(parcel.repository, None, None, False, False, None, parcel.to_dict())


def send(
    parcel: Parcel,
    create: bool = False,
    public: bool = False,
    message: str | None = None,
    endpoint: str | None = None,
) -> Pushed:
    """Send what :func:`pack` put together; arguments and errors as :func:`push`."""
    if public and not create:
        hint = "Pass --create too, or change the settings of the repository on the hub"
        raise UsageError("public is for a repository that is made: one that is there stays as it is", hint=hint)
    with open_hub(parcel.repository, endpoint, refused=UsageError) as hub:
        before = _find(hub, parcel.repository, create)
        if before is None:
            hub.api.create_repo(parcel.repository, private=not public)
        if before is not None and _holds(before, parcel):
            commit, url = before.commit, f"{hub.api.endpoint}/{parcel.repository}/commit/{before.commit}"
        else:
            commit, url = _commit(hub, parcel, message, before.commit if before else None)
    changed = before is None or commit != before.commit
    private = before.private if before else not public
    return Pushed(parcel.repository, commit, url, before is None, changed, private, parcel.to_dict())


def _find(hub: Hub, repository: str, create: bool) -> Snapshot | None:
    """What the repository holds; None: there is none, and it is to be made."""
    try:
        return read_snapshot(hub, repository)
    except hub.errors.RepositoryNotFoundError as error:
        if isinstance(error, hub.errors.GatedRepoError):
            raise  # a kind of it, of a repository that is there
        if create:
            return None
        reason = f"{repository}: the hub has no such repository, or it is private and not yours"
        raise UsageError(reason, hint="Pass --create to make it, or log in (hf auth login, or HF_TOKEN)") from error


def _holds(snapshot: Snapshot, parcel: Parcel) -> bool:
    return all(
        name in snapshot.files and snapshot.files[name].is_of(content) for name, content in parcel.contents.items()
    )


def _commit(hub: Hub, parcel: Parcel, message: str | None, parent: str | None) -> tuple[str, str]:
    """One commit with all files; refused by the hub if somebody else made one since ``parent``."""
    add = hub.library.CommitOperationAdd
    made = hub.api.create_commit(
        parcel.repository,
        [add(path_in_repo=name, path_or_fileobj=content) for name, content in parcel.contents.items()],
        commit_message=message or "A model folder of medtransfer",
        parent_commit=parent,
    )
    # the reference will be handed on: a rule of the repository (.gitignore) may have left a file out
    if not _holds(read_snapshot(hub, parcel.repository, str(made.oid)), parcel):
        raise HubError(f"{parcel.repository}: the commit {made.oid} lacks files that were sent", hint="See its page")
    return str(made.oid), str(made.commit_url)
