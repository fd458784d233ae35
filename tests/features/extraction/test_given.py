"""Texts that were encoded elsewhere: their vectors are taken over bit by bit."""

import csv

import numpy as np
import pytest

from features import FeatureStore, FrozenEncoder
from features.extraction.encoding import GivenTexts
from features.extraction.output import Request
from features.extraction.run import Told, run
from features.extraction.timing import no_seconds
from features.spec.normalize import normalizer
from features.spec.vector_spec import VectorSpec
from features.store.format import text_digest
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog

TEXTS = ["so happy", "the bus is late", "ok", "so happy", "coffee first", "not bad at all"]
VIEWS = ["cls", "mean"]


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return FrozenEncoder(tiny_model("bert"), pooling=VIEWS, dtype="float32")


class Known:
    """Vectors that no encoder makes, to be told from those that one does."""

    def __init__(self, encoder, texts, value):
        self.encoder, self.value = encoder, value
        normalise = normalizer(encoder.spec.normalizer)
        self.digests = {text_digest(normalise(text)) for text in texts}

    def find(self, digests):
        known = [digest for digest in digests if digest in self.digests]
        if not known:
            return None
        vectors = {
            view: np.full((len(known), width), self.value, np.float16)
            for view, width in self.encoder.views.items()
        }
        return GivenTexts(known, [77] * len(known), [True] * len(known), vectors)


def run_with(encoder, folder, given, **options):
    table = folder / "tweets.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    output = folder / "tweets.h5"
    vectors = VectorSpec(encoder.spec, dict.fromkeys(VIEWS, 0), "float32", "float16")
    request = Request(output, vectors, "float32", [table.name], None, False)
    done = run(
        TweetReader([str(table)]),
        request,
        RejectLog(output, strict=False, allowed=True),
        lambda target: encoder,
        told=Told(),
        seconds=no_seconds(),
        given=given,
        **options,
    )
    return done, output


@pytest.mark.parametrize("window_rows", [2, 100])
def test_given_texts_are_not_encoded(encoder, tmp_path, window_rows):
    given = Known(encoder, ["so happy", "ok"], 0.25)
    done, output = run_with(encoder, tmp_path, given, window_rows=window_rows)
    assert (done.encoding.encoded, done.unique) == (3, 5)
    with FeatureStore(output) as store:
        for view in VIEWS:
            taken = (store.read(view) == 0.25).all(axis=1)
            assert taken.tolist() == [True, False, True, True, False, False]
        assert (store.n_tokens() == 77).tolist() == taken.tolist()
        assert (store.flags() == 1).tolist() == taken.tolist()


def test_all_texts_may_be_given(encoder, tmp_path):
    done, output = run_with(encoder, tmp_path, Known(encoder, TEXTS, 0.5))
    assert done.encoding.encoded == done.encoding.tokens == 0
    with FeatureStore(output) as store:
        assert (store.read("mean") == 0.5).all() and store.n_rows == len(TEXTS)


def test_given_vectors_that_are_not_finite_make_rejects(encoder, tmp_path):
    _, output = run_with(encoder, tmp_path, Known(encoder, ["so happy"], np.nan))
    with FeatureStore(output) as store:
        assert store.ids() == ["1", "2", "4", "5"]
    rejects = (tmp_path / "tweets.h5.rejects.jsonl").read_text().splitlines()
    assert len(rejects) == 2 and "not finite" in rejects[0]
