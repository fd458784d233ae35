"""A head that workers have fitted is, to the byte, the one of one process."""

import dataclasses
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from engine_works import Inline
from stores import LABELS, OTHER_SPEC, blobs, write_store
from threadpoolctl import threadpool_limits

from features.engines.engine import Died, Done
from features.engines.local import LocalEngine
from features.errors import CannotContinue, FileRefused, FrostlineError
from features.store.reader import FeatureStore
from pipeline.cli.commands import main
from pipeline.compare import compare
from pipeline.data.shared_rows import StoreSource
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.solver.blocks import BLOCK_ROWS, Rows
from pipeline.solver.distributed import crew_of

N = 2 * BLOCK_ROWS + 700
PRIOR = dict(zip(LABELS, (0.2, 0.3, 0.5), strict=True))


class Sending(Inline):
    """Calls in this process, but all that would be sent to another one is pickled.

    Attributes
    ----------
    works, calls, answers : list of int
        Bytes that were sent.
    dying : set of int
        The numbers of the calls in which a worker ends.
    """

    def __init__(self, workers, dying=()):
        super().__init__(workers)
        self.works, self.calls, self.answers, self.dying = [], [], [], set(dying)

    def start(self, number, work):
        data = pickle.dumps(work)
        self.works.append(len(data))
        return _Sent(self, super().start(number, pickle.loads(data)))


class _Sent:
    def __init__(self, engine, worker):
        self.engine, self.worker, self.died = engine, worker, False

    def send(self, *arguments):
        data = pickle.dumps(arguments)
        self.died = len(self.engine.calls) in self.engine.dying
        self.engine.calls.append(len(data))
        self.worker.send(*pickle.loads(data))

    def answer(self):
        if self.died:
            return Died("a wish of the test")
        answer = self.worker.answer()
        if not isinstance(answer, Done):
            return answer
        data = pickle.dumps(answer)
        self.engine.answers.append(len(data))
        return pickle.loads(data)

    def stop(self):
        self.worker.stop()


@pytest.fixture
def small_groups(monkeypatch):
    """Groups of one block each, and small pieces of scores, so that few rows are several."""
    monkeypatch.setattr("pipeline.solver.sums.GROUP_BLOCKS", 1)
    monkeypatch.setattr("pipeline.solver.group_worker._PIECE_BYTES", 20_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Stores of every kind, by name; rows have texts in several copies, and some have no label."""
    folder = tmp_path_factory.mktemp("by-workers")
    X, y = blobs(N, 6, 3)
    texts = [f"text {n - n % 5 if n % 50 < 5 else n}" for n in range(N)]
    y[::9] = -1
    labelled = np.flatnonzero(y >= 0)
    changed = [f"row-{n},{n},{LABELS[(y[n] + 1) % 3]}" for n in labelled[:40]]
    (folder / "corrections.csv").write_text("\n".join(["id,row,label", *changed]))
    ids = [f"row-{n}" for n in range(N)]
    there = np.flatnonzero(np.arange(N) % 7 != 3)
    some = {"ids": [ids[n] for n in there], "texts": [texts[n] for n in there]}
    return {
        "one": write_store(folder / "one.h5", X, y, texts=texts, store_dtype="float16"),
        "views": write_store(folder / "views.h5", {"cls": X[:, :4], "mean": X[:, 4:]}, y),
        "first": write_store(folder / "first.h5", X[:, :4], y, texts=texts),
        "second": write_store(
            folder / "second.h5", {"mean": X[there, 4:]}, y[there], spec=OTHER_SPEC, **some
        ),
        "validation": write_store(folder / "validation.h5", *blobs(300, 6, 3, seed=1)),
        "corrections": folder / "corrections.csv",
    }


class Killing(LocalEngine):
    """Processes of this machine; `kill` ends the last one that was started."""

    def __init__(self, workers):
        super().__init__(workers)
        self.pids = []

    def start(self, number, work):
        worker = super().start(number, work)
        self.pids.append(worker._process.pid)
        return worker

    def kill(self):
        os.kill(self.pids[-1], signal.SIGKILL)


def written(result, folder):
    """The bytes of a head's file."""
    save_head(result.head, folder / "head.joblib")
    return (folder / "head.joblib").read_bytes()


CASES = {
    "C is chosen": (["one"], {}),
    "C is given": (["one"], {"C": 0.1, "class_weight": "none", "memory": 60_000}),
    "two encoders": (
        ["first", "second"],
        {"corrections": "corrections", "conflicts": "majority", "memory": 0, "cv": 3},
    ),
    "validation": (["one"], {"validation": "validation", "prior": PRIOR}),
    "several views": (["views"], {"pooling": ["cls", "mean"], "calibrate": "bias-corrected"}),
    "near-identical": (["one"], {"near_identical": 0.9999, "C": 1.0, "cv": 3, "repeats": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_heads_by_workers_are_those_of_one_process(case, files, small_groups, tmp_path):
    names, options = CASES[case]
    stores = [files[name] for name in names]
    options = {k: files.get(v, v) if isinstance(v, str) else v for k, v in options.items()}
    plain = fit(stores, **options)
    expected = written(plain, tmp_path)
    engine = Sending(2, dying=[0, 7, 20])
    result = fit(stores, engine=engine, **options)
    assert written(result, tmp_path) == expected
    assert result.metrics == plain.metrics
    assert result.candidates == plain.candidates
    assert len(engine.works) == 2 + 3


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_processes_that_are_killed_change_nothing(workers, files, small_groups, tmp_path):
    expected = written(fit(files["one"]), tmp_path)
    engine, calls = Killing(workers), []

    def killing(done, of):
        calls.append(done)
        if len(calls) == 3:  # between two passes
            engine.kill()
        if len(calls) == 9:  # in the next one
            threading.Timer(0.01, engine.kill).start()

    assert written(fit(files["one"], engine=engine, progress=killing), tmp_path) == expected
    assert len(engine.pids) == workers + 2


def test_a_new_head_against_an_earlier_one(files, small_groups, tmp_path):
    """Of other views than the new one, so that the workers read two kinds of vectors."""
    save_head(fit(files["views"], pooling="cls", C=1.0, cv=3).head, tmp_path / "old.joblib")
    options = {"pooling": "mean", "cv": 3, "against": tmp_path / "old.joblib"}
    plain = fit(files["views"], corrections=files["corrections"], **options)
    shared = fit(files["views"], corrections=files["corrections"], engine=Sending(2), **options)
    assert shared.changes == plain.changes
    assert written(shared, tmp_path) == written(plain, tmp_path)


def test_views_are_compared_alike(files, small_groups):
    def timeless(result):
        content = result.to_dict()
        return content | {"lines": [line | {"seconds": 0} for line in content["lines"]]}

    options = {"combine": [["cls", "mean"]], "cv": 3, "memory": 30_000}
    plain = compare(files["views"], **options)
    assert timeless(compare(files["views"], engine=Sending(2), **options)) == timeless(plain)


def test_what_is_sent_is_small(files, small_groups):
    engine = Sending(2)
    fit(files["one"], engine=engine)
    labelled = N - len(range(0, N, 9))
    n_models, n_trainings = 15, 15  # of C and folds at a time, and folds with their pairs
    of_weights = n_models * 15 * 3 * 7 * 8
    bits = labelled * (1 + n_trainings) / 3  # of masks and classes, in a group at most
    assert max(engine.calls) < of_weights + bits + 40_000
    assert max(engine.answers) < of_weights + 20_000 + 20_000
    assert max(engine.works) < 2000


@pytest.mark.parametrize("after", [0, 2])
def test_a_store_that_is_gone_when_a_worker_reads_is_told(after, files, small_groups, tmp_path):
    """Before the first pass; between two, workers have it open, and read on."""
    path = tmp_path / "s.h5"
    path.write_bytes(files["one"].read_bytes())
    calls = []

    def removing(done, of):
        calls.append(done)
        path.unlink(missing_ok=True)

    class Removing(Inline):
        def start(self, number, work):
            if not after:
                path.unlink(missing_ok=True)
            return super().start(number, work)

    if after:
        expected = written(fit(files["one"], C=0.1), tmp_path)
        found = fit(path, C=0.1, engine=Removing(2), progress=removing)
        assert written(found, tmp_path) == expected
        assert len(calls) > after
        return
    with pytest.raises(FrostlineError, match=r"s\.h5(: no such| is not there any more)"):
        fit(path, C=0.1, engine=Removing(2))


def test_a_worker_that_dies_again_and_again_is_told_by_its_rows(files, small_groups):
    engine = Sending(1, dying=range(1000))
    with pytest.raises(CannotContinue, match=r"^the task of rows 1 to 2,048 ended its worker 3"):
        fit(files["one"], C=0.1, engine=engine)


def test_damage_that_a_worker_finds_is_told(tmp_path):
    X, y = blobs(2500, 64, 3)
    path = write_store(tmp_path / "s.h5", X, y)
    with h5py.File(path) as file:
        place = file["cls"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(place + 100)
        file.write(b"damage")
    with pytest.raises(FileRefused, match="'cls' is damaged"):
        fit(path, C=0.1, engine=Sending(2))


def test_a_store_that_has_changed_is_refused(files, small_groups):
    source = StoreSource((str(files["one"]),), "the digest of another one")
    with (
        pytest.raises(FileRefused, match=r"one\.h5 is not, for a worker, the store that"),
        crew_of(Inline(1), source, 10, lambda rows: None, memory=None) as crew,
    ):
        crew.standardised(("cls",), Rows((10, 6), np.dtype(np.float32), iter), np.ones(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "--workers are those of an engine: give --engine local as well"),
        (["--ray-address", "auto"], "--ray-address is 'auto': give --engine ray as well"),
        (["--engine", "local", "--workers", "0"], "--workers is 0: give 1 or more"),
        (
            ["--engine", "local", "--ray-address", "x"],
            "--ray-address is 'x': give --engine ray as well",
        ),
    ],
)
@pytest.mark.parametrize("command", [["fit", "-o", "never.joblib"], ["compare"]])
def test_what_an_engine_does_not_take(command, arguments, message, files):
    name, *options = command
    result = CliRunner().invoke(main, [name, str(files["one"]), *options, *arguments])
    assert (result.exit_code, result.output) == (2, f"Error: {message}\n")
    assert not Path("never.joblib").exists()


def test_workers_that_find_nothing_to_do_are_told(files, small_groups):
    labelled = N - len(range(0, N, 9))
    told = (
        "of 5 workers 3 will do: rows are shared out in groups of "
        f"{BLOCK_ROWS:,}, and {labelled:,} rows are 3"
    )
    with pytest.warns(UserWarning, match=f"^{told}$"):
        fit(files["one"], C=0.1, engine=Inline(5))


def test_the_command_writes_the_same_head(files, tmp_path):
    heads = []
    for name, engine in (("plain", []), ("shared", ["--engine", "local", "--workers", "2"])):
        head = tmp_path / f"{name}.joblib"
        arguments = ["fit", str(files["one"]), "-o", str(head), "--C", "0.1", *engine]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        loaded = load_head(head)
        heads.append((loaded.coef.tobytes(), loaded.intercept.tobytes()))
    assert heads[0] == heads[1]


@pytest.fixture(scope="module")
def wide_store(tmp_path_factory):
    """Two views of as many columns as BLAS shares out to several threads."""
    X, y = blobs(300, 500, 3, spread=0.1)
    path = tmp_path_factory.mktemp("wide") / "wide.h5"
    return write_store(path, {"cls": X[:, :200], "mean": X[:, 200:]}, y)


def test_the_head_is_the_same_with_any_number_of_threads(wide_store, tmp_path):
    """Of BLAS, in the driver as in workers; the novelty and the uncertainty are in it too."""
    heads = set()
    for threads, engine in ((1, None), (2, None), (3, LocalEngine(1))):
        with threadpool_limits(limits=threads, user_api="blas"):
            result = fit(wide_store, pooling=["cls", "mean"], engine=engine, cv=3)
            heads.add(written(result, tmp_path))
    assert len(heads) == 1


def test_the_head_is_the_same_from_shards_of_any_size(files, small_groups, tmp_path):
    """But for what it says of the files."""
    with FeatureStore(files["one"]) as store:
        X, y, ids = store.read("cls"), store.labels(), store.ids()
    texts = [f"text {n - n % 5 if n % 50 < 5 else n}" for n in range(N)]
    cuts = [0, 1, 700, BLOCK_ROWS + 30, N]
    for number, (start, stop) in enumerate(pairwise(cuts)):
        some = slice(start, stop)
        options = {"ids": ids[some], "texts": texts[some], "store_dtype": "float16"}
        write_store(tmp_path / f"{number}.h5", X[some], y[some], **options)
    whole = fit(files["one"], near_identical=0.9999, cv=3)
    shards = sorted(tmp_path.glob("*.h5"))
    for engine in (None, Sending(2)):
        found = fit(shards, near_identical=0.9999, cv=3, engine=engine)
        said = {"data": whole.head.metadata["data"]}
        head = dataclasses.replace(found.head, metadata=found.head.metadata | said)
        again = dataclasses.replace(found, head=head)
        assert written(again, tmp_path) == written(whole, tmp_path)


@pytest.mark.slow
def test_the_head_is_the_same_in_any_surroundings(files, wide_store, tmp_path):
    """Hashes of Python, time zone, language, threads, cores, and the folder that files lie in."""
    surroundings = [
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1"},
        {"PYTHONHASHSEED": "2", "TZ": "UTC", "OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"},
    ]
    heads = []
    for number, variables in enumerate(surroundings):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(wide_store, folder / "s.h5")
        code = "from pipeline.cli.commands import main; main()"
        words = ["fit", "s.h5", "-o", "head.joblib", "--pooling", "cls", "--pooling", "mean"]
        subprocess.run(
            [sys.executable, "-c", code, *words, "--cv", "3", "--metric", "log-loss"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables,
            check=True,
            capture_output=True,
            timeout=120,
        )
        heads.append((folder / "head.joblib").read_bytes())
    assert heads[0] == heads[1]
