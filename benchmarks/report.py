"""What a report costs, and how near its forecast is to what twice the rows really bring.

    python benchmarks/report.py time HEAD.joblib FEATURES.h5 [--tweets TWEETS.csv]
    python benchmarks/report.py forecast HEAD.joblib LABELLED.h5 [--rows 1000] [--runs 10]

`time` gathers the facts, draws the page and writes how long each took, the largest memory and the
size of the page. `forecast` draws rows of LABELLED, makes their learning curve, then fits models of
these rows and of twice as many, and measures both on all others: what is written is the gain that
was foreseen beside the one that came, and how often the interval held it.
"""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import click
import numpy as np

from features.base.arrays import Indices
from features.base.machine import default_memory
from features.tweets.reader import TweetReader
from pipeline import load_head
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import Labelled, validation_rows
from pipeline.evaluation.metrics import score
from pipeline.evaluation.trials import training_set
from pipeline.facts.figures import Forecast
from pipeline.facts.gather import Source, gather
from pipeline.facts.judges.refits import prepared, refit, settings_of
from pipeline.facts.learning_curve import learning_curve
from pipeline.head.head import Head
from pipeline.head.settings import inverse_penalty
from pipeline.page.page import render_page
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import Data, Problem, softmax, solve


@click.group()
def main() -> None:
    """Measure reports."""


@main.command("time")
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("features", type=click.Path(path_type=Path))
@click.option("--tweets", type=click.Path(path_type=Path))
def time_command(head: Path, features: Path, tweets: Path | None) -> None:
    """Time a report and its page."""
    started = perf_counter()
    with open_joined(features) as stores:
        reader = None if tweets is None else TweetReader([str(tweets)])
        source = Source(str(head), (str(features),), "frostline report", reader)
        facts, points = gather(load_head(head), stores, source)
    gathered = perf_counter()
    page = render_page(facts.to_dict(), points)
    drawn = perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    click.echo(f"rows     {facts.data.rows:,}")
    click.echo(f"gather   {gathered - started:.1f} s")
    click.echo(f"page     {drawn - gathered:.1f} s, {len(page.encode()) / 1e6:.2f} MB")
    click.echo(f"memory   {memory:.2f} GiB")


@main.command("forecast")
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("labelled", type=click.Path(path_type=Path))
@click.option("--rows", default=1000, show_default=True)
@click.option("--runs", default=10, show_default=True)
def forecast_command(head: Path, labelled: Path, rows: int, runs: int) -> None:
    """Compare the gain that is foreseen with the one that comes."""
    fitted = load_head(head)
    with open_joined(labelled) as stores:
        every = validation_rows(stores, fitted.sources, fitted.labels)
        X = np.concatenate(list(every.X.blocks()))
    every = replace(every, X=Rows.of(X))
    _, data = prepared(fitted, every, settings_of(fitted, default_memory()))
    rng = np.random.default_rng(0)
    foreseen, came, held = [], [], []
    for _ in range(runs):
        drawn = rng.permutation(len(every.y))[: 2 * rows]
        some = Labelled(
            Rows.of(X[drawn[:rows]]), every.y[drawn[:rows]], every.texts[drawn[:rows]], 0
        )
        forecast = foreseen_of(fitted, some)
        gain = true_gain(fitted, data, drawn, rows)
        foreseen.append(forecast.gain)
        came.append(gain)
        held.append(forecast.gain_low <= gain <= forecast.gain_high)
        click.echo(
            f"foreseen {100 * forecast.gain:+.2f} ({100 * forecast.gain_low:+.2f} to "
            f"{100 * forecast.gain_high:+.2f}), came {100 * gain:+.2f}"
        )
    errors = 100 * (np.array(foreseen) - came)
    click.echo(
        f"{rows:,} rows: foreseen {100 * np.mean(foreseen):+.2f} points, came "
        f"{100 * np.mean(came):+.2f}; off by {np.abs(errors).mean():.2f}, {errors.mean():+.2f} on "
        f"average; the interval held {np.mean(held):.0%}"
    )


def foreseen_of(head: Head, some: Labelled) -> Forecast:
    """Give the forecast of the report on some rows."""
    options = settings_of(head, default_memory())
    target, data = prepared(head, some, options)
    curve = learning_curve(refit(head, target, data, some.texts, options), options.metric)
    if curve is None or curve.forecast is None:
        raise click.ClickException("too few rows of the smallest class for a forecast")
    return curve.forecast


def true_gain(head: Head, data: Data, drawn: Indices, rows: int) -> float:
    """Fit models of the first rows and of all that were drawn, and measure them on the others."""
    options = settings_of(head, default_memory())
    judges = np.ones(len(data.y), bool)
    judges[drawn] = False
    problems = []
    for n in (rows, 2 * rows):
        held_out = np.ones(len(data.y), bool)
        held_out[drawn[:n]] = False
        some = training_set(data.y, data.n_classes, options.class_weight, held_out)
        problems.append(Problem(inverse_penalty(head), some, options.tol))
    values = []
    for problem, solution in zip(problems, solve(data, problems), strict=True):
        proba = softmax(solution.held_out[judges[problem.training.held_out]])
        values.append(score(options.metric, data.y[judges], proba))
    return values[1] - values[0]


if __name__ == "__main__":
    main()
