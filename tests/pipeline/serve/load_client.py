"""Many clients of a server in one thread: requests are bytes made before, answers are parsed least.

It shares a machine with the server that it asks, so it does as little as it can.
"""

from __future__ import annotations

import asyncio
import json
import random
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


class _Client:
    """One client: its connection, made again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: _Connection | None = None

    async def send(self, number: int, content: bytes) -> Reply:
        """Send a request and wait for its reply; raises OSError where it can't connect."""
        loop, connection = asyncio.get_running_loop(), self._connection
        if connection is None or connection.is_closed:
            self.close()
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
            self._connection = connection
        assert connection.transport is not None
        connection.waiting = loop.create_future()
        started = time.perf_counter()
        connection.transport.write(content)
        status, body = await connection.waiting
        return Reply(number, status, time.perf_counter() - started, body)

    def close(self) -> None:
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.close()


async def drive(port: int, requests: Sequence[bytes], clients: int) -> list[Reply]:
    """Send all requests, as many at a time as there are clients; each sends the next that is left.

    A client ends when it can no longer connect; what it had not sent has no reply.
    """
    left, replies = iter(enumerate(requests)), []

    async def work() -> None:
        client = _Client(port)
        for number, content in left:
            try:
                replies.append(await client.send(number, content))
            except OSError:
                return
        client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    return replies


async def paced(port: int, requests: Sequence[bytes], rate: float) -> list[Reply]:
    """Send requests at times by chance, so many a second, whether or not others are answered."""
    rng, idle = random.Random(0), []

    async def one(number: int, content: bytes) -> Reply:
        client = idle.pop() if idle else _Client(port)
        reply = await client.send(number, content)
        idle.append(client)
        return reply

    tasks, at = [], time.perf_counter()
    for number, content in enumerate(requests):
        at += rng.expovariate(rate)
        await asyncio.sleep(at - time.perf_counter())
        tasks.append(asyncio.create_task(one(number, content)))
    replies = await asyncio.gather(*tasks)
    for client in idle:
        client.close()
    return replies
