"""Parameters that errors name, as flags."""

import click
import pytest

from pipeline.cli.commands import main
from pipeline.cli.flags import with_flags


def flags_of(command: str, message: str) -> str:
    return with_flags(message, main.commands[command].params)


@pytest.mark.parametrize(
    ("command", "named", "flag"),
    [
        ("extract", "`dtype`", "--dtype"),
        ("extract", "`dtype=auto`", "--dtype auto"),
        ("extract", "`store_dtype=float32`", "--store-dtype float32"),
        ("extract", "`max_batch_tokens`", "--max-batch-tokens"),
        ("extract", "`shard_rows=8`", "--shard-rows 8"),
        ("extract", "`overwrite`", "--overwrite"),
        ("extract", "`overwrite=True`", "--overwrite"),
        ("extract", "`output`", "-o"),
        ("fit", "`C`", "--C"),
        ("fit", "`C=0.5`", "--C 0.5"),
        ("fit", "`pooling=2:mean@last4+sum`", "--pooling 2:mean@last4+sum"),
        ("fit", "`memory=2GiB`", "--memory 2GiB"),
        ("predict", "`models`", "--model"),
        ("predict", "`model`", "--model"),
        ("fit", "`json_file`", "--json"),
    ],
)
def test_a_parameter_becomes_the_flag_of_the_command(command: str, named: str, flag: str):
    assert flags_of(command, f"give {named}, or more") == f"give {flag}, or more"


def test_several_in_one_message():
    message = "give `backend=openvino` or `backend=torch`, and a smaller `max_batch_tokens`"
    told = "give --backend openvino or --backend torch, and a smaller --max-batch-tokens"
    assert flags_of("extract", message) == told


@pytest.mark.parametrize(
    "text",
    [
        "`cv`",  # another command's
        "`inputs`",  # an argument, which has no flag
        "`overwrite=False`",  # which a flag can't say
        "`dtype=`",
        "`dtype =auto`",
        "`dtype=auto or more`",
        "`Dtype`",
        "`my dtype`",
        "`dtypes`",
        "`help`me`",
        "`--dtype`",
        "``",
        "`",
        "dtype=auto",
        "``` dtype ```",
    ],
)
def test_all_else_stays_as_it_is(text: str):
    assert flags_of("extract", f"a tweet says {text}.") == f"a tweet says {text}."


def test_without_parameters_all_stays():
    assert with_flags("give `dtype=auto`", []) == "give `dtype=auto`"


def test_every_option_of_every_command_has_its_flag():
    for command in main.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                assert with_flags(f"`{option.name}`", command.params) == option.opts[0]
