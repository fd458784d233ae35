"""`predict` on frames: the cells that it writes to files, in a frame of the same kind."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from frame_kinds import KINDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import make_head

from features.encoder.encoder import FrozenEncoder
from features.errors import InputError
from features.tweets.rejects import RejectLog
from pipeline import predict
from pipeline.head.head import save_head
from pipeline.scoring.estimated_prior import for_their_shares
from pipeline.scoring.output_files import write_scores
from pipeline.scoring.predict import scored

TEXTS = ["so happy", "so sad", "", "<b>\u202e</b>", "nan", "so happy", "12", "e\u0301" * 40, "x"]
COLUMNS = {
    "id": [f"row {n}" for n in range(9)],
    "text": TEXTS,
    "label": ["a", None, "b", "a", "a", "b", "b", "a", "a"],
}
GAPS = COLUMNS | {"text": ["so happy", None, *TEXTS[2:]]}
# What a kind of frame becomes, where it is not its own type.
BECOMES = {
    "DuckDB": pa.RecordBatchReader,
    "Arrow, a batch": pa.Table,
    "polars, lazy": pl.LazyFrame,
}


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return FrozenEncoder(tiny_model("bert"), pooling="cls", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def head(encoder):
    return make_head(3, widths=(encoder.views["cls"],), spec=encoder.spec)


@pytest.fixture
def label(head, encoder):
    """`predict` with the encoder at hand."""
    return lambda frame, **options: predict(head, frame, encoders=[encoder], **options)


@pytest.fixture
def in_files(head, encoder, tmp_path):
    """The rows that are written for a file of the same rows."""

    def rows(columns, moved=lambda scores: scores):
        path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        cells = zip(*columns.values(), strict=True)
        lines = (json.dumps(dict(zip(columns, row, strict=True))) for row in cells)
        path.write_text("".join(line + "\n" for line in lines))
        with (
            RejectLog(out, allowed=True) as rejects,
            scored(head, [path], rejects=rejects, load=lambda head: [encoder]) as scores,
        ):
            write_scores(head, moved(scores), out)
        return [json.loads(line) for line in out.read_text().splitlines()]

    return rows


def rows_of(result):
    """Rows of any result, with None where a cell is missing."""
    if isinstance(result, pa.RecordBatchReader):
        result = result.read_all()
    if isinstance(result, pl.LazyFrame):
        result = result.collect()
    if isinstance(result, pd.DataFrame):
        return result.astype(object).where(result.notna(), None).to_dict("records")
    if isinstance(result, pl.DataFrame):
        return result.to_dicts()
    if isinstance(result, pa.Table):
        return result.to_pylist()
    return [row for frame in result for row in rows_of(frame)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_scored_as_a_file_of_its_rows(kind, label, in_files):
    expected = [row | {"reject": ""} for row in in_files(COLUMNS)]
    frame = KINDS[kind](COLUMNS)
    result = label(frame)
    wanted = BECOMES.get(kind, type(frame))
    assert isinstance(result, wanted) or wanted.__name__ == "generator"
    assert rows_of(result) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_cannot_be_used_has_its_place_and_the_reason(kind, label, in_files):
    good = in_files(GAPS)
    rows = rows_of(label(KINDS[kind](GAPS)))
    bad = rows.pop(1)
    assert bad.pop("reject") == "no text: 'text' is missing or null"
    assert set(bad.values()) == {None}
    assert rows == [row | {"reject": ""} for row in good]


def test_the_index_of_pandas_is_kept(label):
    index = pd.MultiIndex.from_tuples([("x", n % 3) for n in range(9)], names=["a", "b"])
    for one in (index, pd.Index([5] * 9, name="n"), pd.RangeIndex(9, 0, -1)):
        frame = pd.DataFrame(GAPS, index=one)
        result = label(frame)
        assert result.index.equals(one)
        assert result.index.names == one.names
        joined = frame[["text"]].set_axis(range(9)).join(result.set_axis(range(9)))
        assert joined.loc[joined["label"].isna(), "text"].isna().all()
    series = label(pd.Series(TEXTS, index=list("abcdefghi")))
    assert list(series.index) == list("abcdefghi")


def test_types_of_the_columns(label):
    texts = {"id", "label", "flags", "reject"}
    for frame in (GAPS, {name: [] for name in GAPS}):
        schema = label(pl.DataFrame(frame, schema=dict.fromkeys(GAPS, pl.String))).schema
        assert {n for n, kind in schema.items() if kind == pl.String} == texts
        assert {n for n, kind in schema.items() if kind == pl.Float64} == set(schema) - texts
        table = label(pa.table({n: pa.array(c, pa.string()) for n, c in frame.items()}))
        assert {one.name for one in table.schema if pa.types.is_string(one.type)} == texts
        result = label(pd.DataFrame(frame, dtype=object))
        numbers = {n for n, kind in result.dtypes.items() if kind == np.float64}
        assert numbers == set(result.columns) - texts


@given(
    texts=st.lists(st.none() | st.sampled_from(["", "a", "so sad"]), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_frames_of_a_stream_are_answered_one_by_one(texts, cuts, label):
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
    bounds = [0, *sorted(min(cut, len(texts)) for cut in cuts), len(texts)]
    pieces = [frame.iloc[a:b] for a, b in pairwise(bounds)]
    if frame["text"].isna().all():
        with pytest.raises(InputError, match="no usable tweet"):
            list(label(iter(pieces), allow_rejects=True))
        return
    whole = label(frame, allow_rejects=True)
    found = list(label(iter(pieces), allow_rejects=True))
    assert [list(one.index) for one in found] == [list(one.index) for one in pieces]
    pd.testing.assert_frame_equal(pd.concat(found), whole, check_dtype=False)


def test_a_stream_is_scored_as_it_is_read(label):
    """Not much more of it is taken than was asked for."""
    taken = 0

    def batches():
        nonlocal taken
        for n in range(40):
            taken += 1
            yield pa.record_batch({"text": [f"{n}"] * 1000})

    schema = pa.schema({"text": pa.string()})
    for stream in (batches(), pa.RecordBatchReader.from_batches(schema, batches())):
        taken = 0
        result = iter(label(stream))
        assert len(next(result)) in (0, 1000)
        assert taken <= 12
        rest = sum(len(one) for one in result)
        assert rest in (39_000, 40_000)
        assert taken == 40


def test_too_many_rejects_are_an_error_unless_they_are_allowed(label):
    frame = pd.DataFrame({"text": ["a", "b", None]})
    with pytest.raises(InputError, match=r"1 of 3 rows were rejected.*the first is row 3: no text"):
        label(frame)
    with pytest.raises(InputError, match=r"pandas.DataFrame, row 3: .* \(`strict`\)"):
        label(frame, strict=True)
    assert list(label(frame, allow_rejects=True)["reject"]) == [
        "",
        "",
        "no text: 'text' is missing or null",
    ]
    said = []
    many = pd.DataFrame({"text": ["a"] * 9 + [None]})
    label(many, say=said.append)
    assert "WARNING: 1 of 10 rows were rejected; the first is row 10: no text" in said[-1]


def test_other_columns_and_priors(label, head, encoder, in_files, tmp_path):
    frame = pd.DataFrame(COLUMNS).rename(columns={"text": "Body", "id": "key"})
    result = label(frame, text_column="Body", id_column="key")
    assert rows_of(result) == [row | {"reject": ""} for row in in_files(COLUMNS)]
    save_head(head, tmp_path / "head.joblib")
    again = predict(tmp_path / "head.joblib", frame, text_column="Body", encoders=[encoder])
    assert list(again["label"]) == list(result["label"])


def test_the_prior_is_estimated_from_all_rows(head, encoder, in_files):
    """As for a file: `for_their_shares` holds all rows of it."""
    known = {"prior": [1 / 3] * 3, "class_rows": [100] * 3}
    head = replace(head, metadata=head.metadata | known)
    columns = {"text": [f"tweet {n}" for n in range(300)]}
    moved = predict(head, pd.DataFrame(columns), encoders=[encoder], prior="estimate")
    expected = in_files(columns, lambda scores: for_their_shares(head, scores, tell=repr))
    assert rows_of(moved) == [row | {"reject": ""} for row in expected]
    assert rows_of(moved) != [row | {"reject": ""} for row in in_files(columns)]
    with pytest.raises(InputError, match="prior"):
        predict(head, pd.DataFrame(columns), encoders=[encoder], prior="nonsense")


REFUSED = {
    "a list of dicts": ([{"text": "a"}], "not a list: .*pandas.DataFrame"),
    "a list of texts": (["a", "b"], "not a list"),
    "a text": ("tweets.csv", "not a str"),
    "a generator of texts": ((text for text in ["a"]), "not a generator"),
    "no text column": (pd.DataFrame({"words": ["a"]}), "none of the columns text, tweet"),
    "lists": (pl.DataFrame({"text": [["a"]]}), 'column "text" holds lists or objects'),
    "numbers": (pd.DataFrame({"text": [1, 2]}), "all 2 rows were rejected, the first is row 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(case, label):
    frame, said = REFUSED[case]
    with pytest.raises(InputError, match=said) as caught:
        label(frame)
    assert "\n" not in str(caught.value)


def test_a_head_that_cannot_tell_what_is_new(label):
    with pytest.raises(InputError, match="can't tell how far tweets lie"):
        label(pd.DataFrame({"text": ["a"]}), novelty=True)
