"""Gather all commands: importing this defines them; `main` runs the one that is asked for."""

from pipeline.cli import (
    demo,
    deployment,
    extraction,
    fitting,
    inspection,
    labelling,
    reporting,
    scoring,
)
from pipeline.cli.group import main

__all__ = [
    "demo",
    "deployment",
    "extraction",
    "fitting",
    "inspection",
    "labelling",
    "main",
    "reporting",
    "scoring",
]
