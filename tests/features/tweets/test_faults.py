"""Files as people have them: each fault in every format that can have it, and the right outcome.

A new kind of fault is a row of `VALUES`, `TABLES` or `FILES`; a new format joins by its writer.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import zipfile
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import FileRefused, InputError
from features.tweets.columns import Columns
from features.tweets.reader import Reject, Tweet, TweetReader
from features.tweets.table import InputFormat


def read(path, written=InputFormat(), **columns):  # noqa: B008 - it is frozen
    reader = TweetReader([path], Columns(**columns), written=written)
    return list(reader), reader.findings


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --------------------------------------------------------------------- one value, one meaning


def to_csv(frame, path):
    frame.to_csv(path, index=False)


def to_tsv(frame, path):
    frame.to_csv(path, index=False, sep="\t")


def to_jsonl(frame, path):
    frame.to_json(path, orient="records", lines=True)


def to_json(frame, path):
    frame.to_json(path, orient="records")


def to_parquet(frame, path):
    pq.write_table(pa.Table.from_pandas(frame), path)


def to_arrow(frame, path):
    feather.write_feather(pa.Table.from_pandas(frame), path)


FRAMES = {
    ".csv": to_csv,
    ".tsv": to_tsv,
    ".jsonl": to_jsonl,
    ".json": to_json,
    ".parquet": to_parquet,
    ".arrow": to_arrow,
}
# Labels and ids as a frame has them, and what they are.
VALUES = {
    "whole": (pd.Series([2, 0, 4]), ["2", "0", "4"]),
    "with a gap": (pd.Series([2, None, 4]), ["2", None, "4"]),
    "floats": (pd.Series([2.0, 0.0, 4.0]), ["2", "0", "4"]),
    "nullable": (pd.Series([2, None, 4], dtype="Int64"), ["2", None, "4"]),
    "texts": (pd.Series(["a", None, "b c"]), ["a", None, "b c"]),
    "texts of floats": (pd.Series(["2.0", "4.0", "0.5"]), ["2", "4", "0.5"]),
    "markers": (pd.Series(["nan", "NA", "x"]), [None, None, "x"]),
    "categories": (pd.Series(["x", "y", "x"], dtype="category"), ["x", "y", "x"]),
}


@pytest.mark.parametrize("suffix", FRAMES)
@pytest.mark.parametrize("kind", VALUES)
def test_labels_and_ids_mean_the_same_in_every_format(tmp_path, suffix, kind):
    values, expected = VALUES[kind]
    frame = pd.DataFrame({"id": values, "text": ["one", "two", "three"], "label": values})
    FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    rows, _ = read(tmp_path / f"a{suffix}")
    assert [row.label for row in rows] == expected
    assert [row.id for row in rows] == [
        str(n) if value is None else value for n, value in enumerate(expected)
    ]


@pytest.mark.parametrize("suffix", FRAMES)
def test_truth_values_are_labels(tmp_path, suffix):
    frame = pd.DataFrame({"text": ["one", "two"], "label": [True, False]})
    FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    rows, _ = read(tmp_path / f"a{suffix}")
    assert [row.label for row in rows] == ["True", "False"]


@pytest.mark.parametrize("suffix", FRAMES)
def test_ids_that_lost_their_digits_are_never_two_tweets_id(tmp_path, suffix):
    frame = pd.DataFrame({"id": [791557233689870338, None], "text": ["one", "two"]})
    FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    (first, second), _ = read(tmp_path / f"a{suffix}")
    assert isinstance(first, Reject)
    assert "can't tell ids of this size apart" in first.reason
    assert second == Tweet("1", "two")
    rows, _ = read(tmp_path / f"a{suffix}", id="")
    assert rows == [Tweet("0", "one"), Tweet("1", "two")]


@pytest.mark.parametrize("suffix", FRAMES)
def test_markers_of_missing_values_are_texts_as_texts(tmp_path, suffix):
    texts = ["NA", "null", "nan", "None", "n/a"]
    FRAMES[suffix](pd.DataFrame({"text": texts, "label": texts}), tmp_path / f"a{suffix}")
    rows, findings = read(tmp_path / f"a{suffix}")
    assert rows == [Tweet(str(n), text) for n, text in enumerate(texts)]
    assert findings.missing_labels == dict.fromkeys(texts, 1)
    assert any("missing" in remark for remark in findings.remarks())


@pytest.mark.parametrize("suffix", FRAMES)
def test_a_mapping_serves_floats_too_and_one_that_maps_nothing_is_an_error(tmp_path, suffix):
    frame = pd.DataFrame({"text": ["one", "two", "three"], "label": [0, None, 4.0]})
    FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    good = put(tmp_path, "good.txt", "0\tbad\n4.0\tgood\n")
    rows, _ = read(tmp_path / f"a{suffix}", mapping=good)
    assert [row.label for row in rows] == ["bad", None, "good"]
    wrong = put(tmp_path, "wrong.txt", "1\tbad\n2\tgood\n")
    with pytest.raises(InputError, match="has none of the labels of the input"):
        read(tmp_path / f"a{suffix}", mapping=wrong)


@pytest.mark.parametrize("suffix", FRAMES)
def test_variants_of_a_label_are_told_and_merged_on_demand(tmp_path, suffix):
    labels = ["Positive", "POSITIVE", "positive", " positive", "negative"]
    frame = pd.DataFrame({"text": list("abcde"), "label": labels})
    FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    rows, findings = read(tmp_path / f"a{suffix}")
    assert [row.label for row in rows] == [label.strip() for label in labels]
    remarks = list(findings.remarks())
    assert any('"POSITIVE" 1, "Positive" 1, "positive" 2' in remark for remark in remarks)
    assert any("1 labels have blanks around them" in remark for remark in remarks)
    rows, findings = read(tmp_path / f"a{suffix}", label_case="fold")
    assert [row.label for row in rows] == ["positive"] * 4 + ["negative"]
    assert findings.label_variants() == []


def test_class_names_of_hugging_face_are_labels(tmp_path):
    features = {"label": {"names": ["bad", "good"], "_type": "ClassLabel"}}
    about = json.dumps({"info": {"features": features}})
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    table = table.replace_schema_metadata({"huggingface": about})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "a.arrow"):
        rows, _ = read(tmp_path / name)
        assert [row.label for row in rows] == ["good", "bad", None]


# ------------------------------------------------------------------- tables, read as they are meant

ROWS = [("1", "positive", "a b"), ("2", "negative", "c"), ("3", "neutral", "d")]


def table_of(*rows, delimiter="\t", end="\n"):
    return end.join(delimiter.join(row) for row in (("id", "label", "text"), *rows)) + end


# Content, the texts that it holds (None: a reject), and a part of what it was read as.
TABLES = {
    "quotes that are text": (
        table_of(
            ("1", "positive", '"open'), ("2", "negative", 'a "b" c'), ("3", "neutral", 'close"')
        ),
        ['"open', 'a "b" c', 'close"'],
        "quotes that are text",
    ),
    "balanced quotes over two rows": (
        table_of(("1", "positive", '"open'), ("2", "negative", 'close"'), ("3", "positive", "x")),
        ['"open', 'close"', "x"],
        "quotes that are text",
    ),
    "a quote that is never closed": (
        table_of(("1", "positive", "a"), ("2", "negative", '"open'), ("3", "neutral", "c")),
        ["a", '"open', "c"],
        "quotes that are text",
    ),
    "a quoted tweet over several lines": (
        table_of(("1", "positive", '"one\ntwo"'), ("2", "negative", '"three\n\nfour"')),
        ["one\ntwo", "three\n\nfour"],
        "quoted cells",
    ),
    "a quoted tweet with delimiters over several lines": (
        table_of(("1", "positive", '"one\nx\ty\tz"'), ("2", "negative", "c")),
        ["one\nx\ty\tz", "c"],
        "quoted cells",
    ),
    "quotes escaped by backslashes": (
        'id,label,text\n1,positive,"he said \\"no\\", twice"\n2,negative,"C:\\new"\n3,neutral,x\n',
        ['he said "no", twice', "C:\\new", "x"],
        "backslashes",
    ),
    "text behind a closing quote": (
        'id,label,text\n1,positive,"so "good" they say"\n2,negative,"a, b"\n3,neutral,x\n',
        [None, "a, b", "x"],
        "quoted cells",
    ),
    "carriage returns": (table_of(*ROWS, end="\r"), ["a b", "c", "d"], "tabs"),
    "semicolons": (table_of(*ROWS, delimiter=";"), ["a b", "c", "d"], "semicolons"),
    "commas in unquoted cells": (
        "id,label,text\n1,positive,a, b\n2,negative,c\n",
        [None, "c"],
        "commas",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(tmp_path, kind):
    content, texts, how = TABLES[kind]
    suffix = ".tsv" if "\t" in content.split("\n")[0] else ".csv"
    path = put(tmp_path, f"a{suffix}", content)
    rows, findings = read(path)
    assert [None if isinstance(row, Reject) else row.text for row in rows] == texts
    assert how in findings.files[str(path)].format


def test_what_is_said_by_hand_is_never_overruled(tmp_path):
    path = put(tmp_path, "a.csv", 'id|text\n1|"a"\n2|b\n')
    assert [row.text for row in read(path)[0]] == ["a", "b"]
    rows, _ = read(path, InputFormat(quoting="none"))
    assert [row.text for row in rows] == ['"a"', "b"]
    rows, _ = read(
        put(tmp_path, "b.csv", "1,a\n2,b\n"), InputFormat(header=False), id="0", text="1"
    )
    assert rows == [Tweet("1", "a"), Tweet("2", "b")]
    rows, _ = read(put(tmp_path, "c.txt", "text\na\n"), InputFormat(format="csv"))
    assert rows == [Tweet("0", "a")]
    for wrong in ({"quoting": "all"}, {"delimiter": "ab"}, {"format": "xls"}):
        with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
            read(path, InputFormat(**wrong))


# ------------------------------------------------------------- what is there and is not in a column


def test_common_names_of_columns(tmp_path):
    for header, role, name in [
        ("tweet_id,airline_sentiment,text", "label", "airline_sentiment"),
        ("target,ids,text", "label", "target"),
        ("OriginalTweet,Sentiment", "text", "OriginalTweet"),
        ("Tweet ID,Tweet,Class", "id", "Tweet ID"),
    ]:
        path = put(
            tmp_path, "a.csv", f"{header}\n" + ",".join("abc"[: header.count(",") + 1]) + "\n"
        )
        _, findings = read(path)
        assert findings.files[str(path)].columns[role] == name


def test_columns_that_look_like_labels_and_are_not_read_are_named(tmp_path):
    path = put(tmp_path, "a.csv", "text,my_sentiment_x\na,good\n")
    (row,), findings = read(path)
    assert row.label is None
    assert any(
        "my_sentiment_x" in remark and "`label_column`" in remark for remark in findings.remarks()
    )


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_columns_of_lists_and_objects_are_named(tmp_path, suffix):
    table = pa.table({"text": ["a"], "label": [["good"]], "tweet": [{"text": "a"}]})
    writer = pq.write_table if suffix == ".parquet" else feather.write_feather
    writer(table, tmp_path / f"a{suffix}")
    _, findings = read(tmp_path / f"a{suffix}")
    assert [note.partition("column ")[2].split()[0] for note in findings.notes] == [
        '"label"',
        '"tweet"',
    ]
    writer(table.select(["label", "tweet"]), tmp_path / f"b{suffix}")
    with pytest.raises(InputError, match='column "tweet" holds lists or objects'):
        read(tmp_path / f"b{suffix}")


WHOLE = "all of it, to the very end"
CUT = [
    {"text": "all of…", "truncated": True, "extended_tweet": {"full_text": WHOLE}},
    {"text": "all of…", "full_text": WHOLE},
    {"text": "all of…", "note_tweet": {"text": WHOLE}},
    {"text": "RT @a: all of…", "retweeted_status": {"text": "all…", "full_text": WHOLE}},
    {
        "text": "RT @a: all of…",
        "retweeted_status": {"text": "all…", "extended_tweet": {"full_text": WHOLE}},
    },
]


@pytest.mark.parametrize("row", CUT)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", "tweets.js"])
def test_the_whole_text_of_a_tweet_is_read_and_counted(tmp_path, row, suffix):
    content = json.dumps(row) + "\n" if suffix == ".jsonl" else json.dumps([row])
    path = put(tmp_path, f"a{suffix}", content)
    (tweet,), findings = read(path)
    assert tweet.text == ("RT @a: " if row["text"].startswith("RT") else "") + WHOLE
    assert findings.completed == 1
    (tweet,), _ = read(path, text="text")  # by hand
    assert tweet.text == row["text"]


def test_pages_of_the_api(tmp_path):
    page = {
        "data": [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}],
        "meta": {"result_count": 2},
    }
    for name, content in [
        ("a.json", json.dumps(page, indent=2)),
        ("b.jsonl", json.dumps(page) + "\n"),
        ("c.json", json.dumps(page) + "\n" + json.dumps({"data": [{"id": "3", "text": "c"}]})),
    ]:
        rows, _ = read(put(tmp_path, name, content))
        assert [row.text for row in rows][:2] == ["a", "b"]
        assert len(rows) == 2 + (name == "c.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a"}, {"text": ]', "line 1: not JSON"),
        ('[{"text": "a"},\n{"text": "b"}', "line 2: its array is never closed"),
        ('[{"text": "a"}\n{"text": "b"}]', None),
    ],
)
def test_damaged_arrays_are_refused(tmp_path, content, message):
    path = put(tmp_path, "a.json", content)
    if message is None:  # a missing comma costs nothing
        assert [row.text for row in read(path)[0]] == ["a", "b"]
        return
    with pytest.raises(InputError, match=message):
        read(path)


def test_an_array_of_one_line_may_be_longer_than_a_line(tmp_path):
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(500)]
    for name in ("a.json", "a.jsonl"):
        path = put(tmp_path, name, json.dumps(rows))
        found = TweetReader([path], max_line_bytes=2000)
        assert [row.text for row in found] == [row["text"] for row in rows]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_nothing_behind_an_array_is_left_out(tmp_path, suffix):
    for content in (
        '[{"text": "a"}]\n[{"text": "b"}]\n',
        '[{"text": "a"}]\n{"text": "b"}\n',
        '[{"text": "a"}], [{"text": "b"}]',
    ):
        rows, _ = read(put(tmp_path, f"a{suffix}", content))
        assert [row.text for row in rows] == ["a", "b"]
    with pytest.raises(InputError, match="line 1: not JSON"):
        read(put(tmp_path, f"a{suffix}", '[{"text": "a"}]; {"text": "b"}'))


def test_objects_one_behind_the_other(tmp_path):
    content = '{\n"text": "a"\n}\n{\n"text": "b"\n},\n{\n"text": "c"\n}\n'
    rows, _ = read(put(tmp_path, "a.json", content))
    assert [(row.text, row.line) for row in rows] == [("a", 1), ("b", 4), ("c", 7)]


def test_the_name_of_an_archive_in_a_text_is_text(tmp_path):
    text = "see window.YTD.tweet.part0 = x"
    (row,), _ = read(put(tmp_path, "a.json", json.dumps({"text": text}) + "\n"))
    assert row.text == text


def test_what_stands_beside_a_tweet_is_kept(tmp_path):
    row = {"tweet": {"id_str": "7", "full_text": "a"}, "label": "x", "id_str": "outer"}
    for name, content in [("a.jsonl", json.dumps(row) + "\n"), ("a.json", json.dumps([row]))]:
        assert read(put(tmp_path, name, content))[0] == [Tweet("7", "a", "x")]


def test_labels_under_another_key_than_before_are_told(tmp_path):
    rows = [{"text": "a", "label": "x"}, {"text": "b", "sentiment": "y"}, {"text": "c", "label": 1}]
    found, findings = read(put(tmp_path, "a.jsonl", "".join(json.dumps(r) + "\n" for r in rows)))
    assert [row.label for row in found] == ["x", None, "1"]
    assert any(
        '"sentiment" may hold labels too' in remark and "`label_column`" in remark
        for remark in findings.remarks()
    )


# ------------------------------------------------------------------ files that were put together


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_header_again_is_no_tweet(tmp_path, suffix, mark, end):
    content = table_of(*ROWS, delimiter="\t" if suffix == ".tsv" else ",", end=end)
    rows, findings = read(put(tmp_path, f"a{suffix}", 2 * (mark + content)))
    assert [getattr(row, "text", None) for row in rows] == ["a b", "c", "d", None, "a b", "c", "d"]
    assert rows[3].reason == "the names of the columns again, not a tweet"
    assert findings.labels == {"positive": 2, "negative": 2, "neutral": 2}


@pytest.mark.parametrize("suffix", FRAMES)
def test_a_mark_in_the_middle_is_no_part_of_labels_and_ids(tmp_path, suffix):
    labels = ["x", "\ufeffx", "x\u200b", "\xa0x"]
    frame = pd.DataFrame({"id": ["1", "\ufeff2", "3\u200b", " 4"], "text": "a", "label": labels})
    FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    rows, findings = read(tmp_path / f"a{suffix}")
    assert [(row.id, row.label) for row in rows] == [(str(n), "x") for n in range(1, 5)]
    assert findings.stripped == 3


def test_letters_composed_in_two_ways_are_variants(tmp_path):
    path = put(tmp_path, "a.csv", "text,label\na,caf\u00e9\nb,cafe\u0301\n")
    assert read(path)[1].label_variants() == [["cafe\u0301", "caf\u00e9"]]
    rows, findings = read(path, label_case="fold")
    assert [row.label for row in rows] == ["caf\u00e9", "caf\u00e9"]
    assert findings.label_variants() == []


@pytest.mark.parametrize("suffix", FRAMES)
def test_a_mapping_may_name_what_is_read_as_missing(tmp_path, suffix):
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": ["None", "x", "NA"]})
    FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    mapping = put(tmp_path, "m.txt", "None\tneutral\nx\tfor\n")
    rows, findings = read(tmp_path / f"a{suffix}", mapping=mapping)
    assert [row.label for row in rows] == ["neutral", "for", None]
    assert findings.missing_labels == {"NA": 1}


# -------------------------------------------------------------- what is not what its name says

PLAIN = b"id,text\n1,a\n"
DISGUISED = {
    "packed by gzip": (gzip.compress(PLAIN), "a.csv.gz"),
    "packed by bzip2": (bz2.compress(PLAIN), "a.csv.bz2"),
    "packed by xz": (lzma.compress(PLAIN), "a.csv.xz"),
    "packed by zstandard": (zstandard.compress(PLAIN), "a.csv.zst"),
}


@pytest.mark.parametrize("what", DISGUISED)
def test_a_packed_file_without_its_name_is_named(tmp_path, what):
    content, better = DISGUISED[what]
    with pytest.raises(InputError, match=f"a.csv is {what}, by how it begins: give it a name"):
        read(put(tmp_path, "a.csv", content))
    assert read(put(tmp_path, better, content))[0] == [Tweet("1", "a")]


def test_a_parquet_file_without_its_name_is_named(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a Parquet file, .*`input_format=parquet`"):
        read(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", InputFormat(format="parquet"))[0] == [Tweet("0", "a")]


def test_a_workbook_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv", "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
    with pytest.raises(InputError, match=r"an Excel workbook.*save its sheet as CSV"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["nonsense", "hex", "rot13", "undefined"])
def test_what_is_no_encoding_of_text_is_an_error(tmp_path, encoding):
    for name in ("a.csv", "a.jsonl", "a.txt"):
        with pytest.raises(InputError, match=f"unknown encoding '{encoding}'"):
            read(put(tmp_path, name, "text\na\n"), InputFormat(encoding=encoding))


def test_a_table_that_is_named_as_text_is_told(tmp_path):
    path = put(tmp_path, "a.txt", "1\tpositive\ta\n2\tnegative\tb\n")
    rows, findings = read(path)
    assert [row.text for row in rows] == ["1\tpositive\ta", "2\tnegative\tb"]
    (remark,) = findings.remarks()
    assert "its lines have 2 tabs each" in remark
    written = InputFormat(format="tsv", header=False)
    assert read(path, written, id="0", label="1", text="2")[0] == [
        Tweet("1", "a", "positive"),
        Tweet("2", "b", "negative"),
    ]
    assert not list(read(put(tmp_path, "b.txt", "a\tb\nc\n"))[1].remarks())


def test_numbers_of_rows_that_are_ids_of_others_are_counted(tmp_path):
    path = put(tmp_path, "a.csv", "id,text\n1,a\n,b\n5,c\n")
    rows, findings = read(path)
    assert [row.id for row in rows] == ["1", "1", "5"]
    assert any("1 rows have the id of an earlier row" in remark for remark in findings.remarks())


@pytest.mark.parametrize("suffix", FRAMES)
def test_what_is_no_finite_number_is_no_label(tmp_path, suffix):
    if "json" in suffix:  # pandas writes null
        put(tmp_path, f"a{suffix}", '{"text": "a", "label": Infinity}\n')
    elif suffix in (".csv", ".tsv"):  # a text like any other
        return
    else:
        frame = pd.DataFrame({"text": ["a"], "label": [float("inf")]})
        FRAMES[suffix](frame, tmp_path / f"a{suffix}")
    (row,), _ = read(tmp_path / f"a{suffix}")
    assert row.reason == "label is not a finite number"


def test_numbers_of_thousands_of_digits(tmp_path):
    long = "1" * 5000
    path = put(tmp_path, "a.csv", f"id,text,label\n{long},a,x\n1,b,{long}.0\n{long}.0,c,y\n")
    first, second, third = read(path)[0]
    assert first.reason == third.reason == "id is longer than 256 bytes"
    assert second.label == f"{long}.0"


def test_an_archive_of_several_files_is_refused_with_the_cure(tmp_path):
    for name in ("a.zip", "a.csv.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.csv", "text\na\n")
            archive.writestr("b.csv", "text\nb\n")
        with pytest.raises(InputError, match="unpack it, and name the"):
            read(tmp_path / name)


# ------------------------------------------------------------------ columns of Parquet and Arrow


def columnar(table, path):
    (pq.write_table if path.suffix == ".parquet" else feather.write_feather)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_numbers_of_every_type(tmp_path, suffix):
    texts = ["a", "b"]
    for column, expected in [
        (pa.array([1, 2], pa.int8()), ["1", "2"]),
        (pa.array([1, 2**64 - 1], pa.uint64()), ["1", str(2**64 - 1)]),
        (pa.array([1.0, 2.0], pa.float32()), ["1", "2"]),
        (pa.array([Decimal("1.00"), Decimal("2.50")], pa.decimal128(5, 2)), ["1", "2.50"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
    ]:
        table = pa.table({"id": column, "text": texts, "label": column})
        rows, _ = read(columnar(table, tmp_path / f"a{suffix}"))
        assert [(row.id, row.label) for row in rows] == [(one, one) for one in expected]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_ids_that_short_floats_have_changed_are_rejected(tmp_path, suffix):
    ids = pa.array([123456789.0, 5.0], pa.float32())
    path = columnar(pa.table({"id": ids, "text": ["a", "b"]}), tmp_path / f"a{suffix}")
    first, second = read(path)[0]
    assert "id is a floating-point number that is not exact" in first.reason
    assert second == Tweet("5", "b")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_column_that_is_there_twice_is_named(tmp_path, suffix):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(FileRefused, match="column 'text' is there more than once"):
        read(columnar(table, tmp_path / f"a{suffix}"))


# ------------------------------------------------------------------------------------- properties

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from([",", ";", "\t"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
    }
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(TEXT, st.sampled_from("abc")), min_size=1, max_size=12), DIALECTS)
def test_tables_of_any_dialect_are_read_back_equal(tmp_path_factory, rows, dialect):
    file = io.StringIO(newline="")
    writer = csv.writer(file, **dialect)
    writer.writerow(["id", "text", "label"])
    writer.writerows((str(n), text, label) for n, (text, label) in enumerate(rows))
    content = file.getvalue()
    # Before Python 3.13 a carriage return alone was not reason enough for quotes.
    if dialect["quoting"] == csv.QUOTE_MINIMAL and any("\r" in text for text, _ in rows):
        return
    path = put(tmp_path_factory.mktemp("table"), "a.csv", content)
    found, _ = read(path, InputFormat(delimiter=dialect["delimiter"]))
    assert found == [Tweet(str(n), text, label) for n, (text, label) in enumerate(rows)]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(TEXT, st.sampled_from("abc")), min_size=1, max_size=8),
    st.sampled_from(
        ["pandas csv", "polars csv", "pandas jsonl", "polars jsonl", "parquet", "arrow"]
    ),
)
def test_frames_are_read_back_equal(tmp_path_factory, rows, writer):
    folder = tmp_path_factory.mktemp("frame")
    columns = {
        "id": [f"n{n}" for n in range(len(rows))],
        "text": [text for text, _ in rows],
        "label": [label for _, label in rows],
    }
    library, _, kind = writer.partition(" ")
    path = folder / f"a.{kind or library}"
    if writer == "pandas csv":
        pd.DataFrame(columns).to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)
    elif writer == "polars csv":
        pl.DataFrame(columns).write_csv(path, quote_style="always")
    elif writer == "pandas jsonl":
        pd.DataFrame(columns).to_json(path, orient="records", lines=True)
    elif writer == "polars jsonl":
        pl.DataFrame(columns).write_ndjson(path)
    elif writer == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        feather.write_feather(pa.table(columns), path)
    found, _ = read(path)
    assert found == [Tweet(f"n{n}", text, label) for n, (text, label) in enumerate(rows)]


def corrupted(content, seed):
    """Change a good table as people and tools do: lines, quotes and delimiters come and go."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        kind = chance.choice(["quote", "delimiter", "line", "drop", "byte", "copy"])
        if kind == "drop":
            del data[at : at + chance.randint(1, 20)]
        elif kind == "copy":
            data[at:at] = data[at : at + chance.randint(1, 40)]
        else:
            mark = {"quote": b'"', "delimiter": b",", "line": b"\n"}.get(kind)
            data[at:at] = mark or bytes([chance.randrange(256)])
    return bytes(data)


@pytest.mark.parametrize("seed", range(200))
def test_corrupted_tables_lose_no_row_uncounted(tmp_path, seed):
    """Each line without a quote is a row by itself, a reject, or in a row that is a reject."""
    rows = [f"{n},text number {n},{'abc'[n % 3]}" for n in range(40)]
    rows[5] = '5,"quoted, text",a'
    rows[9] = '9,"over two\nlines",b'
    content = corrupted(("id,text,label\n" + "\n".join(rows) + "\n").encode(), seed)
    path = put(tmp_path, "a.csv", content)
    try:
        found, _ = read(path, InputFormat(encoding="utf-8"))
    except InputError:
        return
    lines = content.decode("utf-8", "replace").splitlines()
    kept = {row.text for row in found if isinstance(row, Tweet)}
    plain = [
        line.split(",")[1]
        for line in lines[1:]
        if '"' not in line and line.count(",") == 2 and line.startswith(tuple("0123456789"))
    ]
    swallowed = [
        text
        for text in plain
        if text.replace("\ufffd", "")
        and text not in kept
        and not any(text in one for one in kept)
        and not any(isinstance(row, Reject) for row in found)
    ]
    assert swallowed == []
