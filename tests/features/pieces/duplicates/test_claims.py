"""Tasks that jobs share out: each is done, once if nobody dies, and none waits for the dead."""

import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.errors import CannotContinue, InputError
from features.pieces.duplicates import claims as module
from features.pieces.duplicates.claims import Claims, claim_name, share_out


def tasks_of(folder, names, done, seconds=0.0, failing=()):
    """Tasks that write down who has done them, and take their time."""

    def do(name):
        time.sleep(seconds)
        if name in failing:
            raise InputError(f"{name} fails")
        done.append(name)
        (folder / name).write_text("done")

    return {name: lambda name=name: do(name) for name in names}


def never():
    return False


def names_of(n):
    return [f"task-{number:02d}" for number in range(n)]


@pytest.fixture
def quick(monkeypatch):
    """Claims that are renewed and given up within a second."""
    monkeypatch.setattr(module, "_RENEWAL", 0.05)
    monkeypatch.setattr(module, "_SILENCE", 0.5)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.1)


def test_jobs_that_begin_together_do_each_task_once(tmp_path, monkeypatch):
    # Threads are of one process: what one of them claims is not left behind by a dead one.
    monkeypatch.setattr(Claims, "_has_ended", lambda self, claim: False)
    names, done = names_of(12), [[] for _ in range(4)]
    barrier = threading.Barrier(4)

    def job(number):
        barrier.wait(30)
        turn = names[3 * number :] + names[: 3 * number]
        tasks = tasks_of(tmp_path, turn, done[number], seconds=0.02 * number)
        return share_out(tmp_path, tasks, is_needless=never)

    with ThreadPoolExecutor(4) as jobs:
        assert all(jobs.map(job, range(4)))
    assert sorted(itertools.chain(*done)) == names


def test_a_job_that_comes_late_waits_for_what_others_are_at(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(Claims, "_has_ended", lambda self, claim: False)
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    begun, go_on, early, late, waits = threading.Event(), threading.Event(), [], [], []

    def slow():
        begun.set()
        assert go_on.wait(30)
        early.append("long")
        (tmp_path / "long").write_text("done")

    with ThreadPoolExecutor(1) as jobs:
        other = jobs.submit(share_out, tmp_path, {"long": slow}, is_needless=never)
        assert begun.wait(30)
        timer = threading.Timer(1.5, go_on.set)  # longer than a job may be silent
        timer.start()
        tasks = tasks_of(tmp_path, ["long", "free"], late)
        assert share_out(tmp_path, tasks, is_needless=never, on_wait=waits.append)
        assert other.result(30)
    assert (early, late, waits) == (["long"], ["free"], ["long"])


CLAIMS = {
    "a process of this machine that has ended": "{host} {dead} 0123 0",
    "the process that this one replaces": "{host} {pid} 0123 0",
    "another machine that is silent": "elsewhere {pid} 0123 0",
    "a process that lives and is silent": "{host} {parent} 0123 0",
    "nothing that can be read": "\x00\udcff",
    "nothing": "",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_a_dead_job_was_at_is_taken_over(tmp_path, quick, claim):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    said = CLAIMS[claim].format(
        host=module.platform.node(), dead=int(ended.stdout), pid=os.getpid(), parent=os.getppid()
    )
    (tmp_path / claim_name("a")).write_bytes(said.encode(errors="surrogateescape"))
    done = []
    assert share_out(tmp_path, tasks_of(tmp_path, ["a", "b"], done), is_needless=never)
    assert done == ["b", "a"]


def test_a_task_that_fails_is_given_up_at_once(tmp_path):
    done = []
    with pytest.raises(InputError, match="a fails"):
        share_out(tmp_path, tasks_of(tmp_path, ["a"], done, failing=["a"]), is_needless=never)
    assert list(tmp_path.iterdir()) == []
    assert share_out(tmp_path, tasks_of(tmp_path, ["a"], done), is_needless=never)
    assert done == ["a"]


def test_tasks_whose_purpose_is_fulfilled_are_left(tmp_path):
    done = []
    assert not share_out(tmp_path, tasks_of(tmp_path, ["a"], done), is_needless=lambda: True)
    # The folder of a store that is whole is removed while another process is at a task.
    looks = iter([False, True])

    def vanished():
        raise CannotContinue("no such folder")

    tasks = {"a": vanished}
    assert not share_out(tmp_path, tasks, is_needless=lambda: next(looks))
    assert done == []


def test_how_many_tasks_are_done_is_told(tmp_path):
    (tmp_path / "task-01").write_text("done before")
    told, done = [], []
    tasks = tasks_of(tmp_path, names_of(3), done)
    assert share_out(tmp_path, tasks, is_needless=never, advance=told.append)
    assert (told, done) == ([1, 2, 3, 3], ["task-00", "task-02"])
