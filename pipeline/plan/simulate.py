"""Simulate a fleet of workers on a list of shards: stragglers, failures, doubles.

In go the seconds of each shard and what a worker may meet; out come the wall clock and the work
lost. The model is that of the engines (`features/engines.py`): a worker that is free takes the next
shard of the list; a worker that dies loses the shard it is at, which goes to the front of the list,
and is back later; once the list is empty, a free worker doubles the attempt that has run longest,
if it has run long, and the first of the two to end counts. No time passes here: it is the event
loop of list scheduling (Graham, "Bounds on multiprocessing timing anomalies", 1969).
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
    double_after : float
        An attempt is doubled once it has run so many times the median of those that ended.
    """

    workers: int
    start_seconds: float = 0.0
    back_seconds: float = 0.0
    double_after: float = 1.5


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
        Of the attempts whose double was first.
    deaths, doubles : int
    """

    wall_seconds: float
    useful_seconds: float
    lost_seconds: float
    doubled_seconds: float
    deaths: int
    doubles: int


@dataclass(frozen=True)
class Chances:
    """What may happen, asked by number, so that the order of asking does not matter.

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
        return random.expovariate(rate) if rate else float("inf")

    return Chances(slowness, life)


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
        n = fleet.workers
        self.seconds, self.fleet, self.chances = seconds, fleet, chances
        self.waiting = deque(range(len(seconds)))
        self.attempts = [0] * len(seconds)
        self.left = len(seconds)
        self.at = [_FREE] * n
        self.at_shard: dict[int, list[int]] = {}  # the workers that are at a shard
        self.began = [0.0] * n
        self.dies = [False] * n  # before it ends what it is at
        self.lives = [0] * n
        self.life = [chances.life(worker, 0) for worker in range(n)]  # what is left of it
        # An event is void once its worker is at something else.
        self.turn = [0] * n
        self.events = [(fleet.start_seconds, worker, 0) for worker in range(n)]
        self.idle: list[int] = []  # a heap of workers
        # A heap of attempts by when they began, (began, worker, turn), to find those to double.
        self.oldest: list[tuple[float, int, int]] = []
        self.ended: list[float] = []  # seconds of the attempts that counted
        self.note: Callable[[float], None] = self.ended.append
        self.lost = self.doubled = 0.0
        self.deaths = self.doubles = 0

    def to_the_end(self) -> Outcome:
        """Go on until the last shard is done."""
        now = 0.0
        while self.waiting:  # nobody is idle, and no event is void
            now, worker, _ = heapq.heappop(self.events)
            if self._happen(worker, now):
                self._begin(worker, self.waiting.popleft(), now)
        self.ended.sort()
        self.note = partial(insort, self.ended)
        while self.left:
            now, worker, turn = heapq.heappop(self.events)
            if worker != _LOOK and turn != self.turn[worker]:
                continue
            if worker != _LOOK and self._happen(worker, now):
                heapq.heappush(self.idle, worker)
            self._hand_out(now)
        useful = sum(self.ended)
        return Outcome(now, useful, self.lost, self.doubled, self.deaths, self.doubles)

    def _begin(self, worker: int, shard: int, now: float) -> None:
        took = self.seconds[shard] * self.chances.slowness(shard, self.attempts[shard])
        self.attempts[shard] += 1
        self.at[worker], self.began[worker] = shard, now
        self.at_shard.setdefault(shard, []).append(worker)
        self.dies[worker] = self.life[worker] < took
        self.turn[worker] += 1
        ends = now + min(took, self.life[worker])
        heapq.heappush(self.events, (ends, worker, self.turn[worker]))
        self._remember(worker)

    def _remember(self, worker: int) -> None:
        heapq.heappush(self.oldest, (self.began[worker], worker, self.turn[worker]))

    def _happen(self, worker: int, now: float) -> bool:
        """Let a worker end its attempt, or die in it; tell whether it is free now."""
        shard = self.at[worker]
        if shard == _FREE:
            return True
        took = self._leave(worker, now)
        if not self.dies[worker]:
            self.left -= 1
            self.note(took)
            for other in list(self.at_shard.get(shard, ())):
                self.doubled += self._leave(other, now)
                heapq.heappush(self.idle, other)
            return True
        self.deaths += 1
        self.lost += took
        self.lives[worker] += 1
        self.life[worker] = self.chances.life(worker, self.lives[worker])
        if shard in self.at_shard:
            self._remember(self.at_shard[shard][0])
        else:
            self.waiting.appendleft(shard)
        back = now + self.fleet.back_seconds
        heapq.heappush(self.events, (back, worker, self.turn[worker]))
        return False

    def _leave(self, worker: int, now: float) -> float:
        """Let a worker be at nothing any more; give what it has spent."""
        spent, shard = now - self.began[worker], self.at[worker]
        self.at[worker] = _FREE
        self.at_shard[shard].remove(worker)
        if not self.at_shard[shard]:
            del self.at_shard[shard]
        self.turn[worker] += 1
        self.life[worker] = max(0.0, self.life[worker] - spent)
        return spent

    def _hand_out(self, now: float) -> None:
        """Give idle workers what waits, then doubles; look again when one is due."""
        while self.idle and self.waiting:
            self._begin(heapq.heappop(self.idle), self.waiting.popleft(), now)
        if not self.ended:
            return
        late = self.fleet.double_after * self.ended[len(self.ended) // 2]
        while self.idle and self.oldest:
            began, worker, turn = self.oldest[0]
            shard = self.at[worker]
            if turn == self.turn[worker] and len(self.at_shard[shard]) == 1:
                if began + late > now:
                    heapq.heappush(self.events, (began + late, _LOOK, 0))
                    return
                self.doubles += 1
                self._begin(heapq.heappop(self.idle), shard, now)
            heapq.heappop(self.oldest)  # it has ended, or has its double
