"""Large files are cut between rows: the parts, one after the other, are the whole file.

What is held against what: all that `TweetReader` gives of a whole file, and of each of its parts.
Only the ids of rows without one differ.
"""

import csv
import gzip
import io
import itertools
import json
import os
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.pieces import borders, indexes, row_size
from features.pieces.file_index import FileIndex, IndexRequest, make_index
from features.pieces.piece import Piece, digest_of, reader_of
from features.pieces.split import split
from features.tweets.columns import Columns
from features.tweets.formats import BINARY, FORMATS, JSON, format_of
from features.tweets.reader import Tweet, TweetReader
from features.tweets.source import Source
from features.tweets.span import Span
from features.tweets.table import InputFormat

PLAIN, ANY = Columns(), InputFormat()


def request_of(path, part_rows, columns=PLAIN, written=ANY):
    suffix = format_of(str(path), written.format)
    return IndexRequest(str(path), suffix, columns, written, part_rows)


def parts_of(path, part_rows, columns=PLAIN, written=ANY):
    """Cut a file, however small, and send index and pieces through JSON."""
    index = make_index(request_of(path, part_rows, columns, written))
    index = FileIndex.from_json(json.loads(json.dumps(index.to_json())))
    pieces = [Piece(n, (span,)) for n, span in enumerate(index.spans(str(path)))]
    return [Piece.from_json(json.loads(json.dumps(piece.to_json()))) for piece in pieces]


def seen(reader):
    """All that a reader gives of rows but ids, and where it stops."""
    rows = []
    try:
        for row in reader:
            if isinstance(row, Tweet):
                rows.append((row.text, row.label, row.group, row.repaired, row.source, row.line))
            else:
                rows.append((row.reason, row.start, row.source, row.line))
    except InputError as error:
        rows.append(str(error))
    return rows


def placeless(message):
    """A message without the place in a buffer where a decoder failed."""
    return re.sub(r"in position .*?:", "", message)


def check(path, part_rows, columns=PLAIN, written=ANY, *, is_cut=None):
    """Read a file whole and in parts; give the parts."""
    suffix = format_of(str(path), written.format)
    whole = TweetReader([path], columns, written=written)
    expected = seen(whole)
    try:
        pieces = parts_of(path, part_rows, columns, written)
    except InputError as error:
        # What is refused in the middle, as a quote that is never closed, is refused at once.
        assert placeless(expected[-1]) == placeless(str(error))
        return []
    readers = [reader_of(piece, columns, written) for piece in pieces]
    assert [row for reader in readers for row in seen(reader)] == expected
    assert {note for reader in readers for note in reader.findings.notes} == {*whole.findings.notes}
    labels = [reader.findings.labels for reader in readers]
    assert sum(labels, Counter()) == whole.findings.labels
    parts = [piece.spans[0].part for piece in pieces]
    if is_cut is not None:
        assert (parts[0] is not None) == is_cut
    if parts[0] is None:
        return pieces
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    for reader, part in zip(readers, parts, strict=True):
        # A line of JSON may hold a page of several rows.
        assert part.rows <= part_rows or suffix in JSON
        assert reader.rows_read == part.rows or (reader.rows_read > part.rows and suffix in JSON)
        assert reader.fraction_read() == 1.0 or not part.rows
    return pieces


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ------------------------------------------------------------------------------------ the formats

ROWS = [
    {"id": str(7 * n), "text": f'{n}: "quoted", über\nand\t{"x" * (n % 7)}', "label": "ab"[n % 2]}
    for n in range(23)
]


def to_table(rows, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([rows[0], *(row.values() for row in rows)])
    return file.getvalue().encode()


def to_parquet(rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=5)
    return file.getvalue()


def to_feather(rows):
    file = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def to_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


# A new format is tested by a row here: rows in, the bytes of a file out; and whether it is cut.
FILES = {
    ".csv": (lambda rows: to_table(rows, ","), True),
    ".tsv": (lambda rows: to_table(rows, "\t"), True),
    ".tab": (lambda rows: to_table(rows, "\t"), True),
    ".jsonl": (to_lines, True),
    ".ndjson": (to_lines, True),
    ".json": (to_lines, True),
    "tweets.js": (lambda rows: b"window.YTD.tweets.part0 = " + json.dumps(rows).encode(), False),
    ".txt": (lambda rows: "\n".join(row["text"] for row in rows).encode(), True),
    ".parquet": (to_parquet, True),
    ".arrow": (to_feather, False),
    ".feather": (to_feather, False),
}


def test_every_format_is_here():
    assert FILES.keys() == FORMATS.keys()


# Binary files are read in a process of its own each time.
SIZES = [(suffix, rows) for suffix in FILES for rows in ((10,) if suffix in BINARY else (1, 5, 23))]


@pytest.mark.parametrize(("suffix", "part_rows"), SIZES)
def test_the_parts_of_a_file_are_the_file(tmp_path, suffix, part_rows):
    write, is_cut = FILES[suffix]
    pieces = check(put(tmp_path, "a" + suffix, write(ROWS)), part_rows, is_cut=is_cut)
    if is_cut and suffix != ".txt":
        assert len(pieces) >= -(-len(ROWS) // part_rows)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt", ".parquet", ".arrow"])
def test_pieces_of_files_in_object_storage(suffix):
    there = fsspec.filesystem("memory")
    there.pipe_file(f"/bucket/a{suffix}", FILES[suffix][0](ROWS))
    url = f"memory://bucket/a{suffix}"
    pieces = split(url, shard_rows=14)
    assert (len(pieces) > 1) == FILES[suffix][1]
    assert [row for piece in pieces for row in seen(reader_of(piece, PLAIN, ANY))] == seen(
        TweetReader([url])
    )
    there.rm("/bucket", recursive=True)


def test_arrays_of_json_are_whole(tmp_path):
    for name, content in (("a.json", ROWS), ("a.jsonl", ROWS)):
        check(put(tmp_path, name, json.dumps(content, indent=1)), 2, is_cut=False)


# What can't be cut, however large: a file of it, how it is read, and what is said about it.
WHOLE = {
    "packed": ("a.csv.gz", gzip.compress(to_table(ROWS, ",")), ANY, "packed (unpack it"),
    "an array": ("a.json", json.dumps(ROWS).encode(), ANY, "over lines (write it as JSON Lines"),
    "Arrow": ("a.arrow", to_feather(ROWS), ANY, "Arrow are not cut (write it as Parquet)"),
    "another encoding": (
        "a.csv",
        to_table(ROWS, ",").decode().replace("\u00fc", "\u00a7").encode("gb18030"),
        InputFormat(encoding="gb18030"),
        "can't be told in gb18030 (write it in UTF-8)",
    ),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_what_cannot_be_cut_is_whole_and_said(tmp_path, monkeypatch, kind):
    name, content, written, expected = WHOLE[kind]
    monkeypatch.setattr(row_size, "_USUAL", (1, 1))  # so that rows of Arrow files are many here
    path, said = put(tmp_path, name, content), []
    options = {"shard_rows": 1, "written": written, "say": said.append}
    (piece,) = split(path, **options)
    assert piece.spans[0].part is None
    assert seen(reader_of(piece, PLAIN, written)) == seen(TweetReader([path], written=written))
    split([path, path, path], **options)
    one, three = said
    assert one.startswith(f"{path} stays one piece, of about ")
    assert expected in one
    assert three == one + ", and so do 2 more"


def test_labels_in_another_file_stay_beside_their_texts(tmp_path):
    texts, labels = put(tmp_path, "a.txt", "a\nb\nc\n"), put(tmp_path, "labels", "x\ny\nx\n")
    columns, said = Columns(labels=labels), []
    (piece,) = split(texts, shard_rows=1, columns=columns, say=said.append)
    assert seen(reader_of(piece, columns, ANY)) == seen(TweetReader([texts], columns))
    assert "its labels are in another file (write both as one table)" in said[0]


# ------------------------------------------------------------------------------------ hostile text

CELL = st.text(
    st.sampled_from('",;\t|\n\r\\ ab\u00e9\u20ac\U0001f600\u2028\x85\x00\ufeff\udc81'), max_size=8
)


@st.composite
def tables(draw):
    """Tables as they come: well written, by an odd writer, or damaged; and how they are read."""
    rows = draw(st.lists(st.lists(CELL, min_size=2, max_size=3), max_size=12))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    header = [draw(st.sampled_from(["text", "\ufefftext", 'te"xt'])), "label", "more"]
    header = header[: draw(st.integers(2, 3))]
    if draw(st.booleans()):  # by a writer
        file = io.StringIO(newline="")
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
        writer.writerows([header, *rows])
        text = file.getvalue()
    else:  # cell by cell as they are
        text = end.join(delimiter.join(row) for row in [header, *rows])
    written = InputFormat(
        encoding=draw(st.sampled_from([None, None, "utf-8", "cp1252", "utf-16-be"])),
        quoting=draw(st.sampled_from(["auto", "auto", "minimal", "none", "backslash"])),
        header=draw(st.integers(0, 3)) > 0,
    )
    encoding = written.encoding or draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    content = text.encode(encoding, errors)
    for _ in range(draw(st.sampled_from([0, 0, 0, 2]))):  # damaged
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + 1 :]
    return content, written


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tables(), st.integers(1, 4))
def test_parts_of_any_table(tmp_path_factory, table, part_rows):
    content, written = table
    path = put(tmp_path_factory.mktemp("t"), "a.csv", content)
    check(path, part_rows, Columns(text="0"), written)


# Keys of objects: some settle a column, some only look so.
KEYS = ["text", "tweet", "Text", "label", "sentiment", "id", "lang"]
VALUE = st.one_of(st.sampled_from(["a", "b"]), st.integers(0, 9), st.none(), CELL)
OBJECT = st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=4)
LINE = st.one_of(
    OBJECT.map(json.dumps),
    st.lists(OBJECT, min_size=1, max_size=3).map(lambda page: json.dumps({"data": page})),
    OBJECT.map(lambda tweet: json.dumps({"tweet": tweet, "label": "c"})),
    st.sampled_from(
        ["", "  ", "[1, 2]", "null", '{"text": "a', '{"text": 1, "text": 2}', "\ufeff"]
    ),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(LINE, max_size=10),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["a.jsonl", "a.json"]),
    st.sampled_from([None, "", "lang"]),
    st.integers(1, 4),
)
def test_parts_of_any_lines_of_objects(tmp_path_factory, lines, end, name, label, part_rows):
    """Also where an object settles what is read of those behind it, whatever part they are in."""
    path = put(tmp_path_factory.mktemp("t"), name, end.join(lines))
    check(path, part_rows, Columns(label=label))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(CELL, max_size=12).map("".join),
    st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]),
    st.integers(1, 4),
)
def test_parts_of_any_text(tmp_path_factory, text, encoding, part_rows):
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    path = put(tmp_path_factory.mktemp("t"), "a.txt", text.encode(encoding, errors))
    check(path, part_rows)


def test_lines_that_look_like_a_table_are_told_by_every_part(tmp_path):
    path = put(tmp_path, "a.txt", "a\tx\nb\ty\n" * 3)
    for piece in check(path, 2, is_cut=True):
        reader = reader_of(piece, PLAIN, ANY)
        list(reader)
        assert "its lines have 1 tabs each" in reader.findings.notes[0]


ENCODINGS = {
    "latin-1": True,
    "cp1251": True,
    "koi8-r": True,
    "cp037": True,
    "utf-16-le": True,
    "utf-32-be": True,
    "UTF-8-SIG": True,
    # How many bytes a character has there is not clear.
    "shift_jis": False,
    "gb18030": False,
    "utf-7": False,
    "iso2022_jp": False,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(tmp_path, encoding):
    content = "id,text\r\n" + "".join(f'{n},"\u044f a\n{n}"\r\n' for n in range(9))
    path = put(tmp_path, "a.csv", content.encode(encoding, "replace"))
    written = InputFormat(encoding=encoding)
    check(path, 2, written=written, is_cut=ENCODINGS[encoding])


def test_the_mark_of_another_file_in_the_middle_stays_in_the_text(tmp_path):
    """Where a part begins with one, it is no mark of the part."""
    three = "\ufefftext\na\n" * 3
    check(put(tmp_path, "a.csv", three.encode()), 1, is_cut=True)
    check(put(tmp_path, "b.csv", three.encode("utf-16-le")), 1, is_cut=True)


def test_a_header_again_is_no_tweet_in_any_part(tmp_path):
    pieces = check(put(tmp_path, "a.csv", "text,label\na,x\n" * 3), 1, is_cut=True)
    assert len(pieces) == 5


def test_numbers_are_no_names_of_columns_in_any_part(tmp_path):
    """Without a header columns are named by their numbers, which may be a row too."""
    path = put(tmp_path, "a.csv", "a,2\n0,1\nb,1\n0,1\n")
    check(path, 1, Columns(text="0"), InputFormat(header=False), is_cut=True)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-le"])
def test_bytes_that_are_no_characters_are_counted(tmp_path, encoding):
    """One of two that make no character may be repaired alone, and the next ones are shifted."""
    good = ["text,label\n", *(f"row {n},x\n" for n in range(6))]
    lines = [line.encode(encoding) for line in good]
    damage = {"utf-16-le": b"\x80\xdc", "utf-32-le": b"\xff\xff\xff\xff"}[encoding]
    lines[3] = damage + lines[3]
    path = put(tmp_path, "a.csv", b"".join(lines))
    pieces = check(path, 1, written=InputFormat(encoding=encoding), is_cut=True)
    assert len(pieces) == 6


def test_a_file_whose_bytes_are_counted_wrongly_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(borders, "_width", lambda encoding: lambda text: len(text) + 1)
    check(put(tmp_path, "a.csv", "text\na\nb\n"), 1, is_cut=False)


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".jsonl"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("extra", range(4))
def test_lines_that_are_too_long(tmp_path, suffix, end, extra):
    """Also where the limit falls between the two characters of a line's end."""
    limit = 40
    row = {".csv": '"{}",a', ".txt": "{}", ".jsonl": '{{"text": "{}"}}'}[suffix]
    lines = [row.format("x" * n) for n in (3, limit - len(row) + extra, 7, 3 * limit + extra, 5)]
    path = put(tmp_path, "a" + suffix, end.join(["text,label"] * (suffix == ".csv") + lines) + end)
    with path.open("rb") as raw:
        source = Source(str(path), path, raw, max_line_bytes=limit)
        parts = borders.parts_of(source, suffix, ANY, PLAIN.asked, 1)
    size = path.stat().st_size
    found = [
        row
        for part in parts
        for row in seen(TweetReader([Span(str(path), size, part)], max_line_bytes=limit))
    ]
    assert len(parts) >= len(lines)
    assert found == seen(TweetReader([path], max_line_bytes=limit))


def test_row_groups_are_cut_behind_any_row(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"id": range(500), "text": [f"text {n}" for n in range(500)]})
    pq.write_table(table, path, row_group_size=400)
    pieces = check(path, 200, is_cut=True)
    assert [piece.spans[0].part.rows for piece in pieces] == [200, 200, 100]


def test_parquet_without_rows(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    check(path, 5, is_cut=False)


# --------------------------------------------------------------------- what is kept, and what not


def table_of(rows):
    return "id,text,label\n" + "".join(f'{n},"text {n}\nof two lines",x\n' for n in range(rows))


def test_an_index_tells_that_its_file_has_changed(tmp_path):
    path = put(tmp_path, "a.csv", table_of(10))
    index = make_index(request_of(path, 4))
    assert index.is_of(str(path))
    os.utime(path, ns=(0, index.modified + 1))
    assert not index.is_of(str(path))
    put(tmp_path, "a.csv", table_of(11))
    assert not index.is_of(str(path))


TEXTS = [name for name, (_, is_cut) in FILES.items() if is_cut and name not in BINARY]


@pytest.mark.parametrize("suffix", TEXTS)
def test_a_part_looks_at_nothing_else_of_its_file(tmp_path, suffix):
    path = put(tmp_path, "a" + suffix, FILES[suffix][0](ROWS))
    piece = parts_of(path, 8)[1]
    before = seen(reader_of(piece, PLAIN, ANY))
    part, content = piece.spans[0].part, path.read_bytes()
    around = b'"' * part.start, b'"' * (len(content) - part.stop)
    path.write_bytes(around[0] + content[part.start : part.stop] + around[1])
    assert seen(reader_of(piece, PLAIN, ANY)) == before
    assert len(before) == 8


def test_a_part_that_has_other_rows_than_it_had_is_refused(tmp_path):
    path = put(tmp_path, "a.csv", table_of(10))
    *_, last = parts_of(path, 4)
    put(tmp_path, "a.csv", table_of(10).replace('"text', " text"))  # of the same size
    with pytest.raises(
        InputError, match="has 4 rows where it had 2 when the input was split: it has changed"
    ):
        list(reader_of(last, PLAIN, ANY))


def test_other_ways_of_reading_have_other_keys(tmp_path):
    path = put(tmp_path, "a.csv", table_of(10))
    plain = request_of(path, 4)
    others = [
        request_of(path, 5),
        request_of(path, 4, Columns(text="id")),
        request_of(path, 4, written=InputFormat(quoting="none")),
        request_of(path, 4, written=InputFormat(format="txt")),
    ]
    assert len({one.key for one in [plain, *others]}) == 5
    assert plain.key.startswith("a.csv-")


def test_what_is_held_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for rows in (2_000, 20_000):
        path = put(tmp_path, "a.csv", table_of(rows))
        request = request_of(path, rows // 4, written=InputFormat(quoting="minimal"))
        make_index(request)
        tracemalloc.start()
        try:
            make_index(request)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**20


DAMAGED = {
    "a part is missing": lambda index: index["parts"].pop(1),
    "the last part is missing": lambda index: index["parts"].pop(),
    "a border lies elsewhere": lambda index: index["parts"][1].__setitem__(0, 3),
    "a border is no number": lambda index: index["parts"][1].__setitem__(1, "3"),
    "what is known is missing": lambda index: index.pop("known"),
    "the dialect is another thing": lambda index: index["known"].update(dialect=[1]),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_index_is_no_index(tmp_path, kind):
    index = make_index(request_of(put(tmp_path, "a.csv", table_of(10)), 4)).to_json()
    content = json.loads(json.dumps(index))
    DAMAGED[kind](content)
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        FileIndex.from_json(content)


def test_large_files_among_small_ones(tmp_path):
    names = []
    for n, rows in enumerate([3, 4, 50, 2, 3, 12]):
        body = "".join(f"{row},text {row},x\n" for row in range(rows))
        names.append(str(put(tmp_path, f"{n}.csv", "id,text,label\n" + body)))
    pieces = split(names, shard_rows=10)
    shape = [
        [(Path(s.path).stem, None if s.part is None else s.part.rows) for s in piece.spans]
        for piece in pieces
    ]
    assert shape == [
        [("0", None), ("1", None)],
        *([("2", 10)] for _ in range(5)),
        [("3", None), ("4", None)],
        [("5", None)],  # not much more than a piece
    ]
    whole = TweetReader(names)
    found = [row for piece in pieces for row in seen(reader_of(piece, PLAIN, ANY))]
    assert found == seen(whole)
    assert digest_of(pieces) == digest_of(split(names, shard_rows=10))


def test_a_look_that_takes_long_is_said_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(indexes, "_LONG", 100)
    path, store, said = put(tmp_path, "a.csv", table_of(10)), tmp_path / "store", []
    find = indexes.kept_in(
        store, lambda: (store / "indexes").mkdir(parents=True, exist_ok=True), said.append
    )
    request = request_of(path, 4)
    assert find(request) == make_index(request) == find(request)
    looked = f"{path} (0.0 MB) is read once for all jobs, to find where its rows end"
    assert said == [looked]
    os.utime(path, ns=(0, 1))  # written again, with as many bytes, or a copy
    assert find(request) == make_index(request)
    assert said[1].startswith(f"WARNING: {path} has another time than when it was first looked at")
    assert said[2:] == [looked]
