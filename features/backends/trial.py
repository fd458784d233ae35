"""Find the fastest way to run a model here, by measuring it on a probe, in bounded time.

In come candidates, a function that makes their backends, and a function that says whether vectors
keep their precision; out goes a `Choice` and the backend that was taken. There are two rounds. The
first times matrix products as wide as the model's for a hundredth of a second each, and drops
kernels that are slow, or hardly run at all, on this processor. The second runs the model itself on
texts as long as tweets are. Each candidate gets a share of the time that is left, in a thread that
is abandoned if it does not come back.

Does not: remember (`features/base/cache.py`), read files, or decide on accelerators, where a probe
this small measures how fast work is handed over and not how fast it is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from features.backends.choice import PLAIN, PREPACKED, Candidate, Choice
from features.backends.eager.product_rates import int8_is_exact
from features.backends.eager.product_rates import rate as product_rate
from features.backends.registry import Backend
from features.backends.streams import RunAll, streams
from features.errors import FrostlineError, InputError, first_line

# Why a candidate is left out that might be the fastest on a quieter machine.
OUT_OF_TIME = "it was not done in its time"

Batch = list[npt.NDArray[np.int32]]
# From dtype, kernels, and columns in and out to 1e9 operations a second.
ProductRate = Callable[[torch.dtype, str, int, int], float]

# Seconds of a trial, for models that take so many operations a token or less; larger ones get more,
# but never more than the second figure. MiniLM and BERT-base stand at 21 and 170 million.
_SECONDS, _MOST_SECONDS = 0.5, 2.0
_FLOPS_PER_TOKEN = 21e6
# Tokens of a probe's texts: those of tweets, 30 on average in TweetEval.
_LENGTHS = (29, 30, 31)
# Tokens of a small batch, and about the seconds that it takes.
_FIRST_TOKENS, _SMALL_SECONDS = 64, 0.02
# What part of the rate of its products a model reaches, to guess how much can be run in a share.
_OF_PRODUCTS = 0.6
# How often the large batch is run at most.
_REPEATS = 3
# Rounds in which products are measured; the second is for those of at least such a part of the best
# rate.
_ROUNDS, _IN_REACH = 2, 0.5
# Times as many where all processes should come to the same.
_MORE = 3
# Texts a second and core that are enough: they can't be read, tokenised and written any faster.
_ENOUGH = 20_000
# What a product that is computed by itself is worth, beside one that is fused with what comes
# behind it.
_UNFUSED = 0.8
# Candidates that are so near to each other run again.
_NEAR = 1.3
# Where half precision has so many times the rate of float32 in torch, no float32 catches up.
_OUT_OF_REACH = 2.0
# What larger batches than the measured ones must promise.
_PROMISING = 1.1
# Another budget of tokens, another way to use the cores, or torch beside an exported model, must be
# so much faster to be taken.
_CLEARLY = 1.05
# So much faster must a way be to be taken instead of a plainer one, where all processes should take
# the same: more than a disturbed measurement is wrong by.
_FAR = 1.25
# How many times as long, by the clock, a measurement in time of the processor may take: so many
# processes may share a core.
_PATIENCE = 20
# Seconds between two looks at the time of the processor.
_LOOK = 0.02


@dataclass(frozen=True)
class Trial:
    """The texts and the limits of a trial of candidates.

    Attributes
    ----------
    widths : pair of int
        Columns into and out of the model's widest linear layer.
    flops_per_token : float
    texts : list of int arrays
        Token ids of some texts, special tokens included.
    affixes : pair of int
        Special tokens before and behind each.
    max_length : int
        Tokens of a text at most.
    max_batch_tokens : int
        Tokens of a batch, where nothing better is measured.
    tune : bool
        Whether another number of tokens in a batch may be taken.
    one_core : bool
        Whether the same way should be taken by all processes on machines of one kind: measured on
        one core, in time of the processor instead of the clock, so that who else is at work there
        counts little; and the plainest way is taken, unless another one is far faster.
    product_rate : callable
        Measures the products of a dtype and kernels, as
        `features.backends.eager.product_rates.rate` does.
    """

    widths: tuple[int, int]
    flops_per_token: float
    texts: Batch
    affixes: tuple[int, int]
    max_length: int
    max_batch_tokens: int
    tune: bool
    one_core: bool = False
    product_rate: ProductRate = product_rate

    @property
    def now(self) -> Callable[[], float]:
        """Where the seconds of a trial are read."""
        return time.process_time if self.one_core else time.perf_counter

    def streams_of(self, backend: Backend) -> int:
        """Count the batches that are run at a time."""
        return 1 if self.one_core else backend.streams

    @property
    def seconds(self) -> float:
        """How long it may take."""
        share = max(1.0, self.flops_per_token / _FLOPS_PER_TOKEN) ** (2 / 3)
        return float(min(_MOST_SECONDS, _SECONDS * share))

    def batch(self, tokens: int) -> Batch:
        """Make texts as long as tweets are, of about so many tokens together, shortest first."""
        prefix, suffix = self.affixes
        content = np.concatenate([ids[prefix : len(ids) - suffix] for ids in self.texts])
        head, tail = self.texts[0][:prefix], self.texts[0][len(self.texts[0]) - suffix :]
        lengths = [min(length, self.max_length) for length in _LENGTHS]
        n = max(1, round(tokens / np.mean(lengths)))
        texts, start = [], 0
        for number in range(n):
            length = lengths[number * len(lengths) // n] - prefix - suffix
            at = np.arange(start, start + max(1, length)) % len(content)
            texts.append(np.concatenate([head, content[at], tail]).astype(np.int32))
            start += length
        return texts


def run_trial(
    trial: Trial,
    candidates: Sequence[Candidate],
    make: Callable[[Candidate], Backend],
    keeps_vectors: Callable[[Candidate, Backend], str],
) -> tuple[Choice, Backend]:
    """Take the fastest of some candidates on the CPU.

    Parameters
    ----------
    trial : Trial
    candidates : sequence of Candidate
        All of them may be taken; those of torch come first.
    make : callable
        Makes a backend, or raises a `FrostlineError` that says why there is none.
    keeps_vectors : callable
        Gives "" where the vectors have the precision that the candidate's class promises, or else
        what they have.

    Returns
    -------
    Choice, Backend

    Raises
    ------
    FrostlineError
        No candidate can run; the reason is that of the first.
    """
    clock = _Clock(trial.seconds, trial.now)
    left_out: dict[str, str] = {}
    products = _product_rates(trial, candidates)
    # Half precision first: where its vectors are kept and its products are far ahead, it is all.
    screened = _screened(trial, candidates, products, left_out)
    racing = sorted(screened, key=lambda c: c.dtype == "float32")
    racing = [c for c in racing if not _behind(c, products, left_out)]
    if len(racing) == 1 and len({candidate.dtype for candidate in candidates}) == 1:
        backend = make(racing[0])  # there is nothing to decide
        n_streams = trial.streams_of(backend)
        return Choice(racing[0], trial.max_batch_tokens, n_streams, {}, left_out), backend
    runs: dict[Candidate, _Run] = {}
    slow: dict[Candidate, _Run] = {}
    refused: FrostlineError | None = None
    for position, candidate in enumerate(racing):
        reason = _hopeless(candidate, products, [run.rate for run in runs.values()])
        if not reason:
            try:
                with clock.stopped():
                    backend = make(candidate)
                    reason = keeps_vectors(candidate, backend)
            except FrostlineError as error:
                refused, reason = refused or error, first_line(error)
        if not reason:
            share = clock.left() / (len(racing) - position)
            run = _Run(trial, backend, _tokens_for(trial, share, candidate, products))
            reason = OUT_OF_TIME if runs and not share else _raced(run, share, clock)
            (slow if reason else runs)[candidate] = run
        if reason:
            left_out[str(candidate)] = reason
    if not runs and slow:  # rather one that is slow than none, and the plainest of them
        plainest = min(slow, key=lambda c: (c.dtype != "float32", c.backend != "torch"))
        runs = {plainest: slow[plainest]}
    if not runs:
        raise refused or InputError(
            "no way to run this model keeps its vectors ("
            + "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            + "); give `dtype=float32`"
        )
    best = _best(trial, runs, clock)
    run = runs[best]
    rates = {str(candidate): run.rate for candidate, run in runs.items()}
    tokens = run.best_tokens if trial.tune else trial.max_batch_tokens
    choice = Choice(best, tokens, trial.streams_of(run.backend), rates, left_out)
    if not trial.one_core:
        choice = _tuned(trial, choice, run, clock)
        run.backend.streams = choice.streams
    return choice, run.backend


class _Clock:
    """The time of a trial: what has nothing to do with a candidate's speed stops it."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._now, self._until = now, now() + seconds

    def left(self) -> float:
        """Give the seconds that are left, at least 0."""
        return max(0.0, self._until - self._now())

    @contextmanager
    def stopped(self, after: float = 0.0) -> Iterator[None]:
        """Stop the clock while a block runs, from so many seconds after its beginning on.

        A trial does not pay for making a backend, or for exporting a model the first time; and the
        other candidates do not pay for one that sets up much in its first batches, or takes too
        long.
        """
        begun = self._now()
        try:
            yield
        finally:
            self._until += max(0.0, self._now() - begun - after)


def _raced(run: _Run, share: float, clock: _Clock) -> str:
    """Measure a backend, in a thread; say why that came to nothing, or ""."""
    failed: list[str] = []

    def measure() -> None:
        try:
            run.measure(share)
        except Exception as error:  # of a thread that nobody waits for any more, too
            failed.append(first_line(error))

    thread = threading.Thread(target=measure, name="trial", daemon=True)
    with clock.stopped(after=share):
        thread.start()
        _wait(thread, run.trial, max(4 * share, run.trial.seconds))
    if thread.is_alive():
        return OUT_OF_TIME
    return failed[0] if failed else ""


def _wait(thread: threading.Thread, trial: Trial, limit: float) -> None:
    """Wait for a thread until its time is over; by the clock, that may be long on a busy core."""
    if not trial.one_core:
        thread.join(limit)
        return
    begun, until = trial.now(), time.perf_counter() + _PATIENCE * limit
    while thread.is_alive() and trial.now() - begun < limit and time.perf_counter() < until:
        thread.join(_LOOK)


def _best(trial: Trial, runs: dict[Candidate, _Run], clock: _Clock) -> Candidate:
    """Run those that are near to the fastest again, while there is time, and give the best."""
    while True:
        near = _within(_NEAR, runs)
        again = min(near, key=lambda candidate: runs[candidate].repeats)
        run = runs[again]
        if len(near) < 2 or run.repeats >= _REPEATS or run.seconds > clock.left():
            break
        run.repeat()
    if trial.one_core:
        return min(_within(_FAR, runs), key=_plainness)
    # An exported model opens without torch, in a fraction of the time: a tie is for it.
    return min(_within(_CLEARLY, runs), key=lambda candidate: candidate.backend == "torch")


def _within(factor: float, runs: dict[Candidate, _Run]) -> list[Candidate]:
    """Give the candidates whose rates are so near to the best one, the fastest first."""
    order = sorted(runs, key=lambda candidate: -runs[candidate].rate)
    return [c for c in order if runs[c].rate * factor > runs[order[0]].rate or c == order[0]]


def _plainness(candidate: Candidate) -> tuple[bool, bool, str]:
    """Put candidates in an order: what every machine has comes first, and what rounds least."""
    return candidate.backend != "torch", candidate.dtype != "float32", str(candidate)


def _product_rates(trial: Trial, candidates: Sequence[Candidate]) -> dict[Candidate, float]:
    """Measure the rates of the products of torch's kernels, in 1e9 operations a second."""
    rates = dict.fromkeys((c for c in candidates if c.backend == "torch"), 0.0)
    # A round that was disturbed must not decide.
    for _ in range(_ROUNDS * _MORE if trial.one_core else _ROUNDS):
        best = max(rates.values(), default=0.0)
        for candidate in [c for c, found in rates.items() if found >= _IN_REACH * best]:
            dtype = getattr(torch, candidate.dtype)
            found = trial.product_rate(dtype, candidate.kernels, *trial.widths)
            rates[candidate] = max(found, rates[candidate])
    return rates


def _screened(
    trial: Trial,
    candidates: Sequence[Candidate],
    products: dict[Candidate, float],
    left_out: dict[str, str],
) -> list[Candidate]:
    """Leave out kernels of torch whose products are slow here; one of each precision stays.

    A slower product in half precision than in float32 leaves half precision out, if there is
    float32.
    """
    exact = max((r for c, r in products.items() if c.dtype == "float32"), default=0.0)
    kept: list[Candidate] = []
    for candidate in candidates:
        if candidate not in products:
            kept.append(candidate)
            continue
        found = products[candidate]
        best = _best_products_of(trial, candidate.precision, products)
        if candidate != best:
            left_out[str(candidate)] = (
                f"its products reach {found:,.0f} GFLOP/s, those of {best} {products[best]:,.0f}"
            )
        elif candidate.dtype != "float32" and found < exact:
            left_out[str(candidate)] = (
                f"its products reach {found:,.0f} GFLOP/s, those in float32 {exact:,.0f}"
            )
        else:
            kept.append(candidate)
    return kept


def _best_products_of(trial: Trial, precision: str, products: dict[Candidate, float]) -> Candidate:
    """Give the kernels and the type of a precision whose products are the fastest."""
    found = {c: rate for c, rate in products.items() if c.precision == precision}
    if trial.one_core:
        most = max(found.values())
        return min((c for c, rate in found.items() if rate * _FAR >= most), key=_plainness)
    return max(found, key=lambda c: found[c] * (_UNFUSED if c.kernels == PLAIN else 1.0))


def _tokens_for(
    trial: Trial, share: float, candidate: Candidate, products: dict[Candidate, float]
) -> int:
    """Guess the tokens of a batch that fill a share of the time, by the rates of products."""
    of_class = [r for c, r in products.items() if c.precision == candidate.precision]
    rate = _OF_PRODUCTS * 1e9 * max(of_class, default=max(products.values(), default=0.0))
    tokens = int(max(0.0, share - _SMALL_SECONDS) * rate / max(trial.flops_per_token, 1.0))
    # Whole steps, as batches are filled up to (`features/backends/eager/forward.py`).
    return max(_FIRST_TOKENS, min(tokens // _FIRST_TOKENS * _FIRST_TOKENS, trial.max_batch_tokens))


def _hopeless(
    candidate: Candidate, products: dict[Candidate, float], rates: Sequence[float]
) -> str:
    """Say why a candidate needs no run, from the rates that are known; "" where it does."""
    if (
        candidate.backend != "torch"
        and max(rates, default=0.0) >= _ENOUGH * torch.get_num_threads()
    ):
        return "the model is not what takes the time"
    exact, half = _best_products(products)
    if candidate.dtype == "float32" and rates and half > _OUT_OF_REACH * exact:
        return _compared(exact, half)
    return ""


def _behind(
    candidate: Candidate, products: dict[Candidate, float], left_out: dict[str, str]
) -> bool:
    """Leave half precision out, in any library, where torch's products are faster in float32."""
    exact, half = _best_products(products)
    if candidate.precision == "half" and exact > half:
        left_out[str(candidate)] = _compared(exact, half)
        return True
    return False


def _best_products(products: dict[Candidate, float]) -> tuple[float, float]:
    """Give the best rates of float32 and of half precision."""
    best = {"float32": 0.0, "half": 0.0}
    for candidate, found in products.items():
        best[candidate.precision] = max(found, best[candidate.precision])
    return best["float32"], best["half"]


def _compared(exact: float, half: float) -> str:
    return f"products in half precision reach {half:,.0f} GFLOP/s, those in float32 {exact:,.0f}"


class _Run:
    """The times of one backend: those in which every stream runs a small and a large batch.

    A call costs something besides its products, more in one library than in another, and less a
    token the larger the batch is; what falls out of a cache costs more. So a batch larger than the
    one that was measured is believed in only where the line through the two measured ones promises
    much of it.
    """

    def __init__(self, trial: Trial, backend: Backend, tokens: int) -> None:
        self.trial, self.backend, self._tokens = trial, backend, tokens
        self._streams = trial.streams_of(backend)
        self._small = self.seconds = np.inf
        self.repeats = 0

    @property
    def rate(self) -> float:
        """Texts a second in batches of `best_tokens`, on all streams; 0: nothing was measured."""
        return max(self._rate(self._tokens, self.seconds), self._promised())

    @property
    def best_tokens(self) -> int:
        """Tokens of a batch."""
        measured = self._rate(self._tokens, self.seconds)
        return self.trial.max_batch_tokens if self.rate > measured else self._tokens

    def _rate(self, tokens: int, seconds: float, n_streams: int | None = None) -> float:
        n_texts = (n_streams or self._streams) * tokens / np.mean(_LENGTHS)
        return float(n_texts / seconds)

    def _promised(self) -> float:
        """Guess the rate in full batches by the line through the measured ones; 0: too little."""
        full, more = self.trial.max_batch_tokens, self._tokens - _FIRST_TOKENS
        if more <= 0 or not self._small < self.seconds < np.inf:
            return 0.0
        of_token = (self.seconds - self._small) / more
        of_call = max(0.0, self._small - of_token * _FIRST_TOKENS)
        found = self._rate(full, of_call + of_token * full)
        return found if found > _PROMISING * self._rate(self._tokens, self.seconds) else 0.0

    def measure(self, share: float) -> None:
        """Run batches for about so many seconds, in the same threads: new ones begin slowly."""
        with streams(self._streams) as run_all:
            # Kernels are generated, and requests made, for each size when it is first met: that is
            # no more the trial's than to make the backend is.
            self._timed(run_all, _FIRST_TOKENS)
            self.seconds = self._timed(run_all, self._tokens)
            until = self.trial.now() + share
            self._small = self._timed(run_all, _FIRST_TOKENS)
            while not self.repeats or (
                self.repeats < _REPEATS and self.trial.now() + self.seconds < until
            ):
                self.seconds = min(self.seconds, self._timed(run_all, self._tokens))
                self.repeats += 1

    def repeat(self) -> None:
        """Run the large batch once more; the quickest was the least disturbed."""
        with streams(self._streams) as run_all:
            self._timed(run_all, _FIRST_TOKENS)
            self.seconds = min(self.seconds, self._timed(run_all, self._tokens))
        self.repeats += 1

    def other_rate(self, tokens: int, n_streams: int) -> float:
        """Measure texts a second with batches of another size, on another number of streams."""
        with streams(n_streams) as run_all:
            self._timed(run_all, _FIRST_TOKENS, n_streams)
            seconds = self._timed(run_all, tokens, n_streams)
        return self._rate(tokens, seconds, n_streams)

    def _timed(self, run_all: RunAll, tokens: int, n_streams: int | None = None) -> float:
        """Time a batch of so many tokens on every stream, in seconds."""
        batch = self.trial.batch(tokens)

        def run(texts: Batch) -> int:
            return sum(len(part.lengths) for part in self.backend.forward(texts))

        begun = self.trial.now()
        for _ in run_all(run, [batch] * (n_streams or self._streams)):
            pass
        return self.trial.now() - begun


def _tuned(trial: Trial, choice: Choice, run: _Run, clock: _Clock) -> Choice:
    """Try other numbers of tokens in a batch, and one stream for all cores, while there is time."""
    rate = run.rate
    for tokens, n_streams in _alternatives(trial, choice):
        n_texts = tokens / np.mean(_LENGTHS) * n_streams
        if not rate or 1.5 * n_texts / rate > clock.left():
            continue
        found = run.other_rate(tokens, n_streams)
        if found > _CLEARLY * rate:
            rates = {**choice.rates, str(choice.candidate): found}
            choice = replace(choice, max_batch_tokens=tokens, streams=n_streams, rates=rates)
            rate = found
    return choice


def _alternatives(trial: Trial, choice: Choice) -> Iterator[tuple[int, int]]:
    if choice.candidate.backend == "torch" and choice.streams > 1:
        yield choice.max_batch_tokens, 1
    if trial.tune:
        yield 2 * choice.max_batch_tokens, choice.streams


def int8_reason(
    widths: tuple[int, int],
    *,
    product_rate: ProductRate = product_rate,
    is_exact: Callable[[], bool] = int8_is_exact,
) -> str:
    """Say why products of 8-bit integers are of no use here; "" where they are.

    Parameters
    ----------
    widths, product_rate
        See `Trial`.
    is_exact : callable
        Tells whether their sums are exact on this processor.
    """
    found = exact = 0.0
    for _ in range(_ROUNDS + 1):  # a round that was disturbed must not decide
        found = max(found, product_rate(torch.int8, PREPACKED, *widths))
        exact = max(exact, product_rate(torch.float32, PREPACKED, *widths))
        if found > exact and is_exact():
            return ""
    rates = f"8-bit products reach {found:,.1f} GOP/s a core here, float32 {exact:,.1f} GFLOP/s"
    if found and not is_exact():
        return f"{rates}, and sums of two saturate at 16 bits: they would be others than elsewhere"
    return f"{rates}, so nothing would be gained"
