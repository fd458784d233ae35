"""A proxy before a server of S3 that is too busy for some requests, as the tests want it."""

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_BUSY = b"<Error><Code>ServiceUnavailable</Code><Message>come again</Message></Error>"
_OF_THE_WAY = ("connection", "content-length", "transfer-encoding")


@dataclass
class Busy:
    """How many requests are refused from now on, and how many were."""

    url: str = ""
    left: int = 0
    refused: int = 0


@contextmanager
def busy_proxy(port: int) -> Iterator[Busy]:
    """Run a proxy before the server at a port of this machine."""
    busy = Busy()

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if busy.left > 0:
                busy.left, busy.refused = busy.left - 1, busy.refused + 1
                self.answer(503, {"Content-Type": "application/xml"}, _BUSY)
                return
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            server.request(self.command, self.path, body, dict(self.headers.items()))
            found = server.getresponse()
            content = found.read()
            self.answer(found.status, dict(found.getheaders()), content)
            server.close()

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _OF_THE_WAY:
                    self.send_header(name, value)
            size = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", size or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Proxy, f"do_{method}", Proxy.pass_on)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    busy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield busy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
