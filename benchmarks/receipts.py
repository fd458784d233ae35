"""The seconds and memory that a store of many pieces takes to be joined and opened.

    python benchmarks/receipts.py [--pieces 100000]

The receipts are made up, each of one shard; only the first shard is there, since neither joining
nor opening looks at another one. Each measurement is the median of some fresh processes, with the
peak of its memory and the files that it has open at the end. Files are in the system's memory.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec
from features.store.format import DIGEST_BYTES, Shard
from features.store.joined import layout
from features.store.joined.describe import receipt_of
from features.store.joined.fields import sealed, unsealed
from features.store.joined.order import digest_of
from features.store.writer import write_shard

SPEC = EncoderSpec("made-up", None, "a" * 64, "b" * 64, "c" * 64, 128, "tweeteval/1")
VIEW, WIDTH, ROWS = "mean", 384, 100

# What each process runs: the store's folder is its argument.
WAYS = {
    "start, alone": "import features.store.reader, features.store.joined.join",
    "join": "from features.store.joined.join import join; join(Path(sys.argv[1]))",
    "join again": "from features.store.joined.join import join; join(Path(sys.argv[1]))",
    "open": "from features import FeatureStore; store = FeatureStore(sys.argv[1])",
    "open, read a shard": (
        "from features import FeatureStore; store = FeatureStore(sys.argv[1]); "
        f"next(store.blocks({VIEW!r}))"
    ),
}
PROGRAM = """
import json, os, resource, sys, time
from pathlib import Path
import features.store.reader, features.store.joined.join
started = time.perf_counter()
{way}
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([seconds, peak, len(os.listdir("/proc/self/fd"))]))
"""


@click.command()
@click.option("--pieces", default=100_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(pieces: int, rounds: int) -> None:
    """Time joining and opening."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        make(store, pieces)
        print(f"{pieces:,} receipts of {size_of(store / layout.RECEIPTS) / 1e6:,.1f} MB")
        for name, way in WAYS.items():
            if name == "join":
                measured = []
                for _ in range(rounds):
                    layout.store_path(store).unlink(missing_ok=True)
                    measured.append(measure(way, store))
            else:
                measured = [measure(way, store) for _ in range(rounds)]
            seconds, peak, files = (
                statistics.median(column) for column in zip(*measured, strict=True)
            )
            print(f"{name:20} {seconds:8.2f} s  {peak / 1e6:8.1f} MB at most  {files:4.0f} files")
        print(f"store.json has {layout.store_path(store).stat().st_size / 1e6:,.1f} MB")


def make(store: Path, pieces: int) -> None:
    """Make a store of made-up receipts, with the first shard alone."""
    (store / layout.RECEIPTS).mkdir(parents=True)
    order = json.dumps(
        {
            "format": "frostline-order",
            "version": 1,
            "pieces": {"count": pieces, "digest": "0" * 64},
            "inputs": [{"name": "tweets.csv", "bytes": 1}],
        }
    ).encode()
    layout.order_path(store).write_bytes(order)
    layout.piece_folder(store, 0).mkdir()
    first = layout.shard_path(store, 0, 0)
    write(first)
    receipt = unsealed(receipt_of(0, digest_of(order), [first], rejects=store / "none").to_json())
    seal = receipt["shards"][0]["seal"]
    for piece in range(pieces):
        receipt["piece"] = piece
        receipt["shards"][0]["seal"] = f"{piece:016x}{seal[16:]}" if piece else seal
        layout.receipt_path(store, piece).write_bytes(sealed(receipt))


def write(path: Path) -> None:
    """Write a small shard."""
    rng = np.random.default_rng(0)
    columns = {
        "id": np.array([f"{i}".encode() for i in range(ROWS)]),
        "label": rng.integers(0, 3, ROWS, np.int32),
        "digest": rng.integers(0, 256, (ROWS, DIGEST_BYTES), np.uint8),
        "n_tokens": np.full(ROWS, 20, np.int32),
        "flags": np.zeros(ROWS, np.uint8),
        VIEW: rng.normal(size=(ROWS, WIDTH)).astype(np.float16),
    }
    shard = Shard(
        VectorSpec(SPEC, {VIEW: WIDTH}, "half", "float16"),
        ["negative", "neutral", "positive"],
        {"inputs": ["tweets.csv"], "input_digest": "f" * 64},
    )
    write_shard(
        path,
        shard,
        n_rows=ROWS,
        id_bytes=columns["id"].itemsize,
        rows_of=lambda name, rows: columns[name][rows],
    )


def measure(way: str, store: Path) -> tuple[float, float, float]:
    """Give seconds, peak of memory and open files of a process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(way=way), str(store)],
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds, peak, files = json.loads(done.stdout)
    return seconds, peak, files


def size_of(folder: Path) -> int:
    """Count the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
