"""Count what making pieces has taken, of one process or of all workers together.

`Meter` tells meanwhile how far a step of it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from features.backends.choice import Choice
from features.extraction.summary import Progress
from features.extraction.timing import no_seconds
from features.tweets.findings import Findings

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder


@dataclass(frozen=True)
class EncoderUsed:
    """What there is to say of an encoder that has run.

    Attributes
    ----------
    compute : str
        Device and dtype.
    flops_per_token : float
    choice : Choice
    """

    compute: str
    flops_per_token: float
    choice: Choice

    @classmethod
    def of(cls, encoder: FrozenEncoder | None) -> EncoderUsed | None:
        """Describe an encoder; None where none was needed."""
        if encoder is None:
            return None
        compute = f"{encoder.device}, {encoder.dtype}"
        return cls(compute, encoder.flops_per_token, encoder.choice)


@dataclass
class Effort:
    """What was done for pieces.

    Attributes
    ----------
    made, encoded, resumed, unique, tokens : int
        Pieces that were read; of them, texts that the encoder read, texts that a run which was
        stopped had left, distinct texts, and tokens that the encoder read.
    findings : Findings
        Of the pieces that were read.
    seconds : dict of str to float
        See `no_seconds`.
    encoder : EncoderUsed, optional
        None where no text was new.
    """

    made: int = 0
    encoded: int = 0
    resumed: int = 0
    unique: int = 0
    tokens: int = 0
    findings: Findings = field(default_factory=Findings)
    seconds: dict[str, float] = field(default_factory=no_seconds)
    encoder: EncoderUsed | None = None

    def add(self, other: Effort) -> None:
        """Add what another process, or another piece, has taken."""
        self.made += other.made
        self.encoded += other.encoded
        self.resumed += other.resumed
        self.unique += other.unique
        self.tokens += other.tokens
        self.findings.add(other.findings)
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds
        self.encoder = self.encoder or other.encoder


class Meter:
    """Tells how far a step is: the tasks of it that are done, and how far the one at work is.

    Parameters
    ----------
    show : callable or None
        Called with a `Progress`.
    """

    def __init__(self, show: Callable[[Progress], None] | None) -> None:
        self._show = show
        self.begin("", 0)

    def begin(self, doing: str, tasks: int) -> None:
        """Begin a step of so many tasks."""
        self._doing, self._tasks = doing, tasks
        self.done = self.rows = self._last = 0

    def reach(self, done: int, rows: int | None = None) -> None:
        """Say that so many of its tasks are done, and the rows of the last one if these differ."""
        self.rows += self._last if rows is None else rows
        self.done, self._last = done, 0
        self.show(Progress(0, 0.0))

    def show(self, now: Progress) -> None:
        """Show the progress of the task at work as that of the step."""
        self._last = now.rows
        if self._show is not None:
            share = (self.done + (now.fraction or 0.0)) / max(1, self._tasks)
            self._show(Progress(self.rows + now.rows, min(1.0, share), self._doing))
