"""`verify` joins a store that is made in pieces, names what is missing, and checks every shard."""

import random
import shutil

import pytest
from click.testing import CliRunner
from damage import flip_a_byte
from pieces_stores import write_order, write_piece, write_pieces
from stores import blobs, write_store

from features.errors import FileRefused
from features.store.joined import layout
from features.store.joined.fields import sealed, unsealed
from features.store.joined.index import Index
from features.store.joined.join import join
from features.store.verify import verify
from pipeline.cli.commands import main


@pytest.fixture
def made(tmp_path):
    return tmp_path / "store", write_pieces(tmp_path / "store")


def run(*arguments):
    result = CliRunner().invoke(main, [str(one) for one in arguments], prog_name="frostline")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def receipts_of(store):
    return sorted(layout.receipts_folder(store).iterdir())


def reasons(store):
    found = [fault.reason for fault in verify(store).faults]
    assert all("\n" not in reason for reason in found)
    return found


def test_a_whole_store_is_joined(made):
    store, shards = made
    shares = []
    found = verify(store, progress=shares.append)
    assert found.whole and found.in_pieces, found.faults
    assert (found.files, found.rows, found.views) == (6, 199, ("cls", "mean"))
    assert found.bytes == sum(path.stat().st_size for path in shards)
    assert 0.5 < shares[-1] <= 1 and shares == sorted(shares)
    assert [line.split(":")[0] for line in found.remarks] == ["joined"]
    written = layout.store_path(store).read_bytes()
    assert verify(store).remarks == (), "it is joined once"
    layout.store_path(store).write_bytes(b"of an earlier frostline")
    assert [line.split(":")[0] for line in verify(store).remarks] == ["joined again"]
    assert layout.store_path(store).read_bytes() == written


def test_missing_pieces(tmp_path):
    order = write_order(tmp_path / "s", 8)
    for piece in (0, 5):
        write_piece(tmp_path / "s", order, piece)
    layout.piece_folder(tmp_path / "s", 3).mkdir()  # killed before its receipt
    found = verify(tmp_path / "s")
    (fault,) = found.faults
    assert "lacks pieces 1-4, 6-7 of 8" in fault.reason
    assert found.rows == 80, "what is there is checked"
    assert any("piece-00003 is there without a receipt" in line for line in found.remarks)
    assert not layout.store_path(tmp_path / "s").exists()
    code, said = run("verify", tmp_path / "s")
    assert code == 3 and "broken: " in said and "--part" in said
    code, said = run("inspect", tmp_path / "s")
    assert code == 0 and "2 of 8" in said and "1-4, 6-7" in said and "80 so far" in said


def test_inspect_shows_pieces_and_rows(made):
    store, _ = made
    code, said = run("inspect", store)
    assert code == 0 and "4 of 4" in said and "frostline verify" in said
    assert run("verify", store)[0] == 0
    code, said = run("inspect", store)
    assert code == 0 and "6 in 4 pieces" in said and "199 (" in said and "a.csv, b.csv" in said


def removed(store, shards):
    shards[2].unlink()
    return ["is missing", "cannot be read", "No such file"]


def cut(store, shards):
    shards[2].write_bytes(shards[2].read_bytes()[:-10])
    return ["does not end in its seal"]


def flipped(store, shards):
    flip_a_byte(shards[2], "mean")
    return ["bits of it have changed"]


def replaced(store, shards):
    X, y = blobs(50, 8, 3, seed=3)
    shards[2].unlink()
    write_store(shards[2], {"cls": X, "mean": X[:, :4]}, y)
    return ["(seal)", "(bytes, seal", "(seal, "]


def a_receipt_that_lies(store, shards):
    path = layout.receipt_path(store, 2)
    content = unsealed(path.read_bytes())
    content["shards"][0] |= {"rows": 51, "input_digest": "8" * 64}
    path.write_bytes(sealed(content))
    return ["(rows, digest of the input)"]


@pytest.mark.parametrize("damage", [removed, cut, flipped, replaced, a_receipt_that_lies])
def test_a_shard_that_is_not_as_promised(made, damage):
    store, shards = made
    wordings = damage(store, shards)
    found = verify(store)
    (fault,) = found.faults
    assert fault.file == str(shards[2])
    assert any(wording in fault.reason for wording in wordings), fault.reason
    assert "receipts/00002.json" in fault.reason and "piece-00002" in fault.reason
    assert found.rows == 149
    assert not layout.store_path(store).exists(), "what is broken is not joined"
    assert run("verify", store)[0] == 3


def changed_rejects(store):
    path = layout.piece_folder(store, 1) / layout.REJECTS
    path.write_text(path.read_text().replace("no text", "no test"))
    return path, "does not hold the 1 rejects"


def removed_rejects(store):
    path = layout.piece_folder(store, 1) / layout.REJECTS
    path.unlink()
    return path, "does not hold the 1 rejects"


def cut_rejects(store):
    path = layout.piece_folder(store, 1) / layout.REJECTS
    path.write_text(path.read_text()[:-9])
    return path, "is damaged"


def surplus_rejects(store):
    path = layout.piece_folder(store, 2) / layout.REJECTS
    path.write_bytes((layout.piece_folder(store, 1) / layout.REJECTS).read_bytes())
    return path, "does not hold the 0 rejects"


def other_sums(store):
    path = layout.receipt_path(store, 2)
    path.write_bytes(sealed(unsealed(path.read_bytes()) | {"tokens": 251, "empty": 1}))
    return path, "does not say what its shards hold (tokens, empty)"


@pytest.mark.parametrize(
    "damage", [changed_rejects, removed_rejects, cut_rejects, surplus_rejects, other_sums]
)
def test_a_piece_that_is_not_as_promised(made, damage):
    store, _ = made
    path, wording = damage(store)
    (fault,) = verify(store).faults
    assert fault.file == str(path) and wording in fault.reason
    assert "`frostline extract` again" in fault.reason
    assert not layout.store_path(store).exists()


# Of shards, `tests/features/store/test_verify.py` changes thousands.
KINDS = ["order.json", "store.json", "receipts/*.json", "piece-*/rejects.jsonl"]
KINDS_OF_JOBS = ["choice.json", "indexes/*.json"]


@pytest.mark.parametrize("kind", KINDS + KINDS_OF_JOBS)
def test_no_changed_bit_passes(tmp_path, kind):
    """Of `store.json` a right one is made."""
    store = tmp_path / "store"
    write_pieces(store, [(30, 1), (), (2,)])
    join(store)
    (store / layout.INDEXES).mkdir()
    (store / layout.INDEXES / "a.csv-0.json").write_bytes(sealed({"parts": [0, 7]}))
    (store / layout.CHOICE).write_bytes(sealed({"device": "cpu"}, indent=1))
    kept, rng = layout.store_path(store).read_bytes(), random.Random(7)
    paths = sorted(store.glob(kind))
    assert paths
    for path in paths:
        content = path.read_bytes()
        for at in rng.sample(range(len(content)), 6):
            damaged = bytearray(content)
            damaged[at] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            found = verify(store)
            remade = kind == "store.json" and path.read_bytes() == kept and found.remarks
            # Without its name a seal is none, and what it was the seal of is as it was.
            nameless = kind in KINDS_OF_JOBS and b"sha256" not in damaged
            assert not found.whole or remade or nameless, (path, at, damaged)
        path.write_bytes(content)
    assert verify(store).whole


def test_no_changed_bit_is_joined_or_read(tmp_path):
    """Also where nobody verifies: by the last job, and by who reads vectors."""
    store = tmp_path / "store"
    write_pieces(store, [(30, 1), (), (2,)])
    kept, rng = join(store).to_json(), random.Random(7)
    read = {layout.store_path(store): lambda data: Index.from_json(data, "store.json")}
    for path in (layout.order_path(store), layout.store_path(store), *receipts_of(store)):
        content = path.read_bytes()
        for at in rng.sample(range(len(content)), 60):
            damaged = bytearray(content)
            damaged[at] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            try:
                found = read.get(path, lambda data: join(store))(bytes(damaged))
            except FileRefused:
                continue
            assert found.to_json() == kept, (path, at, damaged)
        path.write_bytes(content)
    assert layout.store_path(store).read_bytes() == kept


def test_the_cure_works(made):
    """What the message says to remove is all that has to be made again."""
    store, shards = made
    join(store)
    kept = layout.store_path(store).read_bytes()
    piece, receipt = layout.piece_folder(store, 2), layout.receipt_path(store, 2)
    again = receipt.read_bytes(), shards[2].read_bytes()
    cut(store, shards)
    assert reasons(store)
    shutil.rmtree(piece)
    receipt.unlink()
    piece.mkdir()  # as the same `extract` does
    shards[2].write_bytes(again[1])
    receipt.write_bytes(again[0])
    assert reasons(store) == []
    assert layout.store_path(store).read_bytes() == kept


def test_a_first_shard_that_is_broken_is_said_once(made):
    store, shards = made
    cut(store, [shards[1], shards[1], shards[0]])
    assert len(reasons(store)) == 1
    assert not layout.store_path(store).exists()


def test_all_that_is_wrong_with_receipts(made):
    store, shards = made
    layout.receipt_path(store, 3).write_bytes(b"{")
    layout.receipt_path(store, 1).unlink()
    shards[0].unlink()
    found = verify(store)
    assert len(found.faults) == 3
    assert [name in "".join(reasons(store)) for name in ("00003.json", "piece 1 of 4")] == [
        True
    ] * 2


def test_receipts_that_do_not_fit_together(tmp_path):
    order = write_order(tmp_path / "s", 2)
    write_piece(tmp_path / "s", order, 0)
    write_piece(tmp_path / "s", order, 1, precision="half")
    (reason,) = reasons(tmp_path / "s")
    assert "don't belong together" in reason


def test_an_order_that_cannot_be_read(made):
    store, _ = made
    layout.order_path(store).write_bytes(b"{")
    (reason,) = reasons(store)
    assert "order.json" in reason
    assert run("inspect", store)[0] == 3
    assert run("verify", store)[0] == 3
