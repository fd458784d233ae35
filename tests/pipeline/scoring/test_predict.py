"""Scoring, with a tiny model and a head fitted on examples/tweets.csv, in float32."""

import csv
import dataclasses
import gzip
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import log_loss
from stores import SPEC, blobs, make_head, write_store
from threadpoolctl import threadpool_limits

from features.encoder.encoder import FrozenEncoder
from features.errors import CannotContinue, FileRefused, InputError
from features.extract import extract
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import make_spec
from features.store.reader import FeatureStore
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog
from pipeline.cli.commands import main
from pipeline.data.join import open_joined
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.scoring.evaluate import evaluate
from pipeline.scoring.output_files import check_output, write_scores
from pipeline.scoring.predict import score_stores, score_tweets, scored

EXAMPLES = Path(__file__).parents[3] / "examples"
VIEW = "mean@last4+sum"
NEW = [
    ("a", "so happy for you two 🎉"),
    ("b", "worst service ever, never again"),
    ("c", "the council meets on tuesday at 6 pm"),
    ("d", 'she said "fine",\nand left\tat once'),
    ("a", "so happy for you two 🎉"),
    ("f", ""),
]


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("roberta")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """`train.h5` of 90 example tweets, `head.joblib` fitted on it; nothing to be changed."""
    folder = tmp_path_factory.mktemp("predict")
    with (EXAMPLES / "tweets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:90]
    write_csv(folder / "train.csv", [(r["id"], r["text"], r["label"]) for r in rows], "label")
    extract(
        folder / "train.csv",
        folder / "train.h5",
        model=model,
        pooling=VIEW,
        dtype="float32",
        store_dtype="float32",
        device="cpu",
    )
    save_head(fit(folder / "train.h5", C=0.01).head, folder / "head.joblib")
    write_csv(folder / "new.csv", NEW)
    extract(
        folder / "new.csv",
        folder / "new.h5",
        model=model,
        pooling=VIEW,
        dtype="float32",
        store_dtype="float32",
        device="cpu",
    )
    return folder


@pytest.fixture(scope="module")
def head(folder):
    return load_head(folder / "head.joblib")


def write_csv(path, rows, *more):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *more])
        writer.writerows(rows)
    return path


def run(*arguments):
    """The command line in this process; loading torch again for each call would take minutes."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def table(path, delimiter=","):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


def probabilities(rows, head):
    return np.array([[float(row[f"p_{name}"]) for name in head.labels] for row in rows])


@pytest.fixture(scope="module")
def expected(folder):
    """What scikit-learn alone says about the cached vectors of `new.csv`."""
    estimator = joblib.load(folder / "head.joblib")["estimator"]
    with FeatureStore(folder / "new.h5") as store:
        return estimator.predict_proba(store.read(VIEW))


def test_vectors_are_scored_as_by_the_plain_estimator(folder, head, expected, tmp_path):
    done("predict", folder / "head.joblib", folder / "new.h5", "-o", tmp_path / "vectors.csv")
    rows = table(tmp_path / "vectors.csv")
    assert [row["id"] for row in rows] == [identity for identity, _ in NEW]
    assert [row["label"] for row in rows] == [head.labels[k] for k in expected.argmax(axis=1)]
    assert np.abs(probabilities(rows, head) - expected).max() <= 1e-6


def test_texts_are_scored_as_their_vectors(folder, head, expected, model):
    encoder = FrozenEncoder(model, pooling=VIEW, dtype="float32", device="cpu")
    rows = TweetReader([folder / "new.csv"])
    (block,) = score_tweets(head, rows, [encoder], on_rejects=list)
    assert block.ids == [identity for identity, _ in NEW]
    assert block.texts == [text for _, text in NEW]
    assert np.abs(block.proba - expected).max() <= 1e-4


def test_head_of_float32_vectors_scores_in_float32(folder, head, expected, tmp_path):
    """Also where a half type is faster: borderline tweets must not change their label."""
    assert {source.precision for source in head.sources} == {"float32"}
    done("predict", folder / "head.joblib", folder / "new.csv", "-o", tmp_path / "text.csv")
    rows = table(tmp_path / "text.csv")
    assert [row["label"] for row in rows] == [head.labels[k] for k in expected.argmax(axis=1)]
    assert np.abs(probabilities(rows, head) - expected).max() <= 1e-4


def test_order_and_duplicates(folder, head, tmp_path):
    """Scored in the order of the input, whatever the lengths; equal texts get equal scores."""
    texts = ["x " * n for n in (1, 60, 2, 90, 3)] + [text for _, text in NEW]
    rows = [(f"{n}", text) for n, text in enumerate(texts * 2)]
    write_csv(tmp_path / "in.csv", rows)
    done("predict", folder / "head.joblib", tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    scored_rows = table(tmp_path / "out.csv")
    assert [row["id"] for row in scored_rows] == [identity for identity, _ in rows]
    proba = probabilities(scored_rows, head)
    # In half precision a text's vector depends a little on the batch that it is in.
    np.testing.assert_allclose(proba[: len(texts)], proba[len(texts) :], atol=0.01)
    done("predict", folder / "head.joblib", folder / "new.csv", "-o", tmp_path / "alone.csv")
    alone = probabilities(table(tmp_path / "alone.csv"), head)
    np.testing.assert_allclose(proba[5 : len(texts)], alone, atol=0.01)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("with_text", [False, True])
def test_output_formats(suffix, with_text, folder, head, tmp_path):
    out = tmp_path / f"out.{suffix}"
    flag = ["--with-text"] if with_text else []
    done("predict", folder / "head.joblib", folder / "new.csv", "-o", out, *flag)
    if suffix == "jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert all(isinstance(row["p_neutral"], float) for row in rows)
    else:
        rows = table(out, "\t" if suffix == "tsv" else ",")
    texts = ["text"] if with_text else []
    assert list(rows[0]) == ["id", *texts, "label", *(f"p_{name}" for name in head.labels), "flags"]
    assert [row["flags"] for row in rows] == ["" if text.strip() else "empty" for _, text in NEW]
    assert [row["id"] for row in rows] == [identity for identity, _ in NEW]
    if with_text:
        assert [row["text"] for row in rows] == [text for _, text in NEW]
    proba = probabilities(rows, head)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=3e-6)
    assert [row["label"] for row in rows] == [head.labels[k] for k in proba.argmax(axis=1)]


def test_json_lines_on_standard_output_and_nothing_else(folder):
    result = done("predict", folder / "head.joblib", folder / "new.csv")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["id"] for row in rows] == [identity for identity, _ in NEW]
    assert result.stderr == ""


def test_rejected_rows(folder, tmp_path):
    lines = ['{"id": 1, "text": "fine"}', "no json", '{"id": 2, "text": 5}', '{"text": "last"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out.csv"
    arguments = ("predict", folder / "head.joblib", tmp_path / "in.jsonl", "-o", out)
    refused = run(*arguments)
    assert (refused.exit_code, out.exists()) == (2, False)
    assert "2 of 4 rows were rejected, more than a fifth" in refused.stderr
    result = done(*arguments, "--allow-rejects")
    assert "WARNING: 2 of 4 rows were rejected" in result.stderr
    assert [row["id"] for row in table(out)] == ["1", "3"]
    rejects = tmp_path / "out.csv.rejects.jsonl"
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [reject["line"] for reject in found] == [2, 3]
    assert "rejected" in result.stdout
    assert str(rejects) in result.stdout
    # To standard output: they go to standard error instead, and stay out of the scores.
    result = done("predict", folder / "head.joblib", tmp_path / "in.jsonl")
    assert len(result.stdout.splitlines()) == 2
    assert [json.loads(line)["line"] for line in result.stderr.splitlines()] == [2, 3]
    # A clean run takes the old list away.
    done("predict", folder / "head.joblib", folder / "new.csv", "-o", out)
    assert not rejects.exists()


def test_strict_stops_and_writes_nothing(folder, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "fine"}\nno json\n')
    out = tmp_path / "out.csv"
    result = run("predict", folder / "head.joblib", tmp_path / "in.jsonl", "-o", out, "--strict")
    assert result.exit_code == 2
    assert "line 2: not JSON" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("content", ["id,text\n", "id,text\n1,a,b\n"])
@pytest.mark.parametrize("before", [None, "the scores of last week"])
def test_no_usable_tweet(content, before, folder, tmp_path):
    (tmp_path / "in.csv").write_text(content)
    out = tmp_path / "out.csv"
    if before is not None:
        out.write_text(before)
    result = run("predict", folder / "head.joblib", tmp_path / "in.csv", "-o", out)
    assert result.exit_code == 2
    assert "no usable tweet in" in result.stderr
    assert (out.read_text() if out.exists() else None) == before


def test_predict_replaces_an_older_output_as_a_whole(folder, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old\n" * 1000)
    done("predict", folder / "head.joblib", folder / "new.csv", "-o", out)
    assert len(table(out)) == len(NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_several_inputs_and_gzip(folder, tmp_path):
    with gzip.open(tmp_path / "more.txt.gz", "wt", encoding="utf-8") as file:
        file.write("one\ntwo\n")
    out = tmp_path / "out.csv"
    done("predict", folder / "head.joblib", folder / "new.csv", tmp_path / "more.txt.gz", "-o", out)
    assert [row["id"] for row in table(out)] == [identity for identity, _ in NEW] + ["6", "7"]


class Stream:
    """A real `predict HEAD -`, its input open, its output read by a thread."""

    def __init__(self, head, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "predict", str(head), "-", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=EXAMPLES.parent,
            # With buffers as they usually are, so that answers come only if they are brought out.
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def send(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()

    def answers(self, n):
        return [self.lines.get(timeout=120) for _ in range(n)]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(timeout=30)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


def as_line(identity, text):
    return json.dumps({"id": identity, "text": text})


def test_stream_answers_while_its_input_is_open(folder, head, tmp_path):
    done("predict", folder / "head.joblib", folder / "new.csv", "-o", tmp_path / "whole.jsonl")
    whole = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    with Stream(folder / "head.joblib", "--device", "cpu") as stream:
        stream.send(*(as_line(*row) for row in NEW[:2]))
        answers = stream.answers(2)
        assert stream.process.poll() is None
        stream.send("broken", as_line(*NEW[2]))
        answers += stream.answers(1)
        stream.send(*(as_line(*row) for row in NEW[3:]))
        stream.process.stdin.close()
        answers += stream.answers(len(NEW) - 3)
        assert stream.process.wait(timeout=120) == 0
        rejects = [json.loads(line) for line in stream.process.stderr.read().splitlines()]
        assert stream.lines.empty()
    assert [(r["line"], r["source"]) for r in rejects] == [(3, "standard input")]
    assert [row["id"] for row in answers] == [identity for identity, _ in NEW]
    assert [row["label"] for row in answers] == [row["label"] for row in whole]
    np.testing.assert_allclose(probabilities(answers, head), probabilities(whole, head), atol=0.01)


@pytest.fixture(scope="module")
def other_model(tiny_model):
    return tiny_model("bert")


@pytest.fixture
def lost(folder, model, tmp_path, monkeypatch):
    """`lost.joblib`, a head whose model is not where it says, and `copy`, where it is."""
    # No export of the model is known yet.
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).symlink_to(path)
    head = load_head(folder / "head.joblib")
    sources = tuple(
        dataclasses.replace(s, spec=dataclasses.replace(s.spec, model=str(tmp_path / "gone")))
        for s in head.sources
    )
    save_head(dataclasses.replace(head, sources=sources), tmp_path / "lost.joblib")
    return tmp_path / "lost.joblib", copy


def test_a_copy_of_the_model_elsewhere_will_do(folder, lost, tmp_path):
    """The same content in another folder; the head says where the first one was."""
    lost, copy = lost
    out = tmp_path / "out.csv"
    options = ["--backend", "torch"]
    result = run("predict", lost, folder / "new.csv", "-o", out, *options)
    assert result.exit_code == 2
    assert "say where it lies with --model" in result.stderr
    assert not out.exists()
    done("predict", lost, folder / "new.csv", "-o", out, "--model", copy, *options)
    # To know what is the fastest is not to have the model.
    again = run("predict", lost, folder / "new.csv", "-o", tmp_path / "again.csv", *options)
    assert again.exit_code == 2
    first = tmp_path / "first.csv"
    done("predict", folder / "head.joblib", folder / "new.csv", "-o", first, *options)
    assert out.read_text() == first.read_text()


def test_an_export_of_the_model_will_do(folder, lost, tmp_path):
    """Where the model was exported by an earlier run, its own files are not needed."""
    pytest.importorskip("openvino")
    lost, copy = lost
    options = ["--backend", "openvino", "--device", "cpu"]
    out, again = tmp_path / "out.csv", tmp_path / "again.csv"
    assert run("predict", lost, folder / "new.csv", "-o", out, *options).exit_code == 2
    done("predict", lost, folder / "new.csv", "-o", out, "--model", copy, *options)
    done("predict", lost, folder / "new.csv", "-o", again, *options)
    assert out.read_text() == again.read_text()
    shutil.rmtree(tmp_path / "cache" / "exports")
    result = run("predict", lost, folder / "new.csv", "-o", tmp_path / "third.csv", *options)
    assert result.exit_code == 2
    assert "say where it lies with --model" in result.stderr


def test_another_model_is_refused_though_it_reads_less(folder, head, other_model, tmp_path):
    """It reads 40 tokens, the head's encoder 128: it is still the other model that is wrong."""
    out = tmp_path / "out.csv"
    arguments = ["predict", folder / "head.joblib", folder / "new.csv", "-o", out]
    result = run(*arguments, "--model", other_model)
    assert list(tmp_path.iterdir()) == []
    assert result.exit_code == 3
    assert head.sources[0].spec.fingerprint[:12] in result.stderr


def test_a_model_of_other_weights_is_refused_by_both_fingerprints(other_model, folder, tmp_path):
    """A head of another encoder that reads as many tokens as this one."""
    found = make_spec(find_checkpoint(other_model))
    theirs = dataclasses.replace(SPEC, max_length=found.max_length)
    save_head(make_head(widths=(24,), spec=theirs), tmp_path / "head.joblib")
    out = tmp_path / "out.csv"
    result = run(
        "predict", tmp_path / "head.joblib", folder / "new.csv", "-o", out, "--model", other_model
    )
    assert result.exit_code == 3
    assert theirs.fingerprint[:12] in result.stderr
    assert found.fingerprint[:12] in result.stderr
    assert not out.exists()


def test_texts_are_rounded_as_the_vectors_of_the_fit(folder, model, tmp_path):
    """A head of a float16 store gives the same for a text and for its cached vector."""
    store = tmp_path / "s.h5"
    extract(
        folder / "train.csv",
        store,
        model=model,
        pooling=VIEW,
        dtype="float32",
        device="cpu",
    )
    # Hardly penalised, so that rounding shows.
    head = fit(store, C=1000, max_iter=50).head
    assert {source.store_dtype for source in head.sources} == {"float16"}
    encoder = FrozenEncoder(model, pooling=VIEW, dtype="float32", device="cpu")
    rows = TweetReader([folder / "train.csv"])
    (from_text,) = score_tweets(head, rows, [encoder], on_rejects=list)
    with open_joined(store) as opened:
        (from_vectors,) = score_stores(head, opened)
    # A value between two float16s may be rounded either way: a few digits of few rows.
    difference = np.abs(from_text.proba - from_vectors.proba).max(axis=1)
    assert np.median(difference) < 1e-9
    assert difference.max() < 1e-2


def test_evaluate_on_text_and_on_vectors(folder, tmp_path):
    arguments = [("train.csv", "text.json"), ("train.h5", "vectors.json")]
    figures = []
    for source, target in arguments:
        done("evaluate", folder / "head.joblib", folder / source, "--json", tmp_path / target)
        content = json.loads((tmp_path / target).read_text())
        assert content["measured_on"] == str(folder / source)
        figures.append(content["metrics"])
    text, vectors = figures
    assert text["rows"] == vectors["rows"] == 90
    # These move by the precision of the forward pass; labels and what is counted from them don't.
    for name in ("log_loss", "calibration_error"):
        assert text.pop(name) == pytest.approx(vectors.pop(name), abs=0.01)
    assert text == vectors


def test_evaluate_counts_rows_without_a_label(folder, tmp_path):
    rows = [("1", "so happy", "positive"), ("2", "no idea", ""), ("3", "so sad", "negative")]
    write_csv(tmp_path / "in.csv", rows, "label")
    result = done("evaluate", folder / "head.joblib", tmp_path / "in.csv")
    assert "(2 rows)" in result.stdout
    assert "1 rows without a label were left out" in result.stdout


def test_tweeteval_layout(folder, tmp_path):
    (tmp_path / "text.txt").write_text("so happy\nso sad\nat six\n")
    (tmp_path / "labels.txt").write_text("2\n0\n1\n")
    (tmp_path / "mapping.txt").write_text("0\tnegative\n1\tneutral\n2\tpositive\n")
    layout = ["--labels", tmp_path / "labels.txt"]
    mapping = ["--mapping", tmp_path / "mapping.txt"]
    done(
        "evaluate",
        folder / "head.joblib",
        tmp_path / "text.txt",
        *layout,
        *mapping,
        "--json",
        tmp_path / "m.json",
    )
    metrics = json.loads((tmp_path / "m.json").read_text())["metrics"]
    assert {c["label"]: c["rows"] for c in metrics["classes"]} == {
        "negative": 1,
        "neutral": 1,
        "positive": 1,
    }
    result = run("evaluate", folder / "head.joblib", tmp_path / "text.txt", *layout)
    assert result.exit_code == 2
    assert "label '2' of row '0' is none of the head's" in result.stderr
    assert "--mapping" in result.stderr
    result = run("evaluate", folder / "head.joblib", tmp_path / "text.txt")
    assert result.exit_code == 2
    assert "no row has a label" in result.stderr


def test_what_an_error_says_of_a_label_that_training_lacks_helps(folder, model, tmp_path):
    head = folder / "head.joblib"
    rows = [("1", "so happy", "positive"), ("2", "so sad", "negative"), ("3", "furious", "angry")]
    tweets = write_csv(tmp_path / "test.csv", 5 * rows + [("9", "eh", "unsure")], "label")
    mapping = tmp_path / "mapping.txt"
    mapping.write_text("positive\tpositive\nnegative\tnegative\nangry\tnegative\n")
    extracting = ["--model", model, "--pooling", VIEW, "--dtype", "float32"]
    done("extract", tweets, "-o", tmp_path / "test.h5", *extracting)

    result = run("evaluate", head, tweets)
    assert result.exit_code == 2
    assert "label 'angry' of row '3' is none of the head's" in result.stderr
    assert "give a --mapping that has a line label<TAB>name" in result.stderr
    result = done("evaluate", head, tweets, "--mapping", mapping)
    assert "(15 rows)" in result.stdout
    assert "is not in the mapping" in result.stderr  # the one that is left out

    measured = ["fit", folder / "train.h5", "-o", tmp_path / "new.joblib", "--C", "1"]
    for refused in (
        run("evaluate", head, tmp_path / "test.h5"),
        run(*measured, "--validation", tmp_path / "test.h5"),
    ):
        assert refused.exit_code == 2
        assert "angry" in refused.stderr
        assert "extract" in refused.stderr.partition("again with")[0]
    done("extract", tweets, "-o", tmp_path / "mapped.h5", *extracting, "--mapping", mapping)
    assert "(15 rows)" in done("evaluate", head, tmp_path / "mapped.h5").stdout
    assert "(15 rows)" in done(*measured, "--validation", tmp_path / "mapped.h5").stdout


def test_labels_in_another_case_are_folded_as_the_error_says(folder, tmp_path):
    tweets = write_csv(
        tmp_path / "a.csv", [("1", "hm", "Neutral"), ("2", "oh", "POSITIVE")], "label"
    )
    result = run("evaluate", folder / "head.joblib", tweets)
    assert result.exit_code == 2
    assert "give --label-case fold" in result.stderr
    done("evaluate", folder / "head.joblib", tweets, "--label-case", "fold")


def test_options_of_tweets_are_refused_with_cached_vectors(folder, tmp_path):
    (tmp_path / "m.txt").write_text("positive\tnegative\n")
    options = ["--mapping", tmp_path / "m.txt", "--label-case", "fold"]
    result = run("evaluate", folder / "head.joblib", folder / "train.h5", *options)
    assert result.exit_code == 2
    assert "--mapping, --label-case are for tweets" in result.stderr


# Heads of several encoders: the packaged model twice, the second one cutting texts after 8 tokens.


@pytest.fixture(scope="module")
def two(tmp_path_factory, folder, model):
    """`long.h5`, `short.h5` and `head.joblib`; both encoders have the same view."""
    place = tmp_path_factory.mktemp("two")
    for name, length in (("long", 40), ("short", 8)):
        for tweets in ("train", "new"):
            extract(
                folder / f"{tweets}.csv",
                place / f"{tweets}-{name}.h5",
                model=model,
                max_length=length,
                pooling=VIEW,
                dtype="float32",
                store_dtype="float32",
                device="cpu",
            )
    head = fit([place / "train-long.h5", place / "train-short.h5"], C=0.01).head
    save_head(head, place / "head.joblib")
    return place


def test_texts_are_read_by_each_encoder(two, folder, tmp_path):
    head = load_head(two / "head.joblib")
    assert [source.spec.max_length for source in head.sources] == [40, 8]
    for name, inputs in {
        "text": [folder / "new.csv"],
        "vectors": [two / "new-short.h5", two / "new-long.h5"],
    }.items():
        done("predict", two / "head.joblib", *inputs, "-o", tmp_path / f"{name}.csv")
    vectors = []
    for name in ("long", "short"):
        with FeatureStore(two / f"new-{name}.h5") as store:
            vectors.append(store.read(VIEW))
    exact = joblib.load(two / "head.joblib")["estimator"].predict_proba(np.hstack(vectors))
    for name in ("text", "vectors"):
        rows = table(tmp_path / f"{name}.csv")
        assert [row["id"] for row in rows] == [identity for identity, _ in NEW]
        assert np.abs(probabilities(rows, head) - exact).max() <= 1e-4


def test_models_of_several_encoders(two, folder, model, other_model, tmp_path):
    out = tmp_path / "out.csv"
    arguments = ["predict", two / "head.joblib", folder / "new.csv", "-o", out]
    result = run(*arguments, "--model", model)
    assert result.exit_code == 2
    assert "the head has 2 encoders, --model names 1" in result.stderr
    result = run(*arguments, "--model", model, "--model", other_model)
    assert result.exit_code == 3
    assert load_head(two / "head.joblib").sources[1].spec.fingerprint[:12] in result.stderr
    assert not out.exists()
    done(*arguments, "--model", model, "--model", model)
    assert len(table(out)) == len(NEW)


def test_vectors_of_one_of_two_encoders(two):
    result = run("evaluate", two / "head.joblib", two / "train-long.h5")
    assert result.exit_code == 3
    missing = load_head(two / "head.joblib").sources[1].spec.fingerprint[:12]
    assert f"takes vectors of encoder {missing}" in result.stderr


def test_rows_that_do_not_match_are_said_and_not_scored(two, folder, model, tmp_path):
    """On standard error, so that scores in a pipe stay scores."""
    options = {"model": model, "max_length": 8, "pooling": VIEW, "device": "cpu"}
    options |= {"dtype": "float32", "store_dtype": "float32"}
    write_csv(tmp_path / "fewer.csv", [row for row in NEW if row[0] != "c"])
    extract(tmp_path / "fewer.csv", tmp_path / "fewer.h5", **options)
    stores = [two / "new-long.h5", tmp_path / "fewer.h5"]
    result = done("predict", two / "head.joblib", *stores)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["id"] for row in rows] == [identity for identity, _ in NEW if identity != "c"]
    assert "5 rows by id and text; left out 1 of" in result.stderr
    whole = done("predict", two / "head.joblib", two / "new-long.h5", two / "new-short.h5")
    assert whole.stderr == ""


def test_evaluate_on_two_encoders(two, folder, tmp_path):
    figures = []
    for inputs in ([folder / "train.csv"], [two / "train-long.h5", two / "train-short.h5"]):
        done("evaluate", two / "head.joblib", *inputs, "--json", tmp_path / "m.json")
        figures.append(json.loads((tmp_path / "m.json").read_text())["metrics"]["confusion"])
    assert figures[0] == figures[1]


# Without any model, on made-up vectors.


@pytest.fixture
def made_up(tmp_path):
    X, y = blobs(150, 8, 3)
    store = write_store(tmp_path / "s.h5", X, np.where(np.arange(150) % 3 == 2, -1, y))
    head = fit(store, C=0.1).head
    save_head(head, tmp_path / "head.joblib")
    return head, store, X, y


def test_vectors_with_ids_and_labels(made_up):
    head, store, X, y = made_up
    with open_joined(store) as opened:
        (block,) = score_stores(head, opened)
    assert block.ids == [f"row-{i}" for i in range(150)]
    assert block.labels[:3] == [head.labels[y[0]], head.labels[y[1]], None]
    np.testing.assert_allclose(block.proba, head.predict_proba(X), atol=1e-12)
    assert block.texts is None
    metrics, unlabelled = evaluate(head, [block])
    assert (metrics.rows, unlabelled) == (100, 50)


@pytest.mark.parametrize("prior", [None, "training", "negative=5,neutral=1,positive=1"])
def test_prior_of_predict_and_evaluate(prior, made_up, tmp_path):
    """The label is the argmax of what is printed, and the figures are those of the moved head."""
    head, store, X, y = made_up
    options = [] if prior is None else ["--prior", prior]
    moved = head if prior is None else head.with_prior(prior)
    out, figures = tmp_path / "out.csv", tmp_path / "m.json"
    done("predict", tmp_path / "head.joblib", store, "-o", out, *options)
    rows = table(out)
    proba = probabilities(rows, head)
    np.testing.assert_allclose(proba, moved.predict_proba(X), atol=1e-6)
    assert [row["label"] for row in rows] == [head.labels[k] for k in proba.argmax(axis=1)]
    done("evaluate", tmp_path / "head.joblib", store, "--json", figures, *options)
    content = json.loads(figures.read_text())
    labelled = np.arange(150) % 3 != 2
    truth, exact = y[labelled], moved.predict_proba(X[labelled])
    weight = (moved.prior / np.bincount(truth))[truth]
    expected = log_loss(truth, exact, sample_weight=weight)
    assert content["metrics"]["log_loss"] == pytest.approx(expected)
    assert content["metrics"]["accuracy"] == (exact.argmax(axis=1) == truth).mean()
    np.testing.assert_allclose(content["prior"], moved.prior)


def test_store_lacks_the_view(made_up, tmp_path):
    X = made_up[2]
    write_store(tmp_path / "other.h5", {"mean": X}, [0] * 150)
    out = tmp_path / "out.csv"
    result = run("predict", tmp_path / "head.joblib", tmp_path / "other.h5", "-o", out)
    assert result.exit_code == 2
    assert "holds no view 'cls'; it holds: mean" in result.stderr
    assert not out.exists()


def test_shards_and_folders(made_up, tmp_path):
    store = made_up[1]
    (tmp_path / "shards").mkdir()
    for name in ("0.h5", "1.h5"):
        os.link(store, tmp_path / "shards" / name)
    out = tmp_path / "out.csv"
    done("predict", tmp_path / "head.joblib", tmp_path / "shards", "-o", out)
    rows = table(out)
    assert len(rows) == 300
    assert rows[:150] == rows[150:]
    os.link(store, tmp_path / "again.h5")
    done("predict", tmp_path / "head.joblib", store, tmp_path / "again.h5", "-o", out)
    assert table(out) == rows
    result = run("predict", tmp_path / "head.joblib", store, store, "-o", out)
    assert result.exit_code == 2
    assert "is given twice" in result.stderr


def test_what_is_measured_on_vectors_depends_on_no_shards_and_threads(tmp_path):
    """To the bit, the distances to the training rows too."""
    X, y = blobs(2600, 400, 3)
    fitted = fit(write_store(tmp_path / "whole.h5", X, y), C=0.1).head
    cuts = [0, 5, 700, 2600]
    for number, (start, stop) in enumerate(pairwise(cuts)):
        ids = [f"row-{n}" for n in range(start, stop)]
        write_store(tmp_path / f"{number}.h5", X[start:stop], y[start:stop], ids=ids)
    found = []
    for names, threads in ((["whole"], 1), (["whole"], 2), (["0", "1", "2"], 1)):
        paths = [tmp_path / f"{name}.h5" for name in names]
        with open_joined(paths) as stores, threadpool_limits(limits=threads, user_api="blas"):
            blocks = list(score_stores(fitted, stores))
            distances = np.concatenate([block.novelty for block in blocks])
            found.append((evaluate(fitted, blocks), distances.tobytes()))
    assert found[0] == found[1] == found[2]


def test_vectors_are_known_by_what_they_are(made_up, tmp_path):
    (tmp_path / "vectors").symlink_to(made_up[1])
    for name, out in (("vectors", "out.csv"), (made_up[1], "expected.csv")):
        done("predict", tmp_path / "head.joblib", tmp_path / name, "-o", tmp_path / out)
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "expected.csv").read_text()


def test_texts_of_vectors_are_not_there(made_up, tmp_path):
    out = tmp_path / "out.csv"
    result = run("predict", tmp_path / "head.joblib", made_up[1], "-o", out, "--with-text")
    assert result.exit_code == 2
    assert "cached vectors come without their texts" in result.stderr
    assert not out.exists()


def test_tweets_and_vectors_together(made_up, tmp_path):
    write_csv(tmp_path / "in.csv", NEW)
    result = run("predict", tmp_path / "head.joblib", made_up[1], tmp_path / "in.csv")
    assert result.exit_code == 2
    assert "can't be scored together" in result.stderr


def test_labels_and_columns_with_odd_characters(tmp_path):
    labels = ['say "no"', "a,b", "tab\tbed"]
    head = make_head(3, labels=labels)
    X = np.random.default_rng(0).normal(size=(20, 8))
    ids = [f'id,"{i}"\t' for i in range(20)]
    store = write_store(tmp_path / "s.h5", X, [-1] * 20, labels, ids=ids)
    expected = head.predict(X.astype(np.float32))
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        with scored(head, [store], rejects=RejectLog(None)) as scores:
            written = write_scores(head, scores, tmp_path / f"out{suffix}")
        rows = table(tmp_path / f"out{suffix}", delimiter)
        assert [row["id"] for row in rows] == ids
        assert [row["label"] for row in rows] == expected
        assert written.rows == 20
        assert written.counts == {label: expected.count(label) for label in labels}
        assert len(written.first) == 5


@pytest.mark.parametrize("name", ["out", "out.txt", "out.xlsx", "no/out.csv", "out.csv.gz"])
def test_output_names_that_are_refused(name, tmp_path):
    with pytest.raises(InputError, match=name.split("/")[0]):
        check_output(tmp_path / name)


def test_output_that_cannot_be_written(made_up, tmp_path):
    head, store, *_ = made_up
    (tmp_path / "out.csv").mkdir()
    with (
        pytest.raises((CannotContinue, InputError)),
        scored(head, [store], rejects=RejectLog(None)) as scores,
    ):
        write_scores(head, scores, tmp_path / "out.csv")
    assert list((tmp_path / "out.csv").iterdir()) == []


def test_store_of_another_encoder(made_up, tmp_path):
    head, _, X, y = made_up
    spec = dataclasses.replace(SPEC, weights="e" * 64)
    other = write_store(tmp_path / "other.h5", X, y, spec=spec)
    with (
        pytest.raises(FileRefused) as error,
        scored(head, [other], rejects=RejectLog(None)) as scores,
    ):
        list(scores)
    assert spec.fingerprint[:12] in str(error.value)
    assert SPEC.fingerprint[:12] in str(error.value)


def test_shares_of_tweets_by_a_column(folder, tmp_path):
    """From the texts as from their vectors, and a column that is not there is said by its flag."""
    rows = [(f"{n}", text, "ab"[n % 2]) for n, (_, text) in enumerate(NEW)]
    write_csv(tmp_path / "in.csv", rows, "topic")
    said = tmp_path / "said.json"
    options = ["--by", "topic", "--json", said]
    done("quantify", folder / "head.joblib", tmp_path / "in.csv", *options)
    content = json.loads(said.read_text())
    assert [one["group"] for one in content["quantities"]] == [None, "a", "b"]
    assert [one["em"]["rows"] for one in content["quantities"]] == [6, 3, 3]
    done("quantify", folder / "head.joblib", folder / "new.h5", "--json", said)
    of_vectors = json.loads(said.read_text())["quantities"][0]["em"]["shares"]
    np.testing.assert_allclose(content["quantities"][0]["em"]["shares"], of_vectors, atol=1e-2)
    result = run("quantify", folder / "head.joblib", tmp_path / "in.csv", "--by", "day")
    assert result.exit_code == 2
    assert "no column 'day' is there" in result.stderr
    assert "choose one with --by" in result.stderr


def test_scores_say_what_share_of_the_input_is_done(head, made_up, tmp_path):
    fitted, store, *_ = made_up
    with scored(fitted, [store], rejects=RejectLog(None)) as scores:
        shares = [block.share for block in scores]
    assert shares == sorted(shares) and shares[-1] == 1.0
    rows = [(n, f"tweet {n}" if n % 7 else "") for n in range(60)]
    with scored(
        head, [write_csv(tmp_path / "in.csv", rows)], rejects=RejectLog(None, allowed=True)
    ) as scores:
        shares = [block.share for block in scores]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_parquet_of_an_input_without_rows_and_of_one_with_rejects_alone(folder, tmp_path):
    """Nothing in is nothing out; rows in and nothing out is an error."""
    (tmp_path / "none.csv").write_text("id,text\n")
    (tmp_path / "bad.jsonl").write_text('{"text": 1}\n')
    for inputs, code in (("none.csv", 0), ("bad.jsonl", 2)):
        out = tmp_path / f"{inputs}.parquet"
        result = run("predict", folder / "head.joblib", tmp_path / inputs, "-o", out)
        assert result.exit_code == code, result.output
        assert out.exists() == (code == 0)
    assert "no usable tweet in the input; 1 rejected, the first in line 1" in result.stderr


def test_plain_text_on_standard_input_is_told_how_to_read_it(folder):
    arguments = ["predict", str(folder / "head.joblib"), "-"]
    result = CliRunner().invoke(main, arguments, input="just words\nand more\n")
    assert result.exit_code == 2
    assert "if it is a tweet a line, give --input-format txt" in " ".join(result.stderr.split())
    result = CliRunner().invoke(main, [*arguments, "--input-format", "txt"], input="just words\n")
    assert result.exit_code == 0, result.output
