"""Products by SciPy's BLAS are those of NumPy, and the faster of two ways is found by measuring."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController, threadpool_limits

from features.errors import CannotContinue
from pipeline.solver import blas
from pipeline.solver.blas import _fastest, faster, multiply, scipys

LAYOUTS = {
    "rows": lambda m: m,
    "columns": np.asfortranarray,
    "every other column": lambda m: np.repeat(m, 2, axis=1)[:, ::2],
    "every other row": lambda m: np.repeat(m, 2, axis=0)[::2],
    "a slice of columns": lambda m: np.pad(m, ((0, 0), (2, 3)))[:, 2 : m.shape[1] + 2],
    "backwards": lambda m: m[::-1, ::-1][::-1, ::-1],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_products_are_those_of_numpy(of_a, of_b, dtype):
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(7, 5)).astype(dtype), draw.normal(size=(5, 9)).astype(dtype)
    found = scipys()(LAYOUTS[of_a](a), LAYOUTS[of_b](b))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, a @ b, rtol=1e-5 if dtype == np.float32 else 1e-13)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_any_size(m, k, n):
    a, b = np.arange(m * k, dtype=float).reshape(m, k), np.arange(k * n, dtype=float).reshape(k, n)
    assert np.array_equal(scipys()(a, b), a @ b)
    assert np.array_equal(multiply(a, b), a @ b)


def test_inputs_are_left_as_they_are():
    a, b = np.ones((4, 3)), np.full((3, 2), 2.0)
    scipys()(a, b)
    assert (a == 1).all() and (b == 2).all()


def test_threads_get_their_own_products():
    product = scipys()
    matrices = [np.full((64, 64), float(n)) for n in range(16)]
    with ThreadPoolExecutor(4) as pool:
        for n, found in enumerate(pool.map(product, matrices, matrices)):
            assert (found == 64.0 * n * n).all()


def slowly(a, b, out=None):
    """Take long, as a BLAS without instructions for vectors does; sleeping would count nothing."""
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass
    return a @ b


def test_the_faster_way_is_taken_whichever_it_is():
    assert faster(slowly, np.matmul) is np.matmul
    assert faster(np.matmul, slowly) is np.matmul


def test_what_is_as_good_as_equal_stays_the_first():
    assert faster(slowly, lambda a, b, out=None: slowly(a, b)) is slowly


def test_what_is_held_up_by_others_is_not_slower():
    def held_up(a, b, out=None):
        time.sleep(0.002)  # its processor had other things to do
        return np.matmul(a, b, out=out)

    assert faster(held_up, np.matmul) is held_up


def test_it_is_measured_once():
    assert _fastest() is _fastest()


@pytest.mark.parametrize("name", ["numpy", "scipy"])
def test_a_library_is_taken_by_its_name(name, monkeypatch):
    """As a worker does, by the choice of the process that started it."""
    monkeypatch.setattr(blas, "_taken", None)
    blas.take(name)
    assert blas.library() == name
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(70, 90)).astype(np.float32), rng.normal(size=(90, 50))
    way = blas.numpys if name == "numpy" else blas.scipys()
    np.testing.assert_array_equal(blas.multiply(a, b.astype(np.float32)), way(a, b.astype("f4")))


def test_a_library_that_is_not_there_is_said(monkeypatch):
    def missing():
        raise ImportError

    monkeypatch.setattr(blas, "scipys", missing)
    with pytest.raises(CannotContinue, match=r"BLAS of SciPy.* can't be reached here"):
        blas.take("scipy")


def blas_threads():
    libraries = ThreadpoolController().info()
    return {one["num_threads"] for one in libraries if one["user_api"] == "blas"}


def test_blas_has_its_threads_again_when_the_last_one_leaves():
    scipys()
    entered, may_leave = threading.Barrier(2), threading.Event()

    @blas.one_thread()
    def fitted():
        entered.wait(10)
        may_leave.wait(10)
        return blas_threads(), blas.threads()

    with threadpool_limits(limits=3, user_api="blas"), ThreadPoolExecutor(1) as pool:
        with blas.one_thread(), blas.one_thread():
            other = pool.submit(fitted)
            entered.wait(10)
            assert (blas_threads(), blas.threads()) == ({1}, 3)
        assert blas_threads() == {1}
        may_leave.set()
        assert other.result() == ({1}, 3)
        assert (blas_threads(), blas.threads()) == ({3}, 3)


def test_a_fault_leaves_blas_its_threads():
    scipys()
    with threadpool_limits(limits=2, user_api="blas"):
        with pytest.raises(ValueError, match="a fault"), blas.one_thread():
            raise ValueError("a fault")
        assert blas_threads() == {2}
