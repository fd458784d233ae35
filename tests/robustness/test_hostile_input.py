"""Tweets of any kind, end to end: bad rows never stop good ones, bad files are named, nothing runs.

Each case is a row of a table, with what has to come of it.
"""

import gzip
import json
import os
import stat
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import blobs, make_head, write_store

from features import extract as extract_file
from features.base.read_ahead import live_windows
from features.errors import FrostlineError, InputError
from features.store.format import EMPTY, REPAIRED, TRUNCATED
from features.store.reader import FeatureStore
from features.tweets.columns import Columns
from features.tweets.reader import Reject, Tweet, TweetReader, characters
from features.tweets.rejects import RejectLog
from pipeline.cli.commands import main
from pipeline.head.head import save_head


def run(*arguments, **options):
    # As on a terminal: without `color`, click takes escape sequences out of what is printed.
    return CliRunner().invoke(main, [str(a) for a in arguments], color=True, **options)


def extract(folder, model, *inputs, output="out.h5", more=()):
    options = ("--model", model, "--pooling", "mean", "--dtype", "float32", "--device", "cpu")
    options += ("--allow-rejects", *more)
    return run("extract", *inputs, "-o", folder / output, *options)


def safe(text):
    """No control character gets to the terminal, nor one that turns the text around."""
    return all(c.isprintable() or c == "\n" for c in text)


# ----------------------------------------------------------------------------- what a tweet may say

MILLION = "word " * 200_000
# A line of JSON; the flags of its row.
TEXTS = {
    "empty": (b'""', EMPTY),
    "blanks": (rb'" \t \u00a0\u2003 "', EMPTY),
    "a number as text": (b'"5"', 0),
    "a lone surrogate": (rb'"half \ud83d pair"', REPAIRED),
    "surrogates the wrong way round": (rb'"\ude00\ud83d"', REPAIRED),
    "bytes that are not UTF-8": (b'"caf\xe9 \xff\xfe"', REPAIRED),
    "overlong UTF-8": (b'"\xc0\xaf\xe0\x80\xaf"', REPAIRED),
    "a NUL": (rb'"nul \u0000 byte"', REPAIRED),
    "a byte order mark inside": (rb'"\ufeffmark"', 0),
    "noncharacters": (rb'"\uffff\ufdd0"', 0),
    "a megabyte": (json.dumps(MILLION).encode(), TRUNCATED),
    "a megabyte without a blank": (json.dumps("a" * 2**20).encode(), None),
    "special tokens": (b'"[SEP] [MASK][CLS] [PAD] </s> <mask>"', 0),
    "combining marks": (json.dumps("a" + "\u0301" * 10_000).encode(), None),
    "marks in disorder": (json.dumps("a" + "\u0301\u0323" * 5_000).encode(), None),
    "right to left": (json.dumps("שלום עולם \u202e evil \u2066 x").encode(), 0),
    "terminal control": (json.dumps("\x1b[2J\x1b]0;title\x07\x9b31m\x7f").encode(), 0),
    "unknown tokens": (json.dumps("𓀀𓀁𓀂 𒀀").encode(), 0),
    "joined emoji": (json.dumps("👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽").encode(), 0),
    "joiners alone": (json.dumps("\u200d\u200c\ufe0f" * 50).encode(), None),
    "private use": (json.dumps("\ue000\U0010fffd").encode(), 0),
    "a formula": (b'"=cmd()"', 0),
    "markup": (b'"<script>alert(1)</script> &lt;b&gt; &#0; &#xD800; &#x110000;"', 0),
    "newlines": (rb'"a\r\nb\u2028c\u0085d"', 0),
}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, tiny_model):
    """All these texts through `extract`, each of them a row."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [
        b'{"id": "%d", "text": %s}\n' % (i, text) for i, (text, _) in enumerate(TEXTS.values())
    ]
    (folder / "tweets.jsonl").write_bytes(b"".join(lines))
    model, utf_8 = tiny_model("bert"), ("--encoding", "utf-8")
    result = extract(folder, model, folder / "tweets.jsonl", more=utf_8)
    assert result.exit_code == 0, result.output
    assert safe(result.output)
    with FeatureStore(folder / "out.h5") as store:
        return store.ids(), store.flags(), store.read("mean"), store.n_tokens()


def test_every_text_has_its_row(encoded):
    ids, _, vectors, n_tokens = encoded
    assert ids == [str(i) for i in range(len(TEXTS))]
    assert np.isfinite(vectors).all()
    assert (n_tokens >= 2).all()


@pytest.mark.parametrize("case", TEXTS)
def test_flags_of_a_text(encoded, case):
    flags = encoded[1][list(TEXTS).index(case)]
    expected = TEXTS[case][1]
    assert expected is None or flags == expected


# -------------------------------------------------------------------------- what a file may contain

GOOD = b'{"id": "a", "text": "so happy"}\n'
DEEP = b"[" * 100_000
NUMBER = b"9" * 1_000_000
OK, REFUSED = 0, 2
# Name and content; the exit code; the ids that come through; what is said: of each reject, or once.
FILES = {
    "zero bytes, text": ("a.txt", b"", REFUSED, [], "no usable tweet"),
    "zero bytes, table": ("a.csv", b"", REFUSED, [], "is empty"),
    "a header alone": ("a.csv", b"id,text\n", REFUSED, [], "no usable tweet"),
    "line ends alone": ("a.jsonl", b"\n\n\r\n\n", REFUSED, [], "no usable tweet"),
    "a mark alone": ("a.csv", b"\xef\xbb\xbf", REFUSED, [], "is empty"),
    "a mark": ("a.csv", b"\xef\xbb\xbfid,text\na,x\n", OK, ["a"], None),
    "a mark before JSON": ("a.jsonl", b"\xef\xbb\xbf" + GOOD, OK, ["a"], None),
    "UTF-16": ("a.csv", "id,text\na,x\n".encode("utf-16"), OK, ["a"], None),
    "UTF-16, big end first": (
        "a.txt", b"\xfe\xff" + "hi\n".encode("utf-16-be"), OK, ["0"], None),
    "UTF-16 without a mark": (
        "a.csv", "id,text\na,x\n".encode("utf-16-le"), REFUSED, [], "much of it is NUL bytes"),
    "UTF-16 in gzip": (
        "a.txt.gz", gzip.compress("id\n".encode("utf-16")), OK, ["0"], None),
    "UTF-32": ("a.jsonl", "{}".encode("utf-32"), REFUSED, [], "no text among its keys"),
    "NUL bytes": ("a.txt", bytes(10_000), REFUSED, [], "much of it is NUL bytes"),
    "no text column": ("a.csv", b"id,body\n1,x\n", REFUSED, [], "none of the columns text, tweet"),
    "a doubled text column": (
        "a.csv", b"id,text,text\n1,x,y\n", REFUSED, [], 'column "text" is there 2 times'),
    "a doubled id column": (
        "a.csv", b"id,id,text\n1,2,x\n", REFUSED, [], 'column "id" is there 2 times'),
    "a doubled label column": (
        "a.tsv", b"label\ttext\tlabel\na\tx\tb\n", REFUSED, [], '"label" is there 2 times'),
    "a doubled column that is not read": ("a.csv", b"x,x,id,text\n1,2,a,t\n", OK, ["a"], None),
    "an unclosed quote": (
        "a.csv", b'id,text\na,"x, x"\nb,"y\nc,z\n', REFUSED, [], "line 3: a quote is"),
    "an unclosed quote that is text": ("a.csv", b'id,text\na,x\nb,"y\nc,z\n', OK, [*"abc"], None),
    "ragged rows": ("a.csv", b"id,text\na\nb,x\nc,y,z\n\nd,w\n", OK, ["b", "d"], "under 2 columns"),
    "doubled ids": ("a.csv", b"id,text\na,x\na,y\na,x\n", OK, ["a", "a", "a"], None),
    "an id that is too long": (
        "a.csv", b"id,text\n" + b"i" * 300 + b",x\nb,y\n", OK, ["b"], "longer than 256 bytes"),
    "a missing text": ("a.jsonl", GOOD + b'{"text": null}\n{"id": 3}\n', OK, ["a"], "no text"),
    "a text that is none": (
        "a.jsonl", GOOD + b'{"text": 5}\n{"text": [1]}\n', OK, ["a"], "'text' is"),
    "deep JSON": ("a.jsonl", DEEP + b"\n" + GOOD, OK, ["a"], "not JSON"),
    "deep JSON in a key": ("a.jsonl", b'{"x": ' + DEEP + b"\n" + GOOD, OK, ["a"], "not JSON"),
    "a number of a million digits": (
        "a.jsonl", b'{"text": "x", "id": ' + NUMBER + b"}\n" + GOOD, OK, ["a"], "not JSON"),
    "a float of a million digits": (
        "a.jsonl", b'{"text": "x", "id": ' + NUMBER + b".5}\n" + GOOD, OK, ["a"],
        "not a finite number"),
    "an exponent of a million": (
        "a.jsonl", b'{"text": "x", "label": 1e999999}\n' + GOOD, OK, ["a"], "not a finite number"),
    "NaN": ("a.jsonl", b'{"text": NaN}\n{"id": "b", "text": "x", "label": NaN}\n', OK, ["b"],
            "is a number"),
    "Infinity": (
        "a.jsonl", GOOD + b'{"text": "x", "label": -Infinity}\n', OK, ["a"], "not a finite number"),
    "doubled keys": (
        "a.jsonl", b'{"text": "x", "text": "y"}\n' + GOOD, OK, ["a"], 'key "text" is there more'),
    "control characters in a bad row": (
        "a.csv", "id,text\n\x1b[2J\u202e,x,y\na,z\n".encode(), OK, ["a"], "\\u001b[2J\\u202e"),
    "control characters in a header": (
        "a.csv", b"id,\x1b]0;x\x07\n1,2\n", REFUSED, [], "\\u001b]0;x\\u0007"),
    "no gzip": ("a.csv.gz", b"id,text\na,x\n", 3, [], "gzip"),
    "gzip cut short": ("a.txt.gz", gzip.compress(os.urandom(999))[:-9], 3, [], "gzip"),
    "no Parquet": ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", 3, [], "Parquet"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_tweets(case, tmp_path, tiny_model):
    name, content, code, ids, reason = FILES[case]
    (tmp_path / name).write_bytes(content)
    result = extract(tmp_path, tiny_model("bert"), tmp_path / name)
    assert result.exit_code == code, result.output
    assert safe(result.output)
    listed = tmp_path / "out.h5.rejects.jsonl"
    if code != OK:
        assert len(result.stderr.splitlines()) == 1
        assert reason in result.stderr
        assert not (tmp_path / "out.h5").exists()
        return
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.ids() == ids
    lines = listed.read_text().splitlines() if listed.exists() else []
    rejects = [json.loads(line) for line in lines]
    assert (rejects == []) == (reason is None)
    for reject in rejects:
        assert set(reject) == {"source", "line", "reason", "start"}
        assert reason in reject["reason"]
        assert len(reject["reason"]) < 400
        assert safe(reject["reason"] + reject["start"])


@pytest.mark.parametrize("case", [name for name, row in FILES.items() if row[2] == OK and row[4]])
def test_bad_rows_are_fatal_only_if_strict(case, tmp_path, tiny_model):
    name, content, _, _, reason = FILES[case]
    (tmp_path / name).write_bytes(content)
    output = tmp_path / "out.h5"
    result = run(
        "extract", tmp_path / name, "-o", output, "--model", tiny_model("bert"), "--strict"
    )
    assert result.exit_code == 2
    assert "(--strict)" in result.stderr
    assert reason in result.stderr
    assert safe(result.output)
    assert not output.exists()


def test_labels_that_the_mapping_does_not_know(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,0\ny,\x1b[2J\nz,\n")
    (tmp_path / "mapping.txt").write_text("0\tbad\n")
    rows = list(TweetReader([tmp_path / "a.csv"], Columns(mapping=tmp_path / "mapping.txt")))
    assert rows[0] == Tweet("0", "x", "bad")
    assert isinstance(rows[1], Reject)
    assert safe(rows[1].reason)
    assert rows[2] == Tweet("2", "z")


PIECES = [b"id", b"text", b"label", b",", b"\t", b'"', b'""', b"\n", b"\r", b"\r\n", b"\0", b"\xff"]
PIECES += [
    b"{",
    b"}",
    b"[",
    b'{"text": "x"}\n',
    b'{"text":',
    b"\\ud800",
    b"NaN",
    b"1e99",
    b"\xef\xbb\xbf",
]
PIECES += [gzip.compress(b"id,text\n1,x\n", mtime=0), b"\x1f\x8b\x08", b"PAR1", "\u202e".encode()]


@settings(deadline=None)
@given(
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".txt", ".csv.gz", ".jsonl.gz", ".parquet"]),
    header=st.sampled_from([b"", b"text\n", b"id,text,label\n", b"id\ttext\n"]),
    content=st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=30),
    pack=st.booleans(),
)
def test_any_bytes_are_rows_or_a_documented_error(suffix, header, content, pack):
    data = header + b"".join(content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(gzip.compress(data) if pack and suffix.endswith(".gz") else data)
        try:
            for row in TweetReader([path]):
                assert isinstance(row, Tweet | Reject)
                if isinstance(row, Tweet):  # can be written to any file
                    row.text.encode(), row.id.encode(), (row.label or "").encode()
                else:
                    assert safe(row.reason + row.start)
        except FrostlineError as error:
            assert "\n" not in str(error)


# --------------------------------------------------------------------------------- without a bound


EMOJI = "\U0001f600" * 3000
REJECTED = {
    "a number of a million digits": ("a.jsonl", '{"text": 1' + "0" * 10**6 + "}\n"),
    "a long key, twice": ("a.jsonl", '{"KEY": 1, "KEY": 2}\n'.replace("KEY", EMOJI)),
    "a million keys": (
        "a.jsonl",
        json.dumps({f"{i}{EMOJI[:60]}": i for i in range(20_000)}) + '\n{"text": "x"}\n',
    ),
    "an array": ("a.jsonl", json.dumps([EMOJI] * 100) + "\n"),
    "deep JSON": ("a.jsonl", "[" * 100_000 + "\n"),
    "cells without end": ("a.csv", "id,text\n" + f"{EMOJI}," * 500 + "\n"),
    "control characters": ("a.csv", "id,text\n" + "\u202e" * 5000 + ",a,b\n"),
    "a long id": ("a.csv", f"id,text\n{EMOJI},x\n"),
    "a long label": ("a.csv", f"text,label\nx,{EMOJI}\ny,0\n"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_what_is_written_for_a_reject_is_bounded(tmp_path, case):
    name, content = REJECTED[case]
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "mapping.txt").write_text("".join(f"{i}\t{EMOJI}{i}\n" for i in range(300)))
    mapping = tmp_path / "mapping.txt" if case == "a long label" else None
    with RejectLog(tmp_path / "out.h5") as log:
        log.add(
            r
            for r in TweetReader([tmp_path / name], Columns(mapping=mapping))
            if isinstance(r, Reject)
        )
        assert log.count >= 1
    lines = (tmp_path / "out.h5.rejects.jsonl").read_bytes().splitlines()
    assert len(lines) == log.count
    assert max(map(len, lines)) < 8192


def test_tweets_of_a_megabyte_are_held_a_few_at_a_time(tmp_path, tiny_model):
    """8,192 tweets make a window, 4 MiB of text do too."""
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{'x' * 2**20} {i}\n" for i in range(10)))
    seen = []
    options = {"model": tiny_model("bert"), "pooling": "mean", "dtype": "float32", "device": "cpu"}
    extract_file(path, tmp_path / "a.h5", progress=lambda p: seen.append(p.rows), **options)
    # After each batch and each window: what was done of the first one is at most four rows.
    assert 4 in seen
    assert 8 in seen
    cut = live_windows(TweetReader([path]), 2048, 60, characters)
    assert [len(window) for window in cut] == [4, 4, 2]


def test_a_mapping_without_end_is_not_read(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,0\n")
    (tmp_path / "mapping.txt").write_text("0\tx\n")
    os.truncate(tmp_path / "mapping.txt", 2**40)  # a terabyte that takes no room
    with pytest.raises(InputError, match=r"mapping\.txt has more than 16777216 bytes"):
        TweetReader([tmp_path / "a.csv"], Columns(mapping=tmp_path / "mapping.txt"))


def test_the_message_about_columns_is_bounded(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"column {i}" for i in range(100_000)) + "\n")
    with pytest.raises(InputError, match=r'"column 7" and 99,992 more') as caught:
        list(TweetReader([path]))
    assert len(str(caught.value)) < 1000


def packed(path, start, filler, mebibytes, end):
    """A small .gz file that unpacks to very much."""
    block = gzip.compress(filler * (2**20 // len(filler)))
    path.write_bytes(gzip.compress(start) + block * mebibytes + gzip.compress(end))


BOMBS = {
    "a line": ("a.txt.gz", b"first\n", b"x", b"\nlast\n"),
    "a line of JSON": ("a.jsonl.gz", b'{"text": "first"}\n', b"[", b'\n{"text": "last"}\n'),
    "a cell": ("a.csv.gz", b"text\nfirst\n", b"x", b"\nlast\n"),
    "a quoted cell": ("a.csv.gz", b'text\nfirst\n"', b"x", b'"\nlast\n'),
    "quotes": ("a.csv.gz", b'text\nfirst\n"', b'"', b'"\nlast\n'),
}


@pytest.mark.parametrize("case", BOMBS)
@pytest.mark.parametrize("mebibytes", [96, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_line_of_gigabytes_is_rejected_in_little_memory(case, mebibytes, tmp_path):
    name, start, filler, end = BOMBS[case]
    packed(tmp_path / name, start, filler, mebibytes, end)
    assert (tmp_path / name).stat().st_size < 2000 * mebibytes
    tracemalloc.start()
    try:
        first, rejected, last = TweetReader([tmp_path / name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (first.text, last.text) == ("first", "last")
    assert "line is longer than" in rejected.reason
    assert peak < 80 * 2**20


def test_a_row_without_end_is_refused_in_little_memory(tmp_path):
    packed(tmp_path / "a.csv.gz", b'text\nfirst\n"', b"line\n\n\n\n", 64, b"")
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="line 3: its row goes on for more than"):
            list(TweetReader([tmp_path / "a.csv.gz"]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 256 * 2**20


# ------------------------------------------------------------------------- inputs that are no files

NO_FILES = {
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "no such file": lambda path: path.symlink_to(path.with_name("gone")),
    "cannot be read": lambda path: path.symlink_to(path),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("role", ["input", "labels", "mapping", "second input"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_only_files_are_read_by_name(kind, role, tmp_path):
    odd = tmp_path / "odd.txt"
    NO_FILES[kind](odd)
    good = tmp_path / "good.txt"
    good.write_text("0\tone\n")
    inputs = {"input": [odd], "second input": [good, odd]}.get(role, [good])
    options = [f"--{role}", odd] if role in ("labels", "mapping") else []
    result = run("extract", *inputs, *options, "-o", tmp_path / "out.h5")
    assert result.exit_code == 2, result.output
    assert f"{odd}" in result.stderr
    assert kind in result.stderr
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("name", ["n" * 300 + ".csv", "a/" * 3000 + "a.csv", "nul\0.csv"])
def test_names_that_the_file_system_does_not_take(name):
    with pytest.raises(InputError, match=r"cannot be read|no such file"):
        TweetReader([name])


def test_a_labels_file_that_changes_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "l.txt").write_text("0\n1\n")
    reader = iter(TweetReader([tmp_path / "a.txt"], Columns(labels=tmp_path / "l.txt")))
    (tmp_path / "l.txt").write_text("0\n")
    with pytest.raises(InputError, match="changed while it was read"):
        list(reader)


def test_an_input_that_changes_between_runs(tmp_path, tiny_model):
    """What changed is encoded, the rest is not, and the rows are those of the file as it is now."""
    path, model = tmp_path / "a.csv", tiny_model("bert")
    path.write_text("id,text\na,one\nb,two\n")
    assert extract(tmp_path, model, path).exit_code == 0
    path.write_text("id,text\nb,two\na,three\n")
    result = extract(tmp_path, model, path)
    assert (result.exit_code, "1 encoded in this run" in result.output) == (0, True)
    assert extract(tmp_path, model, path, output="new.h5").exit_code == 0
    with FeatureStore(tmp_path / "out.h5") as again, FeatureStore(tmp_path / "new.h5") as new:
        assert again.ids() == new.ids() == ["b", "a"]
        np.testing.assert_array_equal(again.digests(), new.digests())
        np.testing.assert_array_equal(again.read("mean"), new.read("mean"))


# ---------------------------------------------------------------------------------------- outputs


@pytest.fixture
def place(tmp_path):
    """Everything that the commands below read."""
    write_store(tmp_path / "s.h5", *blobs(60, 8, 3), labels=["class 0", "class 1", "class 2"])
    save_head(make_head(3), tmp_path / "head.joblib")
    (tmp_path / "tweets.csv").write_text("id,text\n1,so happy\n")
    return tmp_path


# The command, and the output that is made impossible below.
WRITERS = {
    "extract": ("extract tweets.csv -o OUT.h5 --overwrite", "OUT.h5"),
    "rejects of extract": ("extract tweets.csv -o OUT.h5", "OUT.h5.rejects.jsonl"),
    "fit": ("fit s.h5 -o OUT.joblib --C 1", "OUT.joblib"),
    "metrics of fit": ("fit s.h5 -o new.joblib --C 1 --json OUT.json", "OUT.json"),
    "predict": ("predict head.joblib s.h5 -o OUT.csv", "OUT.csv"),
    "rejects of predict": ("predict head.joblib s.h5 -o OUT.csv", "OUT.csv.rejects.jsonl"),
    "metrics of evaluate": ("evaluate head.joblib s.h5 --json OUT.json", "OUT.json"),
}
OBSTACLES = {
    "a link to a file outside": lambda path, victim: path.symlink_to(victim),
    "a link to nothing": lambda path, victim: path.symlink_to(victim.with_name("new")),
    "a link to a device": lambda path, victim: path.symlink_to("/dev/null"),
    "a pipe": lambda path, victim: os.mkfifo(path),
    "a folder": lambda path, victim: path.mkdir(),
}


def typed(command, place):
    return [place / word if "." in word else word for word in command.split()]


def state(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_written_through_or_over(writer, obstacle, place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    victim = elsewhere / "victim"
    victim.write_text("precious")
    command, name = WRITERS[writer]
    OBSTACLES[obstacle](place / name, victim)
    before, mode = state(place), (place / name).lstat().st_mode
    result = run(*typed(command, place))
    assert result.exit_code == 2, result.output
    assert str(place / name) in result.stderr
    assert (state(place), (place / name).lstat().st_mode) == (before, mode)
    assert state(elsewhere) == {"victim": b"precious"}


@pytest.mark.parametrize(
    "command",
    [
        "fit s.h5 -o s.h5",
        "fit s.h5 -o new.joblib --validation twin.h5 --json twin.h5",
        "fit s.h5 -o new.joblib --json s.h5",
        "fit s.h5 -o new.joblib --json new.joblib",
        "predict head.joblib in.csv -o in.csv",
        "predict head.joblib in.csv -o twin.csv",
        "predict head.joblib a.csv.rejects.jsonl -o a.csv",
        "evaluate head.joblib s.h5 --json head.joblib",
        "evaluate head.joblib in.csv --json in.csv",
        "evaluate head.joblib in.csv --mapping m.json --json m.json",
    ],
)
def test_no_input_is_written_over(command, place):
    (place / "in.csv").write_text("id,text\n1,x\n")
    (place / "twin.csv").hardlink_to(place / "in.csv")
    (place / "twin.h5").hardlink_to(place / "s.h5")
    (place / "a.csv.rejects.jsonl").write_text('{"text": "x"}\n')
    (place / "m.json").write_text("0\tclass 0\n")
    before = state(place)
    result = run(*typed(command, place))
    assert result.exit_code == 2, result.output
    assert "is an input too" in result.stderr or "is the output already" in result.stderr
    assert state(place) == before


def test_outputs_are_as_private_as_the_umask_says(place):
    before = os.umask(0o077)
    try:
        for command in (
            "fit s.h5 -o new.joblib --C 1 --json new.json",
            "predict head.joblib s.h5 -o new.csv",
        ):
            assert run(*typed(command, place)).exit_code == 0
    finally:
        os.umask(before)
    for name in ("new.joblib", "new.json", "new.csv"):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o600


def test_scratch_is_for_the_user_alone(place, monkeypatch):
    """Vectors and scores are as private as tweets, also while they are made."""
    seen, replace = [], Path.replace

    def look(self, target):
        seen.append(stat.S_IMODE(self.parent.stat().st_mode))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look)
    assert run(*typed("predict head.joblib s.h5 -o new.csv", place)).exit_code == 0
    assert seen == [0o700]


# ------------------------------------------------------------------------------------ spreadsheets

FORMULAS = ["=cmd()", "+1", "-1", "@sum", "\t=x", "\r=x", "＝cmd()", '=HYPERLINK("http://x")']
HARMLESS = ["a=b", "5", "'quoted", " =x", "é", ""]


@pytest.fixture
def formulas(tmp_path):
    ids = [*FORMULAS, *HARMLESS]
    X, y = blobs(30, 8, 3)
    write_store(tmp_path / "s.h5", X[: len(ids)], y[: len(ids)], ids=ids)
    save_head(make_head(3, labels=["=a()", "b", "-c"]), tmp_path / "head.joblib")
    return tmp_path


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_excel_safe_marks_the_cells_that_a_spreadsheet_would_run(formulas, suffix):
    import csv

    output = formulas / f"out.{suffix}"
    for options, mark in (([], ""), (["--excel-safe"], "'")):
        result = run("predict", formulas / "head.joblib", formulas / "s.h5", "-o", output, *options)
        assert result.exit_code == 0, result.output
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="," if suffix == "csv" else "\t"))
        assert [row["id"] for row in rows] == [mark + i for i in FORMULAS] + HARMLESS
        assert {row["label"] for row in rows} <= {mark + "=a()", "b", mark + "-c"}
        for row in rows:
            assert all(0 <= float(value) <= 1 for key, value in row.items() if key[:2] == "p_")


@pytest.mark.parametrize("output", ["-", "out.jsonl"])
def test_excel_safe_is_for_tables(formulas, output):
    target = output if output == "-" else formulas / output
    result = run(
        "predict", formulas / "head.joblib", formulas / "s.h5", "-o", target, "--excel-safe"
    )
    assert result.exit_code == 2
    assert "--excel-safe is for .csv and .tsv" in result.stderr


def test_json_lines_on_a_terminal_carry_no_control_characters(tmp_path):
    ids = ["\x1b[2J", "\x9b31m", "\x7f", "\u202eevil", "\U000e0001", "👩‍👧"]
    X, y = blobs(30, 8, 3)
    write_store(tmp_path / "s.h5", X[:6], y[:6], ids=ids)
    save_head(make_head(3), tmp_path / "head.joblib")
    result = run("predict", tmp_path / "head.joblib", tmp_path / "s.h5")
    assert result.exit_code == 0
    assert safe(result.stdout)
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ids
