"""The process in which `tests/robustness/crashes.py` lets runs of `extract` die, a fork a case.

It has imported everything and run `extract` once, so that a case costs the work alone, and has a
single thread, as a fork takes no other along. Orders come as lines of JSON on standard input,
answers go back on standard output.
"""

import contextlib
import dataclasses
import faulthandler
import fcntl
import json
import mmap
import os
import pickle
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from features import FeatureStore, extract
from features.base import disk
from features.errors import FrostlineError
from features.extraction import journal
from features.store import admission

SECONDS = 120  # a case takes less than one; after this it says where it hangs
# So that some dozens of tweets are several windows, each of several batches.
WINDOW = 8
OPERATIONS = ("write", "truncate", "sync", "sync_folder", "rename", "unlink", "mkdir", "link")


class Shim:
    """A counter of the operations of `features/base/disk.py`, which records them or ends the run.

    `at` is a lane and a number in it, `moment` is `before`, `half` (of the bytes are written) or
    `after`. The lane `rejects` has the writes to that file, which come from another thread than
    those to the journal, so that their order changes; the lane `rest` has all others. With an
    `error` it fails there instead of dying, with `lasting` at every later write too; with another
    `signal` than that which can't be caught it may go on.
    """

    def __init__(
        self,
        *,
        at=None,
        moment="before",
        error=None,
        lasting=False,
        signal=signal.SIGKILL,
        record=False,
    ):
        self.at, self.moment, self.error, self.lasting = at, moment, error, lasting
        self.signal = signal
        self.trace = [] if record else None
        self.n = {"rest": 0, "rejects": 0}
        self._reached = False
        self._lock = threading.RLock()

    def install(self):
        for kind in OPERATIONS:
            if hasattr(disk, kind):
                setattr(disk, kind, self._wrapped(kind, getattr(disk, kind)))

    def _wrapped(self, kind, original):
        def operation(*arguments):
            with self._lock:
                what = described(kind, arguments)
                lane = lane_of(kind, *what)
                here = [lane, self.n[lane]] == self.at
                later = self.lasting and self._reached
                self._reached |= here
                self.n[lane] += 1
                if (here and self.moment == "before") or (later and kind == "write"):
                    self._stop()
                if here and self.moment == "half":
                    original(arguments[0], memoryview(arguments[1]).cast("B")[: half(arguments[1])])
                    self._stop()
                if self.trace is not None:
                    self.trace.append((kind, *what))
                original(*arguments)
                if here and self.moment == "after":
                    self._stop()

        return operation

    def _stop(self):
        if self.error is None:
            os.kill(os.getpid(), self.signal)
            return
        raise OSError(self.error, os.strerror(self.error))


def half(data):
    return memoryview(data).cast("B").nbytes // 2


def described(kind, arguments):
    """What an operation does, in words that outlive it: a file is its inode and its path."""
    if kind in ("write", "truncate", "sync"):
        handle, *rest = arguments
        file = (os.fstat(handle).st_ino, str(Path(f"/proc/self/fd/{handle}").readlink()))
        if kind == "write":
            appends = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_APPEND
            start = os.lseek(handle, 0, os.SEEK_END if appends else os.SEEK_CUR)
            return file, start, bytes(memoryview(rest[0]).cast("B"))
        return file, *rest
    return tuple(os.fspath(path) for path in arguments)


def lane_of(kind, *arguments):
    """Where an operation is counted."""
    return "rejects" if kind == "write" and arguments[0][1].endswith(".rejects.jsonl") else "rest"


def forked(do, seconds=SECONDS):
    """Run in a child; give its process and the end of a pipe from which its answer will come."""
    ours, its = os.pipe()
    process = os.fork()
    if process:
        os.close(its)
        return process, ours
    try:
        os.close(ours)
        faulthandler.dump_traceback_later(seconds, exit=True)
        answer = do()
        with os.fdopen(its, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    finally:  # whatever happened: the parent's loop is not the child's
        faulthandler.dump_traceback_later(1, exit=True)
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def answer_of(process, pipe):
    """Wait for a child: its answer, with the signal that ended it."""
    with os.fdopen(pipe) as file:
        text = file.read()
    _, status = os.waitpid(process, 0)
    ended = os.waitstatus_to_exitcode(status)
    return {"ended": ended, **(json.loads(text) if text else {})}


def work(inputs, output, options, plan, limit=None, trace=None):
    """One run of `extract`: what it says, and how it ends."""
    lines = []
    top = Path(output)
    for path in [top] if top.is_file() else [*top.glob("*.h5"), *top.glob("piece-*/*.h5")]:
        admission.vouch(path)  # the tests compare it byte by byte with one that was admitted
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    shim = Shim(**plan, record=trace is not None)
    shim.install()
    answer = {}
    try:
        summary = dataclasses.asdict(
            extract(inputs, output, **options, window_rows=WINDOW, say=lines.append)
        )
        answer = {k: summary[k] for k in ("outcome", "rows", "resumed", "encoded", "rejected")}
    except FrostlineError as error:
        answer = {"error": type(error).__name__, "message": str(error), "code": error.exit_code}
    except KeyboardInterrupt as error:
        answer = {"interrupted": str(error)}
    if trace is not None:
        Path(trace).write_bytes(pickle.dumps(shim.trace))
    return {"lines": lines, "operations": sum(shim.n.values()), **answer}


def run(delay=None, **order):
    """Run in a child; with a `delay`, kill it after so many seconds."""
    started = time.perf_counter()
    process, pipe = forked(lambda: work(**order))
    if delay is not None:
        time.sleep(delay)
        os.kill(process, signal.SIGKILL)
    return {**answer_of(process, pipe), "seconds": time.perf_counter() - started}


def beside_each_other(orders, delays):
    """Run several children at once; one that has a delay is killed after so many seconds."""
    started = time.perf_counter()
    children = [forked(lambda order=order: work(**order)) for order in orders]
    waits = [(n, delay) for n, delay in enumerate(delays) if delay is not None]
    for n, delay in sorted(waits, key=lambda wait: wait[1]):
        time.sleep(max(0.0, started + delay - time.perf_counter()))
        with contextlib.suppress(ProcessLookupError):
            os.kill(children[n][0], signal.SIGKILL)
    return {"jobs": [answer_of(*child) for child in children]}


def look(output, opens, versions, counts, reader):
    """Open a store again and again, until it is replaced: each time it must be one of these."""
    found = []
    while counts[reader] < opens or len(found) < 3:
        with FeatureStore(output) as store:
            name = version_of(store)
        if name not in versions:
            return {"mixed": name}
        if not found or found[-1] != name:
            found.append(name)
        counts[reader] += 1
    return {"opens": counts[reader], "changes": len(found)}


def version_of(store):
    """What tells a version of the store from another one: all that is in it."""
    parts = [
        store.ids(),
        store.labels().tolist(),
        store.digests().tolist(),
        store.n_tokens().tolist(),
    ]
    vectors = [store.read(view).tobytes().hex() for view in sorted(store.views)]
    return journal.blake2b(json.dumps([parts, vectors]).encode()).hexdigest()


def beside(inputs, output, writers, readers, opens, every):
    """Let readers look at a store that is replaced whenever all of them have looked so often."""
    versions = []
    for options in writers:
        extract(inputs, output, **options, window_rows=WINDOW)
        with FeatureStore(output) as store:
            versions.append(version_of(store))
    counts = memoryview(mmap.mmap(-1, 8 * readers)).cast("q")  # shared with the children
    children = [
        forked(
            lambda reader=reader: look(output, opens, versions, counts, reader),
            max(SECONDS, opens),
        )
        for reader in range(readers)
    ]
    replaced = 0
    while reading := [i for i in range(readers) if not has_ended(children[i][0])]:
        options = writers[replaced % len(writers)]
        answer = run(inputs=inputs, output=output, options=options, plan={})
        if answer["ended"] or "error" in answer:
            return {"writer": answer}
        replaced += 1
        goals = {i: counts[i] + every for i in reading}
        while any(counts[i] < goals[i] and not has_ended(children[i][0]) for i in reading):
            time.sleep(0.005)
    return {"readers": [answer_of(*child) for child in children], "replaced": replaced}


def has_ended(process):
    """Whether it has; it is left as it is, for `answer_of`."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main():
    inputs, output, options = json.loads(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):
        extract(inputs, output, **options, window_rows=WINDOW)
    threads = len(list(Path("/proc/self/task").iterdir()))
    print(json.dumps({"threads": threads}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        do = {"run": run, "beside": beside, "jobs": beside_each_other}[order.pop("do")]
        print(json.dumps(do(**order)), flush=True)


if __name__ == "__main__":
    main()
