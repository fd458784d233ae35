"""Gather all commands: importing this defines them; `main` runs the one that is asked for."""

from pipeline.cli import extraction, fitting, inspection, labelling, scoring
from pipeline.cli.group import main

__all__ = ["extraction", "fitting", "inspection", "labelling", "main", "scoring"]
