"""What a run was begun with it goes on with, and what was chosen is told everywhere."""

import json

import pytest

from features import FeatureStore, FrozenEncoder, extract
from features.backends.choice import Candidate, Choice
from features.encoder import loading
from features.errors import InputError
from features.extraction.journal import Header, Journal
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.vector_spec import VectorSpec

CHOICE = Choice(
    Candidate("torch", "float32", "plain"),
    192,
    1,
    {"torch float32 plain": 1003.4, "openvino float32": 806.0, "torch float32": 1200.6},
    {"onnx float32": "it was not done in its time"},
)


@pytest.fixture
def tweets(tmp_path):
    path = tmp_path / "tweets.csv"
    rows = [f"{n},tweet number {n} {'and more ' * (n % 7)},{'ab'[n % 2]}" for n in range(60)]
    path.write_text("id,text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def begin(output, model, choice, pooling="mean"):
    """Leave the journal of a run that was interrupted before its first batch was done."""
    spec = make_spec(find_checkpoint(model))
    encoder = FrozenEncoder(model, pooling=pooling, dtype="float32", backend="torch")
    with Journal(output) as journal:
        journal.begin(
            Header(VectorSpec(spec, encoder.views, "float32", "float16"), "float32", choice)
        )
        tokens = encoder.tokenize(["kept"])
        journal.append([b"0" * 16], encoder.run(tokens))


def provenance(path):
    with FeatureStore(path) as store:
        return store.shards[0].provenance


def test_it_reads_as_it_was_written():
    assert Choice.from_dict(json.loads(json.dumps(CHOICE.to_dict()))) == CHOICE
    assert Choice.from_dict(CHOICE.to_dict(), remembered=True).remembered


def test_it_is_said_in_a_line_the_fastest_of_the_others_first():
    assert CHOICE.summary() == (
        "torch float32 plain, 1,003 tweets/s on the probe; "
        "torch float32 1,201; openvino float32 806"
    )
    assert Choice(Candidate("torch", "int8"), 2048, 2).summary() == "torch int8"


def test_an_interrupted_run_goes_on_with_what_it_was_begun_with(tiny_model, tweets, tmp_path):
    output, lines = tmp_path / "t.h5", []
    begin(output, tiny_model("bert"), CHOICE)
    extract(tweets, output, model=tiny_model("bert"), pooling="mean", say=lines.append)
    assert provenance(output)["choice"] == CHOICE.to_dict()
    assert not any("not to be had" in line for line in lines)


def test_where_it_is_not_to_be_had_that_is_said_and_batches_stay_as_they_are(
    tiny_model, tweets, tmp_path
):
    output, lines = tmp_path / "t.h5", []
    gone = Choice(Candidate("gone", "float32"), 192, 2)
    begin(output, tiny_model("bert"), gone)
    extract(tweets, output, model=tiny_model("bert"), pooling="mean", say=lines.append)
    assert any("begun with gone float32, which is not to be had" in line for line in lines)
    found = Choice.from_dict(provenance(output)["choice"])
    assert found.candidate.backend == "torch" and found.max_batch_tokens == 192


def test_what_is_decided_by_hand_stands_above_the_journal(tiny_model, tweets, tmp_path):
    output, lines = tmp_path / "t.h5", []
    begin(output, tiny_model("bert"), Choice(Candidate("gone", "float32"), 192, 2))
    by_hand = {"backend": "torch", "max_batch_tokens": 64}
    extract(tweets, output, model=tiny_model("bert"), pooling="mean", say=lines.append, **by_hand)
    assert not any("not to be had" in line for line in lines)
    assert provenance(output)["choice"]["max_batch_tokens"] == 64


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_store_is_continued_in_its_precision_whatever_is_faster(
    tiny_model, tweets, tmp_path, dtype
):
    output = tmp_path / "t.h5"
    extract(tweets, output, model=tiny_model("bert"), pooling="mean", dtype=dtype, backend="torch")
    with tweets.open("a", encoding="utf-8") as file:
        file.write("99,one more,a\n")
    summary = extract(tweets, output, model=tiny_model("bert"), pooling="mean")
    assert summary.outcome == "extended" and summary.encoded == 1
    assert summary.precision == ("half" if dtype == "bfloat16" else "float32")
    assert summary.chosen


def test_where_its_precision_is_not_to_be_had_it_is_refused(
    tiny_model, tweets, tmp_path, monkeypatch
):
    output = tmp_path / "t.h5"
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    extract(tweets, output, model=tiny_model("bert"), pooling="mean", dtype="bfloat16")
    with tweets.open("a", encoding="utf-8") as file:
        file.write("99,one more,a\n")
    monkeypatch.setitem(loading.MIN_COSINE, "half", 1.01)
    before = output.read_bytes()
    with pytest.raises(InputError, match=r"keeps its vectors .*cosine of .*`dtype=float32`"):
        extract(tweets, output, model=tiny_model("bert"), pooling="mean")
    assert output.read_bytes() == before
