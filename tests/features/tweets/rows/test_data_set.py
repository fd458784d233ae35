"""Data sets of Hugging Face are read as the same rows in a file are."""

import tracemalloc

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value

from features import extract
from features.errors import FileRefused, InputError
from features.store.reader import FeatureStore
from features.tweets.columns import Columns
from features.tweets.reader import Reject, TweetReader
from features.tweets.table import InputFormat

SENTIMENT = ClassLabel(names=["negative", "neutral", "positive"])
HOSTILE = ["<script>x</script>", "\u202egnol", "e" + "\u0301" * 10_000, "\x1b[2J", "a\0b", "", "NA"]


def table(n=7, **columns):
    """A data set of some columns, each with its type: values and a feature."""
    columns = {"text": (HOSTILE[:n], Value("string")), **columns}
    return Dataset.from_dict(
        {name: values for name, (values, _) in columns.items()},
        features=Features({name: feature for name, (_, feature) in columns.items()}),
    )


# Columns beside the text, as data sets of the hub have them.
TABLES = {
    "classes": table(label=([0, 1, 2, -1, 0, None, 2], SENTIMENT)),
    "texts": table(label=(["a", " b ", "nan", "", None, "2.0", "2"], Value("string"))),
    "numbers": table(label=([1, 2, 3, None, 1, 1, 1], Value("int64"))),
    "floats": table(label=([1.0, 2.5, float("nan"), None, 1, 1, 1], Value("float64"))),
    "short floats": table(id=([1.0, 2.0**24, 3, None, 4, 5, 6], Value("float32"))),
    "truths": table(label=([True, False, None, True, True, True, True], Value("bool"))),
    "dates": table(label=([0, 1, None, 2, 3, 4, 5], Value("timestamp[s]"))),
    "ids": table(id=([2**60, 1, 2, 3, 4, 5, 6], Value("int64"))),
    "ids of text": table(id=(["007", "", None, "x", "x", "1e20", "1"], Value("string"))),
    "decimals": table(label=([1, 2, None, 3, 4, 5, 6], Value("decimal128(20, 0)"))),
    "lists": table(tags=([["x"]] * 7, datasets.List(Value("string")))),
    "no text": Dataset.from_dict(
        {"text": [None, "good", None], "label": [1, 0, 1]},
        features=Features(text=Value("string"), label=SENTIMENT),
    ),
    "texts that are none": Dataset.from_dict({"text": [1, 2]}),
}


def rows(source, **columns):
    """What is read: the same whatever it is read from."""
    reader = TweetReader(source, Columns(**columns))
    found = [
        (one.line, one.reason, one.start) if isinstance(one, Reject) else one for one in reader
    ]
    return found, dict(reader.findings.labels)


@pytest.mark.parametrize("name", TABLES)
def test_the_same_rows_as_parquet(name, tmp_path):
    data = TABLES[name]
    data.to_parquet(tmp_path / "a.parquet")
    expected = rows(tmp_path / "a.parquet")
    assert rows(data) == expected
    assert rows(data.with_format("numpy")) == expected
    assert rows(data.to_iterable_dataset()) == expected
    streamed = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "a.parquet"), split="train", streaming=True
    )
    assert rows(streamed) == expected


def test_the_same_rows_as_csv(tmp_path):
    texts = [text for text in HOSTILE if "\0" not in text]
    data = Dataset.from_dict({"text": texts, "label": ["a", "b"] * 3, "id": [9, 8, 7, 6, 5, 4]})
    data.to_csv(tmp_path / "a.csv", index=False)
    assert [one.text for one in rows(data)[0]] == texts
    found = [(one.id, one.text, one.label) for one in rows(tmp_path / "a.csv")[0]]
    assert [(one.id, one.text, one.label) for one in rows(data)[0]] == found


def test_names_of_classes_and_no_label():
    data = Dataset.from_dict(
        {"text": ["a", "b", "c"], "label": [2, -1, 0]},
        features=Features(text=Value("string"), label=SENTIMENT),
    )
    for source in (data, data.to_iterable_dataset()):
        assert [tweet.label for tweet in TweetReader(source)] == ["positive", None, "negative"]


def test_columns_are_chosen_as_in_files():
    data = Dataset.from_dict({"body": ["x"], "mood": ["good"], "key": [5]})
    (tweet,) = TweetReader(data, Columns(text="body", label="mood", id="key"))
    assert (tweet.id, tweet.text, tweet.label) == ("5", "x", "good")
    with pytest.raises(InputError, match=r'its columns are: "body", "mood", "key"'):
        list(TweetReader(data))


def test_only_the_columns_of_a_format_are_read():
    data = Dataset.from_dict({"text": ["x"], "label": ["good"], "more": [1]})
    data.set_format("numpy", columns=["text"])
    reader = TweetReader(data)
    assert [tweet.label for tweet in reader] == [None]
    assert reader.fraction_read() == 1.0


def test_a_transform_is_not_left_out_in_silence():
    data = Dataset.from_dict({"text": ["x"]}).with_transform(lambda rows: {"text": ["y"]})
    with pytest.raises(InputError, match="has a transform"):
        TweetReader(data)


def test_a_choice_of_rows_keeps_their_order():
    data = Dataset.from_dict({"text": list("abcdef"), "id": range(6)}).select([4, 1, 1])
    assert [(tweet.id, tweet.text) for tweet in TweetReader(data)] == [
        ("4", "e"),
        ("1", "b"),
        ("1", "b"),
    ]


def test_a_stream_of_rows_that_differ():
    """As Python has them: a row may lack a column, or have numbers of numpy."""

    def examples():
        yield {"text": "a", "label": np.int64(1)}
        yield {"text": np.str_("b"), "label": "1.0"}
        yield {"text": b"c"}
        yield {"text": ["d"], "label": 1}
        yield {"body": "e"}

    found, labels = rows(IterableDataset.from_generator(examples))
    assert [one.text for one in found[:3]] == ["a", "b", "c"]
    assert found[3] == (4, "'text' is a list, not a text", "\"['d']\"")
    assert found[4] == (5, "no text: 'text' is missing or null", "")
    assert labels == {"1": 2}


def test_a_stream_that_breaks_says_so():
    def examples():
        yield {"text": "a"}
        raise KeyError("behind it")

    reader = iter(TweetReader(IterableDataset.from_generator(examples)))
    assert next(reader).text == "a"
    with pytest.raises(FileRefused, match="cannot be read: 'behind it'"):
        next(reader)


def test_a_stream_is_never_held():
    def examples():
        for number in range(20_000):
            yield {"text": "x" * 1000 + str(number)}

    tracemalloc.start()
    assert sum(1 for _ in TweetReader(IterableDataset.from_generator(examples))) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20  # of 20 MB


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            DatasetDict(train=TABLES["ids"], test=TABLES["ids"]),
            'has the splits "train", "test": give one of them',
        ),
        (3, "an input is a int"),
        ([None], "an input is a NoneType"),
        ({"text": ["a"]}, "an input is a dict"),
        ([], "no input was given"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        TweetReader(given)


def test_the_only_split_of_a_dict_is_taken():
    assert rows(DatasetDict(test=TABLES["ids"])) == rows(TABLES["ids"])


@pytest.mark.parametrize(
    "written",
    [InputFormat(format="csv"), InputFormat(header=False), InputFormat(encoding="cp1252")],
)
def test_how_files_are_written_is_for_files(written):
    with pytest.raises(InputError, match="for files alone"):
        TweetReader(TABLES["ids"], written=written)


def test_files_and_data_sets_are_read_together(tmp_path):
    (tmp_path / "a.csv").write_text("text,id\nfirst,1\n")
    data = Dataset.from_dict({"text": ["second"], "id": [2]})
    reader = TweetReader([tmp_path / "a.csv", data], written=InputFormat(quoting="minimal"))
    assert [tweet.id for tweet in reader] == ["1", "2"]
    assert reader.fraction_read() is None


def test_the_same_vectors_as_csv(tiny_model, tmp_path):
    """And a store says what it was made from; the same rows again are no work."""
    data = Dataset.from_dict({"text": ["good day", "bad day", "good day"], "label": [1, 0, 1]})
    data.to_csv(tmp_path / "a.csv", index=False)
    model = {"model": tiny_model("bert"), "pooling": "cls"}
    options = {**model, "dtype": "float32", "backend": "torch"}
    extract(tmp_path / "a.csv", tmp_path / "csv.h5", **options)
    extract(data, tmp_path / "data.h5", **options)
    with FeatureStore(tmp_path / "csv.h5") as one, FeatureStore(tmp_path / "data.h5") as other:
        assert np.array_equal(one.read("cls"), other.read("cls"))
        assert list(one.ids()) == list(other.ids())
        assert list(one.labels()) == list(other.labels())
        assert other.provenance[0]["inputs"] == [f"data set (fingerprint {data._fingerprint})"]
    before = (tmp_path / "data.h5").read_bytes()
    again = extract(data.to_iterable_dataset(), tmp_path / "data.h5", **options)
    assert again.encoded == 0
    assert (tmp_path / "data.h5").read_bytes() == before


@pytest.mark.parametrize("streams", [False, True])
def test_an_interrupted_run_goes_on_where_it_was(streams, tiny_model, tmp_path):
    """And ends in the same bytes as one that was not, as with files."""
    data = Dataset.from_dict({"text": [f"tweet number {n}" for n in range(600)]})
    data = data.to_iterable_dataset() if streams else data
    model = {"model": tiny_model("bert"), "pooling": "cls", "window_rows": 100}
    options = {**model, "dtype": "float32", "backend": "torch"}

    def stop(progress):
        if progress.rows >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(data, tmp_path / "a.h5", progress=stop, **options)
    assert not (tmp_path / "a.h5").exists()
    again = extract(data, tmp_path / "a.h5", **options)
    assert again.rows == 600
    assert again.resumed >= 100
    extract(data, tmp_path / "b.h5", **options)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
