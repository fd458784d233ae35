"""What holds for every engine: the contract. A new engine is a line in `ENGINES`."""

import os
import time

import numpy as np
import pytest
from engine_works import Facts, Inline, Marks, Wide, calls
from hypothesis import given
from hypothesis import strategies as st

from features.engines.engine import Died, Done, Engine, Failed, Ready
from features.engines.local import LocalEngine
from features.engines.ray_engine import RayEngine
from features.engines.verbs import Standing, added, map_shards, sum_shards
from features.errors import CannotContinue, NotFinite

ENGINES = {"inline": Inline, "local": LocalEngine, "ray": lambda n: RayEngine(workers=n)}
# Ray takes seconds to start; `test_ray_engine.py` has what runs each time.
MARKS = {"ray": pytest.mark.slow}


@pytest.fixture(scope="module", params=[pytest.param(e, marks=MARKS.get(e, ())) for e in ENGINES])
def engine(request):
    engine = ENGINES[request.param](2)
    with engine.session():
        yield engine


def test_each_task_is_answered_once(engine, tmp_path):
    standings = []
    tasks = [5, 3, 8, 1, 1]
    found = list(map_shards(engine, Marks(tmp_path), tasks, told=standings.append))
    assert sorted(found) == [(0, 25), (1, 9), (2, 64), (3, 1), (4, 1)]
    assert [s.done for s in standings] == sorted(s.done for s in standings)
    ready = standings[-1].ready
    assert ready in (1, 2)  # the second worker may have come too late
    assert standings[-1] == Standing(5, 5, ready, 2, 0, found[-1][1])


def test_no_tasks(engine, tmp_path):
    assert list(map_shards(engine, Marks(tmp_path), [])) == []


def test_a_task_whose_worker_dies_is_run_again(engine, tmp_path):
    faults = {2: ("die", 1), 4: ("die", 2)}
    standings = []
    found = dict(map_shards(engine, Marks(tmp_path, faults), range(6), told=standings.append))
    assert found == {n: n * n for n in range(6)}
    assert [len(calls(tmp_path, n)) for n in range(6)] == [1, 1, 2, 1, 3, 1]
    assert standings[-1].died == 3


def test_a_task_that_ends_three_workers_ends_the_run(engine, tmp_path):
    with pytest.raises(CannotContinue, match=r"the task 1 ended its worker 3 times, the last time"):
        list(map_shards(engine, Marks(tmp_path, {1: ("die", 9)}), range(3)))
    assert len(calls(tmp_path, 1)) == 3


def test_an_error_of_ours_comes_back_as_itself(engine, tmp_path):
    with pytest.raises(NotFinite, match=r"^texts overflow$") as caught:
        list(map_shards(engine, Marks(tmp_path, {1: ("wrong", 1)}), range(3)))
    assert caught.value.texts == (3, 4)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("fault", "the task 1 failed: ZeroDivisionError: a fault of ours"),
        ("unsendable", "the task 1 failed: Unsendable: of another library"),
    ],
)
def test_another_error_names_its_task(engine, tmp_path, fault, said):
    with pytest.raises(CannotContinue) as caught:
        list(map_shards(engine, Marks(tmp_path, {1: (fault, 1)}), range(3)))
    assert str(caught.value) == said
    assert "_call" in caught.value.__notes__[0]


def test_who_stops_taking_results_stops_the_workers(engine, tmp_path):
    results = map_shards(engine, Marks(tmp_path), range(1000))
    next(results)
    results.close()
    assert len(list(tmp_path.iterdir())) < 1000


def reference(n_tasks, argument):
    """The sums in one process, one after the other."""
    with Wide().open() as call:
        results = [call(task, argument) for task in range(n_tasks)]
    wide, alone = results[0][0].copy(), np.array(results[0][1])
    for one in results[1:]:
        wide, alone = wide + one[0], alone + one[1]
    return wide.tobytes(), alone.tobytes()


@pytest.mark.parametrize("n_tasks", [1, 2, 7])
def test_sums_have_the_same_bits_whoever_adds_them(engine, n_tasks):
    with sum_shards(engine, Wide(), range(n_tasks)) as sums:
        for argument in (1.0, 1 / 3):
            wide, alone, _ = sums(argument)
            assert (wide.tobytes(), alone.tobytes()) == reference(n_tasks, argument)


def test_a_task_stays_with_its_worker(engine):
    with sum_shards(engine, Wide(), range(5)) as sums:
        for n in (1, 2, 3):
            assert sums(1.0)[2][0] == 5 * n  # each has been called n times where it is kept


@given(st.permutations(range(6)))
def test_adding_does_not_depend_on_the_order_of_arrival(order):
    with Wide().open() as call:
        results = [call(task, 1.0)[:2] for task in range(6)]
    sums = added((number, results[number]) for number in order)
    assert tuple(one.tobytes() for one in sums) == reference(6, 1.0)


def test_a_slow_worker_does_not_hold_the_rest(tmp_path):
    started = time.monotonic()
    found = dict(map_shards(LocalEngine(2), Marks(tmp_path, {0: ("sleep", 1)}), range(6)))
    assert found == {n: n * n for n in range(6)}
    assert time.monotonic() - started < 50
    assert len(calls(tmp_path, 0)) == 2
    assert [len(calls(tmp_path, n)) for n in range(1, 6)] == [1] * 5


def test_sums_go_on_where_a_worker_dies(tmp_path):
    with sum_shards(LocalEngine(2), Wide(3, tmp_path), range(5)) as sums:
        for argument in (2.0, 0.1):
            wide, alone, _ = sums(argument)
            assert (wide.tobytes(), alone.tobytes()) == reference(5, argument)
    assert len(calls(tmp_path, 3)) == 1


class Scripted(Engine):
    """An engine whose workers say what a test has written down, at each wait the next."""

    def __init__(self, workers, answers):
        self.workers, self.answers, self.started = workers, list(answers), []

    def start(self, number, work):
        self.started.append(number)
        return _Scripted(number)

    def wait(self, workers, seconds):
        return [(worker, answer) for worker in workers for answer in self._say(worker)]

    def _say(self, worker):
        if self.answers and self.answers[0][0] == worker.number:
            return [self.answers.pop(0)[1]]
        return []


class _Scripted:
    def __init__(self, number):
        self.number = number

    def send(self, *arguments):
        pass

    def stop(self):
        pass


def test_workers_that_never_begin_end_the_run():
    engine = Scripted(1, [(0, Died("code 1 (No module named 'x')"))] * 3)
    with pytest.raises(CannotContinue, match=r"before they begin to work: code 1 .No module"):
        list(map_shards(engine, Facts(), range(3)))
    assert engine.started == [0, 0, 0]


def test_a_worker_that_dies_idle_is_replaced_however_often():
    answers = [(0, Ready()), (1, Ready()), (0, Done("a"))]
    answers += [(0, Died("x")), (0, Ready())] * 5 + [(1, Done("b"))]
    assert dict(map_shards(Scripted(2, answers), Facts(), "pq")) == {0: "a", 1: "b"}


def test_the_slower_of_two_is_not_heard(monkeypatch):
    for name in ("_SLOW", "_LEAST_SECONDS"):
        monkeypatch.setattr(f"features.engines.verbs.{name}", 0.0)
    late = [(0, Ready()), (1, Ready()), (0, Done("a")), (0, Done("b")), (1, Failed(OSError()))]
    assert dict(map_shards(Scripted(2, late), Facts(), "pq")) == {0: "a", 1: "b"}


def test_workers_see_this_process_only_as_its_end():
    pids = {pid for _, (pid, _, _) in map_shards(LocalEngine(2), Facts(0.2), range(4))}
    assert len(pids) == 2
    assert os.getpid() not in pids
