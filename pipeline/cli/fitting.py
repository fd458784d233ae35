"""Define the commands of stage two: `fit` and `compare`. They load no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from features.base.paths import check_replaceable
from features.base.shown import printable
from features.engines.choice import chosen_engine
from features.engines.engine import Engine
from features.errors import InputError
from features.tweets.reader import TweetReader
from pipeline.cli import options
from pipeline.cli.group import main
from pipeline.cli.reporting import Asked, check_reports, make_reports
from pipeline.cli.results import check_json, write_json, write_text
from pipeline.compare import compare
from pipeline.evaluation.cross_validation import FOLDS
from pipeline.fit import fit
from pipeline.head.calibration import METHODS
from pipeline.head.head import save_head
from pipeline.head.pretrained import card_for
from pipeline.hub.address import parse_address
from pipeline.plots.comparison import comparison_plot
from pipeline.plots.files import check_plot, write_plot
from pipeline.report.comparison import comparison_text
from pipeline.report.fits import fit_text
from pipeline.scoring.predict import is_store
from pipeline.terminal import completion, progress
from pipeline.terminal.output import show, tell


@main.command("fit")
@click.argument(
    "features", nargs=-1, required=True, metavar="FEATURES...", shell_complete=completion.files
)
@click.option("-o", "--output", required=True, type=options.OUTPUT, help="The head (.joblib).")
@click.option(
    "--pooling",
    multiple=True,
    metavar="POOLING",
    shell_complete=completion.views,
    help="The view to fit on, or several side by side; needed where there are several.",
)
@click.option(
    "--C",
    "C",
    default="auto",
    show_default=True,
    metavar="FLOAT|auto",
    help="Inverse regularisation strength; auto chooses from 1e-4 to 1e2.",
)
@click.option(
    "--cv",
    type=int,
    metavar="K",
    help="Folds of the cross-validation [5; one of 5 with a fixed C].",
)
@click.option(
    "--repeats",
    type=int,
    default=1,
    show_default=True,
    help="Times that the rows are cut into folds; C is chosen by the mean.",
)
@click.option(
    "--near-identical",
    type=float,
    metavar="COSINE",
    help="Keep texts whose vectors are as close in one fold, as identical ones always are.",
)
@click.option(
    "--validation",
    multiple=True,
    type=options.INPUT,
    metavar="FEATURES",
    help="Choose C and measure on these vectors instead.",
)
@options.corrections
@click.option(
    "--against",
    type=options.INPUT,
    metavar="HEAD",
    help="Say what has changed against an earlier head, on the same rows.",
)
@options.conflicts
@options.metric
@click.option(
    "--one-standard-error",
    is_flag=True,
    help="Choose the smallest C within one standard error of the best.",
)
@options.class_weight
@options.prior
@click.option(
    "--calibrate",
    type=click.Choice(METHODS),
    help="Fit a temperature, or with it a bias for each class, on held-out rows and fold it in "
    "[temperature; none with a fixed C alone].",
)
@options.fold_seed
@options.max_iter
@click.option(
    "--tol",
    type=float,
    default=1e-6,
    show_default=True,
    help="Certified relative distance to the optimum to stop at.",
)
@options.memory
@options.engine
@options.json_file
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=options.OUTPUT,
    metavar="FILE",
    help="Write a report on the head as well, .html, .json or .md; repeat for more.",
)
@click.option(
    "--card",
    type=options.OUTPUT,
    metavar="FILE",
    help="Write a model card too, as the Hugging Face hub has it, e.g. README.md.",
)
@click.option(
    "--tweets",
    multiple=True,
    metavar="INPUT",
    shell_complete=completion.files,
    help="The tweets that FEATURES were extracted from, for the report; repeat for more.",
)
def fit_command(
    features: Sequence[str],
    output: Path,
    pooling: Sequence[str],
    validation: Sequence[Path],
    corrections: Sequence[Path],
    against: Path | None,
    json_file: Path | None,
    reports: Sequence[Path],
    card: Path | None,
    tweets: Sequence[str],
    engine: str | None,
    workers: int | None,
    ray_address: str | None,
    **chosen: Any,
) -> None:
    """Fit a head on cached vectors, and measure it on rows that it has not seen.

    Files of one encoder are shards; those of different encoders, over the same tweets, are put side
    by side, and 2:mean is the view mean of the second one.
    """
    inputs: list[str | Path | None] = [*features, *validation, *corrections, against, *tweets]
    if parse_address(output) is not None:
        raise InputError(
            f"{output} is a place on the hub; name a file, e.g. head.joblib, and push it then"
        )
    check_replaceable(output, inputs)
    if is_store(output):
        raise InputError(
            f"{output} is, or is named as, cached vectors; name a head, e.g. head.joblib"
        )
    check_json(json_file, [*inputs, output])
    _check_card(card, [*inputs, output, json_file])
    asked = Asked(reports, output, features, tweets, corrections, against, memory=chosen["memory"])
    if tweets and not reports:
        raise InputError("`tweets` are for a report: give `report=head.html` as well")
    other = check_reports(asked)
    sharing = _engine(engine, workers, ray_address)
    with progress.models() as update:
        result = fit(
            features,
            pooling=pooling or None,
            validation=validation or None,
            corrections=corrections,
            against=against,
            engine=sharing,
            progress=update,
            **chosen,
        )
    save_head(result.head, output)
    write_json(json_file, result.head.metadata)
    if card is not None:
        write_text(card, card_for(result.head, output.name))
    tell(fit_text, result)
    tell(str, f"\n{printable(str(output))} written")
    if reports:
        tell(str, "")
        make_reports(result.head, asked, TweetReader(tweets) if tweets else None, other)


def _engine(name: str | None, workers: int | None, ray_address: str | None) -> Engine | None:
    """Give the engine that was asked for; a fit needs no GPUs."""
    return chosen_engine(name, workers=workers, ray_address=ray_address, gpus_per_worker=0)


def _check_card(path: Path | None, others: Sequence[str | Path | None]) -> None:
    """Refuse a card that can't be written, before the work."""
    if path is None:
        return
    if path.suffix.lower() != ".md":
        raise InputError(f"{path}: unknown format; the name of a card must end in .md")
    if path in others:
        raise InputError(f"{path} is another output already; give `card` another name")
    check_replaceable(path, others)


@main.command("compare")
@click.argument(
    "features", nargs=-1, required=True, metavar="FEATURES...", shell_complete=completion.files
)
@click.option(
    "--combine",
    multiple=True,
    metavar="POOLING,POOLING|auto",
    help="Views to try side by side as well, e.g. cls,mean@-2; repeat for more. auto: add view "
    "after view to the best one, while it helps.",
)
@click.option(
    "--cv", type=int, default=FOLDS, show_default=True, metavar="K", help="Folds, the same for all."
)
@options.corrections
@options.conflicts
@options.metric
@options.class_weight
@options.prior
@options.fold_seed
@options.max_iter
@options.memory
@options.engine
@click.option(
    "--plot",
    type=options.OUTPUT,
    metavar="FILE",
    help="Draw layers by poolings, and all views in order: .svg, .png or .html.",
)
@options.json_file
def compare_command(
    features: Sequence[str],
    combine: Sequence[str],
    corrections: Sequence[Path],
    plot: Path | None,
    json_file: Path | None,
    engine: str | None,
    workers: int | None,
    ray_address: str | None,
    **chosen: Any,
) -> None:
    """Measure every view of cached vectors in the same cross-validation.

    Says which view is best, and which ones can't be told apart from it.
    """
    inputs: list[str | Path | None] = [*features, *corrections]
    check_json(plot, inputs)
    check_json(json_file, [*inputs, plot])
    check_plot(plot)
    sharing = _engine(engine, workers, ray_address)
    with progress.lines() as update:
        lines = "auto" if combine == ("auto",) else [views.split(",") for views in combine]
        result = compare(
            features,
            combine=lines,
            corrections=corrections,
            engine=sharing,
            progress=update,
            **chosen,
        )
    if plot is not None:
        write_plot(comparison_plot(result), plot)
    write_json(json_file, result.to_dict())
    show(comparison_text, result)
