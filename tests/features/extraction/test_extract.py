import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features import FeatureStore, FrozenEncoder, extract
from features.errors import CannotContinue, FileRefused, InputError
from features.spec.normalize import normalizer
from features.store.format import EMPTY, REPAIRED, TRUNCATED, text_digest

REPOSITORY = Path(__file__).parents[3]
POOLING = ["cls", "mean@last4+sum"]
# Same vectors in another order of batches; float32 adds up in another order then.
CLOSE = 1e-5
TWEETS = [
    ("7", "what a lovely day", "good"),
    ("8", "worst. film. ever.", "bad"),
    ("x-9", "what a lovely day", "good"),
    ("10", "@ana_b so happy for you two 🎉 https://t.co/x1", "good"),
    ("11", "@other so happy for you two 🎉 https://t.co/y2", "bad"),
    ("12", "The council meets on Tuesday at 6 pm in the old library, upstairs.", ""),
    ("13", "ok", "good"),
    ("13", "¿alguien sabe a qué hora abre la biblioteca mañana?", "bad"),
]
# Two pairs of them are the same to the encoder.
N_UNIQUE = 6
MORE = [("14", "the 7:42 is late AGAIN, thanks for nothing", "bad"), ("15", "ok", "good")]


# The model of all runs: a tiny one, as hundreds are loaded.
MODEL = {}


@pytest.fixture(scope="module", autouse=True)
def model(tiny_model):
    MODEL["model"] = tiny_model("bert")
    return MODEL["model"]


def write_csv(path, tweets=TWEETS):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "text", "label"), *tweets])
    return path


def run(inputs, output, **options):
    options = {"pooling": POOLING, "dtype": "float32", "store_dtype": "float32"} | options
    return extract(inputs, output, **MODEL | options)


def vectors(path):
    with FeatureStore(path) as store:
        return {view: store.read(view) for view in store.views}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for view in found:
        np.testing.assert_allclose(found[view], expected[view], atol=CLOSE, rtol=0, err_msg=view)


@pytest.fixture(scope="module")
def encoder(model):
    return FrozenEncoder(model, pooling=POOLING, dtype="float32")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model):
    """A finished run; not to be written to."""
    folder = tmp_path_factory.mktemp("extract")
    return run(write_csv(folder / "tweets.csv"), folder / "tweets.h5")


@pytest.fixture
def again(finished, tmp_path):
    """The input and the output of the finished run, copied to where a test may change them."""
    output = tmp_path / "tweets.h5"
    output.write_bytes(finished.output.read_bytes())
    os.utime(output, ns=(10**18, 10**18))
    return write_csv(tmp_path / "tweets.csv"), output


def state(path):
    return path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino


# --------------------------------------------------------------------------------- what comes out


def test_rows_are_those_of_the_encoder(finished, encoder):
    assert_close(vectors(finished.output), encoder.encode([text for _, text, _ in TWEETS]))
    with FeatureStore(finished.output) as store:
        normalise = normalizer("tweeteval")
        assert store.ids() == [identity for identity, _, _ in TWEETS]
        assert store.label_names == ["bad", "good"]
        names = [None if code < 0 else store.label_names[code] for code in store.labels()]
        assert names == [label or None for _, _, label in TWEETS]
        assert [bytes(row) for row in store.digests()] == [
            text_digest(normalise(text)) for _, text, _ in TWEETS
        ]
        tokens = encoder.tokenize([normalise(text) for _, text, _ in TWEETS])
        assert store.n_tokens().tolist() == tokens.lengths
        assert store.spec == encoder.spec
        assert store.views == encoder.views


def test_summary(finished):
    with FeatureStore(finished.output) as store:
        assert finished.tokens == store.n_tokens().sum()
        assert finished.model == store.spec.model
        assert finished.views == store.views
    assert (finished.outcome, finished.rows) == ("written", len(TWEETS))
    assert (finished.unique, finished.encoded) == (N_UNIQUE, N_UNIQUE)
    assert (finished.truncated, finished.empty, finished.repaired, finished.rejected) == (0,) * 4
    assert finished.rejects_file is None
    assert finished.labels == {"bad": 3, "good": 4}
    assert (finished.precision, finished.compute) == ("float32", "cpu, float32")
    assert finished.file_bytes == finished.output.stat().st_size
    assert set(finished.seconds) == {"load", "read", "tokenise", "forward", "write", "total"}
    assert finished.tweets_per_second > 0


def test_nothing_else_is_left(finished):
    assert names_in(finished.output.parent) == ["tweets.csv", "tweets.h5"]


def test_texts_that_are_the_same_share_their_vectors(finished):
    for matrix in vectors(finished.output).values():
        assert len(np.unique(matrix, axis=0)) == N_UNIQUE
        np.testing.assert_array_equal(matrix[0], matrix[2])
        np.testing.assert_array_equal(matrix[3], matrix[4])


def test_provenance(finished):
    with FeatureStore(finished.output) as store:
        (provenance,) = store.provenance
    assert provenance["inputs"] == ["tweets.csv"]
    assert {"python", "torch", "transformers", "h5py", "numpy"} <= set(provenance["versions"])
    assert (provenance["device"], provenance["dtype"]) == ("cpu", "float32")
    assert len(provenance["input_digest"]) == 64
    # What differs from run to run is in the summary: the same rows make the same bytes.
    assert set(provenance) == {
        *("frostline", "versions", "inputs", "device", "dtype", "choice"),
        *("input_digest", "extends_rows"),
    }
    assert provenance["choice"]["candidate"]["dtype"] == provenance["dtype"]


def test_float16_on_disk_holds_the_same_vectors(tmp_path, finished):
    path = write_csv(tmp_path / "a.csv")
    extract(path, tmp_path / "a.h5", pooling=POOLING, dtype="float32", **MODEL)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.store_dtype == "float16"
    for view, matrix in vectors(finished.output).items():
        halved = matrix.astype(np.float16).astype(np.float32)
        stored = vectors(tmp_path / "a.h5")[view]
        np.testing.assert_allclose(stored, halved, rtol=2e-3, atol=CLOSE)
        assert not np.array_equal(stored, matrix)


def test_flags_and_counts(tmp_path):
    lines = [
        b'{"text": "' + b"a long one " * 30 + b'"}',
        b'{"text": ""}',
        b'{"text": " \\t "}',
        b'{"text": "caf\xe9"}',
        b'{"text": "fine"}',
        b'{"text": "\\u0000 ' + b"long and damaged " * 30 + b'"}',
        b'{"text": 5}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    summary = run(path, tmp_path / "a.h5", max_length=16, encoding="utf-8")
    with FeatureStore(tmp_path / "a.h5") as store:
        expected = [TRUNCATED, EMPTY, EMPTY, REPAIRED, 0, TRUNCATED | REPAIRED]
        assert store.flags().tolist() == expected
        assert store.n_tokens().tolist()[:3] == [16, 2, 2]
        assert store.n_tokens().max() == 16
    assert (summary.truncated, summary.empty, summary.repaired) == (2, 2, 2)
    assert (summary.rows, summary.rejected) == (6, 1)


def test_a_window_smaller_than_the_input(tmp_path, again, finished):
    path, _ = again
    summary = run(path, tmp_path / "small.h5", max_batch_tokens=20, window_rows=3)
    # The second of a pair lies in a later window, or in the same one.
    assert (summary.encoded, summary.unique) == (N_UNIQUE, N_UNIQUE)
    assert_close(vectors(tmp_path / "small.h5"), vectors(finished.output))
    with FeatureStore(tmp_path / "small.h5") as small, FeatureStore(finished.output) as large:
        assert small.ids() == large.ids()
        np.testing.assert_array_equal(small.labels(), large.labels())


EVEN = [(str(i), f"tweet number {i % 20} of some", "x") for i in range(30)]
LONG_FIRST = [(str(i), f"number {i} " * (20 if i < 10 else 1), "x") for i in range(30)]


@pytest.mark.parametrize(
    ("window", "tweets"),
    [
        pytest.param(8192, EVEN, id="one window"),
        pytest.param(7, EVEN, id="several windows"),
        pytest.param(7, LONG_FIRST, id="long rows first"),
        pytest.param(7, LONG_FIRST[::-1], id="long rows last"),
    ],
)
def test_progress(tmp_path, window, tweets):
    seen = []
    path = write_csv(tmp_path / "a.csv", tweets)
    options = {"max_batch_tokens": 32, "window_rows": window}
    run(path, tmp_path / "a.h5", **options, progress=seen.append)
    rows, fractions = [at.rows for at in seen], [at.fraction for at in seen]
    assert rows == sorted(rows)
    assert rows[-1] == len(tweets)
    assert len(rows) > 5
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_progress_ends_at_all_where_rows_are_rejected(tmp_path):
    path, seen = tmp_path / "a.jsonl", []
    path.write_text(BAD)
    run(path, tmp_path / "a.h5", progress=seen.append, allow_rejects=True)
    assert seen[-1].fraction == 1


def test_several_inputs_and_formats(tmp_path, finished):
    first, second = write_csv(tmp_path / "a.csv", TWEETS[:5]), tmp_path / "b.jsonl"
    rows = [dict(zip(("id", "text", "label"), tweet, strict=True)) for tweet in TWEETS[5:]]
    second.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = run([first, second], tmp_path / "a.h5")
    assert summary.rows == len(TWEETS)
    assert_close(vectors(tmp_path / "a.h5"), vectors(finished.output))


def test_how_inputs_are_read_is_said_first(again, tmp_path, monkeypatch):
    path, output = again
    other = tmp_path / "more.tsv"
    other.write_text(
        "text\tmood_label\tx\n" + "".join(f"{text}\ty\t\n" for _, text, _ in TWEETS[:2])
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text;label\nso;x\n")))
    told = []
    run([path, other, "-"], output, on_input=told.append, progress=lambda _: told.append("at work"))
    assert told[: told.index("at work")] == [
        f"{path}: CSV, UTF-8, commas, quoted cells: "
        'text from "text", label from "label", id from "id"',
        f'{other}: TSV, UTF-8, tabs, quoted cells: text from "text"; '
        'not read, though like labels: "mood_label"',
        "standard input: CSV, UTF-8, semicolons, quoted cells: "
        'text from "text", label from "label"',
    ]


def test_json_lines_on_standard_input(again, monkeypatch):
    _, output = again
    rows = [dict(zip(("id", "text", "label"), tweet, strict=True)) for tweet in TWEETS]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    seen = []
    assert run("-", output, progress=seen.append).outcome == "unchanged"
    assert {at.fraction for at in seen} == {None}


def test_tweeteval_keeps_the_order_of_its_mapping(tmp_path):
    (tmp_path / "text.txt").write_text("ok\nno\n")
    (tmp_path / "labels.txt").write_text("1\n0\n")
    (tmp_path / "mapping.txt").write_text("2\tpositive\n0\tnegative\n1\tneutral\n")
    options = {"labels": tmp_path / "labels.txt", "mapping": tmp_path / "mapping.txt"}
    summary = run(tmp_path / "text.txt", tmp_path / "a.h5", **options)
    assert summary.labels == {"positive": 0, "negative": 1, "neutral": 1}
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.label_names == ["positive", "negative", "neutral"]
        assert store.labels().tolist() == [2, 1]
    summary = run(tmp_path / "text.txt", tmp_path / "a.h5", **options)
    assert summary.outcome == "unchanged"


# ------------------------------------------------------------------------------------- run again


def test_the_same_again_does_nothing(again):
    path, output = again
    before = state(output)
    seen = []
    summary = run(path, output, progress=seen.append)
    assert (summary.outcome, summary.encoded) == ("unchanged", 0)
    assert (summary.rows, summary.unique) == (len(TWEETS), N_UNIQUE)
    assert state(output) == before
    assert names_in(output.parent) == ["tweets.csv", "tweets.h5"]
    assert seen[-1].rows == len(TWEETS)


def test_the_same_again_does_not_load_torch(again):
    path, output = again
    before = state(output)
    code = (
        "import sys\n"
        "from features import extract\n"
        f"s = extract({str(path)!r}, {str(output)!r}, pooling={POOLING!r}, store_dtype='float32', "
        f"model={str(MODEL['model'])!r})\n"
        "heavy = [m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules]\n"
        "print(s.outcome, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "unchanged []\n"
    assert state(output) == before


def test_a_longer_input_encodes_what_is_new(again, encoder):
    path, output = again
    old = vectors(output)
    write_csv(path, [MORE[0], *TWEETS, MORE[1]])
    summary = run(path, output)
    # `ok` was there already.
    assert (summary.outcome, summary.encoded) == ("extended", 1)
    assert (summary.rows, summary.unique) == (len(TWEETS) + 2, N_UNIQUE + 1)
    new = vectors(output)
    for view, matrix in old.items():
        np.testing.assert_array_equal(new[view][1:-1], matrix)
        np.testing.assert_array_equal(new[view][-1], matrix[6])
    assert_close({v: m[:1] for v, m in new.items()}, encoder.encode([MORE[0][1]]))
    with FeatureStore(output) as store:
        assert store.provenance[0]["extends_rows"] == len(TWEETS)
    assert run(path, output).outcome == "unchanged"


def test_float16_vectors_are_copied_bit_by_bit(tmp_path):
    path, output = write_csv(tmp_path / "a.csv"), tmp_path / "a.h5"
    run(path, output, store_dtype="float16")
    old = vectors(output)
    write_csv(path, [*reversed(TWEETS), *MORE])
    run(path, output, store_dtype="float16")
    for view, matrix in vectors(output).items():
        np.testing.assert_array_equal(matrix[: len(TWEETS)], old[view][::-1])


CHANGED = {
    "order": TWEETS[::-1],
    "labels": [(identity, text, "new") for identity, text, _ in TWEETS],
    "ids": [(f"{identity}!", text, label) for identity, text, label in TWEETS],
    "fewer": TWEETS[2:4],
    "more of the same": TWEETS + TWEETS[:3],
    "text that is the same to the encoder": [
        (identity, text.replace("@ana_b", "@someone"), label) for identity, text, label in TWEETS
    ],
}


@pytest.mark.parametrize("case", CHANGED)
def test_other_rows_of_the_same_texts_are_written_without_encoding(again, case):
    path, output = again
    tweets = CHANGED[case]
    write_csv(path, tweets)
    row_of = {text: row for row, (_, text, _) in enumerate(TWEETS)}
    row_of |= {text.replace("@ana_b", "@someone"): row for text, row in row_of.items()}
    old = vectors(output)
    summary = run(path, output)
    same = case.startswith("text")
    assert (summary.outcome, summary.encoded) == ("unchanged" if same else "extended", 0)
    assert summary.chosen == "", "an encoder was loaded"
    with FeatureStore(output) as store:
        assert store.ids() == [identity for identity, _, _ in tweets]
        names = [None if c < 0 else store.label_names[c] for c in store.labels()]
        assert names == [label or None for _, _, label in tweets]
    for view, matrix in vectors(output).items():
        np.testing.assert_array_equal(matrix, old[view][[row_of[text] for _, text, _ in tweets]])


OTHER_ENCODERS = [
    ({"max_length": 20}, "max_length: 40 in the file, 20 asked for"),
    ({"normalize": "none"}, "normalizer: tweeteval/1 in the file, none asked for"),
    ({"prefix": "query: "}, "prefix: '' in the file, 'query: ' asked for"),
    ({"pooling": "cls"}, "views: cls, mean@last4+sum in the file, cls asked for"),
    ({"pooling": ["cls", "mean"]}, "views: cls, mean@last4+sum in the file, cls, mean asked for"),
    ({"store_dtype": "float16"}, "store dtype: float32 in the file, float16 asked for"),
    ({"dtype": "bfloat16"}, "precision: float32 in the file, half asked for"),
    ({"dtype": "float16"}, "precision: float32 in the file, half asked for"),
]


@pytest.mark.parametrize(("options", "difference"), OTHER_ENCODERS)
def test_a_file_of_another_encoder_is_not_touched(again, options, difference):
    path, output = again
    before = state(output)
    write_csv(path, [*TWEETS, *MORE])
    with pytest.raises(InputError) as caught:
        run(path, output, **options)
    assert difference in str(caught.value)
    assert f"{output} was made by another encoder" in str(caught.value)
    assert "`overwrite=True`" in str(caught.value)
    assert state(output) == before
    assert names_in(output.parent) == ["tweets.csv", "tweets.h5"]


def test_the_order_of_the_views_is_no_difference(again):
    path, output = again
    assert run(path, output, pooling=["mean@-4:-1", "cls@-1"]).outcome == "unchanged"
    old = vectors(output)
    write_csv(path, [*TWEETS, MORE[0]])
    assert run(path, output, pooling=POOLING[::-1]).outcome == "extended"
    for view, matrix in vectors(output).items():
        np.testing.assert_array_equal(matrix[:-1], old[view])


def test_overwrite_replaces(again):
    path, output = again
    assert run(path, output, pooling="max", overwrite=True).outcome == "written"
    assert vectors(output).keys() == {"max"}
    output.write_text("not a feature file")
    summary = run(path, output, pooling="max", overwrite=True)
    assert (summary.outcome, summary.encoded) == ("written", N_UNIQUE)


# ------------------------------------------------------------------------------ what goes wrong


def refusal(kind, *arguments, **options):
    with pytest.raises(kind) as caught:
        run(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_outputs_that_cannot_be(tmp_path):
    path = write_csv(tmp_path / "tweets.csv")
    before = state(path)
    hard_link = tmp_path / "link.csv"
    hard_link.hardlink_to(path)
    assert "is a folder; give the name of a file" in refusal(InputError, path, tmp_path)
    message = refusal(InputError, path, tmp_path / "gone" / "a.h5")
    assert message.startswith(
        f"{tmp_path / 'gone' / 'a.h5'}: the folder {tmp_path / 'gone'} does not"
    )
    for nameless in ("", ".", "/", "..", tmp_path / ".."):
        for shard_rows in (None, 8):
            message = refusal(InputError, path, nameless, shard_rows=shard_rows)
            assert f"output {str(Path(nameless))!r} has no name of its own" in message
    for output in (path, hard_link):
        for overwrite in (False, True):
            message = refusal(InputError, path, output, overwrite=overwrite)
            assert f"{output} is an input too" in message
    assert state(path) == before


@pytest.mark.parametrize("role", ["labels", "mapping"])
def test_the_output_is_not_one_of_the_files_of_labels(tmp_path, role):
    (tmp_path / "text.txt").write_text("ok\n")
    (tmp_path / "labels").write_text("1\n")
    (tmp_path / "mapping").write_text("1\tgood\n")
    options = {"labels": tmp_path / "labels", "mapping": tmp_path / "mapping"}
    message = refusal(InputError, tmp_path / "text.txt", tmp_path / role, **options, overwrite=True)
    assert "is an input too" in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize(
    "overwrite",
    [
        False,
        True,
    ],
)
def test_an_output_that_is_neither_file_nor_folder_is_kept(tmp_path, overwrite):
    path, output = write_csv(tmp_path / "tweets.csv"), tmp_path / "a.h5"
    os.mkfifo(output)
    refusal(InputError, path, output, overwrite=overwrite)
    assert output.is_fifo()


def test_an_input_is_not_taken_for_old_rejects(tmp_path):
    path = tmp_path / "a.h5.rejects.jsonl"
    path.write_text('{"text": "ok"}\n')
    try:
        run(path, tmp_path / "a.h5")
    except InputError as error:
        assert "is an input too" in str(error)
    assert path.read_text() == '{"text": "ok"}\n'


@pytest.mark.parametrize("content", [b"", b"id,text\n1,hello\n", b"\x89HDF\r\n\x1a\n" + b"x" * 999])
def test_an_output_that_is_no_feature_file_is_kept(tmp_path, content):
    path, output = write_csv(tmp_path / "tweets.csv"), tmp_path / "a.h5"
    output.write_bytes(content)
    message = refusal(FileRefused, path, output)
    assert f"{output} is not a readable HDF5 file" in message
    assert "`overwrite=True`" in message
    assert output.read_bytes() == content
    assert names_in(tmp_path) == ["a.h5", "tweets.csv"]


@pytest.mark.parametrize(
    ("options", "wording"),
    [
        ({"store_dtype": "bfloat16"}, "choose float16 or float32"),
        ({"store_dtype": "float64"}, "choose float16 or float32"),
        ({"dtype": "int7"}, "choose one of auto, float32, bfloat16, float16"),
        ({"backend": "tpu"}, "choose one of auto, torch, openvino, onnx"),
        ({"device": "tpu"}, "choose one of auto, cpu, cuda, cuda:N, mps"),
        ({"pooling": "average"}, "cls, mean, mean-content, max, pooler"),
        ({"pooling": []}, "name at least one"),
        ({"pooling": "mean@last99"}, "layers are 0 (embeddings) to 4"),
        ({"normalize": "lower"}, "choose one of tweeteval, none"),
        ({"max_length": 2}, "at least 3 tokens"),
        ({"max_length": 41}, "at most 40"),
        ({"max_batch_tokens": 0}, "at least 1"),
        ({"text_column": "body"}, '"id", "text", "label"'),
        ({"model": "/gone/model"}, "/gone/model"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, wording):
    path = write_csv(tmp_path / "tweets.csv")
    assert wording in refusal(InputError, path, tmp_path / "a.h5", **options)
    assert names_in(tmp_path) == ["tweets.csv"]


BAD = '{"text": "ok"}\nnonsense\n{"text": null, "id": "7"}\n{"text": "fine"}\n'


def test_rejects_are_written_down_and_go_with_a_clean_run(tmp_path):
    path, output = tmp_path / "a.jsonl", tmp_path / "a.h5"
    path.write_text(BAD)
    with pytest.raises(InputError, match="2 of 4 rows were rejected, more than a fifth"):
        run(path, output)
    assert not output.exists()
    summary = run(path, output, allow_rejects=True)
    assert (summary.rows, summary.rejected) == (2, 2)
    assert summary.rejects_file == tmp_path / "a.h5.rejects.jsonl"
    first, second = map(json.loads, summary.rejects_file.read_text().splitlines())
    assert set(first) == {"source", "line", "reason", "start"}
    assert (first["source"], first["line"]) == (str(path), 2)
    assert "not JSON" in first["reason"]
    assert second["line"] == 3
    assert "missing or null" in second["reason"]
    with FeatureStore(output) as store:
        assert store.ids() == ["0", "3"]
    path.write_text('{"text": "ok", "id": "0"}\n{"text": "fine", "id": "3"}\n')
    summary = run(path, output)
    assert (summary.outcome, summary.rejected, summary.rejects_file) == ("unchanged", 0, None)
    assert names_in(tmp_path) == ["a.h5", "a.jsonl"]


def test_strict_stops_at_the_first_bad_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(BAD)
    message = refusal(InputError, path, tmp_path / "a.h5", strict=True)
    assert f"{path}, line 2: not JSON" in message
    assert message.endswith("(`strict`)")
    assert names_in(tmp_path) == ["a.jsonl"]


def test_strict_lets_good_rows_through(again):
    path, output = again
    assert run(path, output, strict=True).outcome == "unchanged"


@pytest.mark.parametrize(
    ("content", "wording"),
    [
        ("", "no usable tweet in "),
        ("\n\n", "no usable tweet in "),
        ('{"text": "ok"\n5\n', "2 rejected, the first in line 1: not JSON"),
    ],
)
@pytest.mark.parametrize("existed", [False, True])
def test_no_usable_row(again, content, wording, existed):
    path, output = again
    if not existed:
        output.unlink()
    before = state(output) if existed else None
    nothing = path.with_name("nothing.jsonl")
    nothing.write_text(content)
    message = refusal(InputError, nothing, output)
    assert wording in message
    assert str(nothing) in message
    assert output.exists() is existed
    assert not existed or state(output) == before
    assert not [name for name in names_in(output.parent) if name.startswith(".")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_run_that_is_interrupted_leaves_what_was_there(again, error):
    path, output = again
    before = state(output)
    write_csv(path, [*TWEETS, *MORE])

    def stop(progress):
        raise error

    with pytest.raises(error) as caught:
        run(path, output, progress=stop)
    assert state(output) == before
    assert names_in(output.parent) == [".tweets.h5.journal", "tweets.csv", "tweets.h5"]
    if error is KeyboardInterrupt:
        message = "run the same command to continue: 1 of the vectors are kept"
        assert message in str(caught.value)
    summary = run(path, output)
    assert (summary.outcome, summary.encoded, summary.resumed) == ("extended", 0, 1)
    assert names_in(output.parent) == ["tweets.csv", "tweets.h5"]


def test_an_input_that_ends_in_damage_leaves_what_was_there(again):
    path, output = again
    before = state(output)
    path.write_text(path.read_text() + '20,"never closed,x\n21,fine,x\n')
    assert "a quote is opened and never closed" in refusal(InputError, path, output)
    assert state(output) == before
    assert names_in(output.parent) == ["tweets.csv", "tweets.h5"]


SCRIPT = """
import sys, time
from pathlib import Path
from features import extract
from features.errors import FrostlineError

path, output, *options = sys.argv[1:]
def go(**more):
    extract(
        path, output, pooling={pooling!r}, dtype="float32", store_dtype="float32", model={model!r},
        **more,
    )
def hang(*_):
    print("here", flush=True)
    time.sleep(600)
"""


def script(code):
    model = repr(str(MODEL["model"]))
    return SCRIPT.replace("{pooling!r}", repr(POOLING)).replace("{model!r}", model) + code


# A limit on the size of files stands for a disk that is full.
LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(options[0]), resource.RLIM_INFINITY))
try:
    go()
except FrostlineError as error:
    print(type(error).__name__, error)
"""
MANY = [(str(i), f"tweet number {i}", "x") for i in range(60)]


def test_a_full_disk_is_one_line_and_leaves_what_was_there(again):
    """At the first vectors; at every other size: tests/robustness/test_crash.py."""
    pytest.importorskip("resource", reason="limits on files are POSIX's")
    path, output = again
    before = state(output)
    write_csv(path, [*TWEETS, *MANY])
    done = subprocess.run(
        [sys.executable, "-c", script(LIMITED), path, output, "4000"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"CannotContinue {output} cannot be written: ")
    assert done.stdout.endswith("what was at that name is untouched\n")
    assert done.stdout.count("\n") == 1
    assert state(output) == before
    assert names_in(output.parent) == ["tweets.csv", "tweets.h5"]


def test_a_folder_that_cannot_be_written_to(again, tmp_path):
    path, _ = again
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    message = refusal(CannotContinue, path, folder / "a.h5")
    assert f"{folder / 'a.h5'} cannot be written: Permission denied" in message


def test_a_name_that_the_file_system_does_not_take(tmp_path):
    path, output = write_csv(tmp_path / "tweets.csv"), tmp_path / ("n" * 255)
    message = refusal(CannotContinue, path, output)
    assert "cannot be written: File name too long" in message
    assert names_in(tmp_path) == ["tweets.csv"]


KILLED = {
    "while it encodes": "go(progress=hang)",
    "before the file gets its name": "from features.base import disk; disk.rename = hang; go()",
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9")
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("while it encodes", marks=pytest.mark.slow),
        "before the file gets its name",
    ],
)
def test_a_killed_run_leaves_what_was_there(again, moment):
    path, output = again
    before = state(output)
    write_csv(path, [*TWEETS, *MORE])
    code = script(KILLED[moment])
    with subprocess.Popen(
        [sys.executable, "-c", code, path, output],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert state(output) == before
    with FeatureStore(output) as store:
        assert store.n_rows == len(TWEETS)
        assert np.isfinite(store.read(POOLING)).all()
    # What it left behind is in nobody's way.
    assert run(path, output).outcome == "extended"
    assert FeatureStore(output.parent).n_rows == len(TWEETS) + len(MORE)
