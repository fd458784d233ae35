"""Count the scripts of texts, such as Latin or Arabic, which tell of languages. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from pipeline.facts.facts import Script

# Letters of a text that are looked at.
_LETTERS = 40
NONE = "none"


def scripts_of(texts: Iterable[str]) -> tuple[Script, ...]:
    """Count texts by the script that most of their first letters are of, the most frequent first.

    Examples
    --------
    >>> [(one.name, one.rows) for one in scripts_of(["hello", "мир, world", "мир", "123", "hi"])]
    [('Latin', 3), ('Cyrillic', 1), ('none', 1)]
    """
    counts = Counter(map(_of_text, texts))
    return tuple(Script(name, rows) for name, rows in counts.most_common())


def _of_text(text: str) -> str:
    letters = [c for c in text[: 10 * _LETTERS] if c.isalpha()][:_LETTERS]
    found = Counter(map(_of_letter, letters))
    return found.most_common(1)[0][0] if found else NONE


@lru_cache(maxsize=2**16)
def _of_letter(letter: str) -> str:
    """Give the first word of a letter's name in Unicode, which is its script."""
    name = unicodedata.name(letter, "")
    return name.split()[0].split("-")[0].title().replace("Cjk", "CJK") if name else NONE
