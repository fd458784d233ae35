"""Define the commands to start with: `demo`, `plan`, and `completion` for a shell.

`demo` runs extract, fit and predict on the example tweets, in a folder that is kept. The tweets are
in `pipeline/examples/`, which an installed wheel has too. They are copied into the folder first, so
that each line that is shown can be run again by hand. Each step is the command itself, with its own
output; nothing is computed here. `plan` says what a large run will take, before it is begun.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from features.base.atomic import replacing
from features.base.paths import check_replaceable
from features.base.shown import printable
from features.errors import CannotContinue, InputError, system_reason
from pipeline.cli import options
from pipeline.cli.extraction import encoder_options
from pipeline.cli.group import in_flags, main
from pipeline.cli.results import check_json, remark, write_json
from pipeline.plan.figures import Figures, read_figures
from pipeline.plan.measure import SAMPLE_ROWS, SECONDS, Settings, measure
from pipeline.plan.plan import plan, scaled
from pipeline.plan.quantities import at_least_zero, positive, rows_of, stragglers_of
from pipeline.plan.rates import Machines
from pipeline.report.plan import plan_text, scaling_text
from pipeline.terminal import completion, progress
from pipeline.terminal.output import show, tell
from pipeline.terminal.volume import volume

TWEETS, NEW_TWEETS = "tweets.csv", "new_tweets.csv"


@main.command("demo")
@click.argument("folder", type=options.LOCAL, default="demo")
@click.option("--report", is_flag=True, help="Write a report on the head as well, report.html.")
def demo_command(folder: Path, report: bool) -> None:
    """Try it: extract, fit and predict on example tweets that were written for frostline.

    FOLDER [demo] is made, and gets the tweets, the vectors, the head, its metrics and the labels.
    """
    _copy_tweets(folder)
    at = {name: str(folder / name) for name in (TWEETS, NEW_TWEETS, "tweets.h5", "head.joblib")}
    metrics, scored, page = (
        str(folder / name) for name in ("metrics.json", "scored.csv", "report.html")
    )
    steps = [
        ["extract", at[TWEETS], "-o", at["tweets.h5"]],
        ["fit", at["tweets.h5"], "-o", at["head.joblib"], "--json", metrics],
        ["predict", at["head.joblib"], at[NEW_TWEETS], "--with-text", "-o", scored],
    ]
    written = [*at.values(), metrics, scored]
    if report:
        steps.append(["report", at["head.joblib"], at["tweets.h5"], at[TWEETS], "-o", page])
        written.append(page)
    for words in steps:
        _run(words)
    show(str, f"The files lie in {printable(str(folder))}:")
    for path in written:
        show(str, f"  {Path(path).stat().st_size:>9,} bytes  {Path(path).name}")


# Parameters of `plan` that say how vectors are made, and how the sample is read.
_SETTINGS = tuple(Settings.__dataclass_fields__)
_OF_THE_INPUT = (
    *("text_column", "id_column", "label_column", "labels", "mapping", "label_case"),
    *("input_format", "encoding", "delimiter", "quoting", "header", "sample_rows", "seconds"),
)
_BY_HAND = ParameterSource.COMMANDLINE
_fleet_options = options.together(
    click.option("--gpus", type=int, default=1, show_default=True, help="Workers, a GPU each."),
    click.option(
        "--cores-per-gpu",
        type=int,
        metavar="N",
        help="Cores that a worker has [those where it was measured, over its GPUs].",
    ),
    click.option(
        "--tokens-per-second",
        metavar="RATE",
        help="Of a GPU that is known from elsewhere [as measured].",
    ),
    click.option(
        "--disk-mb-per-second", metavar="MB", help="Of the disk that all workers share [no limit]."
    ),
    click.option(
        "--network-mb-per-second",
        metavar="MB",
        help="Between each worker and the storage [no network].",
    ),
    click.option("--price-per-gpu-hour", metavar="PRICE", help="In any currency."),
    click.option(
        "--failures-per-hour",
        type=float,
        default=0.01,
        show_default=True,
        help="Deaths of a worker, each hour that it works.",
    ),
    click.option(
        "--stragglers",
        metavar="SHARE:FACTOR",
        default="0.01:3",
        show_default=True,
        help="Share of the shards that are slow, and how many times as long they take.",
    ),
    click.option(
        "--restart-seconds",
        type=float,
        default=60.0,
        show_default=True,
        help="From a death until another worker starts.",
    ),
)


@main.command("plan")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...", shell_complete=completion.files)
@click.option("--rows", metavar="N", help="Rows of the whole run, e.g. 10e9 [those of the input].")
@_fleet_options
@click.option(
    "--measured",
    metavar="FILE",
    type=options.INPUT,
    help="Take the figures of an earlier plan --json FILE, made where the GPUs are; no INPUT then.",
)
@click.option("--scaling", is_flag=True, help="Show the same run on 1 to 512 GPUs as well.")
@click.option("--shard-rows", metavar="N", help="Rows of a shard [chosen].")
@click.option(
    "--labelled-rows", metavar="N", help="Rows to fit a head on [the share that the sample has]."
)
@click.option(
    "--sample-rows",
    type=click.IntRange(1, 10**7),
    default=SAMPLE_ROWS,
    show_default=True,
    help="Rows to read for the measured run.",
)
@click.option(
    "--seconds",
    type=float,
    default=SECONDS,
    show_default=True,
    help="That the model reads their texts for.",
)
@encoder_options
@options.machine
@options.columns
@options.label_columns
@options.dialect
@options.seed_of_runs
@options.json_file
def plan_command(
    inputs: Sequence[str], measured: Path | None, json_file: Path | None, **chosen: Any
) -> None:
    """Say what a large run will take: hours, bytes, cost, shards, what binds.

    Measures this machine on the first rows of INPUT for some seconds, and counts on from there;
    stragglers and failures are simulated.
    """
    check_json(json_file, [*inputs, measured])
    rows, shard_rows, labelled_rows = (
        None if chosen[name] is None else rows_of(chosen[name], name)
        for name in ("rows", "shard_rows", "labelled_rows")
    )
    machines = _machines_of(chosen)
    figures = _figures_of(inputs, measured, chosen)
    found = plan(
        figures,
        machines,
        rows=rows,
        shard_rows=shard_rows,
        labelled_rows=labelled_rows,
        seed=chosen["seed"],
    )
    scales = []
    if chosen["scaling"]:
        scales = scaled(figures, machines, found.rows, shard_rows=shard_rows, seed=chosen["seed"])
    if json_file is not None:
        scaling = {"scaling": [asdict(one) for one in scales]} if scales else {}
        write_json(json_file, found.to_dict() | scaling)
    show(lambda: in_flags(plan_text(found)))
    if scales:
        show(str, "")
        show(scaling_text, scales)


def _machines_of(chosen: Mapping[str, Any]) -> Machines:
    """Give the machines that were described."""
    examples = {
        "tokens_per_second": "250k",
        "disk_mb_per_second": "2000",
        "network_mb_per_second": "1000",
        "price_per_gpu_hour": "2.50",
    }
    rates = {
        name: None if chosen[name] is None else positive(chosen[name], name, example)
        for name, example in examples.items()
    }
    return Machines(
        chosen["gpus"],
        chosen["cores_per_gpu"],
        **rates,
        failures_per_hour=at_least_zero(chosen["failures_per_hour"], "failures_per_hour"),
        stragglers=stragglers_of(chosen["stragglers"]),
        restart_seconds=at_least_zero(chosen["restart_seconds"], "restart_seconds"),
    )


def _figures_of(inputs: Sequence[str], measured: Path | None, chosen: Mapping[str, Any]) -> Figures:
    """Measure an input, or read what was measured elsewhere.

    Raises
    ------
    InputError
        Both are given, or none, or a setting of a measured run for figures that are there already.
    """
    if (measured is None) == (not inputs):
        raise InputError(
            "name an INPUT to measure this machine on, or the figures of another one with "
            "`measured`: one of the two"
        )
    settings = {name: chosen[name] for name in _SETTINGS}
    if measured is None:
        with progress.share("measuring") as update:
            return measure(
                inputs,
                Settings(**settings | {"pooling": tuple(chosen["pooling"])}),
                options.columns_of(chosen),
                options.input_format_of(chosen),
                sample_rows=chosen["sample_rows"],
                seconds=chosen["seconds"],
                progress=update,
                say=remark,
            )
    given = click.get_current_context().get_parameter_source
    of_a_run = {*_SETTINGS, *_OF_THE_INPUT} - {"store_dtype"}
    odd = [
        name for name in chosen if name in of_a_run and given(name) == ParameterSource.COMMANDLINE
    ]
    if odd:
        named = ", ".join(f"`{name}`" for name in odd)
        raise InputError(
            f"{named}: for a measured run, and `measured` has its figures; leave it out"
        )
    figures = read_figures(measured)
    if given("store_dtype") == _BY_HAND:
        figures = replace(figures, store_dtype=chosen["store_dtype"])
    return figures


@main.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
def completion_command(shell: str) -> None:
    """Print the script by which a shell completes commands, options, files and poolings."""
    click.echo(completion.script(shell, main))


def _copy_tweets(folder: Path) -> None:
    """Write the example tweets into a folder, which is made where it is not there.

    Raises
    ------
    InputError
        A file of such a name is there and holds something else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{folder} is a file; name a folder for the demo") from error
    except OSError as error:
        raise CannotContinue(f"{folder} cannot be made: {system_reason(error)}") from error
    contents = {
        folder / name: (files("pipeline") / "examples" / name).read_bytes()
        for name in (TWEETS, NEW_TWEETS)
    }
    for path, content in contents.items():
        check_replaceable(path, [])
        if path.exists() and path.read_bytes() != content:
            raise InputError(
                f"{path} is there and is no file of the demo; name another folder, which is made"
            )
    for path, content in contents.items():
        with replacing(path) as aside:
            aside.write_bytes(content)


def _run(words: Sequence[str]) -> None:
    """Show a command line, and run it."""
    if not volume().quiet:  # in one line on every terminal, to be copied
        click.echo(f"$ {printable(shlex.join(['frostline', *words]))}")
    name, *arguments = words
    command = main.commands[name]
    whole = click.get_current_context().find_root()
    with command.make_context(name, arguments, parent=whole) as context:
        command.invoke(context)
    tell(str, "")
