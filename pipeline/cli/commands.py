"""Define the commands: parse, call one function, print. `features/errors.py` has the exit codes."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from features.base.atomic import replacing
from features.base.paths import check_replaceable
from features.base.shown import printable
from features.errors import CannotContinue, FrostlineError, InputError, system_reason
from features.extraction.check import check
from features.extraction.extract import extract
from features.spec.checkpoint import DEFAULT_MODEL
from features.spec.normalize import CURRENT
from features.spec.pooling import DEFAULT_POOLING
from features.spec.vector_spec import STORE_DTYPES
from features.store.reader import FeatureStore
from features.store.verify import verify
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog, rejects_path
from features.version import __version__
from pipeline.cli import options, progress
from pipeline.cli.flags import with_flags
from pipeline.compare import compare
from pipeline.data.matching import Matching
from pipeline.doctor.examine import examine
from pipeline.evaluation.cross_validation import FOLDS
from pipeline.evaluation.label_shift import LabelShift
from pipeline.fit import fit
from pipeline.head.calibration import METHODS
from pipeline.head.head import Head, load_head, save_head
from pipeline.labelling.next_rows import next_rows, table_columns, texts_of
from pipeline.labelling.suspects import COLUMNS as OF_SUSPECTS
from pipeline.labelling.suspects import suspects
from pipeline.report import verification
from pipeline.report.comparison import comparison_text
from pipeline.report.fits import fit_text
from pipeline.report.input_check import check_text
from pipeline.report.label_shift import shift_text
from pipeline.report.labels import next_rows_text, suspects_text
from pipeline.report.machine import diagnosis_text
from pipeline.report.metrics import metrics_text
from pipeline.report.quantities import quantities_text
from pipeline.report.shares_plot import shares_svg
from pipeline.report.stores_and_heads import (
    extract_text,
    head_text,
    matching_text,
    predict_text,
    store_text,
)
from pipeline.scoring.estimated_prior import (
    ESTIMATE,
    LEAST_ROWS,
    for_last_shares,
    for_their_shares,
)
from pipeline.scoring.evaluate import evaluate
from pipeline.scoring.novelty import check_can_tell, watched
from pipeline.scoring.output_files import check_output, write_scores, write_table
from pipeline.scoring.predict import is_store, scored
from pipeline.scoring.quantify import COLUMNS, by_stored_label, quantify

F = TypeVar("F", bound=Callable[..., Any])


class _Commands(click.Group):
    """Turn the errors that a user can meet into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FrostlineError as error:
            message, code = _in_flags(str(error)), error.exit_code
        except MemoryError:
            message, code = "the machine ran out of memory", CannotContinue.exit_code
        except OSError as error:
            if error.errno == errno.EPIPE:  # who reads has had enough, which click knows
                raise
            reason = system_reason(error)
            message = f"{error.filename}: {reason}" if error.filename else f"the output: {reason}"
            code = CannotContinue.exit_code
        except KeyboardInterrupt as interrupt:
            message, code = str(interrupt) or "interrupted; no output was changed", 130
        click.echo(f"Error: {printable(message)}", err=True)
        if code == 130:
            _leave_busy_threads(code)
        return ctx.exit(code)


def _in_flags(message: str) -> str:
    """Name parameters as flags, also those of another command than the one at work."""
    parameters = [one for command in main.commands.values() for one in command.params]
    return with_flags(message, parameters)


def _leave_busy_threads(code: int) -> None:
    """End at once if threads are busy: Python would wait for the batch of a large model."""
    if any(not thread.daemon for thread in threading.enumerate()[1:]):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="frostline")
def main() -> None:
    """Label tweets with frozen BERT vectors and a head that refits in seconds.

    \b
    frostline extract tweets.csv -o tweets.h5        encode once (stage one)
    frostline compare tweets.h5                      which layer, which pooling?
    frostline fit tweets.h5 -o head.joblib           fit a head on the vectors (stage two)
    frostline predict head.joblib new.csv -o out.csv label new tweets
    """  # noqa: D301  # click reads the \b


@main.command("extract")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The feature file (.h5), or a folder with --shard-rows.",
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Hub id or local folder of an encoder.",
)
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option(
    "--pooling",
    multiple=True,
    default=[DEFAULT_POOLING],
    show_default=True,
    metavar="POOLING",
    help="TOKENS[@LAYERS][+COMBINE], e.g. cls, mean@-2, cls@last4+concat; "
    "repeat for several views.",
)
@click.option(
    "--max-length",
    type=int,
    metavar="N",
    help="Tokens read of a tweet [128, or the model's limit].",
)
@click.option(
    "--normalize",
    type=click.Choice(list(CURRENT)),
    default="tweeteval",
    show_default=True,
    help="How tweets are brought into one form.",
)
@click.option(
    "--prefix",
    default="",
    metavar="TEXT",
    help="Put before each tweet, where the model expects that, e.g. 'query: ' [nothing].",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
    default="auto",
    show_default=True,
    help="Precision of the model; auto keeps a cosine of 0.9999 to float32, int8 one of 0.99.",
)
@click.option(
    "--store-dtype",
    type=click.Choice(STORE_DTYPES),
    default="float16",
    show_default=True,
    help="Precision of the vectors on disk.",
)
@options.machine
@options.columns
@options.label_columns
@options.written
@options.strict
@click.option(
    "--shard-rows",
    type=int,
    metavar="N",
    help="Write a folder of files of N rows at most, each finished by itself.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output, whatever is there.")
def extract_command(
    inputs: Sequence[str], output: Path, pooling: Sequence[str], **chosen: Any
) -> None:
    """Encode tweets once and cache their vectors.

    INPUT is a .csv, .tsv, .json, .jsonl, .txt (also .gz) or .parquet file, or - for JSON or a table
    on standard input. Says first how it reads them. Running it again encodes only texts that are
    new; after an interruption, a crash or a full disk the same command goes on where it was.
    """
    with progress.progress() as show:
        summary = extract(
            inputs, output, pooling=pooling, progress=show, say=_remark, on_input=_remark, **chosen
        )
    click.echo(extract_text(summary))


def _remark(line: str) -> None:
    click.echo(printable(_in_flags(line)), err=True)


@main.command("fit")
@click.argument("features", nargs=-1, required=True, metavar="FEATURES...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The head (.joblib)."
)
@click.option(
    "--pooling",
    multiple=True,
    metavar="POOLING",
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
    type=click.Path(path_type=Path),
    metavar="FEATURES",
    help="Choose C and measure on these vectors instead.",
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
@options.json_file
def fit_command(
    features: Sequence[str],
    output: Path,
    pooling: Sequence[str],
    validation: Sequence[Path],
    json_file: Path | None,
    **chosen: Any,
) -> None:
    """Fit a head on cached vectors, and measure it on rows that it has not seen.

    Files of one encoder are shards; those of different encoders, over the same tweets, are put side
    by side, and 2:mean is the view mean of the second one.
    """
    inputs: list[str | Path | None] = [*features, *validation]
    check_replaceable(output, inputs)
    if is_store(output):
        raise InputError(
            f"{output} is, or is named as, cached vectors; name a head, e.g. head.joblib"
        )
    _check_json(json_file, [*inputs, output])
    result = fit(features, pooling=pooling or None, validation=validation or None, **chosen)
    save_head(result.head, output)
    _write_json(json_file, result.head.metadata)
    click.echo(f"{fit_text(result)}\n\n{printable(str(output))} written")


@main.command("compare")
@click.argument("features", nargs=-1, required=True, metavar="FEATURES...")
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
@options.conflicts
@options.metric
@options.class_weight
@options.prior
@options.fold_seed
@options.max_iter
@options.memory
@options.json_file
def compare_command(
    features: Sequence[str], combine: Sequence[str], json_file: Path | None, **chosen: Any
) -> None:
    """Measure every view of cached vectors in the same cross-validation.

    Says which view is best, and which ones can't be told apart from it.
    """
    _check_json(json_file, list(features))
    with progress.lines() as show:
        lines = "auto" if combine == ("auto",) else [views.split(",") for views in combine]
        result = compare(features, combine=lines, progress=show, **chosen)
    _write_json(json_file, result.to_dict())
    click.echo(comparison_text(result))


@main.command("predict")
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    default="-",
    show_default=True,
    help="A .csv, .tsv or .jsonl file; - is JSON Lines on standard output.",
)
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
    _check_json(json_file, [head, *inputs, Path(output)])
    fitted = _head(head, prior)
    check_output(output, excel_safe=excel_safe)
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
            load=options.loader_of(chosen, _remark),
            columns=options.columns_of(chosen),
            written=options.input_format_of(chosen),
            on_matching=_say,
            # What is rejected is on standard error already, line by line.
            say=(lambda line: None) if to_stdout else _remark,
        ) as scores,
        progress.counter(quiet=to_stdout) as show,
    ):
        scores = watched(scores, warn=_remark, live=to_stdout)
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
            progress=show,
        )
    _write_json(json_file, {"rows": written.counts, **_shares_of(fitted, shifts)})
    if not to_stdout:
        click.echo(predict_text(written, output, rejects.count, rejects.path))
    if prior == ESTIMATE and not shifts:
        _remark(
            f"fewer than {LEAST_ROWS} rows: the shares were not estimated, the head's prior stood"
        )
    for shift in shifts:
        click.echo(f"\n{shift_text(shift)}", err=to_stdout)


@main.command("evaluate")
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="LABELLED...")
@options.models
@options.seed
@options.moved_prior
@options.machine
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
    _check_json(json_file, [head, *inputs, chosen["labels"], chosen["mapping"]])
    fitted = _head(head, prior)
    shifts: list[LabelShift] = []
    with (
        RejectLog(None, strict=strict, allowed=chosen["allow_rejects"]) as rejects,
        scored(
            fitted,
            inputs,
            rejects=rejects,
            load=options.loader_of(chosen, _remark),
            columns=replace(options.columns_of(chosen), need_labels=True),
            written=options.input_format_of(chosen),
            on_matching=_say,
            say=_remark,
        ) as scores,
    ):
        scores = watched(scores, warn=_remark)
        if prior == ESTIMATE:
            scores = for_their_shares(fitted, scores, tell=shifts.append, seed=seed)
        metrics, unlabelled = evaluate(fitted, scores, seed=seed, as_they_are=prior == ESTIMATE)
    measured_on, shares = ", ".join(inputs), _shares_of(fitted, shifts)
    _write_json(json_file, {"measured_on": measured_on, "metrics": metrics.to_dict(), **shares})
    click.echo(metrics_text(metrics, measured_on, shares["prior"]))
    for shift in shifts:
        click.echo(f"\n{shift_text(shift, [one.rows / metrics.rows for one in metrics.classes])}")
    if unlabelled:
        click.echo(f"\n{unlabelled:,} rows without a label were left out")


@main.command("quantify")
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--by", metavar="COLUMN", help="Shares of each group too: a column of the tweets.")
@click.option("-o", "--output", help="Write the shares to a .csv, .tsv or .jsonl file as well.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the shares as a picture, .svg.",
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
        _check_json(path, given)
        given.append(path)
    if output is not None:
        check_output(output, excel_safe=excel_safe)
    if plot is not None and plot.suffix.lower() != ".svg":
        raise InputError(f"{plot}: unknown format; the name of a plot must end in .svg")
    fitted, of_vectors = load_head(head), any(is_store(path) for path in inputs)
    with (
        RejectLog(None, strict=strict, allowed=chosen["allow_rejects"]) as rejects,
        scored(
            fitted,
            inputs,
            rejects=rejects,
            load=options.loader_of(chosen, _remark),
            columns=replace(options.columns_of(chosen), group=None if of_vectors else by),
            written=options.input_format_of(chosen),
            on_matching=_say,
            say=_remark,
        ) as scores,
    ):
        scores = watched(scores, warn=_remark)
        if by is not None and of_vectors:
            scores = by_stored_label(scores, by)
        found = quantify(fitted, scores, by=by, seed=seed)
    if output is not None:
        rows = found.rows()
        write_table(COLUMNS, rows, output, excel_safe=excel_safe, stdout=sys.stdout)
    if plot is not None:
        _write_text(plot, shares_svg(found))
    _write_json(json_file, found.to_dict())
    click.echo(quantities_text(found), err=output == "-")


@main.command("suspects")
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("features", nargs=-1, required=True, metavar="FEATURES...")
@click.option(
    "-o",
    "--output",
    default="-",
    show_default=True,
    help="A .csv, .tsv or .jsonl file; - is JSON Lines on standard output.",
)
@options.number
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
    head: Path, features: Sequence[str], output: str, excel_safe: bool, **chosen: Any
) -> None:
    """List the labels that are probably wrong, the most doubtful first.

    FEATURES are labelled vectors of the head's encoders, most often those that it was fitted on.
    Models that did not see a row judge its label, beside confident learning and the nearest rows.
    """
    check_output(output, excel_safe=excel_safe)
    if output != "-":
        check_replaceable(Path(output), [head, *features])
    found = suspects(load_head(head), features, **chosen)
    write_table(OF_SUSPECTS, found.table(), output, excel_safe=excel_safe, stdout=sys.stdout)
    click.echo(suspects_text(found), err=output == "-")


@main.command("label-next")
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("features", nargs=-1, required=True, metavar="FEATURES...")
@click.option(
    "-o",
    "--output",
    default="-",
    show_default=True,
    help="A .csv, .tsv or .jsonl file; - is JSON Lines on standard output.",
)
@options.number
@click.option(
    "--tweets",
    multiple=True,
    metavar="INPUT",
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
        check_replaceable(Path(output), [head, *features, *tweets])
    columns = options.columns_of(chosen)
    if columns.given and not tweets:
        named = ", ".join(f"`{name}`" for name in columns.given)
        raise InputError(f"{named}: which tweets? Give `tweets` as well, or leave it out")
    found = next_rows(load_head(head), features, number=number, seed=seed, memory=memory)
    texts = None
    if tweets:
        reader = TweetReader(tweets, columns, written=options.input_format_of(chosen))
        texts = texts_of(found.ids, reader)
    rows, names = found.table(texts), table_columns(with_text=bool(tweets))
    write_table(names, rows, output, excel_safe=excel_safe, stdout=sys.stdout)
    click.echo(next_rows_text(found), err=output == "-")


@main.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
def inspect_command(file: Path) -> None:
    """Show what a feature file or a head is, where it came from and what it fits."""
    if is_store(file):
        with FeatureStore(file) as store:
            click.echo(store_text(store))
    else:
        click.echo(head_text(load_head(file), str(file)))


@main.command("check")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--normalize",
    type=click.Choice(list(CURRENT)),
    default="tweeteval",
    show_default=True,
    help="How the rows that are shown are normalised.",
)
@options.columns
@options.label_columns
@options.written
@options.json_file
def check_command(
    inputs: Sequence[str], normalize: str, json_file: Path | None, **chosen: Any
) -> None:
    """Look at files of tweets as extract would read them, without a model.

    Tells formats, columns, labels, rejects, repeated texts and conflicting labels, and shows some
    rows. Ends with exit code 2 where extract would refuse the input.
    """
    _check_json(json_file, list(inputs))
    with progress.share() as show:
        report = check(
            inputs,
            options.columns_of(chosen),
            options.input_format_of(chosen),
            normalize=normalize,
            progress=show,
        )
    report = replace(report, remarks=[_in_flags(remark) for remark in report.remarks])
    _write_json(json_file, report.to_dict())
    click.echo(check_text(report))
    if report.verdict == "refused" and not chosen["allow_rejects"]:
        raise InputError(
            f"{report.rejected:,} of {report.rows:,} rows can't be used; extract would stop"
        )


@main.command("verify")
@click.argument("paths", nargs=-1, required=True, metavar="FEATURES...")
@options.json_file
def verify_command(paths: Sequence[str], json_file: Path | None) -> None:
    """Check every bit and every row of feature files, or of folders of them.

    Names all that is broken, a line each, and ends with exit code 3 if anything is.
    """
    _check_json(json_file, list(paths))
    found = []
    for path in paths:
        with progress.share() as show:
            found.append(verify(path, progress=show))
        for line in verification.lines_of(found[-1]):
            click.echo(line)
    _write_json(json_file, [store.to_dict() for store in found])
    verification.check_whole(found)


@main.command("doctor")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Hub id or local folder of the encoder to try.",
)
@options.json_file
def doctor_command(model: str, json_file: Path | None) -> None:
    """Examine this machine: what is there, and how fast each way to run a model is.

    Measures matrix products by library and precision, and tweets/s of every installed backend in
    each of its precisions; says what `auto` takes, and why.
    """
    _check_json(json_file, [])
    with progress.share() as show:
        found = examine(model, progress=show)
    _write_json(json_file, found.to_dict())
    click.echo(_in_flags(diagnosis_text(found)))


def _say(matching: Matching) -> None:
    """Say which rows are left out of the output, beside it."""
    if any(matching.left_out.values()):
        click.echo(matching_text(matching), err=True)


def _head(path: Path, prior: str | None) -> Head:
    head = load_head(path)
    return head if prior in (None, ESTIMATE) else head.with_prior(prior)


def _shares_of(head: Head, shifts: Sequence[LabelShift]) -> dict[str, Any]:
    """Say, as JSON types, which shares probabilities answer for, and how they were estimated."""
    if shifts:
        return {"prior": list(shifts[-1].shares), "label_shift": shifts[-1].to_dict()}
    return {"prior": None if head.prior is None else head.prior.tolist()}


def _check_json(path: Path | None, others: Sequence[str | Path | None]) -> None:
    """Refuse a file that JSON can't be written to, before the work."""
    if path is not None:
        check_replaceable(path, others)
        if path in others:  # the head, which is not there yet
            raise InputError(f"{path} is the output already; give --json another name")


def _write_json(path: Path | None, content: Any) -> None:
    if path is not None:
        _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
