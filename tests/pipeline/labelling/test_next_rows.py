"""A list to fill in, from the library and from the command line, and back into a reader."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from stores import LABELS, OTHER_SPEC, blobs, write_store

from features.errors import FileRefused, InputError
from features.tweets.reader import Tweet, TweetReader
from pipeline.cli.commands import main
from pipeline.fit import fit
from pipeline.head.head import save_head
from pipeline.labelling.next_rows import RANDOM, TYPICAL, UNCERTAIN, next_rows

N = 200


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A head, a pool of rows without labels and the tweets of it."""
    folder = tmp_path_factory.mktemp("next")
    X, y = blobs(300, 8, 3)
    head = fit(write_store(folder / "train.h5", X, y), C=0.01).head
    save_head(head, folder / "head.joblib")
    pool, _ = blobs(N, 8, 3, seed=5)
    write_store(folder / "pool.h5", pool, [-1] * N)
    with (folder / "tweets.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text"])
        rows.writerows([f"row-{i}", f'text {i}, "so"\nit goes'] for i in range(N))
    return folder, head


def test_what_is_chosen(files):
    folder, head = files
    found = next_rows(head, folder / "pool.h5", number=50)
    assert len(found.ids) == len(set(found.ids)) == 50
    assert found.ids == [f"row-{row}" for row in found.rows]
    assert [found.why.count(one) for one in (UNCERTAIN, RANDOM)] == [45, 5]
    assert found.why[:10].count(RANDOM) == 1  # spread evenly
    assert (found.pool, found.labelled) == (N, 0)
    again = next_rows(head, folder / "pool.h5", number=50)
    assert again.ids == found.ids
    assert next_rows(head, folder / "pool.h5", number=50, seed=1).ids != found.ids


def test_uncertain_rows_are_less_sure_than_others(files):
    folder, head = files
    X, _ = blobs(N, 8, 3, seed=5)
    sure = head.predict_proba(X).max(axis=1)
    found = next_rows(head, folder / "pool.h5", number=30)
    chosen = [row for row, why in zip(found.rows, found.why, strict=True) if why == UNCERTAIN]
    assert sure[chosen].mean() < sure.mean()


def test_a_head_of_few_rows_asks_for_typical_ones(files):
    folder, head = files
    few = dataclasses.replace(head, metadata={**head.metadata, "class_rows": [9, 40, 40]})
    found = next_rows(few, folder / "pool.h5", number=20)
    assert [found.why.count(one) for one in (TYPICAL, RANDOM)] == [18, 2]


def test_labelled_rows_are_left_out_and_more_is_asked_than_there_is(files, tmp_path):
    _, head = files
    X, y = blobs(60, 8, 3, seed=2)
    y[::3] = -1
    found = next_rows(head, write_store(tmp_path / "s.h5", X, y), number=1000)
    assert sorted(found.rows.tolist()) == list(range(0, 60, 3))
    assert (found.pool, found.labelled) == (20, 40)


def test_what_was_labelled_since_is_not_listed_again(files, tmp_path):
    folder, head = files
    first = next_rows(head, folder / "pool.h5", number=30)
    X, _ = blobs(N, 8, 3, seed=5)
    done = write_store(
        tmp_path / "done.h5",
        X[first.rows],
        [k % 3 for k in range(30)],
        ids=first.ids,
        texts=[f"text {row}" for row in first.rows],
    )
    second = next_rows(head, [folder / "pool.h5", done], number=30)
    assert not set(first.ids) & set(second.ids)
    assert (second.pool, second.labelled) == (N - 30, 60)


def test_one_text_is_asked_for_once(files, tmp_path):
    _, head = files
    X, _ = blobs(40, 8, 3, seed=2)
    texts = [f"text {i % 20}" for i in range(40)]
    X = X[np.arange(40) % 20]
    store = write_store(tmp_path / "s.h5", X, [-1] * 40, texts=texts)
    found = next_rows(head, store, number=40)
    chosen = [texts[row] for row in found.rows]
    assert len(chosen) == len(set(chosen)) <= 20


def test_two_encoders(tmp_path):
    X, y = blobs(120, 8, 3)

    def written(name, part, labels, **options):
        return write_store(tmp_path / name, part, labels, **options)

    one, other = written("a.h5", X[:, :4], y), written("b.h5", X[:, 4:], y, spec=OTHER_SPEC)
    head = fit([one, other], C=0.01).head
    bare = [-1] * 120
    ids, texts = [f"row-{i}" for i in range(2, 120)], [f"text {i}" for i in range(2, 120)]
    pool = [
        written("c.h5", X[:, :4], bare),
        written("d.h5", X[2:, 4:], bare[2:], spec=OTHER_SPEC, ids=ids, texts=texts),
    ]
    found = next_rows(head, pool, number=10)
    assert found.pool == 118
    assert found.ids == [f"row-{row}" for row in found.rows]


def test_the_list_goes_back_into_extract(files, tmp_path):
    """Labels filled in by hand are read as any tweets are, and their texts are as they were."""
    folder, _ = files
    output = tmp_path / "next.csv"
    arguments = ["label-next", str(folder / "head.joblib"), str(folder / "pool.h5"), "-n", "20"]
    arguments += ["--tweets", str(folder / "tweets.csv"), "-o", str(output)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "20 rows to label (uncertain 18, random 2), of 200 without a label" in result.output
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "row", "text", "label", "why"]
    assert {row["label"] for row in rows} == {""}
    for row in rows[:5]:
        row["label"] = "positive"
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    read = [one for one in TweetReader([output]) if isinstance(one, Tweet)]
    assert [one.label for one in read] == ["positive"] * 5 + [None] * 15
    assert [one.id for one in read] == [row["id"] for row in rows]
    assert all(one.text == f'text {one.id[4:]}, "so"\nit goes' for one in read)


def test_without_tweets_there_are_no_texts(files):
    folder, _ = files
    arguments = ["label-next", str(folder / "head.joblib"), str(folder / "pool.h5"), "-n", "3"]
    lines = CliRunner().invoke(main, arguments).stdout.splitlines()
    assert [list(json.loads(line)) for line in lines] == [["id", "row", "label", "why"]] * 3


def refused(*arguments):
    result = CliRunner().invoke(main, ["label-next", *map(str, arguments)])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    return result.output


def test_wrong_tweets_are_refused(files, tmp_path):
    folder, _ = files
    head, pool, output = folder / "head.joblib", folder / "pool.h5", tmp_path / "next.csv"
    some = tmp_path / "some.csv"
    some.write_text("id,text\nrow-0,a\n", encoding="utf-8")
    assert "--tweets has no tweet with id" in refused(head, pool, "--tweets", some, "-o", output)
    twice = tmp_path / "twice.csv"
    text = "".join(f"row-{i},a\nrow-{i},b\n" for i in range(N))
    twice.write_text("id,text\n" + text, encoding="utf-8")
    assert "several texts in --tweets" in refused(head, pool, "--tweets", twice, "-o", output)
    assert "--text-column: which tweets?" in refused(head, pool, "--text-column", "a")
    assert not output.exists()


def test_what_is_refused(files, tmp_path):
    folder, head = files
    with pytest.raises(InputError, match="`number` is -1"):
        next_rows(head, folder / "pool.h5", number=-1)
    with pytest.raises(InputError, match="raise `memory`"):
        next_rows(head, folder / "pool.h5", memory=100)
    with pytest.raises(InputError, match="no row without a label"):
        next_rows(head, folder / "train.h5")
    X, _ = blobs(N, 8, 3)
    other = write_store(tmp_path / "o.h5", X, [-1] * N, labels=LABELS, spec=OTHER_SPEC)
    with pytest.raises(FileRefused, match="extract the"):
        next_rows(head, other)
