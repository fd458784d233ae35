"""`frostline demo`: the three steps on the example tweets, from a clone and from a wheel."""

import csv
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
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
    head = Path("a folder/demo/head.joblib")
    head.unlink()
    fit = commands_in(result.stdout)[1][1:]
    assert CliRunner().invoke(main, fit).exit_code == 0
    assert head.is_file()


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


@pytest.mark.slow
def test_demo_of_an_installed_wheel_in_an_empty_folder(tmp_path):
    source, site, empty = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    source.mkdir()
    empty.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("features", "pipeline"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("frostline-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    environment = os.environ | {"PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import features, pipeline; print(pipeline.__file__)"]
    installed = subprocess.run(where, env=environment, cwd=empty, capture_output=True, text=True)
    assert Path(installed.stdout.strip()).is_relative_to(site)
    done = subprocess.run(
        [sys.executable, site / "bin" / "frostline", "demo", "--report"],
        env=environment,
        cwd=empty,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    check_demo(done.stdout, empty / "demo", "report.html")
    for path in EXAMPLES.glob("*.csv"):
        assert (empty / "demo" / path.name).read_bytes() == path.read_bytes()
