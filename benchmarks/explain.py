"""Ask which word of a clear tweet `explain` names: a head in, how often it is a person's word out.

    python benchmarks/explain.py head.joblib

The tweets are in tests/data/clear_tweets.csv, with the words of which a person would name one. They
were written for this project before any head had seen them. The word that is named is the one
without which the log-odds of the label fall most.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from pipeline.explaining.explain import explain
from pipeline.head.head import load_head
from pipeline.scoring.predict import encoders_for

TWEETS = Path(__file__).parents[1] / "tests" / "data" / "clear_tweets.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head", type=Path)
    head = load_head(parser.parse_args().head)
    encoders = encoders_for(head)
    with TWEETS.open(encoding="utf-8", newline="") as file:
        tweets = list(csv.DictReader(file))
    named = labelled = 0
    print("| tweet | label | word | effect | next word | effect |\n|---|---|---|---|---|---|")
    for tweet in tweets:
        found = explain(head, tweet["text"], encoders)
        first, second = sorted(found.words, key=lambda one: -one.effect)[:2]
        label, word = found.labels[found.winner], found.word(first)
        is_named = word in tweet["words"].split()
        named += is_named
        labelled += label == tweet["label"]
        print(
            f"| {tweet['text']} | {label} | {word}{'' if is_named else ' (!)'} "
            f"| {first.effect:+.2f} | {found.word(second)} | {second.effect:+.2f} |"
        )
    print(f"\n{named} of {len(tweets)} words, {labelled} of {len(tweets)} labels")


if __name__ == "__main__":
    main()
