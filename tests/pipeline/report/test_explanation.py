"""What `explain` prints: figures made by hand, in the lines where a reader looks for them."""

import dataclasses

import numpy as np
import pytest

from pipeline.explaining.explain import Explanation, WordEffect
from pipeline.explaining.logits import TRAINING_MEAN, ViewShares
from pipeline.explaining.training import Training, TrainingTweet
from pipeline.report.explanation import explanation_text

GREEN, RED, BOLD, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


def word(start, stop, effect, p):
    return WordEffect(start, stop, effect, np.array([1 - p, p]))


def training(**more):
    tweets = [
        TrainingTweet("a", 0, 1, "yes", 0.25, 0.3, "a  short\ntweet"),
        TrainingTweet("b\x1b[2J", 1, 3, "no", 0.125),
    ]
    options = {"of_head": 1.0, "of_refit": 1.001, "same_rows": True, "mean": np.zeros(2)} | more
    return Training(tuple(tweets), (), 1200, 1000, **options)


@pytest.fixture
def found():
    return Explanation(
        "not a bad, bad day",
        ("no", "yes"),
        np.array([0.25, 0.75]),
        np.array([0.0, np.log(3)]),
        (
            word(0, 3, 2.0, 0.2),
            word(4, 5, 0.01, 0.7),
            word(6, 9, -1.0, 0.9),
            word(11, 14, 0.5, 0.5),
        ),
        5,
        False,
        0.5,
        ViewShares(("cls",), np.array([[0.0, 1.0]]), np.array([0.0, np.log(3) - 1]), TRAINING_MEAN),
    )


def lines(found, **more):
    return explanation_text(found, **({"colours": False} | more)).splitlines()


def test_figures_stand_where_they_belong(found):
    shown = lines(found)
    assert shown[:4] == ["yes", "yes 0.750, no 0.250", "", "not a bad, bad day"]
    at = shown.index("Words: how much the log-odds of yes fall without each")
    assert [line.split() for line in shown[at + 2 : at + 6]] == [
        ['"not"', "+2.00", "0.200", "no"],
        ['"bad"', "-1.00", "0.900", "yes"],
        ['"bad"', "+0.50", "0.500", "no"],
        ['"a"', "+0.01", "0.700", "yes"],
    ]
    at = shown.index("Views: what each adds to the logit of yes less that of no")
    assert [line.rsplit(maxsplit=1) for line in shown[at + 2 : at + 5]] == [
        ["the mean of the training vectors", "+0.099"],
        ["cls", "+1.000"],
        ["together", "+1.099"],
    ]
    assert "! the text has 5 words; the first 4 were left out one by one, the others were" in shown
    assert not [line for line in shown if "Training" in line]


def test_strong_words_have_colours(found):
    shown = lines(found, colours=True)[3]
    assert shown == (f"{BOLD}{GREEN}not{PLAIN} a {BOLD}{RED}bad{PLAIN}, {GREEN}bad{PLAIN} day")


def test_training_tweets(found):
    shown = lines(with_training(found, training()))
    at = next(n for n, line in enumerate(shown) if line.endswith("speaking for yes"))
    assert shown[at + 1].split(maxsplit=3) == ["yes", "+0.2500", "+0.3000", "a short tweet"]
    assert shown[at + 2].split(maxsplit=2) == ["no", "+0.1250", '3 times: "b\\u001b[2J"']
    assert "None speaks against yes." in shown
    assert "was not fitted" not in " ".join(shown)


@pytest.mark.parametrize("more", [{"same_rows": False}, {"of_refit": 1.5}])
def test_rows_of_another_fit_are_told(found, more):
    shown = " ".join(lines(with_training(found, training(**more))))
    assert "the head was not fitted on just these rows and labels" in shown


def with_training(found, training):
    return dataclasses.replace(found, training=training)
