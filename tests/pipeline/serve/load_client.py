"""Many clients of a server in one thread: requests are bytes made before, answers are parsed least.

It shares a machine with the server that it asks, so it does as little as it can.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """What came of a request: status 0 where nothing came."""

    number: int
    status: int
    seconds: float
    body: bytes


def request(path: str, content: object, *, port: int) -> bytes:
    """Make a request of JSON."""
    body = json.dumps(content).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Connection(asyncio.Protocol):
    """One keep-alive connection, with one request at a time on it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_closed = False
        self.waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._read = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._read[:end]).lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at:].partition(b"\r\n")[0])
        if len(self._read) < end + 4 + length:
            return
        body = bytes(self._read[end + 4 : end + 4 + length])
        del self._read[: end + 4 + length]
        if b"\r\nconnection: close" in head:
            self.is_closed = True
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result((0, b""))


async def drive(port: int, requests: Sequence[bytes], clients: int) -> list[Reply]:
    """Send all requests, as many at a time as there are clients; each sends the next that is left.

    A client ends when it can no longer connect; what it had not sent has no reply.
    """
    loop = asyncio.get_running_loop()
    left = iter(enumerate(requests))
    replies: list[Reply] = []

    async def connected(before: _Connection | None) -> _Connection:
        if before is not None and before.transport is not None:
            if not before.is_closed:
                return before
            before.transport.close()
        return (await loop.create_connection(_Connection, "127.0.0.1", port))[1]

    async def client() -> None:
        connection: _Connection | None = None
        for number, content in left:
            try:
                connection = await connected(connection)
            except OSError:
                return
            assert connection.transport is not None
            connection.waiting = loop.create_future()
            started = time.perf_counter()
            connection.transport.write(content)
            status, body = await connection.waiting
            replies.append(Reply(number, status, time.perf_counter() - started, body))
        if connection is not None and connection.transport is not None:
            connection.transport.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies
