"""Run one encoder in every precision and backend; a process of its own for each instruction set.

    ONEDNN_MAX_CPU_ISA=AVX2 python instruction_sets.py TEXTS

TEXTS is a JSON list. What torch's oneDNN says of its kernels goes to standard output, between lines
that name what runs (by ONEDNN_VERBOSE it would be OpenVINO's as well, which then fails). The
results follow, a JSON object a line.
"""

import itertools
import json
import sys

import numpy as np
import torch

from features import FrozenEncoder
from features.backends.devices import choose_devices
from features.backends.registry import BACKENDS, backends_on
from features.errors import FrostlineError

MARK, RESULT = "### ", "=== "


def cosines(a, b):
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def of_the_stock_model(texts):
    """Vectors by the model as it is."""
    encoder = FrozenEncoder(pooling="mean", backend="torch", dtype="float32")
    reference, tokens = encoder._load_reference(), encoder.tokenize(texts)
    return encoder._engine.vectors(reference, tokens.ids)["mean"]


def run(texts, exact, backend, dtype):
    """Encode texts; give the cosines to the stock model, and of some alone to those in a batch."""
    print(f"{MARK}{backend} {dtype}", flush=True)
    encoder = FrozenEncoder(pooling="mean", backend=backend, dtype=dtype)
    # Not while it is loaded: a trial may meet a reference kernel, on a tiny product, and leave it.
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        vectors = encoder.encode(texts)["mean"]
        alone = np.concatenate([encoder.encode([text])["mean"] for text in texts[:4]])
    return {
        "dtype": encoder.dtype,
        "cosine": float(cosines(vectors, exact).mean()),
        "alone": float(cosines(alone, vectors[:4]).min()),
        "rates": dict(encoder.choice.rates),
        "taken": str(encoder.choice.candidate),
    }


def main():
    texts = json.loads(sys.argv[1])
    device = choose_devices("cpu")[0]
    ways = [
        (name, dtype)
        for name, dtype in itertools.product(backends_on(device), ("float32", "bfloat16", "int8"))
        if dtype in BACKENDS[name].dtypes
    ]
    exact = of_the_stock_model(texts)
    for backend, dtype in [*ways, ("auto", "auto")]:
        try:
            found = run(texts, exact, backend, dtype)
        except FrostlineError as error:
            found = {"refused": str(error)}
        print(f"{RESULT}{json.dumps({'way': f'{backend} {dtype}', **found})}", flush=True)


if __name__ == "__main__":
    main()
