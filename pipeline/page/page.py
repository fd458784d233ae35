"""Write the report as one HTML file that works without network.

In come the facts as they are in `report.json`, and the points of the map; out goes the page's text.
Everything from files passes the templates' escaping. The page forbids itself, by its content
security policy, to load anything and to run any script but its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import InputError
from pipeline.facts.facts import Points
from pipeline.page import charts, words
from pipeline.page.map_data import Blocks
from pipeline.page.self_contained import policy, templates
from pipeline.page.size_limit import fitted

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_BYTES = 4_000_000
_FOLDER = Path(__file__).parent
# Rows of a list that are there at once; the rest unfolds.
UNFOLDED = 12
_WORST_FIRST = ("problem", "warning", "skipped", "good")


def render_page(
    facts: Mapping[str, Any], points: Points | None, *, max_bytes: int = MAX_BYTES
) -> str:
    """Make the page.

    Parameters
    ----------
    facts : dict
        The content of `report.json`.
    points : Points, optional
        Of the map; without them there is no map.
    max_bytes : int
        Of the page in UTF-8. Where they are too few, texts on the map are cut, then rows are left
        out of it, and the page says so.

    Raises
    ------
    InputError
        The page is too large even without the map.
    """
    page = _template_of(facts)
    if points is None:
        return _checked(page(None, []), max_bytes)
    # What is said of the map comes on top of the page without it.
    around = _size(page(Blocks("", "", len(points.rows)), ["x" * 700]))
    return _checked(page(*fitted(points, max_bytes - around)), max_bytes)


def _template_of(facts: Mapping[str, Any]) -> Callable[[Blocks | None, list[str]], str]:
    """Fill in all but the map and what was left out of it."""
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    js = (_FOLDER / "page.js").read_text(encoding="utf-8")
    fixed = {
        "facts": facts,
        "checks": sorted(facts["checks"], key=lambda one: _WORST_FIRST.index(one["status"])),
        "css": css,
        "js": js,
        "policy": policy(css, js),
    }
    template = _environment().get_template("report.html")

    def page(blocks: Blocks | None, left_out: list[str]) -> str:
        return template.render(fixed, blocks=blocks, left_out_of_map=left_out)

    return page


def _checked(html: str, max_bytes: int) -> str:
    if _size(html) > max_bytes:
        raise InputError(
            f"the report has {_size(html):,} bytes without the map, and {max_bytes:,} are allowed; "
            f"give `max_size={_size(html)}` or more"
        )
    return html


def _size(html: str) -> int:
    return len(html.encode())


def _environment() -> Environment:
    from markupsafe import Markup

    environment = templates(_FOLDER / "templates", words.clean)
    for shown in (
        words.percent,
        words.count,
        words.short,
        words.cut,
        words.figure,
        words.difference,
        words.spoken,
        words.title,
    ):
        environment.filters[shown.__name__] = shown
    # What is HTML already; autoescaping would show its tags.
    environment.filters["with_code"] = lambda text: Markup(words.with_code(text))
    environment.globals |= {"colour": charts.colour, "COLOURS": charts.COLOURS}
    environment.globals["UNFOLDED"] = UNFOLDED
    for draw in (
        charts.lengths,
        charts.choice,
        charts.precision_recall,
        charts.reliability,
        charts.learning_curve,
        charts.differences,
    ):
        environment.globals[f"draw_{draw.__name__}"] = lambda *a, draw=draw: Markup(draw(*a))
    return environment
