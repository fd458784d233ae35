"""Define the commands that bring a head to where it is used: `export` and `serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from features.base.shown import printable
from features.errors import InputError
from pipeline.cli import options
from pipeline.cli.group import main
from pipeline.cli.results import open_head, remark
from pipeline.export.export import export
from pipeline.export.formats import FORMATS
from pipeline.terminal.output import tell
from pipeline.terminal.volume import volume

_SERVE_PACKAGES = ("starlette", "uvicorn", "httptools", "msgspec", "prometheus_client")


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


@main.command("serve")
@click.argument(
    "heads", nargs=-1, required=True, metavar="HEAD...", type=click.Path(path_type=Path)
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 is any that is free.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file with the secret that clients must send; needed to listen for other machines.",
)
@options.models
@options.prior
@options.machine
@click.option(
    "--max-client-batch-size",
    type=int,
    default=256,
    show_default=True,
    metavar="N",
    help="Texts in a request.",
)
@click.option(
    "--max-text-bytes",
    type=int,
    default=65_536,
    show_default=True,
    metavar="N",
    help="Bytes of a text.",
)
@click.option(
    "--max-body-bytes",
    type=int,
    default=2_000_000,
    show_default=True,
    metavar="N",
    help="Bytes of a request.",
)
@click.option(
    "--max-queue",
    type=int,
    default=4096,
    show_default=True,
    metavar="N",
    help="Texts that may wait, of all clients together.",
)
@click.option(
    "--max-connections",
    type=int,
    default=512,
    show_default=True,
    metavar="N",
    help="Connections that may be open.",
)
def serve_command(
    heads: Sequence[Path],
    host: str,
    port: int,
    token_file: Path | None,
    prior: str | None,
    **chosen: Any,
) -> None:
    """Label texts over HTTP with a head, or with several at once.

    POST /predict speaks as text-embeddings-inference does, POST /classify as vLLM. Heads of one
    encoder share its forward pass; each is named as its file. Ctrl-C or SIGTERM ends it, when all
    that was asked for is answered.
    """
    missing = [name for name in _SERVE_PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"serving needs {', '.join(missing)}: pip install 'frostline[serve]'")
    from pipeline.serve.limits import Limits
    from pipeline.serve.scorer.heads import gathered
    from pipeline.serve.server import Place, read_token, serve

    if "," in chosen["device"]:
        raise InputError(
            f"`device` {chosen['device']}: a server runs on one device; start one for each"
        )
    limits = Limits(
        **{
            name: chosen[name]
            for name in (
                "max_client_batch_size",
                "max_text_bytes",
                "max_body_bytes",
                "max_queue",
                "max_connections",
            )
        }
    )
    place = Place(host, port, None if token_file is None else read_token(token_file))
    found = gathered([(path.name.partition(".")[0], open_head(path, prior)) for path in heads])
    serve(
        found,
        lambda: options.encoders_chosen(chosen, found.encoders, remark),
        place,
        limits,
        say=remark,
        log=(lambda line: print(line, file=sys.stderr)) if volume().verbose else None,
    )
