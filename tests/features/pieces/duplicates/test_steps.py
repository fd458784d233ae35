"""Texts are encoded once in all pieces, whoever makes them, in which order, and killed when."""

import csv
import gzip
import hashlib
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from features import FeatureStore, extract
from features.base.storage import listed, read_bytes
from features.encoder.encoder import FrozenEncoder
from features.errors import CannotContinue, FileRefused, InputError
from features.pieces.duplicates.folder import Folder
from features.pieces.duplicates.ranges import BYTES_A_DIGEST
from features.pieces.duplicates.steps import in_turn
from features.spec.normalize import normalizer
from features.store.verify import verify

ENCODER = {"backend": "torch", "dtype": "float32", "pooling": ["cls", "mean"]}
HALVES = ("0/2", "1/2")
# The texts of each file, which is a piece.
FILES = {
    "alike": [["so happy"] * 3] * 4,
    "chain": [["a", "b"], ["b", "c"], ["c", "d"], ["d", "a"]],
    "foreign alone": [["bus", "late", "ok"], ["ok", "bus"], ["late"], ["film"]],
    "nothing shared": [["bus"], ["late"], ["ok"]],
    "the same to the encoder": [["@ana hi", "x"], ["@bob hi"], ["x", "@carl hi"]],
}


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("bert")


def write_files(folder, files):
    folder.mkdir()
    paths = [folder / f"{n:02d}.csv.gz" for n in range(len(files))]
    for path, texts in zip(paths, files, strict=True):
        with gzip.open(path, "wt", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in texts)])
    return [str(path) for path in paths]


def run(inputs, store, part, model, **options):
    """Each file is a piece: one that is packed is not cut."""
    given = {"duplicates": "all", **ENCODER} | options
    return extract(inputs, store, part=part, shard_rows=1, model=model, **given)


def run_all(inputs, store, model, parts=("0/1",), **options):
    """Run each part once; then the store is whole."""
    for part in parts:
        summary = run(inputs, store, part, model, **options)
        assert not any(map(summary.part.has, summary.missing)), "each job makes its own pieces"
    assert summary.missing == ()
    return summary


def contents(store):
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def encoded(monkeypatch):
    """How often the model has read each text, as token ids."""
    counts = Counter()
    batches = FrozenEncoder.run_batches

    def counted(self, tokens, plan, skip=()):
        for number, rows in enumerate(plan):
            if number not in skip:
                counts.update(tokens.ids[row].tobytes() for row in rows)
        return batches(self, tokens, plan, skip=skip)

    monkeypatch.setattr(FrozenEncoder, "run_batches", counted)
    return counts


@pytest.mark.parametrize("name", FILES)
def test_each_text_is_encoded_once_and_every_row_has_its_vector(tmp_path, model, encoded, name):
    inputs = write_files(tmp_path / "in", FILES[name])
    run_all(inputs, tmp_path / "store", model)
    normalise = normalizer(FrozenEncoder(model).spec.normalizer)
    texts = [normalise(text) for texts in FILES[name] for text in texts]
    assert len(encoded) == sum(encoded.values()) == len(set(texts))
    extract(inputs, tmp_path / "one.h5", model=model, **ENCODER)
    shards = sorted((tmp_path / "store").rglob("part-*.h5"))
    with FeatureStore(shards) as found, FeatureStore(tmp_path / "one.h5") as expected:
        assert found.digests().tolist() == expected.digests().tolist()
        assert found.n_tokens().tolist() == expected.n_tokens().tolist()
        for view in ENCODER["pooling"]:
            np.testing.assert_allclose(found.read(view), expected.read(view), atol=2e-3)
    assert not (tmp_path / "store" / ".duplicates").exists()


def test_rows_are_their_own_and_texts_alone_have_the_bytes_of_their_piece(tmp_path, model):
    """Ids, labels that differ for the same text, empty texts and rejects are as without it."""
    (tmp_path / "in").mkdir()
    inputs = [str(tmp_path / "in" / f"{n}.csv.gz") for n in range(3)]
    rows = [
        ["a1,late bus,good", "a2,late bus,bad", "a3,,good", "a4,@ana hi,bad"],
        ["b1,late bus,none", "b2,x,too,many,cells", "b3,,bad", "b4,@bob hi,good", "b5,late bus,"],
        ["c1,x,too,many,cells"],
    ]
    for path, some in zip(inputs, rows, strict=True):
        with gzip.open(path, "wt") as file:
            file.write("\n".join(["id,text,label", *some]) + "\n")
    # A batch has one text, so no text is computed beside other ones.
    options = {"allow_rejects": True, "max_batch_tokens": 1}
    piece, once = tmp_path / "piece", tmp_path / "once"
    run(inputs, piece, "0/1", model, duplicates="piece", **options)
    summary = run_all(inputs, once, model, HALVES, **options)
    with FeatureStore(once) as store:
        ids = store.ids()
        names = [store.label_names[n] if n >= 0 else "" for n in store.labels().tolist()]
    labels = ["good", "bad", "good", "bad", "none", "bad", "good", ""]
    assert dict(zip(ids, names, strict=True)) == dict(
        zip(["a1", "a2", "a3", "a4", "b1", "b3", "b4", "b5"], labels, strict=True)
    )
    assert (summary.missing, len(contents(once))) == ((), len(contents(piece)))
    shards, others = (
        {k: v for k, v in contents(s).items() if "piece-" in k} for s in (piece, once)
    )
    assert shards == others and len(shards) == 8 + 2  # of rejects


def made_texts(n_files, seed):
    """Files in which most texts stand in several, and a piece of none."""
    draw = random.Random(seed)
    words = ["bus", "late", "ok", "not", "happy", "in", "rain", "coffee", "best", "train"]
    pool = [" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(n_files)]
    return [draw.choices(pool, k=draw.randint(1, 5)) for _ in range(n_files)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, model):
    """An input of five pieces, and what a store of it holds that one job has made."""
    folder = tmp_path_factory.mktemp("made")
    inputs = write_files(folder / "in", made_texts(5, 0))
    run_all(inputs, folder / "store", model)
    return inputs, contents(folder / "store")


@pytest.mark.parametrize("parts", ["2/3 0/3 1/3", "3/4 1/2 0/4 2/4 2/4"])
def test_any_jobs_in_any_order_make_the_same_bytes(tmp_path, model, made, encoded, parts):
    inputs, expected = made
    run_all(inputs, tmp_path / "store", model, parts.split())
    assert contents(tmp_path / "store") == expected
    assert len(encoded) == sum(encoded.values())


@pytest.mark.parametrize("n_jobs", [1, 3, 7, 30])
def test_jobs_begin_with_different_ranges_and_reach_all(n_jobs):
    jobs = [in_turn(20, list(range(job, 60, n_jobs)), 60) for job in range(n_jobs)]
    assert all(sorted(numbers) == list(range(20)) for numbers in jobs)
    assert len({numbers[0] for numbers in jobs}) == min(n_jobs, 20)
    assert in_turn(20, [], 60)[0] == 0


def test_little_memory_makes_many_ranges_and_the_same_bytes(tmp_path, model, made, monkeypatch):
    inputs, expected = made
    monkeypatch.setattr(Folder, "remove", lambda folder, say: None)
    run_all(inputs, tmp_path / "store", model, HALVES, memory=5 * BYTES_A_DIGEST)
    folder = tmp_path / "store" / ".duplicates"
    assert len(list(folder.glob("takes-*"))) == len(list(folder.glob("shared-*"))) > 2
    shutil.rmtree(folder)
    assert contents(tmp_path / "store") == expected


def test_a_job_alone_makes_its_part_and_others_go_on_with_what_it_knows(tmp_path, model, encoded):
    inputs = write_files(tmp_path / "in", FILES["chain"])
    shown = []
    first = run(inputs, tmp_path / "store", "0/2", model, progress=shown.append)
    assert (first.pieces, first.missing) == (2, (1, 3))
    steps = ["reading texts", "comparing texts", "encoding repeated texts", "encoding"]
    assert list(dict.fromkeys(one.doing for one in shown)) == steps
    for step in steps:
        shares = [one.fraction for one in shown if one.doing == step]
        assert shares[-1] == 1.0 and (shares == sorted(shares) or step == "comparing texts")
    assert sum(encoded.values()) == 4
    assert run(inputs, tmp_path / "store", "1/2", model).missing == ()
    assert sum(encoded.values()) == 4


def test_what_a_job_that_died_at_its_end_left_is_told_and_removed(tmp_path, model):
    inputs, store = write_files(tmp_path / "in", FILES["chain"]), tmp_path / "store"
    run_all(inputs, store, model)
    (store / ".duplicates").mkdir()
    (store / ".duplicates" / "digests-00000").touch()
    assert [line for line in verify(store).remarks if ".duplicates is needed no more" in line]
    run_all(inputs, store, model, HALVES)
    assert not verify(store).remarks and not (store / ".duplicates").exists()


@pytest.mark.parametrize(
    "at", [9, 30, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 5, 14, 20, 25))]
)
def test_a_run_that_stops_anywhere_ends_in_the_same_bytes(tmp_path, model, made, monkeypatch, at):
    inputs, expected = made
    link, left = Path.hardlink_to, [at]

    def stopping(path, to):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return link(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, tmp_path / "store", "0/1", model)
    run_all(inputs, tmp_path / "store", model)
    assert contents(tmp_path / "store") == expected


def test_a_piece_that_is_removed_is_made_again(tmp_path, model, made):
    inputs, expected = made
    run_all(inputs, tmp_path / "store", model)
    (tmp_path / "store" / "receipts" / "00003.json").unlink()
    shutil.rmtree(tmp_path / "store" / "piece-00003")
    run_all(inputs, tmp_path / "store", model, HALVES)
    assert contents(tmp_path / "store") == expected


def write_unpacked(path, texts):
    """Write a file that is a piece, and has as many bytes as others with as many characters."""
    with gzip.open(path, "wt", compresslevel=0) as file:
        file.write("\n".join(["text", *texts]) + "\n")


def test_an_input_that_changes_between_steps_gives_no_text_a_wrong_vector(
    tmp_path, model, monkeypatch
):
    inputs = [str(tmp_path / f"{n}.csv.gz") for n in range(3)]
    for path, texts in zip(inputs, [["bus", "wet"], ["wet", "red"], ["red", "bus"]], strict=True):
        write_unpacked(path, texts)
    with monkeypatch.context() as patch:
        patch.setattr("features.pieces.duplicates.steps._encode_window", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, tmp_path / "store", "0/2", model)
    write_unpacked(inputs[1], ["wet", "new"])
    with pytest.raises(CannotContinue, match=r"1 texts that were in the input .*restore the input"):
        run_all(inputs, tmp_path / "store", model, HALVES)
    write_unpacked(inputs[1], ["wet", "red"])
    run(inputs, tmp_path / "store", "0/2", model)
    # Now all steps are done, and piece 1 is not made.
    write_unpacked(inputs[1], ["new", "red"])
    run(inputs, tmp_path / "store", "1/2", model)
    extract(inputs, tmp_path / "one.h5", model=model, **ENCODER)
    with FeatureStore(tmp_path / "store") as found, FeatureStore(tmp_path / "one.h5") as expected:
        assert found.digests().tolist() == expected.digests().tolist()
        np.testing.assert_allclose(found.read("cls"), expected.read("cls"), atol=2e-3)


def stopping(*arguments):
    raise KeyboardInterrupt


def test_a_damaged_file_of_duplicates_is_refused(tmp_path, model):
    inputs = write_files(tmp_path / "in", FILES["chain"])
    run(inputs, tmp_path / "store", "0/2", model)
    damaged = tmp_path / "store" / ".duplicates" / "takes-00000"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(FileRefused, match="takes-00000 is damaged"):
        run(inputs, tmp_path / "store", "1/2", model)
    damaged.unlink()
    run_all(inputs, tmp_path / "store", model, HALVES)


def test_jobs_agree_and_a_file_alone_has_no_need_of_it(tmp_path, model):
    inputs = write_files(tmp_path / "in", FILES["chain"])
    run(inputs, tmp_path / "store", "0/2", model)
    with pytest.raises(InputError, match="`duplicates`"):
        run(inputs, tmp_path / "store", "1/2", model, duplicates="piece")
    with pytest.raises(InputError, match="choose piece or all"):
        run(inputs, tmp_path / "store", "1/2", model, duplicates="none")
    with pytest.raises(InputError, match="is for `part`"):
        extract(inputs, tmp_path / "one.h5", model=model, duplicates="all")
    with pytest.raises(InputError, match="`memory` is for `duplicates=all`"):
        run(inputs, tmp_path / "other", "1/2", model, duplicates="piece", memory=2**30)


@pytest.mark.slow
def test_a_store_in_object_storage(tmp_path, model, made, s3):
    inputs, expected = made
    run(inputs, f"{s3}/store", "0/2", model)
    assert listed(f"{s3}/store/.duplicates")
    run(inputs, f"{s3}/store", "1/2", model)
    for name, digest in expected.items():
        assert hashlib.sha256(read_bytes(f"{s3}/store/{name}")).hexdigest() == digest, name
    assert listed(f"{s3}/store/.duplicates") == {}
