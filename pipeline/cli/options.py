"""Define the options that several commands have: same name, same words, same default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from features.backends.choice import Runtime
from features.backends.registry import BACKENDS
from features.base.remote import copies
from features.base.remote.places import place_of
from features.base.remote.urls import is_url
from features.engines.choice import ENGINES, check_device, chosen_engine
from features.engines.engine import Engine
from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from features.tweets.columns import LABEL_CASES, Columns
from features.tweets.table import QUOTINGS, InputFormat
from pipeline.cli.results import say_choice
from pipeline.data.conflicts import HANDLINGS
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.options import CLASS_WEIGHTS
from pipeline.head.head import Head
from pipeline.scoring.fleet import FleetScorer, ScoreWindows
from pipeline.scoring.predict import encoders_of, is_store
from pipeline.terminal import completion

F = TypeVar("F", bound=Callable[..., Any])


class _Name(click.Path):
    """The name of a file: a path, or a URL, for which something else may stand.

    Parameters
    ----------
    path_type : type
        What a path becomes.
    of_url : callable
        Gives what stands for a URL.
    """

    def __init__(self, path_type: type, of_url: Callable[[str], Any]) -> None:
        super().__init__(path_type=path_type)
        self._of_url = of_url

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give what the command is to be given."""
        if is_url(value):
            return self._of_url(value)
        plain = value.removeprefix("file://") if isinstance(value, str) else value
        return super().convert(plain, param, ctx)


def _refused(url: str) -> Path:
    raise InputError(f"{url}: it must lie on this machine; give a path")


# A file that is read, one that is made and then sent, one of which the URL itself is wanted, and
# one that must lie here.
INPUT = _Name(Path, place_of)
OUTPUT = _Name(Path, copies.output)
TARGET = _Name(Path, str)
LOCAL = _Name(Path, _refused)
# One that is made, or `-`.
TABLE = _Name(str, lambda url: str(copies.output(url)))


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Make several options one decorator, the first one shown first."""

    def apply(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


columns = together(
    click.option("--text-column", metavar="NAME", help="Column of the texts [text, tweet, …]."),
    click.option(
        "--id-column", metavar="NAME", help="Column of the ids [id, tweet_id, …; row number]."
    ),
)
label_columns = together(
    click.option("--label-column", metavar="NAME", help="Column of the labels [label, sentiment]."),
    click.option(
        "--labels",
        metavar="FILE",
        type=INPUT,
        help="Labels of a .txt input, one a line (TweetEval's layout).",
    ),
    click.option(
        "--mapping",
        metavar="FILE",
        type=INPUT,
        help="Lines of value<TAB>name that name the labels (TweetEval's mapping.txt).",
    ),
    click.option(
        "--label-case",
        type=click.Choice(LABEL_CASES),
        default="keep",
        show_default=True,
        help="Whether labels that differ in case and blanks alone are merged (fold).",
    ),
)
dialect = together(
    click.option(
        "--input-format",
        metavar="FORMAT",
        shell_complete=completion.input_formats,
        help="csv, tsv, jsonl, json, txt, parquet or arrow [by the name; jsonl on standard input].",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="Encoding of the input, e.g. cp1252 [by its mark, else UTF-8].",
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="What stands between cells of a table [by the name and the first rows].",
    ),
    click.option(
        "--quoting",
        type=click.Choice(QUOTINGS),
        default="auto",
        show_default=True,
        help="What quotes in a table are: cells (minimal), text (none), or escaped by backslashes.",
    ),
    click.option(
        "--header/--no-header",
        default=True,
        show_default=True,
        help="Whether a table begins with names; without, columns are 0, 1, …",
    ),
)
written = together(
    dialect,
    click.option(
        "--allow-rejects",
        is_flag=True,
        help="Go on where more than a fifth of the rows can't be used.",
    ),
)
machine = together(
    click.option(
        "--device",
        default="auto",
        shell_complete=completion.devices,
        show_default=True,
        help="auto, cpu, cuda, cuda:N or mps; several GPUs as cuda:0,cuda:1.",
    ),
    click.option(
        "--backend",
        default="auto",
        shell_complete=completion.backends,
        show_default=True,
        help=f"auto, {', '.join(BACKENDS)}: what runs the model; auto measures, speed only.",
    ),
    click.option(
        "--max-batch-tokens",
        type=int,
        metavar="N",
        help="Tokens in a batch; speed and memory only [measured].",
    ),
)
table = click.option(
    "-o",
    "--output",
    type=TABLE,
    default="-",
    show_default=True,
    shell_complete=completion.files,
    help="A .csv, .tsv or .jsonl file; - is JSON Lines on standard output.",
)
scores = click.option(
    "-o",
    "--output",
    type=TABLE,
    default="-",
    show_default=True,
    shell_complete=completion.files,
    help="A .csv, .tsv, .jsonl, .parquet, .arrow or .feather file; - is JSON Lines on standard "
    "output.",
)
excel_safe = click.option(
    "--excel-safe",
    is_flag=True,
    help="Put a ' before cells of .csv and .tsv that a spreadsheet would run as formulas.",
)
seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the bootstrap.",
)
seed_of_runs = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the simulated runs.",
)
models = click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=completion.folders,
    help="Where the head's model lies on this machine; one for each of its encoders.",
)
strict = click.option("--strict", is_flag=True, help="Stop at the first row that can't be used.")
json_file = click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=OUTPUT,
    help="Write the results there too.",
)

metric = click.option(
    "--metric",
    type=click.Choice(list(METRICS)),
    default="macro-recall",
    show_default=True,
    help="What C is chosen by.",
)
class_weight = click.option(
    "--class-weight",
    type=click.Choice(CLASS_WEIGHTS),
    default="balanced",
    show_default=True,
    help="Whether all classes or all rows count alike.",
)
prior = click.option(
    "--prior",
    metavar="PRIOR",
    help="Shares of the classes that the probabilities are for: uniform, training, or "
    "a=0.2,b=0.5,c=0.3 [as fitted: uniform if balanced, else training].",
)
moved_prior = click.option(
    "--prior",
    metavar="PRIOR",
    help="Move the head to other shares of the classes: uniform, training, a=0.2,b=0.5,c=0.3, or "
    "estimate: those that these very rows seem to have.",
)
conflicts = click.option(
    "--conflicts",
    type=click.Choice(HANDLINGS),
    default="keep",
    show_default=True,
    help="Texts with several labels: keep them, drop all their rows, or keep the rows of the label "
    "that most have (majority).",
)
corrections = click.option(
    "--corrections",
    multiple=True,
    type=INPUT,
    metavar="FILE",
    help="Take other labels for some rows: a table of id, row and label; repeat for more.",
)
fold_seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the folds and the bootstrap.",
)
number = click.option(
    "-n", "--number", type=int, default=100, show_default=True, help="Rows to list."
)
max_iter = click.option(
    "--max-iter",
    type=int,
    default=1000,
    show_default=True,
    help="Passes of the solver over the vectors at most.",
)
memory = click.option(
    "--memory",
    metavar="SIZE",
    help="Vectors to hold, e.g. 2GiB; more are streamed [a quarter of what is free].",
)
engine = together(
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        help="Share the work out: local, to processes of this machine; ray, to a cluster [this "
        "process alone].",
    ),
    click.option(
        "--workers",
        type=int,
        metavar="N",
        help="With --engine: workers [one for each GPU, or else for each node of memory].",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="With --engine ray: a cluster that is there, e.g. auto [one of this machine alone].",
    ),
)
gpus_per_worker = click.option(
    "--gpus-per-worker",
    type=float,
    metavar="G",
    help="With --engine ray: GPUs of a worker, or a part of one, e.g. 0.5 [1 if there are any].",
)
card = together(
    click.option(
        "--license", metavar="NAME", help="For the card, as the hub names it, e.g. apache-2.0."
    ),
    click.option(
        "--language",
        multiple=True,
        metavar="CODE",
        help="For the card: a language of the tweets, e.g. en; repeat for more.",
    ),
)


def engine_of(chosen: dict[str, Any]) -> Engine | None:
    """Take what `engine` and `gpus_per_worker` were given out of the options; make the engine."""
    return chosen_engine(
        chosen.pop("engine"),
        workers=chosen.pop("workers"),
        ray_address=chosen.pop("ray_address"),
        gpus_per_worker=chosen.pop("gpus_per_worker"),
    )


def columns_of(chosen: Mapping[str, Any]) -> Columns:
    """Give what `columns` and, where a command has them, `label_columns` were given."""
    return Columns(
        chosen["text_column"],
        chosen.get("label_column"),
        chosen["id_column"],
        chosen.get("labels"),
        chosen.get("mapping"),
        chosen.get("label_case", "keep"),
    )


def input_format_of(chosen: Mapping[str, Any]) -> InputFormat:
    """Give what `written` was given."""
    return InputFormat(
        chosen["input_format"],
        chosen["encoding"],
        chosen["delimiter"],
        chosen["quoting"],
        chosen["header"],
    )


def loader_of(chosen: Mapping[str, Any], say: Callable[[str], None]) -> Callable[[Head], Any]:
    """Give what loads the encoders of a head, by what `machine` and `models` were given."""
    return lambda head: encoders_chosen(chosen, head.encoders, say)


def scorer_of(
    chosen: dict[str, Any], inputs: Sequence[str], say: Callable[[str], None]
) -> Callable[[Head], Any]:
    """Give what loads the encoders of a head, or hands its work to the engine that was given.

    Raises
    ------
    InputError
        The engine does not go with the input.
    """
    engine = engine_of(chosen)
    if engine is None:
        return loader_of(chosen, say)
    if any(one == "-" or is_store(one) for one in inputs):
        raise InputError(
            "`engine` is for files of tweets: standard input is answered row by row, and vectors "
            "are scored by this process at once; leave it away"
        )
    check_device(chosen["device"])
    runtime = _runtime(chosen)
    models = tuple(map(str, chosen["models"]))
    return lambda head: FleetScorer(
        engine, ScoreWindows(head, models, runtime, Path.cwd()), say, say_choice
    )


def encoders_chosen(
    chosen: Mapping[str, Any],
    encoders: Sequence[Sequence[VectorSpec]],
    say: Callable[[str], None],
) -> list[Any]:
    """Load encoders, by what `machine` and `models` were given."""
    found = encoders_of(encoders, models=chosen["models"], runtime=_runtime(chosen), say=say)
    for encoder in found:
        say_choice(encoder.choice)
    return found


def _runtime(chosen: Mapping[str, Any]) -> Runtime:
    """Give what `machine` was given, but for the dtype, which is the head's."""
    return Runtime(
        device=chosen["device"],
        backend=chosen["backend"],
        max_batch_tokens=chosen["max_batch_tokens"],
    )
