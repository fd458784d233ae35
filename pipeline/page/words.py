"""Write figures and text for readers of the page. Text from files is made harmless, not changed."""

from __future__ import annotations

import re
from html import escape

# What HTML can't hold or show: lone surrogates, NUL and other control characters but tab and line
# feed. Joiners and marks of direction stay, as emoji and right-to-left text need them; the style
# sheet keeps their effect within their own box.
_NO_TEXT = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Characters of a text that a list shows: a tweet has 280, but any text may be in a row.
MOST_LISTED = 600


def clean(text: str) -> str:
    r"""Write control characters as their numbers, so that they can be seen and do nothing.

    Examples
    --------
    >>> clean("a\x1b[31m")
    'a\\u001b[31m'
    """
    text = text.replace("\r\n", "\n")
    return _NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escaped(text: object) -> str:
    """Write text into an attribute or between tags."""
    return escape(clean(str(text)))


def with_code(text: str) -> str:
    """Write a text as HTML, with what stands between backticks as code.

    Examples
    --------
    >>> with_code("give `--C` < 1")
    'give <code>--C</code> &lt; 1'
    """
    return re.sub("`([^`]+)`", r"<code>\1</code>", escaped(text))


def cut(text: str, most: int = MOST_LISTED) -> str:
    """Give a text, or its beginning and how long it is.

    Examples
    --------
    >>> cut("good morning", 4)
    'good… [12 characters]'
    """
    return text if len(text) <= most else f"{text[:most]}… [{len(text):,} characters]"


def percent(value: float, digits: int = 1) -> str:
    """Write a share in percent.

    Examples
    --------
    >>> percent(0.7126), percent(0.5, 0)
    ('71.3%', '50%')
    """
    return f"{100 * value:.{digits}f}%"


def points(value: float) -> str:
    """Write a difference of two shares, with its sign.

    Examples
    --------
    >>> points(0.0123), points(-0.002)
    ('+1.2', '−0.2')
    """
    return signed(100 * value, 1)


def signed(value: float, digits: int) -> str:
    """Write a number with its sign, a minus as long as the plus is wide; zero has none.

    Examples
    --------
    >>> signed(-0.0001, 2), signed(-0.5, 1)
    ('0.00', '−0.5')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\u2212")


def count(value: float) -> str:
    """Write a whole number.

    Examples
    --------
    >>> count(45616)
    '45,616'
    """
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Write a number with three figures at most.

    Examples
    --------
    >>> short(0.00316), short(10.0), short(0.1)
    ('0.00316', '10', '0.1')
    """
    return f"{value:.3g}"


def is_share(metric: str) -> bool:
    """Say whether a metric is a share of something, and so is shown in percent."""
    return "loss" not in metric and "brier" not in metric


def figure(value: float, metric: str) -> str:
    """Write a metric's value: in percent where it is a share.

    Examples
    --------
    >>> figure(0.7126, "macro-recall"), figure(0.71264, "log_loss")
    ('71.3%', '0.713')
    """
    return percent(value) if is_share(metric) else f"{value:.3f}"


def difference(value: float, metric: str) -> str:
    """Write a difference of a metric: in points where it is a share.

    Examples
    --------
    >>> difference(0.0123, "macro-recall"), difference(-0.0123, "log-loss")
    ('+1.2 points', '−0.012')
    """
    return f"{points(value)} points" if is_share(metric) else signed(value, 3)


def spoken(name: str) -> str:
    """Write the name of a metric as it is within a sentence.

    Examples
    --------
    >>> spoken("macro_f1"), spoken("log-loss")
    ('macro F1', 'log loss')
    """
    return name.replace("_", " ").replace("-", " ").replace("f1", "F1")


def title(name: str) -> str:
    """Write the name of a metric, or of another fact, as a reader would.

    Examples
    --------
    >>> title("macro_f1"), title("log-loss")
    ('Macro F1', 'Log loss')
    """
    words = spoken(name)
    return words[:1].upper() + words[1:]
