"""Cut a tweet into words, and leave one out. Pure.

In comes a raw text, out come the places of its words. A word is what a person would take out of a
tweet in one piece: letters and digits with what stands inside them (`don't`, `well-known`,
`10:30`), a mention, a link, a hashtag, an e-mail address, an entity such as `&amp;`, an emoticon,
an emoji with all that is joined to it, or a run of `!` and `?`. Other punctuation is no word and
stays where it is. Scripts that are written without blanks between words have a word for each
character: to cut them better would take a dictionary.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from features.spec.normalize import AFTER_LINK, LINK, MENTION

# What is one word whatever stands in it. Emoticons stand alone: "10:3" has none.
_WHOLE = re.compile(
    rf"(?P<link>{LINK.pattern})|{MENTION.pattern}"
    r"|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+"
    r"|(?<![\w&])[#＃$]\w+"
    r"|&(?:\#[0-9]{1,7}|\#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});"
    r"|(?<!\S)(?:[<>]?[:;=8x][\-^o']?[()\[\]dp/\\|*3o@s]+|</?3+|\^[_.]*\^|-_+-|>[_.]+<|[to]_+[to])(?!\w)",
    re.IGNORECASE,
)
# Of the kinds that `_kind` gives; marks go with what they follow.
_RUN = re.compile(r"[a0]m*+(?:(?:'|(?<=0),(?=0))?[a0]m*+)*+|hm*+|rr|[sr]m*+(?:js?m*+)*+|!+")
_ESCAPED = re.compile(r"\\u[0-9a-fA-F]{4}")
_WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_KINDS = {
    **dict.fromkeys("'’-", "'"),
    **dict.fromkeys(".,:", ","),
    **dict.fromkeys("!?¡¿‼⁉！？", "!"),
    **dict.fromkeys("🏻🏼🏽🏾🏿\u200c", "m"),
    "\u200d": "j",
    "_": "a",
}


@dataclass(frozen=True)
class Word:
    """A word of a text: ``text[start:stop]``."""

    start: int
    stop: int


def words_of(text: str) -> list[Word]:
    """Find the words of a text, in its order.

    Examples
    --------
    >>> text = "@ana isn't that #great?! 10:30, www.a.org."
    >>> [text[word.start : word.stop] for word in words_of(text)]
    ['@ana', "isn't", 'that', '#great', '?!', '10:30', 'www.a.org']
    """
    kinds = "".join(map(_kind, _ESCAPED.sub("aaaaaa", text)))
    found: list[Word] = []
    at = 0
    for match in _WHOLE.finditer(text):
        found += _runs(kinds, at, match.start())
        at = match.end()
        if match["link"]:
            at = match.start() + len(match["link"].rstrip(AFTER_LINK))
        found.append(Word(match.start(), at))
    return found + _runs(kinds, at, len(text))


def _runs(kinds: str, start: int, stop: int) -> list[Word]:
    return [Word(*match.span()) for match in _RUN.finditer(kinds, start, stop)]


def _kind(character: str) -> str:
    """Give what a character is to a word: a letter, a mark, a part of an emoji, and so on."""
    if known := _KINDS.get(character):
        return known
    category = unicodedata.category(character)
    if category[0] == "M":
        return "m"
    if category == "Nd":
        return "0"
    if character.isalnum():
        name = unicodedata.name(character, "") if category == "Lo" else ""
        return "h" if name.startswith(_WITHOUT_BLANKS) else "a"
    if "🇦" <= character <= "🇿":
        return "r"
    return "s" if category == "So" else " "


def without(text: str, word: Word) -> str:
    """Leave a word out, with the blank that it leaves over.

    Examples
    --------
    >>> text = "not good, at all"
    >>> [without(text, word) for word in words_of(text)]
    ['good, at all', 'not , at all', 'not good, all', 'not good, at']
    """
    before, after = text[: word.start], text[word.stop :]
    if after[:1].isspace() and (not before or before[-1].isspace()):
        return before + after[1:]
    if not after and before[-1:].isspace():
        return before[:-1]
    return before + after
