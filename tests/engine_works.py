"""Works for tests of engines: leave marks in a folder, end their workers, are slow or wrong."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.engines.engine import Died, Engine, Ready
from features.engines.host import Host
from features.errors import NotFinite


class Killed(BaseException):
    """The end of a worker that shares its process with the test."""


@dataclass(frozen=True)
class Marks:
    """A work that leaves a file for each call, and does something before it gives task squared.

    `faults` says what a task does, and in how many of its first calls; `driver` is the test.
    """

    folder: Path
    faults: dict = field(default_factory=dict)
    driver: int = field(default_factory=os.getpid)

    @contextmanager
    def open(self):
        yield self._call

    def _call(self, task, *argument):
        n = len(calls(self.folder, task))
        (self.folder / f"{task}.{n}.{os.getpid()}").touch()
        kind, times = self.faults.get(task, ("none", 0))
        if n < times:
            getattr(self, f"_{kind}")()
        return task * task

    def _die(self):
        if os.getpid() == self.driver:
            raise Killed
        os.kill(os.getpid(), signal.SIGKILL)

    def _sleep(self):
        time.sleep(60)

    def _wrong(self):
        raise NotFinite("texts overflow", [3, 4])

    def _fault(self):
        raise ZeroDivisionError("a fault of ours")

    def _unsendable(self):
        raise Unsendable


class Unsendable(Exception):
    """An error that can't be pickled."""

    def __init__(self):
        super().__init__("of another library")
        self.lock = threading.Lock()  # what can't be pickled


def calls(folder, task):
    """The processes that a task was called in."""
    return [path.suffix[1:] for path in Path(folder).glob(f"{task}.*")]


@dataclass(frozen=True)
class Facts:
    """A work that gives what a worker finds where it runs, after so many seconds."""

    seconds: float = 0.0

    @contextmanager
    def open(self):
        yield self._call

    def _call(self, task):
        time.sleep(self.seconds)
        names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return os.getpid(), cores, {name: os.environ.get(name) for name in names}


@dataclass(frozen=True)
class Wide:
    """A work of sums whose bits depend on their order: it gives numbers of any size."""

    deadly: int | None = None
    folder: Path | None = None

    @contextmanager
    def open(self):
        kept = {}

        def call(task, argument):
            if task == self.deadly and not calls(self.folder, task):
                (self.folder / f"{task}.0.{os.getpid()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            kept[task] = kept.get(task, 0) + 1
            random = np.random.default_rng(task)
            wide = random.standard_normal((3, 4)) * 10.0 ** random.integers(-9, 9, (3, 4))
            return wide * argument, np.float64(wide.sum()), np.array([kept[task], os.getpid()])

        yield call


class Inline(Engine):
    """The smallest engine: calls in this process, when somebody waits for them."""

    def __init__(self, workers):
        self.workers = workers

    def start(self, number, work):
        return _InlineWorker(work)

    def wait(self, workers, seconds):
        answers = [(worker, worker.answer()) for worker in workers]
        return [(worker, answer) for worker, answer in answers if answer is not None]


class _InlineWorker:
    def __init__(self, work):
        self._host, self._next = Host(work), Ready

    def send(self, *arguments):
        self._next = lambda: self._host.answer(*arguments)

    def answer(self):
        call, self._next = self._next, lambda: None
        try:
            return call()
        except Killed:
            return Died("a wish of the test")

    def stop(self):
        self._host.close()
