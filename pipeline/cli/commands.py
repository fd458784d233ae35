"""Gather all commands: importing this defines them; `main` runs the one that is asked for."""

from pipeline.cli import (
    deployment,
    extraction,
    fitting,
    inspection,
    labelling,
    reporting,
    scoring,
    start,
)
from pipeline.cli.group import main

__all__ = [
    "deployment",
    "extraction",
    "fitting",
    "inspection",
    "labelling",
    "main",
    "reporting",
    "scoring",
    "start",
]
