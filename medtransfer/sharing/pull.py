"""A model folder from a hub: pinned, checked, and whole or not there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.card import CARD_NAME, ModelCard
from ..checkpoint.folder import README_NAME, WEIGHTS_NAME, read_model_folder, refuse_other_folder
from ..checkpoint.wording import shown
from ..errors import CheckpointError
from ..files import atomic_folder, refuse_existing, refuse_unusable_folder, write_json
from .hub import Hub, HubError, counter, open_hub
from .reference import Reference, parse_reference
from .snapshot import MAX_BYTES, ListedFile, Snapshot, read_snapshot

#: The file that says which commit a folder was pulled from.
ORIGIN_NAME = "hub.json"
NEEDED = (CARD_NAME, WEIGHTS_NAME)
SHOWN = 12


@dataclass(frozen=True)
class Pulled:
    """What was fetched.

    Attributes:
        folder: The model folder.
        repository: ``ORG/NAME``.
        revision: What was asked for.
        commit: What that is: 40 hexadecimal digits.
        files: Names of the files that were taken.
        ignored: Names of what else the repository holds, which was not fetched; None: the hub was not asked.
        cached: Whether all came from the cache, without a request.
    """

    folder: Path
    repository: str
    revision: str
    commit: str
    files: tuple[str, ...]
    ignored: tuple[str, ...] | None
    cached: bool

    @property
    def reference(self) -> str:
        """What names the same files for ever."""
        return f"{self.repository}@{self.commit}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "folder": str(self.folder), "reference": self.reference}

    def __str__(self) -> str:
        source = "the cache, without a request" if self.cached else "the hub"
        lines = [f"{self.reference}: {', '.join(self.files)} from {source}; sha256 verified"]
        if self.ignored:
            rest = f" and {len(self.ignored) - SHOWN} more" if len(self.ignored) > SHOWN else ""
            lines.append(f"not fetched: {', '.join(map(shown, self.ignored[:SHOWN]))}{rest}")
        if self.revision != self.commit:
            lines.append(f"note: {self.revision!r} can move. To get these files again: {self.reference}")
        return "\n".join([*lines, f"written: {self.folder}"])


def pull(reference: str, folder: str | Path, overwrite: bool = False, endpoint: str | None = None) -> Pulled:
    """Fetch a model folder from a Hugging Face hub.

    A model that was measured is one commit, so a revision must be named: a name alone would be another model tomorrow.
    A branch or tag is allowed, since it says in writing that it moves; the hub tells its commit, which is recorded in
    ``hub.json`` and returned. A commit that was pulled before comes from the library's cache without any request.

    Only ``model.safetensors``, ``model.json``, ``README.md`` and ``LICENSE`` are fetched. Each must be of the length
    and the hash that the hub lists, and the folder must pass the strict reader (schema, sha256 of the weights, tensors)
    before it gets its name.

    Args:
        reference: ``ORG/NAME@REVISION``: a commit of 40 digits, a branch or a tag.
        folder: The folder to make; it appears whole or not at all.
        overwrite: Replace a model folder that stands there.
        endpoint: The hub's address; None: the variable ``HF_ENDPOINT``, or the public hub. The token that the hub's
            library keeps (``HF_TOKEN``, ``hf auth login``) goes there.

    Raises:
        UsageError: the reference is none, or the folder cannot be made.
        OutputExistsError: the folder exists.
        MissingExtraError: the extra ``hub`` is not installed.
        CheckpointError: no such repository or revision, no access to it, or it holds no sound model folder.
        HubError: the hub cannot be reached, or the transfer broke off.
        ResourceError: the disk is full or the place cannot be written.
    """
    wanted, folder = parse_reference(reference), Path(folder)
    refuse_existing(folder, overwrite)
    refuse_other_folder(folder)
    refuse_unusable_folder(folder.parent)
    with open_hub(reference, endpoint) as hub:
        sources = _cached(hub, wanted)
        if sources:
            snapshot = None
        else:
            _refuse_offline(hub, wanted)
            snapshot = _listed(hub, wanted)
            sources = _fetch(hub, wanted.repository, snapshot)
    commit = snapshot.commit if snapshot else wanted.revision
    ignored = tuple(sorted(set(snapshot.files) - set(sources))) if snapshot else None
    pulled = Pulled(folder, wanted.repository, wanted.revision, commit, tuple(sources), ignored, snapshot is None)
    _write(pulled, sources, overwrite)
    return pulled


def _cached(hub: Hub, wanted: Reference) -> dict[str, Path]:
    """The files of a commit that the cache holds whole; weights are fetched last, so where they are the others are."""
    if not wanted.pinned:
        return {}
    look = hub.library.try_to_load_from_cache
    found = {name: look(wanted.repository, name, revision=wanted.revision) for name in MAX_BYTES}
    paths = {name: Path(path) for name, path in found.items() if isinstance(path, str)}
    return paths if all(name in paths for name in NEEDED) else {}


def _refuse_offline(hub: Hub, wanted: Reference) -> None:
    if not hub.offline:
        return
    lacks = "is not in the cache" if wanted.pinned else "is a branch or tag, which only the hub can resolve"
    hint = "Unset it, or name a commit that was pulled before: ORG/NAME@COMMIT"
    raise HubError(f"{wanted}: HF_HUB_OFFLINE is set, and this {lacks}", hint=hint)


def _listed(hub: Hub, wanted: Reference) -> Snapshot:
    """What the hub lists, if it is a model folder of bounded size at the commit that was asked for."""
    snapshot = read_snapshot(hub, wanted.repository, wanted.revision)
    if wanted.pinned and snapshot.commit != wanted.revision:
        raise CheckpointError(f"{wanted}: the hub answers with another commit, {snapshot.commit}")
    missing = [name for name in NEEDED if name not in snapshot.files]
    if missing:
        held = ", ".join(map(shown, sorted(snapshot.files)[:SHOWN])) or "nothing"
        hint = "Weights of other formats: download the file yourself, then medtransfer convert"
        raise CheckpointError(f"{wanted}: is no model folder: {missing[0]} is missing (it holds {held})", hint=hint)
    for name, limit in MAX_BYTES.items():
        if name in snapshot.files and snapshot.files[name].size > limit:
            size = snapshot.files[name].size
            raise CheckpointError(f"{wanted}: {name} is {size} bytes long, more than the {limit} that are fetched")
    return snapshot


def _fetch(hub: Hub, repository: str, snapshot: Snapshot) -> dict[str, Path]:
    names = [name for name in MAX_BYTES if name in snapshot.files]
    return {name: _download(hub, repository, snapshot.commit, name, snapshot.files[name]) for name in names}


def _download(hub: Hub, repository: str, commit: str, name: str, listed: ListedFile) -> Path:
    """One file into the library's cache, where a damaged one must not stay."""
    subject = f"{repository}@{commit[:12]}: {name}"
    bar = counter(hub, listed.size, subject)
    path = Path(hub.api.hf_hub_download(repository, name, revision=commit, tqdm_class=bar))
    if not listed.is_of(path):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise CheckpointError(f"{subject} is not what the hub lists: another hash", hint="Pull it again")
    return path


def _write(pulled: Pulled, sources: Mapping[str, Path], overwrite: bool) -> None:
    with atomic_folder(pulled.folder, overwrite) as part:
        for name, path in sources.items():
            # its content: the cache holds links
            shutil.copyfile(path, part / name)
        card = _read_strictly(part, pulled)
        if README_NAME not in sources:
            # brings jinja2
            from ..checkpoint.readme import render_readme

            text = render_readme(card, pulled.repository.partition("/")[2], pulled.repository)
            (part / README_NAME).write_text(text, encoding="utf-8")
        origin = {"repository": pulled.repository, "revision": pulled.revision, "commit": pulled.commit}
        write_json(part / ORIGIN_NAME, origin)


def _read_strictly(part: Path, pulled: Pulled) -> ModelCard:
    """The card of a sound model folder; refusals name the repository, since the folder will not be there."""
    try:
        return read_model_folder(part)[1]
    except CheckpointError as error:
        where = f"{error.path.name}: " if error.path and error.path != part else ""
        hint = f"Delete {pulled.repository} from the cache and pull again" if pulled.cached else error.hint
        raise CheckpointError(f"{pulled.reference}: {where}{error.reason}", hint=hint) from error
