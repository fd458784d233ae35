"""Print results and remarks, laid out for where they go: a terminal, or a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ParamSpec

import click

from features.errors import reworded
from pipeline.report.layout import fitted, seen_on
from pipeline.terminal.streams import look_of
from pipeline.terminal.volume import volume

P = ParamSpec("P")


def show(make: Callable[P, str], *arguments: P.args, **named: P.kwargs) -> None:
    """Print a result that was asked for, on standard output.

    Parameters
    ----------
    make : callable
        Gives the text, by `pipeline/report/layout.py`; called with the other arguments.
    """
    with seen_on(look_of(sys.stdout)):
        text = fitted(reworded(make(*arguments, **named)))
    click.echo(text)


def tell(make: Callable[P, str], *arguments: P.args, **named: P.kwargs) -> None:
    """Print a summary of what was written elsewhere, on standard output; not if it is quiet."""
    if not volume().quiet:
        show(make, *arguments, **named)


def beside(output: str) -> Callable[..., None]:
    """Give what tells of an output: aside where that is standard output itself."""
    return tell_aside if output == "-" else tell


def tell_aside(make: Callable[P, str], *arguments: P.args, **named: P.kwargs) -> None:
    """Print a summary or a remark beside the results, on standard error; not if it is quiet."""
    if volume().quiet:
        return
    with seen_on(look_of(sys.stderr)):
        text = fitted(reworded(make(*arguments, **named)))
    click.echo(text, err=True)
