"""Say what is answered to requests that can't be served: a status, and a message with a cure.

It is said as text-embeddings-inference says it, and on `/classify` as vLLM does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from features.base.shown import printable
from features.errors import FrostlineError, first_line
from pipeline.serve.scorer.job import Abandoned, TextFailed
from pipeline.serve.scorer.scorer import QueueFull, TooLong

# What text-embeddings-inference calls kinds of errors, and one more.
VALIDATION, OVERLOADED, BACKEND = "Validation", "Overloaded", "Backend"
UNHEALTHY, UNAUTHORIZED = "Unhealthy", "Unauthorized"


@dataclass(eq=False)
class Refusal(Exception):
    """An answer that is none.

    Attributes
    ----------
    status : int
    message : str
    kind : str
    headers : mapping of str to str
    """

    status: int
    message: str
    kind: str = VALIDATION
    headers: Mapping[str, str] = field(default_factory=dict)


def as_refusal(error: FrostlineError) -> Refusal:
    """Say why texts were not scored."""
    if isinstance(error, QueueFull):
        return Refusal(429, str(error), OVERLOADED, {"retry-after": str(error.seconds)})
    if isinstance(error, TooLong):
        return Refusal(
            413, f"{error}; send `truncate: true` to have its beginning read, as predict does"
        )
    if isinstance(error, TextFailed):
        return Refusal(
            424, f"text {error.number} can't be scored: {first_line(error.cause)}", BACKEND
        )
    if isinstance(error, Abandoned):
        return Refusal(499, str(error))
    return Refusal(424, first_line(error), BACKEND)


def body_of(refusal: Refusal, path: str) -> bytes:
    """Give the JSON of an error, as clients of a path expect it."""
    message = printable(refusal.message)
    content: dict[str, Any] = {"error": message, "error_type": refusal.kind}
    if path.endswith("/classify"):
        phrase = "BadRequest"
        if refusal.status in {one.value for one in HTTPStatus}:
            phrase = HTTPStatus(refusal.status).phrase.title().replace(" ", "")
        content = {
            "error": {
                "message": message,
                "type": f"{phrase}Error",
                "param": None,
                "code": refusal.status,
            }
        }
    return msgspec.json.encode(content)
