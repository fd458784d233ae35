"""Run one encoder on the texts of all requests: token-budget batches, turn by turn.

In come the tokens of jobs; out go logits, and vectors where they are wanted, into the jobs. Each
stream of the encoder has a thread, which takes its next batch when it is through with the last:
the text whose turn it is, and those of about its length from all jobs, as `FrozenEncoder.plan`
groups them. Jobs share the model fairly (`_Turn`), so a large one does not hold up small ones, nor
do many small ones hold it up. A batch that
fails is run again text by text, so a text that can't be read fails its own jobs alone. Texts of
jobs that nobody waits for are dropped.
"""

from __future__ import annotations

import math
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.backends.streams import streams
from features.errors import CannotContinue
from features.spec.tokenizer import Tokens
from pipeline.serve.scorer.heads import Stack
from pipeline.serve.scorer.job import Abandoned, Job, TextFailed

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder

# Texts among which those of about one length are looked for, and how many of them one job gives
# before the next one does.
_WINDOW, _SHARE = 512, 64
# Batches that the texts which wait are cut into at least, for each stream, down to so many tokens:
# what comes meanwhile waits for a batch, and where few wait there is time for smaller ones.
_PIECES, _LEAST_TOKENS = 8, 64


@dataclass(frozen=True)
class Row:
    """What comes of a text: its logits by stack, and its vectors by view where they are wanted."""

    logits: tuple[npt.NDArray[np.float64], ...]
    vectors: dict[str, npt.NDArray[np.float32]] | None


@dataclass(eq=False)
class _Text:
    """A normalised text that is to be run, and the texts of jobs that are the same.

    Its key is what the model reads, and whether the vectors are wanted.
    """

    key: tuple[str, bool]
    ids: npt.NDArray[np.int32]
    waiting: list[tuple[Job, int]]
    taken: bool = False

    def is_wanted(self) -> bool:
        return any(not (job.has_ended or job.is_gone()) for job, _ in self.waiting)


@dataclass(eq=False)
class _Turn:
    """The texts of a job that no stream has taken yet, and when it is due: fair queueing.

    If the jobs that wait shared the model evenly, each would get one text for every `n` that are
    run, with `n` the number of jobs. The lane counts these rounds; a job would be done in the round
    in which it came and as many as it has texts. The one that would be done first has its turn. So
    a small job passes large ones, and a large one is passed by those alone that an even share would
    have done before it. (A. Demers, S. Keshav, S. Shenker, "Analysis and simulation of a fair
    queueing algorithm", SIGCOMM 1989, in texts instead of bits.)
    """

    due: float
    texts: deque[_Text] = field(default_factory=deque)


@dataclass(frozen=True)
class Ran:
    """A batch that was run: texts, tokens, seconds, and whether it had to be run text by text."""

    texts: int
    tokens: int
    seconds: float
    retried: bool


class Lane:
    """An encoder with its threads and what they have to do.

    Parameters
    ----------
    number : int
        Of the encoder, as jobs name it.
    encoder : FrozenEncoder
    stacks : sequence of Stack
        What is made of its vectors.
    lock : threading.Lock
        One for all lanes: it guards the jobs.
    ended : callable
        Told, from a thread of the lane, which jobs have ended.
    ran : callable
        Told of each batch, from a thread of the lane.
    """

    def __init__(
        self,
        number: int,
        encoder: FrozenEncoder,
        stacks: Sequence[Stack],
        lock: threading.Lock,
        *,
        ended: Callable[[list[Job]], None],
        ran: Callable[[Ran], None],
    ) -> None:
        self.number, self.encoder = number, encoder
        self._stacks, self._ended, self._ran = stacks, ended, ran
        self._streams = encoder.choice.streams
        self._ready = threading.Condition(lock)
        self._turns: list[_Turn] = []
        self._rounds = 0.0
        # Texts that are waiting or in the model, by what the model reads.
        self._known: dict[tuple[str, bool], _Text] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run_streams, name=f"lane-{number}")
        self._thread.start()

    @property
    def is_at_work(self) -> bool:
        """Whether its threads take what comes in."""
        return not self._closed

    def add(self, job: Job, keys: Sequence[str], ids: Sequence[npt.NDArray[np.int32]]) -> None:
        """Take in the normalised texts of a job, with their tokens.

        Raises
        ------
        CannotContinue
            The lane is closed.
        """
        with self._ready:
            if self._closed:
                raise CannotContinue("the server no longer runs the model")
            turn = _Turn(self._rounds + len(keys))
            for number, (read, tokens) in enumerate(zip(keys, ids, strict=True)):
                key = read, job.keeps_vectors
                text = self._known.get(key)
                if text is None:
                    text = self._known[key] = _Text(key, tokens, [])
                text.waiting.append((job, number))
                if not text.taken:  # it may be due earlier than in the job that it came with
                    turn.texts.append(text)
            if turn.texts:
                self._turns.append(turn)
                self._ready.notify(self._streams)

    def close(self) -> None:
        """End its threads after their batches; jobs that are still waiting fail."""
        self._stop()
        self._thread.join()

    def _stop(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()
            failure = CannotContinue("the server has stopped running the model")
            failed = [
                job
                for text in self._known.values()
                if not text.taken
                for job, _ in text.waiting
                if job.fail(failure)
            ]
        if failed:
            self._ended(failed)

    def _run_streams(self) -> None:
        with streams(self._streams) as run_all:
            for _ in run_all(lambda _: self._stream(), range(self._streams)):
                pass

    def _stream(self) -> None:
        """Run batches one after another, until the lane is closed."""
        try:
            while batch := self._next_batch():
                started = perf_counter()
                rows, retried = self._rows(batch)
                self._finish(batch, rows)
                tokens = sum(len(text.ids) for text in batch)
                self._ran(Ran(len(batch), tokens, perf_counter() - started, retried))
        except BaseException:  # a bug of ours: nobody may wait for ever
            sys.stderr.write(traceback.format_exc())
            self._stop()

    def _next_batch(self) -> list[_Text]:
        """Wait for texts, and take those to be run next; none where the lane is closed."""
        with self._ready:
            while not self._closed:
                window = self._window()
                if window:
                    return self._taken(window)
                self._ready.wait()
        return []

    def _window(self) -> list[_Text]:
        """Give the texts that may be run next, the one whose turn it is first."""
        window: dict[_Text, None] = {}  # each once, though several jobs have it
        for turn in sorted(self._turns, key=attrgetter("due")):
            first = self._first(turn.texts)
            if not first:
                self._turns.remove(turn)
            window.update(dict.fromkeys(first))
            if len(window) >= _WINDOW:
                break
        return list(window)

    def _first(self, texts: deque[_Text]) -> list[_Text]:
        """Give the first texts of a job that are to be run; they stay where they are."""
        found: list[_Text] = []
        while texts and len(found) < _SHARE:
            text = texts.popleft()
            if self._is_to_be_run(text):
                found.append(text)
        texts.extendleft(reversed(found))
        return found

    def _is_to_be_run(self, text: _Text) -> bool:
        """Say whether a text still waits; one that nobody waits for is dropped."""
        if text.taken:
            return False
        if text.is_wanted():
            return True
        del self._known[text.key]
        text.taken = True
        gone = [job for job, _ in text.waiting if job.fail(Abandoned("its client has gone"))]
        if gone:
            self._ended(gone)
        return False

    def _taken(self, window: list[_Text]) -> list[_Text]:
        """Take the batch of the first text of a window, and count it for the jobs that have it."""
        tokens = Tokens([text.ids for text in window], [False] * len(window))
        share = max(_LEAST_TOKENS, math.ceil(sum(tokens.lengths) / (_PIECES * self._streams)))
        budget = min(self.encoder.choice.max_batch_tokens, share)
        plan = self.encoder.plan(tokens, budget)
        batch = [window[n] for n in next(rows for rows in plan if 0 in rows)]
        for text in batch:
            text.taken = True
        self._rounds += len(batch) / len(self._turns)
        return batch

    def _rows(self, batch: Sequence[_Text]) -> tuple[list[Row | BaseException], bool]:
        """Run a batch, and where it fails each of its texts alone."""
        try:
            return self._run(batch), False
        except Exception as error:  # the border to the model: whatever it is, others are served on
            if len(batch) == 1:
                return [error], False
        return [self._rows([text])[0][0] for text in batch], True

    def _run(self, batch: Sequence[_Text]) -> list[Row | BaseException]:
        from features.encoder.engine import not_finite

        vectors = self.encoder.run(Tokens([text.ids for text in batch], [False] * len(batch)))
        logits = [stack.logits(vectors) for stack in self._stacks]
        rows: list[Row | BaseException] = []
        for n, text in enumerate(batch):
            kept = None
            if text.key[1]:
                kept = {view: matrix[n].copy() for view, matrix in vectors.items()}
            rows.append(Row(tuple(one[n] for one in logits), kept))
        for n in not_finite(vectors):
            rows[n] = CannotContinue("its vector is not finite, in float32 too")
        return rows

    def _finish(self, batch: Sequence[_Text], rows: Sequence[Any]) -> None:
        """Put results into the jobs that wait for them, and tell which have ended."""
        ended = []
        with self._ready:
            for text, row in zip(batch, rows, strict=True):
                del self._known[text.key]
                for job, number in text.waiting:
                    if isinstance(row, BaseException):
                        has_ended = job.fail(TextFailed(number, row))
                    else:
                        has_ended = job.put(self.number, number, row)
                    if has_ended:
                        ended.append(job)
        if ended:
            self._ended(ended)
