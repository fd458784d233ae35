"""What `frostline extract --part i/n` prints, and the code that it ends with."""

import pytest
from click.testing import CliRunner

from pipeline.cli.commands import main

ROWS = [f"t{n},so happy that it is late again {n},{'good' if n % 2 else 'bad'}" for n in range(12)]


@pytest.fixture
def extract(tiny_model, tmp_path):
    """Run the command on four files, each a piece."""
    model, inputs = tiny_model("bert"), [tmp_path / f"{name}.csv" for name in "abcd"]
    for number, path in enumerate(inputs):
        path.write_text("id,text,label\n" + "\n".join(ROWS[number:]) + "\n")

    def run(*options):
        fixed = ["--model", model, "--pooling", "mean", "--dtype", "float32", "--shard-rows", 12]
        return CliRunner().invoke(
            main, list(map(str, ["extract", *inputs, "-o", tmp_path / "store", *fixed, *options]))
        )

    return run


def test_each_job_says_in_a_line_what_is_missing_and_what_to_do(extract, tmp_path):
    store = tmp_path / "store"
    first = extract("--part", "2/3")
    assert (first.exit_code, first.stdout) == (
        0,
        f"part 2/3 of {store} is finished: 1 of 4 pieces (1 made in this run), 10 rows; 3 pieces "
        "are missing (0-1, 3): unless jobs are at work on them, run the same command with "
        "--part i/3 for i = 0-1\n",
    )
    assert extract("--part", "0/3").exit_code == 0
    last = extract("--part", "1/3")
    assert (last.exit_code, last.stdout) == (
        0,
        f"part 1/3 of {store} is finished: 1 of 4 pieces (1 made in this run), 11 rows; the store "
        "is whole\n",
    )


def test_a_job_that_runs_alone_makes_its_part_of_a_store_without_repeated_texts(extract, tmp_path):
    options = ["--duplicates", "all", "--memory", "1MiB"]
    first = extract("--part", "1/3", *options)
    assert first.exit_code == 0
    assert first.stdout.startswith(
        f"part 1/3 of {tmp_path / 'store'} is finished: 1 of 4 pieces (1 made in this run)"
    )
    assert "run the same command with --part i/3 for i = 0, 2" in first.stdout
    less = extract("--part", "2/3", "--duplicates", "piece")
    assert less.exit_code == 2 and "--duplicates: all there, piece asked for" in less.stderr
    assert extract("--part", "1/3", "--memory", "1MiB").stderr.startswith(
        "Error: --memory is for --duplicates all"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--part", "4/3"],
            "Error: --part is 4/3: of n jobs, at least 1, i counts from 0 to n - 1",
        ),
        (["--part", "1:3"], "Error: --part is '1:3': it must be i/n, such as 3/10"),
        (["--part", "1/3", "--overwrite"], "Error: --overwrite does not go with --part: "),
    ],
)
def test_what_is_refused_is_said_in_flags(options, said, extract, tmp_path):
    result = extract(*options)
    assert result.exit_code == 2 and result.stderr.startswith(said), result.stderr
    assert not (tmp_path / "store").exists()


def test_another_order_is_refused_in_flags(extract):
    assert extract("--part", "1/4").exit_code == 0
    result = extract("--part", "2/4", "--store-dtype", "float32", "--no-header")
    assert result.exit_code == 2
    assert "--store-dtype: float16 there, float32 asked for" in result.stderr
    assert "give what the store was begun with, or another -o" in result.stderr
