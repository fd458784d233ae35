"""The README, the pages of docs/ and the command line say the same.

That their commands run is for `tests/test_pages.py`.
"""

import re
import shlex
from pathlib import Path

import click
import pytest
from page_blocks import read_page, steps_of
from pages import LINKED, PAGES, README, ROOT

from features.backends.registry import BACKENDS
from pipeline.cli.commands import main

COMMANDS = PAGES["docs/commands.md"]


def frostline_lines(blocks):
    """Lines of a page's blocks that call frostline, also behind a pipe."""
    for step in (step for block in blocks for step in steps_of(block)):
        for part in re.split(r"\s\|\s", step.command):
            words = shlex.split(part, comments=True) if "frostline" in part else []
            if words and Path(words[0]).name == "frostline":
                yield part.strip()


def lines_in_prose(page):
    """Whole command lines between backticks in headings and sentences, not just a name."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    for line in re.findall(r"`(frostline\s[^`]+)`", prose):
        if len(line.split()) > 2 and "COMMAND" not in line:
            yield " ".join(line.split())


# What may stand before the name of a command.
OF_ALL = [name for option in main.params for name in option.opts if option.name != "version"]
COMMAND_BLOCKS = {
    name: [block for block in read_page(page).blocks if block.language in ("bash", "console")]
    for name, page in LINKED.items()
}
LINES = [
    (name, line) for name, blocks in COMMAND_BLOCKS.items() for line in frostline_lines(blocks)
]
IN_PROSE = [(name, line) for name, page in LINKED.items() for line in lines_in_prose(page)]


def arguments_of(line):
    words = shlex.split(line, comments=True)[1:]
    cut = next((n for n, word in enumerate(words) if word in (">", ">>", "<", "&&", ";")), None)
    return words[1:cut] if words[0] in OF_ALL else words[:cut]


def option_names():
    for name, command in main.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, max(parameter.opts, key=len)


def section_of(command):
    """What docs/commands.md says under the heading of a command."""
    found = re.search(rf"^## `frostline {command}\b.*?(?=^## |\Z)", COMMANDS, re.M | re.S)
    assert found, f"docs/commands.md has no section of {command}"
    return found[0]


def test_there_are_examples_of_each_command():
    assert {arguments_of(line)[0] for _, line in LINES} >= set(main.commands)


def test_the_readme_shows_the_main_way():
    """Two commands in a clone, three commands for one's own tweets, and no more than 200 lines."""
    assert len(README.splitlines()) <= 200
    commands = [step.command for one in COMMAND_BLOCKS["README.md"] for step in steps_of(one)]
    lines = [command.partition("#")[0].strip() for command in commands]
    assert [line for line in lines if line.startswith("make ")] == ["make demo", "make test"]
    first = [arguments_of(line)[0] for name, line in LINES if name == "README.md"][:3]
    assert first == ["extract", "fit", "predict"]


@pytest.mark.parametrize(("page", "line"), [*LINES, *IN_PROSE] or [("README.md", "frostline")])
def test_example_parses(page, line):
    words = arguments_of(line)
    assert words, f"{page} has no command lines"
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
    assert f"frostline {name}" in section_of(name)


@pytest.mark.parametrize(("command", "option"), list(option_names()))
def test_option_is_documented(command, option):
    named = rf"(?<![\w-]){re.escape(option)}(?![\w-])"
    assert re.search(named, section_of(command)), f"{command} {option}"


def test_options_of_all_commands_are_documented():
    section = COMMANDS.partition("\n## Options of all commands\n")[2].partition("\n## ")[0]
    assert re.findall(r"`(--?[\w-]+)`(?=[^|]*\|[^|]*\|$)", section, re.MULTILINE) == OF_ALL


@pytest.mark.parametrize("command", list(main.commands))
def test_options_that_are_documented_exist(command):
    """In the tables of options, the other way round."""
    cells = re.findall(r"^\| (`-.*?) \|", section_of(command), re.MULTILINE)
    named = {option for cell in cells for option in re.findall(r"`(--?[\w-]+)`", cell)}
    assert named <= {
        name for p in main.commands[command].params for name in (*p.opts, *p.secondary_opts)
    }


def choices():
    for option in {p.name: p for c in main.commands.values() for p in c.params}.values():
        if isinstance(option.type, click.Choice):
            yield option.opts[0], option.type.choices
    yield "--backend", ["auto", *BACKENDS]


@pytest.mark.parametrize(("option", "allowed"), list(choices()))
def test_choices_are_documented(option, allowed):
    """In a row of a table; the other commands' rows may say `as for extract`."""
    rows = re.findall(rf"^\| .*`{option}`.* \|$", COMMANDS, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert set(allowed) <= named


def anchors(page):
    """The anchors of a page's headings, as GitHub and most others make them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links():
    for name, page in LINKED.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", page):
            if not target.startswith(("https://", "http://")):
                yield name, target


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_links_lead_somewhere(page, target):
    file, _, anchor = target.partition("#")
    path = (ROOT / page).parent / file if file else ROOT / page
    assert path.resolve().is_relative_to(ROOT.resolve())
    assert path.is_file()
    if anchor:
        assert anchor in anchors(path.read_text(encoding="utf-8"))


def test_the_readme_leads_to_every_page():
    targets = {target for name, target in links() if name == "README.md"}
    assert {*LINKED} - {"README.md"} <= targets
