"""Servers for the tests, in processes and threads of their own, and the least of a client."""

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.vector_spec import VectorSpec
from pipeline.head.head import Head, save_head
from pipeline.serve.app import Service, application
from pipeline.serve.guards import Entrance
from pipeline.serve.limits import Limits
from pipeline.serve.metrics import Metrics
from pipeline.serve.server import http_server

ROOT = Path(__file__).parents[3]
LABELS = ("negative", "neutral", "positive")


def made_head(model, views, labels=LABELS, seed=0):
    """A head of a model's views (name and width of each), with weights by chance."""
    spec = make_spec(find_checkpoint(model), normalize="tweeteval")
    sources = tuple(
        VectorSpec(spec, {view: width}, "float32", "float32") for view, width in views.items()
    )
    rng = np.random.default_rng(seed)
    coef = rng.normal(size=(len(labels), sum(views.values()))) * 0.2
    metadata = {"rows": 90, "prior": [1 / len(labels)] * len(labels)}
    return Head(tuple(labels), coef, rng.normal(size=len(labels)), sources, metadata)


def write_heads(folder, minilm):
    """Write two heads of one encoder and other views: `mood` and `other`."""
    save_head(made_head(minilm, {"mean@last4+sum": 384}), folder / "mood.joblib")
    save_head(made_head(minilm, {"cls": 384}, ("no", "yes"), 1), folder / "other.joblib")


def ask(port, path, content=None, method=None, **headers):
    """Ask once; give the status, the headers by name, and the answer, where it is JSON as such."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = content
        if content is not None and not isinstance(content, bytes):
            body = json.dumps(content).encode()
        if content is not None:
            headers.setdefault("content_type", "application/json")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        answer = connection.getresponse()
        text = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        is_json = found.get("content-type") == "application/json"
        return answer.status, found, json.loads(text) if is_json else text
    finally:
        connection.close()


class Process:
    """A running `frostline serve`: its process, its port, and what it has said."""

    def __init__(self, process, port, lines):
        self.process, self.port, self.lines = process, port, lines

    def ask(self, path, content=None, method=None, **headers):
        return ask(self.port, path, content, method, **headers)


@contextmanager
def running(*arguments):
    """Start `frostline serve` on a free port, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "-v", "serve", *map(str, arguments), "--port", "0"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    lines, port = [], None
    for line in process.stderr:
        lines.append(line)
        if found := re.match(r"ready on http://\S+:(\d+) ", line):
            port = int(found[1])
            break
    assert port is not None, "".join(lines)
    reader = threading.Thread(target=lambda: lines.extend(process.stderr))
    reader.start()
    try:
        yield Process(process, port, lines)
    finally:
        process.terminate()
        process.wait(60)
        reader.join()
        process.stderr.close()


@contextmanager
def in_thread(scorer, limits=Limits(), entrance=None):  # noqa: B008 - it is frozen
    """Serve a scorer from a thread of this process; gives the port."""
    entrance = entrance or Entrance(None, frozenset(["localhost", "127.0.0.1"]))
    metrics = Metrics()
    service = Service(scorer, limits, metrics, has_token=entrance.token is not None)
    server = http_server(application(service, entrance, metrics, None), limits)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
