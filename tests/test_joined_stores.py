"""Commands that take vectors take a store that was made in pieces, and say the same of it."""

import json
import os
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from pieces_stores import write_order
from stores import LABELS, blobs, write_store

from features.store.joined import layout
from features.store.joined.describe import receipt_of
from features.store.joined.join import join
from pipeline.cli.commands import main
from pipeline.head.head import load_head

ROWS, PIECES = 240, [(90, 31), (0,), (19, 100)]
# What is of the files themselves, not of their rows, and how long `compare` took.
OF_FILES = ("input_digests", "seconds", "files")

# A command that takes vectors is tried by a row here: what it is called with, and what it writes.
COMMANDS = {
    "fit": "fit rows.h5 --pooling cls --cv 3 -o again.joblib --json fit.json",
    "fit on all views": "fit rows.h5 --pooling cls --pooling mean --C 0.01 -o two.joblib",
    "validation": "fit other.h5 --pooling cls --validation rows.h5 -o v.joblib --json v.json",
    "corrections": "fit rows.h5 --pooling cls --C 1 --corrections fixed.csv -o c.joblib",
    "compare": "compare rows.h5 --cv 3 --json compare.json",
    "evaluate": "evaluate head.joblib rows.h5 --json evaluate.json",
    "quantify": "quantify head.joblib rows.h5 -o shares.csv",
    "suspects": "suspects head.joblib rows.h5 -o suspects.csv",
    "label-next": "label-next head.joblib rows.h5 -n 7 -o next.csv",
    "predict": "predict head.joblib rows.h5 -o scored.csv",
    "report": "report head.joblib rows.h5 -o report.json",
}
# Those that take no vectors, or say what the files are.
OTHERS = {
    *("extract", "check", "plan", "doctor", "completion", "demo", "push", "serve", "export"),
    *("explain", "inspect", "verify"),
}


def test_every_command_is_here():
    tried = {words.split()[0] for words in COMMANDS.values()}
    assert tried | OTHERS == set(main.list_commands(click.Context(main)))


def write_rows(path, *, in_pieces):
    """Write the same rows as one file, or as a joined store."""
    X, y = blobs(ROWS, 8, 3, seed=3, spread=0.5)
    y = np.where(np.arange(ROWS) % 11 == 5, -1, y)
    ids = [f"row-{n}" for n in range(ROWS)]
    texts = [f"text {n % 220}" for n in range(ROWS)]

    def write(file, rows):
        part = slice(*rows)
        views = {"cls": X[part], "mean": X[part, :5]}
        return write_store(file, views, y[part], LABELS, ids=ids[part], texts=texts[part])

    if not in_pieces:
        return write(path, (0, ROWS))
    order, first = write_order(path, len(PIECES), ("made up",)), 0
    for piece, of_piece in enumerate(PIECES):
        folder, shards = layout.piece_folder(path, piece), []
        for number, rows in enumerate(filter(None, of_piece)):
            folder.mkdir(exist_ok=True)
            shards.append(write(layout.shard_path(path, piece, number), (first, first + rows)))
            first += rows
        receipt = receipt_of(piece, order, shards, rejects=folder / layout.REJECTS)
        layout.receipt_path(path, piece).write_bytes(receipt.to_json())
    assert first == ROWS
    join(path)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders with files of the same names; the rows are one file in the first."""
    both = [tmp_path_factory.mktemp(name) for name in ("one", "pieces")]
    for folder in both:
        write_rows(folder / "rows.h5", in_pieces=folder == both[1])
        write_store(folder / "other.h5", *blobs(60, 8, 3, seed=4))
        (folder / "fixed.csv").write_text("id,label\nrow-5,negative\nrow-200,positive\n")
        run(folder, "fit other.h5 --C 0.1 -o head.joblib")
    return both


def run(folder, command):
    """Run a command in a folder; give what it says."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(main, shlex.split(command), prog_name="frostline")
    finally:
        os.chdir(before)
    assert result.exit_code == 0, result.output
    return result.output


def without(content):
    """Give JSON without what is of the files."""
    if isinstance(content, dict):
        return {name: without(one) for name, one in content.items() if name not in OF_FILES}
    return [without(one) for one in content] if isinstance(content, list) else content


def written(folder, before):
    read = {".json": lambda path: without(json.loads(path.read_bytes())), ".joblib": content_of}
    return {
        path.name: read.get(path.suffix, Path.read_bytes)(path)
        for path in folder.iterdir()
        if path.name not in before
    }


def content_of(path):
    head = load_head(path)
    weights = [one.tobytes() for one in (head.coef, head.intercept)]
    return head.labels, weights, head.sources, without(head.metadata)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_joined_store_gives_what_one_file_gives(folders, name):
    before = {path.name for path in folders[0].iterdir()}
    said = [run(folder, COMMANDS[name]) for folder in folders]
    one, pieces = (written(folder, before) for folder in folders)
    assert one, "it writes something"
    assert pieces == one
    for file in one:
        for folder in folders:
            (folder / file).unlink()
    assert said[0].splitlines()[0] == said[1].splitlines()[0]
