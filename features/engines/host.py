"""Hold a work open inside a worker, and answer calls: the same for all engines.

`child` is the program of a worker process of `features/engines/local.py`: calls come in through a
socket, and answers go out. The process ends with the one that started it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from features.engines.engine import Done, Failed, Ready, Work
from features.errors import CannotContinue, FrostlineError, first_line


class Host:
    """A work that is opened at the first call, so that what goes wrong there is answered too."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stack = ExitStack()
        self._call: Callable[..., Any] | None = None
        self._argument: tuple[Any, ...] = ()

    def answer(self, task: Any, *argument: Any) -> Done | Failed:
        """Make a call; an argument that is left out is that of the call before."""
        try:
            if self._call is None:
                self._call = self._stack.enter_context(self._work.open())
            self._argument = argument or self._argument
            return Done(self._call(task, *self._argument))
        except FrostlineError as error:
            return Failed(error)
        except Exception as error:
            failed = CannotContinue(
                f"the task {shown_task(task)} failed: {type(error).__name__}: {first_line(error)}"
            )
            failed.add_note(traceback.format_exc())
            return Failed(failed)

    def close(self) -> None:
        """Close the work."""
        self._stack.close()


def shown_task(task: Any) -> str:
    """Give a task short enough for a message; of many things, such as rows, how many they are."""
    if isinstance(task, (list, tuple)) and len(task) > 1:
        return f"of {len(task):,} {type(task[0]).__name__}s"
    text = str(task)
    return text if len(text) <= 200 else text[:200] + "…"


def child() -> None:
    """Run a worker: its channel, its lifeline and its cores are the arguments of the process."""
    channel, lifeline = (int(handle) for handle in sys.argv[2:4])
    cores = {int(core) for core in sys.argv[4].split(",") if core}
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    threading.Thread(target=_end_with_driver, args=(lifeline,), daemon=True).start()
    with Connection(channel) as connection:
        sys.path[:] = connection.recv()
        host = Host(pickle.loads(connection.recv_bytes()))
        connection.send(Ready())
        try:
            while True:
                arguments = connection.recv()
                _send(connection, host.answer(*arguments), arguments[0])
        except EOFError:  # the driver needs it no more
            host.close()


def _send(connection: Connection, answer: Done | Failed, task: Any) -> None:
    """Send an answer; one that can't be pickled is a failure."""
    try:
        data = pickle.dumps(answer)
    except Exception as error:
        failed = CannotContinue(
            f"what the task {shown_task(task)} gave can't be sent back: {first_line(error)}"
        )
        data = pickle.dumps(Failed(failed))
    connection.send_bytes(data)


def _end_with_driver(lifeline: int) -> None:
    """Wait until the other end of a pipe is closed, as it is when the driver ends, and end too."""
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)  # what the worker has started, too
