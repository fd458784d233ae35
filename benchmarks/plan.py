"""How right `frostline plan` is: its simulation and its figures beside real runs.

    python benchmarks/plan.py simulation [--workers 4] [--rounds 5]
    python benchmarks/plan.py extract TWEETS.csv [--rows 4000] [--workers 2]
    python benchmarks/plan.py fit FEATURES.h5 [--workers 2]
    python benchmarks/plan.py speed MEASURED.json

`simulation` runs the local engine on tasks that sleep for known times, some of them slow, in
workers that end themselves after known times, and compares the wall clock with the simulated one.
The others put what is planned beside what is real; ratios of seconds mean something on a machine
that does nothing else.
MEASURED.json is what `frostline plan TWEETS.csv --json MEASURED.json` wrote.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import click
from material import peak_mib, read_texts
from sleeps import Sleeps

from features import extract
from features.base.machine import n_cores
from features.engines.local import LocalEngine
from features.engines.verbs import map_shards
from features.store.reader import FeatureStore
from pipeline import fit
from pipeline.plan.fit_cost import fit_cost
from pipeline.plan.measure import Settings, measure
from pipeline.plan.plan import plan
from pipeline.plan.quantities import Stragglers
from pipeline.plan.rates import Machines
from pipeline.plan.simulate import Chances, Fleet, simulate
from pipeline.plan.trials import pass_rate
from pipeline.solver.objective import Objective

MEASURED = click.argument("measured", type=click.Path(exists=True, path_type=Path))
# How far a real wall clock may be from the simulated one.
TOLERANCE = 0.1
# Tasks, seconds of one, share and factor of slow ones, mean seconds of a worker's life.
SCENARIOS = {
    "nothing happens": (60, 0.5, 0.0, 1.0, math.inf),
    "stragglers": (60, 0.5, 0.05, 16.0, math.inf),
    "deaths": (60, 0.5, 0.0, 1.0, 6.0),
    "both": (80, 0.5, 0.05, 16.0, 8.0),
}


@click.group()
def main() -> None:
    """Hold `frostline plan` against real runs."""


@main.command()
@click.option("--workers", default=4, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def simulation(workers: int, rounds: int) -> None:
    """Compare the wall clock of the local engine with the simulated one."""
    start, back = (statistics.median(_seconds_to_start(n) for _ in range(3)) for n in (workers, 1))
    print(f"{workers} workers start within {start:.2f} s, and one comes back within {back:.2f} s\n")
    print("| run | round | deaths | doubles | real, s | simulated, s | ratio |")
    print("|---|---|---|---|---|---|---|")
    means = {}
    for name, (n, each, share, factor, life) in SCENARIOS.items():
        seconds = tuple(each * (1 + number % 7 / 10) for number in range(n))
        ratios = []
        for seed in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                work = Sleeps(Path(folder), seconds, seed, share, factor, life)
                real = _seconds_of(work, workers)
            found = simulate(seconds, Fleet(workers, start, back), _in_order(work.chances()))
            ratios.append(real / found.wall_seconds)
            print(
                f"| {name} | {seed} | {found.deaths} | {found.doubles} | {real:.1f} | "
                f"{found.wall_seconds:.1f} | {ratios[-1]:.3f} |",
                flush=True,
            )
        means[name] = statistics.fmean(ratios)
    worst = max(abs(math.log(ratio)) for ratio in means.values())
    verdict = "OK" if worst <= math.log(1 + TOLERANCE) else "NOT MET"
    said = ", ".join(f"{name} {ratio:.3f}" for name, ratio in means.items())
    print(f"\n{verdict}: mean ratios {said}; at most {1 + TOLERANCE:.2f} either way")


def _in_order(chances: Chances) -> Chances:
    """Give lives to workers in the order in which they begin, as the real ones take them."""
    begun = count()
    return Chances(chances.slowness, lambda worker, number: chances.life(0, next(begun)))


def _seconds_of(work: Sleeps, workers: int) -> float:
    """Time a run until its last task is done; that workers end behind it is not counted."""
    started = last = time.perf_counter()
    for _ in map_shards(LocalEngine(workers), work, range(len(work.seconds))):
        last = time.perf_counter()
    return last - started


def _seconds_to_start(workers: int) -> float:
    """Time workers that have nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        work = Sleeps(Path(folder), (0.0,) * workers, 0, 0.0, 1.0, math.inf)
        return _seconds_of(work, workers)


@main.command("extract")
@click.argument("tweets", type=click.Path(exists=True, path_type=Path))
@click.option("--rows", default=4000, show_default=True)
@click.option("--shard-rows", default=1000, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True)
def extract_beside(tweets: Path, rows: int, shard_rows: int, workers: int, device: str) -> None:
    """Compare what is planned for an extract by workers of this machine with what it takes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file, store = folder / "tweets.jsonl", folder / "store"
        texts = read_texts(tweets, rows)
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        figures = measure(file, Settings(device=device))
        machines = Machines(
            workers,
            max(1, n_cores() // workers),
            failures_per_hour=0.0,
            stragglers=Stragglers(0.0, 1.0),
        )
        said = plan(figures, machines, rows=len(texts), shard_rows=shard_rows)
        started = time.perf_counter()
        extract(file, store, shard_rows=shard_rows, device=device, engine=LocalEngine(workers))
        seconds = time.perf_counter() - started
        receipts = [json.loads(path.read_bytes()) for path in (store / "receipts").iterdir()]
        n_bytes = sum(path.stat().st_size for path in store.rglob("*.h5"))
    print("| | planned | real | real / planned |\n|---|---|---|---|")
    for what, a, b in (
        ("seconds", 3600 * said.simulated.wall_hours["median"], seconds),
        ("tokens", said.tokens, sum(receipt["tokens"] for receipt in receipts)),
        ("bytes", said.bytes.total, n_bytes),
        ("shards", said.shards.count, sum(len(receipt["shards"]) for receipt in receipts)),
    ):
        print(f"| {what} | {a:,.2f} | {b:,.2f} | {b / a:.3f} |")


@main.command("fit")
@click.argument("features", type=click.Path(exists=True, path_type=Path))
@click.option("--workers", default=0, show_default=True, help="Of the local engine; 0: none.")
def fit_beside(features: Path, workers: int) -> None:
    """Compare what is planned for a fit, of the first view, with what it takes.

    Evaluations of the objective are counted as passes, and the models in them.
    """
    with FeatureStore(features) as store:
        view, columns = next(iter(store.views.items()))
        rows, classes = int((store.labels() >= 0).sum()), len(store.label_names)
    said = fit_cost(
        rows,
        columns,
        classes,
        row_bytes=2 * columns,
        workers=max(1, workers),
        flops=pass_rate(columns) / max(1, workers),
        disk_bytes_per_second=None,
        network_bytes_per_second=None,
    )
    models: list[int] = []
    evaluate = Objective.evaluate

    def counted(self: Objective, which: Any, *arguments: Any) -> Any:
        models.append(len(which))
        return evaluate(self, which, *arguments)

    Objective.evaluate = counted  # type: ignore[method-assign]
    real = fit(features, pooling=view, engine=LocalEngine(workers) if workers else None)
    print(f"{rows:,} rows of {columns:,} columns, {classes} classes")
    print("| | planned | real | real / planned |\n|---|---|---|---|")
    for what, a, b in (
        ("passes", said.passes, len(models)),
        ("models in all passes", said.passes * said.models, sum(models)),
        ("seconds", said.seconds, real.seconds["total"]),
    ):
        print(f"| {what} | {a:,.2f} | {b:,.2f} | {b / a:.3f} |")


@main.command()
@MEASURED
@click.option("--rounds", default=3, show_default=True)
def speed(measured: Path, rounds: int) -> None:
    """Time a plan of ten billion rows in a process of its own: at most 5 s and 200 MB."""
    words = ["plan", "--measured", str(measured), "--rows", "10e9", "--gpus", "64"]
    print("| round | s | peak, MiB |\n|---|---|---|")
    for number in range(rounds):
        started = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *words], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise click.ClickException(f"frostline {' '.join(words)} failed")
        seconds = time.perf_counter() - started
        print(f"| {number} | {seconds:.2f} | {peak_mib(usage):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
