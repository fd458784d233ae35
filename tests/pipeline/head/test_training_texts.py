"""A head knows the texts that it was fitted on; of many, a fair sample of them."""

import numpy as np
import pytest
from stores import blobs, digests_of, make_head, write_store

from features.errors import FileRefused
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.head.training_texts import TrainingTexts


def texts(first, last):
    return digests_of([f"text {i}" for i in range(first, last)])


def test_few_texts_are_all_known():
    known = TrainingTexts.of(np.concatenate([texts(0, 300), texts(0, 50)]))
    assert known.texts == 300
    could, found = known.look_up(texts(200, 400))
    assert could.all()
    assert found.tolist() == [True] * 100 + [False] * 100


def test_of_many_texts_a_fair_sample_is_known():
    known = TrainingTexts.of(texts(0, 20_000))
    assert len(known.digests) == 4096
    could, found = known.look_up(texts(15_000, 25_000))
    assert found[~could].sum() == 0
    assert could.sum() == pytest.approx(10_000 * 4096 / 20_000, rel=0.1)
    assert found[could].mean() == pytest.approx(0.5, abs=0.05)
    # What could be known and is a training text is known.
    assert (found == (could & (np.arange(15_000, 25_000) < 20_000))).all()


def test_other_numbers_of_texts_are_no_digests():
    assert TrainingTexts.of(np.arange(10)[:, None]) is None
    assert TrainingTexts.of(texts(0, 10)).look_up(np.arange(10)[:, None]) is None


def test_the_file_of_a_head_keeps_them(tmp_path):
    store = write_store(tmp_path / "s.h5", *blobs(60, 8, 3))
    head = fit(store, C=0.01).head
    save_head(head, tmp_path / "head.joblib")
    found = load_head(tmp_path / "head.joblib").texts
    assert found.texts == 60
    assert (found.digests == head.texts.digests).all()
    save_head(make_head(), tmp_path / "plain.joblib")
    assert load_head(tmp_path / "plain.joblib").texts is None


@pytest.mark.parametrize(
    "record",
    [
        3,
        {},
        {"digests": np.array([], np.int64), "texts": 1},
        {"digests": np.array([2, 1]), "texts": 2},
        {"digests": np.array([1, 1]), "texts": 2},
        {"digests": np.array([-1, 1]), "texts": 2},
        {"digests": np.array([1.0, 2.0]), "texts": 2},
        {"digests": np.array([[1, 2]]), "texts": 2},
        {"digests": np.array([1, 2]), "texts": 1},
        {"digests": np.array([1, 2]), "texts": True},
        {"digests": np.arange(5000), "texts": 5000},
    ],
)
def test_what_is_none_is_refused(record):
    with pytest.raises(FileRefused):
        TrainingTexts.from_dict(record)
