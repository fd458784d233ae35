"""A hub of models on loopback: the routes that huggingface_hub's own client needs, and faults.

It keeps repositories in memory and speaks as https://huggingface.co/docs/hub/api describes, with
files of git and of LFS. A test may look at what it was sent, and tell it to fail.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER, READER = "hf_owner", "hf_reader"  # tokens: of who may write, and of who may read


def sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str, ref: str = "main") -> str:
        before = dict(self.at(ref)[1]) if ref in self.refs else {}
        sha = secrets.token_hex(20)  # one that no cache has
        self.commits.append((sha, before | files))
        self.refs[ref] = sha
        self.messages.append(message)
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        sha = self.refs.get(revision, revision)
        return next(one for one in self.commits if one[0] == sha)


@dataclass
class Fault:
    """What happens to requests whose method and path match, so many times."""

    pattern: str
    do: Callable[[Handler], None]
    times: int = 1


@dataclass
class FakeHub:
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def fail(self, pattern: str, do: Callable[[Handler], None], times: int = 1) -> None:
        self.faults.append(Fault(pattern, do, times))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        self.hub.requests.append(line)
        self.hub.received.append(body)
        for fault in self.hub.faults:
            if fault.times and re.search(fault.pattern, line):
                fault.times -= 1
                return fault.do(self)
        for pattern, route in ROUTES:
            if found := re.fullmatch(pattern, line):
                return route(self, body, *found.groups())
        return self.refuse(404, "EntryNotFound", "no such route")

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - the names are the library's

    # Answers.

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, content: Any, status: int = 200) -> None:
        self.send(status, json.dumps(content).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send(status, body, X_Error_Code=code, X_Error_Message=message)

    # Who asks, and for what.

    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def may_write(self) -> bool:
        if self.token() == OWNER:
            return True
        status = 403 if self.token() == READER else 401
        self.refuse(status, "", "Invalid username or password." if status == 401 else "Forbidden")
        return False

    def repo(self, name: str) -> Repo | None:
        found = self.hub.repos.get(name)
        if found is None or (found.private and self.token() not in (OWNER, READER)):
            self.refuse(404 if self.token() else 401, "RepoNotFound", "Repository not found")
            return None
        if found.gated and self.token() != OWNER:
            self.refuse(403, "GatedRepo", "Access to it is restricted")
            return None
        return found

    def snapshot(self, name: str, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        if (repo := self.repo(name)) is None:
            return None
        try:
            return repo.at(revision or "main")
        except StopIteration:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None

    # Routes.

    def create(self, body: bytes) -> None:
        if not self.may_write():
            return
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'jane'}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repos:
            self.send_json({"error": "You already created this model repo", "url": url}, 409)
            return
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repo = self.hub.repos[name] = Repo(private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs"}, "initial commit")
        self.send_json({"url": url, "name": name, "id": name})

    def whoami(self, body: bytes) -> None:
        if self.token() in (OWNER, READER):
            self.send_json({"type": "user", "name": "jane", "orgs": []})
        else:
            self.refuse(401, "", "Invalid username or password.")

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        if (found := self.snapshot(name, revision)) is None:
            return
        files = [
            {"rfilename": path, "size": len(data), "blobId": sha1(data)}
            for path, data in found[1].items()
        ]
        private = self.hub.repos[name].private
        self.send_json(
            {"id": name, "modelId": name, "sha": found[0], "private": private, "siblings": files}
        )

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if (found := self.snapshot(name, revision)) is not None:
            self.send_json([entry(path, data) for path, data in found[1].items()])

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if (found := self.snapshot(name, revision)) is None:
            return
        sha, files = found
        if path not in files:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        data = files[path]
        etag = hashlib.sha256(data).hexdigest() if is_lfs(path) else sha1(data)
        self.send(200, data, X_Repo_Commit=sha, ETag=f'"{etag}"')

    def validate_yaml(self, body: bytes) -> None:
        self.send_json({"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if not self.may_write() or (found := self.snapshot(name, revision)) is None:
            return
        self.send_json(
            {
                "files": [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if is_lfs(one["path"]) else "regular",
                        "shouldIgnore": False,
                        "oid": entry(one["path"], found[1][one["path"]])["oid"]
                        if one["path"] in found[1]
                        else None,
                    }
                    for one in json.loads(body)["files"]
                ]
            }
        )

    def batch(self, body: bytes, name: str) -> None:
        if not self.may_write():
            return
        objects = []
        for one in json.loads(body)["objects"]:
            upload = {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}
            verify = {"href": f"{self.hub.url}/lfs-verify/{one['oid']}", "header": {}}
            objects.append({**one, "actions": {"upload": upload, "verify": verify}})
        self.send_json({"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self.refuse(400, "", "the content is not of this hash")
            return
        self.hub.lfs[oid] = body
        self.send(200)

    def verify(self, body: bytes, oid: str) -> None:
        self.send(200 if oid in self.hub.lfs else 404)

    def commit(self, body: bytes, name: str, revision: str) -> None:
        if not self.may_write() or self.snapshot(name, revision) is None:
            return
        files, message = {}, ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
        wants_pr = "create_pr=1" in urlsplit(self.path).query
        ref = "refs/pr/1" if wants_pr else revision
        repo = self.hub.repos[name]
        if wants_pr:
            repo.refs[ref] = repo.refs[revision]
        sha = repo.commit(files, message, ref)
        url = f"{self.hub.url}/{name}"
        self.send_json(
            {
                "success": True,
                "commitUrl": f"{url}/commit/{sha}",
                "commitOid": sha,
                "pullRequestUrl": f"{url}/discussions/1" if wants_pr else None,
            }
        )


def is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


def entry(path: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": sha1(data)}
    if is_lfs(path):
        oid = hashlib.sha256(data).hexdigest()
        found["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
    return found


NAME, REVISION = r"([^/ ]+/[^/ ]+)", r"(.+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    ("POST /api/repos/create", Handler.create),
    ("GET /api/whoami-v2", Handler.whoami),
    ("POST /api/validate-yaml", Handler.validate_yaml),
    (f"GET /api/models/{NAME}", Handler.info),
    (f"GET /api/models/{NAME}/revision/{REVISION}", Handler.info),
    (f"GET /api/models/{NAME}/tree/{REVISION}", Handler.tree),
    (f"POST /api/models/{NAME}/preupload/{REVISION}", Handler.preupload),
    (f"POST /api/models/{NAME}/commit/{REVISION}", Handler.commit),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /lfs/(\w+)", Handler.put),
    (r"POST /lfs-verify/(\w+)", Handler.verify),
    (rf"(?:GET|HEAD) /{NAME}/resolve/(.+?)/([^/]+)", Handler.resolve),
]


# Faults.


def status(number: int, message: str = "as was asked", **headers: str) -> Callable[[Handler], None]:
    """Answer with this status."""
    return lambda handler: handler.send(
        number, json.dumps({"error": message}).encode(), Content_Type="application/json", **headers
    )


def hang_up(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def cut(handler: Handler) -> None:
    """Promise all bytes of a file, give the half of them, and hang up."""
    path = unquote(urlsplit(handler.path).path)
    name, revision, file = re.fullmatch(rf"/{NAME}/resolve/(.+?)/([^/]+)", path).groups()
    data = handler.hub.repos[name].at(revision)[1][file]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def altered(handler: Handler) -> None:
    """Give as many bytes as there are, but others."""
    path = unquote(urlsplit(handler.path).path)
    name, revision, file = re.fullmatch(rf"/{NAME}/resolve/(.+?)/([^/]+)", path).groups()
    data = bytearray(handler.hub.repos[name].at(revision)[1][file])
    data[-1] ^= 1
    handler.send(200, bytes(data))


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run one, on a free port."""
    hub = FakeHub()
    handler = type("_Handler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
