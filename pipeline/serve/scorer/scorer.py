"""Take texts of requests in, and give what heads say of them: admission, tokenising, encoders.

A request waits in the event loop; a thread tokenises what has come in meanwhile, and the lanes
(`lane.py`) run the models. It knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from features.base.arrays import Floats
from features.base.shown import NOT_UNICODE
from features.errors import FrostlineError
from features.spec.normalize import normalizer
from features.spec.tokenizer import Tokens
from pipeline.serve.scorer.heads import Heads, ServedHead
from pipeline.serve.scorer.job import Job, TextFailed
from pipeline.serve.scorer.lane import Lane, Ran, Row
from pipeline.solver.solve import softmax

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.encoder.engine import Matrix

# Texts that are tokenised at a time; the texts of one request go together.
_TOKENISED = 256
# Of the seconds that a text takes, what the last batch says, where there are many.
_FADE = 0.1
# Every length of text that is common, so that nothing is built when the first request comes.
_WARM_UP = ["a", "so happy for you two", *("word " * n for n in (8, 16, 32, 64, 128, 400))]


class QueueFull(FrostlineError):
    """More texts than may wait; `seconds` says when to come again."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooLong(FrostlineError):
    """A text of more tokens than an encoder reads, of a request that wants it read whole."""

    def __init__(self, number: int, max_length: int) -> None:
        super().__init__(f"text {number} has more than the {max_length} tokens that are read")
        self.number, self.max_length = number, max_length


@dataclass(frozen=True)
class Answer:
    """What heads say of N texts.

    Attributes
    ----------
    logits : dict of str to float64 array (N, K)
        By the name of the head.
    truncated, empty, repaired : lists of int
        Numbers of the texts that are so, ascending.
    tokens : int
        That were read.
    """

    logits: dict[str, Floats]
    truncated: list[int]
    empty: list[int]
    repaired: list[int]
    tokens: int

    def proba(self, name: str) -> Floats:
        """Give the probabilities of a head, (N, K), to the six digits that `predict` prints."""
        return np.asarray(softmax(self.logits[name]).round(6))


class Scorer:
    """Heads with their encoders at work; to be closed.

    Parameters
    ----------
    heads : Heads
    encoders : sequence of FrozenEncoder
        Those of `heads.encoders`.
    max_queue : int
        Texts that may be waited for.
    ran : callable
        Told of each batch, from a thread of its own.

    Attributes
    ----------
    waiting : int
        Texts that are waited for.
    unanswered : int
        Texts of requests that were given up before there was an answer.
    """

    def __init__(
        self,
        heads: Heads,
        encoders: Sequence[FrozenEncoder],
        *,
        max_queue: int,
        ran: Callable[[Ran], None] = lambda ran: None,
    ) -> None:
        self.heads, self.encoders = heads, encoders
        self.waiting = self.unanswered = 0
        self._max_queue, self._on_batch = max_queue, ran
        self._seconds_per_text = 0.01
        self._futures: dict[Job, tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = {}
        self._lock = threading.Lock()
        self._lanes = [
            Lane(number, encoder, stacks, self._lock, ended=self._wake, ran=self._measure)
            for number, (encoder, stacks) in enumerate(zip(encoders, heads.stacks, strict=True))
        ]
        self._normalisers = [normalizer(encoder.spec.normalizer) for encoder in encoders]
        self._incoming: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._tokeniser = threading.Thread(target=self._tokenise, name="tokenise")
        self._tokeniser.start()

    @property
    def is_at_work(self) -> bool:
        """Whether texts that come in are scored."""
        return self._tokeniser.is_alive() and all(lane.is_at_work for lane in self._lanes)

    def close(self) -> None:
        """End all threads; what still waits gets no answer."""
        self._incoming.put(None)
        self._tokeniser.join()
        for lane in self._lanes:
            lane.close()

    def warm_up(self) -> None:
        """Run a few texts of several lengths, so that the first request finds all at hand.

        Raises
        ------
        InputError
            8-bit integers leave the vectors too far from float32.
        """
        for encoder, stacks in zip(self.encoders, self.heads.stacks, strict=True):
            vectors = encoder.encode(_WARM_UP)
            for stack in stacks:
                stack.logits(vectors)

    async def score(
        self,
        texts: Sequence[str],
        heads: Sequence[ServedHead],
        *,
        whole: bool = False,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Score texts with heads.

        Parameters
        ----------
        texts : sequence of str, (N,)
        heads : sequence of ServedHead
        whole : bool
            Whether a text that would be cut is refused.
        is_gone : callable
            Says whether nobody waits for the answer any more.

        Raises
        ------
        QueueFull
            Too many texts are waited for.
        TooLong
            A text would be cut, and is to be read whole.
        TextFailed
            A text can't be scored.
        Abandoned
            Nobody waits for the answer.
        """
        encoders = list(dict.fromkeys(n for head in heads for n in head.encoders))
        job = Job(_repaired(texts), encoders, whole=whole, is_gone=is_gone)
        await self._run(job)
        return _answer(job, texts, heads)

    async def encode(self, texts: Sequence[str], encoder: int) -> dict[str, Matrix]:
        """Give the vectors of an encoder, (N, D) for each of its views; raises as `score` does."""
        job = Job(_repaired(texts), [encoder], keeps_vectors=True)
        await self._run(job)
        rows: Sequence[Row] = job.found[encoder]
        of_rows = [row.vectors or {} for row in rows]
        return {view: np.stack([one[view] for one in of_rows]) for view in of_rows[0]}

    async def _run(self, job: Job) -> None:
        """Wait for a job, if there is room for it."""
        n = len(job.texts)
        if self.waiting and self.waiting + n > self._max_queue:
            seconds = max(1, math.ceil(self.waiting * self._seconds_per_text))
            raise QueueFull(
                f"{self.waiting:,} texts are waiting, {n:,} more would be over the "
                f"{self._max_queue:,} that may; come again in {seconds} s",
                min(seconds, 60),
            )
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self._futures[job] = loop, ended
        self.waiting += n
        try:
            self._incoming.put(job)
            await ended
        finally:
            self.waiting -= n
            self._futures.pop(job, None)
            if not job.has_ended:
                self.unanswered += n
                job.abandon()
        if job.failure is not None:
            # Its traceback will hold the job: one that the job held would wait for the collector,
            # with all texts of the request.
            failure, job.failure = job.failure, None
            try:
                raise failure
            finally:
                del failure

    def _tokenise(self) -> None:
        """Tokenise the texts of jobs as they come, several jobs at a time."""
        job: Job | None
        while (job := self._incoming.get()) is not None:
            jobs, n = [job], len(job.texts)
            while n < _TOKENISED:
                try:
                    job = self._incoming.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    return
                jobs.append(job)
                n += len(job.texts)
            for lane in self._lanes:
                own = [one for one in jobs if lane.number in one.encoders]
                if own:
                    self._hand_over(lane, own)

    def _hand_over(self, lane: Lane, jobs: Sequence[Job]) -> None:
        """Tokenise the texts of some jobs together, and where that fails job by job."""
        try:
            keys = [self._normalised(lane, job) for job in jobs]
            tokens = lane.encoder.tokenize([key for of_job in keys for key in of_job])
            start = 0
            for job, of_job in zip(jobs, keys, strict=True):
                rows = slice(start, start := start + len(of_job))
                self._add(lane, job, of_job, Tokens(tokens.ids[rows], tokens.truncated[rows]))
        except Exception as error:  # the border to the tokenizer: it fails its own job alone
            if len(jobs) == 1:
                self._fail(jobs[0], TextFailed(self._failing(lane, jobs[0]), error))
            else:
                for job in jobs:
                    self._hand_over(lane, [job])

    def _normalised(self, lane: Lane, job: Job) -> list[str]:
        normalise = self._normalisers[lane.number]
        return [normalise(text) for text in job.texts]

    def _failing(self, lane: Lane, job: Job) -> int:
        """Find the text of a job at which the tokenizer fails; the first, if it is none alone."""
        for number, text in enumerate(job.texts):
            try:
                lane.encoder.tokenize([self._normalisers[lane.number](text)])
            except Exception:
                return number
        return 0

    def _add(self, lane: Lane, job: Job, keys: Sequence[str], tokens: Tokens) -> None:
        cut = {number for number, is_cut in enumerate(tokens.truncated) if is_cut}
        if cut and job.whole:
            self._fail(job, TooLong(min(cut), lane.encoder.spec.max_length))
            return
        job.truncated |= cut
        job.tokens += sum(tokens.lengths)
        lane.add(job, keys, tokens.ids)

    def _fail(self, job: Job, failure: Exception) -> None:
        with self._lock:
            if not job.fail(failure):
                return
        self._wake([job])

    def _wake(self, jobs: Sequence[Job]) -> None:
        """Tell those who wait for jobs that these have ended; from any thread."""
        waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for job in jobs:
            found = self._futures.get(job)
            if found is not None:
                waiting.setdefault(found[0], []).append(found[1])
        for loop, futures in waiting.items():
            loop.call_soon_threadsafe(_resolve, futures)

    def _measure(self, ran: Ran) -> None:
        seconds = ran.seconds / (ran.texts * self.encoders[0].choice.streams)
        self._seconds_per_text += _FADE * (seconds - self._seconds_per_text)
        self._on_batch(ran)


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _repaired(texts: Sequence[str]) -> list[str]:
    return [
        text if text.isascii() and "\0" not in text else NOT_UNICODE.sub("\ufffd", text)
        for text in texts
    ]


def _answer(job: Job, texts: Sequence[str], heads: Sequence[ServedHead]) -> Answer:
    """Put together what the encoders gave for the texts of a job."""
    found: Mapping[int, Sequence[Row]] = job.found

    @cache
    def stacked(encoder: int, stack: int) -> Floats:
        return np.stack([row.logits[stack] for row in found[encoder]])

    logits = {}
    for served in heads:
        parts = [stacked(part.encoder, part.stack)[:, part.columns] for part in served.parts]
        logits[served.name] = np.sum(parts, axis=0) + served.head.intercept
    return Answer(
        logits,
        sorted(job.truncated),
        [number for number, text in enumerate(texts) if not text.strip()],
        [n for n, (a, b) in enumerate(zip(texts, job.texts, strict=True)) if a != b],
        job.tokens,
    )
