"""Run a work on many tasks with any engine: `map_shards` and `sum_shards`.

In come tasks, which are small, and a work; out come receipts as tasks finish, or sums. Workers may
die and be slow: a task of a worker that died is run again, and where nothing else is left to do, a
task that takes long is run a second time beside the first, and whichever ends first counts. So a
task may be run twice, and must not mind; it is answered once. Sums are added in the order of the
tasks, so their bits do not depend on the workers.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from features.engines.engine import Answer, Died, Engine, Failed, Ready, Work, Worker
from features.engines.host import shown_task
from features.errors import CannotContinue

Sums = tuple[npt.NDArray[np.float64], ...]

# Workers that a task may take with it before it is held to be the reason.
_DEATHS = 3
# A task is slow that takes so many times the median, and at least so many seconds.
_SLOW, _LEAST_SECONDS = 2.0, 2.0
# Seconds without any worker after which the engine is held to have none.
_STARTING = 600.0
# Tasks of each worker that are taken at a time, where they come one by one.
_AHEAD = 8
# Seconds between looks at what is slow.
_LOOK = 0.25


@dataclass(frozen=True)
class Standing:
    """How far a verb is.

    Attributes
    ----------
    done, tasks : int
        Tasks that are done, of how many.
    ready, workers : int
        Workers that can be called, of how many.
    died : int
        Workers that have died so far; others have taken their places.
    last : object
        What the task that was done last gave; None before the first.
    """

    done: int
    tasks: int
    ready: int
    workers: int
    died: int
    last: Any = None


def _silent(standing: Standing) -> None:
    """Tell nobody."""


def map_shards(
    engine: Engine,
    work: Work,
    tasks: Sequence[Any],
    *,
    told: Callable[[Standing], None] = _silent,
) -> Generator[tuple[int, Any]]:
    """Run a work on each task, and give what it gives, as they finish.

    Parameters
    ----------
    engine : Engine
    work : Work
        Its callable is called with a task.
    tasks : sequence
        Small things that can be pickled; a worker is given one at a time.
    told : callable, optional
        Called with a `Standing` whenever it has changed.

    Yields
    ------
    tuple of int and object
        The number of a task, and what its call gave: each task once.

    Raises
    ------
    FrostlineError
        A call raised it.
    CannotContinue
        A call raised another error, three workers died with one task, or no worker can be started.
    """
    if not tasks:
        return
    with _crew(engine, work, tasks, told) as crew:
        yield from crew.run()


def map_in_order(engine: Engine, work: Work, tasks: Iterable[Any]) -> Generator[Any]:
    """Run a work on tasks as they come, and give what it gives in their order.

    Tasks are taken some for each worker at a time, so memory does not grow with them.

    Parameters
    ----------
    engine : Engine
    work : Work
        Its callable is called with a task.
    tasks : iterable
        Things that can be pickled.

    Yields
    ------
    object
        What the call for a task gave.

    Raises
    ------
    FrostlineError
        As for `map_shards`.
    """
    waiting = iter(tasks)
    with _crew(engine, work, (), _silent) as crew:
        while some := list(islice(waiting, engine.workers * _AHEAD)):
            crew.take(some)
            early: dict[int, Any] = {}
            due = 0
            with closing(crew.run()) as results:
                for number, value in results:
                    early[number] = value
                    while due in early:
                        yield early.pop(due)
                        due += 1


@contextmanager
def sum_shards(engine: Engine, work: Work, tasks: Sequence[Any]) -> Iterator[Callable[[Any], Sums]]:
    """Give a function that sums over all tasks what a work gives for an argument.

    Each task has a home: the worker that is given it each time, as long as it lives and is not
    slow. So what a work keeps of a task is at hand the next time.

    Parameters
    ----------
    engine : Engine
    work : Work
        Its callable is called with a task and the argument, and gives a tuple of float64 arrays,
        of the same shapes for each task.
    tasks : sequence
        Small things that can be pickled, one or more.

    Yields
    ------
    callable
        Gives the sums for an argument, added in the order of the tasks.

    Raises
    ------
    FrostlineError
        As for `map_shards`.
    """
    with call_shards(engine, work, tasks) as call:

        def sums(argument: Any) -> Sums:
            with closing(call(argument)) as results:
                return added(results)

        yield sums


@contextmanager
def call_shards(
    engine: Engine, work: Work, tasks: Sequence[Any]
) -> Iterator[Callable[[Any], Generator[tuple[int, Any]]]]:
    """Give a function that calls a work on all tasks with an argument, each at its home.

    For what is more than a sum; see `sum_shards`. The tasks are taken from their sequence at each
    call, so that one may be replaced between two arguments.

    Yields
    ------
    callable
        Gives the numbers of the tasks and what their calls gave, as they finish, each once.
    """
    with _crew(engine, work, tasks, _silent, at_home=True) as crew:
        yield crew.run


def added(results: Iterable[tuple[int, Sums]]) -> Sums:
    """Add up arrays in the order of their numbers, from 0, in whichever order they come.

    Examples
    --------
    >>> added([(1, (np.ones(2),)), (0, (np.zeros(2),))])
    (array([1., 1.]),)
    """
    total: Sums = ()
    early: dict[int, Sums] = {}
    due = 0
    for number, result in results:
        early[number] = result
        while due in early:
            arrays = early.pop(due)
            if due == 0:
                total = tuple(np.array(array, np.float64) for array in arrays)
            else:
                for sum_, array in zip(total, arrays, strict=True):
                    np.add(sum_, array, out=sum_)
            due += 1
    return total


@dataclass
class _Member:
    """A place in the crew: its number, and the worker that has it now."""

    number: int
    worker: Worker
    since: float  # of the start, or of the call that it is in
    ready: bool = False
    task: int | None = None  # that it is in
    round: int = -1  # of that call
    argument_of: int = -1  # the round whose argument it was given last
    failed_starts: int = 0


@contextmanager
def _crew(
    engine: Engine,
    work: Work,
    tasks: Sequence[Any],
    told: Callable[[Standing], None],
    *,
    at_home: bool = False,
) -> Iterator[_Crew]:
    """Give the workers of a verb, who end with it; a task has a home or may go anywhere."""
    with ExitStack() as stack:
        stack.enter_context(engine.session())
        size = min(engine.workers, len(tasks))
        homes = [task * size // len(tasks) if at_home else None for task in range(len(tasks))]
        crew = _Crew(engine, work, tasks, homes, told)
        stack.callback(crew.stop)
        yield crew


@dataclass
class _Round:
    """The tasks of one run of a crew: which are left, which are done, how long they took."""

    number: int
    left: list[int]  # that nobody runs, the next one last
    argument: tuple[Any, ...]
    done: set[int] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    def is_slow(self, seconds: float) -> bool:
        """Tell whether a call takes long, as far as others are done to compare it with."""
        if not self.seconds:
            return False
        return seconds >= max(_LEAST_SECONDS, _SLOW * statistics.median(self.seconds[-101:]))


class _Crew:
    """The workers of a verb, and what each of them is doing.

    Parameters
    ----------
    engine, work, tasks, told
        As for `map_shards`.
    homes : list of int or None
        The number of the worker that is given each task; None for any.
    """

    def __init__(
        self,
        engine: Engine,
        work: Work,
        tasks: Sequence[Any],
        homes: list[int | None],
        told: Callable[[Standing], None],
    ) -> None:
        self._engine, self._work, self._tasks = engine, work, tasks
        self._homes, self._told = homes, told
        self._members: list[_Member] = []
        self._deaths: Counter[int] = Counter()
        self._died = 0
        self._rounds = 0

    def stop(self) -> None:
        """End all workers."""
        for member in self._members:
            member.worker.stop()

    def take(self, tasks: Sequence[Any]) -> None:
        """Take other tasks, which any worker may be given."""
        self._tasks, self._homes = tasks, [None] * len(tasks)
        self._deaths.clear()

    def run(self, *argument: Any) -> Generator[tuple[int, Any]]:
        """Call the work for every task; give the answers as they come, each once."""
        round_ = _Round(self._rounds, list(reversed(range(len(self._tasks)))), argument)
        self._rounds += 1
        for number in range(len(self._members), min(self._engine.workers, len(self._tasks))):
            worker = self._engine.start(number, self._work)
            self._members.append(_Member(number, worker, time.monotonic()))
        self._tell(round_)
        while len(round_.done) < len(self._tasks):
            for member in self._members:
                if member.ready and member.task is None:
                    self._give(member, round_)
            self._check_starting()
            workers = {id(member.worker): member for member in self._members}
            for worker, answer in self._engine.wait([m.worker for m in self._members], _LOOK):
                done = self._hear(workers[id(worker)], answer, round_)
                self._tell(round_, *done)
                yield from done

    def _tell(self, round_: _Round, *last: tuple[int, Any]) -> None:
        ready = sum(member.ready for member in self._members)
        value = last[0][1] if last else None
        standing = Standing(
            len(round_.done), len(self._tasks), ready, len(self._members), self._died, value
        )
        self._told(standing)

    def _give(self, member: _Member, round_: _Round) -> None:
        """Give a worker that is idle its next task, if there is one for it."""
        task = self._next(member, round_)
        if task is None:
            return
        if task in round_.left:
            round_.left.remove(task)
        new = () if member.argument_of == round_.number else round_.argument
        member.task, member.round, member.since = task, round_.number, time.monotonic()
        member.argument_of = round_.number
        member.worker.send(self._tasks[task], *new)

    def _next(self, member: _Member, round_: _Round) -> int | None:
        """Choose a task: one of its own, one whose worker is busy for long, or one that is slow."""
        for task in reversed(round_.left):
            if self._homes[task] in (None, member.number):
                return task
        now = time.monotonic()
        slow = [
            one
            for one in self._members
            if one is not member and _is_late(one, now - one.since, round_)
        ]
        numbers = {one.number for one in slow}
        for task in reversed(round_.left):
            if self._homes[task] in numbers:
                return task
        running = Counter(one.task for one in self._members if one.round == round_.number)
        for one in sorted(slow, key=lambda one: one.since):
            mine = one.round == round_.number and one.task is not None
            if mine and one.task not in round_.done and running[one.task] == 1:
                return one.task
        return None

    def _hear(self, member: _Member, answer: Answer, round_: _Round) -> list[tuple[int, Any]]:
        """Take what a worker says; the number and the value of a task that is done by it."""
        task, current = member.task, member.round == round_.number
        if isinstance(answer, Died):
            self._replace(member, answer, round_)
            return []
        if isinstance(answer, Ready):
            member.ready, member.failed_starts = True, 0
            return []
        seconds = time.monotonic() - member.since
        member.task = None
        if isinstance(answer, Failed) and not member.ready:
            raise answer.error
        if not current or task is None or task in round_.done:
            return []  # somebody else was faster
        if isinstance(answer, Failed):
            raise answer.error
        round_.done.add(task)
        round_.seconds.append(seconds)
        if self._homes[task] is not None:
            self._homes[task] = member.number  # what it keeps of the task is here now
        self._deaths.pop(task, None)  # of many calls of a long fit, some may meet a death
        return [(task, answer.value)]

    def _replace(self, member: _Member, death: Died, round_: _Round) -> None:
        """Start another worker in the place of one that died; its task is to be done again."""
        self._died += 1
        task = member.task if member.round == round_.number else None
        if task is None:
            member.failed_starts += 1
            if member.failed_starts == _DEATHS:
                raise CannotContinue(f"workers end before they begin to work: {death.how}")
        else:
            self._deaths[task] += 1
            if self._deaths[task] == _DEATHS:
                raise CannotContinue(
                    f"the task {shown_task(self._tasks[task])} ended its worker {_DEATHS} times, "
                    f"the last time by {death.how}; where memory may have run out, give it fewer "
                    "`workers`, or make the task smaller"
                )
            others = any(
                one.task == task and one.round == round_.number
                for one in self._members
                if one is not member
            )
            if member.round == round_.number and task not in round_.done and not others:
                round_.left.append(task)
        member.worker.stop()
        member.ready, member.task, member.argument_of = False, None, -1
        member.since = time.monotonic()
        member.worker = self._engine.start(member.number, self._work)

    def _check_starting(self) -> None:
        """Give up where no worker has come for a long time."""
        now = time.monotonic()
        if all(not one.ready and now - one.since > _STARTING for one in self._members):
            raise CannotContinue(
                f"none of {len(self._members)} workers has started within {_STARTING:.0f} s; look "
                "whether the cluster has the cores and GPUs that they ask for"
            )


def _is_late(member: _Member, seconds: float, round_: _Round) -> bool:
    """Tell whether a worker is in a call that takes long, or does not start."""
    if not member.ready:
        return seconds >= _STARTING / 10
    return member.task is not None and round_.is_slow(seconds)
