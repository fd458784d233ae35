"""A process that has imported what commands take, and runs each of them in a fork of its own.

An order is a line of JSON on standard input: the words of a command, its environment, and the
terminal that it is to have. The answer is a line with the exit code. So a command is a process with
a terminal, as a person starts it, without the second in which it would import its libraries.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

# After these a command that does not end is killed.
SECONDS = 240
# What commands import when they need it; no model library, as no command here runs a model.
LATER = (
    "joblib",
    "rich.console",
    "rich.live",
    "rich.table",
    "scipy.optimize",
    "sklearn.linear_model",
)


def become(words, terminal, environment):
    """Make this process `frostline` with these words on a terminal, as a shell would start it."""
    signal.alarm(SECONDS)
    device = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    for number in (1, 2):
        os.dup2(device, number)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    # As Python makes them at its start: by lines on a terminal.
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["frostline", *words]


def main():
    from pipeline.cli.commands import main as frostline

    for name in LATER:
        importlib.import_module(name)
    # A fork takes no other thread along; that of pyarrow's allocator knows of forks.
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert len([name for name in threads if name != "jemalloc_bg_thd"]) == 1, threads
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            become(**order)
            frostline(prog_name="frostline")  # it ends the process
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
