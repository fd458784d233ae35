"""Completion of words: what is answered, by which parameter, and what real shells make of it."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from stores import blobs, write_store

from features.backends.registry import BACKENDS
from features.spec.pooling import parse_pooling
from pipeline.cli.commands import main
from pipeline.terminal.completion import SHELLS, poolings

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "pipeline" / "examples"
# The characters at which bash breaks lines, unless it is told otherwise.
BREAKS = " \t\n\"'@><=;|&(:"
# What stands for files, and for words that there is a list of; the rest only its user knows.
FILES = ("INPUT...", "FEATURES...", "LABELLED...", "FEATURES", "INPUT", "FILE")
LISTED = ("POOLING", "FORMAT")
NAMES = ("output", "model", "models", "device", "backend")


def answers(line, breaks=BREAKS):
    """What bash is told for a line up to the cursor: pairs of a type and a value."""
    given = {"_FROSTLINE_COMPLETE": "bash_complete", "_FROSTLINE_LINE": line}
    result = CliRunner().invoke(
        main, env=given | {"_FROSTLINE_BREAKS": breaks}, prog_name="frostline"
    )
    assert result.exit_code == 0, result.output
    return [tuple(line.split(",", 1)) for line in result.stdout.splitlines() if line]


def plain(*words):
    return [("plain", word) for word in words]


ANSWERS = {
    "frostline extr": plain("extract"),
    "frostline extract --store-": plain("--store-dtype"),
    "frostline -q extract --dtype b": plain("bfloat16"),
    "frostline extract tw": [("file", "tw")],
    "frostline predict head.joblib tweets.csv new": [("file", "new")],
    "frostline predict head.joblib new.csv -o ": [("file", "")],
    "frostline extract --model mo": [("dir", "mo")],
    "frostline extract --backend ": plain("auto", *BACKENDS),
    "frostline extract --pooling mean": plain("mean", "mean-content"),
    # bash replaces what is behind the last break, with an @ that it broke at.
    "frostline extract --pooling mean@l": plain("@last4"),
    "frostline extract --pooling=mean@last4+": plain(
        "@last4+sum", "@last4+mean", "@last4+concat"
    ),
    "frostline extract --device cuda:": plain("0"),
    "frostline extract --device=cu": plain("cuda", "cuda:0"),
    "frostline fit none.h5 --pooling mea": plain("mean", "mean-content"),
    "frostline completion ": plain(*SHELLS),
    "frostline fit 'a fi": [("file", "fi")],
    "frostline extract --pooling pooler@": [],
    "frostline extract --pooling sen": plain("sentence"),
    "frostline extract --pooling sentence@": [],
}  # fmt: skip


@pytest.mark.parametrize("line", ANSWERS)
def test_answers(line):
    assert answers(line) == ANSWERS[line]


def test_a_line_that_is_broken_elsewhere_gets_whole_words():
    assert answers("frostline extract --pooling mean@l", " ") == plain("mean@last4")
    assert answers("frostline extract --device=cu", " ") == plain(
        "--device=cuda", "--device=cuda:0"
    )


def test_fit_is_offered_the_views_of_its_features(tmp_path):
    store = write_store(tmp_path / "s.h5", *blobs())
    assert answers(f"frostline fit {store} --pooling ") == plain("cls")
    (tmp_path / "no.h5").write_text("nothing of the kind")
    found = answers(f"frostline fit {tmp_path / 'no.h5'} --pooling cl")
    assert found == plain("cls")


def parameters():
    for name, command in main.commands.items():
        for parameter in command.params:
            if not getattr(parameter, "is_flag", False):
                yield pytest.param(command, parameter, id=f"{name} {parameter.name}")


@pytest.mark.parametrize(("command", "parameter"), list(parameters()))
def test_what_takes_words_or_files_is_completed(command, parameter):
    is_known = parameter.metavar in (*FILES, *LISTED) or parameter.name in NAMES
    is_known |= isinstance(parameter.type, click.Path | click.Choice)
    assert not is_known or parameter.shell_complete(click.Context(command), "")


def test_every_pooling_that_is_offered_is_one():
    begun = [""]
    for more in ("", "@", "+"):
        begun = [item.value for b in begun for item in poolings(None, None, b + more)]
        for name in begun:
            if more != "+" or not re.search(r"@(-?\d)\+", name):  # one layer is not combined
                assert parse_pooling(name)
    assert len(begun) > 20


def test_an_answer_takes_no_heavy_library():
    """A shell waits for it."""
    asked = "import sys; from pipeline.cli.commands import main\ntry: main(prog_name='frostline')\n"
    seen = "finally: print(*{'torch', 'transformers', 'sklearn', 'scipy', 'rich'} & {*sys.modules})"
    given = {"_FROSTLINE_COMPLETE": "bash_complete", "_FROSTLINE_LINE": "frostline extract --poo"}
    done = subprocess.run(
        [sys.executable, "-c", asked + seen], env=os.environ | given, cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["plain,--pooling"], "")


# Real shells.


@pytest.fixture
def environment(tmp_path):
    command = tmp_path / "bin" / "frostline"
    command.parent.mkdir()
    script = "from pipeline.cli.commands import main; main(prog_name='frostline')"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}" "$@"\n')
    command.chmod(0o755)
    return os.environ | {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
        "PS1": "ready> ",
        "HOME": str(tmp_path),
    }


class Typing:
    """A shell on a terminal, which is typed to."""

    def __init__(self, argv, environment, seconds=120):
        self.end = time.monotonic() + seconds
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(EXAMPLES)
            os.execvpe(argv[0], argv, environment)

    def until(self, wanted):
        """Read what is shown up to a pattern, backspaces done."""
        got = b""
        while True:
            assert time.monotonic() < self.end, got
            if select.select([self.terminal], [], [], 1)[0]:
                got += os.read(self.terminal, 65536)
            shown = got.decode(errors="replace")
            while "\b" in shown:
                shown = re.sub(r"(^|[^\b])\b", "", shown)
            if re.search(wanted, shown):
                return

    def write(self, text):
        os.write(self.terminal, text.encode())

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(frostline completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit; compinit -D; eval "$(frostline completion zsh)"',
    ),
}
# What is typed before the tab, and what the line then is.
TYPED = {
    "frostline extr": "frostline extract ",
    "frostline extract --pooling mean@l": "frostline extract --pooling mean@last4",
    "frostline extract twe": "frostline extract tweets.csv",
}


@pytest.mark.parametrize("shell", START)
def test_a_tab_in_a_shell(shell, environment):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    argv, start = START[shell]
    typing = Typing(argv, environment)
    try:
        typing.until("ready> ")
        typing.write(f"{start}; echo begun-$((40 + 2))\n")
        typing.until("begun-42")
        for line, expected in TYPED.items():
            typing.write(f"{line}\t")
            typing.until(re.escape(expected))
            typing.write("\x15")  # which takes the line back
    finally:
        typing.close()


def test_a_tab_in_fish(environment):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    ask = "; ".join(f"complete -C '{line}'" for line in TYPED)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"frostline completion fish | source; {ask}"],
        env=environment, cwd=EXAMPLES, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert found == ["extract", "mean@last4", "tweets.csv"], done.stderr
