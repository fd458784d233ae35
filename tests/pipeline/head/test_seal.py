"""A head whose bits have changed is refused; scikit-learn reads a sealed one as ever."""

import gzip
import random

import joblib
import numpy as np
import pytest
from stores import make_head

from features.errors import FileRefused
from pipeline.head.head import load_head, save_head
from pipeline.head.seal import seal_of, unsealed


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "head.joblib"
    save_head(make_head(3, widths=(4, 2)), path)
    return path


def test_a_changed_bit_is_refused_wherever_it_is(file, tmp_path):
    good, rng = file.read_bytes(), random.Random(0)
    places = [*rng.sample(range(len(good)), 300), *range(len(good) - 80, len(good))]
    for place in places:
        data = bytearray(good)
        data[place] ^= 1 << rng.randrange(8)
        (tmp_path / "head.joblib").write_bytes(data)
        with pytest.raises(
            FileRefused, match=r"head\.joblib(: bits of it have changed| is not a frostline head)"
        ):
            load_head(tmp_path / "head.joblib")


@pytest.mark.parametrize("left", [1, 30, 72, 74, 500])
def test_a_file_that_is_cut_is_refused(left, file, tmp_path):
    (tmp_path / "head.joblib").write_bytes(file.read_bytes()[:-left])
    with pytest.raises(FileRefused):
        load_head(tmp_path / "head.joblib")


def test_a_head_of_before_has_no_seal_and_is_read(file, tmp_path):
    (tmp_path / "head.joblib").write_bytes(unsealed(file.read_bytes()))
    assert load_head(tmp_path / "head.joblib").labels == load_head(file).labels


def test_joblib_reads_it(file):
    estimator, head = joblib.load(file)["estimator"], load_head(file)
    X = np.random.default_rng(0).normal(size=(9, head.coef.shape[1]))
    np.testing.assert_allclose(estimator.predict_proba(X), head.predict_proba(X), atol=1e-12)
    mapped = joblib.load(file, mmap_mode="r")["estimator"]
    np.testing.assert_array_equal(mapped.coef_, estimator.coef_)


def test_what_is_packed_or_dumped_again_is_read(file, tmp_path):
    wanted = load_head(file).coef.tobytes()
    (tmp_path / "packed.joblib").write_bytes(gzip.compress(file.read_bytes()))
    joblib.dump(joblib.load(file), tmp_path / "again.joblib", protocol=4)
    for name in ("packed", "again"):
        assert load_head(tmp_path / f"{name}.joblib").coef.tobytes() == wanted


@pytest.mark.parametrize("data", [b"", b"x", b"\nsha256 ", b"a" * 200, bytes(range(256))])
def test_any_bytes_come_back(data):
    assert unsealed(data) == data
    assert unsealed(data + seal_of(data)) == data
