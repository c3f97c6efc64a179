"""A model folder goes to a hub and comes back bit for bit, by the commands that users type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from huggingface_hub import constants

from medtransfer.checkpoint.card import ModelCard, read_card
from medtransfer.checkpoint.folder import read_model_folder, write_model_folder
from medtransfer.cli import main
from medtransfer.errors import UsageError
from medtransfer.sharing.pull import pull
from medtransfer.sharing.push import pack, push
from tests.sharing.conftest import TOKEN
from tests.sharing.stub_hub import Answer, Seen, StubHub

REPOSITORY = "clinic/liver-ct"


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("push", "pull"):
        monkeypatch.setitem(main.COMMANDS, name, name)


def command(*arguments: object) -> int:
    return main.run([str(argument) for argument in arguments])


def test_it_comes_back_bit_for_bit(hub: StubHub, folder: Path, tmp_path: Path) -> None:
    pushed = push(folder, REPOSITORY, create=True)
    assert pushed.created
    assert pushed.changed
    assert hub.repositories[REPOSITORY].private, "nobody asked for a public one"
    pulled = pull(str(pushed.reference), tmp_path / "back")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
    assert "medtransfer pull clinic/liver-ct@COMMIT" in (tmp_path / "back" / "README.md").read_text()
    origin = json.loads((tmp_path / "back" / "hub.json").read_text())
    assert origin == {"repository": REPOSITORY, "revision": pushed.commit, "commit": pushed.commit}
    assert pulled.ignored == (".gitattributes",)
    assert not pulled.cached
    read_model_folder(tmp_path / "back")


def test_by_command(hub: StubHub, folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert command("push", folder, REPOSITORY, "--create") == 0
    shown = capsys.readouterr()
    reference = shown.out.splitlines()[-1].removeprefix("reference: ")
    assert f"{REPOSITORY}: made, private" in shown.out
    assert "licence CC-BY-4.0" in shown.err
    assert "model.safetensors 5" in shown.err
    assert command("pull", f"{REPOSITORY}@main", "-o", tmp_path / "back") == 0
    told = capsys.readouterr().out
    assert f"note: 'main' can move. To get these files again: {reference}" in told
    assert "not fetched: .gitattributes" in told
    assert command("push", tmp_path / "back", REPOSITORY, "--json") == 0
    sent = json.loads(capsys.readouterr().out)
    assert (sent["changed"], sent["reference"]) == (False, reference)
    assert [file["name"] for file in sent["sent"]["files"]] == ["README.md", "model.json", "model.safetensors"]
    assert command("pull", reference, "-o", tmp_path / "again", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cached"]


def test_the_same_content_again_makes_no_commit(hub: StubHub, folder: Path) -> None:
    first = push(folder, REPOSITORY, create=True)
    commits = len(hub.repositories[REPOSITORY].commits)
    hub.requests.clear()
    again = push(folder, REPOSITORY)
    assert [seen.method for seen in hub.requests] == ["GET"], "nothing is offered to the hub"
    assert (again.commit, again.changed, again.created) == (first.commit, False, False)
    assert again.url == first.url
    assert len(hub.repositories[REPOSITORY].commits) == commits
    assert "/commit/" in str(first.url)
    assert "no new commit" in str(again)


def test_one_commit_holds_what_changed(hub: StubHub, folder: Path) -> None:
    first = push(folder, REPOSITORY, create=True)
    (folder / "LICENSE").write_text("Share and credit.\n")
    commits = len(hub.repositories[REPOSITORY].commits)
    second = push(folder, REPOSITORY, message="With its licence")
    assert second.commit != first.commit
    assert len(hub.repositories[REPOSITORY].commits) == commits + 1
    sent = next(seen for seen in reversed(hub.requests) if "/commit/" in seen.path)
    assert b"With its licence" in sent.body
    assert first.commit.encode() in sent.body, "the commit that it follows"


def test_a_pinned_commit_in_the_cache_needs_no_request(hub: StubHub, folder: Path, tmp_path: Path) -> None:
    reference = str(push(folder, REPOSITORY, create=True).reference)
    pull(reference, tmp_path / "first")
    hub.requests.clear()
    hub.storage_requests.clear()
    pulled = pull(reference, tmp_path / "second")
    assert pulled.cached
    assert pulled.ignored is None
    assert hub.requests == hub.storage_requests == []
    assert (tmp_path / "first" / "README.md").read_bytes() == (tmp_path / "second" / "README.md").read_bytes()


def test_offline_uses_the_cache_or_says_what_to_do(
    hub: StubHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    reference = str(push(folder, REPOSITORY, create=True).reference)
    pull(reference, tmp_path / "first")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert command("pull", reference, "-o", tmp_path / "second") == 0
    assert command("pull", f"{REPOSITORY}@main", "-o", tmp_path / "third") == 6
    assert "HF_HUB_OFFLINE is set, and this is a branch or tag, which only the hub can" in capsys.readouterr().err
    assert command("pull", f"{REPOSITORY}@{'0' * 40}", "-o", tmp_path / "third") == 6
    assert "is not in the cache. Unset it" in capsys.readouterr().err
    assert command("push", folder, REPOSITORY) == 6
    assert "HF_HUB_OFFLINE is set, so the hub is not asked" in capsys.readouterr().err
    assert hub.requests == []
    assert not (tmp_path / "third").exists()


def test_a_tag_is_told_by_its_commit(hub: StubHub, files: dict[str, bytes], tmp_path: Path) -> None:
    commit = hub.add(REPOSITORY, files)
    hub.repositories[REPOSITORY].refs["v1.0"] = commit
    hub.add(REPOSITORY, {**files, "README.md": b"newer"})
    pulled = pull(f"{REPOSITORY}@v1.0", tmp_path / "back")
    assert (pulled.commit, pulled.revision) == (commit, "v1.0")
    assert (tmp_path / "back" / "README.md").read_bytes() == files["README.md"]
    asked = [seen.path for seen in hub.requests if "/resolve/" in seen.path]
    assert asked
    assert all(commit in path for path in asked), "files are asked for by the commit, not by the tag"


def test_a_missing_page_is_drawn(hub: StubHub, files: dict[str, bytes], tmp_path: Path) -> None:
    del files["README.md"]
    pull(f"{REPOSITORY}@{hub.add(REPOSITORY, files)}", tmp_path / "back")
    assert "# liver-ct" in (tmp_path / "back" / "README.md").read_text()


def test_another_endpoint_is_asked_alone(
    hub: StubHub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the guard of these tests fails whatever asks for another machine
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "https://huggingface.co/{repo_id}/resolve/{revision}/{filename}"
    )
    reference = f"{REPOSITORY}@{hub.add(REPOSITORY, files)}"
    pull(reference, tmp_path / "back", endpoint=hub.endpoint)
    push(tmp_path / "back", "clinic/other", create=True, endpoint=hub.endpoint)
    assert set(hub.repositories) == {REPOSITORY, "clinic/other"}


def test_the_hub_is_told_no_more_than_versions(hub: StubHub, folder: Path, tmp_path: Path) -> None:
    pull(str(push(folder, REPOSITORY, create=True).reference), tmp_path / "back")
    agents = {seen.headers["user-agent"] for seen in hub.requests}
    assert all(agent.startswith("medtransfer/") for agent in agents)
    assert not [agent for agent in agents if "torch" in agent or "agent" in agent]
    assert not [seen for seen in hub.requests if "harness" in seen.path]
    assert not constants.HF_HUB_DISABLE_TELEMETRY, "the setting is the user's again"


def test_large_files_go_the_one_way_that_is_bounded(
    hub: StubHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    off = []

    def with_xet(seen: Seen, answer: Answer) -> Answer:
        """What a hub answers that has the other way too."""
        off.append(constants.HF_HUB_DISABLE_XET)
        route = f"{hub.endpoint}/api/models/{REPOSITORY}/xet-read-token/main"
        xet = {"X-Xet-Hash": "0" * 64, "X-Xet-Refresh-Route": route} if answer.status == 302 else {}
        return Answer(answer.status, answer.body, {**answer.headers, **xet})

    hub.twist = with_xet
    pull(str(push(folder, REPOSITORY, create=True).reference), tmp_path / "back")
    assert all(off)
    assert not constants.HF_HUB_DISABLE_XET, "the setting is the user's again"
    assert not [seen for seen in hub.requests if "xet" in seen.path]
    assert {seen.method for seen in hub.storage_requests} == {"PUT", "GET"}
    assert not any("authorization" in seen.headers for seen in hub.storage_requests)


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: StubHub, folder: Path, tmp_path: Path, capfd: Any, caplog: Any
) -> None:
    assert command("push", folder, REPOSITORY, "--create") == 0
    assert command("pull", f"{REPOSITORY}@main", "-o", tmp_path / "back") == 0
    assert all(seen.headers["authorization"] == f"Bearer {TOKEN}" for seen in hub.requests)
    assert hub.storage_requests
    assert not any("authorization" in seen.headers for seen in hub.storage_requests)
    captured = capfd.readouterr()
    assert TOKEN not in captured.out + captured.err + caplog.text
    assert "%" not in captured.err, "bars are for terminals"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_public_repository_is_asked_for(hub: StubHub, folder: Path) -> None:
    assert push(folder, REPOSITORY, create=True, public=True).private is False
    with pytest.raises(UsageError, match="public is for a repository that is made"):
        push(folder, REPOSITORY, public=True)
    assert not hub.repositories[REPOSITORY].private
    # one that exists stays as it is
    assert push(folder, REPOSITORY, create=True).private is False


def test_the_licence_can_be_named_for_a_card_without_one(hub: StubHub, tmp_path: Path, folder: Path) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("CC-BY-4.0", ""))
    before = (folder / "model.json").read_bytes()
    pushed = push(folder, REPOSITORY, license="apache-2.0", create=True)
    assert (folder / "model.json").read_bytes() == before
    pull(str(pushed.reference), tmp_path / "back")
    assert read_card(tmp_path / "back").license == "apache-2.0"
    assert 'license: "apache-2.0"' in (tmp_path / "back" / "README.md").read_text()


def test_a_page_written_by_hand_can_be_kept(hub: StubHub, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\nBy hand.\n")
    pushed = push(folder, REPOSITORY, create=True, keep_readme=True)
    held = hub.repositories[REPOSITORY].commits[str(pushed.commit)]
    assert held["README.md"].endswith(b"By hand.\n")


def test_only_files_of_a_model_folder_are_sent(hub: StubHub, folder: Path) -> None:
    (folder / "notes.txt").write_text("patient Miller")
    (folder / "hub.json").write_text("{}")
    pushed = push(folder, REPOSITORY, create=True)
    held = set(hub.repositories[REPOSITORY].commits[str(pushed.commit)])
    assert held == {".gitattributes", "README.md", "model.json", "model.safetensors"}


def test_a_dry_run_asks_nobody(hub: StubHub, folder: Path, capsys: Any) -> None:
    assert command("push", folder, REPOSITORY, "--dry-run") == 0
    shown = capsys.readouterr()
    assert "nothing was sent (dry run)" in shown.out
    assert "model.json" in shown.err
    assert hub.requests == []


def test_a_licence_is_shown_on_one_line(tmp_path: Path, card: ModelCard) -> None:
    forged = msgspec.structs.replace(card, license="MIT\n\x1b[2Jsent")
    write_model_folder(tmp_path / "net", {"stem.weight": torch.zeros(4, 1, 3, 3, 3)}, forged)
    assert str(pack(tmp_path / "net", REPOSITORY)).splitlines()[0].endswith(r"licence MIT\n\x1b[2Jsent")
