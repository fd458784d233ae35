"""Make templates and the content security policy of pages that need nothing from outside.

In come a folder of templates, and what a page has of style and script. It knows no page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def templates(folder: Path, clean: Callable[[str], str]) -> Environment:
    """Read templates that escape all they are given, after `clean` has made it harmless."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )


def policy(css: str, js: str | None = None) -> str:
    """Forbid a page all but this style sheet and this script, if it has one."""
    script = "" if js is None else f"script-src '{_hash(js)}'; "
    return (
        f"default-src 'none'; {script}style-src '{_hash(css)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
