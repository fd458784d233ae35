"""Jobs that make parts of one store: the same bytes, whoever makes what, and refusals of others."""

import os
import pickle
import random
import re
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from features import FeatureStore, extract, verify
from features.backends.choice import Runtime
from features.engines.local import LocalEngine
from features.errors import CannotContinue, FileRefused, InputError
from features.extraction import output
from features.extraction.run import Told
from features.pieces.choice import Agreed, agreed_encoder
from features.pieces.indexes import kept_in
from features.pieces.make_piece import MakePieces
from features.pieces.order import Order, make_folders
from features.pieces.part import Part
from features.pieces.piece import Piece
from features.pieces.receipts import put_receipt
from features.pieces.scratch import is_being_made, scratch, sweep
from features.pieces.split import split
from features.store.joined.fields import sealed, unsealed, without_seal
from features.store.joined.join import read_receipts
from features.store.joined.order import digest_of, read_order
from features.tweets.columns import Columns
from features.tweets.span import Span
from features.tweets.table import InputFormat

WORDS = ["so", "happy", "that", "old", "train", "is", "late", "again", "my", "cat", "sleeps"]
# Rows of each file; with 12 rows a piece at most that makes six pieces.
FILES = {"a": 10, "b": 5, "c": 4, "d": 9, "e": 30}
N_PIECES = 6
OPTIONS = {"pooling": ["cls", "mean"], "dtype": "float32", "shard_rows": 12}


@pytest.fixture(scope="module", autouse=True)
def model(tiny_model):
    OPTIONS["model"] = tiny_model("bert")


def write_inputs(folder, files=FILES, *, with_ids=True):
    """Files of short texts, some of which stand in several of them."""
    folder.mkdir(exist_ok=True)
    rng, paths = np.random.default_rng(7), []
    for name, rows in files.items():
        lines = ["id,text,label" if with_ids else "text,label"]
        for n in range(rows):
            text = " ".join(rng.choice(WORDS, rng.integers(1, 6)))
            lines.append(
                (f"{name}{n}," if with_ids else "") + f"{text},{'good' if n % 3 else 'bad'}"
            )
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text("\n".join(lines) + "\n")
    return paths


def make(inputs, store, part, **options):
    return extract(inputs, store, part=part, **OPTIONS | options)


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def copy_choice(store, to):
    """Let another store be encoded as this one was."""
    to.mkdir(parents=True)
    shutil.copy(store / "choice.json", to / "choice.json")
    return to


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs") / "in")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, inputs):
    """A store that one job made; not to be written to."""
    store = tmp_path_factory.mktemp("whole") / "store"
    summary = make(inputs, store, "1/1")
    assert (summary.pieces, summary.missing, summary.of_pieces) == (N_PIECES, (), N_PIECES)
    return store


@pytest.fixture
def again(whole, tmp_path):
    """That store, copied to where a test may change it."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


def receipts_of(store):
    return sorted((store / "receipts").iterdir())


def receipt(store, piece):
    return store / "receipts" / f"{piece:05d}.json"


# ---------------------------------------------------------------------------- what comes out


def test_a_store_in_pieces_holds_what_one_run_makes(whole, inputs, tmp_path):
    options = {name: value for name, value in OPTIONS.items() if name != "shard_rows"}
    one = extract(inputs, tmp_path / "one.h5", **options).output
    with FeatureStore(one) as expected, FeatureStore(whole) as found:
        assert found.ids() == expected.ids()
        assert np.array_equal(found.digests(), expected.digests())
        assert found.label_names == expected.label_names
        assert np.array_equal(found.labels(), expected.labels())
        for view in ("cls", "mean"):  # other batches round in other ways
            np.testing.assert_allclose(found.read(view), expected.read(view), atol=2e-3)


@pytest.mark.parametrize("order", [["1/2", "2/2"], ["2/3", (3, 3), "1/3"], ["3/7", "0/2", "1/2"]])
def test_the_bytes_do_not_depend_on_who_makes_what(order, whole, inputs, tmp_path):
    store = copy_choice(whole, tmp_path / "store")
    summaries = [make(inputs, store, part) for part in order]
    assert tree(store) == tree(whole)
    missing = [len(summary.missing) for summary in summaries]
    assert missing[-1] == 0 and all(a > b for a, b in pairwise(missing))


def test_a_job_says_what_it_did(whole, inputs, tmp_path):
    store = copy_choice(whole, tmp_path / "store")
    summary = make(inputs, store, "1/2")
    numbers = [1, 3, 5]
    receipts = list(read_receipts(store, read_order(store), numbers))
    assert (summary.part, summary.pieces, summary.made) == (Part(1, 2), 3, 3)
    assert summary.missing == (0, 2, 4)
    assert summary.rows == sum(one.rows for one in receipts) == sum(summary.labels.values())
    assert summary.file_bytes == sum(
        path.stat().st_size for n in numbers for path in (store / f"piece-{n:05d}").glob("*.h5")
    )
    assert not (store / "store.json").exists() and not (store / ".work").exists()


def test_a_finished_part_is_left_as_it_is_and_loads_nothing(again, inputs):
    paths = [again, *again.rglob("*")]
    before = [path.stat().st_mtime_ns for path in paths]
    summary = make(inputs, again, "2/3")
    assert (summary.outcome, summary.made, summary.compute) == ("unchanged", 0, "")
    assert [again, *again.rglob("*")] == paths
    assert [path.stat().st_mtime_ns for path in paths] == before, "nor was anything tried"


def test_a_job_without_pieces_is_complete(again, inputs):
    summary = make(inputs, again, "8/9")
    assert (summary.pieces, summary.rows, summary.missing) == (0, 0, ())


def test_rows_without_ids_are_named_by_piece_and_row(tmp_path):
    paths = write_inputs(tmp_path / "in", {"a": 11, "b": 3}, with_ids=False)
    make(paths, tmp_path / "store", "1/1")
    with FeatureStore(tmp_path / "store") as store:
        assert store.ids() == [f"0:{n}" for n in range(11)] + [f"1:{n}" for n in range(3)]


def test_progress_goes_over_all_pieces_of_the_part(whole, inputs, tmp_path):
    store, seen = copy_choice(whole, tmp_path / "store"), []
    summary = make(inputs, store, "0/2", progress=seen.append)
    assert [one.fraction for one in seen] == sorted(one.fraction for one in seen)
    assert seen[-1].fraction == 1 and seen[-1].rows == summary.rows


# ------------------------------------------------------------------------------ which part


@pytest.mark.parametrize(
    ("given", "part"),
    [("3/10", Part(3, 10)), ("10/10", Part(10, 10)), ((0, 1), Part(0, 1)), ([2, 3], Part(2, 3))],
)
def test_part(given, part):
    assert Part.of_given(given) == part


def test_parts_of_n_have_each_piece_once():
    for first in (0, 1):
        parts = [Part(first + n, 7) for n in range(7)]
        assert [sum(part.has(piece) for part in parts) for piece in range(30)] == [1] * 30


@pytest.mark.parametrize(
    "given",
    [
        "0/0",
        "11/10",
        "a/b",
        "-1/3",
        "1",
        "",
        "1/2/3",
        " 1/3",
        "1/3\n",
        "\u0661/\u0663",
        "1/" + "9" * 30,
        (1, 0),
        (1, 2, 3),
        (1.0, 2),
        (True, 2),
        (-1, 3),
        3,
        b"1/3",
        ("1", "3"),
    ],
)
def test_what_is_no_part_is_refused_before_anything_is_read(given, tmp_path):
    with pytest.raises(InputError, match="`part` is "):
        extract(tmp_path / "no such file.csv", tmp_path / "store", part=given, shard_rows=10)
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------- who may join in


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shard_rows": 13}, "`shard_rows`: 12 there, 13 asked for"),
        ({"pooling": "cls"}, "`pooling`: cls, mean there, cls asked for"),
        ({"max_length": 9}, "max_length: 40 there, 9 asked for"),
        ({"normalize": "none"}, "normalizer: tweeteval/1 there, none asked for"),
        ({"dtype": "auto"}, "`dtype`: float32 there, auto asked for"),
        ({"store_dtype": "float32"}, "`store_dtype`: float16 there, float32 asked for"),
        ({"backend": "torch"}, "`backend`: auto there, torch asked for"),
        ({"label_column": ""}, "`label_column`: nothing there, '' asked for"),
        ({"window_rows": 5}, "`window_rows`: 8192 there, 5 asked for"),
    ],
)
def test_another_order_is_refused_with_what_differs(options, said, again, inputs):
    before = tree(again)
    with pytest.raises(InputError) as error:
        make(inputs, again, "1/2", **options)
    assert said in str(error.value) and "or another `output`" in str(error.value)
    assert tree(again) == before


def test_other_inputs_are_refused(again, inputs, tmp_path):
    with pytest.raises(InputError, match="number of inputs: 5 there, 4 asked for"):
        make(inputs[:-1], again, "1/1")
    with pytest.raises(InputError, match=r"input 0: a\.csv .* there, b\.csv"):
        make([inputs[1], inputs[0], *inputs[2:]], again, "1/1")
    moved = write_inputs(tmp_path / "elsewhere")
    assert make(moved, again, "1/1").outcome == "unchanged"
    moved[2].write_text(moved[2].read_text() + "c9,more,good\n")
    with pytest.raises(InputError, match=r"input 2: c\.csv \(.* bytes\) there, c\.csv"):
        make(moved, again, "1/1")


def test_a_mapping_is_known_by_its_content(tmp_path):
    paths, store = write_inputs(tmp_path / "in", {"a": 3}), tmp_path / "store"
    mappings = [tmp_path / f"{n}.txt" for n in range(3)]
    for path, name in zip(mappings, ("no", "no", "never"), strict=True):
        path.write_text(f"good\tyes\nbad\t{name}\n")
    make(paths, store, "1/1", mapping=mappings[0])
    assert make(paths, store, "1/1", mapping=mappings[1]).outcome == "unchanged"
    with pytest.raises(InputError, match=r"`mapping`: [0-9a-f]{12} there, [0-9a-f]{12} asked for"):
        make(paths, store, "1/1", mapping=mappings[2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shard_rows": None}, "`part` needs `shard_rows`"),
        ({"overwrite": True}, "`overwrite` does not go with `part`"),
    ],
)
def test_options_that_do_not_go_with_a_part(options, said, inputs, tmp_path):
    with pytest.raises(InputError, match=said):
        make(inputs, tmp_path / "store", "1/2", **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_made_otherwise_is_refused(inputs, tmp_path, again):
    extract(inputs[0], tmp_path / "shards", **OPTIONS)
    with pytest.raises(InputError, match=r"holds part-00000\.h5 and no order\.json"):
        make(inputs, tmp_path / "shards", "1/1")
    with pytest.raises(InputError, match="is made in pieces: give `part`"):
        extract(inputs, again, **OPTIONS)
    (again / "order.json").unlink()
    for name in receipts_of(again):
        name.unlink()
    with pytest.raises(InputError, match=r"and no order\.json, so it was not made in parts"):
        make(inputs, again, "1/1")


def test_an_order_that_was_lost_or_altered_is_written_anew(again, whole, inputs):
    """As its receipts name it; by a job that was asked for the same."""
    path = again / "order.json"
    content = unsealed(path.read_bytes())
    content["inputs"][0]["bytes"] += 1
    path.write_bytes(sealed(content, indent=1))
    (fault,) = verify(again).faults
    assert fault.file == str(path)
    assert "is not the order that its receipts were made for: remove it and run" in fault.reason
    path.unlink()
    with pytest.raises(InputError, match=r"00000\.json was made for another order than this"):
        make(inputs, again, "1/1", pooling="cls")
    assert not path.exists()
    assert make(inputs, again, "2/2").outcome == "unchanged"
    assert tree(again) == tree(whole)


def damaged(content):
    return content[: len(content) // 2]


def altered(content):
    return content.replace(b'"shard_rows": 12', b'"shard_rows":  12')


def later(content):
    return content.replace(b'"version": 1', b'"version": 2')


@pytest.mark.parametrize("name", ["order.json", "choice.json", "receipts/00000.json"])
@pytest.mark.parametrize("damage", [damaged, later])
def test_damaged_files_of_the_store_are_refused(name, damage, again, inputs):
    receipt(again, 1).unlink()
    shutil.rmtree(again / "piece-00001")
    path = again / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileRefused, match=re.escape(name)):
        make(inputs, again, "1/1")


def test_an_order_that_was_altered_is_refused(again, inputs):
    path = again / "order.json"
    path.write_bytes(without_seal(altered(path.read_bytes())))
    with pytest.raises(FileRefused, match=r"order\.json was altered"):
        make(inputs, again, "1/1")


def test_a_folder_of_receipts_that_was_lost_is_made_again(again, whole, inputs):
    shutil.rmtree(again / "receipts")
    make(inputs, again, "1/1")
    assert tree(again) == tree(whole)


def test_a_folder_in_place_of_the_order_is_refused(again, inputs):
    (again / "order.json").unlink()
    (again / "order.json").mkdir()
    with pytest.raises(CannotContinue, match=r"order\.json is there, and no file: remove it"):
        make(inputs, again, "1/1")


def test_another_job_may_make_the_folder_at_any_moment(tmp_path, monkeypatch):
    """All jobs of an array begin at the same time."""
    check = output.check_replaceable

    def just_made(path, *arguments, **options):
        if path.name == "store":
            path.mkdir()
        check(path, *arguments, **options)

    monkeypatch.setattr(output, "check_replaceable", just_made)
    output.check_output(tmp_path / "store", 10, [])


def lost(path):
    path.unlink()
    return "is missing"


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])
    return r"bytes, its receipt promises [0-9,]+"


@pytest.mark.parametrize("harm", [lost, cut])
@pytest.mark.parametrize("piece", [0, 4])
def test_a_finished_piece_that_is_not_there_any_more_is_refused(harm, piece, again, whole, inputs):
    """Who says that the store is whole has looked, job or engine."""
    reason = harm(again / f"piece-{piece:05d}" / "part-00000.h5")
    for made_by in ({"part": "1/1"}, {"engine": LocalEngine(1)}):
        with pytest.raises(FileRefused, match=f"{reason}: remove .*piece-0000{piece} and .*json"):
            extract(inputs, again, **OPTIONS, **made_by)
    shutil.rmtree(again / f"piece-{piece:05d}")  # as it says
    receipt(again, piece).unlink()
    make(inputs, again, "1/1")
    assert tree(again) == tree(whole)


def test_rejects_that_are_not_there_any_more_are_refused(with_rejects, tmp_path):
    make(with_rejects, tmp_path / "store", "1/1", allow_rejects=True)
    (tmp_path / "store" / "piece-00001" / "rejects.jsonl").unlink()
    with pytest.raises(FileRefused, match=r"rejects\.jsonl is missing: remove "):
        make(with_rejects, tmp_path / "store", "1/1", allow_rejects=True)


def test_no_changed_bit_of_an_order_is_followed(again, inputs):
    """Also where no piece is finished yet, so that no receipt names it."""
    for path in receipts_of(again):
        path.unlink()
    path, rng = again / "order.json", random.Random(7)
    content = path.read_bytes()
    for at in rng.sample(range(len(content)), 30):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises((FileRefused, InputError), match=r"order\.json"):
            make(inputs, again, "9/9")
    order = unsealed(content)
    order["pieces"]["count"] += 1
    path.write_bytes(sealed(order, indent=1))
    with pytest.raises(InputError, match=r"pieces of inputs of the same size: 7, .* there, 6, "):
        make(inputs, again, "9/9")


def test_an_order_without_a_seal_is_as_its_receipts_name_it(again, inputs):
    """The first stores have such orders."""
    path = again / "order.json"
    unnamed = without_seal(path.read_bytes())
    for one in receipts_of(again):
        receipt = unsealed(one.read_bytes()) | {"order": digest_of(unnamed)}
        one.write_bytes(sealed(receipt))
    for left in (unnamed, None):
        path.unlink() if left is None else path.write_bytes(unnamed)
        (again / "store.json").unlink()
        assert make(inputs, again, "1/1").outcome == "unchanged"
        assert path.read_bytes() == unnamed and verify(again).whole


def test_an_order_comes_back_from_json(whole):
    data = (whole / "order.json").read_bytes()
    order = Order.from_json(data, "order.json")
    assert order.to_json() == data and order.of_store == read_order(whole)
    assert [name for name, _ in order.inputs] == [f"{name}.csv" for name in FILES]


# --------------------------------------------------------------------- killed, or done twice


def test_killed_between_the_shards_and_the_receipt(again, whole, inputs):
    """What has its name is described, not made again."""
    for path in (receipt(again, 2), again / "store.json"):
        path.unlink()
    summary = make(inputs, again, "2/3")
    assert (summary.made, summary.encoded, summary.compute) == (0, 0, "")
    assert tree(again) == tree(whole)


def test_what_has_its_name_and_is_damaged_is_refused(again, inputs):
    receipt(again, 2).unlink()
    shard = again / "piece-00002" / "part-00000.h5"
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FileRefused, match=r"piece-00002/part-00000\.h5"):
        make(inputs, again, "1/1")


def work_of(store, inputs):
    pieces = split([str(path) for path in inputs], shard_rows=12)
    order = Order.from_json((store / "order.json").read_bytes(), "order.json")
    model = str(OPTIONS["model"])
    return pieces, MakePieces(
        store, order, model, None, Runtime("float32"), Columns(), InputFormat()
    )


def test_the_work_goes_to_any_process_and_makes_a_piece(again, whole, inputs):
    pieces, work = work_of(again, inputs)
    receipt(again, 4).unlink()
    shutil.rmtree(again / "piece-00004")
    sent, piece = pickle.loads(pickle.dumps((work, pieces[4])))
    with sent.open() as make_piece:
        assert make_piece(piece).to_json() == receipt(whole, 4).read_bytes()
    assert {name for name in tree(again) if name != ".work"} == set(tree(whole))


def test_two_at_one_piece_commit_it_once(again, whole, inputs):
    _, work = work_of(again, inputs)
    receipt(again, 0).unlink()
    (again / "store.json").unlink()
    shutil.rmtree(again / "piece-00000")
    with scratch(again / ".work", 0, work.order.of_store.digest) as folder:  # a slow one
        assert is_being_made(again / ".work", 0)
        assert make(inputs, again, "1/1").made == 1
        assert folder.is_dir(), "the work of another process was taken away"
    assert make(inputs, again, "1/1").made == 0
    assert tree(again) == tree(whole)


def test_a_slow_double_finds_the_piece_made(again, whole, inputs, monkeypatch):
    """It comes to its end after another one has committed the same piece."""
    pieces, work = work_of(again, inputs)
    receipt(again, 3).unlink()
    shutil.rmtree(again / "piece-00003")
    with work.open() as slow, work.open() as fast:
        run = slow._run

        def run_and_wait(piece, output):
            run(piece, output)
            fast(piece)

        monkeypatch.setattr(slow, "_run", run_and_wait)
        assert slow(pieces[3]).to_json() == receipt(whole, 3).read_bytes()
    sweep(again / ".work", {3})
    assert tree(again) == tree(whole)


def test_a_piece_with_other_rows_is_refused_and_one_with_other_bits_is_told(again, inputs):
    said = []
    _, work = work_of(again, inputs)
    order = work.order.of_store
    (made,) = read_receipts(again, order, [3])
    content = unsealed(receipt(again, 3).read_bytes())
    content["shards"][0]["seal"] = "0" * 64
    receipt(again, 3).write_bytes(sealed(content))
    assert put_receipt(again, order, made, again, said.append).shards[0].seal == "0" * 64
    assert len(said) == 1 and "vectors that differ in their bits" in said[0]
    content["shards"][0]["input_digest"] = "1" * 64
    receipt(again, 3).write_bytes(sealed(content))
    with pytest.raises(FileRefused, match=r"piece 3 of .* was made twice"):
        put_receipt(again, order, made, again, said.append)


def test_work_of_another_order_is_thrown_away(tmp_path):
    with pytest.raises(RuntimeError), scratch(tmp_path / ".work", 5, "a" * 64) as folder:
        (folder / "shards").mkdir()
        raise RuntimeError
    assert (folder / "shards").exists()
    with scratch(tmp_path / ".work", 5, "b" * 64) as found:
        assert found == folder and [path.name for path in found.iterdir()] == ["lock"]
    assert not folder.exists()


def test_sweeping_leaves_what_somebody_is_at_and_what_is_not_finished(tmp_path):
    work = tmp_path / ".work"
    for name in ("00001", "00001.2", "00002", "00003", "new", "notes"):
        (work / name).mkdir(parents=True)
    with scratch(work, 3, "a" * 64):
        sweep(work, {1, 3})
        assert sorted(path.name for path in work.iterdir()) == ["00002", "00003", "notes"]


def test_ctrl_c_says_how_to_go_on(whole, inputs, tmp_path):
    store = copy_choice(whole, tmp_path / "store")

    def interrupt(progress):
        if progress.fraction >= 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupted:
        make(inputs, store, "0/2", progress=interrupt)
    assert "1 of the 3 pieces of part 0/2 are finished" in str(interrupted.value)
    assert "run the same command to go on" in str(interrupted.value)
    for part in ("0/2", "1/2"):
        make(inputs, store, part)
    assert tree(store) == tree(whole)


# ----------------------------------------------------------------------------------- rejects


@pytest.fixture
def with_rejects(tmp_path):
    """Three pieces: all rows of the second are rejects, one of the third."""
    paths = write_inputs(tmp_path / "in", {"a": 12, "b": 12, "c": 12})
    paths[1].write_text("id,text,label\n" + "b,one,two,many\n" * 11)
    paths[2].write_text(paths[2].read_text() + "c99,one,two,many\n")
    return paths


def test_rejects_are_counted_piece_by_piece_and_judged_over_the_whole(with_rejects, tmp_path):
    store, said = tmp_path / "store", []
    first = make(with_rejects, store, "1/3", say=said.append)
    assert (first.rows, first.rejected) == (0, 11)
    assert (store / "piece-00001" / "rejects.jsonl").read_text().count("\n") == 11
    assert [path.name for path in (store / "piece-00001").iterdir()] == ["rejects.jsonl"]
    make(with_rejects, store, "2/3")
    with pytest.raises(InputError, match="12 of 36 rows were rejected, more than a fifth") as error:
        make(with_rejects, store, "3/3")
    assert "piece-*/rejects.jsonl" in str(error.value)
    assert not (store / "store.json").exists()
    (fault,) = verify(store).faults
    assert fault.reason.startswith("its pieces are not joined: 12 of 36 rows were rejected")
    assert "give `allow_rejects` to the same `frostline extract`" in fault.reason
    assert not (store / "store.json").exists(), "whoever joins judges in the same way"
    last = make(with_rejects, store, "3/3", allow_rejects=True, say=said.append)
    assert (last.made, last.missing) == (0, ())
    assert any(line.startswith("WARNING: 12 of 36 rows were rejected") for line in said)
    with FeatureStore(store) as found:
        assert found.n_rows == 24
    (store / "store.json").write_text("damaged")
    assert verify(store).whole, "its rejects were allowed when it was joined"


def test_strict_ends_at_the_first_reject(with_rejects, tmp_path):
    with pytest.raises(InputError, match=r"b\.csv, line 2: .*`strict`"):
        make(with_rejects, tmp_path / "store", "1/3", strict=True)
    assert not list((tmp_path / "store" / "receipts").iterdir())


def test_nothing_of_use_in_all_pieces(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text,label\n" + "b,one,two,many\n" * 3)
    with pytest.raises(InputError, match="has no row of use: all 3 were rejected, the reasons are"):
        make([path], tmp_path / "store", "1/1", allow_rejects=True)
    path.write_text("id,text,label\n")
    with pytest.raises(InputError, match="has no row of use: its inputs have none"):
        make([path], tmp_path / "header", "1/1")


@pytest.mark.parametrize(
    ("part", "start", "doubled", "without"), [("2/2", "in part 2/2: ", 1, 2), ("1/1", "", 3, 4)]
)
def test_what_a_job_has_seen_is_said_of_its_part(part, start, doubled, without, tmp_path):
    """A job counts what it has read."""
    paths, said = write_inputs(tmp_path / "in", {"a": 12, "b": 12}), []
    for path in paths:
        path.write_text(re.sub("(?m)^.5,", "0,", re.sub("(?m)^.[67],", ",", path.read_text())))
        path.write_text(path.read_text().replace(f"{path.stem}4,", "0,"))
    make(paths, tmp_path / "store", part, say=said.append)
    assert said[-2:] == [
        f"{start}{doubled} rows have the id of an earlier row",
        f"{start}{without} rows have no id; each gets one by its place in the input",
    ]


# --------------------------------------------------------------------------- what runs the model


def test_who_is_second_follows_the_first(whole, tmp_path):
    first = Agreed.from_json((whole / "choice.json").read_bytes(), "choice.json")
    loads = []

    class Encoder:
        device = "cpu"

        def __init__(self, choice):
            self.choice = choice

    def load(choice):
        loads.append(choice)
        if choice is None:  # another job is first while this one measures
            shutil.copy(whole / "choice.json", tmp_path / "choice.json")
        return Encoder(choice or first.choice)

    found = agreed_encoder(tmp_path, load, first.versions, [].append)
    assert found.choice == first.choice and loads == [None, first.choice]


@pytest.mark.parametrize(
    ("field", "value"),
    [("device", "cuda"), ("backend", "onnx")],
)
def test_a_machine_that_cannot_follow_is_refused(field, value, whole, inputs, tmp_path):
    store = copy_choice(whole, tmp_path / "store")
    path = store / "choice.json"
    content = unsealed(path.read_bytes())
    if field == "device":
        content["device"] = value
    else:
        content["choice"]["candidate"] |= {"backend": value, "kernels": ""}
    path.write_bytes(sealed(content))
    with pytest.raises(CannotContinue, match=r"is encoded by .* as its first job chose, and here"):
        make(inputs, store, "1/1")


@pytest.mark.parametrize("lost", ["removed", "with all receipts but one"])
def test_a_choice_that_was_lost_is_made_again_as_it_was(lost, whole, again, inputs):
    for piece in range(1, N_PIECES) if lost != "removed" else [1]:
        receipt(again, piece).unlink()
        shutil.rmtree(again / f"piece-{piece:05d}")
    (again / "choice.json").unlink()
    (again / "store.json").unlink()
    make(inputs, again, "1/1")
    assert tree(again) == tree(whole)


CHOICES = [
    (
        "dtype",
        "bfloat16",
        r"torch bfloat16.* on cpu, .* were made by torch float32.* on cpu, 2,048",
    ),
    ("kernels", "other", r"torch float32.* on cpu, .* were made by torch float32.* on cpu"),
    ("attention", "products", r"torch float32.* with attention by products on cpu, .* bits would"),
    ("max_batch_tokens", 512, r"on cpu, 512 tokens in a batch, and finished pieces were made by"),
    ("attention", "flash", r"is damaged: not a choice: it attends by 'flash'; remove it: the next"),
    ("max_batch_tokens", True, "is damaged: not a choice: it says"),
    ("streams", "many", "is damaged: not a choice: it says"),
    ("candidate", None, "is damaged: not a choice"),
]


@pytest.mark.parametrize(("field", "value", "said"), CHOICES)
def test_another_choice_than_that_of_finished_pieces_is_refused(
    field, value, said, whole, again, inputs
):
    receipt(again, 1).unlink()
    shutil.rmtree(again / "piece-00001")
    path = again / "choice.json"
    content = unsealed(path.read_bytes())
    choice = content["choice"]
    if field == "kernels":
        value = {"plain": "prepacked", "prepacked": "plain"}[choice["candidate"]["kernels"]]
    (choice if field in choice else choice["candidate"])[field] = value
    path.write_bytes(sealed(content))
    with pytest.raises(FileRefused, match=said):
        make(inputs, again, "1/1")
    path.unlink()  # as the messages say
    make(inputs, again, "1/1")
    assert tree(again) == tree(whole)


def test_other_versions_are_told(again, inputs):
    receipt(again, 1).unlink()
    shutil.rmtree(again / "piece-00001")
    path, said = again / "choice.json", []
    content = unsealed(path.read_bytes())
    content["versions"]["numpy"] = "0.9"
    path.write_bytes(sealed(content))
    make(inputs, again, "1/1", say=said.append)
    assert any("WARNING: the first job" in line and "numpy 0.9, here" in line for line in said)


def test_another_model_at_the_place_is_refused(again, inputs, tiny_model):
    pieces, work = work_of(again, inputs)
    receipt(again, 1).unlink()
    shutil.rmtree(again / "piece-00001")
    other = pickle.loads(pickle.dumps(work))
    object.__setattr__(other, "model", str(tiny_model("roberta")))
    with other.open(Told()) as make_piece, pytest.raises(FileRefused, match="is not the one that"):
        make_piece(pieces[1])


# -------------------------------------------------------------------------------- large files


def test_a_large_file_is_looked_at_once_for_all_jobs(tmp_path, monkeypatch):
    from features.pieces import indexes

    paths, looks = write_inputs(tmp_path / "in", {"a": 60}), []
    look = indexes.make_index
    monkeypatch.setattr(indexes, "make_index", lambda request: looks.append(1) or look(request))
    for part in ("1/2", "2/2"):
        make(paths, tmp_path / "store", part)
    assert len(looks) == 1
    with FeatureStore(tmp_path / "store") as store:
        assert store.ids() == [f"a{n}" for n in range(60)] and len(store.paths) == 5
    (kept,) = (tmp_path / "store" / "indexes").iterdir()
    as_it_was, said = kept.read_bytes(), []
    index_of = kept_in(tmp_path / "store", lambda: None, said.append)
    for number, damaged in enumerate([b"{}", b"[" * 100_000, as_it_was.replace(b"0", b"1", 1)], 1):
        kept.write_bytes(damaged)
        for _ in range(2):
            assert split([str(paths[0])], shard_rows=12, index_of=index_of)
            assert len(looks) == 1 + number and len(said) == number and "is damaged" in said[-1]
        assert kept.read_bytes() == as_it_was, "it is made again"


NAMES = {
    "long": "n" * 251,
    "long in bytes": "\u00fc" * 125,
    "cut in a character": "\U0001f600" * 62,
    "not Unicode": "\udcff" * 230,
    "odd": "a\nb%2F*",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_file_of_any_name_has_an_index(name, tmp_path):
    (path,) = write_inputs(tmp_path / "in", {"a": 60})
    path = path.rename(path.with_name(f"{name}.csv"))
    index_of = kept_in(tmp_path / "store", partial(make_folders, tmp_path / "store"), [].append)
    pieces = split([str(path)], shard_rows=12, index_of=index_of)
    (kept,) = (tmp_path / "store" / "indexes").iterdir()
    assert len(pieces) == 5 and kept.suffix == ".json"


def test_a_file_that_changes_between_two_jobs_is_refused(whole, tmp_path):
    paths = write_inputs(tmp_path / "in", {"a": 10})
    piece = Piece(0, (Span(str(paths[0]), paths[0].stat().st_size + 1),))
    _, work = work_of(whole, paths)
    copy = Path(shutil.copytree(whole, tmp_path / "store"))
    object.__setattr__(work, "store", copy)
    receipt(copy, 0).unlink()
    shutil.rmtree(copy / "piece-00000")
    with work.open() as make_piece, pytest.raises(InputError, match="when the input was split"):
        make_piece(piece)


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(inputs, tmp_path):
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(CannotContinue, match="store cannot be written: "):
        make(inputs, tmp_path / "store", "1/1")


def test_what_was_measured_to_choose_is_in_no_byte_of_a_store(whole, inputs, tmp_path):
    agreed = unsealed((whole / "choice.json").read_bytes())
    assert agreed["choice"]["rates"] == agreed["choice"]["left_out"] == {}
    store = copy_choice(whole, tmp_path / "store")
    agreed["choice"] |= {"rates": {"torch float32": 12.5}, "left_out": {"onnx float32": "slow"}}
    (store / "choice.json").write_bytes(sealed(agreed))
    make(inputs, store, "1/1")
    (store / "choice.json").write_bytes((whole / "choice.json").read_bytes())
    assert tree(store) == tree(whole)
