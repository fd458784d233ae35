"""A hub of data sets on loopback: the few routes of the Hugging Face hub by which one is read.

`fake_hub.py` is one of models, which can be written to.

https://huggingface.co/docs/hub/api. A repository is a folder; its only commit is `COMMIT`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1", COMMIT)


@contextmanager
def serving(root, *, gated=(), renamed=None):
    """Serve the repositories in a folder, `owner/name` each; gives the address and what was asked.

    Those in `gated` may be seen, and not be read; `renamed` has the names of today by older ones.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            asked.append(f"{self.command} {self.path}")

        def answer(self, code, body=b"", **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, code, error):
            self.answer(code, X_Error_Code=error, X_Error_Message=error)

        def do_GET(self):
            path = unquote(self.path.partition("?")[0]).strip("/")
            kind, _, rest = path.removeprefix("api/").partition("/")
            parts = rest.split("/")
            repository = "/".join(parts[:2])
            # An id without an owner is a name of the past.
            if len(parts) < 2 or parts[1] in ("resolve", "revision", "tree", "paths-info"):
                repository = parts[0]
            if repository in (renamed or {}):
                there = self.path.replace(repository, renamed[repository], 1)
                return self.answer(307, Location=there)
            folder = root / repository
            parts = rest.removeprefix(repository).strip("/").split("/")
            verb, revision, inner = parts[0], "/".join(parts[1:2]) or "main", "/".join(parts[2:])
            if kind != "datasets" or "/" not in repository or not folder.is_dir():
                return self.refuse(401 if repository.startswith("secret") else 404, "RepoNotFound")
            if revision not in REVISIONS:
                return self.refuse(404, "RevisionNotFound")
            if verb == "resolve":
                return self.file(folder / inner, repository)
            if verb == "tree":
                return self.tree(folder, inner)
            if verb == "paths-info":
                return self.paths(folder)
            about = {"id": repository, "sha": COMMIT, "siblings": [], "private": False}
            return self.answer(200, json.dumps(about).encode())

        do_HEAD = do_POST = do_GET  # noqa: N815 - the names that the server calls

        def file(self, path, repository):
            if repository in gated:
                return self.refuse(403, "GatedRepo")
            if not path.is_file():
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            content = path.read_bytes()
            tag = hashlib.sha1(content).hexdigest()
            return self.answer(200, content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)

        def entry(self, folder, path):
            content = {"path": str(path.relative_to(folder)), "type": "directory", "oid": "0" * 40}
            if path.is_file():
                oid = hashlib.sha1(path.read_bytes()).hexdigest()
                content |= {"type": "file", "size": path.stat().st_size, "oid": oid}
            return content

        def tree(self, folder, inner):
            if not (folder / inner).is_dir():
                return self.answer(404, X_Error_Code="EntryNotFound")
            found = [self.entry(folder, path) for path in sorted((folder / inner).rglob("*"))]
            return self.answer(200, json.dumps(found).encode())

        def paths(self, folder):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            wanted = (
                json.loads(body)["paths"]
                if body.startswith("{")
                else [
                    unquote(value.replace("+", " "))
                    for key, _, value in (pair.partition("=") for pair in body.split("&"))
                    if key == "paths"
                ]
            )
            found = [
                self.entry(folder, folder / path) for path in wanted if (folder / path).exists()
            ]
            return self.answer(200, json.dumps(found).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
