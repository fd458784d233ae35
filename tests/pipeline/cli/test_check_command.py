"""`frostline check`: what it prints, what it writes, and how it ends."""

import json

import pytest
from click.testing import CliRunner

from pipeline.cli.commands import main

GOOD = "id,text,label,mood\n1,so happy @ann,positive,x\n2,so sad,negative,y\n"
BAD = "id,text,label\n1,a,x\n2,b,c,y\n3,d,x\n"


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, ["check", *map(str, arguments)], input=stdin)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / "bad.csv").write_text(BAD)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,x\n".encode("cp1252"))
    return tmp_path


def test_what_is_printed(files):
    result = run(files / "good.csv")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "`extract` would read all of it"
    begins = lines.index("The first rows, as they stand and as the encoder will read them:")
    facts = dict(line.strip().split("  ", 1) for line in lines[1:begins])
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["read"] == (
        'text from "text", label from "label", id from "id" (CSV, UTF-8, commas, quoted cells)'
    )
    assert facts["left"] == '"mood"'
    assert facts["rows"] == "2"
    assert facts["tweets"] == "2 (negative 1, positive 1)"
    assert facts["rejected"] == "0"
    assert facts["flagged"] == "0 empty, 0 repaired"
    assert facts["repeated"] == "0 with the text of an earlier row, 0 with its id"
    assert facts["characters"] == "median 6, mean 10, longest 13"
    assert facts["scripts"] == "Latin 2"
    assert [line.strip() for line in lines[begins + 1 : begins + 4]] == [
        "1 (positive)",
        '"so happy @ann"',
        '"so happy @user"',
    ]
    assert result.stderr == ""


def test_what_is_odd_is_marked(files):
    (files / "odd.csv").write_text("id,text,label\n1,a,x\n2,a,X\n3,a,x\n")
    result = run(files / "odd.csv")
    assert result.exit_code == 0
    assert result.stdout.startswith("`extract` would read it; look at what is marked with !")
    marked = [line for line in result.stdout.splitlines() if line.startswith("! ")]
    assert any("differ in case or blanks alone" in line for line in marked)
    assert "! 1 texts come with several labels, for example:" in marked
    assert '    "a" (x 2, X 1)' in result.stdout.splitlines()


def test_what_extract_would_refuse_is_exit_code_2(files):
    result = run(files / "bad.csv")
    assert result.exit_code == 2
    assert "`extract` would refuse it" in result.stdout
    assert "! line 3 of" in result.stdout
    assert result.stderr.startswith("Error: 1 of 3 rows can't be used")
    assert "Traceback" not in result.output
    allowed = run(files / "bad.csv", "--allow-rejects")
    assert allowed.exit_code == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", "none.csv"),
        ("other.csv", "none of the columns text"),
        ("latin.csv", "--encoding cp1252"),
        (".", "folder"),
    ],
)
def test_bad_input_is_one_line(files, name, message):
    result = run(files / name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_the_options_of_extract_help_here_too(files):
    result = run(files / "latin.csv", "--encoding", "cp1252")
    assert result.exit_code == 0
    assert '"café"' in result.stdout
    assert "cp1252" in result.stdout
    (files / "m.txt").write_text("positive\tgood\nnegative\tbad\n")
    options = ["--mapping", files / "m.txt", "--id-column", "", "--normalize", "none"]
    result = run(files / "good.csv", *options)
    assert "2 (bad 1, good 1)" in result.stdout
    assert "id from" not in result.stdout
    assert "@user" not in result.stdout


def test_json(files):
    result = run(files / "good.csv", "--json", files / "a.json")
    assert result.exit_code == 0
    content = json.loads((files / "a.json").read_text())
    assert (content["rows"], content["labels"]) == (2, {"negative": 1, "positive": 1})
    assert content["left"] == {str(files / "good.csv"): ["mood"]}
    assert content["examples"][0]["normalised"] == "so happy @user"
    assert content["verdict"] == "fine"
    refused = run(files / "bad.csv", "--json", files / "b.json")
    assert refused.exit_code == 2
    assert json.loads((files / "b.json").read_text())["verdict"] == "refused"
    same = run(files / "good.csv", "--json", files / "good.csv")
    assert same.exit_code == 2
    assert (files / "good.csv").read_text() == GOOD


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (GOOD, "CSV, UTF-8, commas, quoted cells"),
        (GOOD.replace(",", "\t"), "TSV, UTF-8, tabs, quoted cells"),
        ('{"text": "so happy", "label": 1}\n', "JSON Lines, UTF-8"),
    ],
)
def test_standard_input(content, how):
    result = run("-", stdin=content)
    assert result.exit_code == 0
    assert how in result.stdout
    assert "rows " in result.stdout
