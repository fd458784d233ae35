"""On a real terminal of 80 columns: what fits, what has a colour, what moves, and what is quiet."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from stores import LABELS, blobs, make_head, write_store

from pipeline.cli.commands import main
from pipeline.fit import fit
from pipeline.head.head import save_head

ROOT = Path(__file__).parents[3]
STYLE = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
LONG_NAMES = [
    "a class whose name is a whole sentence, as some people do it, and <b>markup</b> in it",
    "中文类别名称",
    "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 2,
    *(f"topic {n}" for n in range(22)),
]


def environment_with(**changed):
    known = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    return known | {"TERM": "xterm-256color"} | changed


@contextmanager
def terminal(columns=80):
    """Give a terminal, and what it gets: it is all there when the terminal is closed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    got = bytearray()

    def read():
        try:
            while part := os.read(ours, 65536):
                got.extend(part)
        except OSError:  # the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, got
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def on_terminal(command, *, stdout_too=True, **environment):
    """Run a process whose standard error, and output unless it is a pipe, are a terminal.

    Gives the exit code, what the terminal got, and what the pipe got.
    """
    with terminal() as (theirs, got):
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=theirs if stdout_too else subprocess.PIPE,
            stderr=theirs,
            cwd=ROOT,
            env=environment_with(**environment),
        )
        piped, _ = process.communicate(timeout=240)
    return process.returncode, got.decode(), (piped or b"").decode()


@pytest.fixture(scope="module")
def frostline():
    """A function that runs a command on a terminal; see `command_host.py`."""
    host = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("command_host.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment_with(PYTHONPATH=str(ROOT)),
    )

    def run(*words, columns=80, **environment):
        with terminal(columns) as (theirs, got):
            order = {
                "words": [str(word) for word in words],
                "terminal": os.ttyname(theirs),
                "environment": environment_with(**environment),
            }
            host.stdin.write(json.dumps(order) + "\n")
            host.stdin.flush()
            code = int(host.stdout.readline())
        return code, got.decode()

    yield run
    host.communicate(timeout=60)


def left_to_see(got):
    """The lines that stay: a line that was drawn anew is what it was last."""
    got = re.sub(r"[^\n]*\n[^\n]*\x1b\[1A\x1b\[2K", "", got.replace("\r\n", "\n"))  # one line up
    for line in got.split("\n"):
        yield CONTROL.sub("", line.rpartition("\r")[2].rpartition("\x1b[2K")[2]).rstrip()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Vectors and heads of 3 classes and of 25, the latter with long names in a folder of one."""
    folder = tmp_path_factory.mktemp("terminal")
    far = folder / ("a-folder-with-a-long-name-" * 4)
    far.mkdir()
    X, y = blobs(500, 8, 25)
    write_store(far / "many.h5", {"cls": X, "mean": X[:, :4]}, y, LONG_NAMES)
    save_head(fit(far / "many.h5", pooling="cls", C=0.1, cv=5).head, far / "many.joblib")
    write_store(far / "pool.h5", X, [-1] * 500)
    names = [f"{tokens}@-{n}" for n in (2, 3) for tokens in ("cls", "mean-content")]
    views = {name: X[:, n : n + 4] for n, name in enumerate(names)}
    write_store(far / "views.h5", views, y % 3, LABELS)
    write_store(folder / "few.h5", *blobs(200, 8, 3), LABELS)
    save_head(fit(folder / "few.h5", C=0.1, cv=5).head, folder / "few.joblib")
    table = "".join(f'{n},"tweet {n} {"with words " * 20}",{n % 3}\n' for n in range(30))
    (far / "tweets.csv").write_text(f"id,text,label\n{table}", encoding="utf-8")
    return {"few": folder, "far": far}


COMMANDS = [
    "check FAR/tweets.csv",
    "compare FAR/views.h5 --combine cls@-2,mean-content@-3",
    "evaluate FAR/many.joblib FAR/many.h5",
    # Shares of 25 classes, by 25 classes, drawn again and again.
    pytest.param("evaluate FAR/many.joblib FAR/many.h5 --prior estimate", marks=pytest.mark.slow),
    "evaluate FEW/few.joblib FEW/few.h5 --prior estimate",
    "evaluate FEW/few.joblib FEW/few.h5",
    "fit FAR/many.h5 --pooling cls --C 0.1 -o FAR/new.joblib",
    "fit FEW/few.h5 -o FEW/new.joblib",
    "inspect FAR/many.h5",
    "inspect FAR/many.joblib",
    "label-next FAR/many.joblib FAR/pool.h5 -n 10 -o FAR/next.csv",
    "predict FAR/many.joblib FAR/many.h5 -o FAR/scores.csv",
    "predict FEW/few.joblib FEW/few.h5 -o FEW/scores.csv",
    "quantify FEW/few.joblib FEW/few.h5 --by label",
    pytest.param("quantify FAR/many.joblib FAR/many.h5 -o FAR/shares.csv", marks=pytest.mark.slow),
    "report FEW/few.joblib FEW/few.h5 -o FEW/report.md",
    "suspects FAR/many.joblib FAR/many.h5 -o FAR/suspects.csv --repeats 1",
    "verify FAR/many.h5 FAR/views.h5",
    "--verbose evaluate FAR/many.joblib FAR/many.h5",
    "--help",
    "fit --help",
]


def words_of(command, files):
    return [
        word.replace("FAR", str(files["far"])).replace("FEW", str(files["few"]))
        for word in command.split()
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_lines_fit_80_columns(command, files, frostline):
    """Only what has no blank in it, as a path, is longer: it stays in one piece, to be copied."""
    code, got = frostline(*words_of(command, files))
    assert code == 0, got
    lines = list(left_to_see(got))
    assert any(lines)
    for line in lines:
        *_, last = line.split() or [""]
        assert cell_len(line) <= 80 or cell_len(last) > 60, line
    assert "Traceback" not in got


@pytest.mark.parametrize("command", ["inspect FEW/few.joblib", "check FAR/tweets.csv"])
def test_a_terminal_and_a_pipe_say_the_same(command, files, frostline):
    words = words_of(command, files)
    piped = CliRunner().invoke(main, words).stdout
    code, got, _ = on_terminal(["-m", "pipeline", *words])
    assert " ".join(left_to_see(got)).split() == piped.split()
    assert frostline(*words) == (code, got)  # which has imported all before


def test_a_table_that_is_cut_loses_nothing(files, frostline):
    words = words_of("compare FAR/views.h5", files)
    piped = CliRunner().invoke(main, words).stdout
    _, got = frostline(*words)
    seen = " ".join(left_to_see(got))
    # All but the seconds, which differ.
    figures = set(re.findall(r"\S*\d\.\d{4}(?!\d)|\S+@\S+", piped))
    assert len(figures) > 20
    assert figures <= set(seen.split())


def test_a_pipe_has_the_whole_table_and_no_styles(files):
    piped = subprocess.run(
        [sys.executable, "-m", "pipeline", *words_of("compare FAR/views.h5", files)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert piped.stderr == ""
    assert "\x1b" not in piped.stdout
    assert max(map(len, piped.stdout.splitlines())) > 100


def test_a_wide_terminal_has_the_whole_table(files, frostline):
    _, got = frostline(*words_of("compare FAR/views.h5", files), columns=200)
    (head,) = (line for line in left_to_see(got) if line.startswith("view "))
    assert "seconds" in head and "Δ vs best" in head


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_on_a_terminal_and_never_with_no_color(environment, files, frostline):
    words = words_of("evaluate FEW/few.joblib FEW/few.h5", files)
    _, coloured = frostline(*words)
    _, plain = frostline(*words, **environment)
    assert STYLE.search(coloured)
    assert not STYLE.search(plain)
    assert list(left_to_see(plain)) == list(left_to_see(coloured))
    code, error = frostline("inspect", "no-such.h5")
    assert (code, bool(STYLE.search(error))) == (2, True)
    _, error = frostline("inspect", "no-such.h5", **environment)
    assert error.startswith("Error: no-such.h5: no such")


def test_hostile_names_stay_text_on_a_terminal(tmp_path, frostline):
    labels = ["[bold red]markup[/]", "\x1b[2J\x1b[31mred", "\u202eltr", "o" + "\u0300" * 5000]
    X, y = blobs(200, 8, 4)
    write_store(tmp_path / "s.h5", X, y, labels)
    save_head(make_head(4, labels=labels), tmp_path / "head.joblib")
    _, got = frostline("evaluate", tmp_path / "head.joblib", tmp_path / "s.h5", NO_COLOR="1")
    assert "\x1b" not in got and "\u202e" not in got
    assert "[bold red]markup[/]" in got
    assert "\\u001b[2J\\u001b[31mred" in got
    assert got.count("\u0300") < 2000


SHORT_WORK = """
import sys, threading, time
from pipeline.terminal import progress
with progress.models() as update:
    update(10, 40)
    print("a result", flush=True)
    print("a remark", file=sys.stderr, flush=True)
print("rich" in sys.modules)
"""
# It has a patience of its own, and goes on once the timer has drawn.
WORK = SHORT_WORK.replace(
    "with progress.models() as update:",
    """\
progress._PATIENCE = 0.2
with progress.models() as update:
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()""",
)
# What is drawn ten times a second is drawn again.
LONG_WORK = WORK.replace("\nprint(", "\n    time.sleep(0.7)\nprint(")


def test_long_work_shows_how_far_it_is_and_the_time_left():
    code, got, piped = on_terminal(["-c", LONG_WORK], stdout_too=False)
    assert code == 0
    assert piped == "a result\nTrue\n"
    seen = CONTROL.sub("", got)
    assert "preparing" in seen and "fitting" in seen
    assert re.search(r"25% 10 of 40 models \d:\d\d:\d\d \d:\d\d:\d\d left", seen)
    assert [line for line in left_to_see(got) if line] == ["a remark"]
    assert max(map(cell_len, seen.replace("\n", "\r").split("\r"))) <= 80


def test_progress_without_colours_has_none():
    _, got, _ = on_terminal(["-c", LONG_WORK], NO_COLOR="1")
    assert "10 of 40 models" in got
    assert not STYLE.search(got)


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_short_work_shows_nothing_and_loads_nothing(environment):
    _, got, piped = on_terminal(["-c", SHORT_WORK], stdout_too=False, **environment)
    assert got == "a remark\r\n"
    assert piped == "a result\nFalse\n"


def test_work_in_a_pipe_shows_nothing():
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stderr == "a remark\n"
    assert done.stdout == "a result\nFalse\n"


def test_a_worker_that_fails_leaves_a_clean_terminal():
    code, got, _ = on_terminal(["-c", WORK + "\n1 / 0"])
    assert code == 1
    assert got.count("\x1b[?25l") == got.count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.parametrize(
    "command",
    [
        "fit FEW/few.h5 --C 0.1 -o FEW/quiet.joblib",
        "predict FEW/few.joblib FEW/few.h5 -o FEW/quiet.csv",
        "suspects FEW/few.joblib FEW/few.h5 -o FEW/quiet.csv --repeats 1",
        "quantify FEW/few.joblib FEW/few.h5 -o FEW/quiet.csv",
    ],
)
def test_quiet_says_nothing_where_the_result_is_a_file(command, files, frostline):
    words = words_of(command, files)
    written = Path(words[words.index("-o") + 1])
    written.unlink(missing_ok=True)
    code, got = frostline("--quiet", *words)
    assert (code, got) == (0, "")
    assert written.stat().st_size > 0
    assert frostline(*words)[1] != ""


def test_quiet_prints_the_result_that_was_asked_for(files):
    words = words_of("evaluate FEW/few.joblib FEW/few.h5", files)
    usual, quiet = (CliRunner().invoke(main, [*q, *words]) for q in ([], ["-q"]))
    assert usual.stdout == quiet.stdout != ""
    rows = words_of("suspects FEW/few.joblib FEW/few.h5 --repeats 1", files)
    quiet = CliRunner().invoke(main, ["-q", *rows])
    assert quiet.stderr == ""
    assert quiet.stdout.startswith("{")


def test_quiet_errors_are_errors(files):
    result = CliRunner().invoke(main, ["-q", "inspect", str(files["few"] / "none.h5")])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")


def test_verbose_says_what_it_took(files):
    words = words_of("inspect FEW/few.h5", files)
    usual, verbose = (CliRunner().invoke(main, [*v, *words]) for v in ([], ["-v"]))
    assert usual.stdout == verbose.stdout
    assert usual.stderr == ""
    assert re.fullmatch(
        r"took \d+\.\d\d s(, and [\d.,]+ [MG]B of memory at most)?\n", verbose.stderr
    )


def test_verbose_shows_what_was_tried_to_run_the_model(tmp_path, tiny_model):
    (tmp_path / "tweets.csv").write_text("text,label\n" + "a tweet,a\nand more,b\n" * 20)
    words = [
        "extract",
        tmp_path / "tweets.csv",
        "-o",
        tmp_path / "t.h5",
        "--model",
        tiny_model("bert"),
    ]
    result = CliRunner().invoke(main, ["-v", *map(str, words)])
    assert result.exit_code == 0, result.output
    assert "What runs the model" in result.stderr
    assert re.search(r"^torch \w+ .*chosen$", result.stderr, re.MULTILINE)


def test_quiet_and_verbose_exclude_each_other(files):
    result = CliRunner().invoke(main, ["-q", "-v", *words_of("inspect FEW/few.h5", files)])
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr
