import bz2
import csv
import dataclasses
import gzip
import io
import json
import lzma
import os
import sys
import zipfile
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard

from features.errors import FileRefused, InputError
from features.tweets.columns import Columns
from features.tweets.formats import BINARY, FORMATS, Header
from features.tweets.reader import MAX_ID_BYTES, Reject, Tweet, TweetReader
from features.tweets.source import LookAhead, Source
from features.tweets.table import InputFormat

TEXTS = [
    "plain",
    "commas, and; semicolons",
    'he said "no" and "" twice',
    "'single' `back`",
    "emoji 😀 👩‍👩‍👧 ❤️",
    "日本語、テキスト",
    "back\\slash \\n stays",
    "line\u2028and\u2029paragraph separators, \x0b \x0c \x1c \x85 too",
    "  spaces around  ",
    "<b>&amp; #tag @name https://t.co/x</b>",
    '{"text": "json"}',
    "tab\there",
    "",
]
OF_SEVERAL_LINES = ["first\nsecond", "first\r\nsecond", '"\n"']


def write_delimited(rows, delimiter):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return file.getvalue().encode()


def write_parquet(rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def write_arrow(rows):
    file = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(file, table.schema) as writer:  # as Hugging Face's data sets are kept
        writer.write_table(table, max_chunksize=2)
    return file.getvalue()


def write_feather(rows):
    file = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(rows), file)
    return file.getvalue()


# A new reader is tested by a row here: rows of cells in, the bytes of a file out.
WRITERS = {
    ".csv": lambda rows: write_delimited(rows, ","),
    ".tsv": lambda rows: write_delimited(rows, "\t"),
    ".tab": lambda rows: write_delimited(rows, "\t"),
    ".jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    ".ndjson": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    ".json": lambda rows: json.dumps(rows, indent=1).encode(),
    "tweets.js": lambda rows: (
        b"window.YTD.tweets.part0 = "
        + json.dumps([{"tweet": row} for row in rows], indent=2).encode()
    ),
    ".txt": lambda rows: "".join(row["text"] + "\n" for row in rows).encode(),
    ".parquet": write_parquet,
    ".arrow": write_arrow,
    ".feather": write_feather,
}
WITH_GZIP = [*WRITERS, *(f"{suffix}.gz" for suffix in WRITERS if suffix not in BINARY)]
WITH_COLUMNS = [suffix for suffix in WRITERS if suffix != ".txt"]


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_rows(folder, suffix, rows, stem="tweets"):
    content = WRITERS[suffix.removesuffix(".gz")](rows)
    return put(folder, stem + suffix, gzip.compress(content) if suffix.endswith("gz") else content)


def reader_of(inputs, **options):
    names = ("encoding", "delimiter", "quoting", "header")
    written = InputFormat(**{name: options.pop(name) for name in names if name in options})
    limit = {name: options.pop(name) for name in ["max_line_bytes"] if name in options}
    columns = Columns(**{name.removesuffix("_column"): to for name, to in options.items()})
    return TweetReader(inputs, columns, written=written, **limit)


def read(*inputs, **options):
    return list(reader_of(inputs, **options))


def refusal(kind, *inputs, **options):
    with pytest.raises(kind) as caught:
        read(*inputs, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------ the formats


def test_every_format_has_a_writer_here():
    assert WRITERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("suffix", WITH_GZIP)
def test_tweets_come_back(tmp_path, suffix):
    texts = TEXTS if ".txt" in suffix else TEXTS + OF_SEVERAL_LINES
    rows = [{"id": f"n{i}", "text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    tweets = read(put_rows(tmp_path, suffix, rows))
    if ".txt" in suffix:
        assert tweets == [Tweet(str(i), text) for i, text in enumerate(texts)]
    else:
        assert tweets == [Tweet(**row) for row in rows]


@pytest.mark.parametrize("suffix", WITH_GZIP)
def test_names_may_be_in_capitals(tmp_path, suffix):
    base = suffix.removesuffix(".gz")
    path = put_rows(tmp_path, suffix, [{"text": "hi"}], stem="a")
    loud = path.rename(tmp_path / f"A{base.upper()}{suffix.removeprefix(base).upper()}")
    assert [tweet.text for tweet in read(loud)] == ["hi"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last_line_ends", [True, False])
def test_line_ends(tmp_path, suffix, end, last_line_ends):
    content = WRITERS[suffix]([{"text": "one"}, {"text": "two\u2028\x0b\x85"}]).decode()
    content = content.replace("\r\n", "\n").replace("\n", end)
    path = put(tmp_path, f"a{suffix}", content if last_line_ends else content.rstrip("\r\n"))
    assert [tweet.text for tweet in read(path)] == ["one", "two\u2028\x0b\x85"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt"])
@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_byte_order_mark_is_no_text(tmp_path, suffix, gz):
    content = b"\xef\xbb\xbf" + WRITERS[suffix]([{"text": "hi"}])
    path = put(tmp_path, f"a{suffix}{gz}", gzip.compress(content) if gz else content)
    assert [tweet.text for tweet in read(path)] == ["hi"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt"])
@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-16", b""), ("utf-16-be", b"\xfe\xff"), ("utf-32", b"")],
)
def test_marked_encodings_are_read(tmp_path, suffix, gz, encoding, mark):
    rows = [{"text": "grüß dich, 日本 😀"}, {"text": "zwei"}]
    content = mark + WRITERS[suffix](rows).decode().encode(encoding)
    path = put(tmp_path, f"a{suffix}{gz}", gzip.compress(content) if gz else content)
    assert read(path) == [Tweet(str(n), row["text"]) for n, row in enumerate(rows)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt", ".json"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be"])
def test_other_encodings_are_refused_with_the_option_that_reads_them(tmp_path, suffix, encoding):
    texts = ["I can\u2019t believe it\u2019s \u201cover\u201d", "das Frühstück im Café", "plain"]
    rows = [{"text": text} for text in texts]
    content = WRITERS[suffix](rows).decode()
    if "json" in suffix:
        content = (
            json.dumps(rows, ensure_ascii=False)
            if suffix == ".json"
            else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        )
    path = put(tmp_path, f"a{suffix}", content.encode(encoding))
    message = refusal(InputError, path)
    assert str(path) in message
    assert f"`encoding={encoding}`" in message
    assert [tweet.text for tweet in read(path, encoding=encoding)] == texts


def test_an_encoding_that_there_is_not(tmp_path):
    path = put(tmp_path, "a.txt", "a\n")
    assert "unknown encoding 'latin-99'" in refusal(InputError, path, encoding="latin-99")


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.compress),
        (".CSV.GZ", gzip.compress),
    ],
)
def test_other_compressions(tmp_path, ending, pack):
    rows = [{"id": str(n), "text": f"text {n}"} for n in range(2000)]
    name = "a" + (ending if "CSV" in ending else f".csv{ending}")
    path = put(tmp_path, name, pack(WRITERS[".csv"](rows)))
    assert read(path) == [Tweet(**row) for row in rows]


def test_zip_files(tmp_path):
    rows = [{"id": str(n), "text": f"text {n}"} for n in range(2000)]
    path = tmp_path / "kaggle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._Tweets.csv", b"x")
        archive.writestr("data/Tweets.csv", WRITERS[".csv"](rows))
    assert read(path) == [Tweet(**row) for row in rows]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.csv", "text\nmore\n")
    assert "unpack it, and name the file that is meant" in refusal(InputError, path)


def test_blank_lines_between_rows_are_skipped(tmp_path):
    assert len(read(put(tmp_path, "a.csv", "text,id\n\na,1\n\n\nb,2\n\n"))) == 2
    assert len(read(put(tmp_path, "a.jsonl", '\n{"text": "a"}\n  \n{"text": "b"}\n\n'))) == 2


def test_each_line_of_plain_text_is_a_tweet(tmp_path):
    assert [tweet.text for tweet in read(put(tmp_path, "a.txt", "a\n\n  b \n"))] == [
        "a",
        "",
        "  b ",
    ]


@pytest.mark.parametrize(
    "text_type", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize("row_group_size", [1, 1000])
def test_parquet_types(tmp_path, text_type, row_group_size):
    texts = ["a", "b 😀", "a", None]
    table = pa.table(
        {
            "geo": pa.array([{"x": 1}] * 4),  # nested columns are no cells
            "text": pa.array(texts).cast(text_type),
            "label": pa.array([0, 1, None, 2], pa.int8()),
            "id": pa.array([2**60 + i for i in range(4)]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=row_group_size)
    rows = read(tmp_path / "a.parquet")
    assert rows[:3] == [
        Tweet(str(2**60), "a", "0"),
        Tweet(str(2**60 + 1), "b 😀", "1"),
        Tweet(str(2**60 + 2), "a", None),
    ]
    assert isinstance(rows[3], Reject)
    assert "missing or null" in rows[3].reason
    assert rows[3].line == 4


def test_parquet_strings_that_are_not_unicode_are_repaired(tmp_path):
    bad = pa.array([b"caf\xe9", b"ok"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [Tweet("0", "caf\ufffd", None, True), Tweet("1", "ok")]


def test_parquet_that_is_cut_is_refused(tmp_path):
    content = write_parquet([{"text": "hi"}] * 100)
    path = put(tmp_path, "a.parquet", content[:-20])
    assert f"{path} is not a readable Parquet or Arrow file" in refusal(FileRefused, path)


@pytest.mark.parametrize("suffix", [suffix for suffix in WITH_GZIP if suffix.endswith("gz")])
@pytest.mark.parametrize("damage", ["cut", "checksum", "data", "no gzip"])
def test_damaged_gzip_is_refused(tmp_path, suffix, damage):
    content = WRITERS[suffix.removesuffix(".gz")]([{"text": os.urandom(20).hex()}] * 2000)
    packed = bytearray(gzip.compress(content))
    if damage == "cut":
        del packed[-20:]
    elif damage == "checksum":
        packed[-6] ^= 0xFF
    elif damage == "data":
        packed[10] = 0xFF  # a kind of block that there is not
    else:
        packed = bytearray(content)
    path = put(tmp_path, f"a{suffix}", bytes(packed))
    assert f"{path}: its compressed data is damaged or cut short" in refusal(FileRefused, path)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.compress),
    ],
)
def test_frames_of_a_compressed_file(tmp_path, suffix, pack):
    """Those behind each other are all read, and none is lost behind a damage."""
    texts = [f"{n} {os.urandom(20).hex()}" for n in range(3000)]
    first, second = (pack("".join(f"{t}\n" for t in part).encode()) for part in (texts, texts[:9]))
    path = put(tmp_path, f"a.txt{suffix}", first + second)
    assert [row.text for row in read(path)] == texts + texts[:9]
    for damaged in (
        first[: len(first) // 2],
        first + second[:-9],
        first + b"no frame",
        first + b"x" + second,
        b"no frame",
    ):
        with pytest.raises((FileRefused, InputError), match=r"cut short|cannot be read"):
            read(put(tmp_path, f"b.txt{suffix}", damaged))


# ------------------------------------------------------------------------------------ the columns


@pytest.mark.parametrize("suffix", WITH_COLUMNS)
@pytest.mark.parametrize(
    ("text", "label", "identity"),
    [
        ("text", "label", "id"),
        ("tweet", "sentiment", "tweet_id"),
        ("content", "sentiment", "textID"),
        ("full_text", "label", "textID"),
    ],
)
def test_default_columns(tmp_path, suffix, text, label, identity):
    row = {"extra": "x", label: "pos", identity: "7", text: "hi"}
    assert read(put_rows(tmp_path, suffix, [row])) == [Tweet("7", "hi", "pos")]


@pytest.mark.parametrize("suffix", WITH_COLUMNS)
def test_the_first_default_that_is_there_wins(tmp_path, suffix):
    row = {"textID": "1", "sentiment": "s", "tweet": "no", "id": "2", "label": "l", "text": "yes"}
    assert read(put_rows(tmp_path, suffix, [row])) == [Tweet("2", "yes", "l")]


@pytest.mark.parametrize("suffix", WITH_COLUMNS)
def test_columns_that_are_asked_for(tmp_path, suffix):
    row = {"text": "no", "label": "no", "id": "no", "body": "yes", "mood": "good", "key": "9"}
    path = put_rows(tmp_path, suffix, [row])
    chosen = read(path, text_column="body", label_column="mood", id_column="key")
    assert chosen == [Tweet("9", "yes", "good")]


@pytest.mark.parametrize("suffix", WITH_COLUMNS)
@pytest.mark.parametrize("role", ["text", "label", "id"])
def test_a_column_that_is_not_there_names_those_that_are(tmp_path, suffix, role):
    path = put_rows(tmp_path, suffix, [{"text": "a", "mood": "b"}])
    message = refusal(InputError, path, **{f"{role}_column": "gone"})
    assert "no column 'gone'" in message
    assert '"text", "mood"' in message
    assert f"`{role}_column`" in message


@pytest.mark.parametrize("suffix", WITH_COLUMNS)
def test_no_column_of_text_names_those_that_are_there(tmp_path, suffix):
    message = refusal(InputError, put_rows(tmp_path, suffix, [{"body": "a", "mood": "b"}]))
    assert "text, tweet, content, full_text" in message
    assert '"body", "mood"' in message
    assert "`text_column`" in message


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_column_that_is_there_twice_cannot_be_chosen(tmp_path, suffix):
    separator = "\t" if suffix == ".tsv" else ","
    path = put(tmp_path, f"a{suffix}", "text,text,id\na,b,1\n".replace(",", separator))
    assert 'column "text" is there 2 times' in refusal(InputError, path)
    path = put(tmp_path, f"b{suffix}", "text,x,x\na,b,1\n".replace(",", separator))
    assert read(path) == [Tweet("0", "a")]  # it is in nobody's way


def test_columns_shown_are_safe_on_a_terminal(tmp_path):
    message = refusal(InputError, put(tmp_path, "a.csv", "bo\x1b[31mdy\na\n"))
    assert "\x1b" not in message
    assert "\\u001b[31m" in message


def test_cells_of_json_lines_may_come_in_any_order(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"text": "a", "id": 1}\n{"id": 2, "x": 0, "text": "b"}\n')
    assert read(path) == [Tweet("1", "a"), Tweet("2", "b")]


def test_labels_and_ids_that_begin_in_a_later_json_line_are_kept(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b", "label": "x", "id": "7"}\n')
    assert read(path) == [Tweet("0", "a"), Tweet("7", "b", "x")]


def test_a_first_json_line_without_text_is_one_bad_row(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"id": 1}\n{"text": "b", "id": 2}\n')
    rejected, tweet = read(path)
    assert isinstance(rejected, Reject)
    assert tweet == Tweet("2", "b")


# ---------------------------------------------------------------------------------- ids and labels


@pytest.mark.parametrize("suffix", WITH_GZIP)
def test_ids_are_row_numbers_over_all_inputs(tmp_path, suffix):
    first = put_rows(tmp_path, suffix, [{"text": "a"}, {"text": "b"}], stem="first")
    second = put_rows(tmp_path, suffix, [{"text": "c"}], stem="second")
    assert read(first, second) == [Tweet("0", "a"), Tweet("1", "b"), Tweet("2", "c")]


def test_rows_that_are_rejected_have_numbers_too(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"text": "a"}\nnonsense\n{"text": null}\n{"text": "d"}\n')
    assert [row.id for row in read(path) if isinstance(row, Tweet)] == ["0", "3"]


def test_inputs_of_several_formats(tmp_path):
    paths = [
        put_rows(tmp_path, suffix, [{"text": suffix, "id": "x"}], stem=f"f{number}")
        for number, suffix in enumerate(WITH_GZIP)
    ]
    tweets = read(*paths)
    assert [tweet.text for tweet in tweets] == WITH_GZIP
    assert all(t.id == ("x" if ".txt" not in t.text else str(i)) for i, t in enumerate(tweets))


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ('"pos"', "pos"),
        ('" pos "', "pos"),
        ('""', None),
        ('"  "', None),
        ("null", None),
        ("NaN", None),
        ("0", "0"),
        ("-3", "-3"),
        ("2.0", "2"),
        ("1e3", "1000"),
        ("1.5", "1.5"),
        ('"2.0"', "2"),
        ('"-0.0"', "0"),
        ('"2.50"', "2.50"),
        ('"nan"', None),
        ('"<NA>"', None),
        ('"None"', None),
        ('"NONE"', "NONE"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_labels_and_ids_as_they_may_come(tmp_path, cell, name):
    path = put(tmp_path, "a.jsonl", f'{{"text": "a", "label": {cell}, "id": {cell}}}\n')
    assert read(path) == [Tweet(name or "0", "a", name)]


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("label", "Infinity", "label is not a finite number"),
        ("label", "[1]", "label is a list"),
        ("label", "{}", "label is an object"),
        ("id", "Infinity", "id is not a finite number"),
        ("id", "true", "id is true or false"),
        ("id", "[1]", "id is a list"),
        ("id", "{}", "id is an object"),
        ("id", "7.915572336898703e+17", "can't tell ids of this size apart"),
        ("id", '"7.915572336898703e+17"', "can't tell ids of this size apart"),
        ("id", "9007199254740992.0", "can't tell ids of this size apart"),
        ("id", '"791557233689870336.0"', "can't tell ids of this size apart"),
    ],
)
def test_what_can_be_no_label_or_id(tmp_path, column, cell, reason):
    (row,) = read(put(tmp_path, "a.jsonl", f'{{"text": "a", "{column}": {cell}}}\n'))
    assert isinstance(row, Reject)
    assert reason in row.reason


def test_ids_up_to_the_limit(tmp_path):
    longest = "é" * (MAX_ID_BYTES // 2)
    kept, rejected = read(put(tmp_path, "a.csv", f"id,text\n{longest},a\n{longest}x,b\n"))
    assert kept.id == longest
    assert f"longer than {MAX_ID_BYTES} bytes" in rejected.reason


# -------------------------------------------------------------------------- the layout of TweetEval


def tweeteval(folder, texts="a\nb\nc\n", labels="0\n2\n1\n"):
    return put(folder, "text.txt", texts), {"labels": put(folder, "labels.txt", labels)}


def mapping(folder, content="0\tnegative\n1\tneutral\n2\tpositive\n"):
    return put(folder, "mapping.txt", content)


def test_labels_beside_the_texts(tmp_path):
    path, options = tweeteval(tmp_path)
    assert [tweet.label for tweet in read(path, **options)] == ["0", "2", "1"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_mapping_names_the_labels(tmp_path, end, mark):
    content = f"{mark}0\tnegative\n1\tneutral\n\n2\tvery positive\n".replace("\n", end)
    path, options = tweeteval(tmp_path)
    reader = reader_of([path], **options, mapping=mapping(tmp_path, content))
    assert [tweet.label for tweet in reader] == ["negative", "very positive", "neutral"]
    assert reader.label_order == ["negative", "neutral", "very positive"]


def test_a_mapping_may_merge_classes(tmp_path):
    path, options = tweeteval(tmp_path)
    names = mapping(tmp_path, "0\tbad\n1\tbad\n2\tgood\n")
    reader = reader_of([path], **options, mapping=names)
    assert [tweet.label for tweet in reader] == ["bad", "good", "bad"]
    assert reader.label_order == ["bad", "good"]


@pytest.mark.parametrize("suffix", WITH_COLUMNS)
def test_a_mapping_serves_a_column_of_labels_too(tmp_path, suffix):
    path = put_rows(tmp_path, suffix, [{"text": "a", "label": "2"}])
    assert read(path, mapping=mapping(tmp_path)) == [Tweet("0", "a", "positive")]


def test_a_label_that_is_not_in_the_mapping_is_rejected(tmp_path):
    path, options = tweeteval(tmp_path, labels="0\n7\n\n")
    kept, rejected, without = read(path, **options, mapping=mapping(tmp_path))
    assert kept.label == "negative"
    assert 'label "7" is not in the mapping ("0", "1", "2")' in rejected.reason
    assert without.label is None


def test_labels_may_be_packed(tmp_path):
    path = put(tmp_path, "text.txt.gz", gzip.compress(b"a\nb\n"))
    labels = put(tmp_path, "labels.txt.gz", gzip.compress(b"x\ny\n"))
    assert [tweet.label for tweet in read(path, labels=labels)] == ["x", "y"]


@pytest.mark.parametrize("which", ["text", "labels"])
def test_packed_labels_that_are_cut_are_refused(tmp_path, which):
    packed = gzip.compress(os.urandom(3000).hex().encode() + b"\n")
    path = put(tmp_path, "text.txt.gz", packed[:1000] if which == "text" else packed)
    labels = put(tmp_path, "labels.txt.gz", packed[:1000] if which == "labels" else packed)
    assert "compressed data is damaged" in refusal(FileRefused, path, labels=labels)


@pytest.mark.parametrize(("texts", "labels"), [("a\nb\n", "1\n"), ("a\n", "1\n2\n"), ("", "1\n")])
def test_labels_that_do_not_pair_up(tmp_path, texts, labels):
    path, options = tweeteval(tmp_path, texts, labels)
    message = refusal(InputError, path, **options)
    assert f"has {texts.count(chr(10))} lines" in message
    assert f"has {labels.count(chr(10))}; they must pair up" in message


def test_labels_go_with_one_text_file(tmp_path):
    path, options = tweeteval(tmp_path)
    for inputs in ([path, path], [put(tmp_path, "a.csv", "text\na\nb\nc\n")], ["-"]):
        assert "exactly one .txt input" in refusal(InputError, *inputs, **options)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0 negative\n", "line 1: must be value<TAB>name"),
        ("0\tnegative\n1\t\n", "line 2: must be value<TAB>name"),
        ("\n\n", "maps nothing"),
        ("0\tnegative\n0\tpositive\n", 'line 2: "0" has another name already, "negative"'),
        (b"0\tn\xe9gatif\n", "cannot be read"),
        (None, "no such file"),
    ],
)
def test_mappings_that_cannot_be_used(tmp_path, content, said):
    path, options = tweeteval(tmp_path)
    names = tmp_path / "gone.txt" if content is None else mapping(tmp_path, content)
    message = refusal(InputError, path, **options, mapping=names)
    assert str(names) in message
    assert said in message


def test_a_labels_file_that_is_not_there(tmp_path):
    path, _ = tweeteval(tmp_path)
    assert "gone.txt: no such file" in refusal(InputError, path, labels=tmp_path / "gone.txt")


# ----------------------------------------------------------------------------------- standard input


def on_stdin(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def test_json_lines_on_standard_input(tmp_path, monkeypatch):
    on_stdin(monkeypatch, '\ufeff{"text": "é 😀", "label": "x"}\nnonsense\n'.encode())
    reader = TweetReader(["-", put(tmp_path, "a.txt", "more\n")])
    tweet, rejected, more = reader
    assert tweet == Tweet("0", "é 😀", "x")
    assert (rejected.source, rejected.line) == ("standard input", 2)
    assert more == Tweet("2", "more")
    assert reader.fraction_read() is None


def test_standard_input_without_text_is_named(monkeypatch):
    on_stdin(monkeypatch, b'{"body": "a"}\n')
    assert refusal(InputError, "-").startswith("standard input: none of the columns")


# As a file, and as standard input without a word about its format: the same rows.
ON_STDIN = {
    "a.csv": 'id,text,label\n1,a,x\n2,"b, ""c""\nd",y\n',
    "a.tsv": 'id\ttext\tlabel\n1\t"open\tx\n2\tclose"\ty\n',
    "b.csv": "\ufeffid;text;label\r\n1;a, b;x\r\n2;c;y\r\n",
    "c.csv": 'text,label\n"he said \\"no\\", twice",x\nb,y\n',
    "d.csv": "text\none\ntwo\n",
    "e.csv": "Tweet ID|OriginalTweet|Sentiment\r1|a|x\r2|b|y\r",
    "a.jsonl": '{"text": "a", "label": 1}\nnonsense\n{"text": "b"}\n',
    "b.jsonl": '\n\n[{"text": "a"},\n{"text": "b"}]\n[{"text": "c"}]\n',
    "a.json": '[{"text": "a"}, {"text": "b"}]',
    "b.json": '{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n',
    "tweets.js": 'window.YTD.tweet.part0 = [{"tweet": {"full_text": "a"}}]',
}


@pytest.mark.parametrize("name", ON_STDIN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_standard_input_is_read_as_a_file_is(tmp_path, monkeypatch, name, encoding):
    content = ON_STDIN[name].lstrip("\ufeff" if encoding == "utf-16" else "").encode(encoding)
    reader = TweetReader([put(tmp_path, name, content)])
    expected = list(reader)
    assert sum(isinstance(row, Tweet) for row in expected) >= 1
    on_stdin(monkeypatch, content)
    from_stdin = TweetReader(["-"])
    assert [dataclasses.replace(row, source="") for row in from_stdin] == [
        dataclasses.replace(row, source="") for row in expected
    ]
    (of_file,), (of_stdin,) = reader.findings.files.values(), from_stdin.findings.files.values()
    assert of_stdin.columns == of_file.columns
    assert of_stdin.format.split(", ")[1:] == of_file.format.split(", ")[1:]


def test_a_table_that_goes_on_behind_the_look_at_standard_input(tmp_path, monkeypatch):
    rows = [(str(n), f'text {n}, "quoted"\nand more', "xy"[n % 2]) for n in range(500)]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=";").writerows([("id", "text", "label"), *rows])
    on_stdin(monkeypatch, file.getvalue().encode())
    assert list(TweetReader(["-"], max_line_bytes=32_000)) == [Tweet(*row) for row in rows]
    content = "id\ttext\tlabel\n" + "".join(f'{n}\t"text\tx\n' for n in range(500))
    on_stdin(monkeypatch, content.encode())
    assert list(TweetReader(["-"], max_line_bytes=32_000)) == [
        Tweet(str(n), '"text', "x") for n in range(500)
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,café\n".encode("cp1252"), "standard input is not UTF-8 .*`encoding=cp1252`"),
        (
            gzip.compress(b"text\na\n", mtime=0),
            "standard input is packed by gzip.*name the file instead",
        ),
        (b"id,body\n1,a\n", 'columns are: "id", "body"; choose one with `text_column`'),
        (b"one tweet, and\nanother\n", "if it is a tweet a line, give `input_format=txt`"),
    ],
)
def test_standard_input_that_is_refused(monkeypatch, content, message):
    on_stdin(monkeypatch, content)
    with pytest.raises(InputError, match=message):
        list(TweetReader(["-"]))


def test_standard_input_as_it_was_said_to_be(monkeypatch):
    for content, written, columns, expected in [
        (b"one, two\nthree\n", InputFormat(format="txt"), {}, ["one, two", "three"]),
        (b"1,a\n2,b\n", InputFormat(header=False), {"text": "1", "id": "0"}, ["a", "b"]),
        (b"id,body\n1,a\n", InputFormat(), {"text": "body"}, ["a"]),
        (b"text/id\na,b/1\n", InputFormat(delimiter="/"), {}, ["a,b"]),
        ("text,id\né,1\n".encode("cp1252"), InputFormat(encoding="cp1252"), {}, ["é"]),
        (b'text\n"a"\n', InputFormat(delimiter=",", quoting="none"), {}, ['"a"']),
    ]:
        on_stdin(monkeypatch, content)
        rows = list(TweetReader(["-"], Columns(**columns), written=written))
        assert [row.text for row in rows] == expected


def test_a_table_is_not_waited_for_where_all_was_said(tmp_path):
    """Rows come out while the input is open, as those of JSON Lines do."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as raw, os.fdopen(writing, "wb", buffering=0) as pipe:
        source = Source("standard input", None, LookAhead(raw, 1000))
        pipe.write(b"id,text\n1,a\n")
        with ExitStack() as stack:
            written = InputFormat(delimiter=",", quoting="minimal")
            rows = FORMATS[".csv"].read(source, written, stack)
            assert next(rows)[1] == Header(["id", "text"], "commas, quoted cells")
            assert next(rows) == (2, ["1", "a"])


# ------------------------------------------------------------------ rows and files that are no good

DEEP = "[" * 100_000 + "]" * 100_000
BAD_ROWS = [
    (".csv", "id,text\n1,a\n2,b,c\n3,d\n", 3, "3 cells under 2 columns"),
    (".csv", "id,text\n1,a\n2\n3,d\n", 3, "1 cells under 2 columns"),
    (".tsv", "id\ttext\n1\ta\n2\tb\tc\n3\td\n", 3, "3 cells under 2 columns"),
    (".csv", 'id,text\n1,"a\nb"\n2\n3,d\n', 4, "1 cells under 2 columns"),
    (".jsonl", '{"text": "a"}\n{"text": null}\n{"text": "d"}\n', 2, "'text' is missing or null"),
    (".jsonl", '{"text": "a"}\n{"txt": "b"}\n{"text": "d"}\n', 2, "'text' is missing or null"),
    (".jsonl", '{"text": "a"}\n{"text": 5}\n{"text": "d"}\n', 2, "'text' is a number"),
    (".jsonl", '{"text": "a"}\n{"text": false}\n{"text": "d"}\n', 2, "'text' is true or false"),
    (".jsonl", '{"text": "a"}\n{"text": ["b"]}\n{"text": "d"}\n', 2, "'text' is a list"),
    (".jsonl", '{"text": "a"}\n{"text": {}}\n{"text": "d"}\n', 2, "'text' is an object"),
    (".jsonl", '{"text": "a"}\n{"text": "b"\n{"text": "d"}\n', 2, "not JSON"),
    (".jsonl", '{"text": "a"}\nnonsense\n{"text": "d"}\n', 2, "not JSON"),
    (".jsonl", '{"text": "a"}\n["b"]\n{"text": "d"}\n', 2, "a list, not a JSON object"),
    (".jsonl", '{"text": "a"}\n"b"\n{"text": "d"}\n', 2, "not a text, not a JSON object"),
    (".jsonl", '{"text": "a"}\nnull\n{"text": "d"}\n', 2, "null, not a JSON object"),
    (".jsonl", f'{{"text": "a"}}\n{DEEP}\n{{"text": "d"}}\n', 2, "not JSON"),
    (".jsonl", f'{{"text": "a"}}\n{{"x": {DEEP}}}\n{{"text": "d"}}\n', 2, "not JSON"),
    (".jsonl", f'{{"text": "a"}}\n{{"id": {"9" * 5000}}}\n{{"text": "d"}}\n', 2, "not JSON"),
    (
        ".jsonl",
        '{"text": "a"}\n{"text": "b", "text": 1}\n{"text": "d"}\n',
        2,
        'key "text" is there more than once',
    ),
]


@pytest.mark.parametrize(
    ("suffix", "content", "line", "reason"), BAD_ROWS, ids=[row[1][:40] for row in BAD_ROWS]
)
def test_a_bad_row_is_rejected_and_reading_goes_on(tmp_path, suffix, content, line, reason):
    path = put(tmp_path, f"a{suffix}", content)
    first, rejected, last = read(path)
    assert (first.text.replace("\nb", ""), last.text) == ("a", "d")
    assert isinstance(rejected, Reject)
    assert (rejected.source, rejected.line) == (str(path), line)
    assert reason in rejected.reason
    assert "\n" not in rejected.reason
    assert len(rejected.reason) < 300


def test_a_reject_shows_how_its_text_starts(tmp_path):
    row = json.dumps({"text": "x" * 500 + "\x1b", "label": [1]})
    (rejected,) = read(put(tmp_path, "a.jsonl", row))
    assert rejected.start == '"' + "x" * 60 + '"'


@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
def test_a_line_that_is_too_long_is_rejected(tmp_path, suffix):
    rows = [{"text": "a"}, {"text": "é" * 5000}, {"text": "d"}]
    first, rejected, last = read(put_rows(tmp_path, suffix, rows), max_line_bytes=100)
    assert (first.text, last.text) == ("a", "d")
    assert rejected.line == 2
    assert "longer than 100 bytes" in rejected.reason


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("text", ["b" * 500, 'b,"\t' * 200, 'b\n"c\n' * 50, "b\n" * 200])
def test_a_row_with_a_line_that_is_too_long_is_rejected(tmp_path, suffix, text):
    raw = "text,id\n" + "a,1\n" + '"' + text.replace('"', '""') + "x" * 300 + '",2\n' + "d,3\n"
    path = put(tmp_path, f"a{suffix}", raw.replace(",", "\t") if suffix == ".tsv" else raw)
    if "\n" in text:  # many lines that are not too long, but too many
        said = refusal(InputError, path, max_line_bytes=100)
        assert "line 3: its row goes on for more than 100 bytes" in said
        return
    first, rejected, last = read(path, max_line_bytes=100)
    assert (first, last) == (Tweet("1", "a"), Tweet("3", "d"))
    assert (rejected.line, rejected.reason) == (3, "line is longer than 100 bytes")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_header_that_is_too_long_is_refused(tmp_path, suffix):
    path = put(tmp_path, f"a{suffix}", "text" * 100 + "\na\n")
    said = refusal(InputError, path, max_line_bytes=100)
    assert "line 1: line is longer than 100 bytes; it must name" in said


@pytest.mark.parametrize("over", [False, True])
def test_the_limit_of_a_line(tmp_path, over):
    (row,) = read(put(tmp_path, "a.txt", "x" * (99 + over) + "\n"), max_line_bytes=100)
    assert isinstance(row, Reject if over else Tweet)


REPAIRED = [
    (".csv", b"text\ncaf\xe9\n", "caf\ufffd"),
    (".tsv", b"text\tid\ncaf\xc3\t0\n", "caf\ufffd"),
    (".txt", b"caf\xe9 \xff\xfe\n", "caf\ufffd \ufffd\ufffd"),
    (".txt", b"nul \x00 byte\n", "nul \ufffd byte"),
    (".csv", b"text\nnul \x00 byte\n", "nul \ufffd byte"),
    (".jsonl", b'{"text": "caf\xe9"}\n', "caf\ufffd"),
    (".jsonl", b'{"text": "half \\ud83d pair"}\n', "half \ufffd pair"),
    (".jsonl", b'{"text": "nul \\u0000"}\n', "nul \ufffd"),
    (".txt", b"cesu \xed\xa0\xbd\xed\xb8\x80\n", "cesu " + "\ufffd" * 6),
]


@pytest.mark.parametrize(("suffix", "content", "text"), REPAIRED)
def test_what_is_no_text_is_repaired_and_said(tmp_path, suffix, content, text):
    path = put(tmp_path, f"a{suffix}", content)
    assert read(path, encoding="utf-8") == [Tweet("0", text, None, True)]


def test_a_damage_in_a_file_that_is_utf_8_otherwise_is_repaired(tmp_path):
    lines = ["schön, naïve, 日本\n".encode()] * 30
    lines[20] = b"caf\xe9\n"
    tweets = read(put(tmp_path, "a.txt", b"".join(lines)))
    assert [tweet.repaired for tweet in tweets] == [n == 20 for n in range(30)]
    assert tweets[20].text == "caf\ufffd"


def test_a_replacement_character_of_the_file_is_no_repair(tmp_path):
    assert read(put(tmp_path, "a.txt", "caf\ufffd\n")) == [Tweet("0", "caf\ufffd")]


def test_a_whole_pair_in_json_is_a_character(tmp_path):
    path = put(tmp_path, "a.jsonl", r'{"text": "\ud83d\ude00"}')
    assert read(path) == [Tweet("0", "😀")]


def test_ids_and_labels_are_repaired_too(tmp_path):
    path = put(tmp_path, "a.csv", b"id,text,label\nn\xe9,a,p\x00\n")
    assert read(path, encoding="utf-8") == [Tweet("n\ufffd", "a", "p\ufffd")]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_quote_that_is_never_closed_names_its_line(tmp_path, suffix):
    separator = "\t" if suffix == ".tsv" else ","
    closed = ['3,"a, cell",y'.replace(", ", f"{separator} ")]
    rows = ["id,text,label", "1,ok,x", '2,"never closed,x', *(f"{i},fine,y" for i in range(3, 50))]
    rows = [row.replace(",", separator) for row in rows]
    path = put(tmp_path, f"a{suffix}", "\n".join([rows[0], *closed, *rows[2:]]) + "\n")
    message = refusal(InputError, path)
    assert f"{path}, line 3: a quote is opened and never closed" in message
    assert '""' in message


@pytest.mark.parametrize(
    "text", ['5" nails', 'a "b" c', '"a" b', '"it\'s"'], ids=["inch", "inside", "start", "all"]
)
def test_quotes_that_are_closed_are_no_error(tmp_path, text):
    path = put(tmp_path, "a.csv", f"text,id\n{text},1\nlast,2\n")
    first, last = read(path)
    assert (first.id, last.id) == ("1", "2")
    # Strictly quoted, or a text with quotes: never another text.
    assert first.text == ("it's" if text == '"it\'s"' else text)


def test_a_quote_that_is_never_closed_in_the_header(tmp_path):
    path = put(tmp_path, "a.csv", 'id,"text,label\n1,a,x\n2,b,y,z\n')
    assert "line 1: a quote is opened" in refusal(InputError, path)
    path = put(tmp_path, "b.csv", 'id,"text,label\n1,a,x\n2,b,y\n')
    assert '"\\"text"' in refusal(InputError, path)


def test_a_header_without_rows_still_has_to_name_a_text(tmp_path):
    assert "`text_column`" in refusal(InputError, put(tmp_path, "a.csv", "id,body\n"))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_an_empty_table_is_refused(tmp_path, suffix):
    path = put(tmp_path, f"a{suffix}", "")
    assert f"{path} is empty; its first line must name the columns" in refusal(InputError, path)


@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
def test_an_empty_list_has_no_tweets(tmp_path, suffix):
    assert read(put(tmp_path, f"a{suffix}", "")) == []


def test_inputs_that_cannot_be(tmp_path):
    put(tmp_path, "a.xlsx", "x")
    put(tmp_path, "a.parquet.gz", "x")
    put(tmp_path, "a.gz", "x")
    (tmp_path / "folder.csv").mkdir()
    for name, said in [
        ("folder.csv", "is a folder: give the files in it"),
        ("gone.csv", "no such file"),
        (
            "a.xlsx",
            "unknown format; the name must end in one of .csv, .tsv, .tab, .jsonl",
        ),
        ("a.parquet.gz", "unknown format"),
        ("a.gz", "unknown format"),
    ]:
        with pytest.raises(InputError) as caught:
            TweetReader([tmp_path / name])  # before anything is read
        assert str(tmp_path / name) in str(caught.value)
        assert said in str(caught.value)


def test_no_input_at_all():
    with pytest.raises(InputError, match="name a file, or - for standard input"):
        TweetReader([])


@pytest.mark.parametrize("suffix", WITH_GZIP)
def test_the_share_that_was_read_grows_to_all(tmp_path, suffix):
    rows = [{"text": os.urandom(50).hex()} for _ in range(3000)]
    reader = TweetReader([put_rows(tmp_path, suffix, rows, stem=stem) for stem in ("a", "b")])
    shares = [reader.fraction_read()] + [reader.fraction_read() for _ in reader]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert 0.4 < shares[len(shares) // 2] < 1
    assert reader.fraction_read() == 1
