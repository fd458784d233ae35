"""Define the commands that better the labels: `suspects` and `label-next`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from features.base.paths import check_replaceable
from features.errors import InputError
from features.tweets.reader import TweetReader
from pipeline.cli import options
from pipeline.cli.group import main
from pipeline.evaluation.cross_validation import FOLDS
from pipeline.head.head import load_head
from pipeline.labelling.next_rows import next_rows, table_columns, texts_of
from pipeline.labelling.suspects import COLUMNS as OF_SUSPECTS
from pipeline.labelling.suspects import suspects
from pipeline.report.labels import next_rows_text, suspects_text
from pipeline.scoring.output_files import check_output, write_table
from pipeline.terminal import completion, progress
from pipeline.terminal.output import beside


@main.command("suspects")
@click.argument("head", type=options.INPUT)
@click.argument(
    "features", nargs=-1, required=True, metavar="FEATURES...", shell_complete=completion.files
)
@options.table
@options.number
@options.corrections
@click.option(
    "--cv", type=int, default=FOLDS, show_default=True, metavar="K", help="Folds of each repeat."
)
@click.option(
    "--repeats",
    type=int,
    default=3,
    show_default=True,
    help="Times that the rows are cut into folds; losses are means over all.",
)
@options.fold_seed
@options.max_iter
@options.memory
@options.excel_safe
def suspects_command(
    head: Path,
    features: Sequence[str],
    output: str,
    corrections: Sequence[Path],
    excel_safe: bool,
    **chosen: Any,
) -> None:
    """List the labels that are probably wrong, the most doubtful first.

    FEATURES are labelled vectors of the head's encoders, most often those that it was fitted on.
    Models that did not see a row judge its label, beside confident learning and the nearest rows.
    """
    check_output(output, excel_safe=excel_safe)
    if output != "-":
        check_replaceable(Path(output), [head, *features, *corrections])
    with progress.models() as update:
        found = suspects(
            load_head(head), features, corrections=corrections, progress=update, **chosen
        )
    write_table(OF_SUSPECTS, found.table(), output, excel_safe=excel_safe, stdout=sys.stdout)
    beside(output)(suspects_text, found)


@main.command("label-next")
@click.argument("head", type=options.INPUT)
@click.argument(
    "features", nargs=-1, required=True, metavar="FEATURES...", shell_complete=completion.files
)
@options.table
@options.number
@options.corrections
@click.option(
    "--tweets",
    multiple=True,
    metavar="INPUT",
    shell_complete=completion.files,
    help="The tweets that FEATURES were extracted from, to write their texts; repeat for more.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of all draws.",
)
@options.memory
@options.columns
@options.dialect
@options.excel_safe
def label_next_command(
    head: Path,
    features: Sequence[str],
    output: str,
    tweets: Sequence[str],
    excel_safe: bool,
    number: int,
    corrections: Sequence[Path],
    seed: int,
    memory: str | None,
    **chosen: Any,
) -> None:
    """List the rows to label next, with an empty column for the labels.

    FEATURES are vectors of the head's encoders; texts that have a label in one of the files are
    left out. Nine tenths are rows that teach the head most and differ from each other, a tenth is
    drawn at random.
    """
    check_output(output, excel_safe=excel_safe)
    if output != "-":
        check_replaceable(Path(output), [head, *features, *tweets, *corrections])
    columns = options.columns_of(chosen)
    if columns.given and not tweets:
        named = ", ".join(f"`{name}`" for name in columns.given)
        raise InputError(f"{named}: which tweets? Give `tweets` as well, or leave it out")
    with progress.share("choosing rows"):
        found = next_rows(
            load_head(head),
            features,
            number=number,
            corrections=corrections,
            seed=seed,
            memory=memory,
        )
    texts = None
    if tweets:
        reader = TweetReader(tweets, columns, written=options.input_format_of(chosen))
        texts = texts_of(found.ids, reader)
    rows, names = found.table(texts), table_columns(with_text=bool(tweets))
    write_table(names, rows, output, excel_safe=excel_safe, stdout=sys.stdout)
    beside(output)(next_rows_text, found)
