"""Simulate a run many times, and sum up what the runs have in common.

In go rows, shards and machines; out come quantiles of the wall clock and shares of lost work. How
one run goes is in `pipeline/plan/simulate.py`.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np

from features.errors import InputError
from pipeline.plan.rates import Machines
from pipeline.plan.shards import MOST_SHARDS, SHARD_SECONDS, Shards, round_down
from pipeline.plan.simulate import Fleet, Outcome, drawn, simulate

# Workers that a shard takes with it before an engine gives up (`features/engines/verbs.py`).
DEATHS_AT_ONE = 3
# Attempts that have to end well, at least: else a run is not simulated, and not to be begun.
_LEAST_SHARE = 0.1
# Shards that are simulated, over all runs, some microseconds each; and runs at most.
SIMULATED_SHARDS, _RUNS = 600_000, 100


@dataclass(frozen=True)
class Simulated:
    """What many simulated runs gave.

    Attributes
    ----------
    runs : int
    wall_hours : dict of str to float
        `p5`, `median` and `p95` of the runs.
    efficiency : float
        Seconds of work, over the seconds of all workers until the end; mean of the runs.
    lost_share, doubled_share : float
        Of that work, what was done in vain: by workers that died, by attempts whose double was
        first.
    deaths, doubles : float
        In a run, on average.
    stopped_share : float
        Of the runs, those in which `DEATHS_AT_ONE` workers died at one shard: there `map_shards`
        would have given up, and the same command would have gone on from what was done.
    """

    runs: int
    wall_hours: dict[str, float]
    efficiency: float
    lost_share: float
    doubled_share: float
    deaths: float
    doubles: float
    stopped_share: float


def simulated_runs(
    rows: int,
    shards: Shards,
    seconds: float,
    machines: Machines,
    *,
    load_seconds: float,
    seed: int,
    most_shards: int = SIMULATED_SHARDS,
) -> Simulated:
    """Simulate a run some times, and give what the runs have in common.

    Parameters
    ----------
    rows : int
    shards : Shards
        All of the same number of rows, but for the last one.
    seconds : float
        That a row takes a worker.
    machines : Machines
    load_seconds : float
        That a worker loads the model for, when it starts and when it comes back.
    seed : int
        Of the first run; that of each other one is one more.
    most_shards : int
        To simulate, over all runs.

    Raises
    ------
    InputError
        Workers die so often that hardly any attempt at a shard ends well.
    """
    whole, rest = divmod(rows, shards.rows)
    times = [shards.rows * seconds + SHARD_SECONDS] * whole
    times += [rest * seconds + SHARD_SECONDS] if rest else []
    fleet = Fleet(machines.gpus, load_seconds, machines.restart_seconds + load_seconds)
    ends_well = _share_that_ends_well(times[0], machines)
    if ends_well < _LEAST_SHARE:
        raise InputError(
            f"`failures_per_hour` is {machines.failures_per_hour:g}, and a shard of "
            f"{shards.rows:,} rows takes {times[0]:,.0f} s: workers would hardly ever finish one; "
            f"give {_cure(rows, seconds, machines)}"
        )
    runs = max(1, min(_RUNS, int(most_shards * ends_well) // shards.count))
    outcomes: list[Outcome] = []
    for number in range(runs):
        chances = drawn(seed + number, machines.failures_per_hour, machines.stragglers)
        outcomes.append(simulate(times, fleet, chances))
    walls = np.array([one.wall_seconds for one in outcomes]) / 3600
    work = sum(times)

    def mean(name: str) -> float:
        return statistics.fmean(getattr(one, name) for one in outcomes)

    return Simulated(
        runs,
        {
            name: float(np.quantile(walls, share))
            for name, share in (("p5", 0.05), ("median", 0.5), ("p95", 0.95))
        },
        work / (machines.gpus * mean("wall_seconds")),
        mean("lost_seconds") / work,
        mean("doubled_seconds") / work,
        mean("deaths"),
        mean("doubles"),
        sum(one.most_deaths >= DEATHS_AT_ONE for one in outcomes) / runs,
    )


def _cure(rows: int, seconds: float, machines: Machines) -> str:
    """Say what lets workers finish shards: smaller ones, if they are not too many then."""
    low, high = SHARD_SECONDS, SHARD_SECONDS + rows * seconds
    for _ in range(60):
        middle = (low + high) / 2
        if _share_that_ends_well(middle, machines) >= 2 * _LEAST_SHARE:
            low = middle
        else:
            high = middle
    shard_rows = round_down((low - SHARD_SECONDS) / seconds)
    fewer = "fewer `failures_per_hour`"
    if shard_rows < max(1, -(-rows // MOST_SHARDS)):
        return f"{fewer}: even the smallest shards take too long"
    return f"at most {shard_rows:,} `shard_rows`, or {fewer}"


def _share_that_ends_well(seconds: float, machines: Machines) -> float:
    """Give the share of the attempts at a shard in which its worker does not die."""
    rate, slow = machines.failures_per_hour / 3600, machines.stragglers
    return (1 - slow.share) * math.exp(-rate * seconds) + slow.share * math.exp(
        -rate * seconds * slow.factor
    )
