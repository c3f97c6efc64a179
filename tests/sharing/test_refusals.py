"""Pull refuses damaged and hostile repositories and hubs that fail: one line, the right code, nothing left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from medtransfer.cli import main
from medtransfer.errors import CheckpointError, MedTransferError, MissingExtraError, OutputExistsError
from medtransfer.sharing import snapshot
from medtransfer.sharing.pull import pull
from tests.sharing.conftest import TOKEN
from tests.sharing.stub_hub import Answer, Seen, StubHub, refusal, told

REPOSITORY = "clinic/liver-ct"
PICKLE = b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."
Files = dict[str, bytes]


@pytest.fixture
def refused(hub: StubHub, tmp_path: Path) -> Callable[..., MedTransferError]:
    """Pull, and return the one error that must come: one line, the code, no token, and nothing written."""

    def pull_refused(reference: str, code: int, *words: str) -> MedTransferError:
        with pytest.raises(MedTransferError) as caught:
            pull(reference, tmp_path / "out" / "back")
        message = str(caught.value)
        assert caught.value.exit_code == code, message
        assert message.isprintable()
        assert len(message) < 600
        assert TOKEN not in message
        for word in words:
            assert word in message
        assert not list((tmp_path / "out").glob("*"))
        return caught.value

    return pull_refused


def changed_card(files: Files, **fields: Any) -> Files:
    return {**files, "model.json": json.dumps({**json.loads(files["model.json"]), **fields}).encode()}


def test_what_is_no_file_of_a_model_folder_is_not_fetched(hub: StubHub, files: Files, tmp_path: Path) -> None:
    hostile = {"pytorch_model.bin": PICKLE, "../../evil.py": b"x", "model.json/../a": b"x", "sub/model.json": b"{}",
               "handler.py": b"x", "\x1b[2Jname": b"x", "Model.Safetensors": b"x"}  # fmt: skip
    pulled = pull(f"{REPOSITORY}@{hub.add(REPOSITORY, {**files, **hostile})}", tmp_path / "back")
    assert set(pulled.ignored or ()) == {*hostile, ".gitattributes"}
    held = {path.name for path in (tmp_path / "back").iterdir()}
    assert held == {"README.md", "hub.json", "model.json", "model.safetensors"}
    assert "\\x1b[2Jname" in str(pulled)
    asked = {seen.path.rpartition("/")[2] for seen in hub.requests if "/resolve/" in seen.path}
    assert asked == {"README.md", "model.json", "model.safetensors"}
    assert not list(tmp_path.rglob("evil.py"))


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_repository_without_a_model_folder(hub: StubHub, files: Files, refused: Any, name: str) -> None:
    del files[name]
    commit = hub.add(REPOSITORY, {**files, "pytorch_model.bin": PICKLE})
    refused(f"{REPOSITORY}@{commit}", 4, f"is no model folder: {name} is missing", "pytorch_model.bin", "convert")


def test_a_pickle_by_the_name_of_safe_weights(hub: StubHub, files: Files, refused: Any) -> None:
    import hashlib

    wrong = changed_card({**files, "model.safetensors": PICKLE}, sha256=hashlib.sha256(PICKLE).hexdigest())
    refused(f"{REPOSITORY}@{hub.add(REPOSITORY, wrong)}", 4, "model.safetensors: truncated or damaged safetensors")


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"sha256": "0" * 64}, "`sha256` in model.json is 000000000000...: damaged or exchanged"),
        ({"format_version": 99}, "model.json: `format_version` is 99"),
        ({"run": "rm"}, "model.json: Object contains unknown field `run`"),
        ({"classes": ["a", "../b"]}, "`classes` must hold plain names"),
        ({"architecture": {"name": "os.system", "arguments": {}}}, "`name` must be a name of the catalog"),
    ],
)
def test_a_wrong_card(hub: StubHub, files: Files, refused: Any, fields: dict[str, Any], words: str) -> None:
    commit = hub.add(REPOSITORY, changed_card(files, **fields))
    error = refused(f"{REPOSITORY}@{commit}", 4, words)
    assert error.reason.startswith(f"{REPOSITORY}@{commit}: model.")


def test_weights_that_are_not_those_listed(hub: StubHub, files: Files, refused: Any, tmp_path: Path) -> None:
    commit = hub.add(REPOSITORY, files)
    hub.body_twist = lambda seen, answer: Answer(200, answer.body[:-1] + b"!")
    refused(f"{REPOSITORY}@{commit}", 4, "model.safetensors is not what the hub lists: another hash")
    # the damaged file must not stay in the cache
    hub.body_twist = None
    assert pull(f"{REPOSITORY}@{commit}", tmp_path / "back").commit == commit


def test_a_card_that_is_not_the_one_listed(hub: StubHub, files: Files, refused: Any) -> None:
    commit = hub.add(REPOSITORY, files)
    other = changed_card(files, description="exchanged")["model.json"]
    hub.twist = lambda seen, answer: _with_body(answer, other) if seen.path.endswith("model.json") else None
    refused(f"{REPOSITORY}@{commit}", 4, "model.json is not what the hub lists: another hash")


def _with_body(answer: Answer, body: bytes) -> Answer:
    return Answer(answer.status, body, answer.headers)


def test_a_body_without_end_is_cut(hub: StubHub, files: Files, refused: Any, tmp_path: Path) -> None:
    commit, size = hub.add(REPOSITORY, files), len(files["model.safetensors"])

    def unsized(seen: Seen, answer: Answer) -> Answer:
        headers = {key: value for key, value in answer.headers.items() if key != "X-Linked-Size"}
        return Answer(answer.status, answer.body, headers)

    hub.twist, hub.body_twist = unsized, lambda seen, answer: Answer(200, b"x" * (25 << 20))
    refused(f"{REPOSITORY}@{commit}", 4, f"model.safetensors is longer than the {size} bytes that the hub lists")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > size * 9]


@pytest.mark.parametrize("kept", [0, 100])
def test_a_body_cut_short(hub: StubHub, files: Files, refused: Any, kept: int) -> None:
    commit = hub.add(REPOSITORY, files)
    hub.body_twist = lambda seen, answer: Answer(200, answer.body[:kept], claim=len(answer.body))
    if kept:  # whole headers of a shorter file
        hub.body_twist = lambda seen, answer: Answer(200, answer.body[:kept])
    refused(f"{REPOSITORY}@{commit}", 6, REPOSITORY)


def test_a_file_that_is_too_long_is_not_asked_for(
    hub: StubHub, files: Files, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(snapshot.MAX_BYTES, "model.safetensors", 100)
    refused(f"{REPOSITORY}@{hub.add(REPOSITORY, files)}", 4, "more than the 100 that are fetched")
    assert not [seen for seen in hub.requests if "/resolve/" in seen.path]


def test_another_commit_than_was_asked_for(hub: StubHub, files: Files, refused: Any) -> None:
    commit, other = hub.add(REPOSITORY, files), "f" * 40
    hub.twist = lambda seen, answer: _told_sha(answer, other) if "/api/models/" in seen.path else None
    refused(f"{REPOSITORY}@{commit}", 4, f"the hub answers with another commit, {other}")


def _told_sha(answer: Answer, sha: Any) -> Answer:
    return told({**json.loads(answer.body), "sha": sha})


@pytest.mark.parametrize(
    "answer, code, words",
    [
        (refusal(401, "RepoNotFound"), 4, "no such repository, or it is private. Check the name, or log in"),
        (refusal(403, "GatedRepo"), 4, "its owners give access one by one"),
        (refusal(404, "RevisionNotFound"), 4, "no such revision"),
        (refusal(403, "", "Access to this resource is disabled."), 4, "the hub has closed the repository"),
        (refusal(403, "", f"wrong {TOKEN} here"), 4, "the hub answers 403 wrong *** here. Log in with a token"),
        (refusal(429), 6, "the hub answers 429"),
        (refusal(500, "", "out of order"), 6, "the hub answers 500 out of order. Try again later"),
        (Answer(200, b"<html>"), 6, "does not answer as a hub"),
        (told([]), 6, "does not answer as a hub"),
        (told({"id": "x"}), 6, "names no commit"),
        (told({"id": "x", "sha": "main", "siblings": []}), 6, "names no commit"),
        (told({"id": "x", "sha": "0" * 40, "siblings": [{"rfilename": "model.json"}]}), 6, "not answer as a hub"),
    ],
)
def test_answers_of_a_hub(hub: StubHub, refused: Any, answer: Answer, code: int, words: str) -> None:
    hub.twist = lambda seen, own: answer
    refused(f"{REPOSITORY}@main", code, words)


def test_no_hub_there(hub: StubHub, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(f"{REPOSITORY}@main", 6, "no connection to http://127.0.0.1:9 (ConnectError)", "HF_ENDPOINT")


def test_a_file_without_its_commit(hub: StubHub, files: Files, refused: Any) -> None:
    hub.twist = lambda seen, answer: Answer(200, b"{}") if seen.path.endswith("README.md") else None
    refused(f"{REPOSITORY}@{hub.add(REPOSITORY, files)}", 6, "lacks the file's commit or hash")


def test_a_damaged_cache_is_told(hub: StubHub, files: Files, tmp_path: Path, refused: Any) -> None:
    reference = f"{REPOSITORY}@{hub.add(REPOSITORY, files)}"
    pull(reference, tmp_path / "first")
    weights = next((tmp_path / "cache").rglob("model.safetensors")).resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    refused(reference, 4, "damaged or exchanged. Delete clinic/liver-ct from the cache and pull again")


@pytest.mark.parametrize(
    "reference, words",
    [
        ("clinic/liver-ct", "names no revision. Write clinic/liver-ct@COMMIT, or clinic/liver-ct@main"),
        ("liver-ct@main", "'liver-ct' is no name of a repository"),
        ("../liver@main", "is no name of a repository"),
        ("clinic/..@main", "is no name of a repository"),
        ("https://hub/clinic/liver@main", "is no name of a repository"),
        ("clinic/liver\x1b@main", "is no name of a repository"),
        ("clinic/liver--ct@main", "is no name of a repository"),
        ("clinic/liver@../../main", "is no commit, branch or tag"),
        ("clinic/liver@", "names no revision"),
        ("clinic/liver@a b", "is no commit, branch or tag"),
    ],
)
def test_words_that_name_no_model(hub: StubHub, refused: Any, reference: str, words: str) -> None:
    refused(reference, 2, words)
    assert hub.requests == []


def test_an_older_folder_stays(hub: StubHub, files: Files, folder: Path, tmp_path: Path) -> None:
    reference = f"{REPOSITORY}@{hub.add(REPOSITORY, files)}"
    before = (folder / "model.json").read_bytes()
    with pytest.raises(OutputExistsError):
        pull(reference, folder)
    broken = hub.add(REPOSITORY, changed_card(files, sha256="0" * 64))
    with pytest.raises(CheckpointError):
        pull(f"{REPOSITORY}@{broken}", folder, overwrite=True)
    assert (folder / "model.json").read_bytes() == before
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years")
    with pytest.raises(OutputExistsError, match="is not a model folder"):
        pull(reference, home, overwrite=True)
    pull(reference, folder, overwrite=True)
    assert (folder / "hub.json").is_file()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"needs huggingface_hub\. Run pip install 'medtransfer\[hub\]'"):
        pull(f"{REPOSITORY}@main", tmp_path / "back")


@pytest.mark.parametrize("code", [2, 4, 6])
def test_commands_exit_by_the_kind_of_error(
    hub: StubHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, code: int
) -> None:
    monkeypatch.setitem(main.COMMANDS, "pull", "pull")
    if code == 6:
        hub.twist = lambda seen, answer: refusal(503)
    reference = REPOSITORY if code == 2 else f"{REPOSITORY}@main"
    assert main.run(["pull", reference, "-o", str(tmp_path / "back")]) == code
    assert capsys.readouterr().err.count("\n") == 1
