"""How much a command says: with `--quiet`, with `--verbose`, or as it is."""

from __future__ import annotations

from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Volume:
    """What is said beside errors and the results that were asked for."""

    quiet: bool = False
    verbose: bool = False


def volume() -> Volume:
    """Give that of the command at work; the default where none is."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context is not None else None
    return found if isinstance(found, Volume) else Volume()
