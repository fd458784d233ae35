"""Define the commands that bring a head to where it is used: `export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from features.base.shown import printable
from pipeline.cli import options
from pipeline.cli.group import main
from pipeline.cli.results import open_head, remark
from pipeline.export.export import export
from pipeline.export.formats import FORMATS
from pipeline.terminal.output import tell


@main.command("export")
@click.argument("head", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The folder to make; nothing may be there.",
)
@click.option(
    "--format",
    "written",
    type=click.Choice(list(FORMATS)),
    default="onnx",
    show_default=True,
    help="; ".join(f"{name}: {row.help}" for name, row in FORMATS.items()) + ".",
)
@options.prior
@options.models
def export_command(
    head: Path, output: Path, written: str, prior: str | None, models: Sequence[str]
) -> None:
    """Write a head in the format of other tools: a folder that works without frostline."""
    export(open_head(head, prior), output, written, models=models, say=remark)
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        tell(str, f"{path.stat().st_size:>13,} bytes  {printable(str(path))}")
