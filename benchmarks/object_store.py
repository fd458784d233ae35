"""Measure what goes through Ray's object store: commands with `--engine ray`, each second.

    python benchmarks/object_store.py [--rows 1000000] [--workers 2] [--shard-rows 50000]

Tweets are made up, all of them different; the model is a BERT of one layer with random weights, so
that the time goes to rows and not to the model. `extract` makes a store of them, `fit` a head of
that, and `predict` scores the tweets, each as `frostline` does it, in a process of its own.

- "store peak": the most bytes that the object store held at one time.
- "store made": all bytes that were ever put into it, which is never less than the peak.
- "driver", "workers", "Ray": the most resident bytes at one time of the command's own process, of
  its actors, and of what else Ray runs (Ray's memory that is shared is counted in each).

The object store is that of the raylet, which is asked each second, and once more before it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from material import make_texts, model_folder

PARTS = ("driver", "actors", "ray")
LABELS = ("positive", "neutral", "negative")
# `frostline`, and a thread in it that asks the raylet how full its object store is.
COMMAND = """
import json, sys, threading
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from pipeline.cli.commands import main

most, ended, shutdown = [0, 0, 0], threading.Event(), ray.shutdown

def look():
    here = ray.get_runtime_context().gcs_address
    store = get_memory_info_reply(get_state_from_address(here)).store_stats
    most[0] = max(most[0], store.object_store_bytes_used)
    most[1] = max(most[1], store.cumulative_created_bytes)
    most[2] += 1

def watch():
    while not ended.wait(1):
        if ray.is_initialized():
            look()

def looked_at_shutdown(*arguments, **options):
    ended.set()
    thread.join()
    if ray.is_initialized():
        look()
    shutdown(*arguments, **options)

thread = threading.Thread(target=watch, daemon=True)
thread.start()
ray.shutdown = looked_at_shutdown
try:
    main(sys.argv[2:], prog_name="frostline")
finally:
    with open(sys.argv[1], "w") as file:
        json.dump(dict(zip(("peak", "made", "looks"), most)), file)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard-rows", type=int, default=50_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tweets = write_tweets(folder / "tweets.csv", asked.rows)
        model = model_folder("smallest", folder)
        engine = ["--engine", "ray", "--workers", asked.workers]
        store, head = folder / "store", folder / "head.joblib"
        made = ["--model", model, "--pooling", "mean", "--shard-rows", asked.shard_rows]
        print("| command | rows | seconds | looks | store peak MB | store made MB |", end="")
        print(" driver MiB | workers MiB | Ray MiB |")
        print("|---|---|---|---|---|---|---|---|---|")
        for words in (
            ["extract", tweets, "-o", store, *made],
            ["fit", store, "-o", head],
            ["predict", head, tweets, "-o", folder / "scores.csv"],
        ):
            facts = run(folder, [*words, *engine])
            sizes = " | ".join(
                f"{facts[part] / 2**20:,.0f}" for part in ("driver", "actors", "ray")
            )
            print(
                f"| {words[0]} | {asked.rows:,} | {facts['seconds']:.0f} | {facts['looks']} | "
                f"{facts['peak'] / 1e6:.3f} | {facts['made'] / 1e6:.3f} | {sizes} |",
                flush=True,
            )


def write_tweets(path: Path, rows: int) -> Path:
    """Write so many different tweets with labels."""
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,label\n")
        for row, text in enumerate(make_texts(rows)):
            file.write(f"{row},{text},{LABELS[row % 3]}\n")
    return path


def run(folder: Path, words: list[object]) -> dict[str, float]:
    """Run a command; give its seconds, what the object store held, and the peaks of memory."""
    told = folder / "told.json"
    root = str(Path(__file__).resolve().parents[1])
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, told, *map(str, words)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    ) as process:
        peaks = dict.fromkeys(PARTS, 0)
        while process.poll() is None:
            now = sizes_of(process.pid)
            peaks = {part: max(peaks[part], now[part]) for part in peaks}
            time.sleep(1)
    assert process.returncode == 0, process.returncode
    return {"seconds": time.monotonic() - started, **peaks, **json.loads(told.read_text())}


def sizes_of(pid: int) -> dict[str, int]:
    """Give the resident bytes of the driver, of its actors, and of what else it has started."""
    found = dict.fromkeys(PARTS, 0)
    with suppress(psutil.NoSuchProcess):
        own = psutil.Process(pid)
        for one in (own, *own.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                kind = "actors" if one.name().startswith("ray::Actor") else "ray"
                found["driver" if one == own else kind] += one.memory_info().rss
    return found


if __name__ == "__main__":
    main()
