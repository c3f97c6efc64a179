"""A hub on loopback: the endpoints that its library calls, over repositories in memory, and every request kept."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = ".safetensors"


def blob_of(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def commit_of(files: dict[str, bytes], parent: str = "") -> str:
    return hashlib.sha1(repr((sorted(files.items()), parent)).encode()).hexdigest()


@dataclass
class Repository:
    """Commits by hash, and where each branch and tag stands."""

    private: bool = True
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        name = commit_of(files, self.refs.get(branch, ""))
        self.commits[name], self.refs[branch] = files, name
        return name

    def find(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What goes back; ``claim`` is a Content-Length that is not that of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    claim: int | None = None


def told(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})


def refusal(status: int, code: str = "", message: str = "no") -> Answer:
    return Answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message})


class StubHub:
    """The hub and, at another port, the storage that it redirects large files to.

    Attributes:
        repositories: By ``ORG/NAME``.
        requests: What the hub was asked; ``storage_requests``: what the storage was.
        twist: Called before the hub answers: (request, its own answer) -> another answer, or None.
        body_twist: The same for the storage.
        ignored: Paths that a .gitignore of the repository would leave out.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Seen] = []
        self.storage_requests: list[Seen] = []
        self.large: dict[str, bytes] = {}
        self.ignored: set[str] = set()
        self.twist: Any = None
        self.body_twist: Any = None
        self.servers = [_serve(self._answer_hub), _serve(self._answer_storage)]
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def add(self, name: str, files: dict[str, bytes]) -> str:
        return self.repositories.setdefault(name, Repository()).commit(files)

    def _answer_hub(self, seen: Seen) -> Answer:
        self.requests.append(seen)
        answer = self._route(seen)
        return (self.twist and self.twist(seen, answer)) or answer

    def _answer_storage(self, seen: Seen) -> Answer:
        self.storage_requests.append(seen)
        name = urlsplit(seen.path).path.rpartition("/")[2]
        if seen.method == "PUT":
            self.large[name] = seen.body
            return Answer(200 if sha256_of(seen.body) == name else 400)
        answer = Answer(200, self.large[name]) if name in self.large else Answer(404)
        return (self.body_twist and self.body_twist(seen, answer)) or answer

    def _route(self, seen: Seen) -> Answer:
        path = unquote(urlsplit(seen.path).path).strip("/")
        parts = path.split("/")
        if path == "api/repos/create":
            return self._create(json.loads(seen.body))
        if path == "api/validate-yaml":
            return self._validate(json.loads(seen.body))
        if path.startswith("api/models/"):
            name, repository = self._repository(parts[2:4])
            return self._model(seen, name, repository, parts[4:]) if repository else refusal(404, "RepoNotFound")
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(seen.body))
        if len(parts) > 4 and parts[2] == "resolve":
            return self._resolve(parts)
        return Answer(404)

    def _repository(self, parts: list[str]) -> tuple[str, Repository | None]:
        name = "/".join(parts)
        return name, self.repositories.get(name)

    def _create(self, wanted: dict[str, Any]) -> Answer:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.repositories:
            return refusal(409)
        self.repositories[name] = Repository(private=wanted["visibility"] == "private")
        self.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        return told({"url": f"{self.endpoint}/{name}"})

    def _validate(self, wanted: dict[str, Any]) -> Answer:
        import yaml

        _, block, _ = wanted["content"].split("---\n", 2)
        found = yaml.safe_load(block)
        return told({"warnings": [], "errors": []}, 200 if isinstance(found, dict) else 400)

    def _model(self, seen: Seen, name: str, repository: Repository, rest: list[str]) -> Answer:
        if rest[:1] == ["preupload"]:
            return self._preupload(json.loads(seen.body), repository)
        if rest[:1] == ["commit"]:
            return self._commit(seen, name, repository)
        commit = repository.find("/".join(rest[1:]) if rest else "main")
        if commit is None:
            return refusal(404, "RevisionNotFound")
        with_sizes = "blobs" in parse_qs(urlsplit(seen.path).query)
        siblings = [_sibling(path, data, with_sizes) for path, data in repository.commits[commit].items()]
        return told({"id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def _preupload(self, wanted: dict[str, Any], repository: Repository) -> Answer:
        held = repository.commits[repository.refs["main"]]
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": file["path"] in self.ignored,
                "oid": _oid(file["path"], held),
            }
            for file in wanted["files"]
        ]
        return told({"files": files})

    def _batch(self, wanted: dict[str, Any]) -> Answer:
        def action(item: dict[str, Any]) -> dict[str, Any]:
            there = {"upload": {"href": f"{self.storage}/upload/{item['oid']}", "header": {}}}
            return item if item["oid"] in self.large else {**item, "actions": there}

        return told({"transfer": "basic", "objects": [action(item) for item in wanted["objects"]]})

    def _commit(self, seen: Seen, name: str, repository: Repository) -> Answer:
        lines = [json.loads(line) for line in seen.body.splitlines()]
        parent = lines[0]["value"].get("parentCommit")
        if parent not in (None, repository.refs["main"]):
            return refusal(412, message="A commit has happened since")
        files = dict(repository.commits[repository.refs["main"]])
        for line in lines[1:]:
            value = line["value"]
            is_large = line["key"] == "lfsFile"
            files[value["path"]] = self.large[value["oid"]] if is_large else base64.b64decode(value["content"])
        commit = repository.commit(files)
        return told({"commitUrl": f"{self.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self, parts: list[str]) -> Answer:
        _, repository = self._repository(parts[:2])
        if repository is None:
            return refusal(404, "RepoNotFound")
        commit, path = repository.find(parts[3]), "/".join(parts[4:])
        files = repository.commits.get(commit or "", {})
        if commit is None or path not in files:
            return refusal(404, "EntryNotFound" if commit else "RevisionNotFound")
        return self._content(path, files[path], {"X-Repo-Commit": commit})

    def _content(self, path: str, data: bytes, headers: dict[str, str]) -> Answer:
        if not path.endswith(LARGE):
            return Answer(200, data, {**headers, "ETag": f'"{blob_of(data)}"'})
        name = sha256_of(data)
        self.large[name] = data
        linked = {"X-Linked-Etag": f'"{name}"', "X-Linked-Size": str(len(data)), "Location": f"{self.storage}/{name}"}
        return Answer(302, b"", {**headers, **linked})


def _sibling(path: str, data: bytes, with_sizes: bool) -> dict[str, Any]:
    if not with_sizes:
        return {"rfilename": path}
    found: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": blob_of(data)}
    if path.endswith(LARGE):
        found["lfs"] = {"size": len(data), "sha256": sha256_of(data), "pointerSize": 134}
    return found


def _oid(path: str, held: dict[str, bytes]) -> str | None:
    if path not in held:
        return None
    return sha256_of(held[path]) if path.endswith(LARGE) else blob_of(held[path])


def _serve(answer: Any) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # headers and body in one packet, else each answer waits 40 ms for an acknowledgement
        wbufsize, disable_nagle_algorithm = 1 << 16, True

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen = Seen(
                self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length)
            )
            reply = answer(seen)
            self.send_response(reply.status)
            for key, value in reply.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(reply.body) if reply.claim is None else reply.claim))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else reply.body)
            self.wfile.flush()
            self.close_connection = reply.claim is not None

        do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server
