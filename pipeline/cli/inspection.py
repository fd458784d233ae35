"""Define the commands that look at files and at this machine: `inspect`, `verify`, `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from features.spec.checkpoint import DEFAULT_MODEL
from features.store.joined.join import so_far
from features.store.joined.place import is_unjoined, whole_name
from features.store.reader import FeatureStore
from features.store.verify import verify
from pipeline.cli import options
from pipeline.cli.group import in_flags, main
from pipeline.cli.results import check_json, write_json
from pipeline.doctor.examine import examine
from pipeline.head.head import load_head
from pipeline.report import verification
from pipeline.report.machine import diagnosis_text
from pipeline.report.stores_and_heads import head_text, store_text, unjoined_text
from pipeline.scoring.predict import is_store
from pipeline.terminal import completion, progress
from pipeline.terminal.output import show


@main.command("inspect")
@click.argument("file", type=options.INPUT)
def inspect_command(file: Path) -> None:
    """Show what a feature file or a head is, where it came from and what it fits."""
    target = whole_name(file)
    if is_unjoined(target):
        there = so_far(target)
        show(lambda: in_flags(unjoined_text(there, str(target))))
    elif is_store(file):
        with FeatureStore(file) as store:
            show(store_text, store)
    else:
        show(head_text, load_head(file), str(file))


@main.command("verify")
@click.argument(
    "paths", nargs=-1, required=True, metavar="FEATURES...", shell_complete=completion.files
)
@options.json_file
def verify_command(paths: Sequence[str], json_file: Path | None) -> None:
    """Check every bit and every row of feature files, or of folders of them.

    Names all that is broken, a line each, and ends with exit code 3 if anything is.
    """
    check_json(json_file, list(paths))
    found = []
    for path in paths:
        with progress.share("checking") as update:
            found.append(verify(path, progress=update))
        for line in verification.lines_of(found[-1]):
            show(in_flags, line)
    write_json(json_file, [store.to_dict() for store in found])
    verification.check_whole(found)


@main.command("doctor")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    shell_complete=completion.folders,
    help="Hub id or local folder of the encoder to try.",
)
@options.json_file
def doctor_command(model: str, json_file: Path | None) -> None:
    """Examine this machine: what is there, and how fast each way to run a model is.

    Measures matrix products by library and precision, and tweets/s of every installed backend in
    each of its precisions; says what `auto` takes, and why.
    """
    check_json(json_file, [])
    with progress.share("measuring") as update:
        found = examine(model, progress=update)
    write_json(json_file, found.to_dict())
    show(lambda: in_flags(diagnosis_text(found)))
