"""The rows of a store as Arrow and as a data set of torch: the numbers that NumPy gives."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from stores import blobs, write_store
from torch.utils.data import DataLoader, Subset, random_split

from features.errors import FileRefused, InputError
from features.store.reader import FeatureStore

LABELS = ["class 0", "class 1", "class 2"]
N = 130
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", params=["float32", "float16"])
def store(request, tmp_path_factory):
    """Two shards of two views; every seventh row has no label."""
    folder = tmp_path_factory.mktemp("store")
    paths = []
    for number, n in enumerate((90, N - 90)):
        X, y = blobs(n, 8, 3, seed=number)
        y = np.where(np.arange(n) % 7, y, -1)
        views = {"cls": X.astype(request.param), "mean": (2 * X).astype(request.param)}
        ids = [f"é-{number}-{i}" for i in range(n)]
        paths.append(
            write_store(
                folder / f"{number}.h5", views, y, LABELS, ids=ids, store_dtype=request.param
            )
        )
    with FeatureStore(paths) as store:
        yield store


@pytest.mark.parametrize("views", ["cls", ["mean"], ["mean", "cls"]])
@pytest.mark.parametrize("block_bytes", [2**10, 2**25])
def test_arrow_has_the_rows_of_numpy(store, views, block_bytes):
    reader = store.to_arrow(views, block_bytes)
    table = reader.read_all()
    names = [views] if isinstance(views, str) else views
    assert table.column_names == ["id", "label", "n_tokens", "flags", *names]
    assert table["id"].to_pylist() == store.ids()
    codes = table["label"].to_pylist()
    assert codes == [LABELS[code] if code >= 0 else None for code in store.labels()]
    assert table["n_tokens"].to_pylist() == store.n_tokens().tolist()
    assert table["flags"].to_pylist() == store.flags().tolist()
    for name in names:
        assert str(table.schema.field(name).type) == "fixed_size_list<item: float>[8]"
        np.testing.assert_array_equal(np.array(table[name].to_pylist()), store.read(name))


def test_arrow_comes_in_blocks_of_their_size(tmp_path):
    write_store(tmp_path / "s.h5", np.ones((30_000, 64), np.float32), [-1] * 30_000)
    with FeatureStore(tmp_path / "s.h5") as store:
        sizes = [batch.num_rows for batch in store.to_arrow(block_bytes=2**20)]
    assert sum(sizes) == 30_000
    assert max(sizes) <= 2**20 // 256


def test_vectors_are_not_copied(store):
    (batch, *_) = store.to_arrow("cls")
    numbers = batch["cls"].flatten().to_numpy(zero_copy_only=True)
    assert numbers.dtype == np.float32
    frame = pl.from_arrow(pa.Table.from_batches([batch]))
    matrix = frame["cls"].to_numpy(allow_copy=False)
    assert matrix.shape == (batch.num_rows, 8)
    assert matrix.__array_interface__["data"] == numbers.__array_interface__["data"]


def test_polars_and_pandas_take_it(store):
    frame = pl.from_arrow(store.to_arrow("cls").read_all())
    assert frame.schema["cls"] == pl.Array(pl.Float32, 8)
    np.testing.assert_array_equal(frame["cls"].to_numpy(), store.read("cls"))
    assert frame["label"].cast(pl.String).null_count() == int((store.labels() < 0).sum())
    table = store.to_arrow("cls").read_all().to_pandas()
    assert isinstance(table["label"].dtype, pd.CategoricalDtype)
    np.testing.assert_array_equal(np.stack(table["cls"]), store.read("cls"))


def test_several_views_need_a_choice(store):
    for give in (store.to_arrow, store.to_torch):
        with pytest.raises(InputError, match="several views: cls, mean"):
            give()
        with pytest.raises(InputError, match="no view 'max'"):
            give("max")


def test_arrow_of_a_store_that_is_closed(tmp_path):
    path = write_store(tmp_path / "s.h5", *blobs(40, 8, 3), LABELS)
    with FeatureStore(path) as store:
        reader = store.to_arrow()
    with pytest.raises(InputError, match=r"s\.h5 is closed: read its rows as Arrow while"):
        reader.read_all()


def test_without_pyarrow(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'frostline\[parquet\]'"):
        store.to_arrow("cls")


def check_a_loader(store, context=None):
    X, y = store.read(["cls", "mean"]), store.labels()
    dataset = store.to_torch(["cls", "mean"])
    dataset[0]  # open here, before there are workers
    workers = {} if context is None else {"num_workers": 2, "multiprocessing_context": context}
    loaded = list(DataLoader(dataset, batch_size=32, **workers))
    np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in loaded]), X)
    np.testing.assert_array_equal(np.concatenate([codes.numpy() for _, codes in loaded]), y)
    vector, code = dataset[-1]
    np.testing.assert_array_equal(vector, X[-1])
    assert code == y[-1]
    dataset.close()


def test_a_loader_gives_all_rows(store):
    check_a_loader(store)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_loaders_with_workers_give_all_rows(store, context):
    """Workers that have the memory of a process, and those that have a copy.

    The process is a new one: that of the tests has threads of many libraries, and is not to fork.
    """
    paths = [str(path) for path in store.paths]
    code = (
        "if __name__ == '__main__':\n"
        "    from features.store.reader import FeatureStore\n"
        "    from test_interchange import check_a_loader\n"
        f"    with FeatureStore({paths}) as store:\n"
        f"        check_a_loader(store, {context!r})\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


def test_rows_in_any_order_and_parts_of_them(store):
    labelled = store.labels() >= 0
    X, y = store.read("mean", labelled), store.labels()[labelled]
    dataset = store.to_torch("mean", labelled)
    assert len(dataset) == len(y) < N
    order = np.random.default_rng(0).integers(0, len(y), 300)  # some of them twice
    found = dataset.__getitems__(order.tolist())
    np.testing.assert_array_equal(np.stack([vector for vector, _ in found]), X[order])
    assert [code for _, code in found] == y[order].tolist()
    part, rest = random_split(dataset, [40, len(y) - 40])
    seen = [code for some in (part, rest) for _, codes in DataLoader(some, 16) for code in codes]
    assert sorted(map(int, seen)) == sorted(y.tolist())
    assert Subset(dataset, [3])[0][1] == y[3]
    for number in (len(y), -len(y) - 1):
        with pytest.raises(IndexError):
            dataset[number]
    assert list(store.to_torch("mean", np.zeros(N, bool))) == []
    assert repr(dataset) == f"VectorDataset({len(y)} rows of mean, 8 wide)"


def test_a_copy_opens_the_files_again(store):
    dataset = store.to_torch("cls")
    first = dataset[5][0]
    again = pickle.loads(pickle.dumps(dataset))
    dataset.close()
    np.testing.assert_array_equal(again[5][0], first)
    np.testing.assert_array_equal(dataset[5][0], first)


def test_a_file_that_was_replaced_is_refused(tmp_path):
    path = write_store(tmp_path / "s.h5", *blobs(40, 8, 3), LABELS)
    with FeatureStore(path) as store:
        dataset = store.to_torch()
    path.unlink()
    write_store(path, *blobs(40, 8, 3, seed=1), LABELS)
    with pytest.raises(FileRefused, match="has changed since the data set was made"):
        dataset[0]


def test_it_needs_no_torch(store):
    code = (
        "import sys; from features import FeatureStore\n"
        f"d = FeatureStore({[str(p) for p in store.paths]}).to_torch('cls'); d[0]\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
