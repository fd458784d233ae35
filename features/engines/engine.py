"""Define what an engine is: a class of two methods that starts workers and waits for them.

A worker is a process that opens a `Work` once and then makes one call at a time. What is done with
the answers, which task goes where, and what follows the death of a worker is written once for all
engines, in `features/engines/verbs.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol


class Work(Protocol):
    """A description of work that can be pickled, small enough to be sent to each worker."""

    def open(self) -> AbstractContextManager[Callable[..., Any]]:
        """Open what the calls need, such as a model; the callable makes one call after another.

        It is called as `call(task)` by `map_shards`, and as `call(task, argument)` by `sum_shards`.
        """


@dataclass(frozen=True)
class Ready:
    """The answer of a worker that has started."""


@dataclass(frozen=True)
class Done:
    """The answer to a call that went well."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """The answer to a call that raised an error: a user's, or a fault of ours."""

    error: Exception


@dataclass(frozen=True)
class Died:
    """The end of a worker that was not asked for, with what the engine knows of it."""

    how: str


Answer = Ready | Done | Failed | Died


class Worker(Protocol):
    """A worker as the engine's `start` gives it."""

    def send(self, *arguments: Any) -> None:
        """Begin a call. Only after `Ready`, or after the answer to the call before."""

    def stop(self) -> None:
        """End the worker: at once if it is in a call. Nobody waits for it any more."""


class Engine(ABC):
    """A way to run workers: processes of this machine, actors of a cluster.

    Attributes
    ----------
    workers : int
        Workers at a time; known inside `session` at the latest.
    """

    workers: int

    def session(self) -> AbstractContextManager[None]:
        """Hold what all workers need, such as a cluster; may be entered again inside."""
        return nullcontext()

    @abstractmethod
    def start(self, number: int, work: Work) -> Worker:
        """Start the worker `number`, from 0; the first that it says is `Ready`.

        A number is given again where a worker has died, and stands for the same device and cores.
        """

    @abstractmethod
    def wait(self, workers: Sequence[Worker], seconds: float) -> Sequence[tuple[Worker, Answer]]:
        """Wait until some of the workers say something, but no longer than that.

        A worker says `Ready` once, then one `Done` or `Failed` for each call, and `Died` last, if
        it ends by itself.
        """
