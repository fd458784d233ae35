"""Simulate a fleet of workers on a list of shards: stragglers, failures, doubles.

In go the seconds of each shard and what a worker may meet; out come the wall clock and the work
lost. The rules are those of `map_shards` (`features/engines/verbs.py`): a worker that is free takes
the next shard of the list; a worker that dies loses the shard it is at, which goes to the front of
the list, and another takes its place later; once the list is empty, a free worker doubles the
attempt that has run longest, if it is slow, and the first of the two to end counts, while the other
goes on. No time passes here: it is the event loop of list scheduling (Graham, "Bounds on
multiprocessing timing anomalies", 1969).
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from pipeline.plan.quantities import Stragglers


@dataclass(frozen=True)
class Fleet:
    """The workers, and the rules by which they are given shards.

    Attributes
    ----------
    workers : int
    start_seconds : float
        From its start until a worker takes a shard: it loads the model.
    back_seconds : float
        From its death until a worker takes a shard again.
    slow, least_seconds : float
        An attempt is slow that has run so many times the median of the last ones that counted,
        and at least so many seconds.
    """

    workers: int
    start_seconds: float = 0.0
    back_seconds: float = 0.0
    slow: float = 2.0
    least_seconds: float = 2.0


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes
    ----------
    wall_seconds : float
        Until the last shard was done.
    useful_seconds : float
        Of the attempts that counted.
    lost_seconds : float
        Of the attempts that died.
    doubled_seconds : float
        Of the attempts whose double was first, until the end of the run at most.
    deaths, doubles : int
    most_deaths : int
        Of the workers that were at one shard: `map_shards` gives up at three.
    """

    wall_seconds: float
    useful_seconds: float
    lost_seconds: float
    doubled_seconds: float
    deaths: int
    doubles: int
    most_deaths: int


@dataclass(frozen=True)
class Chances:
    """What may happen to the attempts at shards, and to workers.

    Attributes
    ----------
    slowness : callable
        ``slowness(shard, attempt)``: how many times its seconds the attempt takes.
    life : callable
        ``life(worker, number)``: seconds of work until a worker dies, for each of its lives.
    """

    slowness: Callable[[int, int], float]
    life: Callable[[int, int], float]


def drawn(seed: int, failures_per_hour: float, stragglers: Stragglers) -> Chances:
    """Draw what happens: each attempt may be slow, and deaths come at a constant rate.

    Parameters
    ----------
    seed : int
    failures_per_hour : float
        Of a worker at work.
    stragglers : Stragglers
        Share of the attempts that are slow, and by which factor.
    """
    random = Random(seed)
    draw, rate = random.random, failures_per_hour / 3600
    share, factor = stragglers.share, stragglers.factor

    def slowness(shard: int, attempt: int) -> float:
        return factor if draw() < share else 1.0

    def life(worker: int, number: int) -> float:
        return random.expovariate(rate) if rate else math.inf

    return Chances(slowness, life)


# Attempts that say what is slow: the last that counted.
_RECENT = 101
_FREE = -1  # what a worker is at that starts, or waits
_LOOK = -1  # in the place of a worker: an event that only asks whether something is to be doubled


def simulate(seconds: Sequence[float], fleet: Fleet, chances: Chances) -> Outcome:
    """Let a fleet work through a list of shards.

    Parameters
    ----------
    seconds : sequence of float
        Of each shard, on a worker that nothing holds up; in the order of the list.
    fleet : Fleet
    chances : Chances

    Examples
    --------
    >>> certain = Chances(lambda shard, attempt: 1.0, lambda worker, number: float("inf"))
    >>> simulate([3.0, 2.0, 2.0], Fleet(workers=2), certain).wall_seconds
    4.0
    """
    return _Run(seconds, fleet, chances).to_the_end()


class _Run:
    """A run under way: what each worker is at, and the events to come."""

    def __init__(self, seconds: Sequence[float], fleet: Fleet, chances: Chances) -> None:
        n = min(fleet.workers, len(seconds))  # more are not started
        self.seconds, self.fleet, self.chances = seconds, fleet, chances
        self.untouched = 0  # the first shard that no worker was at; so are those behind it
        self.again: deque[int] = deque()  # shards that wait for another worker, before those
        self.attempts = [0] * len(seconds)
        self.done = bytearray(len(seconds))
        self.left = len(seconds)
        self.deaths_at: Counter[int] = Counter()
        self.at = [_FREE] * n
        self.at_shard: dict[int, list[int]] = {}  # the workers that are at a shard
        self.began = [0.0] * n
        self.dies = [False] * n  # before it ends what it is at
        self.lives = [0] * n
        self.life = [chances.life(worker, 0) for worker in range(n)]  # what is left of it
        self.events = [(fleet.start_seconds, worker) for worker in range(n)]
        self.idle: list[int] = []  # a heap of workers
        # A heap of attempts by when they began, (began, worker, shard), to find those to double.
        self.oldest: list[tuple[float, int, int]] = []
        self.look = math.inf  # when something is to be doubled next, as far as is known
        self.counted: deque[float] = deque(maxlen=_RECENT)  # seconds of attempts that did
        self.useful = self.lost = self.doubled = 0.0
        self.doubles = 0

    def to_the_end(self) -> Outcome:
        """Go on until the last shard is done."""
        now = 0.0
        while self._one_waits():  # nobody is idle
            now, worker = heapq.heappop(self.events)
            if self._happen(worker, now):
                self._begin(worker, self._next(), now)
        while self.left:
            now, worker = heapq.heappop(self.events)
            if worker == _LOOK:
                self.look = math.inf
            elif self._happen(worker, now):
                heapq.heappush(self.idle, worker)
            self._hand_out(now)
        still = sum(now - self.began[worker] for worker, at in enumerate(self.at) if at != _FREE)
        return Outcome(
            now,
            self.useful,
            self.lost,
            self.doubled + still,
            self.deaths_at.total(),
            self.doubles,
            max(self.deaths_at.values(), default=0),
        )

    def _one_waits(self) -> bool:
        return bool(self.again) or self.untouched < len(self.seconds)

    def _next(self) -> int:
        """Take the first shard that waits."""
        if self.again:
            return self.again.popleft()
        self.untouched += 1
        return self.untouched - 1

    def _begin(self, worker: int, shard: int, now: float) -> None:
        took = self.seconds[shard] * self.chances.slowness(shard, self.attempts[shard])
        self.attempts[shard] += 1
        self.at[worker], self.began[worker] = shard, now
        self.at_shard.setdefault(shard, []).append(worker)
        self.dies[worker] = self.life[worker] < took
        heapq.heappush(self.events, (now + min(took, self.life[worker]), worker))
        self._remember(worker)

    def _remember(self, worker: int) -> None:
        heapq.heappush(self.oldest, (self.began[worker], worker, self.at[worker]))
        if len(self.oldest) > 4 * len(self.at) + _RECENT:
            self.oldest = [one for one in self.oldest if self._goes_on(*one)]
            heapq.heapify(self.oldest)

    def _happen(self, worker: int, now: float) -> bool:
        """Let a worker end its attempt, or die in it; tell whether it is free now."""
        shard = self.at[worker]
        if shard == _FREE:
            return True
        took = self._leave(worker, now)
        if self.dies[worker]:
            self.lost += took
            self._die(worker, shard, now)
            return False
        if self.done[shard]:
            self.doubled += took
        else:
            self.done[shard] = True
            self.left -= 1
            self.useful += took
            self.counted.append(took)
        return True

    def _die(self, worker: int, shard: int, now: float) -> None:
        """Let another worker take the place of one, and its shard wait, unless it has a double."""
        self.deaths_at[shard] += 1
        self.lives[worker] += 1
        self.life[worker] = self.chances.life(worker, self.lives[worker])
        if shard in self.at_shard:
            self._remember(self.at_shard[shard][0])
        elif not self.done[shard]:
            self.again.appendleft(shard)
        heapq.heappush(self.events, (now + self.fleet.back_seconds, worker))

    def _leave(self, worker: int, now: float) -> float:
        """Let a worker be at nothing any more; give what it has spent."""
        spent, shard = now - self.began[worker], self.at[worker]
        self.at[worker] = _FREE
        self.at_shard[shard].remove(worker)
        if not self.at_shard[shard]:
            del self.at_shard[shard]
        self.life[worker] = max(0.0, self.life[worker] - spent)
        return spent

    def _hand_out(self, now: float) -> None:
        """Give idle workers what waits, then doubles; look again when one is due."""
        while self.idle and self._one_waits():
            self._begin(heapq.heappop(self.idle), self._next(), now)
        if not (self.idle and self.counted):
            return
        median = statistics.median(self.counted)
        late = max(self.fleet.least_seconds, self.fleet.slow * median)
        while self.idle and self.oldest:
            began, worker, shard = self.oldest[0]
            if self._is_alone(began, worker, shard):
                if began + late > now:
                    self._look_at(began + late)
                    return
                self.doubles += 1
                self._begin(heapq.heappop(self.idle), shard, now)
            heapq.heappop(self.oldest)  # it has ended, or has its double

    def _look_at(self, due: float) -> None:
        """Ask again at a time, unless that is done before it anyway."""
        if due < self.look:
            self.look = due
            heapq.heappush(self.events, (due, _LOOK))

    def _is_alone(self, began: float, worker: int, shard: int) -> bool:
        """Tell whether an attempt goes on, without a double, at a shard that is not done."""
        goes_on = self._goes_on(began, worker, shard)
        return goes_on and not self.done[shard] and len(self.at_shard[shard]) == 1

    def _goes_on(self, began: float, worker: int, shard: int) -> bool:
        return self.at[worker] == shard and self.began[worker] == began
