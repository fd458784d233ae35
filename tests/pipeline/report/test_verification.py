"""`frostline verify` as a command: a line each, exit codes, JSON, nothing raw on a terminal."""

import json
import os

import pytest
from click.testing import CliRunner
from stores import blobs, write_store

from pipeline.cli.commands import main

N, D = 60, 8


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "s.h5", *blobs(N, D))
    (tmp_path / "shards").mkdir()
    for name in "abc":
        write_store(tmp_path / "shards" / f"{name}.h5", *blobs(N, D))
    (tmp_path / "text.h5").write_text("id,text\n")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")


def run(*arguments):
    return CliRunner().invoke(main, ["verify", *map(str, arguments)], color=True)


def test_whole_stores_get_a_line_each():
    result = run("s.h5", "shards")
    assert result.exit_code == 0, result.output
    one, folder = result.stdout.splitlines()
    assert one.startswith("whole: s.h5: 60 rows, views cls, ")
    assert folder.startswith("whole: shards: 3 files, 180 rows, views cls, ")
    assert one.endswith(" MB/s")
    assert result.stderr == "", "no progress in a pipe"


@pytest.mark.parametrize(
    ("paths", "said", "count"),
    [
        (["none.h5"], ["none.h5 cannot be read: No such file"], "1 of 1"),
        (["text.h5"], ["text.h5 does not end in its seal"], "1 of 1"),
        (["empty"], ["empty is a folder without feature files"], "1 of 1"),
        (["pipe.h5"], ["pipe.h5 is not a regular file"], "1 of 1"),
        (["/dev/zero"], ["/dev/zero is not a regular file"], "1 of 1"),
        (["text.h5", "s.h5", "none.h5"], ["text.h5", "whole: s.h5", "none.h5"], "2 of 3"),
    ],
)
def test_it_says_all_that_is_broken(paths, said, count):
    result = run(*paths)
    assert result.exit_code == 3
    assert isinstance(result.exception, SystemExit), result.exception
    for line, part in zip(result.stdout.splitlines(), said, strict=True):
        assert part in line
    (error,) = result.stderr.splitlines()
    assert error.startswith(f"Error: {count} files broken: ")
    assert "frostline extract" in error
    assert "--overwrite" in error


def test_shards_are_named_one_by_one(tmp_path):
    for name in "ac":
        with (tmp_path / "shards" / f"{name}.h5").open("r+b") as file:
            file.seek(3000)
            file.write(b"?!")
    result = run("shards")
    assert result.exit_code == 3
    first, second = result.stdout.splitlines()
    assert first.startswith("broken: shards/a.h5 is not as it was sealed")
    assert second.startswith("broken: shards/c.h5 is not as it was sealed")
    assert "2 of 3 files broken" in result.stderr


def test_json_has_what_was_found(tmp_path):
    result = run("s.h5", "text.h5", "--json", "found.json")
    assert result.exit_code == 3
    whole, broken = json.loads((tmp_path / "found.json").read_text())
    assert (whole["whole"], whole["rows"], whole["faults"]) == (True, N, [])
    assert broken["whole"] is False
    assert broken["faults"][0]["file"] == "text.h5"


@pytest.mark.parametrize("target", ["s.h5", "pipe.h5", "shards", "shards/b.h5", "no/found.json"])
def test_json_never_goes_where_it_should_not(tmp_path, target):
    stores = [tmp_path / "s.h5", tmp_path / "shards" / "b.h5"]
    before = [path.read_bytes() for path in stores]
    result = run("s.h5", "shards", "--json", target)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert [path.read_bytes() for path in stores] == before


def test_names_are_safe_to_print(tmp_path):
    name = "a\x1b[31mb.h5"
    (tmp_path / name).write_bytes(b"x")
    result = run(name)
    assert "\x1b" not in result.output
    assert "\\u001b[31mb.h5" in result.stdout


def test_what_an_interrupted_run_left_is_said(tmp_path):
    (tmp_path / ".s.h5.journal").write_bytes(bytes(3_000_000))
    result = run("s.h5")
    assert result.exit_code == 0
    whole, remark = result.stdout.splitlines()
    assert whole.startswith("whole: ")
    assert "3.0 MB in .s.h5.journal" in remark
