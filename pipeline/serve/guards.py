"""Look at every request before its route does, and answer those that are refused.

Who may ask: with a token, whoever sends it; without one, only pages and programs of this machine,
so that no web page can use a server that listens on it (by the headers Host, Origin and
Sec-Fetch-Site). Every answer gets an id and headers that forbid a browser all that is not needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import re
import secrets
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serve.metrics import Metrics
from pipeline.serve.refusals import UNAUTHORIZED, VALIDATION, Refusal, body_of

# What is answered to anybody, where there is a token: no head and no count is in them.
_OPEN = frozenset(["/", "/health", "/docs", "/openapi.json"])
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]
# Of a body that is refused: it is read to its end, so that the client reads the answer.
_MOST_DISCARDED, _DISCARD_SECONDS = 2**26, 10


@dataclass(frozen=True)
class Entrance:
    """Who may ask.

    Attributes
    ----------
    token : bytes, optional
        What must be sent; None where nothing must.
    hosts : frozenset of str
        Names that the server goes by, where there is no token.
    """

    token: bytes | None
    hosts: frozenset[str]

    def check(self, path: str, headers: dict[bytes, bytes]) -> None:
        """Refuse a request that may not be made."""
        if self.token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(given.strip(), self.token) and scheme.lower() == b"bearer"
            if path not in _OPEN and not right:
                raise Refusal(
                    401,
                    "send the server's token as the header Authorization: Bearer TOKEN",
                    UNAUTHORIZED,
                    {"www-authenticate": "Bearer"},
                )
            return
        host = headers.get(b"host", b"").decode("latin-1")
        if _name(host) not in self.hosts:
            raise Refusal(
                421,
                "this server answers to the names of its own machine alone; ask it by "
                "http://localhost, or start it with a token",
                UNAUTHORIZED,
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        foreign = bool(origin) and origin.partition("://")[2] != host
        if foreign or headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site"):
            raise Refusal(
                403,
                "web pages of other origins may not use this server; start it with a token",
                UNAUTHORIZED,
            )


def _name(host: str) -> str:
    """Give a host without its port."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:\d{1,5})?", host)
    return found[1].lower().rstrip(".") if found else ""


@dataclass
class Exchange:
    """What is known of a request while it is answered.

    Attributes
    ----------
    request_id : str
    route : str
        The path of its route, by which it is counted.
    texts : int
        That it holds.
    was_read : bool
        Whether its body was read to the end.
    is_late : bool
        Whether its body did not come in time.
    """

    request_id: str
    route: str = "other"
    texts: int = 0
    was_read: bool = False
    is_late: bool = False


def exchange_of(scope: Scope) -> Exchange:
    """Give what the guard knows of a request."""
    found: Exchange = scope["state"]["exchange"]
    return found


class Guard:
    """The server's outermost layer.

    Parameters
    ----------
    app : ASGI application
        The routes; they raise `Refusal`.
    entrance : Entrance
    metrics : Metrics
    log : callable, optional
        Told a line for each request, without any text.

    Attributes
    ----------
    is_draining : bool
        Whether the server is about to end: connections are closed with their answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        entrance: Entrance,
        metrics: Metrics,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.is_draining = False
        self._app, self._entrance, self._metrics, self._log = app, entrance, metrics, log
        self._ids = map((secrets.token_hex(4) + "-{}").format, itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        started = perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        exchange = Exchange(given if _ID.fullmatch(given) else next(self._ids))
        scope.setdefault("state", {})["exchange"] = exchange
        scope["app"] = self  # so that a wrong method is raised, and not answered in plain text
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *_HEADERS,
                    (b"x-request-id", exchange.request_id.encode("ascii")),
                    *([(b"connection", b"close")] if self.is_draining else []),
                ]
            await send(message)

        try:
            self._entrance.check(scope["path"], headers)
            await self._app(scope, receive, answer)
        except Refusal as refusal:
            await self._refuse(refusal, scope, receive, answer)
        except HTTPException as error:
            wrong = Refusal(error.status_code, error.detail, VALIDATION, error.headers or {})
            await self._refuse(wrong, scope, receive, answer)
        except Exception:
            sys.stderr.write(f"request {exchange.request_id} failed\n{traceback.format_exc()}")
            if not status:
                failed = Refusal(500, f"the server failed at request {exchange.request_id}")
                await self._refuse(failed, scope, receive, answer)
        seconds = perf_counter() - started
        self._metrics.answered(exchange.route, status, seconds)
        if self._log is not None:
            self._log(
                f"{exchange.request_id} {scope['method']} {exchange.route} {status} "
                f"{exchange.texts} texts {seconds * 1000:.1f} ms"
            )

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer why there is no answer, after what is left of the request was read."""
        headers = {"content-type": "application/json", **refusal.headers}
        if not await _discarded(scope, receive):
            headers["connection"] = "close"
        response = Response(body_of(refusal, scope["path"]), refusal.status, headers)
        await response(scope, receive, send)


async def _discarded(scope: Scope, receive: Receive) -> bool:
    """Read a request to its end and forget it; False where that is not near."""
    exchange, names = exchange_of(scope), {name for name, _ in scope["headers"]}
    if exchange.was_read or not names & {b"content-length", b"transfer-encoding"}:
        return True
    if exchange.is_late or b"expect" in names:
        return False
    read = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while read < _MOST_DISCARDED:
                message = await receive()
                read += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
    return False
