"""Define the commands to start with: `demo`, and `completion` for a shell.

`demo` runs extract, fit and predict on the example tweets, in a folder that is kept. The tweets are
in `pipeline/examples/`, which an installed wheel has too. They are copied into the folder first, so
that each line that is shown can be run again by hand. Each step is the command itself, with its own
output; nothing is computed here.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import click

from features.base.atomic import replacing
from features.base.paths import check_replaceable
from features.base.shown import printable
from features.errors import CannotContinue, InputError, system_reason
from pipeline.cli.group import main
from pipeline.terminal import completion
from pipeline.terminal.output import show, tell
from pipeline.terminal.volume import volume

TWEETS, NEW_TWEETS = "tweets.csv", "new_tweets.csv"


@main.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default="demo")
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
