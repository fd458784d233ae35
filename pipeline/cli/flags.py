"""Turn the parameters that an error of the library names into the flags of a command.

In come a message and the options of the commands; out goes the message as it is printed. A
parameter is named in backticks, with or without a value: `dtype`, `dtype=auto`. Prints nothing, and
does not decide which messages are turned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

_NAMED = re.compile(r"`([A-Za-z_]\w*)(?:=([^`\s]+))?`")


def with_flags(message: str, parameters: Iterable[click.Parameter]) -> str:
    """Turn the parameters that are named in backticks into flags.

    A flag is the first name that the option was declared with. What names no option, or no value
    that its flag can have, stays as it is.

    Parameters
    ----------
    message : str
    parameters : iterable of click.Parameter
        Those of the commands; their arguments have no flags.

    Examples
    --------
    >>> dtype, overwrite = click.Option(["--dtype"]), click.Option(["--overwrite"], is_flag=True)
    >>> with_flags("no bfloat16 here: give `dtype=auto`", [dtype, overwrite])
    'no bfloat16 here: give --dtype auto'
    >>> with_flags("damaged; `overwrite=True` starts again", [dtype, overwrite])
    'damaged; --overwrite starts again'
    >>> with_flags("a tweet says `text` and `dtype ==`", [dtype, overwrite])
    'a tweet says `text` and `dtype ==`'
    """
    options: dict[str, click.Option] = {}
    for option in parameters:
        if isinstance(option, click.Option) and option.name is not None:
            long = [name for name in option.opts if name.startswith("--")]
            for name in (option.name, *(name[2:].replace("-", "_") for name in long)):
                # Of two commands' options of one name, the one that a value can be given to.
                if name not in options or options[name].is_flag:
                    options[name] = option

    def flag(found: re.Match[str]) -> str:
        option, value = options.get(found[1]), found[2]
        if option is None:
            return found[0]
        if not option.is_flag:
            return option.opts[0] + ("" if value is None else f" {value}")
        if value == "False" and option.secondary_opts:
            return option.secondary_opts[0]
        return option.opts[0] if value in (None, "True") else found[0]

    return _NAMED.sub(flag, message)
