"""Texts whose vectors overflow: run again in float32, and rejected where that overflows too."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from features import FeatureStore, FrozenEncoder, extract
from features.errors import InputError, NotFinite
from features.tweets.rejects import RejectLog
from pipeline import fit
from pipeline.scoring.predict import encoders_for, scored

POOLING = ["mean", "cls@-2"]
# `film` is the word that overflows: alone, twice, among others and beside texts of its length.
TEXTS = [
    "a lovely day",
    "a dreadful film",
    "so late again",
    "film",
    "a dreadful film",
    "nobody saw the film at all tonight because of the rain",
    "thanks a lot",
    "so happy for you two",
]
BAD = [n for n, text in enumerate(TEXTS) if "film" in text]
GOOD = [n for n in range(len(TEXTS)) if n not in BAD]
# What the embedding is multiplied by, the precision: 1e8 is too much for float16 alone.
OVERFLOWS = {"in float16 alone": (1e8, "float16"), "in float32 too": (np.inf, "float32")}
HOPELESS = [("float32", np.inf), ("float16", np.inf), ("bfloat16", np.inf)]


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """Give the folder of a model in which one word's embedding is multiplied."""
    made = {}

    def folder(factor):
        if factor not in made:
            target = tmp_path_factory.mktemp("overflow") / "model"
            shutil.copytree(tiny_model("bert"), target)
            tensors = load_file(target / "model.safetensors")
            word = AutoTokenizer.from_pretrained(target).convert_tokens_to_ids("film")
            (name,) = [name for name in tensors if name.endswith("word_embeddings.weight")]
            tensors[name][word] *= factor
            save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
            made[factor] = target
        return made[factor]

    return folder


def write(folder, texts=TEXTS):
    path = folder / "tweets.csv"
    path.write_text(
        "id,text,label\n" + "".join(f"{n},{t},{'ab'[n % 3 == 0]}\n" for n, t in enumerate(texts))
    )
    return path


def run(inputs, output, model, **options):
    options = {"pooling": POOLING, "store_dtype": "float32"} | options
    return extract(inputs, output, model=model, **{"allow_rejects": True} | options)


def read(path):
    with FeatureStore(path) as store:
        return store.ids(), {view: store.read(view) for view in store.views}


def test_what_overflows_in_half_precision_is_computed_in_float32(model, tmp_path):
    folder = model(1e8)
    summary = run(write(tmp_path), tmp_path / "half.h5", folder, dtype="float16")
    exact = FrozenEncoder(folder, pooling=POOLING, dtype="float32").encode(TEXTS)
    ids, vectors = read(summary.output)
    assert ids == [str(n) for n in range(len(TEXTS))]
    assert (summary.rejected, summary.precision) == (0, "half")
    for view in POOLING:
        np.testing.assert_allclose(vectors[view][BAD], exact[view][BAD], atol=1e-5, rtol=1e-5)
        # The others are in half precision, as ever.
        apart = np.abs(vectors[view][GOOD] - exact[view][GOOD]).max()
        assert 1e-6 < apart < 0.1


@pytest.mark.parametrize(("dtype", "factor"), HOPELESS)
def test_what_overflows_in_float32_too_is_rejected_alone(model, tmp_path, dtype, factor):
    summary = run(write(tmp_path), tmp_path / "a.h5", model(factor), dtype=dtype)
    ids, vectors = read(summary.output)
    assert ids == [str(n) for n in GOOD]
    assert (summary.rows, summary.rejected) == (len(GOOD), len(BAD))
    rejects = [json.loads(line) for line in summary.rejects_file.read_text().splitlines()]
    assert [(r["line"], r["start"]) for r in rejects] == [(n + 2, f'"{TEXTS[n]}"') for n in BAD]
    assert {r["reason"] for r in rejects} == {"its vector is not finite, in float32 too"}
    # The good ones are what they are without the bad ones.
    alone = FrozenEncoder(model(factor), pooling=POOLING, dtype=dtype).encode(
        [TEXTS[n] for n in GOOD]
    )
    for view in POOLING:
        np.testing.assert_allclose(
            vectors[view], alone[view], atol=0.05 if dtype != "float32" else 1e-5
        )


def test_strict_stops_at_it(model, tmp_path):
    with pytest.raises(InputError, match=r"line 3: its vector is not finite"):
        run(write(tmp_path), tmp_path / "a.h5", model(np.inf), dtype="float32", strict=True)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("case", OVERFLOWS)
@pytest.mark.parametrize("shard_rows", [None, 3])
def test_a_stopped_run_ends_in_the_same_bytes(model, tmp_path, case, shard_rows):
    factor, dtype = OVERFLOWS[case]
    options = {"dtype": dtype, "shard_rows": shard_rows, "max_batch_tokens": 8}
    inputs = write(tmp_path)
    complete = run(inputs, tmp_path / "whole", model(factor), **options).output

    class Stop(Exception):
        pass

    calls = []

    def stop(progress):
        calls.append(progress)
        if len(calls) == 4:
            raise Stop

    with pytest.raises(Stop):
        run(inputs, tmp_path / "stopped", model(factor), progress=stop, **options)
    summary = run(inputs, tmp_path / "stopped", model(factor), **options)
    assert summary.resumed
    assert content(summary.output) == content(complete)
    assert run(inputs, complete, model(factor), **options).outcome == "unchanged"


def content(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(file.name if path.is_dir() else "", file.read_bytes()) for file in files]


@pytest.mark.parametrize("shard_rows", [None, 2])
def test_a_file_of_nothing_else_is_an_error(model, tmp_path, shard_rows):
    texts = ["a film", "film", "the film"]
    with pytest.raises(InputError, match="can be used: their vectors are not finite"):
        run(
            write(tmp_path, texts),
            tmp_path / "a",
            model(np.inf),
            dtype="float32",
            shard_rows=shard_rows,
        )


def test_encode_names_the_texts(model):
    encoder = FrozenEncoder(model(np.inf), pooling="mean", dtype="float32")
    with pytest.raises(NotFinite, match=f"{len(BAD)} of {len(TEXTS)} texts") as error:
        encoder.encode(TEXTS)
    assert error.value.texts == tuple(BAD)


def test_predict_scores_the_others(model, tmp_path):
    folder = model(np.inf)
    inputs = write(tmp_path)
    run(inputs, tmp_path / "a.h5", folder, dtype="float32")
    head = fit(tmp_path / "a.h5", pooling="mean", C=1.0, cv=2).head
    with (
        RejectLog(tmp_path / "out.csv", allowed=True) as rejects,
        scored(
            head, [inputs], rejects=rejects, load=partial(encoders_for, models=[folder])
        ) as blocks,
    ):
        ids = [identity for block in blocks for identity in block.ids]
    assert ids == [str(n) for n in GOOD]
    lines = [json.loads(line)["line"] for line in rejects.path.read_text().splitlines()]
    assert lines == [n + 2 for n in BAD]


def test_a_piece_whose_texts_all_overflow_has_no_rows(model, tmp_path):
    inputs = []
    for name, texts in (("bad", ["film"] * 4), ("good", [TEXTS[n] for n in GOOD])):
        (tmp_path / name).mkdir()
        inputs.append(write(tmp_path / name, texts))
    options = {"pooling": POOLING, "dtype": "float32", "shard_rows": 4, "allow_rejects": True}
    store = tmp_path / "store"
    summary = extract(inputs, store, model=model(np.inf), part="1/1", **options)
    assert (summary.of_pieces, summary.rows, summary.rejected) == (2, 4, 4)
    assert [path.name for path in (store / "piece-00000").iterdir()] == ["rejects.jsonl"]
    with FeatureStore(store) as found:
        assert found.ids() == ["0", "1", "2", "3"]
    assert not (store / ".work").exists()
