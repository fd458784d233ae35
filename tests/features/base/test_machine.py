"""What describes the machine: the same whatever a process has imported."""

import json
import os
import subprocess
import sys

import pytest

from features.base import machine as described_machine

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


def test_one_core_is_described_alike_whatever_a_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for cores, threads in ((1, {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}), (8, {})):
        monkeypatch.setattr(described_machine, "n_cores", lambda cores=cores: cores)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in threads.items():
            monkeypatch.setenv(name, value)
        found.append([described_machine.machine((), of_one_core=of) for of in (True, False)])
    (one, all_of_one), (eight, all_of_eight) = found
    assert one == eight and all_of_one != all_of_eight
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert described_machine.machine((), of_one_core=True) != one
