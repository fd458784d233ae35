"""Describe what is read of a file: all of it. Nothing is opened here.

A reader of tweets takes a `Span` wherever it takes the path of a file. It is made by one process
and read by another, so it says how large the file was, and it can be written as JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """What is read of a file.

    Attributes
    ----------
    path : str
        As the user gave it.
    size : int
        Bytes that the file had when the span was made; of another size it is refused.
    """

    path: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` makes the same span of."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Span:
        """Make a span of what `to_json` gave."""
        return cls(**content)
