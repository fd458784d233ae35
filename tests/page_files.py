"""Files that commands of the documentation find: each page names those that it needs.

Every page runs in a folder of its own, with the first of the example tweets, or with all of them
if it names `every-example`, and with those to be labelled; both lie in `examples/` there as well.
The files are made once, when the first page asks for them, and copied.
"""

import csv
import json
import shutil
from contextlib import chdir
from pathlib import Path

from features import extract
from pipeline import fit, save_head

ROOT = Path(__file__).parents[1]


def rows_of_examples():
    with (ROOT / "examples" / "tweets.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_features(path, source):
    """Vectors of the tweets of another file at hand."""
    extract([source], path)


def make_timeline(path):
    """Tweets with the day that they are of, and a topic."""
    rows = rows_of_examples()[:200]
    for number, row in enumerate(rows):
        row |= {"day": f"2026-05-{1 + number // 100:02}", "topic": ("bus", "tram")[number % 2]}
    write_csv(path, rows)


def make_tweet_eval(path):
    """Three files as TweetEval has them: texts, numbers of labels, names of labels."""
    rows = rows_of_examples()[:40]
    names = ["negative", "neutral", "positive"]
    lines = {
        "val_text.txt": [" ".join(row["text"].split()) for row in rows],
        "val_labels.txt": [str(names.index(row["label"])) for row in rows],
        "mapping.txt": [f"{number}\t{name}" for number, name in enumerate(names)],
    }
    path.write_text("".join(f"{line}\n" for line in lines[path.name]), encoding="utf-8")


def make_corrections(path):
    rows = rows_of_examples()[:30]
    write_csv(path, [{"id": row["id"], "label": row["label"]} for row in rows])


def make_texts(path):
    lines = [json.dumps({"text": row["text"]}) for row in rows_of_examples()[:20]]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_pool(path):
    """Tweets without labels."""
    rows = rows_of_examples()[400:600]
    write_csv(path, [{"id": row["id"], "text": row["text"]} for row in rows])


def copy_of_benchmarks(path):
    """A file that is not the tests' own."""
    shutil.copy(ROOT / "benchmarks" / path.name, path)


# How each is made, and what it is made from.
MAKERS = {
    "tweets.h5": (lambda path: make_features(path, "tweets.csv"), []),
    "head.joblib": (lambda path: save_head(fit("tweets.h5").head, path), ["tweets.h5"]),
    "pool.csv": (make_pool, []),
    "pool.h5": (lambda path: make_features(path, "pool.csv"), ["pool.csv"]),
    "train.csv": (lambda path: write_csv(path, rows_of_examples()[:200]), []),
    "train.h5": (lambda path: make_features(path, "train.csv"), ["train.csv"]),
    "labelled.csv": (lambda path: write_csv(path, rows_of_examples()[600:800]), []),
    "test.h5": (lambda path: make_features(path, "labelled.csv"), ["labelled.csv"]),
    "timeline.csv": (make_timeline, []),
    "tweets.jsonl": (make_texts, []),
    "val_text.txt": (make_tweet_eval, []),
    "val_labels.txt": (make_tweet_eval, []),
    "mapping.txt": (make_tweet_eval, []),
    "assumed-gpu.json": (copy_of_benchmarks, []),
    "corrections.csv": (make_corrections, []),
    "shards": (lambda path: extract(["train.csv"], path, shard_rows=100), ["train.csv"]),
}
# Models that are too large for tests: a folder of the name has a tiny one with random weights.
STAND_INS = {"bert-base-uncased": "bert", "google-bert/bert-base-uncased": "bert"}
EVERY_EXAMPLE = "every-example"
AT_HAND = {*MAKERS, *STAND_INS, EVERY_EXAMPLE}
SOME_ROWS = 300
# As in examples/.
EXAMPLES = ("tweets.csv", "new_tweets.csv")


def label_by_hand(path):
    """Fill the empty labels of a table, as a reader would: with those of the examples."""
    known = {row["id"]: row["label"] for row in rows_of_examples()}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows, f"{path} has no rows"
    write_csv(path, [row | {"label": row["label"] or known[row["id"]]} for row in rows])


class PageFiles:
    """Make files in a folder when they are asked for first, and copy them from there.

    Parameters
    ----------
    folder
        An empty one.
    n_rows
        How many of the example tweets there are; None: all.
    tiny_model
        Gives the folder of a tiny model of an architecture.
    """

    def __init__(self, folder, n_rows, tiny_model):
        self.folder, self.tiny_model = folder, tiny_model
        write_csv(folder / "tweets.csv", rows_of_examples()[:n_rows])
        shutil.copy(ROOT / "examples" / "new_tweets.csv", folder)
        (folder / "examples").mkdir()
        for name in EXAMPLES:
            shutil.copy(folder / name, folder / "examples")

    def fill(self, page_folder, names):
        """Put the tweets into the folder of a page, and the files of these names."""
        (page_folder / "examples").symlink_to(self.folder / "examples")
        for name in [*EXAMPLES, *names]:
            is_model = name in STAND_INS
            source = self.tiny_model(STAND_INS[name]) if is_model else self._made(name)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, page_folder / name)

    def _made(self, name):
        path = self.folder / name
        if not path.exists():
            make, needed = MAKERS[name]
            for other in needed:
                self._made(other)
            with chdir(self.folder):
                make(Path(name))
        return path
