"""Define the command that shows a head and its rows, `report`, and make reports for others too.

The suffix of a name says what is written: `.html` is a page, `.json` and `.md` have the same facts.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from features.base.paths import check_replaceable
from features.base.shown import printable
from features.errors import InputError
from features.tweets.reader import Reject, Tweet, TweetReader
from pipeline.cli import options
from pipeline.cli.group import main
from pipeline.cli.results import say_matching, write_text
from pipeline.data.corrections import correct
from pipeline.data.join import open_joined
from pipeline.facts.changes import Against
from pipeline.facts.facts import Facts, Points
from pipeline.facts.gather import Source, gather
from pipeline.facts.markdown import markdown_of
from pipeline.facts.plane import MAPS, check_map
from pipeline.fitting.changes import known_to
from pipeline.head.head import Head, load_head
from pipeline.scoring.predict import is_store
from pipeline.terminal import completion, progress
from pipeline.terminal.output import tell

SUFFIXES = (".html", ".json", ".md")


@dataclass(frozen=True)
class Asked:
    """What a report is asked to be of.

    Attributes
    ----------
    outputs : sequence of Path
    head : Path
    features : sequence of str
    tweets : sequence of str
        Files with the texts of the vectors.
    corrections : sequence of Path
    against : Path, optional
        A head to compare with.
    max_size : str
        Of a page.
    no_text : bool
        Whether texts are left out whatever was given.
    memory : str, optional
    map : str
        How rows are put on the plane; one of `MAPS`.
    """

    outputs: Sequence[Path]
    head: Path
    features: Sequence[str]
    tweets: Sequence[str] = ()
    corrections: Sequence[Path] = ()
    against: Path | None = None
    max_size: str = "4MB"
    no_text: bool = False
    memory: str | None = None
    map: str = "pca"

    @property
    def command(self) -> str:
        """The command that makes it again."""
        words = ["frostline", "report", str(self.head), *self.features]
        for flag, values in (
            ("--tweets", self.tweets),
            ("--corrections", self.corrections),
            ("--against", [] if self.against is None else [self.against]),
            ("-o", self.outputs),
        ):
            for value in values:
                words += [flag, str(value)]
        words += ["--max-size", self.max_size] if self.max_size != "4MB" else []
        words += ["--map", self.map] if self.map != "pca" else []
        return shlex.join([*words, *(["--no-text"] if self.no_text else [])])


@main.command("report")
@click.argument("head", type=options.INPUT)
@click.argument(
    "features", nargs=-1, required=True, metavar="FEATURES...", shell_complete=completion.files
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    required=True,
    type=options.OUTPUT,
    help="A .html, .json or .md file; repeat for more.",
)
@click.option(
    "--tweets",
    multiple=True,
    metavar="INPUT",
    shell_complete=completion.files,
    help="The tweets that FEATURES were extracted from, to show their texts; repeat for more.",
)
@click.option("--no-text", is_flag=True, help="Write no text of a tweet, whatever was given.")
@options.corrections
@click.option(
    "--against",
    type=options.INPUT,
    metavar="HEAD",
    help="Say what has changed against an earlier head, on the same rows.",
)
@click.option(
    "--max-size",
    default="4MB",
    show_default=True,
    metavar="SIZE",
    help="Of the page; what is left out for it is said there.",
)
@click.option(
    "--map",
    "kind",
    type=click.Choice(MAPS),
    default="pca",
    show_default=True,
    help="How rows are put on the map; umap needs pip install 'frostline[umap]'.",
)
@options.memory
@options.columns
@options.dialect
def report_command(
    head: Path,
    features: Sequence[str],
    outputs: Sequence[Path],
    tweets: Sequence[str],
    no_text: bool,
    against: Path | None,
    corrections: Sequence[Path],
    max_size: str,
    kind: str,
    memory: str | None,
    **chosen: Any,
) -> None:
    """Show what a head is worth, where it is wrong, what more labels would bring.

    FEATURES are labelled vectors of the head's encoders, most often those that it was fitted on: it
    is judged on them by models that did not see them. Files of the tweets that they were extracted
    from may follow, for the texts.
    """
    stores = [one for one in features if is_store(one)]
    files = [*tweets, *(one for one in features if not is_store(one))]
    if not stores:
        raise InputError(f"{', '.join(features)}: no cached vectors; give a .h5 file of extract")
    asked = Asked(
        outputs, head, stores, files, corrections, against, max_size, no_text, memory, kind
    )
    other = check_reports(asked)
    columns = options.columns_of(chosen)
    if columns.given and not files:
        named = ", ".join(f"`{name}`" for name in columns.given)
        raise InputError(f"{named}: which tweets? Give `tweets` as well, or leave it out")
    reader = None
    if files:
        reader = TweetReader(files, columns, written=options.input_format_of(chosen))
    make_reports(load_head(head), asked, reader, other)


def check_reports(asked: Asked) -> Head | None:
    """Refuse what can't be written, before the work, and read the head to compare with."""
    inputs = [asked.head, *asked.features, *asked.tweets, *asked.corrections, asked.against]
    for n, path in enumerate(asked.outputs):
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{path}: unknown format; the name of a report must end in {', '.join(SUFFIXES)}"
            )
        check_replaceable(path, inputs)
        if path in asked.outputs[:n]:
            raise InputError(f"{path} is given twice; give each report a name of its own")
    bytes_of_page(asked.max_size)
    check_map(asked.map)
    return None if asked.against is None else load_head(asked.against)


def bytes_of_page(text: str) -> int:
    """Read a size; MB is a million bytes, MiB a bit more."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMG])(i?)B?|B?)", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise InputError(f"`max_size` is {text!r}; give bytes, or e.g. 500kB, 4MB or 4MiB")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " kmg".index((found[2] or " ").lower()))


def make_reports(
    head: Head, asked: Asked, reader: Iterable[Tweet | Reject] | None, other: Head | None
) -> None:
    """Gather the facts, write all files and say what matters most.

    Parameters
    ----------
    head : Head
    asked : Asked
        Checked by `check_reports`.
    reader : iterable of Tweet or Reject, optional
        The tweets of `asked.tweets`.
    other : Head, optional
        That of `asked.against`.
    """
    with open_joined(asked.features) as opened, progress.share("measuring"):
        if opened.matching is not None:
            say_matching(opened.matching)
        stores, corrected = correct(opened, asked.corrections)
        before, had = correct(opened, known_to(other, corrected))
        source = Source(
            str(asked.head),
            tuple(asked.features),
            asked.command,
            None if asked.no_text else reader,
            None if other is None else Against(other, str(asked.against), before),
            corrected.rows - had.rows,
            asked.memory,
            asked.map,
        )
        facts, points = gather(head, stores, source)
    max_bytes = bytes_of_page(asked.max_size)
    contents = [_content(path, facts, points, max_bytes) for path in asked.outputs]
    for path, content in zip(asked.outputs, contents, strict=True):
        write_text(path, content)
    tell(printable, facts.verdict)
    for one in facts.checks:
        if one.cure:
            tell(printable, f"  {one.status}: {one.finding} {one.cure}")
    tell(str, "\n".join(f"{printable(str(path))} written" for path in asked.outputs))


def _content(path: Path, facts: Facts, points: Points, max_bytes: int) -> str:
    """Write the report in the format that a name says."""
    content = facts.to_dict()
    suffix = path.suffix.lower()
    if suffix == ".json":
        return json.dumps(content, indent=2, allow_nan=False) + "\n"
    if suffix == ".md":
        return markdown_of(content)
    from pipeline.page.page import render_page  # Jinja2: only where a page is made

    return render_page(content, points, max_bytes=max_bytes)
