"""Frames mean what files mean: the same rows give the same tweets and rejects."""

import csv
import dataclasses
import json
import sqlite3
import sys
from itertools import chain

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frame_kinds import KINDS, arrow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import FrostlineError, InputError
from features.tweets.columns import Columns
from features.tweets.reader import Reject, Tweet, TweetReader
from features.tweets.rows.inputs import inputs_of, name_of
from features.tweets.table import InputFormat


def read(inputs, **columns):
    """Tweets and rejects without the place where they stand."""
    return [
        dataclasses.replace(row, source="", line=0)
        for row in TweetReader(inputs, Columns(**columns))
    ]


def columns_of(rows):
    """Columns of rows of id, text and label."""
    ids, texts, labels = map(list, zip(*rows, strict=True))
    return {"id": ids, "text": texts, "label": labels}


def write_csv(columns, path):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_json(columns, path):
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(columns, path):
    pq.write_table(arrow(columns), path)
    return path


FILES = {"a.csv": write_csv, "a.jsonl": write_json, "a.parquet": write_parquet}
# Texts that a table of text can hold, and more that JSON can.
WORDS = ["", " ", "nan", "NA", "None", "1", "1.0", "01", "-0", "1e5", "True", "a,b", 'say "x"']
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
CELLS = st.sampled_from(WORDS) | PLAIN
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8)
GAPS = st.none() | CELLS
ROWS_WITH_GAPS = st.lists(st.tuples(GAPS, GAPS, GAPS), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=ROWS_WITH_GAPS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_frame_is_read_as_a_file_of_its_rows(kind, rows, tmp_path):
    columns = columns_of(rows)
    expected = read(write_json(columns, tmp_path / "a.jsonl"))
    assert read(KINDS[kind](columns)) == expected


@given(rows=ROWS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_frame_is_read_as_a_table_of_its_rows(rows, tmp_path):
    columns = columns_of(rows)
    assert read(pd.DataFrame(columns)) == read(write_csv(columns, tmp_path / "a.csv"))


def test_every_format_gives_the_same(tmp_path):
    """Rejects among them, with their places: rows count from 1, behind the header of a table."""
    rows = [(str(n), f"text {n}", "ab"[n % 2]) for n in range(300)]
    rows[5] = ("x" * 300, "its id is too long", "a")
    columns = columns_of(rows)
    found = {}
    for name, write in FILES.items():
        path = write(columns, tmp_path / name)
        found[name] = [(row, row.line - (name == "a.csv")) for row in TweetReader(path)]
    for kind, make in KINDS.items():
        found[kind] = [(row, row.line) for row in TweetReader(make(columns))]
    for name, some in found.items():
        assert [line for _, line in some] == list(range(1, 301)), name
        tweets = [row for row, _ in some if isinstance(row, Tweet)]
        rejects = [(row.reason, row.start) for row, _ in some if isinstance(row, Reject)]
        assert tweets == [Tweet(*row) for row in rows if row[1] != "its id is too long"], name
        assert rejects == [("id is longer than 256 bytes", '"its id is too long"')], name


# Columns with values of many types, and what labels or ids they are; None: missing, "!": a reject.
VALUES = {
    "whole numbers": (
        [0, 1, -7, 2**60],
        ["0", "1", "-7", str(2**60)],
        ["0", "1", "-7", str(2**60)],
    ),
    "floats": ([0.0, 1.5, 2.0, float("nan")], ["0", "1.5", "2", None], ["0", "1.5", "2", None]),
    "truth": ([True, False], ["True", "False"], ["!", "!"]),
    "large floats": ([2.0**53, 1.5], [str(2**53), "1.5"], ["!", "1.5"]),
    "not finite": ([float("inf"), 1.0], ["!", "1"], ["!", "1"]),
}
NUMBERS = {
    "pandas": lambda v: pd.DataFrame({"text": "t", "x": v}),
    "pandas, objects": lambda v: pd.DataFrame({"text": "t", "x": pd.Series(v, dtype=object)}),
    "pandas, of numpy": lambda v: pd.DataFrame(
        {"text": "t", "x": pd.Series(list(np.array(v)), dtype=object)}
    ),
    "pandas, nullable": lambda v: pd.DataFrame({"text": "t", "x": v}).convert_dtypes(),
    "pandas, categories": lambda v: pd.DataFrame({"text": "t", "x": pd.Categorical(v)}),
    "polars": lambda v: pl.DataFrame({"text": ["t"] * len(v), "x": v}),
    "Arrow": lambda v: pa.table({"text": ["t"] * len(v), "x": v}),
    "DuckDB": lambda v: in_duckdb_of(v),
}


def in_duckdb_of(values):
    table = pa.table({"text": ["t"] * len(values), "x": values})
    return duckdb.connect().from_arrow(table)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_are_the_ids_and_labels_that_they_are_in_files(kind, values):
    cells, labels, ids = VALUES[values]
    found = read(NUMBERS[kind](cells), label="x")
    assert [row.label if isinstance(row, Tweet) else "!" for row in found] == labels
    found = read(NUMBERS[kind](cells), id="x", label="")
    given_ids = [str(n) if one is None else one for n, one in enumerate(ids)]
    assert [row.id if isinstance(row, Tweet) else "!" for row in found] == given_ids


FLOAT32 = {
    "pandas": lambda v: pd.DataFrame({"text": "t", "id": np.array(v, np.float32)}),
    "pandas, nullable": lambda v: pd.DataFrame({"text": "t", "id": pd.array(v, dtype="Float32")}),
    "pandas, objects": lambda v: pd.DataFrame(
        {"text": "t", "id": pd.Series(list(np.array(v, np.float32)), dtype=object)}
    ),
    "pandas, of Arrow": lambda v: pd.DataFrame(
        {"text": "t", "id": pd.array(v, dtype=pd.ArrowDtype(pa.float32()))}
    ),
    "polars": lambda v: pl.DataFrame(
        {"text": ["t"] * len(v), "id": pl.Series(v, dtype=pl.Float32)}
    ),
    "Arrow": lambda v: pa.table({"text": ["t"] * len(v), "id": pa.array(v, pa.float32())}),
}


@pytest.mark.parametrize("kind", FLOAT32)
def test_floats_that_tell_no_whole_numbers_apart_are_no_ids(kind):
    good, bad = read(FLOAT32[kind]([2.0**23, 2.0**24]))
    assert good.id == str(2**23)
    assert "not exact" in bad.reason


@given(texts=st.lists(st.text(), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_no_unicode_is_repaired_as_in_json(texts, tmp_path):
    """Lone surrogates and NUL, which objects of pandas can hold."""
    path = write_json({"text": texts}, tmp_path / "a.jsonl")
    assert read(pd.DataFrame({"text": texts}, dtype=object)) == read(path)


def test_bytes_that_are_no_utf8():
    bad = pa.array([b"ol\xe9", b"ok"])
    tables = {
        "text of Arrow": pa.table({"text": bad.view(pa.string())}),
        "text of pandas": pd.DataFrame(
            {"text": pd.array(bad.view(pa.string()), pd.ArrowDtype(pa.string()))}
        ),
        "bytes of Arrow": pa.table({"text": bad}),
        "bytes of pandas": pd.DataFrame({"text": bad.to_pylist()}),
        "bytes of polars": pl.DataFrame({"text": bad.to_pylist()}),
    }
    for name, table in tables.items():
        first, second = read(table)
        assert (first.text, first.repaired, second.text) == ("ol\ufffd", True, "ok"), name


def test_numbers_of_classes_come_as_names():
    """As in a Parquet file of Hugging Face; -1 is how a label is missing there."""
    features = {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}
    about = json.dumps({"info": {"features": features}})
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    table = table.replace_schema_metadata({"huggingface": about})
    assert [row.label for row in read(table)] == ["yes", "no", None]
    assert [row.label for row in read(table.to_reader())] == ["yes", "no", None]


SERIES = {
    "pandas": pd.Series(["a", "b"], name="sentence"),
    "polars": pl.Series("x", ["a", "b"]),
    "Arrow": pa.chunked_array([["a"], ["b"]]),
}


@pytest.mark.parametrize("kind", SERIES)
def test_a_series_holds_texts(kind):
    assert read(SERIES[kind]) == [Tweet("0", "a"), Tweet("1", "b")]


def test_columns_of_other_names():
    frame = pd.DataFrame({"Body": ["a"], "mood": ["x"], 3: [7]})
    assert read(frame, text="Body", label="mood", id="3") == [Tweet("7", "a", "x")]
    reader = TweetReader(frame, Columns(text="Body"))
    list(reader)
    assert reader.findings.files["pandas.DataFrame"].left == ("mood", "3")


def test_columns_of_lists_are_named_and_not_read():
    rows = [{"text": "a", "tags": ["x"]}, {"text": "b", "tags": []}]
    for frame in (pl.DataFrame(rows), pa.Table.from_pylist(rows)):
        reader = TweetReader(frame)
        assert [row.text for row in reader] == ["a", "b"]
        (note,) = reader.findings.notes
        assert note.endswith('column "tags" holds lists or objects and is not read')


def test_objects_among_texts_are_rejects():
    odd = ["fine", 3, ["x"], {}, {"a"}, None, pd.NA, pd.NaT, 1.5, pd.Timestamp("2020-01-01")]
    frame = pd.DataFrame({"text": pd.Series(odd, dtype=object)})
    tweet, *rejects = read(frame)
    assert tweet.text == "fine"
    assert [reject.reason.removeprefix("'text' is ") for reject in rejects] == [
        "a number, not a text",
        "a list, not a text",
        "an object, not a text",
        "not a text, not a text",
        *["no text: 'text' is missing or null"] * 3,
        "a number, not a text",
        "not a text, not a text",
    ]


def test_a_text_beyond_the_bound_is_a_reject():
    for make in KINDS.values():
        frame = make({"id": ["1", "2"], "text": ["x" * 1001, "y" * 1000], "label": ["a", "b"]})
        reject, tweet = TweetReader(frame, max_line_bytes=1000)
        assert reject.reason == "'text' is longer than 1000 bytes, not a text"
        assert tweet.text == "y" * 1000


def test_rows_are_counted_through_all_frames_and_files(tmp_path):
    (tmp_path / "a.txt").write_text("three\n")
    frames = [pd.DataFrame({"text": ["zero", None]}), pd.DataFrame({"text": ["two"]})]
    reader = TweetReader([*frames, tmp_path / "a.txt"])
    found = list(reader)
    assert [row.id for row in found if isinstance(row, Tweet)] == ["0", "2", "3"]
    assert (found[1].source, found[1].line) == ("pandas.DataFrame 1", 2)
    reader = TweetReader(iter(frames))
    assert [row.line for row in reader] == [1, 2, 3]
    assert reader.rows_read == 3


def test_a_stream_is_read_in_pieces():
    """No more than a few batches ahead of who takes the rows."""
    taken = 0

    def batches():
        nonlocal taken
        for n in range(1000):
            taken += 1
            yield pa.record_batch({"text": [f"{n} {k}" for k in range(100)]})

    schema = pa.schema({"text": pa.string()})
    for source in (batches(), pa.RecordBatchReader.from_batches(schema, batches())):
        taken = 0
        rows = iter(TweetReader(source))
        first = [next(rows) for _ in range(250)]
        assert first[-1].text == "2 49"
        assert taken <= 5
        assert sum(1 for _ in chain(first, rows)) == 100_000


def test_a_query_of_sqlite_is_read_in_pieces():
    connection = sqlite3.connect(":memory:")
    pd.DataFrame({"text": ["a", "b", "c"]}).to_sql("tweets", connection, index=False)
    pieces = pd.read_sql("select * from tweets", connection, chunksize=2)
    assert [row.text for row in read(pieces)] == ["a", "b", "c"]
    connection.close()


def test_other_columns_in_a_later_frame():
    frames = [pd.DataFrame({"text": ["a"], "id": ["x"]}), pd.DataFrame({"id": ["y"], "text": "b"})]
    assert read(iter(frames)) == [Tweet("x", "a"), Tweet("y", "b")]
    with pytest.raises(InputError, match="none of the columns text"):
        read(iter([frames[0], pd.DataFrame({"words": ["b"]})]))


def broken():
    yield pd.DataFrame({"text": ["a"]})
    raise RuntimeError("the line\nwas cut")


# By what is wrong: the input, and what is said of it.
REFUSED = {
    "no text column": (pd.DataFrame({"words": ["a"]}), "none of the columns text, tweet"),
    "no columns": (pl.DataFrame(), "its columns are: none"),
    "twice": (pd.DataFrame([["a", "b"]], columns=["text"] * 2), "two columns have one name"),
    "twice in Arrow": (pa.table([["a"], ["b"]], names=["text"] * 2), "two columns have one name"),
    "lists alone": (pl.DataFrame({"text": [["a"]]}), 'column "text" holds lists or objects'),
    "a list of dicts": ([{"text": "a"}], "an input is a dict: .*pandas.DataFrame"),
    "a dict": ({"text": ["a"]}, "an input is a dict"),
    "an array": (np.array([["a"]]), "an input is a ndarray"),
    "nothing": (None, "an input is a NoneType"),
    "no frame among frames": (iter([pd.DataFrame({"text": ["a"]}), 5]), "a int is among them"),
    "a broken iterator": (broken(), "cannot be read: the line$"),
    "no frame at all": (iter([]), "no input was given"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_frame_of_tweets_is_refused_in_one_line(case):
    given_input, said = REFUSED[case]
    with pytest.raises(FrostlineError, match=said) as caught:
        read(given_input)
    assert "\n" not in str(caught.value)


def test_what_is_said_of_files_alone_is_refused_of_a_frame(tmp_path):
    frame = pd.DataFrame({"text": ["a"]})
    with pytest.raises(InputError, match="`delimiter`: for files alone"):
        TweetReader(frame, written=InputFormat(delimiter=";"))
    (tmp_path / "labels.txt").write_text("1\n")
    with pytest.raises(InputError, match=r"`labels` goes with exactly one \.txt input"):
        TweetReader(frame, Columns(labels=tmp_path / "labels.txt"))


def test_a_frame_without_rows_has_none():
    for frame in (pd.DataFrame({"text": []}), pl.DataFrame(schema={"text": pl.String})):
        assert read(frame) == []


def test_names_of_frames():
    frame = pd.DataFrame({"text": ["a"]})
    assert [name_of(one) for one in inputs_of(frame)] == ["pandas.DataFrame"]
    assert [name_of(one) for one in inputs_of([frame, frame])] == [
        "pandas.DataFrame 1",
        "pandas.DataFrame 2",
    ]
    assert [name_of(one) for one in inputs_of(iter([frame]))] == ["iterator of pandas.DataFrame"]


def test_libraries_that_are_not_there_are_not_needed(monkeypatch):
    """polars and pandas go without each other and without pyarrow; a stream of Arrow does not."""
    frame = pl.DataFrame({"text": ["a"]})
    stream = pa.table({"text": ["a"]}).to_reader()
    table = pd.DataFrame({"text": ["a"]}, dtype=object)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert [row.text for row in read(table)] == ["a"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert [row.text for row in read(frame)] == ["a"]
    with pytest.raises(InputError, match=r"pip install 'frostline\[parquet\]'"):
        read(stream)
