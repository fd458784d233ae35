"""`frostline demo`: the three steps on the example tweets; from a wheel: test_distribution.py."""

import csv
import shlex
from pathlib import Path

from click.testing import CliRunner

from pipeline.cli.commands import main

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "pipeline" / "examples"
FILES = ["tweets.csv", "new_tweets.csv", "tweets.h5", "head.joblib", "metrics.json", "scored.csv"]


def demo(folder, *options):
    return CliRunner().invoke(main, ["demo", str(folder), *options])


def commands_in(text):
    """The command lines that were shown, as words."""
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("$ ")]


def check_demo(text, folder, *more):
    """Three commands with what they print; their files are in the folder, and no others."""
    files = [*FILES, *more]
    assert [words[:2] for words in commands_in(text)] == [
        ["frostline", "extract"],
        ["frostline", "fit"],
        ["frostline", "predict"],
        *([["frostline", "report"]] if more else []),
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    for heading in ("tweets.h5 written", "class     rows  precision", "label     p_negative"):
        assert heading in text
    assert [line.split()[-1] for line in text.splitlines()[-len(files) :]] == files
    with (folder / "scored.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 60


def test_demo_shows_lines_that_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = demo("a folder/demo", "--report")
    assert result.exit_code == 0, result.output
    check_demo(result.stdout, Path("a folder/demo"), "report.html")
    page = Path("a folder/demo/report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    scored = Path("a folder/demo/scored.csv")
    before = scored.read_bytes()
    scored.unlink()
    predict = commands_in(result.stdout)[2][1:]
    assert CliRunner().invoke(main, predict).exit_code == 0
    assert scored.read_bytes() == before


def test_demo_leaves_files_of_others_alone(tmp_path):
    mine = tmp_path / "new_tweets.csv"
    mine.write_text("text\nmine\n")
    result = demo(tmp_path)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {mine} is there and is no file of the demo; name another folder, which is made\n"
    )
    assert mine.read_text() == "text\nmine\n"
    assert list(tmp_path.iterdir()) == [mine]


def test_demo_refuses_a_file(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "demo"):
        result = demo(folder)
        assert result.exit_code in (2, 4)
        assert result.stderr.startswith(f"Error: {folder} ")
        assert "Traceback" not in result.output
