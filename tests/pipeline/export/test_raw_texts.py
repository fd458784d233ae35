"""What `prepare` and the steps in a tokenizer.json make of a text is what the normaliser makes."""

import json
import unicodedata

import pytest
import tokenizers
from exports import PIECES
from hypothesis import given, settings
from hypothesis import strategies as st

from features.spec.normalize import NORMALIZERS, tweeteval_1
from pipeline.export.raw_texts import steps, write_prepare

# Characters that no version of Python or of a tokenizer takes for something else.
SETTLED = st.characters(
    codec="utf-8", exclude_categories=("Cn", "Cs", "Co"), max_codepoint=0xFFFF
).filter(lambda c: unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c))
HOSTILE = st.lists(st.one_of(st.sampled_from(PIECES), SETTLED), max_size=20).map("".join)


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepare")
    write_prepare("tweeteval/1", folder)
    scope = {"__name__": "prepare"}
    exec((folder / "prepare.py").read_text(encoding="utf-8"), scope)
    return scope["prepare"]


def read_by_a_tokenizer(normalizer, text):
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))
    content = json.loads(plain.to_str())
    content["normalizer"] = {"type": "Sequence", "normalizers": steps(normalizer, "")}
    return tokenizers.Tokenizer.from_str(json.dumps(content)).normalizer.normalize_str(text)


@given(text=HOSTILE)
@settings(max_examples=200)
def test_a_prepared_text_is_read_as_the_normaliser_reads_it(text, prepare):
    assert read_by_a_tokenizer("tweeteval/1", prepare(text)) == tweeteval_1(text)


@given(text=HOSTILE)
@settings(max_examples=100)
def test_a_raw_text_is_too_where_it_has_no_escapes_and_no_rare_entities(text):
    raw = text.replace("\\", "/")
    for entity in ("&hellip;", "&#8217;", "&#0;", "&#x110000;", "&#1;", "&num;", "&semi;"):
        raw = raw.replace(entity, "")
    if "&#" in raw.replace("&#39;", "").replace("&#x27;", ""):
        return  # one came together from others
    assert read_by_a_tokenizer("tweeteval/1", raw) == tweeteval_1(raw)


def test_more_characters_than_are_read(prepare):
    for text in ("e" + "\u0301" * 12_000, "&amp;" * 3_000, "😀 " * 6_000):
        assert read_by_a_tokenizer("tweeteval/1", prepare(text)) == tweeteval_1(text)


def test_every_normaliser_has_its_steps(tmp_path):
    for name in NORMALIZERS:
        steps(name, "query: ")
    write_prepare("none", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert read_by_a_tokenizer("none", "@a &amp; https://b.c") == "@a &amp; https://b.c"
