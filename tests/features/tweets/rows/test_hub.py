"""Data sets by name: from a hub on loopback, and from folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from click.testing import CliRunner
from data_set_hub import COMMIT, serving
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from features.base.paths import check_replaceable
from features.errors import FileRefused, InputError
from features.tweets.reader import TweetReader
from features.tweets.rows.hub_name import HubName, parse_hub_name
from pipeline.cli.commands import main

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:imdb", HubName("imdb")),
        ("hf:a/b", HubName("a/b")),
        ("hf:a/b/c", HubName("a/b", "c")),
        ("hf:a/b:train", HubName("a/b", None, "train")),
        ("hf:a/b/c:train[:10%]+test@v1.0", HubName("a/b", "c", "train[:10%]+test", "v1.0")),
        ("hf:a@refs/pr/3", HubName("a", revision="refs/pr/3")),
        ("hf:a:train[10:-5]", HubName("a", split="train[10:-5]")),
        ("hf:a/b/20231101.en", HubName("a/b", "20231101.en")),
    ],
)
def test_names(text, name):
    assert parse_hub_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf:", "its id must be"),
        ("hf:a/b/c/d", "its id must be"),
        ("hf:-a", "its id must be"),
        ("hf:a b", "its id must be"),
        ("hf:a/b/:train", "its configuration can't be meant"),
        ("hf:a:", "its split or its revision"),
        ("hf:a:train:test", "its split or its revision"),
        ("hf:a:train[", "its split or its revision"),
        ("hf:a@", "its split or its revision"),
        ("hf:a@v1:train", "its split or its revision"),
        ("hf://datasets/a/b.csv", "the address of a file"),
        ("hf:./no", "no such folder"),
        ("hf:~nobody/a", "no such folder"),
        ("hf:./a\0b", "its id must be"),
        ("hf:\x1b[2J", "its id must be"),
    ],
)
def test_names_that_are_none(text, said):
    with pytest.raises(InputError, match=said) as caught:
        parse_hub_name(text)
    assert "\x1b" not in str(caught.value)


# --- folders ------------------------------------------------------------------------------------

TRAIN = {"text": ["NA", "b", "007"], "label": ["x", "y", "x"], "id": ["007", "", "9"]}
TEST = {"text": ["c"], "label": ["y"], "id": ["1"]}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder, and a cache of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "here"


def write(folder, kind):
    """Write two splits into a folder."""
    splits = DatasetDict(train=Dataset.from_dict(TRAIN), test=Dataset.from_dict(TEST))
    if kind == "saved":
        splits.save_to_disk(folder)
        return
    folder.mkdir()
    for split, rows in splits.items():
        getattr(rows, f"to_{'json' if kind == 'jsonl' else kind}")(folder / f"{split}.{kind}")


def texts(name):
    return [tweet.text for tweet in TweetReader(name)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "saved"])
def test_folders(kind, here):
    """What they hold is read as the same files are, with splits and slices."""
    write(here / "data", kind)
    assert texts("hf:./data:train") == TRAIN["text"]
    tweets = list(TweetReader("hf:data:train"))
    assert [(one.id, one.label) for one in tweets] == [("007", "x"), ("1", "y"), ("9", "x")]
    if kind != "saved":
        assert list(TweetReader(here / "data" / f"train.{kind}")) == tweets
    assert texts(f"hf:{here}/data:train[:2]") == ["NA", "b"]
    assert texts("hf:./data:train[-1:]+test") == ["007", "c"]
    assert texts("hf:./data:test+train[:34%]") == ["c", "NA"]
    assert texts("hf:./data:all") == [*TRAIN["text"], "c"]


def test_the_same_folder_has_the_same_name(here):
    """So a store that is made of it again says the same of itself."""
    write(here / "data", "parquet")
    first = str(TweetReader("hf:./data:train"))
    assert first.startswith("hf:./data:train (fingerprint ")
    assert str(TweetReader("hf:./data:train")) == first


def test_a_split_that_was_saved_alone(here):
    Dataset.from_dict(TRAIN).save_to_disk("one")
    assert texts("hf:./one") == texts("hf:./one:train") == TRAIN["text"]


def test_configurations_of_a_folder(here):
    (here / "data" / "a").mkdir(parents=True)
    Dataset.from_dict(TRAIN).to_parquet(here / "data/a/x.parquet")
    (here / "data/README.md").write_text(
        "---\nconfigs:\n- config_name: good\n  data_files: a/*.parquet\n- config_name: bad\n"
        "  data_files: ../../secret.csv\n---\n"
    )
    assert texts("hf:./data/good") == TRAIN["text"]
    (here.parent / "secret.csv").write_text("text\nsecret\n")
    with pytest.raises(FileRefused, match="names a file that is not its own"):
        TweetReader("hf:./data/bad")
    with pytest.raises(InputError, match='needs a configuration; there are: "good", "bad"'):
        TweetReader("hf:./data")
    with pytest.raises(InputError, match="has no configuration 'nope'"):
        TweetReader("hf:./data/nope")


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        ({}, InputError, "holds no files of data"),
        ({"x.png": b"\x89PNG"}, FileRefused, "holds files of another kind"),
        ({"data.py": b"open('ran', 'w')"}, FileRefused, "code of a data set never runs here"),
        ({"x.parquet": b"PAR1 nonsense"}, FileRefused, "cannot be read"),
        ({"x.csv": b"text,label\na\n\xff\xfe,b\n"}, FileRefused, "cannot be read"),
        ({"x.jsonl": b"{"}, FileRefused, "cannot be read"),
        ({"state.json": b"{}"}, FileRefused, "cannot be read"),
    ],
)
def test_folders_that_hold_no_texts(files, kind, said, here):
    (here / "data").mkdir()
    for name, content in files.items():
        (here / "data" / name).write_bytes(content)
    with pytest.raises(kind, match=said) as caught:
        TweetReader("hf:./data")
    assert "\n" not in str(caught.value)
    assert not (here / "ran").exists()


def test_a_split_must_be_named_where_there_are_several(here):
    write(here / "data", "parquet")
    with pytest.raises(InputError, match=r'the splits "train", "test": name one, as in hf:./data:'):
        TweetReader("hf:./data")
    with pytest.raises(InputError, match=r"no split 'dev'; its splits are: \"train\", \"test\""):
        TweetReader("hf:./data:train+dev")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'frostline\[datasets\]'"):
        TweetReader("hf:imdb")


def test_the_library_says_what_it_said_before(here):
    write(here / "data", "csv")
    datasets.enable_progress_bars()
    level = datasets.logging.get_verbosity()
    assert texts("hf:./data:test") == ["c"]
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == level


# --- commands -----------------------------------------------------------------------------------


def test_the_commands_take_them(tiny_model, here):
    """Wherever they take a file of tweets: as `INPUT`, and as `--tweets`."""
    data = Dataset.from_dict(
        {
            "text": [f"{word} day {n}" for n in range(15) for word in ("good", "bad")],
            "label": [1, 0] * 15,
        },
        features=Features(text=Value("string"), label=ClassLabel(names=["no", "yes"])),
    )
    (here / "data").mkdir()
    data.to_parquet(here / "data/train.parquet")

    def run(*arguments):
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    assert "(Hugging Face data set)" in run("check", "hf:./data")
    torch = ["--backend", "torch"]
    run(
        "extract", "hf:./data:train", "-o", "a.h5", "--pooling", "cls", "--dtype", "float32", *torch
    )
    assert "hf:./data:train (fingerprint" in run("inspect", "a.h5")
    run("fit", "a.h5", "-o", "head.joblib")
    run("predict", "head.joblib", "hf:./data:train[:3]", "-o", "out.jsonl", *torch)
    run("predict", "head.joblib", "data/train.parquet", "-o", "all.jsonl", *torch)
    expected = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()[:3]]
    assert [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()] == expected
    run("report", "head.joblib", "a.h5", "--tweets", "hf:./data", "-o", "r.html")
    assert "good day" in Path("r.html").read_text()


@pytest.mark.parametrize("name", ["hf:./data", "hf:data:train[:2]"])
def test_a_file_of_the_folder_is_never_replaced(name, here):
    write(here / "data", "csv")
    with pytest.raises(InputError, match="is an input too"):
        check_replaceable(here / "data/train.csv", [name])
    (here / "other.csv").write_text("")
    check_replaceable(here / "other.csv", [name, "hf:imdb"])


# --- the hub ------------------------------------------------------------------------------------

READ = """
import json, sys
from features.errors import FrostlineError
from features.tweets.reader import TweetReader
found = {}
for name in sys.argv[1:]:
    try:
        reader = TweetReader(name)
        rows = [(tweet.text, tweet.label) for tweet in reader]
        (read,) = reader.findings.files.values()
        found[name] = [rows, str(reader), read.format]
    except FrostlineError as error:
        found[name] = [type(error).__mro__[-4].__name__, str(error)]
json.dump(found, sys.stdout)
"""
SENTIMENT = [["a", "neg"], ["b", "pos"]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with one good repository and some others."""
    root = tmp_path_factory.mktemp("hub")
    folder = root / "cardiff" / "tweet_eval"
    (folder / "sentiment").mkdir(parents=True)
    features = Features(text=Value("string"), label=ClassLabel(names=["neg", "pos"]))
    for split, rows in {
        "train": {"text": ["a", "b"], "label": [0, 1]},
        "test": {"text": ["c"], "label": [-1]},
    }.items():
        path = folder / "sentiment" / f"{split}-00000-of-00001.parquet"
        Dataset.from_dict(rows, features=features).to_parquet(path)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: sentiment\n  data_files:\n"
        "  - split: train\n    path: sentiment/train-*\n"
        "  - split: test\n    path: sentiment/test-*\n"
        "- config_name: away\n  data_files: /etc/host*\n---\n"
    )
    for name in ("gated", "script", "empty"):
        (root / "owner" / name).mkdir(parents=True)
    (root / "owner/gated/README.md").write_text("behind a gate")
    (root / "owner/script/script.py").write_text("open('ran', 'w')")
    return root


def read(names, endpoint, home, **more):
    """Read data sets in a process of its own, as all of these settings are read at its start."""
    result = subprocess.run(
        [sys.executable, "-c", READ, *names],
        capture_output=True,
        text=True,
        cwd=home,
        timeout=120,
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home / "home"),
            "PYTHONPATH": str(ROOT),
            **more,
        },
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_hub(hub, tmp_path):
    whole, label = "hf:cardiff/tweet_eval/sentiment", "Hugging Face data set"
    expected = {
        # An id, its configuration, its split; an older name of it, and what that might be else.
        f"{whole}:train": [SENTIMENT, f"{whole}:train@{COMMIT}", label],
        f"{whole}:test": [[["c", None]], f"{whole}:test@{COMMIT}", label],
        "hf:tweet_eval/sentiment:train": [SENTIMENT, f"{whole}:train@{COMMIT}", label],
        f"{whole}:train[:1]@v1": [SENTIMENT[:1], f"{whole}:train[:1]@{COMMIT}", label],
    }
    refused = {
        whole: 'the splits "train", "test": name one',
        f"{whole}:dev": "no split 'dev'",
        f"{whole}:train@v2": "has no revision 'v2'",
        "hf:cardiff/tweet_eval": 'needs a configuration; there are: "sentiment", "away"',
        "hf:cardiff/tweet_eval/nope": "no configuration 'nope'",
        "hf:cardiff/tweet_eval/away": "cannot be read",
        "hf:owner/gated": "is gated: ask for access at",
        "hf:owner/script": "code of a data set never runs here",
        "hf:owner/empty": "holds no files of data",
        "hf:owner/none": "nor is there a data set 'owner' with a configuration 'none'",
        "hf:none": "there is no data set 'none' on the hub, or it is private",
    }
    with serving(hub, gated=["owner/gated"], renamed={"tweet_eval": "cardiff/tweet_eval"}) as (
        endpoint,
        asked,
    ):
        found = read([*expected, *refused], endpoint, tmp_path)
    for name, rows in expected.items():
        assert found[name] == rows
    for name, said in refused.items():
        assert said in found[name][1], name
        assert "\n" not in found[name][1]
    assert not (tmp_path / "ran").exists()
    assert sum("train-00000-of-00001.parquet" in one for one in asked if "GET" in one) <= 2

    # Without the hub: what the cache has, and of the commit that is asked for alone.
    names = [
        f"{whole}:train",
        f"{whole}:train@{COMMIT[:9]}",
        "hf:tweet_eval/sentiment:train",
        f"{whole}:train@v1",
        "hf:owner/none",
        "hf:none",
    ]
    offline = read(names, endpoint, tmp_path, HF_HUB_OFFLINE="1")
    for name in names[:3]:
        assert offline[name] == [
            SENTIMENT,
            f"{whole}:train@{COMMIT}",
            f"{label} as the cache of this machine has it",
        ]
    assert f"is of the commit {COMMIT[:12]}" in offline[names[3]][1]
    assert "HF_HUB_OFFLINE is set" in offline[names[4]][1]
    assert "HF_HUB_OFFLINE is set" in offline[names[5]][1]
