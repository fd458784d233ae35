"""The simulation against the engines' own code: `map_shards` runs, and only the clock is not real.

Workers are played: what they say, and when, is by the same chances as in the simulation. Who is
given which shard, what is doubled and what is run again is decided by `features/engines/verbs.py`.
"""

import math
from contextlib import nullcontext
from random import Random

import pytest

from features.engines import verbs
from features.engines.engine import Died, Done, Engine, Ready
from features.errors import CannotContinue
from pipeline.plan.simulate import Chances, Fleet, simulate


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Nothing:
    def open(self):
        return nullcontext()


class Played:
    """A worker: what it says next, and when."""

    def __init__(self, engine, number, life, ready_at):
        self.engine, self.number, self.life = engine, number, life
        self.says = ready_at, Ready()

    def send(self, shard):
        took = self.engine.took(shard)
        dies = self.life < took
        spent = min(took, self.life)
        self.life -= spent
        self.engine.worked += spent
        self.says = self.engine.clock.now + spent, Died("a played end") if dies else Done(shard)

    def stop(self):
        self.says = None


class PlayedEngine(Engine):
    """Workers whose time is the clock's."""

    def __init__(self, seconds, fleet, chances, clock):
        self.workers = fleet.workers
        self.seconds, self.fleet, self.chances, self.clock = seconds, fleet, chances, clock
        self.attempts = [0] * len(seconds)
        self.lives = {}
        self.worked = 0.0

    def took(self, shard):
        attempt = self.attempts[shard]
        self.attempts[shard] += 1
        return self.seconds[shard] * self.chances.slowness(shard, attempt)

    def start(self, number, work):
        life = self.lives[number] = self.lives.get(number, -1) + 1
        wait = self.fleet.back_seconds if life else self.fleet.start_seconds
        return Played(self, number, self.chances.life(number, life), self.clock.now + wait)

    def wait(self, workers, seconds):
        due = min(worker.says[0] for worker in workers if worker.says)
        self.clock.now = min(due, self.clock.now + seconds)
        said = []
        for worker in workers:
            if worker.says and worker.says[0] <= self.clock.now:
                said.append((worker, worker.says[1]))
                worker.says = None
        return said


def by_number(seed, rate, share, factor):
    """Chances that are the same in whichever order they are asked for."""

    def random(*what):
        return Random(repr((seed, *what)))

    return Chances(
        lambda shard, attempt: factor if random("slow", shard, attempt).random() < share else 1.0,
        lambda worker, n: random("life", worker, n).expovariate(rate) if rate else math.inf,
    )


# Shards, workers, seconds of a shard, deaths an hour, share and factor of stragglers.
RUNS = {
    "nothing happens": (97, 8, 20.0, 0.0, 0.0, 1.0),
    "one worker": (20, 1, 20.0, 5.0, 0.1, 3.0),
    "stragglers": (120, 8, 20.0, 0.0, 0.1, 5.0),
    "deaths": (200, 8, 20.0, 20.0, 0.0, 1.0),
    "both": (200, 16, 20.0, 10.0, 0.05, 4.0),
    "fewer shards than workers": (5, 8, 20.0, 20.0, 0.2, 5.0),
    "large ones": (60, 6, 150.0, 2.0, 0.05, 3.0),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("run", RUNS)
def test_a_run_ends_when_the_simulation_says(run, seed, monkeypatch):
    """Within 2 %: the engine looks for what is slow four times a second."""
    n, workers, each, deaths, share, factor = RUNS[run]
    seconds = [each * (1 + number % 7 / 50 + number / 10_000) for number in range(n)]
    fleet = Fleet(workers, 3.0, 5.0)
    chances = by_number(seed, deaths / 3600, share, factor)
    found = simulate(seconds, fleet, chances)
    clock = Clock()
    monkeypatch.setattr(verbs, "time", clock)
    engine = PlayedEngine(seconds, fleet, chances, clock)
    if found.most_deaths >= 3:
        with pytest.raises(CannotContinue, match="ended its worker 3 times"):
            list(verbs.map_shards(engine, Nothing(), range(n)))
        return
    done = [number for number, _ in verbs.map_shards(engine, Nothing(), range(n))]
    assert sorted(done) == list(range(n))
    assert clock.now == pytest.approx(found.wall_seconds, rel=0.02)
