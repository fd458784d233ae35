"""The texts of one request on their way through the encoders.

A job is made by whoever answers the request, and filled by the threads of the encoders. It does not
know what it is filled with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from features.errors import FrostlineError


class TextFailed(FrostlineError):
    """A text of a request that could not be scored; `number` says which one, from 0 on."""

    def __init__(self, number: int, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.number, self.cause = number, cause


class Abandoned(FrostlineError):
    """A request whose client has gone."""


@dataclass(eq=False)
class Job:
    """A request at work.

    Attributes
    ----------
    texts : sequence of str, (N,)
        Repaired, not normalised.
    encoders : sequence of int
        The numbers of those that are to read them.
    whole : bool
        Whether a text that an encoder would cut is refused.
    keeps_vectors : bool
        Whether the vectors are wanted beside the logits.
    is_gone : callable
        Whether nobody waits for it any more.
    found : dict of int to list
        What each encoder gives for each text.
    truncated : set of int
        Numbers of texts of which an encoder reads the beginning alone.
    tokens : int
        That the encoders read.
    failure : exception, optional
        Why there is no answer.
    """

    texts: Sequence[str]
    encoders: Sequence[int]
    is_gone: Callable[[], bool] = lambda: False
    whole: bool = False
    keeps_vectors: bool = False
    found: dict[int, list[Any]] = field(init=False)
    truncated: set[int] = field(init=False, default_factory=set)
    tokens: int = field(init=False, default=0)
    failure: BaseException | None = field(init=False, default=None)
    _left: int = field(init=False)
    _ended: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.found = {encoder: [None] * len(self.texts) for encoder in self.encoders}
        self._left = len(self.texts) * len(self.encoders)

    @property
    def has_ended(self) -> bool:
        """Whether it waits for nothing more."""
        return self._ended

    def abandon(self) -> None:
        """Say that nobody waits for it any more: what is left of it is not run."""
        self.is_gone = lambda: True

    def put(self, encoder: int, number: int, result: Any) -> bool:
        """Take in what an encoder gives for a text, and say whether that ends the job.

        To be called by one thread at a time.
        """
        if self._ended:
            return False
        self.found[encoder][number] = result
        self._left -= 1
        self._ended = self._left == 0
        return self._ended

    def fail(self, failure: BaseException) -> bool:
        """End it without an answer, if it has not ended yet.

        To be called by one thread at a time.
        """
        if self._ended:
            return False
        self.failure, self._ended = failure, True
        return True
