"""A process of a user of the hub: huggingface_hub reads its settings once, when it is imported.

Pieces of Python in, what they give or the error that they raise out, one after another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
LOOP = """
import json, sys, time, traceback, warnings
from pipeline import Head, load_head
time.sleep = lambda seconds: None  # huggingface_hub waits a second before it tries again
said = sys.stdout
sys.stdout = sys.stderr
names = {"Head": Head, "load_head": load_head}
for line in sys.stdin:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = {"value": None, "error": None, "message": "", "code": 0}
        try:
            *before, last = json.loads(line)
            for one in before:
                exec(one, names)
            answer["value"] = eval(last, names)
        except Exception as error:
            answer |= {"error": type(error).__name__, "message": str(error)}
            answer["code"] = getattr(error, "exit_code", None)
    answer["warnings"] = [str(one.message) for one in caught]
    print(json.dumps(answer), file=said, flush=True)
"""


class Answer(NamedTuple):
    """What the last expression gave, or the name, words and exit code of an error."""

    value: Any
    error: str | None
    message: str
    code: int | None
    warnings: list[str]


def environment(home: Path, url: str, **more: str) -> dict[str, str]:
    """The settings of a user whose hub is at `url`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    of_hub = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    path = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | of_hub | {"HF_HUB_DISABLE_TELEMETRY": "1"} | path | more


class HubClient:
    """A Python process with `Head` and `load_head` at hand."""

    def __init__(self, home: Path, url: str, **more: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(home, url, **more),
            cwd=home,
        )

    def run(self, *lines: str) -> Answer:
        """Run statements and give what the last line, an expression of JSON types, is."""
        self._process.stdin.write(json.dumps(lines) + "\n")
        self._process.stdin.flush()
        return Answer(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0
        self._process.stdout.close()
