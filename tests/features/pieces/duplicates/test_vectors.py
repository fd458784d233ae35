"""Vectors of shared texts: what an owner writes is what others fetch, and damage is found."""

import numpy as np
import pytest
from stores import SPEC

from features.errors import CannotContinue, FileRefused, InputError
from features.extraction.encoding import GivenTexts
from features.pieces.duplicates.digests import distinct
from features.pieces.duplicates.owners import TAKE
from features.pieces.duplicates.vectors import SharedVectors, write_shared
from features.spec.vector_spec import VectorSpec

VECTORS = VectorSpec(SPEC, {"mean": 3, "cls": 2}, "float32", "float16")
ASKED = VectorSpec(SPEC, {"cls": 0, "mean": 0}, None, "float16")


def digest_of(number):
    """In the order of the numbers, with zeros at the end that numpy would cut off."""
    return number.to_bytes(2, "big") + bytes(14)


def texts_of(numbers):
    values = np.array(numbers, np.float64)[:, None]
    return GivenTexts(
        [digest_of(n) for n in numbers],
        [n + 1 for n in numbers],
        [n % 2 == 1 for n in numbers],
        {
            "mean": (values + np.arange(3) / 4).astype(np.float16),
            "cls": (values * np.array([1, -1])).astype(np.float16),
        },
    )


def write(path, numbers, ends, chunks):
    with write_shared(
        path, VECTORS, distinct([[digest_of(n) for n in numbers]]), np.array(ends)
    ) as writer:
        for chunk in chunks:
            assert writer.wanted([digest_of(n) for n in chunk]) == [True] * len(chunk)
            writer.add(texts_of(chunk))
            assert writer.wanted([digest_of(n) for n in chunk]) == [False] * len(chunk)


def takes_of(rows):
    takes = np.zeros(len(rows), TAKE)
    for n, (number, owner, place) in enumerate(rows):
        takes["digest"][n] = digest_of(number)
        takes["owner"][n], takes["place"][n] = owner, place
    return takes


@pytest.fixture
def files(tmp_path):
    """Owner 0 has the texts 3, 5 | 300; owner 2 has 4 | 400, 500, in two ranges."""
    write(tmp_path / "0", [3, 5, 300], [2, 3], [[300, 3], [5]])
    write(tmp_path / "2", [4, 400, 500], [1, 3], [[4, 400, 500]])
    return tmp_path


# Of the first range 3 and 4, of the second 300 and 500.
TAKES = takes_of([(3, 0, 0), (4, 2, 0), (300, 0, 0), (500, 2, 1)]), np.array([2, 4])


def fetched(files, takes=TAKES, vectors=ASKED):
    return SharedVectors(*takes, lambda n: files / str(n), vectors, files / "scratch")


def test_each_text_gets_its_own_vectors(files):
    with fetched(files) as shared:
        found = shared.find([digest_of(n) for n in (500, 7, 3, 400)])
        expected = texts_of([500, 3])
        assert found.digests == expected.digests
        assert (found.n_tokens, found.truncated) == (expected.n_tokens, expected.truncated)
        for view, matrix in expected.vectors.items():
            assert found.vectors[view].tobytes() == matrix.tobytes()
        assert shared.find([digest_of(n) for n in (5, 400)]) is None
        assert shared.find([]) is None
    assert not (files / "scratch").exists()


def test_a_piece_that_takes_nothing_finds_nothing(files):
    with fetched(files, (takes_of([]), np.array([0, 0]))) as shared:
        assert shared.find([digest_of(3)]) is None


def test_the_same_texts_give_the_same_bytes_in_any_order(files):
    write(files / "again", [3, 5, 300], [2, 3], [[5], [3, 300]])
    assert (files / "again").read_bytes() == (files / "0").read_bytes()


def test_vectors_that_are_not_finite_stay_so(tmp_path):
    texts = texts_of([1])
    texts.vectors["cls"][:] = np.nan
    with write_shared(tmp_path / "0", VECTORS, distinct([[digest_of(1)]]), np.array([1])) as writer:
        writer.add(texts)
    with fetched(tmp_path, (takes_of([(1, 0, 0)]), np.array([1]))) as shared:
        assert np.isnan(shared.find([digest_of(1)]).vectors["cls"]).all()


def test_many_records_far_apart_and_near_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("features.pieces.duplicates.vectors._GAP_BYTES", 100)
    monkeypatch.setattr("features.pieces.duplicates.vectors._BLOCK_BYTES", 300)
    numbers = list(range(0, 400, 2))
    write(tmp_path / "0", numbers, [120, 200], [numbers])
    wanted = [n for n in numbers if n % 14 == 0 or 100 < n < 160]
    takes = takes_of([(n, 0, n // 2 - (120 if n >= 240 else 0)) for n in wanted])
    ends = np.array([sum(n < 240 for n in wanted), len(wanted)])
    with fetched(tmp_path, (takes, ends)) as shared:
        found = shared.find([digest_of(n) for n in numbers])
    assert found.digests == [digest_of(n) for n in wanted]
    assert found.vectors["mean"].tobytes() == texts_of(wanted).vectors["mean"].tobytes()


def test_every_changed_bit_is_found_or_changes_nothing(files):
    whole = (files / "0").read_bytes()
    takes = takes_of([(3, 0, 0), (5, 0, 1), (300, 0, 0)]), np.array([2, 3])
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        (files / "0").write_bytes(damaged)
        try:
            with fetched(files, takes) as shared:
                found = shared.find([digest_of(n) for n in (3, 5, 300)])
                for view, matrix in texts_of([3, 5, 300]).vectors.items():
                    assert found.vectors[view].tobytes() == matrix.tobytes()
        except FileRefused as error:
            refused += 1
            assert str(files / "0") in str(error)
    # In the description names may change, and where the last range ends: no text is there.
    described = int.from_bytes(whole[17:21], "little")
    assert refused >= len(whole) - described - 8


def test_files_that_are_cut_off_or_missing_are_refused(files):
    whole = (files / "2").read_bytes()
    for size in range(0, len(whole), 7):
        (files / "2").write_bytes(whole[:size])
        with pytest.raises(FileRefused):
            fetched(files)
    (files / "2").unlink()
    with pytest.raises(InputError, match="no such file"):
        fetched(files)
    assert not (files / "scratch").exists()


def test_another_place_or_other_vectors_are_refused(files):
    with pytest.raises(FileRefused, match="other texts than it should"):
        fetched(files, (takes_of([(3, 0, 1)]), np.array([1, 1])))
    with pytest.raises(FileRefused, match="damaged"):
        fetched(files, (takes_of([(3, 0, 2)]), np.array([1, 1])))
    with pytest.raises(FileRefused, match="store dtype"):
        fetched(files, vectors=VectorSpec(SPEC, ASKED.views, None, "float32"))
    with pytest.raises(FileRefused, match="precision"):
        fetched(files, vectors=VectorSpec(SPEC, ASKED.views, "half", "float16"))


def test_a_file_that_lacks_texts_does_not_appear(tmp_path):
    with pytest.raises(CannotContinue, match="1 texts that were in the input"):
        write(tmp_path / "0", [1, 2], [2], [[2]])
    assert list(tmp_path.iterdir()) == []
