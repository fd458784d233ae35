"""Readers are fed with some hundred files each, or tens of thousands; see `fuzz_runner.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_runner import SPOILED, TARGETS

HERE = Path(__file__).parent
# What is said of the targets that misbehave.
NOTICED = {
    "opens": "reading a file caused open",
    "removes": "reading a file caused os.remove",
    "starts": "reading a file caused os.system",
    "imports": "reading a file caused import",
    "evaluates": "reading a file caused compile",
    "raises": "KeyError",
    "hoards": "MemoryError",
}


def run(target, folder, examples):
    (folder / "files").mkdir()
    return subprocess.run(
        [sys.executable, HERE / "fuzz_runner.py", target, folder / "files", str(examples)],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)]),
            "OPENBLAS_NUM_THREADS": "1",
        },
    )


@pytest.mark.parametrize(
    "examples",
    [pytest.param(250, id="some"), pytest.param(50_000, id="many", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("target", [name for name in TARGETS if name not in SPOILED])
def test_only_documented_errors_and_nothing_run_or_opened(target, examples, tmp_path):
    done = run(target, tmp_path, examples)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    count = json.loads(done.stdout)
    assert count["read"] + count["refused"] >= examples
    assert min(count.values()) > 0  # or the changes are too coarse, or none at all


@pytest.mark.parametrize("target", SPOILED)
def test_what_must_not_be_is_noticed(target, tmp_path):
    done = run(target, tmp_path, 10)
    assert done.returncode in (1, 3)
    assert NOTICED[target] in done.stdout + done.stderr
