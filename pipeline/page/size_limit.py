"""Fit the map into the bytes that a page may have: cut texts first, then leave rows out.

What was cut is said in words that the page shows. Nothing else of the page is made smaller.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.facts.facts import Points
from pipeline.page.map_data import Blocks, pack, some_of
from pipeline.page.words import count

# Characters that texts are cut to before rows are left out: less than the last says little.
_CUTS = (None, 280, 140, 100, 70)
# Rows of the sample that says about how large a page will be; fewer on a map say nothing.
_SAMPLE, _FEWEST = 2000, 200


def fitted(points: Points, most_bytes: int) -> tuple[Blocks | None, list[str]]:
    """Pack as much of the map as fits, and say what was left out.

    Returns
    -------
    blocks : Blocks or None
        None where not even a few rows fit.
    left_out : list of str
        Sentences; empty where all is there.
    """
    rows = len(points.rows)
    for kept, characters in _steps(rows, points.texts is not None):
        # A sample says at once that a step is far too large: packing a million texts takes a while.
        sample = pack(some_of(points, min(kept, _SAMPLE)), characters)
        if sample.n_bytes * 0.7 * kept / max(sample.rows, 1) > most_bytes:
            continue
        blocks = pack(points if kept == rows else some_of(points, kept), characters)
        if blocks.n_bytes <= most_bytes:
            return blocks, _said(points, kept, characters)
    return None, [f"The map of {count(rows)} rows does not fit into this file."] if rows else []


def _steps(rows: int, has_texts: bool) -> Iterator[tuple[int, int | None]]:
    """Give ever smaller maps: how many rows, and how many characters of a text."""
    cuts = _CUTS if has_texts else (None,)
    for characters in cuts:
        yield rows, characters
    kept = rows * 3 // 4
    while kept >= _FEWEST:
        yield kept, cuts[-1]
        kept = kept * 3 // 4


def _said(points: Points, kept: int, characters: int | None) -> list[str]:
    said = []
    if characters is not None and points.texts is not None:
        longer = sum(len(text) > characters for text in points.texts)
        said.append(
            f"Texts on the map are cut after {characters} characters, so that the file stays "
            f"small: {count(longer)} of {count(len(points.texts))} are longer."
        )
    if kept < len(points.rows):
        said.append(
            f"The map shows {count(kept)} of {count(len(points.rows))} rows, drawn at random, so "
            "that the file stays small. The figures are of all rows."
        )
    return said
