"""Run workers as processes of this machine: one for each GPU, or sharing out the cores.

A process is started anew and never forked, so threads and GPUs of this one do no harm. It ends with
this one, however this one ends, and a Ctrl-C of the terminal reaches this one alone.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Pipe, wait
from typing import Any

from features.base.child import code, command, ending
from features.engines.cores import divided, gpus, nodes, thread_settings, threads_of
from features.engines.engine import Answer, Died, Engine, Work, Worker
from features.errors import InputError

# Seconds in which a worker that is told to end closes its work; then it is killed.
_GRACE = 10.0


class LocalEngine(Engine):
    """Worker processes on this machine.

    Parameters
    ----------
    workers : int, optional
        One for each GPU if there are any, else one for each node of memory (NUMA).

    Raises
    ------
    InputError
        There are to be fewer than one.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"`workers` is {workers}: give 1 or more")
        self._gpus = gpus()
        self.workers = workers or len(self._gpus) or len(nodes()) or 1
        self._cores = divided(nodes(), self.workers)
        self._processes: list[_Process] = []

    @contextmanager
    def session(self) -> Iterator[None]:
        """Wait at the end for the processes that were told to end, and kill what does not."""
        begun = len(self._processes)
        try:
            yield
        finally:
            for process in self._processes[begun:]:
                process.reap()
            del self._processes[begun:]

    def start(self, number: int, work: Work) -> Worker:
        """Start a process on the cores and the GPU of that number."""
        environment = thread_settings(threads_of(self.workers))
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
        process = _Process(work, self._cores[number], environment)
        self._processes.append(process)
        return process

    def wait(self, workers: Sequence[Worker], seconds: float) -> Sequence[tuple[Worker, Answer]]:
        """Wait for the channels of the processes."""
        processes = [worker for worker in workers if isinstance(worker, _Process)]
        ready = wait([process.channel for process in processes], seconds)
        return [(process, process.heard()) for process in processes if process.channel in ready]


class _Process:
    """A worker process, with a socket for calls and a pipe that ends it when this process ends."""

    def __init__(self, work: Work, cores: Sequence[int], environment: dict[str, str]) -> None:
        data = pickle.dumps(work)
        self.channel, theirs = Pipe()
        lifeline, self._life = os.pipe()
        self._busy = True
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # `reap` closes it
        arguments = [theirs.fileno(), lifeline, ",".join(map(str, cores))]
        try:
            self._process = subprocess.Popen(
                command(code("features.engines.host"), *map(str, arguments)),
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(theirs.fileno(), lifeline),
                env={**os.environ, **environment},
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(lifeline)
        self._say(sys.path)
        self._say_bytes(data)

    def send(self, *arguments: Any) -> None:
        """Send a call."""
        self._busy = True
        self._say_bytes(pickle.dumps(arguments))

    def _say(self, value: Any) -> None:
        self._say_bytes(pickle.dumps(value))

    def _say_bytes(self, data: bytes) -> None:
        """Send something; that nobody is there to hear it is said by `heard`."""
        with suppress(OSError):
            self.channel.send_bytes(data)

    def heard(self) -> Answer:
        """Take what the process has said."""
        try:
            answer: Answer = self.channel.recv()
        except (EOFError, OSError):
            return Died(self._ending())
        self._busy = False
        return answer

    def _ending(self) -> str:
        """Say how the process ended."""
        try:
            exit_code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "its channel was closed"
        self._errors.seek(0)
        return ending(exit_code, self._errors.read().decode(errors="replace"))

    def stop(self) -> None:
        """Close the channel, which ends an idle process; kill one that is in a call."""
        self.channel.close()
        if self._busy:
            self._kill()

    def reap(self) -> None:
        """Wait for the end; a process that does not end is killed, with what it has started."""
        self.channel.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        finally:
            os.close(self._life)
            self._errors.close()

    def _kill(self) -> None:
        """Kill the process, and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
