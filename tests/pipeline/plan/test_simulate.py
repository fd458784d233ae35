"""The simulation: against another simulator, closed forms, and what must not change."""

import math
import statistics
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan.quantities import Stragglers
from pipeline.plan.simulate import Chances, Fleet, drawn, simulate

CERTAIN = Chances(lambda shard, attempt: 1.0, lambda worker, number: math.inf)


def by_brute_force(seconds, fleet, chances):
    """The same rules, from instant to instant, looking at everything in each; the wall clock.

    A worker is a dict; nothing is kept in order, and nothing is looked up.
    """
    waiting, n_workers = list(range(len(seconds))), min(fleet.workers, len(seconds))
    done, attempts, counted = set(), [0] * len(seconds), []
    workers = [
        {"shard": None, "free_at": fleet.start_seconds, "life": chances.life(n, 0), "lives": 0}
        for n in range(n_workers)
    ]
    lost = vain = 0.0

    def is_idle(worker, now):
        return worker["shard"] is None and worker["free_at"] <= now

    def begin(worker, shard, now):
        took = seconds[shard] * chances.slowness(shard, attempts[shard])
        attempts[shard] += 1
        spent = min(took, worker["life"])
        worker.update(shard=shard, began=now, dies=worker["life"] < took, free_at=now + spent)

    def late():
        recent = counted[-101:]
        if not recent:
            return math.inf
        return max(fleet.least_seconds, fleet.slow * statistics.median(recent))

    def alone():
        at = [w["shard"] for w in workers]
        return [
            (w["began"], n)
            for n, w in enumerate(workers)
            if w["shard"] is not None and w["shard"] not in done and at.count(w["shard"]) == 1
        ]

    def hand_out(now):
        for worker in workers:
            if not is_idle(worker, now) or worker.get("not_yet", -1) == now:
                continue
            if waiting:
                begin(worker, waiting.pop(0), now)
            elif (found := alone()) and min(found)[0] + late() <= now:
                begin(worker, workers[min(found)[1]]["shard"], now)

    now, seen = 0.0, [False] * n_workers
    while True:
        moments = [
            (w["free_at"], n)
            for n, w in enumerate(workers)
            if w["shard"] is not None or not seen[n]
        ]
        if any(is_idle(w, now) and seen[n] for n, w in enumerate(workers)) and alone():
            due = min(alone())[0] + late()
            if due > now:
                moments.append((due, -1))
        now, n = min(moments)
        if n >= 0:
            worker, seen[n] = workers[n], True
            shard = worker["shard"]
            if shard is not None:
                spent = now - worker["began"]
                worker["shard"] = None
                worker["life"] = max(0.0, worker["life"] - spent)
                if worker["dies"]:
                    lost += spent
                    worker["lives"] += 1
                    worker["life"] = chances.life(n, worker["lives"])
                    worker["free_at"], seen[n] = now + fleet.back_seconds, False
                    if shard not in done and shard not in [w["shard"] for w in workers]:
                        waiting.insert(0, shard)
                elif shard in done:
                    vain += spent
                else:
                    done.add(shard)
                    counted.append(spent)
                    if len(done) == len(seconds):
                        vain += sum(now - w["began"] for w in workers if w["shard"] is not None)
                        return now, sum(counted), lost, vain
        # One that is yet to start, or to come back, takes nothing before its own moment.
        for m, worker in enumerate(workers):
            worker["not_yet"] = now if not seen[m] else -1
        hand_out(now)


def test_three_workers_and_five_shards_by_hand():
    """Worker 0 dies once, and an attempt at shard 3 is slow; what happens when:

    1   the model is loaded: 0, 1 and 2 begin the shards 0 (10 s), 1 (4 s) and 2 (4 s)
    4   worker 0 dies, 3 s into shard 0, which is now the first to wait; it is back at 4 + 5 = 9
    5   1 and 2 have ended: 1 begins shard 0, and 2 begins shard 3, for 3 * 10 s instead of 10
    9   0 is back and begins shard 4 (4 s)
    13  0 is free, and nothing waits; the median of 4, 4 and 4 s is 4, so that an attempt of 2 * 4 s
        is slow: both others began at 5, and the first of them, worker 1, is doubled: shard 0
    15  1 has ended shard 0; it doubles shard 3, which began at 5, as 10 s are slow beside it
        (the median of 4, 4, 4 and 10 is 4)
    23  0 ends shard 0 in vain, after 10 s
    25  1 ends shard 3, in 10 s; 2 has worked at it for 20 s in vain
    """
    slowness = {(3, 0): 3.0}
    lives = {(0, 0): 3.0}
    chances = Chances(
        lambda shard, attempt: slowness.get((shard, attempt), 1.0),
        lambda worker, number: lives.get((worker, number), math.inf),
    )
    fleet = Fleet(workers=3, start_seconds=1.0, back_seconds=5.0)
    found = simulate([10.0, 4.0, 4.0, 10.0, 4.0], fleet, chances)
    assert found.wall_seconds == 25.0
    assert (found.deaths, found.doubles, found.most_deaths) == (1, 2, 1)
    assert found.lost_seconds == 3.0
    assert found.useful_seconds == 4 + 4 + 4 + 10 + 10
    assert found.doubled_seconds == 10 + 20


def tables(slow, lives):
    """Chances that are looked up, each with a last resort by which every run ends."""
    return Chances(
        lambda shard, attempt: slow.get((shard, attempt), 1.0),
        lambda worker, number: lives.get((worker, number), math.inf),
    )


# Odd parts of a second, so that no two moments are the same by chance.
moments = st.integers(1, 400).map(lambda n: n * math.sqrt(2) / 10 + n % 7 / 1000)


@settings(max_examples=150, deadline=None)
@given(
    seconds=st.lists(moments, min_size=1, max_size=25),
    workers=st.integers(1, 6),
    start=st.integers(0, 30),
    back=st.integers(0, 30),
    slow=st.dictionaries(
        st.tuples(st.integers(0, 24), st.integers(0, 2)), st.floats(1, 30), max_size=12
    ),
    lives=st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 3)), moments, max_size=12),
)
def test_it_is_what_another_simulator_says(seconds, workers, start, back, slow, lives):
    fleet, chances = Fleet(workers, start, back), tables(slow, lives)
    found = simulate(seconds, fleet, chances)
    wall, useful, lost, vain = by_brute_force(seconds, fleet, chances)
    assert found.wall_seconds == pytest.approx(wall, rel=1e-9)
    assert found.useful_seconds == pytest.approx(useful, rel=1e-9)
    assert found.lost_seconds == pytest.approx(lost, rel=1e-9, abs=1e-6)
    assert found.doubled_seconds == pytest.approx(vain, rel=1e-9, abs=1e-6)


@given(seconds=st.lists(moments, min_size=1, max_size=40), start=st.integers(0, 9))
def test_one_worker_takes_the_sum(seconds, start):
    found = simulate(seconds, Fleet(1, start), CERTAIN)
    assert found.wall_seconds == pytest.approx(start + sum(seconds))


@given(seconds=st.lists(moments, min_size=1, max_size=40), workers=st.integers(1, 50))
def test_many_workers_keep_grahams_bounds(seconds, workers):
    """And no double of an undisturbed shard is ever first."""
    wall = simulate(seconds, Fleet(workers), CERTAIN).wall_seconds
    least = max(max(seconds), sum(seconds) / workers)
    assert least * (1 - 1e-9) <= wall
    assert wall <= sum(seconds) / workers + (1 - 1 / workers) * max(seconds) + 1e-9


def test_the_longest_first_end_within_four_thirds():
    """Graham's example at which that bound is reached: 2 workers, optimum 6."""
    assert simulate([3, 3, 2, 2, 2], Fleet(2), CERTAIN).wall_seconds == 7


@pytest.mark.parametrize(
    ("slow", "wall"),
    [
        # Shard 3 takes 50 s instead of 10, begins at 10 and is late at 30: its double ends at 40.
        ({(3, 0): 5.0}, 40.0),
        # The double is as slow: the first one ends at 60.
        ({(3, 0): 5.0, (3, 1): 5.0}, 60.0),
        # Just not late when it ends.
        ({(3, 0): 1.9}, 29.0),
    ],
)
def test_a_straggler_is_doubled_once_it_takes_twice_the_median(slow, wall):
    assert simulate([10.0] * 4, Fleet(2), tables(slow, {})).wall_seconds == wall


def test_a_death_costs_the_shard_and_the_way_back():
    """Dies at 15, 5 s into its second shard; is back at 22, and does it again until 32."""
    found = simulate([10.0] * 2, Fleet(1, 0.0, 7.0), tables({}, {(0, 0): 15.0}))
    assert (found.wall_seconds, found.lost_seconds, found.deaths) == (32.0, 5.0, 1)
    assert found.useful_seconds == 20.0


def test_a_death_beside_a_double_puts_nothing_back():
    """Shard 3 is doubled at 30; its first worker dies at 35 and is back, and only waits."""
    chances = tables({(3, 0): 5.0}, {(1, 0): 35.0})
    found = simulate([10.0] * 4, Fleet(2), chances)
    assert (found.wall_seconds, found.lost_seconds, found.doubled_seconds) == (40.0, 25.0, 0.0)


def test_a_shard_that_ends_workers_is_told():
    lives = {(0, 0): 1.0, (0, 1): 1.0, (0, 2): 1.0}
    assert simulate([10.0], Fleet(1), tables({}, lives)).most_deaths == 3


def test_deaths_come_at_their_rate_and_shards_are_slow_as_often_as_is_said():
    """10,000 hours of work at 0.02 deaths an hour; a fiftieth of the shards takes four times."""
    found = simulate([3600.0] * 10_000, Fleet(64), drawn(0, 0.02, Stragglers(0.0, 1.0)))
    assert found.deaths == pytest.approx(200, abs=5 * math.sqrt(200))
    # A death comes anywhere in a shard: half of it is lost, on average.
    assert found.lost_seconds / found.deaths == pytest.approx(1800, rel=0.15)
    slow = simulate([1.0] * 50_000, Fleet(64), drawn(1, 0.0, Stragglers(0.02, 4.0)))
    assert slow.useful_seconds == pytest.approx(50_000 * 1.06, rel=0.01)


def test_the_same_seed_is_the_same_run():
    fleet, rare = Fleet(8, 5.0, 60.0), Stragglers(0.05, 3.0)
    one, same, other = (
        simulate([600.0] * 300, fleet, drawn(seed, 0.2, rare)) for seed in (3, 3, 4)
    )
    assert one == same != other


def test_thousands_that_wait_for_few_ask_once():
    """Each idle worker asks when something is late; asked each by each, this takes minutes."""
    slow = drawn(0, 0.5, Stragglers(0.2, 100.0))
    found = simulate([10.0] * 6000, Fleet(5000), slow)
    assert found.doubles > 500
    assert found.wall_seconds < 2000


def test_a_million_shards_take_little_memory():
    """Some bytes for each shard, and nothing that is kept of each attempt."""
    n = 50_000
    seconds = [1.0] * n
    tracemalloc.start()
    try:
        simulate(seconds, Fleet(8), CERTAIN)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * n
