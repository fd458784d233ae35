"""Parquet and Arrow out of `predict`: the same rows as in CSV, whole or not at all, in groups."""

import csv
import json
import resource
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import blobs, make_head, write_store

from features.base.shown import NOT_UNICODE
from features.errors import CannotContinue, InputError
from pipeline.cli.commands import main
from pipeline.head.head import save_head
from pipeline.scoring.arrow_files import ARROW_FORMATS
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.output_files import check_output, write_scores

# By library and suffix, what reads a file into a dict of columns.
READERS = {
    ("pandas", ".parquet"): lambda path: pd.read_parquet(path).to_dict("list"),
    ("pandas", ".feather"): lambda path: pd.read_feather(path).to_dict("list"),
    ("pandas", ".arrow"): lambda path: pd.read_feather(path).to_dict("list"),
    ("polars", ".parquet"): lambda path: pl.read_parquet(path).to_dict(as_series=False),
    ("polars", ".feather"): lambda path: pl.read_ipc(path).to_dict(as_series=False),
    ("polars", ".arrow"): lambda path: pl.read_ipc(path).to_dict(as_series=False),
    ("pyarrow", ".parquet"): lambda path: pq.read_table(path).to_pydict(),
    ("pyarrow", ".feather"): lambda path: pa.ipc.open_file(path).read_all().to_pydict(),
    ("pyarrow", ".arrow"): lambda path: pa.ipc.open_file(path).read_all().to_pydict(),
}
HOSTILE = [
    "<script>alert(1)</script>",
    "\u202egnp.exe",
    "a" + "\u0301" * 10_000,
    "\x1b[31mred\x1b[0m",
    '=cmd|"/c calc"!A1',
    "a,b;c\td\r\ne\rf",
    "",
    "🎻" * 300,
]
TEXTS = st.text().filter(lambda text: not NOT_UNICODE.search(text))


def block_of(ids, texts, proba, flags=None, novelty=None):
    """Scores as `predict` gives them."""
    return Scores(
        list(ids), list(texts), [None] * len(ids), proba, flags or [""] * len(ids), novelty=novelty
    )


def some_proba(n, k=3, seed=0):
    proba = np.random.default_rng(seed).dirichlet(np.ones(k), n)
    return proba / proba.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("library", "suffix"), READERS)
def test_the_cells_are_those_of_json_lines(library, suffix, tmp_path):
    head = make_head(3, labels=["<b>", "a,b", ""])
    n = len(HOSTILE)
    novelty = np.linspace(0.1, 3, n)
    for name in (f"out{suffix}", "out.jsonl"):
        scores = block_of(HOSTILE, HOSTILE, some_proba(n), ["empty"] * n, novelty)
        write_scores(head, [scores], tmp_path / name, with_text=True, with_novelty=True)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    found = READERS[library, suffix](tmp_path / f"out{suffix}")
    assert found == {name: [row[name] for row in rows] for name in rows[0]}
    assert list(found) == list(rows[0])


def test_vectors_are_scored_into_every_format_alike(tmp_path):
    labels = ["class 0", "class 1", "class 2"]
    write_store(tmp_path / "s.h5", *blobs(60, 8, 3), labels=labels)
    save_head(make_head(3), tmp_path / "head.joblib")
    for suffix in (".csv", *ARROW_FORMATS):
        words = ["predict", "head.joblib", "s.h5", "-o", f"out{suffix}"]
        words = [str(tmp_path / word) if "." in word else word for word in words]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    for suffix in ARROW_FORMATS:
        found = READERS["pyarrow", suffix](tmp_path / f"out{suffix}")
        assert {name: list(map(str, cells)) for name, cells in found.items()} == {
            name: [row[name] for row in rows] for name in rows[0]
        }


@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20),
    labels=st.lists(TEXTS, min_size=2, max_size=4, unique=True),
    suffix=st.sampled_from(ARROW_FORMATS),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back(rows, labels, suffix, tmp_path):
    head = make_head(len(labels), labels=labels)
    ids, texts = zip(*rows, strict=True)
    proba = some_proba(len(rows), len(labels))
    write_scores(head, [block_of(ids, texts, proba)], tmp_path / f"o{suffix}", with_text=True)
    found = READERS["pyarrow", suffix](tmp_path / f"o{suffix}")
    assert (found["id"], found["text"]) == (list(ids), list(texts))
    written = np.array([found[f"p_{label}"] for label in labels]).T
    assert np.abs(written - proba).max() <= 5e-7
    assert found["label"] == [labels[winner] for winner in written.argmax(axis=1)]


@pytest.mark.parametrize("suffix", ARROW_FORMATS)
def test_groups_of_rows_are_written_as_they_come(suffix, tmp_path):
    """What Arrow holds does not grow with the rows."""
    head, before = make_head(3), pa.total_allocated_bytes()
    most = 0

    def blocks():
        nonlocal most
        for number in range(100):
            ids = [str(1000 * number + n) for n in range(1000)]
            yield block_of(ids, ["x" * 1000] * 1000, some_proba(1000))
            most = max(most, pa.total_allocated_bytes() - before)

    written = write_scores(head, blocks(), tmp_path / f"o{suffix}", with_text=True)
    assert written.rows == 100_000
    assert most < 64 * 2**20
    if suffix == ".parquet":
        with pq.ParquetFile(tmp_path / "o.parquet") as file:
            assert 5 <= file.num_row_groups <= 10
    found = READERS["pyarrow", suffix](tmp_path / f"o{suffix}")
    assert found["id"] == list(map(str, range(100_000)))


@pytest.mark.parametrize("suffix", ARROW_FORMATS)
def test_without_rows_there_is_the_schema(suffix, tmp_path):
    write_scores(make_head(2), [], tmp_path / f"o{suffix}", with_text=True)
    read = pq.read_table if suffix == ".parquet" else lambda path: pa.ipc.open_file(path).read_all()
    table = read(tmp_path / f"o{suffix}")
    assert table.num_rows == 0
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string",
        "text": "string",
        "label": "string",
        "p_class 0": "double",
        "p_class 1": "double",
        "flags": "string",
    }


@pytest.mark.parametrize("suffix", ARROW_FORMATS)
def test_what_fails_in_the_middle_leaves_the_old_file(suffix, tmp_path):
    def blocks():
        yield block_of(["a"], ["b"], some_proba(1))
        raise InputError("no more")

    path = tmp_path / f"o{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(InputError, match="no more"):
        write_scores(make_head(3), blocks(), path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("suffix", ARROW_FORMATS)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(suffix, tmp_path):
    path = tmp_path / f"o{suffix}"
    path.write_bytes(b"before")
    random = np.random.default_rng(0)
    texts = ["".join(map(chr, random.integers(33, 9000, 100))) for _ in range(2000)]
    block = block_of(texts, texts, some_proba(2000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CannotContinue, match=f"o{suffix} cannot be written") as caught:
            write_scores(make_head(3), [block], path, with_text=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("suffix", ARROW_FORMATS)
def test_what_is_refused(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"o{suffix}"
    with pytest.raises(InputError, match=f"excel_safe.*{suffix} has no formulas"):
        check_output(path, excel_safe=True, tables_alone=False)
    with pytest.raises(InputError, match=r"one of \.csv, \.tsv, \.jsonl, or be -"):
        check_output(path)  # of the commands that write lists
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install 'frostline\[parquet\]'"):
        check_output(path, tables_alone=False)
