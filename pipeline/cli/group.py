"""Define the group of the commands, which turns errors into one line and an exit code.

`features/errors.py` has the exit codes.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import click

from features.base.shown import printable, size
from features.errors import CannotContinue, FrostlineError, system_reason
from features.version import __version__
from pipeline.cli.flags import with_flags
from pipeline.terminal.output import tell_aside
from pipeline.terminal.streams import look_of
from pipeline.terminal.volume import Volume, volume

# A process that ends gives all its memory back: looking for garbage first takes a second with
# torch.
atexit.register(gc.freeze)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show what the library warns of without the line of Python that did."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {printable(str(message))}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


class _Commands(click.Group):
    """Turn the errors that a user can meet into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        started = perf_counter()
        try:
            with _plain_warnings():
                given = super().invoke(ctx)
            if volume().verbose:
                tell_aside(str, _cost(perf_counter() - started))
            return given
        except FrostlineError as error:
            message, code = in_flags(str(error)), error.exit_code
        except MemoryError:
            message, code = "the machine ran out of memory", CannotContinue.exit_code
        except OSError as error:
            if error.errno == errno.EPIPE:  # who reads has had enough, which click knows
                raise
            reason = system_reason(error)
            message = f"{error.filename}: {reason}" if error.filename else f"the output: {reason}"
            code = CannotContinue.exit_code
        except KeyboardInterrupt as interrupt:
            message, code = str(interrupt) or "interrupted; no output was changed", 130
        look = look_of(sys.stderr)
        begins = click.style("Error:", fg="red") if look is not None and look.colours else "Error:"
        click.echo(f"{begins} {printable(message)}", err=True)
        if code == 130:
            _leave_busy_threads(code)
        return ctx.exit(code)


def in_flags(message: str) -> str:
    """Name parameters as flags, also those of another command than the one at work."""
    parameters = [one for command in main.commands.values() for one in command.params]
    return with_flags(message, parameters)


def _cost(seconds: float) -> str:
    """Say what a command took."""
    said = f"took {seconds:.2f} s"
    try:
        import resource
    except ImportError:  # not on this system
        return said
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{said}, and {size(most * (1 if sys.platform == 'darwin' else 1024))} of memory at most"


def _leave_busy_threads(code: int) -> None:
    """End at once if threads are busy: Python would wait for the batch of a large model."""
    if any(not thread.daemon for thread in threading.enumerate()[1:]):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="frostline")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and the results asked for alone.")
@click.option("-v", "--verbose", is_flag=True, help="Print timings, and what was tried to run it.")
@click.pass_context
def main(context: click.Context, quiet: bool, verbose: bool) -> None:
    """Label tweets with frozen BERT vectors and a head that refits in seconds.

    \b
    frostline extract tweets.csv -o tweets.h5         encode once (stage one)
    frostline compare tweets.h5                       which layer, which pooling?
    frostline fit tweets.h5 -o head.joblib            fit a head (stage two)
    frostline predict head.joblib new.csv -o out.csv  label new tweets
    """  # noqa: D301  # click reads the \b
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other: leave one out")
    context.obj = Volume(quiet, verbose)
