"""A column of groups, read as labels are, in every format that has columns."""

import pytest
from test_tweets import WITH_COLUMNS, WRITERS, put, read

from features.errors import InputError
from features.tweets.reader import Tweet

ROWS = [
    {"id": "1", "text": "one", "label": "good", "day": "monday"},
    {"id": "2", "text": "two", "label": "bad", "day": " tuesday "},
    {"id": "3", "text": "three", "label": "good", "day": "nan"},
]


@pytest.mark.parametrize("suffix", WITH_COLUMNS)
def test_groups_are_read_beside_labels(suffix, tmp_path):
    path = put(tmp_path, f"in{suffix}", WRITERS[suffix](ROWS))
    tweets = read(path, group="day")
    assert all(isinstance(tweet, Tweet) for tweet in tweets)
    assert [tweet.group for tweet in tweets] == ["monday", "tuesday", None]
    assert [tweet.label for tweet in tweets] == ["good", "bad", "good"]
    assert [tweet.group for tweet in read(path)] == [None] * 3


def test_the_column_of_the_labels_can_be_that_of_the_groups(tmp_path):
    path = put(tmp_path, "in.csv", WRITERS[".csv"](ROWS))
    assert [tweet.group for tweet in read(path, group="label")] == ["good", "bad", "good"]


def test_a_column_that_is_not_there_is_refused(tmp_path):
    path = put(tmp_path, "in.csv", WRITERS[".csv"](ROWS))
    with pytest.raises(InputError, match=r"no column 'topic' is there.*choose one with `by`"):
        read(path, group="topic")


def test_a_group_that_is_none_makes_a_reject(tmp_path):
    path = put(tmp_path, "in.jsonl", '{"text": "one", "day": ["a"]}\n{"text": "two", "day": "b"}\n')
    reject, tweet = read(path, group="day")
    assert not isinstance(reject, Tweet)
    assert tweet.group == "b"
