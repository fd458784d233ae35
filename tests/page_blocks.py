"""Read what the pages of the documentation show as code: Markdown in, blocks in their order out.

What a page says to the tests stands in HTML comments, which readers don't see:

- `<!-- at hand: tweets.h5 head.joblib -->`: files that its commands find, beside example tweets;
  `tests/page_files.py` has all that there are.
- `<!-- by hand: label next.csv -->`: what a reader does in between, done by the tests.
- `<!-- not run: REASON -->` before a block: its commands are parsed alone.
- `<!-- not compared: REASON -->` before a block: it is run, and prints other words than are shown.
- `<!-- prints -->` between two blocks: the second is what the first prints, if that is Python, and
  lines of what its last command prints on a terminal, if it is `bash`.
- `<!-- slow: REASON -->`: the page runs in `make test-all` alone.
"""

import re
import shlex
from dataclasses import dataclass, replace

from markdown_it import MarkdownIt

# A block of `console` has prompts, and shows what a command prints below it; one of `bash` has
# commands alone.
RUN = ("python", "console", "bash")
BY_HAND = "by hand"
# Languages of blocks that are data, or what a program prints.
SHOWN = (
    "text",
    "json",
    "jsonl",
    "csv",
    "toml",
    "ini",
    "yaml",
    "dockerfile",
    "{toctree}",
    "{eval-rst}",
)
_KINDS = "at hand|by hand|not run|not compared|prints|slow"
_COMMENT = re.compile(rf"<!-- *({_KINDS})(?:: *(.*?))? *-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    language
        The first word behind the fence.
    code
        What stands in it.
    line
        The number of its first line on the page, from 1.
    not_run, not_compared
        Why it is not run, or what it prints is not compared; None where it is.
    prints
        What it prints by the block after it; None where the page does not show that.
    """

    language: str
    code: str
    line: int
    not_run: str | None = None
    not_compared: str | None = None
    prints: str | None = None


@dataclass(frozen=True)
class Step:
    """A command of a block.

    Attributes
    ----------
    command
        The line, without its prompt; continued lines are joined.
    line
        Its number on the page, from 1.
    shown
        The lines that stand below it as its output; None where none can, in a block of `bash`.
    """

    command: str
    line: int
    shown: list[str] | None


@dataclass(frozen=True)
class Page:
    """What is to be run of a page; `slow` is the reason why `make test` leaves it out, or None."""

    blocks: list[Block]
    at_hand: list[str]
    slow: str | None


def read_page(text):
    """Find the blocks of a page, and what its comments say to the tests."""
    blocks, at_hand, slow, said = [], [], None, {}
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            for kind, words in _COMMENT.findall(token.content):
                said_now = " ".join(words.split())
                if kind == "at hand":
                    at_hand += said_now.split()
                elif kind == "by hand":
                    blocks.append(Block(BY_HAND, said_now, token.map[0] + 1))
                elif kind == "slow":
                    slow = said_now
                else:
                    said[kind] = said_now
        elif token.type == "fence" and "prints" in said:
            blocks[-1] = replace(blocks[-1], prints=token.content)
            said = {}
        elif token.type == "fence":
            language = token.info.split()[0] if token.info else ""
            reasons = said.get("not run"), said.get("not compared")
            blocks.append(Block(language, token.content, token.map[0] + 2, *reasons))
            said = {}
        elif token.type.endswith("_open"):
            said = {}
    return Page(blocks, at_hand, slow)


def steps_of(block):
    """Give the commands of a block of `console` or `bash`, with what is shown below each."""
    steps, lines = [], enumerate(block.code.splitlines(), block.line)
    with_prompts = block.language == "console"
    for number, line in lines:
        if with_prompts and not line.startswith("$ "):
            assert steps, f"line {number}: a block of console begins with `$ `"
            steps[-1].shown.append(line)
            continue
        command = line.removeprefix("$ ")
        while command.endswith("\\"):
            command = command[:-1].rstrip() + " " + next(lines)[1].strip()
        if command.strip() and not command.lstrip().startswith("#"):
            steps.append(Step(command.strip(), number, [] if with_prompts else None))
    return steps


def words_of(command):
    """Give the words of a `frostline` command that needs no shell; None of any other."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    words = list(lexer)
    plain = not any(set(word) <= set("|&;<>()") for word in words if word)
    if words[:1] == ["frostline"] and plain and not re.search(r"\$[\w({]", command):
        return words[1:]
    return None
