"""Two nodes of Ray in network namespaces, one of which is cut off while it works."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from ray_drivers import ROOT, Driver

pytest.importorskip("ray")

# Says where each task was done; after the first of each node it waits for the test to go on.
PROGRAM = """
engine = RayEngine({address!r}, workers=2)
seen, standings = set(), []
try:
    for number, (pid, *_) in map_shards(engine, Facts(0.3), range(60), told=standings.append):
        seen.add(pid)
        say(number=number, pid=pid)
        if len(seen) == 2 and "told" not in globals():
            told = True
            say(both=sorted(seen))
            input()
    say(done=True, ready=standings[-1].ready)
except Exception as error:
    say(kind=type(error).__name__, said=str(error))
"""


def run(*command):
    """Run a command of the system."""
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)


def inside(namespace, *command):
    return ("ip", "netns", "exec", namespace, *command)


@pytest.fixture
def namespaces():
    """Two namespaces whose networks are joined by a cable, at 10.213.7.1 and 10.213.7.2."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` here")
    names = [f"fl{uuid.uuid4().hex[:8]}{end}" for end in "ab"]
    with ExitStack() as stack:
        try:
            for name in names:
                run("ip", "netns", "add", name)
                stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
                stack.callback(end_all, name)
            ends = [f"v{name[2:]}" for name in names]
            run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
                run("ip", "link", "set", end, "netns", name)
                run(*inside(name, "ip", "addr", "add", f"10.213.7.{number}/24", "dev", end))
                for device in (end, "lo"):
                    run(*inside(name, "ip", "link", "set", device, "up"))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield names, ends


def end_all(namespace):
    """End what runs in a namespace."""
    found = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False
    )
    for pid in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.slow
def test_a_node_that_is_cut_off_does_not_hold_the_run(namespaces):
    (head, other), ends = namespaces
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    start = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1"]
    start += ["--object-store-memory=78643200", "--disable-usage-stats"]
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as folder:
        options = ["--include-dashboard=false", f"--temp-dir={folder}/ray", "--port=6379"]
        nodes = [
            (head, ["--head", "--node-ip-address=10.213.7.1", *options]),
            (other, ["--address=10.213.7.1:6379", "--node-ip-address=10.213.7.2"]),
        ]
        for name, more in nodes:
            subprocess.run(
                inside(name, *start, *more),
                check=True,
                capture_output=True,
                timeout=120,
                env=os.environ | variables,
            )
        program = PROGRAM.format(address="10.213.7.1:6379")
        with Driver(program, inside(head), **variables) as driver:
            facts = driver.hear()
            while "both" not in facts:
                facts = driver.hear()
            run(*inside(other, "ip", "link", "set", ends[1], "down"))
            code, more, errors = driver.end(300, stdin="\n")
        end_all(other)
        end_all(head)
    assert (code, more[-1].get("done")) == (0, True), (more[-1], errors)
    assert len(more) > 20
