"""Texts of many requests in batches: right answers, turns, faults, limits; with a tiny encoder."""

import asyncio
import threading
import time

import numpy as np
import pytest
from serving import made_head

from features.errors import CannotContinue, InputError
from pipeline.scoring.predict import encode_for, encoders_of
from pipeline.serve.scorer.heads import gathered
from pipeline.serve.scorer.job import Abandoned, TextFailed
from pipeline.serve.scorer.scorer import QueueFull, Scorer, TooLong

WORDS = ("the", "bus", "is", "late", "again", "and", "i", "am", "done", "waiting", "in", "rain")


def texts_of(n, seed=0):
    """Texts of 0 to 30 words, some of them twice."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 30))) for _ in range(n)]


class Encoder:
    """An encoder that does what it does, and fails or waits where a test says so."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.batches, self.ids, self.poison, self.gate = [], [], None, threading.Event()
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def run(self, tokens):
        self.gate.wait(10)
        self.batches.append(len(tokens.ids))
        self.ids.append([ids.tolist() for ids in tokens.ids])
        if self.poison is not None and any(self.poison in ids for ids in tokens.ids):
            raise RuntimeError("no memory for [these] texts")
        return self._encoder.run(tokens)


@pytest.fixture(scope="module")
def heads(tiny_model):
    """Two heads of one encoder, and one of two encoders; by name."""
    bert, other = tiny_model("bert"), tiny_model("roberta")
    a, b = (made_head(bert, {"mean": 32, "cls": 32}, seed=n) for n in range(2))
    first, second = made_head(bert, {"cls": 32}, seed=3), made_head(other, {"mean": 32}, seed=4)
    both = type(first)(
        first.labels,
        np.hstack([first.coef, second.coef]),
        first.intercept,
        (*first.sources, *second.sources),
        first.metadata,
    )
    return {"a": a, "b": b, "both": both}


@pytest.fixture(scope="module")
def encoders(heads, tiny_model):
    found = gathered(list(heads.items()))
    return encoders_of(found.encoders, models=[tiny_model("bert"), tiny_model("roberta")])


@pytest.fixture
def scorer(heads, encoders):
    found = Scorer(
        gathered(list(heads.items())), [Encoder(one) for one in encoders], max_queue=2000
    )
    yield found
    found.close()


def batch_of(encoder, text):
    """Which of the batches that were run had a text; by when its request ends, more may have."""
    (wanted,) = encoder.tokenize([text]).ids
    (found,) = (n for n, ids in enumerate(encoder.ids) if wanted.tolist() in ids)
    return found


def ids_of(scorer, word):
    """The token that only this word has."""
    (with_it,) = scorer.encoders[0].tokenize([word]).ids
    return next(token for token in with_it[1:-1].tolist())


def score(scorer, texts, names=("a",), **how):
    return scorer.score(texts, [scorer.heads.by_name[name] for name in names], **how)


def test_many_requests_get_what_each_head_says_of_its_texts(scorer, heads, encoders):
    requests = [texts_of(n, seed=n) for n in (1, 2, 40, 1, 7, 300, 1, 25)]

    async def all_at_once():
        return await asyncio.gather(*(score(scorer, r, ("a", "b", "both")) for r in requests))

    for texts, answer in zip(requests, asyncio.run(all_at_once()), strict=True):
        for name, head in heads.items():
            wanted = head.predict_proba(encode_for(head, texts, encoders))
            np.testing.assert_allclose(answer.proba(name), wanted, atol=2e-6)
        assert answer.empty == [n for n, text in enumerate(texts) if not text]
    # The texts of several requests were in one batch.
    assert len(scorer.encoders[0].batches) < sum(map(len, requests)) / 2
    assert scorer.waiting == 0


def test_identical_texts_are_run_once(scorer):
    async def all_at_once():
        return await asyncio.gather(*(score(scorer, ["so late", "late"]) for _ in range(20)))

    scorer.encoders[0].gate.clear()
    threading.Timer(0.3, scorer.encoders[0].gate.set).start()
    answers = asyncio.run(all_at_once())
    assert len({answer.proba("a").tobytes() for answer in answers}) == 1
    assert sum(scorer.encoders[0].batches) <= 4


def test_a_text_that_fails_takes_no_other_with_it(scorer, heads, encoders):
    scorer.encoders[0].poison = ids_of(scorer, "rain")
    good = [[text for text in texts_of(20, seed=n) if "rain" not in text] for n in range(6)]

    async def all_at_once():
        requests = [*good[:3], ["the bus", "late", "in the rain"], *good[3:]]
        return await asyncio.gather(
            *(score(scorer, texts) for texts in requests), return_exceptions=True
        )

    answers = asyncio.run(all_at_once())
    failed = answers.pop(3)
    assert isinstance(failed, TextFailed)
    assert failed.number == 2
    for texts, answer in zip(good, answers, strict=True):
        wanted = heads["a"].predict_proba(encode_for(heads["a"], texts, encoders))
        np.testing.assert_allclose(answer.proba("a"), wanted, atol=2e-6)
    assert scorer.waiting == 0


def test_a_small_request_does_not_wait_for_a_large_one(scorer):
    ended = []

    async def named(name, texts):
        await score(scorer, texts)
        ended.append(name)

    async def one_after_another():
        large = asyncio.create_task(named("large", texts_of(1500, seed=5)))
        while not scorer.encoders[0].batches:
            await asyncio.sleep(0)
        await asyncio.gather(large, *(named("small", ["so late"]) for _ in range(5)))

    asyncio.run(one_after_another())
    assert ended[-1] == "large"


def test_a_small_request_does_not_wait_for_a_large_one_of_the_same_text(scorer):
    encoder, lane = scorer.encoders[0], scorer._lanes[0]

    async def both():
        encoder.gate.clear()
        large = asyncio.create_task(score(scorer, [*texts_of(1500, seed=5), "the same"]))
        while ("the same", False) not in lane._known:
            await asyncio.sleep(0.001)
        small = asyncio.create_task(score(scorer, ["the same"]))
        while len(lane._known["the same", False].waiting) < 2:
            await asyncio.sleep(0.001)
        encoder.gate.set()
        await asyncio.gather(small, large)

    asyncio.run(both())
    # What was in the model already, and its own.
    assert batch_of(encoder, "the same") < 3 * encoder.choice.streams < len(encoder.batches)


def test_a_new_request_has_its_turn_before_those_that_had_theirs(scorer):
    encoder, lane = scorer.encoders[0], scorer._lanes[0]

    async def one_among_many():
        many = [asyncio.create_task(score(scorer, texts_of(200, seed=n))) for n in range(9)]
        while len(encoder.batches) < 9:  # of forty or so
            await asyncio.sleep(0)
        encoder.gate.clear()
        one = asyncio.create_task(score(scorer, ["something new"]))
        while ("something new", False) not in lane._known:
            await asyncio.sleep(0.001)
        before = len(encoder.batches)
        encoder.gate.set()
        await asyncio.gather(one, *many)
        return before

    before = asyncio.run(one_among_many())
    run = batch_of(encoder, "something new") + 1 - before
    # What was in the model, those that had less than their share, and its own.
    assert run <= 7 * encoder.choice.streams < len(encoder.batches) - before


def test_what_nobody_waits_for_is_not_run(scorer):
    scorer.encoders[0].gate.clear()

    async def abandoned():
        first = asyncio.create_task(score(scorer, ["a"]))
        while not any(text.taken for text in scorer._lanes[0]._known.values()):
            await asyncio.sleep(0.01)
        given_up = asyncio.create_task(score(scorer, texts_of(500, seed=6)))
        gone = asyncio.create_task(score(scorer, texts_of(500, seed=7), is_gone=lambda: True))
        await asyncio.sleep(0.2)
        given_up.cancel()
        await asyncio.sleep(0)
        scorer.encoders[0].gate.set()
        await first
        return await asyncio.gather(gone, given_up, return_exceptions=True)

    gone, given_up = asyncio.run(abandoned())
    assert isinstance(gone, Abandoned)
    assert isinstance(given_up, asyncio.CancelledError)
    deadline = time.monotonic() + 10
    while scorer._lanes[0]._known and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not scorer._lanes[0]._known
    assert sum(scorer.encoders[0].batches) < 100
    assert (scorer.waiting, scorer.unanswered) == (0, 500)


def test_nobody_waits_for_a_lane_that_has_broken(scorer, capsys):
    def broken(tokens, max_batch_tokens=None):
        raise MemoryError

    scorer.encoders[0].plan = broken

    async def asked():
        return await asyncio.gather(
            *(score(scorer, [text]) for text in ("a", "b")), return_exceptions=True
        )

    assert [type(one) for one in asyncio.run(asked())] == [CannotContinue] * 2
    assert not scorer.is_at_work
    with pytest.raises(TextFailed, match="no longer"):
        asyncio.run(score(scorer, ["c"]))
    assert "MemoryError" in capsys.readouterr().err


def test_a_text_at_which_the_tokenizer_fails_takes_no_other_with_it(scorer):
    tokenize = scorer.encoders[0].tokenize

    def failing(texts):
        if any("rain" in text for text in texts):
            raise RuntimeError("it can't")
        return tokenize(texts)

    scorer.encoders[0].tokenize = failing

    async def asked():
        requests = [["the bus"], ["late", "rain"], ["again"]]
        return await asyncio.gather(
            *(score(scorer, texts) for texts in requests), return_exceptions=True
        )

    first, failed, last = asyncio.run(asked())
    assert (type(failed), failed.number) == (TextFailed, 1)
    assert first.tokens > 0
    assert last.tokens > 0


def test_more_than_may_wait_is_refused_at_once(scorer):
    scorer.encoders[0].gate.clear()

    async def too_many():
        waiting = asyncio.create_task(score(scorer, ["late"] * 1999))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="2,000") as refused:
            await score(scorer, ["a", "b"])
        scorer.encoders[0].gate.set()
        await waiting
        await score(scorer, ["a"] * 3000)  # larger than all that may wait, when nothing does
        return refused.value.seconds

    assert 1 <= asyncio.run(too_many()) <= 60


def test_a_text_that_would_be_cut_is_refused_if_it_is_to_be_read_whole(scorer):
    texts = ["late", "late " * 100]
    with pytest.raises(TooLong, match="text 1 "):
        asyncio.run(score(scorer, texts, whole=True))
    assert asyncio.run(score(scorer, texts)).truncated == [1]


def test_heads_of_one_encoder_are_one_product(heads):
    found = gathered(list(heads.items()))
    assert len(found.encoders) == 2
    assert [stack.weights.shape for stack in found.stacks[0]] == [(64, 6), (32, 3)]
    with pytest.raises(InputError, match="two heads have the name"):
        gathered([("a", heads["a"]), ("a", heads["b"])])
