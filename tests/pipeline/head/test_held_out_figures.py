import copy

import joblib
import numpy as np
import pytest
from stores import blobs, write_store

from features.errors import FileRefused
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.head.held_out_figures import HeldOutFigures

RECORD = HeldOutFigures(np.full(3, 1 / 3), np.eye(3, dtype=int), np.eye(4)).to_dict()


def test_there_and_back():
    found = HeldOutFigures.from_dict(RECORD, 3)
    assert found.to_dict() == RECORD
    assert HeldOutFigures.from_dict(None, 3) is None


def changed(name, change):
    record = copy.deepcopy(RECORD)
    record[name] = change(record[name])
    return record


BROKEN = {
    "no record": [1],
    "an empty one": {},
    "a prior of two classes": changed("prior", lambda rows: rows[:2]),
    "a prior of 0": changed("prior", lambda rows: [0.0, *rows[1:]]),
    "a prior that is no number": changed("prior", lambda rows: [float("nan"), *rows[1:]]),
    "a confusion of two classes": changed("confusion", lambda rows: rows[:2]),
    "a row that is too short": changed("confusion", lambda rows: [rows[0][:2], *rows[1:]]),
    "counts below 0": changed("confusion", lambda rows: [[-1, 0, 0], *rows[1:]]),
    "counts that are no whole numbers": changed("confusion", lambda rows: [[0.5, 0, 0], *rows[1:]]),
    "a huge count": changed("confusion", lambda rows: [[2**60, 0, 0], *rows[1:]]),
    "no uncertainty": changed("uncertainty", lambda rows: None),
    "an uncertainty of text": changed("uncertainty", lambda rows: "x" * 4),
    "one that is not finite": changed(
        "uncertainty", lambda rows: [[float("inf"), 0.0, 0.0, 0.0], *rows[1:]]
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_record_is_refused(kind):
    with pytest.raises(FileRefused, match=r"its held-out .* is not a table of numbers"):
        HeldOutFigures.from_dict(BROKEN[kind], 3)


def test_a_file_with_a_broken_record_is_refused(tmp_path):
    store = write_store(tmp_path / "s.h5", *blobs())
    path = tmp_path / "head.joblib"
    save_head(fit(store, C=0.1).head, path)
    content = joblib.load(path)
    content["metadata"]["held_out"]["confusion"][0][0] = -1
    joblib.dump(content, path, protocol=4)
    with pytest.raises(FileRefused, match="its held-out confusion is not a table"):
        load_head(path)
