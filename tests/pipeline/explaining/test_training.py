"""The training tweets behind a label, against `fit` on files without them."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr
from stores import LABELS, OTHER_SPEC, blobs, make_head, write_store

from features.errors import FileRefused, InputError
from features.tweets.reader import TweetReader
from pipeline.explaining.logits import log_odds
from pipeline.explaining.training import find_training
from pipeline.fit import fit

X, Y = blobs(200, 8, spread=0.6)
TEXTS = [f"text {n}" for n in range(200)]
# Three rows of one text, which go together.
for n in (31, 77, 140):
    TEXTS[n], X[n], Y[n] = TEXTS[31], X[31], Y[31]
AT = blobs(60, 8, seed=3, spread=0.6)[0][-1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("training") / "s.h5", X, Y, texts=TEXTS)


def fitted(path, **options):
    return fit(path, **({"C": 0.05, "tol": 1e-13} | options)).head


def odds_of(head, label):
    return log_odds(head.coef @ AT.astype(np.float64) + head.intercept, label)


def rows_of(one):
    return np.flatnonzero([text == TEXTS[one.row] for text in TEXTS])


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
@pytest.mark.parametrize("label", [0, 2])
def test_confirmed_is_what_fit_gives_without_the_rows(store, tmp_path, class_weight, label):
    head = fitted(store, class_weight=class_weight, prior="uniform")
    found = find_training(head, store, AT, label, number=4, confirm=2)
    assert (found.rows, found.tweets, found.same_rows) == (200, 198, True)
    assert found.of_head == odds_of(head, label)
    assert found.of_refit == pytest.approx(found.of_head, abs=1e-5)
    assert not found.is_another_fit
    for some in (found.speaking_for, found.speaking_against):
        assert len(some) == 4
        assert [one.confirmed is not None for one in some] == [True, True, False, False]
        sizes = [abs(one.effect) for one in some]
        assert sizes == sorted(sizes, reverse=True)
    for one in found.listed:
        assert (one.id, one.label) == (f"row-{one.row}", LABELS[Y[one.row]])
        if one.confirmed is None:
            continue
        kept = np.delete(np.arange(200), rows_of(one))
        path = tmp_path / f"{one.row}.h5"
        write_store(path, X[kept], Y[kept], texts=[TEXTS[n] for n in kept])
        without = fitted(path, class_weight=class_weight, prior="uniform")
        if (
            class_weight == "none"
        ):  # `fit` moves such a head by its own shares, which are others now
            shares = [np.log(np.bincount(codes) / len(codes)) for codes in (Y, Y[kept])]
            moved = without.intercept + shares[1] - shares[0]
            without = dataclasses.replace(without, intercept=moved)
        fall = odds_of(head, label) - odds_of(without, label)
        assert one.confirmed == pytest.approx(fall, abs=1e-5)
        assert one.effect == pytest.approx(fall, rel=0.25)


def test_all_tweets_are_ranked_as_by_fits_without_each(store):
    """200 tweets, real fits without each one of them."""
    head = fitted(store)
    found = find_training(head, store, AT, 1, number=200, confirm=200)
    tweets = found.listed
    assert len(tweets) == 198
    estimated, real = ([getattr(t, name) for t in tweets] for name in ("effect", "confirmed"))
    assert spearmanr(estimated, real).statistic >= 0.99
    (copies,) = (one for one in tweets if one.row == 31)
    assert copies.copies == 3


def test_what_is_folded_into_a_head_stays(store):
    """A temperature divides effects; another prior moves the odds, and effects by their slope."""
    head = fitted(store)
    hotter = dataclasses.replace(
        head,
        coef=head.coef / 2,
        intercept=head.intercept / 2,
        metadata={**head.metadata, "calibration": {"method": "temperature", "temperature": 2.0}},
    )
    moved = dataclasses.replace(hotter, intercept=hotter.intercept + np.array([3.0, -1.0, 0.5]))
    for one in (hotter, moved):
        found = find_training(one, store, AT, 0, number=3, confirm=1)
        assert found.of_refit == pytest.approx(odds_of(one, 0), abs=1e-5)
        assert not found.is_another_fit
        tweet = found.speaking_for[0]
        assert tweet.effect == pytest.approx(tweet.confirmed, rel=0.25)


def test_views_keep_their_scales(tmp_path):
    rng = np.random.default_rng(0)
    views = {"cls": X, "mean": rng.normal(size=(200, 12)).astype(np.float32)}
    path = write_store(tmp_path / "two.h5", views, Y, texts=TEXTS)
    head = fit(path, pooling=["cls", "mean"], tol=1e-12).head
    assert head.metadata["view_scales"] != [1.0, 1.0]
    assert head.metadata["calibration"]["temperature"] != 1
    at = np.concatenate([AT, rng.normal(size=12)])
    assert not find_training(head, path, at, 0).is_another_fit


def test_other_rows_are_told(store, tmp_path):
    head = fitted(store)
    for kept, y in ((slice(0, 150), Y), (slice(None), (Y + (np.arange(200) % 9 == 0)) % 3)):
        texts = TEXTS[kept]
        path = write_store(tmp_path / f"{len(texts)}.h5", X[kept], y[kept], texts=texts)
        assert find_training(head, path, AT, 0).is_another_fit


def test_corrections_are_those_of_the_fit(store, tmp_path):
    corrections = tmp_path / "corrections.csv"
    corrections.write_text("id,label\n" + "".join(f"row-{n},positive\n" for n in range(40, 70)))
    head = fitted(store, corrections=corrections)
    assert find_training(head, store, AT, 0).is_another_fit
    found = find_training(head, store, AT, 0, corrections=corrections, number=200)
    assert not found.is_another_fit
    assert {one.label for one in found.listed if 40 <= one.row < 70} == {"positive"}


@pytest.mark.parametrize("handling", ["keep", "drop", "majority"])
def test_texts_of_several_labels_are_handled_as_in_the_fit(tmp_path, handling):
    y = Y.copy()
    y[77] = (y[31] + 1) % 3
    path = write_store(tmp_path / "s.h5", X, y, texts=TEXTS)
    head = fitted(path, conflicts=handling)
    found = find_training(head, path, AT, 0, number=200)
    assert not found.is_another_fit
    assert found.rows == {"keep": 200, "drop": 197, "majority": 199}[handling]
    assert sum(one.copies for one in found.listed) == found.rows


def test_the_last_tweet_of_a_class_is_not_confirmed(tmp_path):
    y = np.where(np.arange(200) == 5, 2, np.arange(200) % 2)
    path = write_store(tmp_path / "s.h5", X, y, texts=[f"t{n}" for n in range(200)])
    # No fit has folds for a class of one row.
    head = make_head(3, labels=LABELS)
    found = find_training(head, path, AT, 2, number=300, confirm=300)
    (alone,) = (one for one in found.listed if one.row == 5)
    assert alone.confirmed is None
    assert sum(one.confirmed is None for one in found.listed) == 1


def test_texts_come_by_id(store, tmp_path):
    tweets = tmp_path / "tweets.csv"
    tweets.write_text("id,text\n" + "".join(f"row-{n},tweet {n}\n" for n in range(200)))
    found = find_training(fitted(store), store, AT, 0).with_texts(TweetReader([tweets]))
    assert found.listed
    assert all(one.text == f"tweet {one.row}" for one in found.listed)
    assert found.to_dict()["for"][0]["text"] == found.speaking_for[0].text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"number": 0}, "`number` is 0"),
        ({"confirm": -1}, "`confirm` -1"),
        ({"memory": "much"}, "memory"),
    ],
)
def test_options_that_can_not_be(store, options, said):
    with pytest.raises(InputError, match=said):
        find_training(fitted(store), store, AT, 0, **options)


def test_vectors_of_another_encoder_are_refused(store, tmp_path):
    path = write_store(tmp_path / "other.h5", X, Y, spec=OTHER_SPEC)
    with pytest.raises(FileRefused, match="vectors of encoder"):
        find_training(fitted(store), path, AT, 0)
