"""Define the commands that bring a head to where it is used: `export`, `push` and `serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from features.base.shown import printable
from features.errors import InputError, reworded
from pipeline.cli import options
from pipeline.cli.group import main
from pipeline.cli.results import open_head, remark
from pipeline.export.export import export
from pipeline.export.formats import FORMATS
from pipeline.head.pretrained import NAMES
from pipeline.terminal.output import tell
from pipeline.terminal.volume import volume

_SERVE_PACKAGES = ("starlette", "uvicorn", "httptools", "msgspec", "prometheus_client")


@main.command("export")
@click.argument("head", type=options.INPUT)
@click.option(
    "-o",
    "--output",
    required=True,
    type=options.OUTPUT,
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
@click.option(
    "--no-training-texts",
    is_flag=True,
    help="Leave out the digests by which the head knows training texts.",
)
def export_command(
    head: Path,
    output: Path,
    written: str,
    prior: str | None,
    models: Sequence[str],
    no_training_texts: bool,
) -> None:
    """Write a head in the format of other tools: a folder that works without frostline."""
    fitted = open_head(head, prior)
    if no_training_texts:
        fitted = replace(fitted, texts=None)
    made = export(fitted, output, written, models=models, say=remark)
    for name, n_bytes in made.items():
        tell(str, f"{n_bytes:>13,} bytes  {printable(reworded(str(output / name)))}")


@main.command("push")
@click.argument("head", type=options.INPUT)
@click.argument("repo_id", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make a private repository; refuse a public one.")
@click.option(
    "--commit-message",
    default="Push a head of frostline",
    show_default=True,
    metavar="TEXT",
    help="What the commit says.",
)
@click.option("--branch", metavar="NAME", help="A branch that is there [main].")
@click.option("--create-pr", is_flag=True, help="Propose the commit as a pull request.")
@options.card
@click.option(
    "--training-texts",
    is_flag=True,
    help="Let the digests of training texts go up as well; whoever has a text can find it there.",
)
@options.prior
def push_command(head: Path, repo_id: str, prior: str | None, **chosen: Any) -> None:
    """Put a head on the Hugging Face hub: config.json, head.safetensors and a card.

    The token is that of `hf auth login`, or HF_TOKEN. Labels, counts and figures go up, but no
    text. What is there is then a head for every command: hf:OWNER/NAME.
    """
    fitted = open_head(head, prior)
    url = fitted.push_to_hub(repo_id, **{**chosen, "private": chosen["private"] or None})
    tell(str, f"{', '.join(NAMES)}: {printable(url)}")
    kept = 0 if fitted.texts is None else len(fitted.texts.digests)
    if kept:
        tell(str, f"digests of {kept:,} training texts {_went(chosen['training_texts'])}")


def _went(went_up: bool) -> str:
    return "went up too" if went_up else "were left out"


@main.command("serve")
@click.argument("heads", nargs=-1, required=True, metavar="HEAD...", type=options.INPUT)
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
    type=options.LOCAL,
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
    found = gathered([(_name_of(path), open_head(path, prior)) for path in heads])
    serve(
        found,
        lambda: options.encoders_chosen(chosen, found.encoders, remark),
        place,
        limits,
        say=remark,
        log=(lambda line: print(line, file=sys.stderr)) if volume().verbose else None,
    )


def _name_of(path: Path) -> str:
    """Give what a head is called: its file's name, or its folder's."""
    return path.resolve().name.partition(".joblib")[0]
