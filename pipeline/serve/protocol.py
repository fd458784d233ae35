"""Bound what a connection may take: how many there are, the size of a request's head, and the time.

It is uvicorn's own protocol with these limits. The time and size of bodies are the routes' matter
(`reading.py`).
"""

from __future__ import annotations

import asyncio
import weakref
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.serve.limits import Limits
from pipeline.serve.refusals import OVERLOADED, Refusal, body_of

_MOST_HEAD_BYTES = 65_536
# That a client has to read why it is refused.
_LINGER_SECONDS = 1.0
# In which what a client has sent is read, before its connection is closed at the end.
LAST_SECONDS = 0.1


class BoundedProtocol(HttpToolsProtocol):
    """A connection; a subclass names its limits."""

    limits: Limits

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._clock: asyncio.TimerHandle | None = None
        self._write_clock: asyncio.TimerHandle | None = None
        self._head_bytes: int | None = None  # of the head that is coming in, if one is
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse one too many."""
        super().connection_made(transport)
        most = self.limits.max_connections
        if len(self.connections) > most:
            message = f"{most:,} connections are open, and no more may be"
            self._refuse(Refusal(503, message, OVERLOADED, {"retry-after": "1"}))
        else:
            self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_clock()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what comes in, and look how much of a head it is and since when."""
        if self._is_refused or self.transport.is_closing():
            return
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                message = f"the head of a request has at most {_MOST_HEAD_BYTES:,} bytes"
                self._refuse(Refusal(431, message))
        if self._clock is None and (self.cycle is None or self.cycle.response_complete):
            self._start_clock()

    def shutdown(self) -> None:
        """End with the server; a request that has come, and was not read yet, is answered."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LAST_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End a head, and let the routes see whether the client is still there."""
        self._head_bytes = None
        self._stop_clock()
        super().on_headers_complete()
        # The cycle holds this scope: one that held it in turn would wait for the collector.
        self.scope["state"]["cycle"] = weakref.ref(self.cycle)

    def on_response_complete(self) -> None:
        """Go on to the next request, of which something may be there already."""
        super().on_response_complete()
        if self._head_bytes is not None and self._clock is None:
            self._start_clock()

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        if self._write_clock is None:
            self._write_clock = self.loop.call_later(self.limits.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        if self._write_clock is not None:
            self._write_clock.cancel()
            self._write_clock = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(Refusal(400, "this is no request of HTTP/1.1"))

    def _start_clock(self) -> None:
        self._clock = self.loop.call_later(self.limits.header_seconds, self._be_late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _be_late(self) -> None:
        if self._head_bytes is None:  # nothing has come that could be answered
            self.transport.close()
        else:
            seconds = self.limits.header_seconds
            self._refuse(Refusal(408, f"the head of a request may take {seconds:g} s"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and close, without any route."""
        if self._is_refused or self.transport.is_closing():
            return
        self._stop_clock()
        self._is_refused = True
        body = body_of(refusal, "/")
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            **refusal.headers,
        }
        lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        if len(self.connections) > 2 * self.limits.max_connections:
            self.transport.close()
            return
        # What the client is still sending is thrown away: closing on it would take the answer from
        # the client before it is read.
        self.transport.write_eof()
        self._clock = self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def bounded(limits: Limits) -> type[asyncio.Protocol]:
    """Give the protocol of a server with these limits."""
    return type("Protocol", (BoundedProtocol,), {"limits": limits})
