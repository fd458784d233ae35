"""Programs that use the engine of Ray, for tests that kill them, or what they have started."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PATHS = [str(ROOT), str(ROOT / "tests")]
PROLOGUE = f"""
import json, os, sys
sys.path[:0] = {PATHS!r}
from pathlib import Path
import numpy as np
from engine_works import Facts, Marks, Wide, calls
from features.engines.ray_engine import RayEngine
from features.engines.verbs import map_shards, sum_shards
def say(**facts):
    print(json.dumps(facts), flush=True)
"""

# `frostline`, which says at the end how much was ever put into the object store, if that is asked.
COMMAND = """
from pipeline.cli.commands import main
words, told = {words!r}, {told!r}
if told:
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address
    shutdown = ray.shutdown

    def looked_at_shutdown():
        here = ray.get_runtime_context().gcs_address
        store = get_memory_info_reply(get_state_from_address(here)).store_stats
        Path(told).write_text(str(store.cumulative_created_bytes))
        shutdown()

    ray.shutdown = looked_at_shutdown
main(words, prog_name="frostline")
"""


def frostline(*words, told="", **variables):
    """The driver of a command; what it puts into the object store is written to `told`."""
    return Driver(COMMAND.format(words=[*map(str, words)], told=str(told)), **variables)


class Driver:
    """A program in a process of its own, which says facts as lines of JSON."""

    def __init__(self, code, command=(), **variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", PROLOGUE + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, **variables},
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()

    def hear(self):
        """The next facts."""
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=60)[1]
        return json.loads(line)

    def end(self, seconds=120, stdin=None):
        """Its exit code, the facts that it has not been asked for, and its errors."""
        out, errors = self.process.communicate(stdin, timeout=seconds)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], errors

    def done(self, seconds=300):
        """The exit code, the output and the errors of a command."""
        out, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, errors

    def named(self, start):
        """The processes below it whose names begin so."""
        return [one for one in self.family() if one.name().startswith(start)]

    def family(self):
        """The process and all below it."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


def listening(processes):
    """The addresses that processes listen on, with the names of these."""
    found = {}
    for process in processes:
        for ip, _ in heard(process):
            found.setdefault(ip.removeprefix("::ffff:"), []).append(process.name())
    return found


def heard(process):
    """The addresses and ports that a process listens on."""
    connections = process.net_connections("inet")
    return [one.laddr for one in connections if one.status == psutil.CONN_LISTEN]


def ports(process):
    """The ports that a process listens on."""
    return [port for _, port in heard(process)]


def is_gone(process):
    """Whether a process has ended; one that nobody has buried has, too."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(what, seconds=60):
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)
