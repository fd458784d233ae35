"""Define the commands that score: `predict`, `evaluate`, `quantify` and `explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from features.base.paths import check_replaceable
from features.base.shown import printable
from features.errors import InputError
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog, rejects_path
from pipeline.cli import options
from pipeline.cli.group import main
from pipeline.cli.results import (
    check_json,
    counted,
    open_head,
    remark,
    say_matching,
    shares_of,
    write_json,
    write_text,
)
from pipeline.evaluation.label_shift import LabelShift
from pipeline.explaining.explain import explain
from pipeline.head.head import load_head
from pipeline.plots.files import check_plot, write_plot
from pipeline.plots.shares import shares_plot
from pipeline.report.explanation import explanation_text
from pipeline.report.label_shift import shift_text
from pipeline.report.metrics import metrics_text
from pipeline.report.quantities import quantities_text
from pipeline.report.stores_and_heads import predict_text
from pipeline.scoring.estimated_prior import ESTIMATE, LEAST_ROWS, for_last_shares, for_their_shares
from pipeline.scoring.evaluate import evaluate
from pipeline.scoring.known_texts import told_of_known_texts
from pipeline.scoring.novelty import check_can_tell, watched
from pipeline.scoring.output_files import check_output, write_scores, write_table
from pipeline.scoring.predict import is_store, scored
from pipeline.scoring.quantify import COLUMNS, by_stored_label, quantify
from pipeline.terminal import completion, progress
from pipeline.terminal.output import beside, show, tell
from pipeline.terminal.streams import look_of

# Of a tweet on standard input; encoders read no more than its first 10,000 characters.
_MOST_BYTES = 100_000


@main.command("predict")
@click.argument("head", type=options.INPUT)
@click.argument(
    "inputs", nargs=-1, required=True, metavar="INPUT...", shell_complete=completion.files
)
@options.scores
@click.option("--with-text", is_flag=True, help="Write the tweets too.")
@click.option(
    "--novelty",
    is_flag=True,
    help="Write how far each tweet lies from the training tweets; 1 in 20 of these is above 1.",
)
@options.excel_safe
@options.models
@options.moved_prior
@options.machine
@options.engine
@options.gpus_per_worker
@options.columns
@options.written
@options.strict
@options.json_file
def predict_command(
    head: Path,
    inputs: Sequence[str],
    output: str,
    with_text: bool,
    novelty: bool,
    excel_safe: bool,
    prior: str | None,
    strict: bool,
    json_file: Path | None,
    **chosen: Any,
) -> None:
    """Label tweets, or cached vectors (.h5), with a head.

    INPUT is as for extract; - reads JSON Lines line by line and answers as they come.
    """
    check_json(json_file, [head, *inputs, Path(output)])
    fitted = open_head(head, None if prior == ESTIMATE else prior)
    check_output(output, excel_safe=excel_safe, tables_alone=False)
    to_stdout = output == "-"
    if novelty:
        check_can_tell(fitted)
    shifts: list[LabelShift] = []
    if not to_stdout:
        for written_to in (Path(output), rejects_path(Path(output))):
            check_replaceable(written_to, [head, *inputs])
    with (
        RejectLog(
            None if to_stdout else Path(output),
            strict=strict,
            allowed=to_stdout or chosen["allow_rejects"],
        ) as rejects,
        scored(
            fitted,
            inputs,
            rejects=rejects,
            load=options.scorer_of(chosen, inputs, remark),
            columns=options.columns_of(chosen),
            written=options.input_format_of(chosen),
            on_matching=say_matching,
            # What is rejected is on standard error already, line by line.
            say=(lambda line: None) if to_stdout else remark,
        ) as scores,
        progress.counter(quiet=to_stdout) as update,
    ):
        scores = counted(watched(scores, warn=remark, live=to_stdout), update)
        if prior == ESTIMATE and to_stdout:
            scores = for_last_shares(fitted, scores, tell=shifts.append)
        elif prior == ESTIMATE:
            scores = for_their_shares(fitted, scores, tell=shifts.append, with_text=with_text)
        written = write_scores(
            fitted,
            scores,
            output,
            with_text=with_text,
            with_novelty=novelty,
            excel_safe=excel_safe,
            stdout=sys.stdout,
        )
    write_json(json_file, {"rows": written.counts, **shares_of(fitted, shifts)})
    if not to_stdout:
        tell(predict_text, written, output, rejects.count, rejects.path)
    if prior == ESTIMATE and not shifts:
        remark(
            f"fewer than {LEAST_ROWS} rows: the shares were not estimated, the head's prior stood"
        )
    for shift in shifts:
        beside(output)(lambda shift: f"\n{shift_text(shift)}", shift)


@main.command("evaluate")
@click.argument("head", type=options.INPUT)
@click.argument(
    "inputs", nargs=-1, required=True, metavar="LABELLED...", shell_complete=completion.files
)
@options.models
@options.seed
@options.moved_prior
@options.machine
@options.engine
@options.gpus_per_worker
@options.columns
@options.label_columns
@options.written
@options.strict
@options.json_file
def evaluate_command(
    head: Path,
    inputs: Sequence[str],
    seed: int,
    prior: str | None,
    strict: bool,
    json_file: Path | None,
    **chosen: Any,
) -> None:
    """Measure a head on labelled tweets or cached vectors."""
    check_json(json_file, [head, *inputs, chosen["labels"], chosen["mapping"]])
    fitted = open_head(head, None if prior == ESTIMATE else prior)
    shifts: list[LabelShift] = []
    with (
        RejectLog(None, strict=strict, allowed=chosen["allow_rejects"]) as rejects,
        scored(
            fitted,
            inputs,
            rejects=rejects,
            load=options.scorer_of(chosen, inputs, remark),
            columns=replace(options.columns_of(chosen), need_labels=True),
            written=options.input_format_of(chosen),
            on_matching=say_matching,
            say=remark,
        ) as scores,
        progress.counter() as update,
    ):
        scores = counted(watched(scores, warn=remark), update)
        scores = told_of_known_texts(fitted, scores, warn=remark)
        if prior == ESTIMATE:
            scores = for_their_shares(fitted, scores, tell=shifts.append, seed=seed)
        metrics, unlabelled = evaluate(fitted, scores, seed=seed, as_they_are=prior == ESTIMATE)
    measured_on, shares = ", ".join(inputs), shares_of(fitted, shifts)
    write_json(json_file, {"measured_on": measured_on, "metrics": metrics.to_dict(), **shares})
    show(metrics_text, metrics, measured_on, shares["prior"])
    true = [one.rows / metrics.rows for one in metrics.classes]
    for shift in shifts:
        show(lambda shift: f"\n{shift_text(shift, true)}", shift)
    if unlabelled:
        show(str, f"\n{unlabelled:,} rows without a label were left out")


@main.command("quantify")
@click.argument("head", type=options.INPUT)
@click.argument(
    "inputs", nargs=-1, required=True, metavar="INPUT...", shell_complete=completion.files
)
@click.option("--by", metavar="COLUMN", help="Shares of each group too: a column of the tweets.")
@click.option(
    "-o",
    "--output",
    type=options.TABLE,
    shell_complete=completion.files,
    help="Write the shares to a .csv, .tsv or .jsonl file as well.",
)
@click.option(
    "--plot",
    type=options.OUTPUT,
    metavar="FILE",
    help="Draw the shares as a picture: .svg, .png or .html.",
)
@options.excel_safe
@options.models
@options.seed
@options.machine
@options.columns
@options.written
@options.strict
@options.json_file
def quantify_command(
    head: Path,
    inputs: Sequence[str],
    by: str | None,
    output: str | None,
    plot: Path | None,
    excel_safe: bool,
    seed: int,
    strict: bool,
    json_file: Path | None,
    **chosen: Any,
) -> None:
    """Estimate the share of each class in tweets, or in cached vectors (.h5), by groups too.

    INPUT is as for predict. The shares come by EM on the probabilities and by counts that are
    adjusted by the errors on held-out rows; counting labels alone is biased.
    """
    given: list[str | Path | None] = [head, *inputs]
    for path in (None if output in (None, "-") else Path(str(output)), plot, json_file):
        check_json(path, given)
        given.append(path)
    if output is not None:
        check_output(output, excel_safe=excel_safe)
    check_plot(plot)
    fitted, of_vectors = load_head(head), any(is_store(path) for path in inputs)
    with (
        RejectLog(None, strict=strict, allowed=chosen["allow_rejects"]) as rejects,
        scored(
            fitted,
            inputs,
            rejects=rejects,
            load=options.loader_of(chosen, remark),
            columns=replace(options.columns_of(chosen), group=None if of_vectors else by),
            written=options.input_format_of(chosen),
            on_matching=say_matching,
            say=remark,
        ) as scores,
        progress.counter() as update,
    ):
        scores = counted(watched(scores, warn=remark), update)
        if by is not None and of_vectors:
            scores = by_stored_label(scores, by)
        found = quantify(fitted, scores, by=by, seed=seed)
    if output is not None:
        rows = found.rows()
        write_table(COLUMNS, rows, output, excel_safe=excel_safe, stdout=sys.stdout)
    if plot is not None:
        write_plot(shares_plot(found), plot)
    write_json(json_file, found.to_dict())
    if output is None:
        show(quantities_text, found)
    else:
        beside(output)(quantities_text, found)


@main.command("explain")
@click.argument("head", type=options.INPUT)
@click.argument("text")
@click.option(
    "--training",
    multiple=True,
    metavar="FEATURES",
    shell_complete=completion.files,
    help="The vectors that the head was fitted on, to find the tweets behind it; repeat for more.",
)
@click.option(
    "--tweets",
    multiple=True,
    metavar="INPUT",
    shell_complete=completion.files,
    help="The tweets that --training was extracted from, to show their texts; repeat for more.",
)
@options.corrections
@click.option(
    "-n",
    "--number",
    type=int,
    default=5,
    show_default=True,
    help="Training tweets to list that speak for the label, and as many against it.",
)
@click.option(
    "--confirm",
    type=int,
    default=2,
    show_default=True,
    metavar="N",
    help="How many of each are confirmed by fits without them.",
)
@click.option(
    "-o",
    "--output",
    type=options.OUTPUT,
    help="Write the explanation as a page too, .html.",
)
@options.json_file
@options.prior
@options.models
@options.machine
@options.memory
@options.columns
@options.dialect
def explain_command(
    head: Path,
    text: str,
    training: Sequence[str],
    tweets: Sequence[str],
    corrections: Sequence[Path],
    number: int,
    confirm: int,
    output: Path | None,
    json_file: Path | None,
    prior: str | None,
    memory: str | None,
    **chosen: Any,
) -> None:
    """Say what a head makes of one tweet, and what moved it.

    TEXT is the tweet; - reads it from standard input. Each word is left out in turn, and what is
    left is encoded anew; the parts of the vector add up to the logits. With --training, the tweets
    come along that the label rests on. On a terminal it is a text in colours, in a pipe JSON.
    """
    given: list[str | Path | None] = [head, *training, *tweets, *corrections]
    if output is not None:
        if output.suffix.lower() != ".html":
            raise InputError(f"{output}: unknown format; the name of a page must end in .html")
        check_replaceable(output, given)
    check_json(json_file, [*given, output])
    columns = options.columns_of(chosen)
    for name, is_alone in (
        ("tweets", tweets and not training),
        ("corrections", corrections and not training),
    ):
        if is_alone:
            raise InputError(f"`{name}` needs `training`: give both, or leave it out")
    if columns.given and not tweets:
        named = ", ".join(f"`{name}`" for name in columns.given)
        raise InputError(f"{named}: which tweets? Give `tweets` as well, or leave it out")
    fitted = load_head(head) if prior is None else load_head(head).with_prior(prior)
    tweet = _from_stdin() if text == "-" else text
    with progress.share("explaining"):
        found = explain(
            fitted,
            tweet,
            options.loader_of(chosen, remark)(fitted),
            training=training or None,
            corrections=corrections,
            number=number,
            confirm=confirm,
            memory=memory,
        )
    if tweets and found.training is not None:
        reader = TweetReader(tweets, columns, written=options.input_format_of(chosen))
        found = replace(found, training=found.training.with_texts(reader))
    if output is not None:
        from pipeline.explaining.page import explanation_page  # only where a page is made

        write_text(output, explanation_page(found, head.name))
    write_json(json_file, found.to_dict())
    look = look_of(sys.stdout)
    if look is not None:
        show(explanation_text, found, colours=look.colours)
    else:
        click.echo(printable(json.dumps(found.to_dict(), ensure_ascii=False)))


def _from_stdin() -> str:
    """Read one tweet from standard input, without the end of its last line."""
    found = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(found) > _MOST_BYTES:
        raise InputError(f"standard input holds more than {_MOST_BYTES:,} bytes; give one tweet")
    return found.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
