"""Report the progress of a run of stage one, and sum it up when it is done.

In come the counts of the reader, the rejects and the encoding, and the finished output, which is
read back; out come records for who called `extract`. Nothing is printed here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.backends.choice import Choice
from features.extraction.encoding import Encoding
from features.store.format import EMPTY, REPAIRED, TRUNCATED
from features.store.reader import FeatureStore
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes
    ----------
    rows : int
        That are done.
    fraction : float, optional
        The share of the input; None if unknown.
    doing : str
        What is done with the rows, in words.
    """

    rows: int
    fraction: float | None
    doing: str = "encoding"


class ProgressMeter:
    """A meter that tells how far a run is, and ends it at the next batch once it is to stop.

    Parameters
    ----------
    show : callable or None
        Called with a `Progress`.
    reader : TweetReader
    rejects : RejectLog
    rows_done : callable
        Gives the rows that are written.

    Attributes
    ----------
    stopped : Event
        Set where the run is over.
    """

    def __init__(
        self,
        show: Callable[[Progress], None] | None,
        reader: TweetReader,
        rejects: RejectLog,
        rows_done: Callable[[], int],
    ) -> None:
        self.stopped = threading.Event()
        self._show, self._reader, self._rejects, self._rows_done = show, reader, rejects, rows_done
        self._rows, self._share = 0, 0.0
        self._lock = threading.Lock()  # the model's thread reports, and the one that writes

    def report(self, of_window: int = 0) -> None:
        """Tell the rows that are done, those of the window in the model among them.

        Raises
        ------
        CancelledError
            The run is over.
        """
        if self.stopped.is_set():
            raise CancelledError
        if self._show is None:
            return
        # Reading runs ahead, so what is read is not yet what is done; and it is known in bytes, so
        # the share is held where later rows are shorter. So are the rows where a window begins in
        # the model before the one before it is written.
        with self._lock:
            self._rows = max(self._rows, self._rows_done() + of_window)
            read = self._reader.fraction_read()
            done = (self._rows + self._rejects.count) / max(1, self._reader.rows_read)
            self._share = max(self._share, min(1.0, (read or 0.0) * done))
            self._show(Progress(self._rows, None if read is None else self._share))


@dataclass(frozen=True)
class ExtractSummary:
    """The summary of a run of `extract`.

    Attributes
    ----------
    output : str or Path
        A URL, or a path.
    outcome : str
        `written`, `extended` (some texts came from the file that was there) or `unchanged`.
    rows, unique, encoded, resumed : int
        Rows of the file, distinct texts in it, texts that the encoder read in this run, texts whose
        vectors an interrupted run had left.
    tokens : int
        Over all rows.
    truncated, empty, repaired, rejected : int
        Rows that were cut, had no text, had bytes that are no text; rows left out.
    read : dict of str to str
        By input: the columns that were taken, and how it was read.
    compute, chosen : str
        Device and dtype of the forward pass; what ran it, and the rates by which it was chosen.
        Empty where nothing was encoded.
    choice : Choice, optional
        The same as `chosen`, with what was tried and left out; None where nothing was encoded.
    seconds : dict of str to float
        `load`, `read`, `tokenise`, `forward`, `write`, `total`. Reading, the forward pass and
        writing go on at the same time, so that their sum can be more than the total.
    gflops : float
        Useful 1e9 operations a second of the forward pass: those of the linear layers on real
        tokens, see `StockModel.flops_per_token`. 0 where nothing was encoded.
    """

    output: str | Path
    outcome: str
    rows: int
    unique: int
    encoded: int
    resumed: int
    tokens: int
    truncated: int
    empty: int
    repaired: int
    rejected: int
    read: dict[str, str]
    rejects_file: Path | None
    labels: dict[str, int]
    views: dict[str, int]
    model: str
    precision: str
    compute: str
    chosen: str
    choice: Choice | None
    seconds: dict[str, float]
    gflops: float
    file_bytes: int

    @property
    def tweets_per_second(self) -> float:
        """Rows over the seconds of the run without loading the model."""
        return self.rows / max(1e-9, self.seconds["total"] - self.seconds["load"])


@dataclass(frozen=True)
class Done:
    """What a run has done: what became of the output, its distinct texts, and the encoding."""

    outcome: str
    unique: int
    encoding: Encoding


def summarise(
    output: Path,
    done: Done,
    reader: TweetReader,
    rejects: RejectLog,
    seconds: dict[str, float],
) -> ExtractSummary:
    """Count what is in the finished file or folder, by reading it back."""
    encoding, encoder = done.encoding, done.encoding.encoder
    flops = encoder.flops_per_token * encoding.tokens if encoder else 0.0
    with FeatureStore(output) as store:
        flags, codes = store.flags(), store.labels()
        return ExtractSummary(
            output=output,
            outcome=done.outcome,
            rows=store.n_rows,
            unique=done.unique,
            encoded=encoding.encoded,
            resumed=encoding.resumed,
            tokens=int(store.n_tokens().sum(dtype=np.int64)),
            truncated=int(np.count_nonzero(flags & TRUNCATED)),
            empty=int(np.count_nonzero(flags & EMPTY)),
            repaired=int(np.count_nonzero(flags & REPAIRED)),
            rejected=rejects.count,
            read={name: str(file) for name, file in reader.findings.files.items()},
            rejects_file=rejects.path if rejects.count else None,
            labels={
                name: int(np.count_nonzero(codes == code))
                for code, name in enumerate(store.label_names)
            },
            views=store.views,
            model=store.spec.model,
            precision=store.precision,
            compute=f"{encoder.device}, {encoder.dtype}" if encoder else "",
            chosen=encoder.choice.summary() if encoder else "",
            choice=encoder.choice if encoder else None,
            seconds=seconds,
            gflops=flops / 1e9 / seconds["forward"] if flops else 0.0,
            file_bytes=sum(path.stat().st_size for path in store.paths),
        )
