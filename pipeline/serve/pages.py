"""Make the two pages of a server: one to try it, and one that describes its routes.

Neither needs anything from outside: style and script are in them, and the policy that goes with
them names both by their hashes and lets the page ask its own server alone. What comes from texts
is put into the first one as text by its script, and what is in the second one comes from names of
heads, and passes the template's escaping.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from features.base.shown import printable
from pipeline.explaining.page import style_sheet
from pipeline.page.self_contained import policy, templates

_FOLDER = Path(__file__).parent / "templates"


def trial_page() -> tuple[str, str]:
    """Give the page to try heads on, and its content security policy."""
    css, js = style_sheet() + _read("trial.css"), _read("trial.js")
    page = templates(_FOLDER, printable).get_template("trial.html").render(css=css, js=js)
    return page, f"{policy(css, js)}; connect-src 'self'; frame-ancestors 'none'"


def routes_page(description: dict[str, Any]) -> tuple[str, str]:
    """Give the page of the routes, from their description in OpenAPI, and its policy."""
    css = style_sheet() + _read("trial.css")
    routes = [
        (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post")
    ]
    schemas = {
        name: json.dumps(schema, indent=2, ensure_ascii=False)
        for name, schema in description["components"]["schemas"].items()
    }
    page = (
        templates(_FOLDER, lambda text: "\n".join(map(printable, text.split("\n"))))
        .get_template("routes.html")
        .render(css=css, routes=routes, schemas=schemas, version=description["info"]["version"])
    )
    return page, f"{policy(css)}; frame-ancestors 'none'"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
