"""Push refuses what nobody could use, and leaves no half of it on the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtransfer.errors import CheckpointError, UsageError
from medtransfer.sharing.hub import HubError
from medtransfer.sharing.push import push
from tests.sharing.stub_hub import Answer, Seen, StubHub, refusal

REPOSITORY = "clinic/liver-ct"


@pytest.mark.parametrize("nothing", ["", r"\u0000\u001b"])
def test_push_without_a_licence(hub: StubHub, folder: Path, nothing: str) -> None:
    path = folder / "model.json"
    path.write_text(path.read_text().replace("CC-BY-4.0", nothing))
    with pytest.raises(UsageError, match=r"model.json names no licence. Name it with --license"):
        push(folder, REPOSITORY, create=True)
    assert hub.requests == []


def test_push_with_another_licence(hub: StubHub, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"names the licence 'CC-BY-4.0', not 'mit'"):
        push(folder, REPOSITORY, license="mit")


def test_push_of_a_damaged_folder(hub: StubHub, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="damaged or exchanged"):
        push(folder, REPOSITORY, create=True)
    assert hub.requests == []


def test_push_of_a_licence_that_is_a_link_out(hub: StubHub, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="link that leads out of the model folder"):
        push(folder, REPOSITORY, create=True)


def test_push_of_a_page_that_is_too_long(hub: StubHub, folder: Path) -> None:
    (folder / "README.md").write_text("x" * (2 << 20))
    with pytest.raises(UsageError, match=r"README.md is 2097152 bytes long, more than the 1048576 that pull takes"):
        push(folder, REPOSITORY, keep_readme=True)


def test_push_to_a_repository_that_is_not_there(hub: StubHub, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no such repository, or it is private and not yours. Pass --create"):
        push(folder, REPOSITORY)
    assert hub.repositories == {}


def test_push_to_a_repository_whose_owners_give_access(hub: StubHub, folder: Path) -> None:
    hub.twist = lambda seen, answer: refusal(403, "GatedRepo") if seen.path.startswith("/api/models/") else None
    with pytest.raises(UsageError, match="its owners give access one by one"):
        push(folder, REPOSITORY, create=True)
    assert not [seen.path for seen in hub.requests if seen.path.endswith("/create")]


def test_push_without_the_right_to(hub: StubHub, folder: Path) -> None:
    hub.add(REPOSITORY, {".gitattributes": b""})
    hub.twist = lambda seen, answer: refusal(403, "", "read only") if "/preupload/" in seen.path else None
    with pytest.raises(UsageError, match=r"answers 403 read only\. Log in with a token that may do this"):
        push(folder, REPOSITORY)


def test_push_while_another_pushes(hub: StubHub, folder: Path) -> None:
    hub.add(REPOSITORY, {".gitattributes": b""})

    def overtake(seen: Seen, answer: Answer) -> None:
        if "/preupload/" in seen.path:
            hub.add(REPOSITORY, {"README.md": b"first"})

    hub.twist = overtake
    with pytest.raises(UsageError, match="answers 412 A commit has happened since"):
        push(folder, REPOSITORY)


def test_push_to_a_repository_that_ignores_weights(hub: StubHub, folder: Path) -> None:
    hub.add(REPOSITORY, {".gitattributes": b""})
    hub.ignored = {"model.safetensors"}
    with pytest.raises(HubError, match="lacks files that were sent"):
        push(folder, REPOSITORY)


def test_push_when_the_storage_fails(hub: StubHub, folder: Path) -> None:
    hub.add(REPOSITORY, {".gitattributes": b""})
    before = hub.repositories[REPOSITORY].refs["main"]
    hub.servers[1].shutdown()
    hub.servers[1].server_close()
    with pytest.raises(HubError, match="no connection"):
        push(folder, REPOSITORY)
    assert hub.repositories[REPOSITORY].refs["main"] == before
