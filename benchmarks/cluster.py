"""What workers bring and cost: rows a second, start and peak memory of `extract` with engines.

    python benchmarks/cluster.py [TWEETS.csv] [--rows 6000] [--rounds 3]

Each way runs the command on a small and on a large file of the same kind: the difference gives the
rate, and what is left the start. Memory is that of all processes together (PSS: what several share
is counted once), seen ten times a second. All stores must have the same bytes. Without a file the
texts are made up, always the same. One core for each worker, so that two have twice those of one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import psutil
from material import make_texts, read_texts

# By name: the words behind `extract`, and the cores that all of it may use.
WAYS = {
    "one part, no engine": (["--part", "1/1"], 1),
    "local, 1 worker": (["--engine", "local", "--workers", "1"], 1),
    "local, 2 workers": (["--engine", "local", "--workers", "2"], 2),
    "ray, 1 worker": (["--engine", "ray", "--workers", "1"], 1),
    "ray, 2 workers": (["--engine", "ray", "--workers", "2"], 2),
}
_SETTINGS = ["--dtype", "float32", "--backend", "torch", "--pooling", "mean"]
_LARGE = 3  # times the rows of the small file


@click.command()
@click.argument("tweets", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--rows", default=6000, show_default=True, help="Of the small file.")
@click.option("--shard-rows", default=500, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", multiple=True, help="Ways to run; repeat for more [all].")
def main(tweets: Path | None, rows: int, shard_rows: int, rounds: int, only: Sequence[str]) -> None:
    """Compare engines and numbers of workers."""
    texts = make_texts(_LARGE * rows) if tweets is None else read_texts(tweets, _LARGE * rows)
    ways = {name: way for name, way in WAYS.items() if not only or name in only}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    peaks = dict.fromkeys(ways, 0.0)
    stores = set()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = [folder / "small.jsonl", folder / "large.jsonl"]
        for file, n in zip(files, (len(texts) // _LARGE, len(texts)), strict=True):
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:n]))
        choice = folder / "choice.json"
        for _ in range(rounds):
            for name, (words, cores) in ways.items():
                taken = []
                for file in files:
                    store = folder / f"store-{file.stem}"
                    if choice.exists():  # what the first one measured to be fastest, all take
                        store.mkdir()
                        shutil.copy(choice, store)
                    command = ["extract", str(file), "-o", str(store), *_SETTINGS, *words]
                    command += ["--shard-rows", str(shard_rows)]
                    spent, peak = _run(command, cores)
                    taken.append(spent)
                    peaks[name] = max(peaks[name], peak)
                    if not choice.exists():
                        shutil.copy(store / choice.name, choice)
                stores.add(_digest(store))
                for file in files:
                    shutil.rmtree(folder / f"store-{file.stem}")
                seconds[name].append((taken[0], taken[1]))
    _show(seconds, peaks, len(texts) - len(texts) // _LARGE)
    print(f"\n{'OK' if len(stores) == 1 else 'NOT MET'}: {len(stores)} different stores, 1 allowed")


def _show(
    seconds: dict[str, list[tuple[float, float]]], peaks: dict[str, float], more_rows: int
) -> None:
    print("\n| | rows/s | over the first | start, s | peak memory, MiB |\n|---|---|---|---|---|")
    first = 0.0
    for name, rounds in seconds.items():
        rate = statistics.median(more_rows / (large - small) for small, large in rounds)
        start = statistics.median(small - (large - small) / (_LARGE - 1) for small, large in rounds)
        first = first or rate
        print(f"| {name} | {rate:,.0f} | {rate / first:.2f} | {start:.1f} | {peaks[name]:,.0f} |")


def _run(words: Sequence[str], cores: int) -> tuple[float, float]:
    """Run a command on the first cores; give its seconds, and the most MiB it had."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        child = psutil.Popen(
            [sys.executable, "-m", "pipeline", *words], stdout=said, stderr=subprocess.STDOUT
        )
        with suppress(psutil.NoSuchProcess):
            child.cpu_affinity(list(range(cores)))
        peak = 0.0
        while child.poll() is None:
            peak = max(peak, sum(map(_pss, [child, *_below(child)])) / 2**20)
            time.sleep(0.1)
        if child.returncode:
            said.seek(0)
            raise click.ClickException(f"frostline {' '.join(words)}:\n{said.read()}")
    return time.perf_counter() - started, peak


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _pss(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


def _digest(store: Path) -> str:
    """Name the content of a store's shards."""
    digest = hashlib.sha256()
    for path in sorted(store.rglob("*.h5")):
        digest.update(str(path.relative_to(store)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
