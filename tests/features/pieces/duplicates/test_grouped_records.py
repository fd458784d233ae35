"""Groups of records in a file: what is written is read, and damage is found."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import FileRefused, InputError
from features.pieces.duplicates.grouped_records import read_ends, read_groups, write_groups

RECORD = np.dtype([("digest", "S3"), ("number", "<u4")])


def records_of(n):
    records = np.zeros(n, RECORD)
    records["digest"] = [bytes([i % 251, 0, 0]) for i in range(n)]
    records["number"] = np.arange(n)
    return records


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(sizes=st.lists(st.integers(0, 5), max_size=8), data=st.data())
def test_any_neighbouring_groups_are_read_alone(tmp_path, sizes, data):
    records, ends = records_of(sum(sizes)), np.cumsum(sizes, dtype=np.int64)
    (tmp_path / "groups").unlink(missing_ok=True)
    write_groups(tmp_path / "groups", records, ends)
    assert read_ends(tmp_path / "groups", RECORD).tolist() == ends.tolist()
    first = data.draw(st.integers(0, len(sizes)))
    stop = data.draw(st.integers(first, len(sizes)))
    found, starts = read_groups(tmp_path / "groups", RECORD, first, stop)
    before = sum(sizes[:first])
    assert found.tolist() == records[before : before + sum(sizes[first:stop])].tolist()
    assert starts.tolist() == np.cumsum([0, *sizes[first:stop]]).tolist()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "groups"
    write_groups(path, records_of(7), np.array([3, 3, 5, 7]))
    return path


def test_every_changed_bit_of_what_is_read_is_found(written):
    whole = written.read_bytes()
    expected = [read_groups(written, RECORD, n, n + 1)[0].tolist() for n in range(4)]
    for position in range(len(whole)):
        for bit in (1, 128):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            written.write_bytes(damaged)
            refused = 0
            for n in range(4):
                try:
                    assert read_groups(written, RECORD, n, n + 1)[0].tolist() == expected[n]
                except FileRefused as error:
                    refused += 1
                    assert "remove it, and run the same command again" in str(error)
            assert refused > 0, position


def test_a_file_that_is_cut_off_is_refused(written):
    whole = written.read_bytes()
    for size in range(len(whole)):
        written.write_bytes(whole[:size])
        with pytest.raises(FileRefused):
            read_groups(written, RECORD, 0, 4)


def test_records_of_another_type_and_missing_files_are_refused(written, tmp_path):
    with pytest.raises(FileRefused, match="records of 7 bytes, not of 16"):
        read_groups(written, np.dtype("S16"), 0, 4)
    with pytest.raises(InputError, match="no such file"):
        read_ends(tmp_path / "other", RECORD)


def test_what_is_there_first_stays(written):
    before = written.read_bytes()
    write_groups(written, records_of(1), np.array([1]))
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]
