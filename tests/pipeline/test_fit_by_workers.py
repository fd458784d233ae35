"""A head that workers have fitted is, to the byte, the one of one process."""

import dataclasses
import pickle

import numpy as np
import pytest
from engine_works import Inline
from stores import LABELS, OTHER_SPEC, blobs, write_store

from features.engines.engine import Died, Done
from pipeline.fit import fit
from pipeline.head.head import save_head
from pipeline.solver.blocks import BLOCK_ROWS

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
    """Groups of one block each, so that few rows are several."""
    monkeypatch.setattr("pipeline.solver.sums.GROUP_BLOCKS", 1)


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


def written(result, folder):
    """The bytes of a head's file, apart from times."""
    timeless = {k: v for k, v in result.head.metadata.items() if k != "seconds"}
    save_head(dataclasses.replace(result.head, metadata=timeless), folder / "head.joblib")
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
    for engine in (Sending(1), Sending(2, dying=[0, 7, 20])):
        result = fit(stores, engine=engine, **options)
        assert written(result, tmp_path) == expected
        assert result.metrics == plain.metrics
        assert result.candidates == plain.candidates
        assert len(engine.works) == (engine.workers + len(engine.dying))
        assert engine.calls
