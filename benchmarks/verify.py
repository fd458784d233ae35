"""The speed of `frostline verify`, beside plain reading and the digest alone.

    python benchmarks/verify.py [--megabytes 1000]

The file is made up, always the same; it is read once before, so that the disk is left out. Medians
of interleaved rounds; compare within one run only.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from features import FeatureStore, verify
from features.spec.encoder_spec import EncoderSpec
from features.store.checksum import check_seal
from features.store.format import DIGEST_BYTES, Shard
from features.store.writer import write_shard

SPEC = EncoderSpec("made-up", None, "a" * 64, "b" * 64, "c" * 64, 128, "tweeteval/1")
VIEWS = {"cls": 384, "mean": 384, "mean@last4+sum": 384}
ID_BYTES = 12
# A tweet in twenty is one that was there before.
REPEATED = 20
BLOCK_BYTES = 2**20


@click.command()
@click.option("--megabytes", default=1000, show_default=True, help="Size of the file.")
@click.option("--rounds", default=5, show_default=True)
def main(megabytes: int, rounds: int) -> None:
    """Time `verify`, its parts, and plain reading of the same file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "made.h5"
        n_rows = write(path, megabytes)
        size = path.stat().st_size
        result = verify(path)
        assert result.whole, result.faults
        ways: dict[str, Callable[[Path], object]] = {
            "plain reading": read_plainly,
            "SHA-256 of memory": hash_memory,
            "check of the seal": check_seal,
            "reading vectors through HDF5": read_vectors,
            "verify": verify,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                started = time.perf_counter()
                way(path)
                seconds[name].append(time.perf_counter() - started)
    click.echo(f"{size / 1e6:,.0f} MB, {n_rows:,} rows; median of {rounds} rounds, MB/s")
    for name, times in seconds.items():
        click.echo(f"  {name:<30} {size / statistics.median(times) / 1e6:7,.0f}")


def write(path: Path, megabytes: int) -> int:
    """Write a file of about so many megabytes, and give its rows."""
    n_rows = megabytes * 10**6 // (2 * sum(VIEWS.values()) + ID_BYTES + DIGEST_BYTES + 9)
    number = np.arange(n_rows)
    number[REPEATED::REPEATED] = number[: len(number[REPEATED::REPEATED])]
    vectors = np.random.default_rng(0).standard_normal((4096, 384)).astype(np.float16)

    def rows_of(name: str, rows: slice) -> npt.NDArray[Any]:
        some = number[rows]
        if name in VIEWS:
            return vectors[some % len(vectors)]
        if name == "digest":
            return np.ascontiguousarray(np.stack([some, some], axis=1)).view(np.uint8)
        if name == "id":
            return np.arange(rows.start, rows.stop).astype(f"S{ID_BYTES}")
        return np.full(len(some), {"n_tokens": 20}.get(name, 0))

    shard = Shard(SPEC, VIEWS, ["none"], "half", "float16", {"inputs": ["made up"]})
    write_shard(path, shard, n_rows=n_rows, id_bytes=ID_BYTES, rows_of=rows_of)
    return n_rows


def read_plainly(path: Path) -> None:
    """Read all bytes into one buffer."""
    block = bytearray(BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass


def hash_memory(path: Path) -> None:
    """Hash as many bytes as the file has, without reading it."""
    digest, block = hashlib.sha256(), bytes(BLOCK_BYTES)
    for _ in range(path.stat().st_size // BLOCK_BYTES):
        digest.update(block)


def read_vectors(path: Path) -> None:
    """Read every vector as a reader would."""
    with FeatureStore(path) as store:
        for view in store.views:
            for _ in store.blocks(view, store.store_dtype):
                pass


if __name__ == "__main__":
    main()
