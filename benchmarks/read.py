"""How fast tables of tweets are read, and looked at by `frostline check`, in rows a second.

    python benchmarks/read.py [--rows 200000] [--rounds 3]

The tables are made here, with invented tweets: one of which every third text has commas and quotes,
one of plain cells, JSON Lines, and frames of pandas, polars and Arrow. Rates are by the time of the
processor, which a busy machine changes less than the time on the clock; the best round counts.
"""

from __future__ import annotations

import csv
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
import polars as pl
import pyarrow as pa

from features.extraction.check import check
from features.tweets.reader import TweetReader

WORDS = (
    "the",
    "bus",
    "was",
    "late",
    "again",
    "I",
    "love",
    "this",
    "song",
    "why",
    "does",
    "it",
    "rain",
)
LABELS = ("negative", "neutral", "positive")


@click.command()
@click.option("--rows", default=200_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(rows: int, rounds: int) -> None:
    """Time reading and `check` on tables made here."""
    print("| table | rows/s read | rows/s checked |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name, table in tables(Path(scratch), rows).items():
            read = best(lambda table=table: sum(1 for _ in TweetReader([table])), rounds)
            looked = best(lambda table=table: check([table]).rows, rounds)
            print(f"| {name} | {read:,.0f} | {looked:,.0f} |", flush=True)


def tables(folder: Path, rows: int) -> dict[str, Any]:
    """Write the tables, and make the frames."""
    rng = random.Random(0)
    tweets = [
        (f"{10**17 + n}", " ".join(rng.choices(WORDS, k=rng.randint(5, 20))), rng.choice(LABELS))
        for n in range(rows)
    ]
    paths = {"CSV with quoted cells": folder / "quoted.csv", "plain CSV": folder / "plain.csv"}
    for name, path in paths.items():
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "text", "label"))
            for number, (identity, text, label) in enumerate(tweets):
                quoted = name.startswith("CSV") and number % 3 == 0
                writer.writerow((identity, f'{text}, "{text[:9]}"' if quoted else text, label))
    paths["JSON Lines"] = folder / "tweets.jsonl"
    with paths["JSON Lines"].open("w", encoding="utf-8") as file:
        for identity, text, label in tweets:
            print(json.dumps({"id": identity, "text": text, "label": label}), file=file)
    frame = pd.DataFrame(tweets, columns=["id", "text", "label"])
    return {
        **paths,
        "frame of pandas": frame,
        "frame of polars": pl.from_pandas(frame),
        "table of Arrow": pa.Table.from_pandas(frame),
    }


def best(count: Callable[[], int], rounds: int) -> float:
    """Give the rate of the fastest round."""
    rates = []
    for _ in range(rounds):
        started = time.process_time()
        rates.append(count() / (time.process_time() - started))
    return max(rates)


if __name__ == "__main__":
    main()
