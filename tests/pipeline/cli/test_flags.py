"""Parameters that errors name, as flags: what a caller is told, and what a user of the commands."""

import ast
import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from stores import OTHER_SPEC, blobs, make_head, write_store

from features.errors import InputError
from features.extraction.check import check
from features.tweets.columns import Columns
from features.tweets.reader import TweetReader
from pipeline.cli.commands import main
from pipeline.cli.flags import with_flags
from pipeline.compare import compare
from pipeline.fit import fit
from pipeline.head.head import save_head
from pipeline.scoring.output_files import check_output

ROOT = Path(__file__).parents[3]


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
        ("extract", "`header=False`", "--no-header"),
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


def test_a_value_is_for_the_option_that_can_have_one():
    """Whichever of the two commands comes first."""
    options = [click.Option(["--report"], is_flag=True), click.Option(["--report", "reports"])]
    for some in (options, options[::-1]):
        assert with_flags("give `report=head.html`", some) == "give --report head.html"


def test_every_option_of_every_command_has_its_flag():
    for command in main.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                assert with_flags(f"`{option.name}`", command.params) == option.opts[0]


def test_a_parameter_has_one_flag_in_all_commands():
    """So a command can name the flag of another: `fit` says how to extract with labels."""
    flags: dict[str, set[str]] = {}
    for command in main.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                flags.setdefault(option.name, set()).add(option.opts[0])
    assert {name: found for name, found in flags.items() if len(found) > 1} == {}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the calls and the commands below name."""
    folder = tmp_path_factory.mktemp("flags")
    X, y = blobs(60, 8, 3)
    write_store(folder / "s.h5", X, y)
    write_store(folder / "two.h5", {"cls": X, "mean": X}, y)
    write_store(folder / "other.h5", X, y, spec=OTHER_SPEC)
    write_store(folder / "unlabelled.h5", X, np.full(60, -1))
    save_head(make_head(3), folder / "head.joblib")
    (folder / "body.csv").write_text("id,body,feeling\n1,so happy,good\n")
    (folder / "case.csv").write_text("text,label\nso happy,good\nso glad,Good\n")
    (folder / "latin.csv").write_bytes("text\nun café\n".encode("cp1252"))
    (folder / "quote.csv").write_text('id,text\n1,"a, b"\n2,"never closed\n3,more\n')
    (folder / "tweets.csv").write_text("text\nso happy\n")
    (folder / "notes.xyz").write_text("so happy")
    (folder / "names.txt").write_text("0\n")
    return folder


def read(*paths, **columns):
    return list(TweetReader(paths, Columns(**columns)))


# What is called; the same as a command; what the error says to a caller, and to a command's user.
SAID = [
    (
        lambda: fit("s.h5", cv=1),
        "fit s.h5 -o new.joblib --cv 1",
        "give `cv` at least 2",
        "give --cv at least 2",
    ),
    (
        lambda: fit("s.h5", cv=50),
        "fit s.h5 -o new.joblib --cv 50",
        "folds at most, or a fixed `C` with `validation`",
        "folds at most, or a fixed --C with --validation",
    ),
    (
        lambda: fit("s.h5", C=1, calibrate="temperature"),
        "fit s.h5 -o new.joblib --C 1 --calibrate temperature",
        "`calibrate=temperature` needs more rows",
        "--calibrate temperature needs more rows",
    ),
    (
        lambda: fit("s.h5", validation="two.h5", repeats=2),
        "fit s.h5 -o new.joblib --validation two.h5 --repeats 2",
        "`one_standard_error`, `repeats` and `near_identical` need folds: leave out `validation`",
        "--one-standard-error, --repeats and --near-identical need folds: leave out --validation",
    ),
    (
        lambda: fit("s.h5", near_identical=2.0),
        "fit s.h5 -o new.joblib --near-identical 2",
        "`near_identical` is 2.0; it must be",
        "--near-identical is 2.0; it must be",
    ),
    (
        lambda: fit("s.h5", near_identical=0.99, memory=100),
        "fit s.h5 -o new.joblib --near-identical 0.99 --memory 100",
        "raise `memory`, or leave out `near_identical`",
        "raise --memory, or leave out --near-identical",
    ),
    (
        lambda: fit("s.h5", max_iter=0),
        "fit s.h5 -o new.joblib --max-iter 0",
        "`max_iter` 0, `tol` 1e-06 and `repeats` 1 must be above 0, and finite",
        "--max-iter 0, --tol 1e-06 and --repeats 1 must be above 0, and finite",
    ),
    (
        lambda: fit("two.h5"),
        "fit two.h5 -o new.joblib",
        "choose with `pooling`",
        "choose with --pooling",
    ),
    (
        lambda: fit(["s.h5", "other.h5"], pooling="1:cls"),
        "fit s.h5 other.h5 -o new.joblib --pooling 1:cls",
        "add `pooling=2:VIEW`",
        "add --pooling 2:VIEW",
    ),
    (
        lambda: fit("unlabelled.h5"),
        "fit unlabelled.h5 -o new.joblib",  # it has no such option itself
        "name it with `label_column`",
        "name it with --label-column",
    ),
    (
        lambda: compare("two.h5", combine=[["cls"]]),
        "compare two.h5 --combine cls",
        "`combine` names cls by itself",
        "--combine names cls by itself",
    ),
    (
        lambda: read("body.csv"),
        "check body.csv",
        "choose one with `text_column`",
        "choose one with --text-column",
    ),
    (
        lambda: read("latin.csv"),
        "check latin.csv",
        "give `encoding=cp1252`, or `encoding=utf-8` to read it",
        "give --encoding cp1252, or --encoding utf-8 to read it",
    ),
    (
        lambda: read("quote.csv"),
        "check quote.csv",
        "give `quoting=none` if quotes are text",
        "give --quoting none if quotes are text",
    ),
    (
        lambda: read("notes.xyz"),
        "check notes.xyz",
        "say it with `input_format`",
        "say it with --input-format",
    ),
    (
        lambda: read("tweets.csv", labels="names.txt"),
        "check tweets.csv --labels names.txt",
        "`labels` goes with exactly one .txt input",
        "--labels goes with exactly one .txt input",
    ),
    (
        lambda: check_output("-", excel_safe=True),
        "predict head.joblib s.h5 --excel-safe",
        "`excel_safe` is for .csv and .tsv",
        "--excel-safe is for .csv and .tsv",
    ),
]


@pytest.mark.parametrize(
    ("call", "typed", "to_caller", "to_user"), SAID, ids=[typed for _, typed, *_ in SAID]
)
def test_a_caller_reads_parameters_and_a_user_flags(
    call, typed, to_caller, to_user, files, monkeypatch
):
    monkeypatch.chdir(files)
    with pytest.raises(InputError) as caught:
        call()
    assert to_caller in str(caught.value)
    result = CliRunner().invoke(main, typed.split())
    assert result.exit_code == 2
    assert to_user in result.stderr


def test_remarks_name_them_too(files):
    path = files / "case.csv"
    (remark,) = check([path]).remarks
    assert remark.endswith(" 1; merge with `label_case=fold`")
    result = CliRunner().invoke(main, ["check", str(path)])
    assert " 1; merge with --label-case fold" in result.stdout


def texts_of(path):
    """The texts in a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def test_the_library_names_no_flag():
    """Only what users of the commands see does: the commands, texts of their results, and cards."""
    shown = {ROOT / "pipeline" / room for room in ("cli", "facts", "report", "hub/card_text.py")}
    modules = [
        path
        for package in ("features", "pipeline")
        for path in (ROOT / package).rglob("*.py")
        if not shown & {path, *path.parents}
    ]
    assert len(modules) > 80
    naming = [
        (path.relative_to(ROOT), text)
        for path in modules
        for text in texts_of(path)
        if re.search(r"(?<![\w-])--[a-z]", text)
    ]
    assert naming == []
