r"""Write the normaliser of an encoder down for tokenizers that run elsewhere.

In comes the name of a normaliser (`features/spec/normalize.py`), out come steps for the
`normalizer` of a tokenizer.json, which `tokenizers` and transformers.js run on raw texts. The steps
do all of `tweeteval/1` but three things that such steps can't: HTML entities beyond the five of
XML, literal `\uXXXX` escapes, and the cut at 10,000 characters. For these, `prepare` is written
beside the tokenizer, in Python and in JavaScript: what it gives of a text, the steps turn into what
the normaliser gives of it.
"""

from __future__ import annotations

import html
import inspect
import json
from html.entities import html5
from importlib.resources import files
from pathlib import Path
from typing import Any

from features.spec import unescape
from features.spec.normalize import AFTER_LINK

# What stands in `prepare.js` for the tables that Python's html module has.
_NAMED = "/* names of HTML's entities, and their characters */ {}"
_ODD = "/* numbers that HTML reads as something else */ {}"
_PREPARE = '''

def prepare(text: str) -> str:
    """Give a text of which the tokenizer beside this file makes what frostline makes of `text`."""
    return unescape(text).replace("&", "&amp;")
'''

# The regular expressions below mean the same to Oniguruma and to JavaScript: no flags, no
# possessive repetition, and no classes such as \s and \w, which differ.
# What Python's \s is, in a class.
_BLANK = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_STOP = _BLANK + '<>"“”'
_AFTER = AFTER_LINK.replace("]", r"\]")
# The rest of a link, up to the last character that is no punctuation behind it.
_REST = f"(?:[^{_STOP}]*[^{_STOP}{_AFTER}])?"
_LINK = (
    f"[hH][tT][tT][pP][sSſ]?://{_REST}"
    rf"|(?<![\p{{L}}\p{{N}}_@./-])(?:"
    rf"[wW][wW][wW](?=\.[^{_STOP}])(?:\.[^{_STOP}]*[^{_STOP}{_AFTER}])?"
    rf"|(?:[pP][iIİı][cC]\.[tT][wW][iIİı][tT][tT][eE][rR]\.[cC][oO][mM]|[tT]\.[cC][oO])"
    rf"/(?=[^{_STOP}]){_REST})"
)
_MENTION = (
    "(?<![A-Za-z0-9_@À-ɏ])[@＠]"
    "(?![0-9]+(?:k|m|bn|x|st|nd|rd|th|am|pm|a|p|h|hrs?|min|usd|eur|gbp|ish)?(?![A-Za-z0-9_]))"
    "[A-Za-z0-9_]+(?![A-Za-z0-9_@À-ɏ\u0300-\u036f])"
)
# The one that gives a "&" comes last, so that each is undone once.
_ENTITIES = {
    "<": "&(?:lt|LT|#0{0,5}60|#[xX]0{0,4}3[cC]);",
    ">": "&(?:gt|GT|#0{0,5}62|#[xX]0{0,4}3[eE]);",
    '"': "&(?:quot|QUOT|#0{0,5}34|#[xX]0{0,4}22);",
    "'": "&(?:apos|#0{0,5}39|#[xX]0{0,4}27);",
    "&": "&(?:amp|AMP|#0{0,5}38|#[xX]0{0,4}26);",
}


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def steps(normalizer: str, prefix: str) -> list[dict[str, Any]]:
    """Give the steps of a tokenizer.json that come before the tokenizer's own normaliser.

    Parameters
    ----------
    normalizer : str
        Versioned name.
    prefix : str
        What the encoder puts before each text.
    """
    found = list(_STEPS[normalizer])
    return [*found, {"type": "Prepend", "prepend": prefix}] if prefix else found


_STEPS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "tweeteval/1": [
        *(_replace(pattern, character) for character, pattern in _ENTITIES.items()),
        {"type": "NFC"},
        _replace(_LINK, "http"),
        _replace(_MENTION, "@user"),
    ],
}


def write_prepare(normalizer: str, folder: Path) -> None:
    """Write `prepare.py` and `prepare.js`, where the steps leave something to them."""
    if not _STEPS[normalizer]:
        return
    (folder / "prepare.py").write_text(inspect.getsource(unescape) + _PREPARE, encoding="utf-8")
    template = (files("pipeline") / "export" / "prepare.js").read_text(encoding="utf-8")
    named = {name[:-1]: characters for name, characters in html5.items() if name.endswith(";")}
    # Beyond these, HTML's rule for numbers is in the template.
    odd = {n: html.unescape(f"&#{n};") for n in range(0xA0) if html.unescape(f"&#{n};") != chr(n)}
    filled = template.replace(_NAMED, json.dumps(named)).replace(_ODD, json.dumps(odd))
    (folder / "prepare.js").write_text(filled, encoding="utf-8")
