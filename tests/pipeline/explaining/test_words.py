import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.spec.normalize import tweeteval_1
from pipeline.explaining.words import without, words_of


def cut(text):
    return [text[word.start : word.stop] for word in words_of(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("so happy, for you!", ["so", "happy", "for", "you", "!"]),
        ("don’t isn't rock'n'roll", ["don’t", "isn't", "rock'n'roll"]),
        ("a well-known 'quoted' word-", ["a", "well-known", "quoted", "word"]),
        ("10:30 3,000.50 50% 1.", ["10:30", "3,000.50", "50", "1"]),
        ("@ana_b: #fail $AAPL #1", ["@ana_b", "#fail", "$AAPL", "#1"]),
        ("see https://t.co/x1. (www.a.org)", ["see", "https://t.co/x1", "www.a.org"]),
        ("mail a.b@c.org now", ["mail", "a.b@c.org", "now"]),
        ("this &amp; that &lt;3", ["this", "&amp;", "that", "&lt;", "3"]),
        (r"I\u2019m in", [r"I\u2019m", "in"]),
        ("yes :) no :-( <3 ^_^ x", ["yes", ":)", "no", ":-(", "<3", "^_^", "x"]),
        ("what?! no!!!", ["what", "?!", "no", "!!!"]),
        ("👯‍♀️💪🏾 ❤️‍🩹 🇩🇪🇫🇷 🎉🎉", ["👯‍♀️", "💪🏾", "❤️‍🩹", "🇩🇪", "🇫🇷", "🎉", "🎉"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("残業三日目。", ["残", "業", "三", "日", "目"]),
        ("한국어 좋아요", ["한국어", "좋아요"]),
        ("وصلت القهوة", ["وصلت", "القهوة"]),
        ("", []),
        (" \n\t … ... -- ---- ::: ", []),
        ("<script>alert(1)</script>", ["script", "alert", "1", "script"]),
    ],
)
def test_words_of_tweets(text, words):
    assert cut(text) == words


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("not good, at all", ["good, at all", "not , at all", "not good, all", "not good, at"]),
        ("so\nsad", ["sad", "so"]),
        ("(so)", ["()"]),
        ("happy", [""]),
        (" a ", [" "]),
        ("🎉🎉", ["🎉", "🎉"]),
    ],
)
def test_a_word_goes_with_the_blank_that_it_leaves_over(text, left):
    assert [without(text, word) for word in words_of(text)] == left


def test_a_mention_and_a_link_are_what_the_normaliser_takes_for_one():
    text = "@ana_b look at https://t.co/x1, mate"
    assert tweeteval_1(without(text, words_of(text)[0])) == "look at http, mate"
    assert tweeteval_1(without(text, words_of(text)[3])) == "@user look at , mate"


@given(st.text(max_size=60))
def test_words_are_in_order_and_hold_all_letters(text):
    words = words_of(text)
    ends = [0, *(end for word in words for end in (word.start, word.stop)), len(text)]
    assert ends == sorted(ends)
    assert all(word.start < word.stop for word in words)
    between = [text[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True)]
    assert not any(c.isalnum() for c in "".join(between))
    for word in words:
        left = without(text, word)
        assert len(text) - len(left) - (word.stop - word.start) in (0, 1)
        assert not text[word.start : word.stop].isspace()


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("a\u0301", 1),
        ("a@", None),
        ("a.", 50_000),
        ("-", 0),
        ("^_", None),
        ("\u200d", 0),
        ("1,", 1),
    ],
)
def test_texts_that_go_on_are_cut_in_one_go(unit, words):
    """Regular expressions that look back would take minutes on these."""
    found = words_of(unit * 50_000)
    assert words is None or len(found) == words


def test_ten_thousand_marks_stay_with_their_letter():
    text = "a" + "\u0301" * 10_000 + " b"
    assert [len(word) for word in cut(text)] == [10_001, 1]
    assert unicodedata.category(text[1]) == "Mn"
