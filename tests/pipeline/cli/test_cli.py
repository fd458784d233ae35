"""The command line: exit codes, one line for each error, and nothing left behind."""

import dataclasses
import gzip
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from stores import LABELS, OTHER_SPEC, blobs, make_head, write_store

from features.version import __version__
from pipeline.cli.commands import main
from pipeline.head.head import load_head, save_head

ROOT = Path(__file__).parents[3]


def run(*arguments):
    # As on a terminal: without `color`, click takes escape sequences out of what is printed.
    return CliRunner().invoke(main, [str(argument) for argument in arguments], color=True)


def python(*arguments, **options):
    """A real process."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        **options,
    )


def test_version():
    result = python("--version")
    assert result.returncode == 0
    assert result.stdout.split() == ["frostline,", "version", __version__]


@pytest.mark.parametrize("name", list(main.commands))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_option(name, flag):
    result = run(name, flag)
    assert result.exit_code == 0
    options = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    for option in options:
        assert option.help, option.name
        for spelling in option.opts:
            assert re.search(rf"(?<![\w-]){re.escape(spelling)}(?![\w-])", result.output)


def test_help_lists_every_command():
    result = run("--help")
    assert result.exit_code == 0
    for name in main.commands:
        assert re.search(rf"^  {name} ", result.output, re.MULTILINE)
    # The examples in the docstring stand on lines of their own; \b is click's mark for that.
    assert "\\b" not in result.output
    assert re.search(r"^  frostline fit tweets\.h5 -o head\.joblib  ", result.output, re.MULTILINE)


def test_no_command_shows_the_help():
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.output


class Evil:
    def __reduce__(self):
        return os.system, ("touch frostline-was-here",)


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """What the invocations below name; nothing here may change."""
    folder = tmp_path_factory.mktemp("cli")
    X, y = blobs(60, 8, 3)
    write_store(folder / "s.h5", X, y)
    write_store(folder / "two.h5", {"cls": X, "mean": X}, y)
    write_store(folder / "other.h5", X, y, spec=OTHER_SPEC)
    write_store(folder / "unlabelled.h5", X, np.full(60, -1))
    write_store(folder / "one-class.h5", X, np.full(60, 1))
    write_store(folder / "few.h5", X, np.where(np.arange(60) < 3, 2, np.arange(60) % 2))
    write_store(folder / "angry.h5", X, y, ["negative", "angry", "positive"])
    with h5py.File(folder / "plain.h5", "w") as file:
        file["x"] = X
    save_head(make_head(3, labels=LABELS), folder / "head.joblib")
    (folder / "evil.joblib").write_bytes(pickle.dumps(Evil()))
    (folder / "tweets.csv").write_text("id,text,label\n1,so happy,positive\n2,so sad,negative\n")
    (folder / "bad.csv").write_text("id,text\n1,fine\n2,too,many\n")
    (folder / "header.csv").write_text("id,text\n")
    (folder / "empty.csv").write_text("")
    (folder / "quote.csv").write_text('id,text\n1,"a, b"\n2,"never closed\n3,more\n')
    (folder / "utf16.csv").write_text("id,text\n1,x\n", encoding="utf-16-le")
    (folder / "other-columns.csv").write_text("a,b\n1,2\n")
    (folder / "cut.csv.gz").write_bytes(
        gzip.compress(b"text\n" + os.urandom(5000).hex("\n").encode())[:2000]
    )
    (folder / "lines.txt").write_text("one\ntwo\n")
    (folder / "three.txt").write_text("0\n1\n2\n")
    (folder / "text.h5").write_text("id,text\n")
    (folder / "notes.xyz").write_text("hello")
    (folder / "folder").mkdir()
    (folder / "model").symlink_to(tiny_model("bert"))
    return folder


EXTRACT = "extract tweets.csv -o NEW.h5 --model ./model "
FIT = "fit s.h5 -o NEW.joblib "
PREDICT = "predict head.joblib s.h5 -o NEW.csv "
# What is typed, in the folder of `files`; the exit code; what the line says.
BAD = [
    ("nonsense", 2, "No such command 'nonsense'"),
    ("--nonsense", 2, "No such option"),
    # extract
    ("extract", 2, "Missing argument"),
    ("extract tweets.csv", 2, "-o"),
    (EXTRACT + "--nonsense 1", 2, "No such option"),
    ("extract none.csv -o NEW.h5", 2, "none.csv: no such file"),
    ("extract folder -o NEW.h5", 2, "folder is a folder"),
    ("extract notes.xyz -o NEW.h5", 2, "unknown format"),
    ("extract tweets.csv -o NEW.h5 --model ./none", 2, "none"),
    ("extract tweets.csv -o NEW.h5 --model nobody/no-such-model", 2, "nobody/no-such-model"),
    ("extract tweets.csv -o NEW.h5 --model ./folder", 3, "folder"),
    ("extract header.csv -o NEW.h5 --model ./model", 2, "no usable tweet in header.csv"),
    ("extract empty.csv -o NEW.h5 --model ./model", 2, "is empty"),
    ("extract quote.csv -o NEW.h5 --model ./model", 2, "line 3: a quote is opened"),
    ("extract utf16.csv -o NEW.h5 --model ./model", 2, "--encoding utf-16-le"),
    ("extract other-columns.csv -o NEW.h5 --model ./model", 2, "its columns are"),
    ("extract cut.csv.gz -o NEW.h5 --model ./model", 3, "compressed data is damaged"),
    ("extract bad.csv -o NEW.h5 --model ./model --strict", 2, "line 3: 3 cells under 2 columns"),
    ("extract tweets.csv -o folder --model ./model", 2, "folder is a folder"),
    ("extract tweets.csv -o no/NEW.h5 --model ./model", 2, "does not exist"),
    ("extract tweets.csv -o tweets.csv --model ./model", 2, "is an input too"),
    ("extract tweets.csv -o text.h5 --model ./model", 3, "--overwrite"),
    ("extract tweets.csv -o s.h5 --model ./model", 2, "another encoder"),
    ("extract lines.txt -o NEW.h5 --labels three.txt", 2, "has 2 lines"),
    ("extract tweets.csv -o NEW.h5 --labels three.txt", 2, "--labels goes with exactly one .txt"),
    ("extract lines.txt -o NEW.h5 --labels none.txt", 2, "none.txt"),
    ("extract lines.txt -o NEW.h5 --mapping none.txt", 2, "none.txt"),
    ("extract lines.txt -o NEW.h5 --mapping lines.txt", 2, "value<TAB>name"),
    (EXTRACT + "--pooling clf", 2, "unknown tokens 'clf'"),
    (EXTRACT + "--pooling cls --pooling cls", 2, "given twice"),
    (EXTRACT + "--pooling cls@99", 2, "99"),
    (EXTRACT + "--max-length abc", 2, "--max-length"),
    (EXTRACT + "--max-length 2", 2, "max length 2"),
    (EXTRACT + "--max-length 1000", 2, "max length 1000"),
    (EXTRACT + "--normalize lower", 2, "lower"),
    (EXTRACT + "--dtype int4", 2, "int4"),
    (EXTRACT + "--store-dtype float64", 2, "float64"),
    (EXTRACT + "--device tpu", 2, "tpu"),
    (EXTRACT + "--max-batch-tokens 0", 2, "max batch tokens is 0"),
    (EXTRACT + "--text-column body", 2, "no column 'body'"),
    (EXTRACT + "--label-column mood", 2, "no column 'mood'"),
    (EXTRACT + "--id-column key", 2, "no column 'key'"),
    # fit
    ("fit", 2, "Missing argument"),
    ("fit s.h5", 2, "-o"),
    ("fit none.h5 -o NEW.joblib", 2, "none.h5: no such feature file"),
    ("fit folder -o NEW.joblib", 2, "without feature files"),
    ("fit text.h5 -o NEW.joblib", 3, "not a readable HDF5 file"),
    ("fit plain.h5 -o NEW.joblib", 3, "not one of frostline's"),
    ("fit two.h5 -o NEW.joblib", 2, "several views: cls, mean; choose with --pooling"),
    ("fit unlabelled.h5 -o NEW.joblib", 2, "has no labels"),
    ("fit one-class.h5 -o NEW.joblib", 2, "one class only, 'neutral'"),
    ("fit few.h5 -o NEW.joblib", 2, "class 'positive' has 3 rows"),
    ("fit s.h5 -o no/NEW.joblib", 2, "does not exist"),
    ("fit s.h5 -o folder", 2, "folder is a folder"),
    ("fit s.h5 -o two.h5", 2, "two.h5 is, or is named as, cached vectors"),
    ("fit s.h5 -o NEW.h5", 2, "NEW.h5 is, or is named as, cached vectors"),
    (FIT + "--pooling mean", 2, "no view 'mean'"),
    (FIT + "--pooling 2:cls", 2, "there is no encoder 2"),
    ("fit s.h5 other.h5 s.h5 -o NEW.joblib", 2, "a folder of their own"),
    ("fit s.h5 two.h5 -o NEW.joblib", 3, "don't belong together"),
    ("fit s.h5 other.h5 -o NEW.joblib --pooling 1:cls", 2, "no view of other.h5 is asked for"),
    ("fit s.h5 other.h5 -o NEW.joblib --validation s.h5", 3, OTHER_SPEC.fingerprint[:12]),
    ("compare s.h5 other.h5 --combine 1:cls,3:cls", 2, "there is no encoder 3"),
    (FIT + "--C abc", 2, "C is 'abc'"),
    (FIT + "--C 0", 2, "C is '0'"),
    (FIT + "--C=-1", 2, "C is '-1'"),
    (FIT + "--C nan", 2, "C is 'nan'"),
    *((FIT + f"--tol {tol}", 2, f"--tol {tol}") for tol in ("0.0", "-1.0", "nan", "inf")),
    (FIT + "--cv 1", 2, "--cv at least 2"),
    (FIT + "--cv many", 2, "--cv"),
    (FIT + "--class-weight heavy", 2, "heavy"),
    (FIT + "--prior even", 2, "prior 'even' can't be read"),
    (FIT + "--prior negative=1", 2, "differ in 'neutral', 'positive'"),
    (FIT + "--calibrate isotonic", 2, "isotonic"),
    (FIT + "--C 1 --calibrate temperature", 2, "give --cv 5 or --validation"),
    (FIT + "--max-iter 0", 2, "--max-iter 0"),
    (FIT + "--tol 0", 2, "--tol 0"),
    (FIT + "--seed -1", 2, "seed"),
    (FIT + "--validation none.h5", 2, "none.h5"),
    (FIT + "--validation other.h5", 3, OTHER_SPEC.fingerprint[:12]),
    (FIT + "--validation angry.h5", 2, "angry"),
    (FIT + "--validation unlabelled.h5", 2, "no labelled rows"),
    # compare
    ("compare", 2, "Missing argument"),
    ("compare none.h5", 2, "none.h5"),
    ("compare text.h5", 3, "not a readable HDF5 file"),
    ("compare two.h5 --combine cls", 2, "--combine names cls by itself: name two"),
    ("compare two.h5 --combine cls,max", 2, "no view 'max'"),
    ("compare two.h5 --cv 1", 2, "--cv at least 2"),
    ("compare two.h5 --prior even", 2, "prior 'even' can't be read"),
    ("compare unlabelled.h5", 2, "has no labels"),
    ("compare s.h5 --json no/NEW.json", 2, "the folder no does not exist"),
    # predict
    ("predict head.joblib", 2, "Missing argument"),
    ("predict none.joblib s.h5", 2, "none.joblib"),
    ("predict folder s.h5", 2, "folder"),
    ("predict tweets.csv s.h5", 3, "not a frostline head"),
    ("predict evil.joblib s.h5", 3, "not a frostline head"),
    ("predict s.h5 s.h5", 3, "not a frostline head"),
    ("predict head.joblib none.csv", 2, "none.csv"),
    ("predict head.joblib none.h5", 2, "none.h5"),
    ("predict head.joblib other.h5", 3, OTHER_SPEC.fingerprint[:12]),
    ("predict head.joblib s.h5 tweets.csv", 2, "together"),
    ("predict head.joblib s.h5 other.h5", 3, OTHER_SPEC.fingerprint[:12]),
    ("predict head.joblib tweets.csv", 2, "--model"),
    ("predict head.joblib s.h5 -o NEW.xyz", 2, "unknown format"),
    ("predict head.joblib s.h5 -o no/NEW.csv", 2, "does not exist"),
    ("predict head.joblib s.h5 -o folder", 2, "unknown format"),
    (PREDICT + "--prior uniform", 2, "does not say which prior"),
    (PREDICT + "--with-text", 2, "without their texts"),
    # evaluate
    ("evaluate head.joblib", 2, "Missing argument"),
    ("evaluate head.joblib unlabelled.h5", 2, "no row has a label"),
    ("evaluate head.joblib angry.h5", 2, "label 'angry'"),
    ("evaluate head.joblib other.h5", 3, OTHER_SPEC.fingerprint[:12]),
    ("evaluate head.joblib two.h5 --seed many", 2, "--seed"),
    ("evaluate head.joblib s.h5 --prior training", 2, "does not say which prior"),
    ("evaluate head.joblib s.h5 --seed -1", 2, "seed"),
    ("evaluate head.joblib s.h5 --json no/NEW.json", 2, "does not exist"),
    # verify
    ("verify", 2, "Missing argument"),
    ("verify s.h5 --json s.h5", 2, "s.h5"),
    # inspect
    ("inspect", 2, "Missing argument"),
    ("inspect none.h5", 2, "none.h5"),
    ("inspect none.joblib", 2, "none.joblib"),
    ("inspect text.h5", 3, "not a readable HDF5 file"),
    ("inspect tweets.csv", 3, "not a frostline head"),
    ("inspect evil.joblib", 3, "not a frostline head"),
    ("inspect folder", 2, "without feature files"),
]


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize(("typed", "code", "says"), BAD, ids=[typed for typed, *_ in BAD])
def test_bad_invocations(typed, code, says, files, monkeypatch):
    monkeypatch.chdir(files)
    before = contents(files)
    result = run(*typed.split())
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    # click's own errors stand behind a line of usage and a hint.
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert says in lines[0]
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert contents(files) == before
    assert list((files / "folder").iterdir()) == []


# The same through a real process: streams and the exit code as a shell sees them.
@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("fit none.h5 -o NEW.joblib", 2),
        ("inspect evil.joblib", 3),
        ("evaluate head.joblib s.h5 --json no/m.json", 2),
    ],
)
def test_errors_of_a_real_process(typed, code, files):
    words = [str(files / word) if "." in word or "/" in word else word for word in typed.split()]
    result = python(*words)
    assert result.returncode == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: ")


def test_compare_prints_its_table_and_writes_it(files, tmp_path):
    result = run(
        "compare", files / "two.h5", "--combine", "cls,mean", "--json", tmp_path / "c.json"
    )
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "c.json").read_text())
    assert {tuple(line["views"]) for line in content["lines"]} == {
        ("cls",),
        ("mean",),
        ("cls", "mean"),
    }
    for line in content["lines"]:
        assert f"{line['metrics']['macro_recall']:.4f}" in result.stdout


def test_errors_are_safe_to_print(tmp_path):
    """Control characters of a file's name or content would run on the terminal."""
    odd = tmp_path / "a\x1b[31mb.csv"
    result = run("inspect", odd)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\\u001b[31mb.csv" in result.stderr


def test_files_of_odd_names_are_safe_to_print(files, tmp_path):
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    for name in ("s.h5", "head.joblib", "tweets.csv"):
        (folder / name).write_bytes((files / name).read_bytes())
    for arguments in (
        ("inspect", folder / "s.h5"),
        ("inspect", folder / "head.joblib"),
        ("evaluate", folder / "head.joblib", folder / "s.h5"),
        ("fit", folder / "s.h5", "-o", folder / "new.joblib", "--validation", folder / "s.h5"),
        ("predict", folder / "head.joblib", folder / "s.h5", "-o", folder / "out.csv"),
        ("extract", folder / "tweets.csv", "-o", folder / "t.h5", "--model", files / "model"),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output, arguments[0]


def test_labels_with_control_characters(tmp_path):
    """A quoted cell of a CSV file may hold a line end: all the way through."""
    labels = ["a\x1b[2J", "b\nc", "d"]
    write_store(tmp_path / "s.h5", *blobs(60, 8, 3), labels)
    for arguments in (
        ("fit", tmp_path / "s.h5", "-o", tmp_path / "head.joblib"),
        ("compare", tmp_path / "s.h5"),
        ("inspect", tmp_path / "s.h5"),
        ("inspect", tmp_path / "head.joblib"),
        ("evaluate", tmp_path / "head.joblib", tmp_path / "s.h5"),
        ("predict", tmp_path / "head.joblib", tmp_path / "s.h5", "-o", tmp_path / "out.csv"),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, repr(result.exception)
        assert "\x1b" not in result.output, arguments[0]


ODD_METADATA = {
    "rows a text": {"rows": "many"},
    "rows a list": {"rows": [1]},
    "metrics a text": {"metrics": "good"},
    "metrics without figures": {"metrics": {"rows": 3}},
    "macro recall a text": {"metrics": {"macro_recall": "high"}},
    "versions a text": {"versions": "1.0"},
    "C nested": {"C": [[1]]},
    "C missing": {},
    "prior a text": {"prior": "\x1b[2J"},
    "calibration a text": {"calibration": "\x1b[2J"},
    "control characters": {"measured_on": "\x1b[2J", "metrics": {"macro_recall": 0.5}},
    "control characters in C": {"C": "\x1b[2J"},
    "control characters in a weight": {"class_weight": "\x1b[2J\n\n"},
}


@pytest.mark.parametrize("case", ODD_METADATA)
def test_inspect_heads_of_strangers(case, tmp_path):
    """A head that loads can be shown, or is refused in one line; its texts are escaped."""
    import joblib

    save_head(make_head(), tmp_path / "head.joblib")
    content = joblib.load(tmp_path / "head.joblib") | {"metadata": ODD_METADATA[case]}
    joblib.dump(content, tmp_path / "head.joblib", protocol=4)
    result = run("inspect", tmp_path / "head.joblib")
    assert result.exit_code in (0, 3), repr(result.exception)
    assert "\x1b" not in result.output


@pytest.mark.parametrize("field", ["model", "revision", "normalizer"])
def test_inspect_escapes_the_spec(field, tmp_path):
    head = make_head()
    spec = dataclasses.replace(head.sources[0].spec, **{field: "a\x1b[2Jb"})
    (width,) = head.sources[0].views.values()
    source = dataclasses.replace(head.sources[0], spec=spec, views={"c\x1b[2Jls": width})
    save_head(dataclasses.replace(head, sources=(source,)), tmp_path / "head.joblib")
    result = run("inspect", tmp_path / "head.joblib")
    assert result.exit_code in (0, 3)
    assert "\x1b" not in result.output


def test_fit_evaluate_inspect_predict(files, tmp_path):
    """The way through on made-up vectors, as a process in a pipe: quiet on standard error."""
    head, out = tmp_path / "head.joblib", tmp_path / "out.csv"
    fitted = python("fit", files / "s.h5", "-o", head, "--json", tmp_path / "m.json")
    assert (fitted.returncode, fitted.stderr) == (0, "")
    assert "macro recall" in fitted.stdout
    assert f"{head} written" in fitted.stdout
    assert load_head(head).labels == LABELS
    for arguments in (
        ("inspect", head),
        ("inspect", files / "s.h5"),
        ("predict", head, files / "s.h5", "-o", out),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.strip()
    result = run("evaluate", head, files / "s.h5")
    assert result.exit_code == 0
    assert "the figures flatter it" in result.stderr  # the head was fitted on these rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.joblib", "m.json", "out.csv"]


def test_extract_in_a_pipe_says_how_it_reads_and_shows_no_progress(files, tmp_path):
    out = tmp_path / "t.h5"
    result = python("extract", files / "tweets.csv", "-o", out, "--model", files / "model")
    assert result.returncode == 0
    assert result.stderr == (
        f"{files / 'tweets.csv'}: CSV, UTF-8, commas, quoted cells: "
        'text from "text", label from "label", id from "id"\n'
    )
    assert f"{out} written" in result.stdout
    assert "\r" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]
    again = run("extract", files / "tweets.csv", "-o", out, "--model", files / "model")
    assert "up to date" in again.stdout


def test_reader_that_goes_away(files):
    """As with `| head -1`: no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "predict", files / "head.joblib", files / "s.h5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) != 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize(
    "command", ["predict head.joblib s.h5", "inspect s.h5", "inspect head.joblib"]
)
def test_standard_output_that_takes_nothing(files, command):
    name, *paths = command.split()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", name, *(files / path for path in paths)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    assert done.returncode == 4
    assert done.stderr == "Error: the output: No space left on device\n"


def test_standard_output_that_is_closed(files):
    command = [sys.executable, "-m", "pipeline", "predict", files / "head.joblib", files / "s.h5"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr == ("Error: standard output is closed; give -o the name of a file\n")


def wait_until(condition, process):
    for _ in range(1200):
        assert process.poll() is None, process.stderr.read()
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came so far")


@pytest.mark.parametrize("during", ["waiting for input", "encoding"])
def test_interrupted_extract(during, tmp_path, minilm):
    out = tmp_path / "out.h5"
    source = tmp_path / "tweets.txt"
    # Minutes of work for two cores.
    source.write_text("".join(f"{n} {'word ' * 100}\n" for n in range(8000)))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "extract"),
            *("-" if during == "waiting for input" else str(source), "-o", str(out)),
            *("--model", str(minilm), "--dtype", "float32", "--device", "cpu"),
            *("--backend", "torch", "--max-batch-tokens", "2048"),  # nothing to be tried first
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        wait_until(lambda: any(tmp_path.glob(".out.h5.*")), process)
        if during == "encoding":
            journal = tmp_path / ".out.h5.journal"
            wait_until(lambda: journal.stat().st_size > 10_000, process)  # some batches
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
        assert process.returncode == 130
        errors = process.stderr.read()
        assert "Traceback" not in errors
        *opening, line = [line for line in errors.splitlines() if line.strip()]
        assert len(opening) == (during == "encoding")  # how the input is read
        left = sorted(path.name for path in tmp_path.iterdir())
        if during == "encoding":
            kept = r"[\d,]+ of the vectors are kept"
            expected = f"Error: interrupted; run the same command to continue: {kept}"
            assert re.fullmatch(expected, line)
            assert left == [".out.h5.journal", "tweets.txt"]
        else:
            assert line == "Error: interrupted; no output was changed"
            assert left == ["tweets.txt"]
        assert process.stdout.read() == ""
    finally:
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        process.wait()


def test_a_command_that_ends_does_not_look_for_garbage_first():
    program = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); "
        "import pipeline.cli.commands"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n"
