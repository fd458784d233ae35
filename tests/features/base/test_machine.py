"""What describes the machine: the same whatever a process has imported."""

import json
import os
import subprocess
import sys

import pytest

# What sets variables of the environment when it is imported, or might.
LIBRARIES = ("sklearn", "torch", "transformers", "openvino", "onnxruntime", "scipy.linalg")
PROGRAM = """
import importlib, json, sys
from features.base.machine import settings
before = settings()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([before, settings()]))
"""


def described(variables: dict[str, str], libraries: tuple[str, ...]) -> list[dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *libraries],
        env=kept | variables,
        capture_output=True,
        check=True,
        text=True,
    )
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def test_settings_do_not_depend_on_what_was_imported() -> None:
    before, after = described({}, LIBRARIES)
    assert after == before


@pytest.mark.parametrize(
    ("name", "value"), [("ONEDNN_MAX_CPU_ISA", "AVX2"), ("OMP_NUM_THREADS", "1")]
)
def test_settings_are_those_that_choose_kernels_and_threads(name: str, value: str) -> None:
    for found in described({name: value}, ()):
        assert found[name] == value
