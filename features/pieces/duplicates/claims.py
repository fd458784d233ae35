"""Share out tasks among jobs that know of each other by the files of a folder alone.

In come the tasks of a step, each of which is done once its file is there; whoever calls comes back
when all are done, whoever did them. A job claims a task before it begins, and renews the claim
while it is at it. So no job begins what another one is at, and none waits for a dead one: the task
of a process that has ended, or that was silent for a minute, is taken over. A claim saves work and
decides nothing: two jobs may do the same task, and the file that is there first counts.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from features.base import disk
from features.base.remote.uploads import remove
from features.base.remote.urls import is_url
from features.base.storage import (
    Target,
    child,
    exists,
    listed,
    local_path,
    put,
    put_new,
    read_bytes,
)
from features.errors import FrostlineError, InputError

# Seconds between renewals, and without one until the task is taken over. Network file systems may
# show a file as it was up to a minute ago.
_RENEWAL, _SILENCE = 10.0, 90.0
# Seconds between looks at a task of another job: ever more, up to these.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# Seconds of waiting that nobody is told of.
_PATIENCE = 10.0


class Claims:
    """The claims of a job on tasks, as files of a folder that all jobs share.

    Parameters
    ----------
    folder : path or URL
        Where the files of the tasks appear, and the claims beside them.
    """

    def __init__(self, folder: Target) -> None:
        self._folder = folder
        self._me = f"{platform.node()} {os.getpid()} {secrets.token_hex(8)}"

    def put(self, name: str) -> bool:
        """Claim a task; False where somebody has."""
        return put_new(self._target(name), self._content(0))

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Renew the claim on a task while work on it goes on; give it up if that fails."""
        over = threading.Event()

        def renew() -> None:
            number = 0
            while not over.wait(_RENEWAL):
                number += 1
                with suppress(FrostlineError, OSError):  # the work goes on without
                    put(self._target(name), self._content(number))

        renewing = threading.Thread(target=renew, name="renew", daemon=True)
        renewing.start()
        try:
            yield
        except BaseException:
            _end(renewing, over)
            with suppress(FrostlineError, OSError):  # others will see that it is not renewed
                _remove(self._target(name))
            raise
        _end(renewing, over)

    def take_over(self, name: str) -> None:
        """Claim a task whoever has it."""
        put(self._target(name), self._content(0))

    def wait(self, name: str, on_wait: Callable[[str], None]) -> bool:
        """Wait until a task of another job is done or given up; False where that job is dead."""
        began = since = time.monotonic()
        seen, pause, said = "", _FIRST_PAUSE, False
        while not exists(child(self._folder, name)):
            try:
                claim = read_bytes(self._target(name)).decode(errors="replace")
            except InputError:  # given up
                return True
            if claim != seen:
                seen, since = claim, time.monotonic()
            if self._has_ended(claim) or time.monotonic() - since > _SILENCE:
                return False
            if not said and time.monotonic() - began > _PATIENCE:
                said = True
                on_wait(name)
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, 1.5 * pause)
        return True

    def _content(self, number: int) -> bytes:
        return f"{self._me} {number}\n".encode()

    def _target(self, name: str) -> Target:
        return child(self._folder, claim_name(name))

    def _has_ended(self, claim: str) -> bool:
        """Tell of a process of this machine that it is not there any more."""
        host, _, rest = claim.partition(" ")
        pid = rest.partition(" ")[0]
        if host != platform.node() or not pid.isdecimal():
            return False
        # With the number of this process, but another token: it was one that this one replaces.
        return int(pid) == os.getpid() or not _is_there(int(pid))


def claim_name(name: str) -> str:
    """Name the claim on a task by the name of the task's file."""
    return f"at-{name}"


def share_out(
    folder: Target,
    tasks: Mapping[str, Callable[[], None]],
    *,
    is_needless: Callable[[], bool],
    advance: Callable[[int], None] = lambda done: None,
    on_wait: Callable[[str], None] = lambda name: None,
) -> bool:
    """Do tasks that others do too, until all are done.

    Parameters
    ----------
    folder : path or URL
        Where their files appear, and claims on them.
    tasks : mapping of str to callable
        By the names of their files, in the order in which this job would do them; each writes its
        file, unless it is there.
    is_needless : callable
        Tells that what the tasks are for is done already, so that they need not be.
    advance : callable
        Called with the number of tasks that are done, whoever did them.
    on_wait : callable
        Called with the name of a task of another job that is waited for, if it takes long.

    Returns
    -------
    bool
        Whether all are done; False where that is needless.

    Raises
    ------
    FrostlineError
        What a task raises.
    """
    claims = Claims(folder)
    while True:
        there = listed(folder)
        left = [name for name in tasks if name not in there]
        done = len(tasks) - len(left)
        advance(done)
        if not left or is_needless():
            return not left
        free = [name for name in left if claim_name(name) not in there]
        try:
            for name in free:
                if claims.put(name):
                    _do(claims, name, folder, tasks[name])
                    done += 1
                    advance(done)
            if not free and not claims.wait(left[0], on_wait):
                claims.take_over(left[0])
                _do(claims, left[0], folder, tasks[left[0]])
        except FrostlineError:
            # A second process with the same part may have removed the folder of a whole store.
            if not is_needless():
                raise
            return False


def _do(claims: Claims, name: str, folder: Target, task: Callable[[], None]) -> None:
    with claims.held(name):
        if not exists(child(folder, name)):  # by workers of an engine, which claim nothing
            task()


def _end(renewing: threading.Thread, over: threading.Event) -> None:
    over.set()
    renewing.join()


def _remove(target: Target) -> None:
    if is_url(target):
        remove(str(target))
    else:
        disk.unlink(local_path(target))


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
