import csv
from collections import Counter
from pathlib import Path

import pytest

from features.tweets.reader import Tweet, TweetReader

EXAMPLES = Path(__file__).parents[1] / "examples"
TWEETS, NEW_TWEETS = EXAMPLES / "tweets.csv", EXAMPLES / "new_tweets.csv"
CLASSES = ("negative", "neutral", "positive")


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.mark.parametrize(("path", "header"), [(TWEETS, "id,text,label"), (NEW_TWEETS, "id,text")])
def test_header(path, header):
    with path.open(encoding="utf-8") as file:
        assert file.readline().rstrip() == header


@pytest.mark.parametrize("path", [TWEETS, NEW_TWEETS])
def test_every_row_is_usable(path):
    rows, tweets = table(path), list(TweetReader([path]))
    assert [(row["id"], row["text"], row.get("label")) for row in rows] == [
        (tweet.id, tweet.text, tweet.label) for tweet in tweets
    ]
    assert all(isinstance(tweet, Tweet) and not tweet.repaired for tweet in tweets)
    assert all(tweet.text.strip() for tweet in tweets)
    assert len({tweet.id for tweet in tweets}) == len(tweets)


def test_labelled_tweets():
    rows = table(TWEETS)
    assert len(rows) >= 900
    classes = Counter(row["label"] for row in rows)
    assert set(classes) == set(CLASSES)
    assert all(270 <= n <= 330 for n in classes.values()), classes


def test_some_labelled_tweets_are_there_twice():
    times = Counter(row["text"] for row in table(TWEETS))
    assert 1 <= sum(n - 1 for n in times.values()) <= 50


def test_new_tweets_are_new():
    rows = table(NEW_TWEETS)
    assert len(rows) == 60
    labelled = table(TWEETS)
    assert not {row["id"] for row in rows} & {row["id"] for row in labelled}
    assert not {row["text"] for row in rows} & {row["text"] for row in labelled}
