"""A prefix is put before each normalised text, is part of the spec, and goes with the head."""

import csv
import json
import re

import numpy as np
import pytest
from architectures import TEXTS
from click.testing import CliRunner

from features import FeatureStore, FrozenBert, FrozenEncoder
from features.errors import FileRefused, InputError
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.store.format import EMPTY
from pipeline.cli.commands import main

PREFIX = "the old library: "
VIEWS = ["cls", "mean", "mean-content", "max@last2+concat"]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "bertweet"])
def test_vectors_are_those_of_texts_that_are_prefixed_by_hand(tiny_model, architecture):
    options = {"pooling": VIEWS, "dtype": "float32", "normalize": "none"}
    ours = FrozenEncoder(tiny_model(architecture), prefix=PREFIX, **options)
    plain = FrozenEncoder(tiny_model(architecture), **options)
    expected = plain.encode([PREFIX + text for text in TEXTS])
    without = plain.encode(TEXTS)
    for view, matrix in ours.encode(TEXTS).items():
        np.testing.assert_array_equal(matrix, expected[view])
        assert np.abs(matrix - without[view]).max() > 1e-3


def test_the_prefix_stands_before_the_normalised_text(tiny_model):
    ours = FrozenEncoder(tiny_model("bert"), pooling="mean", dtype="float32", prefix="@ana &amp; ")
    plain = FrozenEncoder(tiny_model("bert"), pooling="mean", dtype="float32", normalize="none")
    np.testing.assert_array_equal(
        ours.encode(["&lt;3 the bus"])["mean"], plain.encode(["@ana &amp; <3 the bus"])["mean"]
    )


def test_the_transformer_has_it_too(tiny_model):
    folder = tiny_model("bert")
    ours = FrozenBert(folder, pooling="mean", dtype="float32", prefix=PREFIX).fit_transform(TEXTS)
    encoder = FrozenEncoder(folder, pooling="mean", dtype="float32", prefix=PREFIX)
    np.testing.assert_array_equal(ours, encoder.encode(TEXTS)["mean"])


def test_a_prefix_makes_another_fingerprint_and_none_makes_no_other(tiny_model):
    files = find_checkpoint(tiny_model("bert"))
    plain, none, one, other = (
        make_spec(files, **options)
        for options in ({}, {"prefix": ""}, {"prefix": "a: "}, {"prefix": "a:"})
    )
    assert plain == none
    assert len({spec.fingerprint for spec in (plain, one, other)}) == 3
    assert "prefix" not in plain.to_dict()
    assert EncoderSpec.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_differences_show_it_with_its_blanks(tiny_model):
    files = find_checkpoint(tiny_model("bert"))
    (found,) = make_spec(files, prefix="a: ").differences(make_spec(files))
    assert found == ("prefix", "'a: '", "''")


@pytest.mark.parametrize("value", [None, 1, ["a"], {}])
def test_a_prefix_of_another_type_is_refused(tiny_model, value):
    content = {**make_spec(find_checkpoint(tiny_model("bert"))).to_dict(), "prefix": value}
    with pytest.raises(FileRefused, match="bad prefix"):
        EncoderSpec.from_dict(content)


def test_a_prefix_that_leaves_no_room_is_refused(tiny_model):
    with pytest.raises(InputError, match=r"`prefix` .* takes all of the 12 tokens"):
        FrozenEncoder(tiny_model("bert"), max_length=12, prefix="the bus is late " * 5)


def test_a_prefix_that_is_no_text_is_refused(tiny_model):
    with pytest.raises(InputError, match="not valid Unicode"):
        FrozenEncoder(tiny_model("bert"), prefix="caf\udce9: ")


ROWS = [
    ("1", "what a lovely day", "good"),
    ("2", "the bus is late again", "bad"),
    ("3", "what a lovely day", "good"),
    ("4", "", "bad"),
    ("5", "worst film of the year", "bad"),
    ("6", "so happy for you", "good"),
]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def stores(tiny_model, tmp_path):
    """`with.h5` with the prefix, `by-hand.h5` of texts that have it already, `tweets.csv`."""
    for name, prefix in (("tweets", ""), ("by-hand", PREFIX)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            rows = [(number, prefix + text, label) for number, text, label in ROWS]
            csv.writer(file).writerows([("id", "text", "label"), *rows])
    model = ["--model", tiny_model("bert"), "--normalize", "none", "--dtype", "float32"]
    model += ["--pooling", "mean", "--store-dtype", "float32"]
    run("extract", tmp_path / "tweets.csv", "-o", tmp_path / "with.h5", "--prefix", PREFIX, *model)
    run("extract", tmp_path / "by-hand.csv", "-o", tmp_path / "by-hand.h5", *model)
    return tmp_path, model


def test_a_store_has_the_vectors_and_counts_texts_as_before(stores):
    folder, _ = stores
    with FeatureStore(folder / "with.h5") as ours, FeatureStore(folder / "by-hand.h5") as by_hand:
        np.testing.assert_array_equal(ours.read("mean"), by_hand.read("mean"))
        assert ours.spec.prefix == PREFIX
        assert ours.fingerprint != by_hand.fingerprint
        assert [bool(flag & EMPTY) for flag in ours.flags()] == [not text for _, text, _ in ROWS]
        np.testing.assert_array_equal(ours.n_tokens(), by_hand.n_tokens())
    shown = run("inspect", folder / "with.h5").output
    assert re.search(rf"^ +prefix +{PREFIX!r}$", shown, re.MULTILINE)
    assert "prefix" not in run("inspect", folder / "by-hand.h5").output


def test_another_prefix_never_goes_into_the_same_store(stores):
    folder, model = stores
    result = run("extract", folder / "tweets.csv", "-o", folder / "with.h5", *model, code=2)
    assert f"prefix: {PREFIX!r} in the file, '' asked for" in result.stderr
    again = run(
        "extract", folder / "tweets.csv", "-o", folder / "with.h5", "--prefix", PREFIX, *model
    )
    assert "is up to date" in again.output


def test_predict_takes_the_prefix_from_the_head(stores):
    folder, _ = stores
    head = folder / "head.joblib"
    run("fit", folder / "with.h5", "-o", head, "--C", "1", "--cv", "2")
    run("predict", head, folder / "tweets.csv", "-o", folder / "texts.csv")
    run("predict", head, folder / "with.h5", "-o", folder / "vectors.csv")
    for name in ("texts", "vectors"):
        with (folder / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = [[float(row["p_bad"]), row["label"], row["flags"]] for row in rows]
        if name == "texts":
            expected = found
    assert [row[1:] for row in found] == [row[1:] for row in expected]
    np.testing.assert_allclose([row[0] for row in found], [row[0] for row in expected], atol=1e-5)
    result = run("predict", head, folder / "by-hand.h5", "-o", folder / "other.csv", code=3)
    assert f"prefix: '' here, {PREFIX!r} there" in result.stderr
