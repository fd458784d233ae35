"""A measured run: what it counts is right, it ends in time, and what it can't read is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from measured import A_GPU

from features.encoder.encoder import FrozenEncoder
from features.errors import InputError
from features.spec.normalize import normalizer
from features.tweets.columns import Columns
from pipeline.cli.commands import main
from pipeline.plan.figures import read_figures
from pipeline.plan.measure import Settings, measure

ROOT = Path(__file__).parents[3]
# Two texts that are one once they are normalised, a label that is missing, and a row without text.
ROWS = """id,text,label
first,hello @you,good
2,hello @me,
3,what a day,bad
4,"nobody reads this, or does somebody?",good
"""


@pytest.fixture
def tweets(tmp_path):
    path = tmp_path / "tweets.csv"
    path.write_text(ROWS)
    return path


def settings_of(tiny_model, **others):
    return Settings(model=tiny_model("bert"), pooling=("cls", "mean"), dtype="float32", **others)


def test_what_is_counted_is_what_is_there(tweets, tiny_model):
    settings = settings_of(tiny_model)
    found = measure(tweets, settings, seconds=0.01)
    encoder = FrozenEncoder(settings.model, pooling=["cls", "mean"], dtype="float32")
    normalise = normalizer(encoder.spec.normalizer)
    texts = {normalise(line) for line in ("hello @you", "what a day")}
    texts.add("nobody reads this, or does somebody?")
    assert (found.rows, found.distinct, found.labelled, found.classes) == (4, 3, 3, 2)
    assert found.tokens == pytest.approx(np.mean(encoder.tokenize(sorted(texts)).lengths))
    assert found.views == encoder.views
    assert found.input_rows == 4
    assert found.input_bytes == len(ROWS) / 4
    assert found.id_bytes == len("first")
    assert 0 < found.encoded <= 3
    assert found.on_cpu
    by_url = measure(f"file://{tweets}", settings, seconds=0.01)
    assert (by_url.rows, by_url.input_bytes) == (4, found.input_bytes)


def test_of_a_large_input_the_first_rows_are_read(tmp_path, tiny_model):
    """Its rows are counted on from there."""
    path = tmp_path / "large.csv"
    rows = [f"{n},tweet number {n}\n" for n in range(100_000)]
    path.write_text("id,text\n" + "".join(rows))
    found = measure(path, settings_of(tiny_model), sample_rows=5_000, seconds=0.1)
    assert (found.rows, found.labelled) == (5_000, 0)
    assert found.input_rows == pytest.approx(100_000, rel=0.25)
    assert found.input_bytes == pytest.approx(sum(map(len, rows)) / 100_000, rel=0.25)
    assert found.encoded < 5_000  # the model had a tenth of a second


def test_no_usable_row_is_said(tmp_path, tiny_model):
    path = tmp_path / "none.csv"
    path.write_text("id,text\n" + "1\n" * 5)
    said = r"no usable tweet in the first 5 rows of .*none\.csv; the first one, line 2: 1 cells"
    with pytest.raises(InputError, match=said):
        measure(path, settings_of(tiny_model), Columns())
    path.write_text("id,text\n")
    with pytest.raises(InputError, match=r"none\.csv has no rows, so nothing can be measured"):
        measure(path, settings_of(tiny_model), Columns())


def planned(*words):
    return CliRunner().invoke(main, ["plan", *map(str, words)])


def test_the_command_measures_and_its_figures_plan_again(tweets, tiny_model, tmp_path):
    file = tmp_path / "plan.json"
    of_encoder = ["--model", tiny_model("bert"), "--pooling", "cls", "--dtype", "float32"]
    first = planned(tweets, "--rows", "10M", *of_encoder, "--seconds", 0.05, "--json", file)
    assert first.exit_code == 0, first.output
    assert "10,000,000 rows on 1 machine without a GPU\n" in first.stdout
    assert "! No GPU was measured: these are figures of a processor" in first.stdout
    assert "! The sample has 4 rows, too few to say what 10,000,000 are like" in first.stdout
    content = json.loads(file.read_text())
    assert content["rows"] == 10_000_000
    assert "scaling" not in content
    again = planned("--measured", file, "--rows", "10e6", "--scaling", "--json", tmp_path / "b")
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith(first.stdout)
    other = json.loads((tmp_path / "b").read_text())
    assert {name: other[name] for name in content} == content
    assert [one["gpus"] for one in other["scaling"]] == [2**n for n in range(10)]
    assert read_figures(tmp_path / "b") == read_figures(file)


@pytest.fixture
def figures(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"figures": A_GPU.to_dict()}))
    return path


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "name an INPUT to measure this machine on, or the figures of another one"),
        (["--measured", "figures.json", "tweets.csv"], 2, "one of the two"),
        (["--measured", "no.json"], 2, "no.json cannot be read: No such file"),
        (["--measured", "tweets.csv"], 3, "tweets.csv is not JSON"),
        (["no.csv"], 2, "no.csv"),
        (["--measured", "figures.json", "--rows", "many"], 2, "--rows is 'many'; give a whole"),
        (["--measured", "figures.json", "--rows", "0"], 2, "--rows is '0'"),
        (["--measured", "figures.json", "--shard-rows", "0"], 2, "--shard-rows is '0'"),
        (["--measured", "figures.json", "--shard-rows", "1", "--rows", "1e9"], 2, "or more"),
        (["--measured", "figures.json", "--gpus", "0"], 2, "--gpus is 0; give 1 to 10,000"),
        (["--measured", "figures.json", "--gpus", "x"], 2, "'x' is not a valid integer"),
        (["--measured", "figures.json", "--price-per-gpu-hour", "-1"], 2, "above 0, e.g. 2.50"),
        (["--measured", "figures.json", "--failures-per-hour", "nan"], 2, "from 0 to 1e+15"),
        (["--measured", "figures.json", "--stragglers", "3"], 2, "e.g. 0.01:3 or 2%:4"),
        (["--measured", "figures.json", "--labelled-rows", "1e9"], 2, "--labelled-rows is 1,0"),
        (["--measured", "figures.json", "--pooling", "cls"], 2, "--pooling: for a measured run"),
        (["--measured", "figures.json", "--json", "figures.json"], 2, "figures.json"),
        (["tweets.csv", "--store-dtype", "float8"], 2, "float8"),
        *((["tweets.csv", "--seconds", n], 2, "--seconds is ") for n in ("0", "nan", "inf", "-1")),
        (["tweets.csv", "--device", "cuda:0,cuda:1"], 2, "one worker is measured"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, code, said, tweets, figures, monkeypatch):
    monkeypatch.chdir(tweets.parent)
    before = figures.read_bytes()
    result = planned(*words)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert figures.read_bytes() == before


def test_vectors_may_be_planned_in_the_other_precision(figures):
    half, single = (
        planned("--measured", figures, *words) for words in ([], ["--store-dtype", "float32"])
    )
    on_disk = [result.stdout.partition("On disk\n")[2] for result in (half, single)]
    assert [text.splitlines()[3].split()[:3] for text in on_disk] == [
        ["all,", "in", "float16"],
        ["all,", "in", "float32"],
    ]


# VmHWM begins anew with each program, and ru_maxrss does not.
PLAN_AND_PEAK = """
import re, pathlib
from pipeline.cli.commands import main
try:
    main(prog_name="frostline")
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    print("peak", 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_plan_of_ten_billion_rows_takes_little_memory(figures):
    """At most 200 MB, in a process of its own."""
    words = ["plan", "--measured", str(figures), "--rows", "10e9", "--gpus", "64"]
    done = subprocess.run(
        [sys.executable, "-c", PLAN_AND_PEAK, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "10,000,000,000 rows on 64 GPUs" in done.stdout
    assert 10e6 < int(done.stdout.split("peak ")[1]) < 200e6
