"""Vectors of a store in pieces have the same bits, whatever number of cores a job has.

What changes them, and what does not, is in the table of docs/cluster.md: the way that runs the
model and the texts of a batch do, so all processes take the same; the cores of a process, and how
many batches it runs at a time, must not.
"""

import filecmp
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from features.backends import registry
from features.backends.choice import Candidate, Choice, Runtime
from features.encoder.encoder import FrozenEncoder
from features.errors import FrostlineError
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import make_spec

ROOT = Path(__file__).parents[3]
WORDS = ["so", "happy", "that", "old", "train", "is", "late", "again", "my", "cat", "sleeps"]
CANDIDATES = [
    *(
        Candidate("torch", dtype, kernels, attention)
        for dtype, kernels, attention in (
            ("float32", "prepacked", ""),
            ("float32", "plain", ""),
            *product(("bfloat16",), ("prepacked", "plain"), ("", "products")),
            *product(("int8",), ("prepacked",), ("", "half", "products")),
        )
    ),
    Candidate("openvino", "float32"),
    Candidate("openvino", "bfloat16"),
    Candidate("onnx", "float32"),
]
SLOW = [c for c in CANDIDATES if c.backend != "torch" or (c.dtype == "int8" and not c.attention)]


def some_texts(n=60):
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 14))) for _ in range(n)]


@pytest.fixture
def vectors_of(tiny_model, every_backend, monkeypatch):
    """Encode texts by a candidate, in batches of so many tokens, with so many threads."""
    checkpoint = find_checkpoint(tiny_model("bert"))

    def encode(candidate, tokens, threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))  # what exported models look at
        runtime = Runtime(
            candidate.dtype,
            "cpu",
            candidate.backend,
            begun=Choice(candidate, tokens, 1),
            one_core=True,
        )
        spec = make_spec(checkpoint, quantize="int8" if candidate.dtype == "int8" else "none")
        try:
            encoder = FrozenEncoder.from_spec(
                spec, lambda: checkpoint, pooling=["cls", "mean"], runtime=runtime
            )
            assert encoder.choice == Choice(candidate, tokens, 1)
            found = encoder.encode(some_texts())
        finally:
            torch.set_num_threads(before)
        return {view: matrix.tobytes() for view, matrix in found.items()}

    return encode


@pytest.mark.parametrize(
    "candidate",
    [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in CANDIDATES],
    ids=lambda c: f"{c} {c.attention}".strip(),
)
def test_the_number_of_cores_changes_no_bit(candidate, vectors_of):
    if candidate.backend not in registry.backends_on(torch.device("cpu")):
        pytest.skip(f"{candidate.backend} is not installed")
    try:
        expected = vectors_of(candidate, 64, 1)
    except FrostlineError as error:
        pytest.skip(str(error))
    assert vectors_of(candidate, 64, 1) == vectors_of(candidate, 64, 3) == expected


# Each with an empty cache: what is measured in one is not known to the others.
JOBS = {
    "one core": (["--part", "1/1"], 1),
    "all cores": (["--part", "1/1"], None),
    "thirds": (["--part", "{}/3"], None),
    "1 worker": (["--engine", "local", "--workers", "1"], None),
    "2 workers": (["--engine", "local", "--workers", "2"], None),
    "ray": (["--engine", "ray", "--workers", "2"], None),
}


@pytest.mark.slow
def test_whoever_measures_takes_the_same_and_makes_the_same_bytes(tmp_path):
    tweets = tmp_path / "tweets.csv"
    rows = (f"{n},{text}" for n, text in enumerate(some_texts(90)))
    tweets.write_text("id,text\n" + "\n".join(rows) + "\n")
    kept = {key: v for key, v in os.environ.items() if not key.endswith("_NUM_THREADS")}
    trees = {}
    for number, (name, (options, cores)) in enumerate(JOBS.items()):
        store = tmp_path / f"store-{number}"
        for part in (1, 2, 3) if "{}/3" in options else (1,):
            environment = kept | {"FROSTLINE_CACHE": str(tmp_path / f"cache-{number}-{part}")}
            command = [
                *[sys.executable, "-m", "pipeline", "extract", str(tweets), "-o", str(store)],
                *["--shard-rows", "20", *(option.format(part) for option in options)],
            ]
            # A child takes over what its starter may use.
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, sorted(before)[:cores])
            try:
                subprocess.run(
                    command, env=environment, cwd=ROOT, check=True, timeout=600, capture_output=True
                )
            finally:
                os.sched_setaffinity(0, before)
        trees[name] = store
    first = trees.pop("one core")
    files = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    for name, store in trees.items():
        theirs = sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())
        assert theirs == files, name
        assert filecmp.cmpfiles(first, store, files, shallow=False) == (files, [], []), name
