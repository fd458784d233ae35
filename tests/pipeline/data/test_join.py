"""Stores of several encoders as one: which rows match, and what comes out."""

import dataclasses
import json
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import OTHER_SPEC, SPEC, blobs, digests_of, write_store

from features.errors import FileRefused, InputError
from pipeline import compare, fit
from pipeline.data.join import open_joined
from pipeline.data.matching import same_texts
from pipeline.report.comparison import comparison_text
from pipeline.report.fits import fit_text
from pipeline.report.stores_and_heads import head_text, matching_text
from pipeline.solver.blocks import BLOCK_ROWS

THIRD = dataclasses.replace(SPEC, weights="e" * 64)
RAW = dataclasses.replace(OTHER_SPEC, normalizer="none/1")
N = 150


@pytest.fixture(scope="module")
def data():
    X, y = blobs(N, 8, 3)
    return X[:, :5], X[:, 5:], y


@pytest.fixture
def pair(data, tmp_path):
    """Two encoders over the same tweets, each with a part of the columns."""
    A, B, y = data
    write_store(tmp_path / "a.h5", {"cls": A, "mean": A[:, :2]}, y)
    write_store(tmp_path / "b.h5", {"mean": B}, y, spec=OTHER_SPEC)
    return [tmp_path / "a.h5", tmp_path / "b.h5"]


def read(stores, sources, **options):
    return np.concatenate(list(stores.blocks(sources, **options)))


@pytest.mark.parametrize("second", ["a.h5", "also.h5", "folder"])
def test_a_file_that_is_given_twice_is_refused(second, data, tmp_path):
    """By its own name, by another one, and in a folder: its rows would count twice."""
    A, _, y = data
    (tmp_path / "folder").mkdir()
    first = write_store(tmp_path / "a.h5", A, y)
    (tmp_path / "also.h5").symlink_to(first)
    if second == "folder":
        first = first.rename(tmp_path / "folder" / "part-00000.h5")
    with (
        pytest.raises(InputError, match=r"is given twice.*each of its rows would count twice"),
        open_joined([first, tmp_path / second]),
    ):
        pass


@pytest.mark.parametrize("start", [0, 1, 77, N - 1, N])
def test_blocks_from_a_row_on(start, pair, data):
    with open_joined(pair) as stores:
        sources = stores.choose(["1:cls", "2:mean"])
        blocks = [
            np.empty((0, sum(s.width for s in sources))),
            *stores.blocks(sources, start=start),
        ]
        np.testing.assert_array_equal(np.concatenate(blocks), read(stores, sources)[start:])


def rows_of(path, rows, *, spec, prefix="text", labels=None, **options):
    """A store of some numbered rows: id, text and vector say which."""
    X = np.array([[number, number % 7] for number in rows], np.float32).reshape(-1, 2)
    return write_store(
        path,
        X,
        labels if labels is not None else [number % 3 for number in rows],
        ids=[f"id-{number}" for number in rows],
        texts=[f"{prefix} {number}" for number in rows],
        spec=spec,
        **options,
    )


def test_columns_side_by_side(pair, data):
    A, B, y = data
    with open_joined(pair) as stores:
        chosen = stores.choose(["2:mean", "1:cls"])
        assert [stores.name(source) for source in chosen] == ["2:mean", "1:cls"]
        np.testing.assert_array_equal(read(stores, chosen), np.hstack([B, A]))
        assert [stores.name(s) for s in stores.choose(["mean"])] == ["1:mean", "2:mean"]
        assert [stores.name(s) for s in stores.every_view()] == ["1:cls", "1:mean", "2:mean"]
        np.testing.assert_array_equal(stores.codes, y)
        assert stores.ids(slice(3, 5)) == ["row-3", "row-4"]
        assert stores.matching.rows == stores.n_rows == N
        assert set(stores.matching.left_out.values()) == {0}


def test_several_files_of_one_encoder_are_still_shards(data, tmp_path):
    A, _, y = data
    for name, part in (("0.h5", slice(0, 60)), ("1.h5", slice(60, N))):
        write_store(tmp_path / name, A[part], y[part])
    with open_joined([tmp_path / "0.h5", tmp_path / "1.h5"]) as stores:
        assert (stores.matching, stores.n_rows) == (None, N)
        np.testing.assert_array_equal(read(stores, stores.choose(None)), A)
        assert [stores.name(s) for s in stores.choose(["1:cls"])] == ["cls"]


def test_folders_of_shards_are_joined(data, tmp_path):
    A, B, y = data
    texts, ids = [f"text {i}" for i in range(N)], [f"row-{i}" for i in range(N)]
    cuts = {"a": (SPEC, A, [0, 60, N]), "b": (OTHER_SPEC, B, [0, 10, 90, N])}
    for name, (spec, X, ends) in cuts.items():
        (tmp_path / name).mkdir()
        for k, (low, high) in enumerate(pairwise(ends)):
            rows = slice(low, high)
            options = {"texts": texts[rows], "ids": ids[rows], "spec": spec}
            write_store(tmp_path / name / f"{k}.h5", X[rows], y[rows], **options)
    with open_joined([tmp_path / "a", tmp_path / "b"]) as stores:
        np.testing.assert_array_equal(read(stores, stores.choose(None)), np.hstack([A, B]))


def test_a_mixture_is_refused_with_the_cure(pair, data, tmp_path):
    A, _, y = data
    more = write_store(tmp_path / "more.h5", {"cls": A, "mean": A[:, :2]}, y)
    with (
        pytest.raises(InputError, match=r"a\.h5 and .*more\.h5 are both of encoder .* folder of"),
        open_joined([*pair, more]),
    ):
        pass


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=12),
    st.lists(st.integers(0, 12), min_size=1, max_size=12),
    st.booleans(),
)
def test_rows_that_are_in_both_in_order(a, b, same_normalizer):
    """Against a plain definition: the numbers that occur equally often in both."""
    a, b = sorted(a), sorted(b)
    expected = [number for number in a if a.count(number) == b.count(number)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "a.h5", Path(folder) / "b.h5"]
        rows_of(paths[0], a, spec=SPEC)
        if same_normalizer:
            rows_of(paths[1], b, spec=OTHER_SPEC)
        else:
            rows_of(paths[1], b, spec=RAW, prefix="Text")
        if not expected:
            with pytest.raises(InputError, match="share no row"), open_joined(paths):
                pass
            return
        with open_joined(paths) as stores:
            X = read(stores, stores.choose(None))
            assert X[:, 0].tolist() == X[:, 2].tolist() == expected
            assert stores.ids(slice(0, 100)) == [f"id-{number}" for number in expected]
            assert stores.codes.tolist() == [number % 3 for number in expected]
            left_out = list(stores.matching.left_out.values())
            assert left_out == [len(a) - len(expected), len(b) - len(expected)]
            assert stores.matching.by_text == same_normalizer


def test_the_same_id_with_another_text_is_no_match(tmp_path):
    """Row numbers for ids: two different files have the same ones."""
    rows_of(tmp_path / "a.h5", range(10), spec=SPEC)
    texts = [f"text {i}" if i < 6 else "something else" for i in range(10)]
    X, y = np.zeros((10, 2), np.float32), [i % 3 for i in range(10)]
    ids = [f"id-{i}" for i in range(10)]
    write_store(tmp_path / "b.h5", X, y, ids=ids, texts=texts, spec=OTHER_SPEC)
    with open_joined([tmp_path / "a.h5", tmp_path / "b.h5"]) as stores:
        assert stores.n_rows == 6
        assert stores.matching.other_text == 4
        text = matching_text(stores.matching)
    assert "6 rows by id and text; left out 4 of" in text
    assert "4 ids with another text" in text


def test_rows_whose_labels_differ_are_left_out(tmp_path):
    rows_of(tmp_path / "a.h5", range(6), spec=SPEC, labels=[0, 1, 2, -1, 1, -1])
    names = ["positive", "neutral", "negative"]  # in another order: 2 is negative here
    y = [2, 1, 2, 1, -1, -1]
    rows_of(tmp_path / "b.h5", range(6), spec=OTHER_SPEC, labels=y)
    with open_joined([tmp_path / "a.h5", tmp_path / "b.h5"]) as stores:
        assert stores.codes.tolist() == [1, 2, 1, 1, -1]
        assert stores.matching.other_label == 1
    (tmp_path / "b.h5").unlink()
    X = np.zeros((6, 2), np.float32)
    options = {"ids": [f"id-{i}" for i in range(6)], "spec": OTHER_SPEC}
    write_store(tmp_path / "b.h5", X, y, names, **options)
    with open_joined([tmp_path / "a.h5", tmp_path / "b.h5"]) as stores:
        found = [stores.label_names[code] if code >= 0 else None for code in stores.codes]
        assert found == ["negative", "neutral", "neutral", "neutral", None]
        assert stores.ids(slice(0, 9)) == ["id-0", "id-1", "id-3", "id-4", "id-5"]
        assert stores.matching.other_label == 1


def test_no_two_labels_alike(tmp_path):
    rows_of(tmp_path / "a.h5", range(6), spec=SPEC, labels=[0] * 6)
    rows_of(tmp_path / "b.h5", range(6), spec=OTHER_SPEC, labels=[1] * 6)
    with (
        pytest.raises(InputError, match="another label for every row"),
        open_joined([tmp_path / "a.h5", tmp_path / "b.h5"]),
    ):
        pass


def test_another_order_is_refused(tmp_path):
    rows_of(tmp_path / "a.h5", [1, 2, 3, 4], spec=SPEC)
    rows_of(tmp_path / "b.h5", [1, 3, 2, 4], spec=OTHER_SPEC)
    with (
        pytest.raises(InputError, match="in another order: 'id-3' where that has 'id-2'"),
        open_joined([tmp_path / "a.h5", tmp_path / "b.h5"]),
    ):
        pass


def test_three_encoders(tmp_path):
    for name, rows, spec in (("a", range(8), SPEC), ("b", range(2, 9), OTHER_SPEC)):
        rows_of(tmp_path / f"{name}.h5", rows, spec=spec)
    rows_of(tmp_path / "c.h5", [1, 2, 3, 5, 7], spec=THIRD)
    with open_joined([tmp_path / f"{name}.h5" for name in "abc"]) as stores:
        X = read(stores, stores.choose(None))
        assert X.shape == (4, 6)
        np.testing.assert_array_equal(X[:, ::2], np.repeat([[2], [3], [5], [7]], 3, axis=1))


def test_blocks_of_any_size_are_the_same_rows(pair, data):
    A, B, _ = data
    with open_joined(pair) as stores:
        sources = stores.choose(["1:cls", "2:mean"])
        for size in (1, 7 * 8 * 4, 10**9):
            found = read(stores, sources, piece_bytes=size)
            np.testing.assert_array_equal(found, np.hstack([A, B]))


def test_texts_are_the_same_if_any_encoder_says_so():
    one = digests_of(["a", "A", "b", "c", "d"])
    other = digests_of(["x", "x", "y", "z", "y"])
    assert len(np.unique(one, axis=0)) == 5
    groups = same_texts([one, other])[:, 0]
    assert groups[0] == groups[1]
    assert groups[2] == groups[4]
    assert len(set(groups)) == 3
    # By way of a third: a and b are one text to the first, b and c to the second.
    chain = same_texts([digests_of(["t", "t", "u"]), digests_of(["p", "q", "q"])])[:, 0]
    assert len(set(chain)) == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (None, r"a\.h5 holds several views: cls, mean; choose with `pooling`"),
        (
            ["cls"],
            r"b\.h5 holds no view 'cls'; it holds: mean; to take a view of one encoder alone",
        ),
        (["2:cls"], r"b\.h5 holds no view 'cls'; it holds: mean$"),
        (["3:mean"], "there is no encoder 3; the files are of 2"),
        (["0:mean"], "there is no encoder 0"),
        (["mean", "2:mean"], "view '2:mean' is named twice"),
        (["1:clf"], "unknown tokens 'clf'"),
    ],
)
def test_views_that_cannot_be_chosen(asked, message, pair):
    with open_joined(pair) as stores, pytest.raises(InputError, match=message):
        stores.choose(asked)


def test_an_encoder_is_not_left_out_without_a_word(pair):
    with pytest.raises(InputError, match=r"no view of .*b\.h5 is asked for; .* `pooling=2:VIEW`"):
        fit(pair, pooling=["1:cls"])


# Stage two on them.


def test_fit_on_two_is_the_fit_on_their_columns(pair, data, tmp_path):
    """As of one store that has both views, each with a scale of its own."""
    A, B, y = data
    both = fit(pair, pooling=["1:cls", "2:mean"], cv=3)
    one = write_store(tmp_path / "one.h5", {"cls": A, "mean": B}, y)
    whole = fit(one, pooling=["cls", "mean"], cv=3)
    np.testing.assert_allclose(both.head.coef, whole.head.coef, rtol=1e-9)
    assert both.metrics == whole.metrics
    assert [s.spec for s in both.head.sources] == [SPEC, OTHER_SPEC]
    assert [s.view for s in both.head.sources] == ["cls", "mean"]
    assert both.head.metadata["matching"]["rows"] == N
    json.dumps(both.head.metadata)
    text = fit_text(both)
    assert "1:cls (5) + 2:mean (3)" in text
    assert f"{N} rows by id and text" in text
    shown = head_text(both.head, "head.joblib")
    assert SPEC.fingerprint in shown
    assert OTHER_SPEC.fingerprint in shown


@pytest.mark.parametrize("memory", [None, BLOCK_ROWS * 6 * 4, 0])
def test_rows_that_match_are_fitted(memory, tmp_path):
    """What one store lacks is as if the other never had it; held, streamed, or half of both."""
    X, y = blobs(6000, 6, 3)
    ids, texts = [f"i{n}" for n in range(6000)], [f"text {n}" for n in range(6000)]
    there = np.arange(6000) % 5 != 2
    some = np.flatnonzero(there)
    write_store(tmp_path / "a.h5", X[:, :4], y, ids=ids, texts=texts)
    options = {"ids": [ids[n] for n in some], "texts": [texts[n] for n in some]}
    write_store(tmp_path / "b.h5", X[some, 4:], y[some], spec=OTHER_SPEC, **options)
    write_store(tmp_path / "whole.h5", X[some], y[some], **options)
    both = fit([tmp_path / "a.h5", tmp_path / "b.h5"], C=0.1, memory=memory)
    whole = fit(tmp_path / "whole.h5", C=0.1, memory=memory)
    assert both.in_memory == (memory is None)
    np.testing.assert_array_equal(both.head.coef, whole.head.coef)
    assert both.metrics == whole.metrics
    assert both.matching.left_out == {str(tmp_path / "a.h5"): 1200, str(tmp_path / "b.h5"): 0}


def test_stores_of_two_types(data, tmp_path):
    A, B, y = data
    write_store(tmp_path / "a.h5", A, y, store_dtype="float16", precision="half")
    write_store(tmp_path / "b.h5", B, y, spec=OTHER_SPEC)
    head = fit([tmp_path / "a.h5", tmp_path / "b.h5"], C=0.1).head
    assert [(s.store_dtype, s.precision) for s in head.sources] == [
        ("float16", "half"),
        ("float32", "float32"),
    ]


def test_validation_of_both_encoders_in_any_order(pair, data, tmp_path):
    A, B, y = data
    held = {"ids": [f"v{i}" for i in range(N)], "texts": [f"other {i}" for i in range(N)]}
    write_store(tmp_path / "va.h5", A, y, **held)
    write_store(tmp_path / "vb.h5", {"max": A, "mean": B}, y, spec=OTHER_SPEC, **held)
    options = {"pooling": ["1:cls", "2:mean"], "C": 0.1, "calibrate": "none"}
    result = fit(pair, validation=[tmp_path / "vb.h5", tmp_path / "va.h5"], **options)
    proba = result.head.predict_proba(np.hstack([A, B]))
    assert result.metrics.accuracy == (proba.argmax(axis=1) == y).mean()
    with pytest.raises(FileRefused, match=f"{OTHER_SPEC.fingerprint[:12]} .* as well, which"):
        fit(pair, validation=tmp_path / "va.h5", **options)
    other = write_store(tmp_path / "vc.h5", A, y, spec=THIRD, **held)
    with pytest.raises(FileRefused, match=THIRD.fingerprint[:12]):
        fit(pair, validation=[tmp_path / "va.h5", tmp_path / "vb.h5", other], **options)


def test_validation_rows_that_do_not_match_are_said(pair, data, tmp_path):
    A, B, y = data
    write_store(tmp_path / "va.h5", A, y)
    write_store(tmp_path / "vb.h5", B[:140], y[:140], spec=OTHER_SPEC)
    held = [tmp_path / "va.h5", tmp_path / "vb.h5"]
    with pytest.raises(InputError, match="no view 'mean'"):
        fit(pair, pooling=["1:cls", "2:mean"], C=0.1, validation=held)
    write_store(tmp_path / "vc.h5", {"mean": B[:140]}, y[:140], spec=OTHER_SPEC)
    held[1] = tmp_path / "vc.h5"
    result = fit(pair, pooling=["1:cls", "2:mean"], C=0.1, validation=held)
    assert result.metrics.rows == 140
    assert "without 10 that do not match" in result.measured_on


def test_compare_takes_both(pair):
    result = compare(pair, combine=[["1:cls", "2:mean"], ["mean"]], cv=3)
    assert {line.name for line in result.lines} == {
        "1:cls",
        "1:mean",
        "2:mean",
        "1:cls + 2:mean",
        "1:mean + 2:mean",
    }
    for line in result.lines:
        if len(line.views) > 1:
            assert line.metrics == fit(pair, pooling=line.views, cv=3).metrics
    assert json.loads(json.dumps(result.to_dict()))["matching"]["rows"] == N
    assert f"Joined: {N} rows by id and text" in comparison_text(result)


def test_other_normaliser_is_said(data, tmp_path):
    A, B, y = data
    write_store(tmp_path / "a.h5", A, y)
    texts = [f"RAW {i // 2}" for i in range(N)]  # pairs of rows are one text to this one
    write_store(tmp_path / "b.h5", B, y, texts=texts, spec=RAW)
    with open_joined([tmp_path / "a.h5", tmp_path / "b.h5"]) as stores:
        assert "by id alone, as the encoders normalise differently" in matching_text(
            stores.matching
        )
        groups = stores.texts()[:, 0]
        np.testing.assert_array_equal(groups[::2], groups[1::2])
        assert len(set(groups)) == N // 2
    assert fit([tmp_path / "a.h5", tmp_path / "b.h5"], cv=2, C=0.1).metrics.rows == N
