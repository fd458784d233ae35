"""Define the commands of stage one: `extract`, and `check`, which looks at files alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from features.base.machine import bytes_of
from features.errors import InputError
from features.extract import extract
from features.extraction.check import check
from features.pieces.part import PartSummary
from features.spec.checkpoint import DEFAULT_MODEL
from features.spec.normalize import CURRENT
from features.spec.pooling import DEFAULT_POOLING
from features.spec.vector_spec import STORE_DTYPES
from pipeline.cli import options
from pipeline.cli.group import in_flags, main
from pipeline.cli.results import check_json, remark, say_choice, write_json
from pipeline.report.input_check import check_text
from pipeline.report.stores_and_heads import extract_text, part_text
from pipeline.terminal import completion, progress
from pipeline.terminal.output import show, tell

# What vectors mean, and how they are kept.
encoder_options = options.together(
    click.option(
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        shell_complete=completion.folders,
        help="Hub id or local folder of an encoder.",
    ),
    click.option("--revision", help="Branch, tag or commit of a hub model."),
    click.option(
        "--pooling",
        multiple=True,
        default=[DEFAULT_POOLING],
        show_default=True,
        metavar="POOLING",
        shell_complete=completion.poolings,
        help="TOKENS[@LAYERS][+COMBINE], e.g. cls, mean@-2, cls@last4+concat, or sentence; "
        "repeat for several views.",
    ),
    click.option(
        "--max-length",
        type=int,
        metavar="N",
        help="Tokens read of a tweet [128, or the model's limit].",
    ),
    click.option(
        "--normalize",
        type=click.Choice(list(CURRENT)),
        default="tweeteval",
        show_default=True,
        help="How tweets are brought into one form.",
    ),
    click.option(
        "--prefix",
        default="",
        metavar="TEXT",
        help="Put before each tweet, where the model expects that, e.g. 'query: ' [nothing].",
    ),
    click.option(
        "--prompt-name",
        metavar="NAME",
        help="Put the model's prompt of that name before each tweet; '' is none "
        "[with --pooling sentence what its folder says].",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
        default="auto",
        show_default=True,
        help="Precision of the model; auto keeps a cosine of 0.9999 to float32, int8 one of 0.99.",
    ),
    click.option(
        "--store-dtype",
        type=click.Choice(STORE_DTYPES),
        default="float16",
        show_default=True,
        help="Precision of the vectors on disk.",
    ),
)


@main.command("extract")
@click.argument(
    "inputs", nargs=-1, required=True, metavar="INPUT...", shell_complete=completion.files
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=options.TARGET,
    help="The feature file (.h5), or a folder with --shard-rows.",
)
@encoder_options
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
@click.option(
    "--part",
    metavar="I/N",
    help="Make one of N parts of the folder alone, for jobs that run anywhere and at any time.",
)
@click.option(
    "--duplicates",
    type=click.Choice(["piece", "all"]),
    default="piece",
    show_default=True,
    help="With --part or --engine: encode a text once in its piece, or in all, read three times.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="With --duplicates all: to compare texts in, e.g. 4GiB [512MiB].",
)
@options.engine
@options.gpus_per_worker
@click.option("--overwrite", is_flag=True, help="Replace the output, whatever is there.")
def extract_command(
    inputs: Sequence[str],
    output: str | Path,
    pooling: Sequence[str],
    memory: str | None,
    **chosen: Any,
) -> None:
    """Encode tweets once and cache their vectors.

    INPUT is a .csv, .tsv, .json, .jsonl, .txt (also .gz) or .parquet file, the URL of one such as
    s3://bucket/tweets.csv, a data set such as hf:tweet_eval/sentiment:train or hf:./folder, or -
    for JSON or a table on standard input. Says first how it reads them. Running it again encodes
    only texts that are new; after an interruption, a crash or a full disk the same command goes on
    where it was.
    """
    engine = options.engine_of(chosen)
    with progress.progress() as update:
        summary = extract(
            inputs,
            output,
            pooling=pooling,
            memory=None if memory is None else bytes_of(memory),
            engine=engine,
            progress=update,
            say=remark,
            on_input=remark,
            **chosen,
        )
    if isinstance(summary, PartSummary):
        tell(part_text, summary)
    else:
        tell(extract_text, summary)
    if summary.choice is not None:
        say_choice(summary.choice)


@main.command("check")
@click.argument(
    "inputs", nargs=-1, required=True, metavar="INPUT...", shell_complete=completion.files
)
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
    check_json(json_file, list(inputs))
    with progress.share("reading") as update:
        report = check(
            inputs,
            options.columns_of(chosen),
            options.input_format_of(chosen),
            normalize=normalize,
            progress=update,
        )
    report = replace(report, remarks=[in_flags(remark) for remark in report.remarks])
    write_json(json_file, report.to_dict())
    show(check_text, report)
    if report.verdict == "refused" and not chosen["allow_rejects"]:
        raise InputError(
            f"{report.rejected:,} of {report.rows:,} rows can't be used; extract would stop"
        )
