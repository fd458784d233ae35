"""Every way to run a model, on the kinds of CPU that this one becomes when sets are hidden."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from instruction_sets import MARK, RESULT

from features.base.machine import processor

# What oneDNN may be kept to, and the instruction set that a CPU must have to stand for it.
SETTINGS = {
    "": "",
    "AVX512_CORE_BF16": "avx512_bf16",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE": "avx512f",
    "AVX2_VNNI": "avx_vnni",
    "AVX2": "avx2",
}
# What differs most from the CPUs that the other tests run on; the rest run with the slow tests.
QUICK = ("AVX2",)
# Least mean cosine to the stock model in float32, and of a text alone to itself among others.
LEAST = {"float32": 0.999999, "bfloat16": 0.9999, "int8": 0.99}
LEAST_ALONE = {"float32": 0.999999, "bfloat16": 0.9999, "int8": 0.9999}
MOODS = ("good", "bad", "so so")
THINGS = ("bus", "film", "rain", "library", "concert", "coffee on a tuesday morning")
TEXTS = [
    f"{mood} {thing}, {'really ' * n}{n} times over"
    for n, mood in enumerate(MOODS)
    for thing in THINGS
]
# Where it multiplies 8-bit integers in 16 bits, or not faster than floats.
WITHOUT_INT8 = ("AVX512_CORE", "AVX2")
SECONDS = 300
# An exported model is taken if no other one is faster by more than this factor.
AS_FAST = 1.05


def ran(setting):
    """What came of every way to run a model, and the kernels that oneDNN took for it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ONEDNN_")}
    if setting:
        environment["ONEDNN_MAX_CPU_ISA"] = setting
    script = Path(__file__).with_name("instruction_sets.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(TEXTS)],
        capture_output=True, text=True, env=environment, cwd=script.parents[3], timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results, kernels, way = {}, {}, ""
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            way = line.removeprefix(MARK)
        elif line.startswith(RESULT):
            found = json.loads(line.removeprefix(RESULT))
            results[found.pop("way")] = found
        elif ",exec,cpu," in line:
            primitive, kernel = line.split(",exec,cpu,")[1].split(",")[:2]
            kernels.setdefault(way, set()).add((primitive, kernel))
    return results, kernels


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, id=name or "all", marks=[] if name in QUICK else [pytest.mark.slow])
        for name in SETTINGS
    ],
)
def run(request):
    needed = SETTINGS[request.param]
    if needed and needed not in processor()[1]:
        pytest.skip(f"this CPU has no {needed}")
    return request.param, *ran(request.param)


def test_no_reference_kernel_multiplies(run):
    setting, _, kernels = run
    seen = {name for found in kernels.values() for name, _ in found}
    # With AVX2 alone torch's own kernels are faster, and taken.
    assert setting == "AVX2" or seen & {"matmul", "inner_product"}
    slow = {
        (way, name, kernel)
        for way, found in kernels.items()
        for name, kernel in found
        if name in ("matmul", "inner_product") and kernel.startswith("ref")
    }
    assert slow == set()


def test_vectors_are_those_of_the_stock_model_within_their_class(run):
    _, results, _ = run
    done = {way: found for way, found in results.items() if "refused" not in found}
    assert {"torch float32", "torch bfloat16", "auto auto"} <= done.keys()
    for way, found in done.items():
        assert found["cosine"] >= LEAST[found["dtype"]], way
        assert found["alone"] >= LEAST_ALONE[found["dtype"]], way


def test_int8_runs_or_is_refused_with_the_rates(run):
    setting, results, _ = run
    refused = results["torch int8"].get("refused", "")
    if setting in WITHOUT_INT8:
        assert "8-bit products reach" in refused and "GFLOP/s" in refused
    elif refused:
        assert "nothing would be gained" in refused


def test_what_is_refused_is_a_precision_that_is_not_to_be_had(run):
    _, results, _ = run
    for way, found in results.items():
        if "refused" in found:
            assert way in ("openvino bfloat16", "torch int8"), found["refused"]


def test_auto_takes_the_fastest_of_what_it_measured_or_an_exported_model_as_fast(run):
    _, results, _ = run
    taken, rates = results["auto auto"]["taken"], results["auto auto"]["rates"]
    if not rates:
        pytest.skip("nothing was measured in time: the machine is busy")
    fastest = max(rates.values())
    is_a_tie = not taken.startswith("torch") and rates[taken] * AS_FAST > fastest
    assert rates[taken] == fastest or is_a_tie, rates
