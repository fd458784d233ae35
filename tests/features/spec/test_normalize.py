import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.spec.normalize import CURRENT, NORMALIZERS, normalizer, tweeteval_1, versioned_name

MENTIONS = [
    ("@ana_b hi", "@user hi"),
    (".@name look", ".@user look"),
    ("RT @name: hi", "RT @user: hi"),
    ("(@name) '@name'", "(@user) '@user'"),
    ("@a @b @c", "@user @user @user"),
    ("＠name full width", "@user full width"),
    ("@NAME's", "@user's"),
    ("@50cent @3dprint @7pm_club", "@user @user @user"),
    ("こんにちは@nameさん", "こんにちは@userさん"),
    ("私は@name", "私は@user"),
]
NO_MENTIONS = [
    "mail a@b.org or first.last+tag@sub.example.co.uk",
    "@5",
    "@10k",
    "@7pm",
    "tickets @5, @10k and @7pm!",
    "lunch @12 and @1st",
    "@José",
    "a@b@c",
    "@",
    "@ name",
    "@名前",
]
LINKS = [
    ("see https://t.co/x1.", "see http."),
    ("see http://t.co/x1, then", "see http, then"),
    ("(https://t.co/x1)", "(http)"),
    ("“https://t.co/x1”", "“http”"),
    ('"https://t.co/x1"!', '"http"!'),
    ("<https://t.co/x1>", "<http>"),
    ("HTTPS://X.ORG/y?a=1&b=2#c wow!", "http wow!"),
    ("really?! https://t.co/x1?!…", "really?! http?!…"),
    ("https://t.co/a https://t.co/b", "http http"),
    ("https://a.org/@name", "http"),
    ("www.example.org/a, ok", "http, ok"),
    ("WWW.EXAMPLE.ORG", "http"),
    ("look…pic.twitter.com/abc", "look…http"),
    ("t.co/abc", "http"),
]
NO_LINKS = ["awww.cute", "www. what", "pic.twitter.com", "at.co/x", "http", "a@www.b.org"]
ENTITIES = [
    ("I &lt;3 it", "I <3 it"),
    ("AT&amp;T", "AT&T"),
    ("&#39;quoted&#39; &#x2019;", "'quoted' ’"),
    ("&#128512;", "😀"),
    ("&quot;a&quot;&nbsp;b", '"a"\xa0b'),
    ("&amp;lt;", "&lt;"),
    ("https://x.org/?a=1&amp;b=2 ok", "http ok"),
    ("&lt;https://x.org&gt;", "<http>"),
]
NO_ENTITIES = ["AT&T", "?a=1&copy=2", "&lt 3", "Q&A;", "&nosuch;", "& amp;", "fish &chips"]
ESCAPES = [
    (r"I\u2019m", "I’m"),
    (r"caf\u00e9 \u00E9", "café é"),
    (r"\ud83d\ude00\uD83D\uDE00", "😀😀"),
    (r"\u0026lt;3", "<3"),
    (r"\u0040name", "@user"),
    (r"e\u0301", "é"),
]
NO_ESCAPES = [
    r"\ud83d",
    r"\ude00",
    r"\ude00\ud83d",
    r"\ud83d x \ude00",
    r"\u0000\u000a",
    r"C:\users\u12",
    r"\x41",
]
UNICODE = [
    ("", ""),
    ("cafe\u0301", "café"),
    ("\u1112\u1161\u11ab", "한"),
    ("\u212b", "Å"),
    ("👩‍👩‍👧 ❤️", "👩‍👩‍👧 ❤️"),
    ("  two  spaces\n\tkept  ", "  two  spaces\n\tkept  "),
]
OTHER_UNCHANGED = ["$AAPL to 200", "#tag #日本", "LOUD and quiet", "<b>", "日本語の文"]


@pytest.mark.parametrize(("raw", "expected"), MENTIONS + LINKS + ENTITIES + ESCAPES + UNICODE)
def test_rewrites(raw, expected):
    assert tweeteval_1(raw) == expected


@pytest.mark.parametrize("raw", NO_MENTIONS + NO_LINKS + NO_ENTITIES + NO_ESCAPES + OTHER_UNCHANGED)
def test_leaves_alone(raw):
    assert tweeteval_1(raw) == raw


# Text of the pieces that the rules look for, so that they meet in every order.
PIECES = r"""@ ＠ a Z _ 5 k . / : é の < " & ; # http:// HTTPS:// www. t.co/ pic.twitter.com/ &amp;
    &#39 &lt; @user \u2019 \ud83d \ude00 \u 😀 user x.org"""
pieces = st.sampled_from([*PIECES.split(), "e\u0301", " ", "\n"])
tweets = st.one_of(st.text(), st.lists(pieces, max_size=30).map("".join))
checked = settings(max_examples=300, deadline=None, derandomize=True)


@checked
@given(tweets)
@example("http://http://a")
@example("httphttp://s://x")
@example("&#104;ttp://x.org")
@example(r"\u0068ttp://x.org")
@example("https:\u2028//")
def test_leaves_composed_text_without_links(raw):
    text = tweeteval_1(raw)
    assert unicodedata.is_normalized("NFC", text)
    assert not re.search(r"https?://", text, re.IGNORECASE)


@pytest.mark.parametrize("mark", ["\u030c", "\u030f", "\u0323"])
def test_a_mark_behind_a_handle_leaves_composed_text(mark):
    assert unicodedata.is_normalized("NFC", tweeteval_1(f"@x{mark} hi"))


@checked
@given(tweets)
def test_none_changes_nothing(raw):
    assert normalizer("none")(raw) == raw


# Each of these makes a regular expression that backtracks run for hours.
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("@" * 10**6, id="at-signs"),
        pytest.param("@" + "5" * 10**6, id="digits"),
        pytest.param("@a" * 5 * 10**5, id="handles"),
        pytest.param("&amp;" * 2 * 10**5, id="entities"),
        pytest.param("&" * 10**6, id="ampersands"),
        pytest.param("&#" + "1" * 10**6, id="long-entity"),
        pytest.param("http://" * 10**5, id="links"),
        pytest.param("http://" + "." * 10**6, id="dots-in-a-link"),
        pytest.param("www." * 2 * 10**5, id="www"),
        pytest.param(r"\ud83d" * 10**5, id="half-pairs"),
        pytest.param(r"\u" * 5 * 10**5, id="escapes"),
    ],
)
def test_large_input_of_one_kind_is_done(raw):
    text = tweeteval_1(raw)
    assert unicodedata.is_normalized("NFC", text)
    assert len(text) <= len(raw) * 3  # `@a` becomes `@user`


@pytest.mark.parametrize(
    ("asked", "name"), [*CURRENT.items(), *((name, name) for name in NORMALIZERS)]
)
def test_short_names_become_versioned_ones(asked, name):
    assert versioned_name(asked) == name
    assert normalizer(asked) is NORMALIZERS[name]


@pytest.mark.parametrize("name", ["", "tweeteval/2", "TweetEval", "nfc"])
def test_an_unknown_name_says_what_there_is(name):
    with pytest.raises(InputError, match=r"choose one of tweeteval, none"):
        versioned_name(name)


@settings(max_examples=50)
@given(
    st.text(
        "ae\u0301\u0316\u0f73\u0334\u0345\u0344\uac00\u1100\u1161\u11a8éΐ\u05b0\u05b1 ", min_size=1
    ),
    st.integers(300, 900),
)
def test_long_runs_of_marks_are_composed_as_unicodedata_does(some, length):
    text = (some * length)[:length]
    assert tweeteval_1(text) == unicodedata.normalize("NFC", text)
