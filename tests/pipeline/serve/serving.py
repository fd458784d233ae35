"""A server of its own process for the tests, and the least of a client."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Server:
    """A running server: its process, its port, and what it has said."""

    def __init__(self, process, port, lines):
        self.process, self.port, self.lines = process, port, lines

    def ask(self, path, content=None, method=None, **headers):
        """Ask once; give the status, the headers by name and the JSON of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
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
        yield Server(process, port, lines)
    finally:
        process.terminate()
        process.wait(60)
        reader.join()
        process.stderr.close()
