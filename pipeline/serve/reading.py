"""Read the body of a request: JSON of a bounded size, in a bounded time, and never unpacked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import ClientDisconnect, Request

from pipeline.serve.guards import exchange_of
from pipeline.serve.limits import Limits
from pipeline.serve.refusals import Refusal
from pipeline.serve.scorer.job import Abandoned


async def read_body(request: Request, limits: Limits) -> bytes:
    """Give the body of a request.

    Raises
    ------
    Refusal
        It is no JSON by its headers (415), too large (413) or too slow (408).
    Abandoned
        The client has gone.
    """
    _check_head(request, limits)
    exchange, parts, size = exchange_of(request.scope), [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.max_body_bytes:
                    raise _too_large(limits)
                parts.append(part)
    except TimeoutError as error:
        exchange.is_late = True
        raise Refusal(408, f"a body may take {limits.body_seconds:g} s") from error
    except ClientDisconnect as error:
        raise Abandoned("its client has gone") from error
    exchange.was_read = True
    return b"".join(parts)


def _check_head(request: Request, limits: Limits) -> None:
    """Refuse by its headers what need not be read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "send JSON, with the header Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(
            415,
            "send the body as it is, without Content-Encoding",
            headers={"accept-encoding": "identity"},
        )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limits.max_body_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"a body has at most {limits.max_body_bytes:,} bytes (max_body_bytes)")


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Refuse too many texts, and one that is too long.

    Raises
    ------
    Refusal
    """
    if len(texts) > limits.max_client_batch_size:
        raise Refusal(
            413,
            f"{len(texts):,} texts are more than the {limits.max_client_batch_size:,} that a "
            "request may hold (max_client_batch_size)",
        )
    for number, text in enumerate(texts):
        # No character has more than four bytes, and counting them takes time.
        if len(text) * 4 > limits.max_text_bytes:
            size = len(text.encode("utf-8", "surrogatepass"))
            if size > limits.max_text_bytes:
                raise Refusal(
                    413,
                    f"text {number} has {size:,} bytes, more than the {limits.max_text_bytes:,} "
                    "that a text may have (max_text_bytes)",
                )
