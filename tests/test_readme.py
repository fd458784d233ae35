"""The README and the command line say the same."""

import re
import shlex
from pathlib import Path

import click
import pytest

from pipeline.cli.commands import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def code_lines():
    """Lines of the fenced blocks, those that end in a backslash joined."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return "\n".join(blocks).replace("\\\n", " ").splitlines()


def frostline_lines():
    for line in code_lines():
        line = line.strip().removeprefix("$ ")
        # What comes before a pipe, e.g. `tail -f tweets.jsonl | frostline predict head.joblib -`.
        for part in re.split(r"\s\|\s", line):
            words = shlex.split(part, comments=True) if "frostline" in part else []
            if words and Path(words[0]).name == "frostline":
                yield part.strip()


def arguments_of(line):
    words = shlex.split(line, comments=True)[1:]
    cut = next((n for n, word in enumerate(words) if word in (">", ">>", "<", "&&", ";")), None)
    return words[:cut]


def option_names():
    for name, command in main.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, max(parameter.opts, key=len)


def test_there_are_examples_of_each_command():
    assert {arguments_of(line)[0] for line in frostline_lines()} >= set(main.commands)


@pytest.mark.parametrize("line", list(frostline_lines()) or ["frostline"])
def test_example_parses(line):
    words = arguments_of(line)
    assert words, "the README has no command lines"
    if words[0].startswith("-"):
        assert words[0] in ("--help", "-h", "--version")
        return
    assert words[0] in main.commands, line
    command = main.commands[words[0]]
    if "--help" in words or "-h" in words:
        return
    # click itself parses, converts and checks; the files that are named need not be there.
    # With its parent, as on the command line: click keeps the help flags of the first context.
    with (
        click.Context(main, **main.context_settings) as parent,
        command.make_context(words[0], words[1:], parent=parent) as context,
    ):
        assert context.params


@pytest.mark.parametrize("name", list(main.commands))
def test_command_is_documented(name):
    assert f"frostline {name}" in README


@pytest.mark.parametrize(("command", "option"), list(option_names()))
def test_option_is_documented(command, option):
    assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", README), f"{command} {option}"
