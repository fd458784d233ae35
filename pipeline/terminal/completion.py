"""Complete what is typed in a shell: files, poolings, backends and the like.

In comes the beginning of a word, out go the words that it can become: each function here is a
`shell_complete` of click's parameters. The scripts for zsh and fish are click's own. That for bash
is ours: bash splits words at `@` and `:`, which poolings are full of. No model is loaded, and no
torch: a shell waits for the answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from features.backends.registry import BACKENDS
from features.errors import FrostlineError
from features.spec.pooling import COMBINE, SENTENCE, TOKENS
from features.store.reader import FeatureStore
from features.tweets.formats import FORMATS

SHELLS = ("bash", "zsh", "fish")

# Some of all that the grammar allows, those that are common first.
_LAYERS = ("-1", "-2", "0", "last4", "all")
_DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")

Items = list[CompletionItem[str]]


def _that_begin(words: Iterable[str], begun: str) -> Items:
    return [CompletionItem(word) for word in words if word.startswith(begun)]


def files(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Leave it to the shell, which knows its files."""
    return [CompletionItem(begun, type="file")]


def folders(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Leave it to the shell, which knows its folders."""
    return [CompletionItem(begun, type="dir")]


def backends(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Give the rows of the table of backends."""
    return _that_begin(["auto", *BACKENDS], begun)


def devices(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Give the kinds of device, whether this machine has them or not: to ask takes torch."""
    return _that_begin(_DEVICES, begun)


def input_formats(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Give the formats of inputs."""
    return _that_begin([name[1:] for name in FORMATS if name[0] == "."], begun)


def poolings(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Give the next part of a pooling: tokens, then layers, then how layers are combined."""
    if "@" not in begun:
        return _that_begin((*TOKENS, SENTENCE), begun)
    tokens, _, rest = begun.partition("@")
    if tokens in ("pooler", SENTENCE):  # which are of the last layer
        return []
    if "+" not in rest:
        return _that_begin([f"{tokens}@{layers}" for layers in _LAYERS], begun)
    layers = rest.partition("+")[0]
    return _that_begin([f"{tokens}@{layers}+{combine}" for combine in COMBINE], begun)


def views(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Give the views of the feature file that was typed before; poolings where there is none."""
    # An option without its value ends click's parsing before the arguments are told apart.
    for path in [*(context.params.get("features") or ()), *context.args]:
        try:
            with FeatureStore(path) as store:
                return _that_begin(store.views, begun)
        except (FrostlineError, OSError):
            continue
    return poolings(context, parameter, begun)


class Bash(BashComplete):
    """Complete the line up to the cursor, and answer with what stands behind its last break.

    bash replaces no more than that, as it breaks lines at each character of `COMP_WORDBREAKS`: of
    `cuda:0` the `0`, of `mean@last4` the `@last4`, since an `@` belongs to what is behind it.
    """

    source_template = """\
%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case "$line" in
            file,*) compopt -o default ;;
            dir,*) compopt -o dirnames ;;
            plain,*) COMPREPLY+=("${line#plain,}") ;;
        esac
    done < <(%(complete_var)s=bash_complete _FROSTLINE_LINE="${COMP_LINE:0:COMP_POINT}" \\
        _FROSTLINE_BREAKS="$COMP_WORDBREAKS" "$1" 2> /dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Give the words of the line, and the one that is being typed."""
        line = os.environ.get("_FROSTLINE_LINE", "")
        words = split_arg_string(line)[1:]
        if not words or line[-1:].isspace():
            return words, ""
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Give an answer as the script reads it: its type and its value."""
        typed, value = self.get_completion_args()[1], str(item.value)
        if typed.startswith("--") and "=" in typed and not value.startswith("--"):
            value = f"{typed.partition('=')[0]}={value}"  # click answers with what is behind it
        breaks = os.environ.get("_FROSTLINE_BREAKS", "")
        starts = [place + (one != "@") for place, one in enumerate(typed) if one in breaks]
        return f"{item.type},{value[max(starts, default=0) :]}"


add_completion_class(Bash, "bash")


def script(shell: str, command: click.Command) -> str:
    """Write what a shell, one of `SHELLS`, reads to complete the words of `frostline`."""
    completion = get_completion_class(shell)
    assert completion is not None, shell
    return completion(command, {}, "frostline", "_FROSTLINE_COMPLETE").source()
