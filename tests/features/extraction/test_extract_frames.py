"""`extract` on frames: the feature file of the same rows in a file, and resumed as that is."""

import json
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.base.paths import journal_path
from features.encoder.encoder import FrozenEncoder
from features.errors import InputError
from features.extract import extract
from features.store.reader import FeatureStore

ROWS = [
    {"id": 12, "text": "so happy for you 🎉", "label": 1},
    {"id": 13, "text": None, "label": 0},
    {"id": 14, "text": "", "label": None},
    {"id": 15, "text": "=1+1, <b>&amp;</b>", "label": 0},
    {"id": 16, "text": "so happy for you 🎉", "label": 1},
    {"id": None, "text": "nan", "label": 0},
    {"id": 17, "text": "12", "label": 1},
]


def columns():
    return {name: [row[name] for row in ROWS] for name in ROWS[0]}


def written(suffix):
    def write(folder):
        path = folder / f"in{suffix}"
        if suffix == ".csv":  # with no text in the place of one that is missing
            table = pd.DataFrame([row for row in ROWS if row["text"] is not None])
            table.to_csv(path, index=False)
        elif suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        else:
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path

    return write


INPUTS = {
    "CSV": written(".csv"),
    "JSON Lines": written(".jsonl"),
    "Parquet": written(".parquet"),
    "pandas": lambda folder: pd.DataFrame(ROWS),
    "pandas, nullable": lambda folder: pd.DataFrame(ROWS).convert_dtypes(),
    "polars": lambda folder: pl.DataFrame(ROWS),
    "Arrow": lambda folder: pa.Table.from_pylist(ROWS),
    "a stream": lambda folder: pa.Table.from_pylist(ROWS).to_reader(2),
    "frames": lambda folder: (pd.DataFrame(ROWS[n : n + 3]) for n in (0, 3, 6)),
}


@pytest.fixture(scope="module")
def options(tiny_model):
    return {"model": tiny_model("bert"), "pooling": ["mean", "cls"], "dtype": "float32"}


def content(path):
    """All that a feature file holds but for what it was made from."""
    with h5py.File(path) as file:
        found = {name: file[name][:].tobytes() for name in file}
        provenance = json.loads(file.attrs["provenance"])
        names = {name: file.attrs[name] for name in ("label_names", "spec", "views")}
    return found, names, provenance["input_digest"]


def test_frames_give_the_bytes_that_files_give(options, tmp_path):
    found = {}
    for name, make in INPUTS.items():
        folder = tmp_path / name
        folder.mkdir()
        summary = extract(make(folder), folder / "out.h5", **options)
        rejects = folder / "out.h5.rejects.jsonl"
        text = rejects.read_text() if rejects.exists() else ""
        lines = [json.loads(line) for line in text.splitlines()]
        for line in lines:
            del line["source"]
        found[name] = content(folder / "out.h5")
        assert summary.rows == 6
        if name != "CSV":
            reason = "no text: 'text' is missing or null"
            assert lines == [{"line": 2, "reason": reason, "start": ""}], name
    by_number = {name for name in found if found[name] != found["Parquet"]}
    assert by_number == {"CSV"}  # a row without an id has its number, and one row is not there
    digests = {name: one[0]["digest"] for name, one in found.items()}
    assert set(digests.values()) == {digests["CSV"]}
    assert len({one[0]["mean"] for one in found.values()}) == 1
    assert len({one[0]["label"] for one in found.values()}) == 1


def test_the_same_frame_again_changes_nothing_and_another_one_is_read(options, tmp_path):
    out, frame = tmp_path / "out.h5", pd.DataFrame({"text": ["a", "b", "c"], "label": list("xyx")})
    assert extract(frame, out, **options).outcome == "written"
    before = out.read_bytes()
    assert extract(frame.copy(), out, **options).outcome == "unchanged"
    assert extract(pl.from_pandas(frame), out, **options).outcome == "unchanged"
    assert out.read_bytes() == before
    frame.loc[1, "text"] = "d"
    summary = extract(frame, out, **options)
    assert (summary.outcome, summary.encoded) == ("extended", 1)
    frame.loc[0, "label"] = "y"
    summary = extract(frame, out, **options)
    assert (summary.outcome, summary.encoded) == ("extended", 0)
    with FeatureStore(out) as store:
        assert [store.label_names[code] for code in store.labels()] == ["y", "y", "x"]
        assert store.provenance[0]["inputs"] == ["pandas.DataFrame"]


def test_shards_of_a_stream_are_those_of_a_frame(options, tmp_path):
    table = pa.table({"text": [f"tweet {n}" for n in range(25)]})
    extract(table, tmp_path / "a", shard_rows=10, **options)
    extract(table.to_reader(4), tmp_path / "b", shard_rows=10, **options)
    for name in ("part-00000.h5", "part-00001.h5", "part-00002.h5"):
        assert content(tmp_path / "a" / name) == content(tmp_path / "b" / name)


def test_a_run_that_a_stream_has_broken_goes_on(options, tmp_path):
    texts = [f"tweet {n}" for n in range(40)]
    frames = [pd.DataFrame({"text": texts[n : n + 10]}) for n in range(0, 40, 10)]

    def cut():
        yield from frames[:2]
        raise OSError("no network")

    out = tmp_path / "out.h5"
    with pytest.raises(Exception, match="cannot be read: no network"):
        extract(cut(), out, window_rows=5, **options)
    assert not out.exists()
    summary = extract(iter(frames), out, window_rows=5, **options)
    assert summary.rows == 40
    assert summary.resumed > 0


SCRIPT = """
import sys, time
import pandas as pd
from features import extract

def frames(pause):
    for n in range(0, 60, 5):
        if n == pause:
            print("half", flush=True)
            time.sleep(600)
        yield pd.DataFrame({"text": [f"tweet {k}" for k in range(n, n + 5)]})

model, output, pause = sys.argv[1:]
summary = extract(
    frames(int(pause)), output, model=model, pooling="mean", dtype="float32", window_rows=5
)
print(summary.resumed)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_ends_in_the_same_bytes(options, tmp_path):
    """Between two frames of an iterator, with vectors of the first ones in the journal."""
    killed, whole = tmp_path / "killed" / "a.h5", tmp_path / "whole" / "a.h5"

    def start(output, pause):
        output.parent.mkdir(exist_ok=True)
        words = [sys.executable, "-c", SCRIPT, str(options["model"]), str(output), str(pause)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    with start(killed, 40) as process:
        assert process.stdout.readline() == "half\n"
        journal = journal_path(killed)
        until = time.monotonic() + 60
        while journal.stat().st_size < 2000 and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()
    assert not killed.exists()
    found = []
    for output in (killed, whole):
        with start(output, -1) as process:
            found.append(int(process.stdout.read()))
        assert process.returncode == 0
    assert found[0] > 0
    assert found[1] == 0
    assert killed.read_bytes() == whole.read_bytes()


def test_an_empty_frame_and_one_of_rejects(options, tmp_path):
    for frame, said in (
        (pd.DataFrame({"text": []}), "no usable tweet in pandas.DataFrame$"),
        (pl.DataFrame({"text": [1, 2]}), "no usable tweet in polars.DataFrame; 2 rejected, the "),
    ):
        with pytest.raises(InputError, match=said):
            extract(frame, tmp_path / "out.h5", **options)
        assert not (tmp_path / "out.h5").exists()


def test_a_column_is_encoded_as_a_list(tiny_model):
    encoder = FrozenEncoder(tiny_model("bert"), pooling="mean", dtype="float32")
    texts = ["one", "and two", "one"]
    expected = encoder.encode(texts)["mean"]
    series = {
        "pandas": pd.Series(texts, index=[3, 3, 1]),
        "pandas, categories": pd.Series(texts, dtype="category"),
        "pandas, of Arrow": pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
        "polars": pl.Series(texts),
        "Arrow": pa.chunked_array([texts[:1], texts[1:]]),
        "Arrow, dictionaries": pa.array(texts).dictionary_encode(),
        "numpy": np.array(texts),
    }
    for name, one in series.items():
        np.testing.assert_array_equal(encoder.encode(one)["mean"], expected, err_msg=name)
    gaps = {
        "pandas": pd.Series(["a", None]),
        "pandas, nullable": pd.Series(["a", None], dtype="string"),
        "polars": pl.Series(["a", None]),
        "Arrow": pa.array(["a", None]),
    }
    for name, one in gaps.items():
        with pytest.raises(InputError, match="number 1 is "):
            encoder.encode(one)
            pytest.fail(name)
    with pytest.raises(InputError, match="a list of texts, not a int"):
        encoder.encode(5)
    bad = pa.array([b"\xff"]).view(pa.string())
    for one in (bad, pd.Series(bad, dtype=pd.ArrowDtype(pa.string()))):
        with pytest.raises(InputError, match="not UTF-8"):
            encoder.encode(one)
