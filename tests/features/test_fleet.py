"""Workers of an engine make a whole store: with the bytes that one job makes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from engine_works import Inline

from features import FeatureStore, extract
from features.engines.local import LocalEngine
from features.engines.ray_engine import RayEngine
from features.errors import InputError

ROOT = Path(__file__).parents[2]
OPTIONS = {"pooling": ["cls", "mean"], "dtype": "float32", "backend": "torch", "shard_rows": 20}
N_PIECES = 5


@pytest.fixture(scope="module", autouse=True)
def model(tiny_model):
    OPTIONS["model"] = tiny_model("bert")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs") / "tweets.csv"
    words = ["so", "happy", "that", "old", "train", "is", "late", "again"]
    rows = (f"r{n},{words[n % 8]} {words[n % 5]} {n},{'ok' if n % 3 else 'bad'}" for n in range(90))
    path.write_text("id,text,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """The store as one job makes it."""
    store = tmp_path_factory.mktemp("whole") / "store"
    extract(inputs, store, part="1/1", **OPTIONS)
    return store


@pytest.fixture
def store(whole, tmp_path):
    """A folder for a store that is encoded as the whole one was."""
    (tmp_path / "store").mkdir()
    shutil.copy(whole / "choice.json", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Two files in which most texts stand in several pieces, and the store as one job makes it."""
    folder = tmp_path_factory.mktemp("repeated")
    words = ["so", "happy", "that", "old", "train", "is", "late", "again"]
    for name, step in (("a", 3), ("b", 5)):
        rows = (f"{name}{n},{words[n % 8]} {words[n % step]}" for n in range(40))
        (folder / f"{name}.csv").write_text("id,text\n" + "\n".join(rows) + "\n")
    inputs = [folder / "a.csv", folder / "b.csv"]
    extract(inputs, folder / "store", part="1/1", duplicates="all", **OPTIONS)
    return inputs, folder / "store"


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


ENGINES = {
    "inline": lambda: Inline(2),
    "local 1": lambda: LocalEngine(1),
    "local 2": lambda: LocalEngine(2),
    "ray": lambda: RayEngine(workers=2),
}
SLOW = ("local 1", "ray")


@pytest.mark.parametrize(
    "engine",
    [pytest.param(e, marks=pytest.mark.slow if e != "inline" else ()) for e in ENGINES],
)
def test_texts_are_encoded_once_in_all_pieces_whoever_makes_them(repeated, tmp_path, engine):
    inputs, expected = repeated
    (tmp_path / "store").mkdir()
    shutil.copy(expected / "choice.json", tmp_path / "store")
    chosen = ENGINES[engine]()
    shown = []
    summary = extract(
        inputs,
        tmp_path / "store",
        engine=chosen,
        duplicates="all",
        progress=shown.append,
        **OPTIONS,
    )
    assert tree(tmp_path / "store") == tree(expected)
    steps = ["reading texts", "comparing texts", "encoding repeated texts", "encoding"]
    assert list(dict.fromkeys(one.doing for one in shown)) == steps
    assert all([one.fraction for one in shown if one.doing == step][-1] == 1 for step in steps)
    with FeatureStore(tmp_path / "store") as store:
        assert summary.encoded == len(set(map(bytes, store.digests()))) < summary.unique


@pytest.mark.parametrize(
    "engine",
    [pytest.param(e, marks=pytest.mark.slow if e in SLOW else ()) for e in ENGINES],
)
def test_a_store_has_the_same_bytes_whoever_makes_it(inputs, whole, store, engine):
    shown, said = [], []
    chosen = ENGINES[engine]()
    summary = extract(
        inputs, store, engine=chosen, progress=shown.append, on_input=said.append, **OPTIONS
    )
    assert tree(store) == tree(whole)
    assert (summary.rows, summary.pieces, summary.made) == (90, N_PIECES, N_PIECES)
    assert summary.workers == chosen.workers
    assert summary.encoded == summary.unique > 0
    assert [one.fraction for one in shown] == [n / N_PIECES for n in range(1, N_PIECES + 1)]
    assert shown[-1].rows == 90
    assert len(said) == 1
    again = extract(inputs, store, engine=chosen, **OPTIONS)
    assert (again.outcome, again.made, again.rows) == ("unchanged", 0, 90)
    with FeatureStore(store) as found:
        assert found.n_rows == 90


@pytest.mark.slow
def test_relative_paths(inputs, whole, store, monkeypatch):
    monkeypatch.chdir(inputs.parent)
    name = os.path.relpath(store)
    extract(inputs.name, name, engine=LocalEngine(2), **OPTIONS)
    shutil.rmtree(store / "indexes")  # they are named after the path that was given
    expected = {name: data for name, data in tree(whole).items() if "indexes" not in name}
    assert tree(store) == expected


# Makes the store with two workers.
DRIVER = """
import sys
sys.path[:0] = [sys.argv[1]]
from features import extract
from features.engines.local import LocalEngine
extract(sys.argv[2], sys.argv[3], engine=LocalEngine(2), **eval(sys.argv[4]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
@pytest.mark.parametrize("whom", ["workers", "driver"])
def test_whoever_is_killed_no_byte_changes(inputs, whole, store, whom):
    options = {name: str(v) if name == "model" else v for name, v in OPTIONS.items()}
    arguments = [str(ROOT), str(inputs), str(store), repr(options)]
    for n_pieces in range(N_PIECES):  # of which as many are in the store when it is killed
        with subprocess.Popen([sys.executable, "-c", DRIVER, *arguments]) as driver:
            children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children")
            while driver.poll() is None and len(list(store.glob("piece-*"))) <= n_pieces:
                time.sleep(0.002)
            if driver.poll() is None:
                pids = [driver.pid] if whom == "driver" else map(int, children.read_text().split())
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            driver.wait(120)
    extract(inputs, store, engine=LocalEngine(2), **OPTIONS)
    assert tree(store) == tree(whole)


REFUSED = [
    ({"part": "1/2"}, "`part` does not go with `engine`"),
    ({"shard_rows": None}, "`engine` needs `shard_rows`"),
    ({"overwrite": True}, "`overwrite` does not go with `engine`"),
    ({"device": "cuda:1"}, "`device` is 'cuda:1': with an engine each worker has a device"),
    ({"device": "cuda:0,cuda:1"}, "`device` is 'cuda:0,cuda:1': with an engine"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_does_not_go_with_an_engine(inputs, tmp_path, options, said):
    with pytest.raises(InputError) as caught:
        extract(inputs, tmp_path / "s", engine=Inline(1), **OPTIONS | options)
    assert str(caught.value).startswith(said)


def test_a_worker_that_does_not_see_the_store(inputs, tmp_path):
    class Elsewhere(Inline):
        """An engine whose workers are on a machine without the store."""

        def start(self, number, work):
            other = replace(work.work, store=tmp_path / "not here")
            return super().start(number, replace(work, work=other))

    with pytest.raises(InputError, match=r"does not see .*not here in .*storage that all workers"):
        extract(inputs, tmp_path / "s", engine=Elsewhere(1), **OPTIONS)
