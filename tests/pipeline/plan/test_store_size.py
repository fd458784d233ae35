"""Bytes of a store before it is written, against files that are written."""

import h5py
import numpy as np
import pytest
from stores import write_store

from pipeline.plan.store_size import (
    column_bytes,
    dataset_bytes,
    file_bytes,
    store_bytes,
    view_bytes,
)

FILES = [
    (1, {"cls": 8}, "float16"),
    (100, {"cls": 384, "mean@last4+concat": 1536}, "float32"),
    (681, {"mean": 384}, "float16"),  # a row less than a chunk
    (683, {"mean": 384}, "float16"),  # a row more
    (9_000, {"mean": 64, "max": 32}, "float16"),
    (40_000, {"mean": 16}, "float32"),
]


@pytest.mark.parametrize(("n_rows", "views", "dtype"), FILES)
def test_bytes_are_those_of_a_file(n_rows, views, dtype, tmp_path):
    """Of each dataset to the byte; of the file but for attributes of any length."""
    path = tmp_path / "some.h5"
    matrices = {view: np.zeros((n_rows, width), np.float32) for view, width in views.items()}
    write_store(path, matrices, [0] * n_rows, store_dtype=dtype)
    with h5py.File(path) as file:
        id_bytes = file["id"].dtype.itemsize
        stored = {name: file[name].id.get_storage_size() for name in file}
    of_views = view_bytes(n_rows, views, dtype)
    assert {view: stored.pop(view) for view in views} == of_views
    assert column_bytes(n_rows, id_bytes) == sum(stored.values())
    said = file_bytes(n_rows, views, dtype, id_bytes)
    assert said == pytest.approx(path.stat().st_size, abs=4_000)


def test_a_store_is_its_shards():
    views, dtype = {"mean": 384}, "float16"
    whole = file_bytes(1000, views, dtype, 12)
    assert store_bytes(3000, 1000, views, dtype, 12) == 3 * whole
    rest = file_bytes(1, views, dtype, 12)
    assert store_bytes(3001, 1000, views, dtype, 12) == 3 * whole + rest
    assert store_bytes(10**10, 10**6, views, dtype, 12) > 10**10 * 768


def test_no_rows_are_no_bytes():
    assert dataset_bytes(0, 768) == 0
