"""Write an explanation as one HTML file that works without network. It computes nothing.

All that comes from texts and files passes the template's escaping. The page has no script, and its
content security policy forbids any, and all that would have to be loaded.
"""

from __future__ import annotations

from pathlib import Path

from features.base.shown import printable
from pipeline.explaining.explain import Explanation
from pipeline.page.self_contained import policy, templates

_FOLDER = Path(__file__).parent
# Shades of a word, by its share of the strongest effect; weaker than a step it has none.
_SHADES = 5
# Characters of the tweet that the page holds.
_MOST_CHARACTERS = 10_000


def explanation_page(found: Explanation, head_name: str) -> str:
    """Make the page.

    Parameters
    ----------
    found : Explanation
    head_name : str
        What its head is called.
    """
    css = style_sheet()
    base, parts = found.views.between(found.winner, found.runner_up)
    return (
        templates(_FOLDER, _clean)
        .get_template("explanation.html")
        .render(
            found=found,
            head_name=head_name,
            css=css,
            policy=policy(css),
            pieces=_pieces(found),
            order=found.proba.argsort(kind="stable")[::-1].tolist(),
            base=base,
            parts=list(zip(found.views.names, parts.tolist(), strict=True)),
            difference=float(found.logits[found.winner] - found.logits[found.runner_up]),
        )
    )


def style_sheet() -> str:
    """Give the style of words that are marked by their effect, and of what stands around them."""
    return (_FOLDER / "explanation.css").read_text(encoding="utf-8")


def _clean(text: str) -> str:
    """Escape what can't be shown, or turns the direction of text round.

    Line ends stay, and what is joined in emoji.
    """
    return "".join(c if c in "\n\t\u200c\u200d" else printable(c) for c in text)


def _pieces(found: Explanation) -> list[tuple[str, str, float]]:
    """Cut the text into pieces, each with its class in the style sheet, and its effect."""
    strongest = max((abs(one.effect) for one in found.words), default=0.0)
    pieces, at = [], 0
    for one in found.words:
        pieces.append((found.text[at : one.start], "", 0.0))
        share = abs(one.effect) / strongest if strongest else 0.0
        side = "for" if one.effect > 0 else "against"
        shade = int(share * _SHADES + 0.5)
        pieces.append((found.word(one), f"{side}-{shade}" if shade else "", one.effect))
        at = one.stop
    rest = found.text[at : max(at, _MOST_CHARACTERS)]
    pieces.append((rest + (" …" if at + len(rest) < len(found.text) else ""), "", 0.0))
    return [piece for piece in pieces if piece[0]]
