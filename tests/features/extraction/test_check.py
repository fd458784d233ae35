"""What `check` tells of files: each fact of a report, on files that are written here."""

import json
import random
from collections import Counter

import pytest

from features.errors import InputError
from features.extraction.check import Conflict, Example, check, script_of
from features.tweets.columns import Columns
from features.tweets.reader import Reject, Tweet, TweetReader
from features.tweets.table import InputFormat

CONTENT = '''id;text;Sentiment;my_label;user
1;so happy @ann https://t.co/x;positive;a;u
2;so sad;negative;b;v
2;so sad;positive;b;v
4;so sad;negative;b;v
5;привет всем;Positive;a;u
6;  ;NA;a;u
7;!?;negative;a;u
8;"never, ""ever""";negative;a;u
9;too;many;cells;in;it
10;few
'''
# What must be told of it; what is not here is tested below.
EXPECTED = {
    "rows": 10,
    "tweets": 8,
    "rejected": 2,
    "reasons": {"N cells under N columns": 2},
    "labels": {"Positive": 1, "negative": 4, "positive": 2},
    "missing_labels": {"NA": 1},
    "label_variants": [["Positive", "positive"]],
    "empty": 1,
    "repaired": 0,
    "same_texts": 2,
    "doubled_ids": 1,
    "conflicts": 1,
    "examples_of_conflicts": [Conflict("so sad", {"negative": 2, "positive": 1})],
    "characters": {"median": 6, "mean": 9, "longest": 28},
    "scripts": {"Latin": 5, "none": 2, "Cyrillic": 1},
    "verdict": "look",
}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(CONTENT, encoding="utf-8")
    return path


@pytest.fixture
def report(table):
    return check([table])


@pytest.mark.parametrize("fact", EXPECTED)
def test_facts(report, fact):
    assert getattr(report, fact) == EXPECTED[fact]


def test_how_it_is_read(report, table):
    assert report.read == {
        str(table): 'text from "text", label from "Sentiment", id from "id" '
        "(CSV, UTF-8, semicolons, quoted cells)"
    }
    assert report.left == {str(table): ["my_label", "user"]}


def test_rejects_are_shown(report, table):
    first, second = report.examples_of_rejects
    assert (first["source"], first["line"]) == (str(table), 10)
    assert first["reason"] == '6 cells under 5 columns: "9;too;many;cells;in;it"'
    assert second["line"] == 11


def test_rows_are_shown_as_they_stand_and_as_they_will_be_read(report):
    assert report.examples[0] == Example(
        "1", "positive", "so happy @ann https://t.co/x", "so happy @user http"
    )
    assert [example.id for example in report.examples] == ["1", "2", "2", "4", "5"]


def test_what_is_odd_is_said(report):
    for part in (
        '"my_label" may hold labels too: choose with `label_column`',
        'labels that are read as missing: "NA" 1',
        '"Positive" 1, "positive" 2; merge with `label_case=fold`',
        "1 rows have the id of an earlier row",
    ):
        assert any(part in remark for remark in report.remarks), part


def test_normalising_is_that_which_is_asked_for(table):
    first = check([table], normalize="none").examples[0]
    assert first.normalised == first.text


def test_it_can_be_written_as_json(report):
    content = json.loads(json.dumps(report.to_dict()))
    assert content["labels"] == EXPECTED["labels"]
    assert content["examples_of_conflicts"][0]["labels"] == {"negative": 2, "positive": 1}


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        ("id,text,label\n1,a,x\n2,b,y\n", "fine"),
        ("id,text,label\n1,a,x\n2,a,y\n", "look"),  # a conflict
        ("id,text,label\n1,a,x\n1,b,y\n", "look"),  # an id twice
        ("id,text,label\n" + "1,a,b,c\n" + "".join(f"{n},t{n},x\n" for n in range(2, 60)), "look"),
        ("id,text,label\n1,a,x\n2,b,c,y\n3,d,x\n", "refused"),  # a third of it
        ("id,text,label\n", "refused"),  # nothing
    ],
)
def test_verdicts(tmp_path, content, verdict):
    path = tmp_path / "a.csv"
    path.write_text(content)
    assert check([path]).verdict == verdict


def test_bytes_that_are_no_text_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a\\ud800"}\n{"text": "b"}\n')
    report = check([path])
    assert (report.repaired, report.tweets) == (1, 2)
    assert report.examples[0].text == "a\ufffd"


def test_several_files_and_what_is_said_of_them(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "sentiment": 2}\n')
    (tmp_path / "b.txt").write_text("a\n")
    paths = [tmp_path / "a.jsonl", tmp_path / "b.txt"]
    report = check(paths)
    assert (report.rows, report.same_texts, report.labels) == (3, 1, {"1": 1})
    assert list(report.read) == list(map(str, paths))
    assert report.left[str(paths[0])] == ["sentiment"]
    with pytest.raises(InputError, match="no column 'no such'"):
        check(paths[:1], Columns(text="no such"))
    assert check(paths[1:], written=InputFormat(format="txt")).tweets == 1


def test_progress_is_told(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a tweet\n" * 20_000)
    seen = []
    check([path], progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) >= 3
    assert seen[-1] > 0.9


def random_table(seed):
    """Rows as people have them, many of them the same."""
    chance = random.Random(seed)
    texts = ["so happy", "so sad", "", "  ", "при\u0301вет", "日本", "don't", "!?", "@a 1", "Ünï"]
    labels = ["a", "A", " a", "b", "", "NA", "1", "1.0"]
    rows = [
        [str(chance.randrange(40)), chance.choice(texts), chance.choice(labels)]
        for _ in range(chance.randrange(1, 60))
    ]
    if chance.random() < 0.5:
        rows.insert(chance.randrange(len(rows)), ["1", "2"])
    return "\n".join(",".join(row) for row in [["id", "text", "label"], *rows]) + "\n"


@pytest.mark.parametrize("seed", range(30))
def test_counts_are_those_of_counting_the_rows_that_extract_reads(tmp_path, seed):
    path = tmp_path / "a.csv"
    path.write_text(random_table(seed), encoding="utf-8")
    rows = list(TweetReader([path]))
    tweets = [row for row in rows if isinstance(row, Tweet)]
    by_text = {}
    for tweet in tweets:
        by_text.setdefault(tweet.text, Counter())[tweet.label] += tweet.label is not None
    conflicts = {text: dict(+counts) for text, counts in by_text.items() if len(list(+counts)) > 1}
    report = check([path])
    assert report.rows == len(rows)
    assert report.rejected == sum(isinstance(row, Reject) for row in rows)
    assert report.tweets == len(tweets)
    assert report.labels == Counter(t.label for t in tweets if t.label is not None)
    assert report.empty == sum(not tweet.text.strip() for tweet in tweets)
    assert report.same_texts == len(tweets) - len(by_text)
    assert report.conflicts == len(conflicts)
    for example in report.examples_of_conflicts:
        assert example.labels == conflicts[example.text]
    assert report.scripts == Counter(script_of(tweet.text) for tweet in tweets)
    lengths = sorted(len(tweet.text) for tweet in tweets)
    assert report.characters["median"] == lengths[(len(lengths) - 1) // 2]
    assert report.characters["longest"] == lengths[-1]
