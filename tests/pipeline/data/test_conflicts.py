"""Texts that come with several labels: found, counted, kept or left out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import LABELS, OTHER_SPEC, blobs, write_store

from features.errors import InputError
from pipeline.compare import compare
from pipeline.data.conflicts import HANDLINGS, Conflict, Conflicts, settle
from pipeline.data.join import LEFT_OUT, open_joined
from pipeline.fit import fit
from pipeline.report.comparison import comparison_text
from pipeline.report.fits import fit_text
from pipeline.report.labels import conflicts_text

# Texts and labels (None: none); what `majority` leaves out is marked with a x.
ROWS = [
    ("agreed", 0),
    ("two to one", 2),
    ("two to one", 0),  # x
    ("a tie", 1),  # x
    ("a tie", 0),  # x
    ("two to one", 2),
    ("agreed", 0),
    ("one and none", 1),
    ("one and none", None),
    ("alone", 1),
    ("alone too", 2),
]


def store_of(path, rows, **options):
    codes = [-1 if code is None else code for _, code in rows]
    X = np.arange(4 * len(rows), dtype=np.float32).reshape(-1, 4)
    return write_store(path, X, codes, texts=[text for text, _ in rows], **options)


def settled(path, handling):
    with open_joined(path) as stores:
        after, found = settle(stores, handling)
        return np.flatnonzero(after.codes == LEFT_OUT).tolist(), found, after.codes


@pytest.mark.parametrize(
    ("handling", "left_out"), [("keep", []), ("drop", [1, 2, 3, 4, 5]), ("majority", [2, 3, 4])]
)
def test_rows_that_are_left_out(tmp_path, handling, left_out):
    rows, found, codes = settled(store_of(tmp_path / "s.h5", ROWS), handling)
    assert rows == left_out
    assert found == Conflicts(
        handling,
        texts=2,
        rows=5,
        tied=1,
        left_out=len(left_out),
        examples=(
            Conflict({"negative": 1, "positive": 2}, {"negative": "row-2", "positive": "row-1"}),
            Conflict({"negative": 1, "neutral": 1}, {"negative": "row-4", "neutral": "row-3"}),
        ),
    )
    kept = [n for n in range(len(ROWS)) if n not in left_out]
    assert codes[kept].tolist() == [-1 if ROWS[n][1] is None else ROWS[n][1] for n in kept]


@pytest.mark.parametrize("handling", HANDLINGS)
def test_without_conflicts_nothing_changes(tmp_path, handling):
    store = store_of(tmp_path / "s.h5", [("a", 0), ("a", 0), ("b", 1), ("c", None)])
    assert settled(store, handling)[:2] == ([], Conflicts(handling))
    nothing = store_of(tmp_path / "n.h5", [("a", None), ("b", None)])
    assert settled(nothing, handling)[:2] == ([], Conflicts(handling))
    assert conflicts_text(Conflicts(handling)) == ""


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0, 1, 2, None])), min_size=1),
)
def test_counts_are_those_of_counting(tmp_path_factory, rows):
    # Rows of their own keep every class.
    rows += [(f"alone {code}", code) for code in range(3)]
    store = store_of(tmp_path_factory.mktemp("conflicts") / "s.h5", rows)
    by_text = {}
    for text, code in rows:
        if code is not None:
            by_text.setdefault(text, Counter())[code] += 1
    disputed = {text: counts for text, counts in by_text.items() if len(counts) > 1}
    most = {text: max(counts.values()) for text, counts in disputed.items()}
    winners = {
        text: [code for code, n in counts.items() if n == most[text]]
        for text, counts in disputed.items()
    }
    expected = {
        "keep": [],
        "drop": [n for n, (text, code) in enumerate(rows) if text in disputed and code is not None],
        "majority": [
            n
            for n, (text, code) in enumerate(rows)
            if text in disputed and code is not None and winners[text] != [code]
        ],
    }
    for handling, left_out in expected.items():
        gone, found, _ = settled(store, handling)
        assert gone == left_out
        assert (found.texts, found.left_out) == (len(disputed), len(left_out))
        assert found.rows == sum(counts.total() for counts in disputed.values())
        assert found.tied == sum(len(codes) > 1 for codes in winners.values())
        assert len(found.examples) == min(3, len(disputed))


def test_a_class_is_not_lost(tmp_path):
    store = store_of(tmp_path / "s.h5", [("a", 0), ("a", 1), ("b", 1), ("c", 2)])
    for handling in ("drop", "majority"):
        with pytest.raises(
            InputError, match=r"leaves no row of class 'negative'.*`conflicts=keep`"
        ):
            settled(store, handling)
    assert settled(store, "keep")[0] == []
    with pytest.raises(InputError, match="unknown `conflicts` 'first': choose keep, drop"):
        settled(store, "first")


def test_of_joined_stores_texts_are_those_of_any_encoder(tmp_path):
    first = store_of(tmp_path / "a.h5", ROWS)
    second = store_of(tmp_path / "b.h5", ROWS, spec=OTHER_SPEC)
    with open_joined([first, second]) as stores:
        after, found = settle(stores, "drop")
    assert np.flatnonzero(after.codes == LEFT_OUT).tolist() == [1, 2, 3, 4, 5]
    assert found.examples[0].ids == {"negative": "row-2", "positive": "row-1"}


# ------------------------------------------------------------------------------- fit and compare


@pytest.fixture(scope="module")
def disputed(tmp_path_factory):
    """A store, which rows of it are disputed, and the store without them."""
    folder = tmp_path_factory.mktemp("disputed")
    X, y = blobs(120, 8, 3)
    texts = [f"text {n}" for n in range(120)]
    texts[50] = texts[51] = texts[52] = "disputed"
    y[50], y[51], y[52] = 0, 0, 2
    ids = [f"row-{n}" for n in range(120)]

    def without(name, gone):
        kept = [n for n in range(120) if n not in gone]
        return write_store(
            folder / name,
            X[kept],
            y[kept],
            texts=[texts[n] for n in kept],
            ids=[ids[n] for n in kept],
        )

    return {
        "keep": without("all.h5", []),
        "drop": without("drop.h5", [50, 51, 52]),
        "majority": without("majority.h5", [52]),
    }


@pytest.mark.parametrize("handling", HANDLINGS)
def test_fit_is_that_of_the_rows_that_stay(disputed, handling):
    result = fit(disputed["keep"], conflicts=handling, C=0.1)
    alone = fit(disputed[handling], C=0.1)
    np.testing.assert_array_equal(result.head.coef, alone.head.coef)
    left_out = {"keep": 0, "drop": 3, "majority": 1}[handling]
    assert (result.head.metadata["rows"], result.unlabelled) == (120 - left_out, 0)
    assert result.head.metadata["conflicts"] == {
        "handling": handling,
        "texts": 1,
        "rows": 3,
        "tied": 0,
        "left_out": left_out,
    }
    text = fit_text(result)
    assert "! 1 texts come with several labels, in 3 rows" in text
    assert 'negative 2 (id "row-50"), positive 1 (id "row-52")' in text
    assert ("--conflicts drop" in text) == (handling == "keep")
    assert "come with several labels" not in fit_text(fit(disputed["drop"], C=0.1))


@pytest.mark.parametrize("handling", HANDLINGS)
def test_compare_is_that_of_the_rows_that_stay(disputed, handling):
    result = compare(disputed["keep"], conflicts=handling, cv=3)
    alone = compare(disputed[handling], cv=3)
    assert [line.metrics for line in result.lines] == [line.metrics for line in alone.lines]
    assert result.rows == alone.rows
    assert result.to_dict()["conflicts"]["handling"] == handling
    assert LABELS[0] in comparison_text(result).split("several labels")[1]
