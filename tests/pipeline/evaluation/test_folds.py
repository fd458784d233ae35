import hashlib
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stores import LABELS, digests_of

from features.errors import InputError
from pipeline.evaluation.folds import make_folds, number_texts


def folds_of(y, texts, n_folds, seed=0, labels=LABELS):
    return make_folds(np.array(y), digests_of(texts), labels, n_folds=n_folds, seed=seed)


@st.composite
def labelled_texts(draw):
    """Rows of 2 or 3 classes; some texts occur several times, with one label each."""
    n_folds = draw(st.integers(2, 5))
    n_classes = draw(st.integers(2, 3))
    rows = []
    for label in range(n_classes):
        n_texts = draw(st.integers(n_folds, 12))
        for text in range(n_texts):
            rows += [(label, f"{label}/{text}")] * draw(st.sampled_from([1, 1, 1, 2, 6]))
    rows = draw(st.permutations(rows))
    return n_folds, n_classes, [label for label, _ in rows], [text for _, text in rows]


@settings(deadline=None)
@given(labelled_texts(), st.integers(0, 2**32 - 1))
def test_folds(data, seed):
    n_folds, n_classes, y, texts = data
    folds = folds_of(y, texts, n_folds, seed, LABELS[:n_classes])
    assert folds.shape == (len(y),)
    of_text = defaultdict(set)
    for text, fold in zip(texts, folds, strict=True):
        of_text[text].add(fold)
    assert all(len(found) == 1 for found in of_text.values())
    # Each class is held out in each fold, and in shares that differ by one text at most.
    for label in range(n_classes):
        texts_in = Counter(of_text[t].copy().pop() for t in set(texts) if t[0] == str(label))
        assert set(texts_in) == set(range(n_folds))
        assert max(texts_in.values()) - min(texts_in.values()) <= 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 1), min_size=40, max_size=60), st.integers(0, 2**32 - 1))
def test_a_text_with_several_labels_stays_in_one_fold(y, seed):
    texts = [f"text {i % 20}" for i in range(len(y))]
    assume(min(np.bincount(y[:20], minlength=2)) >= 3)
    folds = folds_of(y, texts, 3, seed, LABELS[:2])
    assert all(len(set(folds[i::20])) == 1 for i in range(20))


def test_folds_depend_on_the_seed_alone():
    y, texts = [0, 1, 2] * 40, [f"text {i}" for i in range(120)]
    once, again, other = (folds_of(y, texts, 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


@pytest.mark.parametrize(
    ("y", "texts", "message"),
    [
        ([0] * 9 + [1] * 9 + [2] * 4, None, "class 'positive' has 4 rows, fewer than the 5 folds"),
        (
            [0] * 9 + [1] * 2 + [2] * 4,
            None,
            "class 'neutral' has 2 rows.*give `cv` 2 folds at most",
        ),
        (
            [0] * 9 + [1] * 9 + [2] * 9,
            ["same"] * 9 + [f"text {i}" for i in range(18)],
            "class 'negative' has 1 different texts, fewer than the 5 folds",
        ),
        ([0] * 9 + [1] * 9, None, "class 'positive' has 0 rows.*label more tweets of it"),
    ],
)
def test_classes_that_are_too_small(y, texts, message):
    with pytest.raises(InputError, match=message):
        folds_of(y, texts or [f"text {i}" for i in range(len(y))], 5)


@pytest.mark.parametrize("n_folds", [1, 0, -1])
def test_too_few_folds(n_folds):
    with pytest.raises(InputError, match="give `cv` at least 2"):
        folds_of([0, 1, 2] * 5, [f"text {i}" for i in range(15)], n_folds)


def test_digests_are_told_apart_by_all_their_bytes():
    """Texts whose digests share the first 15 bytes are different texts."""
    digests = np.tile(np.frombuffer(hashlib.md5(b"x").digest(), np.uint8), (40, 1)).copy()
    digests[:, 15] = np.arange(40)
    folds = make_folds(np.arange(40) % 2, digests, LABELS[:2], n_folds=2, seed=0)
    assert Counter(folds) == {0: 20, 1: 20}


@given(
    st.integers(1, 3).flatmap(
        lambda words: st.lists(
            st.lists(st.sampled_from([0, 1, 127, 128, 255]), min_size=8 * words, max_size=8 * words)
            | st.just([0] * (8 * words)),
            min_size=1,
            max_size=30,
        )
    ),
    st.sampled_from([np.uint8, np.int64]),
)
def test_texts_are_numbered_as_sorted_rows(rows, dtype):
    texts = np.array(rows, dtype)
    if dtype == np.int64:
        texts = texts[:, :3] - 100
    _, expected = np.unique(texts, axis=0, return_inverse=True)
    assert number_texts(texts).tolist() == expected.reshape(-1).tolist()


def test_texts_that_begin_alike_are_told_apart():
    texts = np.zeros((4, 16), np.uint8)
    texts[:, 15] = [3, 1, 3, 2]
    assert number_texts(texts).tolist() == [2, 0, 2, 1]
