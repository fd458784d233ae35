"""A work for engines that only sleeps, for `benchmarks/plan.py`: workers import it from here."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pipeline.plan.simulate import Chances


@dataclass(frozen=True)
class Sleeps:
    """A work that sleeps for known times, in workers of known lives.

    Attributes
    ----------
    folder : Path
        Where attempts and lives are counted, by files that are made once.
    seconds : tuple of float
        Of each task.
    seed, share, factor, life
        See `chances`.
    """

    folder: Path
    seconds: tuple[float, ...]
    seed: int
    share: float
    factor: float
    life: float

    @contextmanager
    def open(self) -> Iterator[Callable[[int], int]]:
        """Begin a life of a worker; the callable sleeps for a task, or ends the worker in it."""
        left = self.chances().life(0, self.next_number("life"))

        def call(task: int) -> int:
            nonlocal left
            slowness = self.chances().slowness(task, self.next_number(f"task-{task}"))
            took = self.seconds[task] * slowness
            time.sleep(min(left, took))
            if left < took:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= took
            return task

        yield call

    def next_number(self, name: str) -> int:
        """Count from 0, over all processes."""
        number = 0
        while True:
            try:
                (self.folder / f"{name}.{number}").touch(exist_ok=False)
                return number
            except FileExistsError:
                number += 1

    def chances(self) -> Chances:
        """Give what happens, by number: lives in the order in which workers open the work."""

        def drawn(*what: object) -> Random:
            return Random(repr((self.seed, *what)))

        def slowness(task: int, attempt: int) -> float:
            slow = drawn("slow", task, attempt).random() < self.share
            return self.factor if slow else 1.0

        def life(worker: int, number: int) -> float:
            return drawn("life", number).expovariate(1 / self.life) if self.life < 1e9 else math.inf

        return Chances(slowness, life)
