"""Every block of code in the documentation runs, in its order, and prints what the page shows.

Each page has a folder of its own, with the example tweets and what it says is at hand. Commands of
frostline that need no shell run in this process, which saves seconds of imports for each; all
others run in a shell, where `frostline` is this source tree's.
"""

import configparser
import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from page_blocks import BY_HAND, RUN, SHOWN, read_page, steps_of, words_of
from page_files import AT_HAND, EVERY_EXAMPLE, SOME_ROWS, PageFiles, label_by_hand
from pages import LINKED, ROOT

from pipeline.cli.commands import main

READ = {name: read_page(text) for name, text in LINKED.items()}
WITH_CODE = {
    name: page
    for name, page in READ.items()
    if any(block.language in RUN and not block.not_run for block in page.blocks)
}
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = SETTINGS["options.extras_require"]
LONGEST_SECONDS = 120
MOST_LEFT_OUT, MOST_SLOW = 32, 12
# As the console script, and with torch alone, as for all tests: exports take seconds.
SCRIPT = """
from features.backends import registry
from pipeline.cli.commands import main

registry.backends_on = lambda device: ["torch"]
main(prog_name="frostline")
"""
# How far a figure may be from the page's on another machine: half precision, other kernels.
ABSOLUTE, RELATIVE = 0.05, 0.1
_NUMBER = r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?!\w)"


class Terminal(io.TextIOWrapper):
    """What a program takes for a terminal of 100 columns without colours."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self):
        return True

    def text(self):
        return self.buffer.getvalue().decode()


class Output(Terminal):
    """What a program takes for a file."""

    def isatty(self):
        return False


class Running:
    """A page at work: its folder is the current one, its processes end with it."""

    def __init__(self, name, binaries):
        self.name = name
        self.namespace = {"__name__": "__main__"}
        self.background = []
        self.environment = os.environ | {
            "PATH": f"{binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(Path.cwd()),
        }

    def run(self, block):
        if block.language == BY_HAND:
            what, file = block.code.split()
            assert what == "label", f"{self.name}:{block.line}"
            label_by_hand(Path(file))
            return
        if block.language == "python":
            printed = self.python(block)
            if block.prints is not None:
                self.compare(block.prints.splitlines(), printed, block.line)
            return
        steps = steps_of(block)
        if block.prints is not None:
            lines = block.prints.splitlines()
            steps[-1] = replace(steps[-1], shown=["...", *in_between(lines), "..."])
        for step in steps:
            code, printed = self.command(step)
            wanted_code = any(line.startswith("Error:") for line in step.shown or [])
            if (code != 0) != wanted_code:
                pytest.fail(
                    f"{self.name}:{step.line}: {step.command}\nexit code {code}\n{printed}", False
                )
            if step.shown and not block.not_compared:
                self.compare(step.shown, printed, step.line)

    def python(self, block):
        code = compile("\n" * (block.line - 1) + block.code, self.name, "exec")
        output = Output()
        try:
            with contextlib.redirect_stdout(output), pytest.MonkeyPatch.context() as patch:
                for name in ("PATH", "PYTHONPATH"):  # a block may call the command
                    patch.setenv(name, self.environment[name])
                exec(code, self.namespace)
        except Exception:
            pytest.fail(f"{self.name}:{block.line}\n{traceback.format_exc()}", False)
        return output.text()

    def command(self, step):
        words = words_of(step.command)
        if step.command.startswith("pip install "):
            return 0, self.extras(step)
        if words is not None:
            return self.in_process(words, Output() if step.shown is None else Terminal())
        return self.in_shell(step.command)

    def extras(self, step):
        """Nothing is installed: what would be is looked up in setup.cfg, or is a plain package."""
        for extras in re.findall(r"(?:frostline|\.)\[([\w,-]+)\]", step.command):
            unknown = {*extras.split(",")} - {*EXTRAS}
            assert not unknown, f"{self.name}:{step.line}: no extras are named {unknown}"
        return ""

    def in_process(self, words, output):
        """As the entry point of the console script: `main` ends in SystemExit."""
        beside = io.TextIOWrapper(output.buffer, encoding="utf-8", write_through=True)
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(beside),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
            patch.setenv("COLUMNS", "100")
            patch.setenv("NO_COLOR", "1")
            try:
                main(words, prog_name="frostline")
                code = 0
            except SystemExit as ended:
                code = ended.code or 0
        text = output.text()
        beside.detach()
        return code, text

    def in_shell(self, command):
        line = command.removesuffix("&").rstrip() if command.endswith(" &") else command
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", line],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if line is command else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if line is not command:
            self.background.append(process)
            return 0, ""
        try:
            printed, _ = process.communicate(timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
            return "none: it took too long", printed
        return process.returncode, printed

    def compare(self, shown, printed, line):
        problem = difference(shown, printed)
        if problem:
            pytest.fail(f"{self.name}:{line}: {problem}\n--- printed:\n{printed}", False)

    def end(self):
        for process in self.background:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def pattern_of(line):
    """Give a pattern of a line that is shown, with a group for each of its numbers."""
    parts = re.split(rf"(\.\.\.|{_NUMBER})", " ".join(line.split()))
    kinds = {"...": ".*?"}
    return "".join(
        re.escape(part) if number % 2 == 0 else kinds.get(part, f"({_NUMBER})")
        for number, part in enumerate(parts)
    )


def in_between(lines):
    """Let any lines stand between those that are shown."""
    return [one for line in lines if line.strip() for one in ("...", line)]


def difference(shown, printed):
    """Say what is shown and not printed; None where it is all there.

    Blanks between words may differ, `...` stands for anything, a line of it for any lines, and
    numbers with a decimal point may be a little off.
    """
    wanted = [" ".join(line.split()) for line in shown if line.strip()]
    got = "".join(" ".join(line.split()) + "\n" for line in printed.splitlines() if line.strip())
    whole = "".join(r"(?:.*\n)*?" if line == "..." else f"{pattern_of(line)}\n" for line in wanted)
    match = re.fullmatch(whole, got)
    if match is None:
        return "what is shown is not what is printed:\n" + "\n".join(wanted)
    numbers = [n for line in wanted if line != "..." for n in re.findall(_NUMBER, line)]
    for expected, found in zip(numbers, match.groups(), strict=True):
        a, b = (float(one.replace(",", "")) for one in (expected, found))
        allowed = max(ABSOLUTE, RELATIVE * abs(a)) if "." in expected else 0
        if abs(a - b) > allowed:
            return f"{expected} is shown, and {found} is printed"
    return None


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """What pages find: by whether they take every example."""
    return {
        every: PageFiles(tmp_path_factory.mktemp("at-hand"), n_rows, tiny_model)
        for every, n_rows in ((False, SOME_ROWS), (True, None))
    }


@pytest.fixture(scope="module")
def binaries(tmp_path_factory):
    """A folder with `frostline` as a command, as an installation has it."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "frostline"
    script.write_text(f"#!{sys.executable}\n{SCRIPT}")
    script.chmod(0o755)
    return folder


MARKED = [
    pytest.param(name, marks=[pytest.mark.slow] if page.slow else [])
    for name, page in WITH_CODE.items()
]


@pytest.mark.parametrize("name", MARKED)
def test_page(name, files, binaries, tmp_path, monkeypatch):
    page = WITH_CODE[name]
    # The same figures on every machine, and files that fit together on one that is busy.
    monkeypatch.setattr("features.encoder.loading.half_dtypes", lambda device: ())
    names = [one for one in page.at_hand if one != EVERY_EXAMPLE]
    files[EVERY_EXAMPLE in page.at_hand].fill(tmp_path, names)
    monkeypatch.chdir(tmp_path)
    running = Running(name, binaries)
    try:
        for block in page.blocks:
            if block.language in (*RUN, BY_HAND) and not block.not_run:
                running.run(block)
    finally:
        running.end()


def test_every_block_is_run_or_shows_data():
    """Nothing that people would run stands in a block of a language that is not run."""
    for name, page in READ.items():
        for block in page.blocks:
            where = f"{name}:{block.line}: a block of `{block.language}`"
            if block.language not in (*RUN, BY_HAND):
                assert block.language in SHOWN or block.not_run, where
                lines = block.code.splitlines()
                assert not [one for one in lines if re.match(r"(\$ |frostline |pip )", one)], where


def test_what_is_said_to_the_tests():
    """Few blocks are left out, each has its reason, and what is at hand is known."""
    blocks = [block for page in READ.values() for block in page.blocks]
    reasons = [block.not_run for block in blocks if block.not_run is not None]
    reasons += [block.not_compared for block in blocks if block.not_compared is not None]
    slow = [page.slow for page in READ.values() if page.slow is not None]
    assert len(reasons) <= MOST_LEFT_OUT
    assert len(slow) <= MOST_SLOW
    assert all(len(reason.split()) >= 3 for reason in [*reasons, *slow])
    assert {name for page in READ.values() for name in page.at_hand} <= AT_HAND
    comments = [one for text in LINKED.values() for one in re.findall(r"<!--\s*(.*?)\s*-->", text)]
    said = ("at hand: ", "by hand: ", "not run: ", "not compared: ", "slow: ")
    assert [one for one in comments if one != "prints" and not one.startswith(said)] == []


def scripts():
    """Commands of benchmarks, in blocks and in sentences."""
    for name, text in LINKED.items():
        joined = text.replace("\\\n", " ")
        yield from ((name, line) for line in re.findall(r"python (benchmarks/[^`\n]+)", joined))


@pytest.mark.parametrize(("page", "line"), sorted(set(scripts())))
def test_a_benchmark_that_is_named_has_its_options(page, line):
    """They are not run: they take minutes, on data that are not in the project."""
    script, *words = shlex.split(line, comments=True)
    source = (ROOT / script).read_text(encoding="utf-8")
    for option in {word.partition("=")[0] for word in words if word.startswith("--")}:
        assert f'"{option}"' in source, f"{page}: {script} has no {option}"


# What the runner itself makes of pages.
RIGHT = r"""
```console
$ frostline --version
frostline, version ...
$ frostline inspect nothing.h5
Error: nothing.h5: no such feature file; ...
```

```python
import subprocess

a = 1126
subprocess.run(["frostline", "--version"], check=True, stdout=subprocess.DEVNULL)
```

```python
print(f"{a:,} rows, {0.7213:.3f}")
```

<!-- prints -->
```text
1,126 rows,  0.71
```

```bash
frostline --help
```

<!-- prints -->
```text
Usage: frostline [OPTIONS] COMMAND [ARGS]...
  fit        Fit a head on cached vectors...
```

```bash
echo so > is.txt
test "$(cat is.txt)" = so  # a comment
sleep 60 &
frostline \
    --version
pip install 'frostline[minilm,parquet]' some-package
```
"""
WRONG = {
    "another output": ("frostline, version ...", "frostline, release ..."),
    "an error that is not shown": ("Error: nothing.h5: no such feature file; ...\n", ""),
    "an error that does not come": ("version\nfrost", "version\nError:"),
    "another count": ("1,126 rows, ", "1,127 rows, "),
    "another figure": ("0.71\n", "0.91\n"),
    "a line too many": ("0.71\n", "0.71\nand more\n"),
    "a line that a command does not print": ("  fit  ", "  fitted  "),
    "a name that no block before has": ("a = 1126", "b = 1126"),
    "a shell's error": ("= so ", "= not "),
    "an extra that is not there": ("[minilm,parquet]", "[minilm,parquets]"),
    "an option that is not there": ("    --version", "    --revision"),
}


def run_page(text, binaries):
    running = Running("a page", binaries)
    try:
        for block in read_page(text).blocks:
            running.run(block)
        return running
    finally:
        running.end()


def test_a_page_that_is_right(binaries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    running = run_page(RIGHT, binaries)
    assert (tmp_path / "is.txt").read_text() == "so\n"
    assert [process.returncode for process in running.background] == [-signal.SIGTERM]


@pytest.mark.parametrize("fault", WRONG)
def test_a_page_that_is_wrong(fault, binaries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    right, wrong = WRONG[fault]
    assert RIGHT.count(right) == 1
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        run_page(RIGHT.replace(right, wrong), binaries)
