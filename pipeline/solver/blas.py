"""Multiply matrices by the faster BLAS of two, NumPy's and SciPy's, which often differ in build.

In come a (M, K) and b (K, N) of one float type, out goes their product. Which library computes is
measured once a process, in some milliseconds: NumPy may be built without an optimised BLAS, or with
one that takes this processor for an older one. As rounding differs between libraries, SciPy's must
be far ahead to be taken: what is as good as equal always gives the same bits. It is called by its
address, so that other threads go on meanwhile.

BLAS shares a product out to threads of its own, and its rounding depends on how many they are. In
`one_thread` it has one, so that what is computed does not depend on the cores of a machine.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from features.base.arrays import Array
from features.errors import CannotContinue


class Multiply(Protocol):
    """A way to multiply matrices; the signature is that of `numpy.matmul`."""

    def __call__(self, a: Array, b: Array, /, out: Array | None = None) -> Array:
        """(M, K) and (K, N) to (M, N)."""


# SciPy's must be so many times faster.
_FAR_AHEAD = 1.5
_ROWS, _COLUMNS, _REPEATS = 128, 384, 7
# SciPy without its table of addresses.
_NOT_THERE = (ImportError, AttributeError, KeyError)
_ROUTINES = {"float32": ("sgemm", ctypes.c_float), "float64": ("dgemm", ctypes.c_double)}


# The library that `take` was told.
_taken: Multiply | None = None
# Calls that are in `one_thread`, and the threads that each library had before the first of them.
_lock, _measuring = threading.Lock(), threading.Lock()
_inside = 0
_before: list[int] = []


def multiply(a: Array, b: Array, out: Array | None = None) -> Array:
    """Multiply by the faster library.

    Parameters
    ----------
    a : float array (M, K)
    b : float array (K, N)
        Of the same type, float32 or float64.
    out : float array (M, N), optional
        Takes the product.

    Returns
    -------
    float array (M, N)
    """
    return _fastest()(a, b, out=out)


def library() -> str:
    """Name the library that is taken in this process: numpy or scipy."""
    return "numpy" if _fastest() is numpys else "scipy"


def take(name: str) -> None:
    """Take a library by its name, as another process has chosen: both give the same bits then.

    Raises
    ------
    CannotContinue
        It is not to be had here.
    """
    global _taken
    try:
        _taken = numpys if name == "numpy" else scipys()
    except _NOT_THERE as error:
        raise CannotContinue(
            "the BLAS of SciPy, by which the driver computes, can't be reached here; install the "
            "same versions of NumPy and SciPy on all machines"
        ) from error


def threads() -> int:
    """Count the threads that BLAS takes in this process, outside `one_thread`."""
    shared, own = _libraries()
    with _lock:
        return max(_before if _inside else _numbers([*shared, *own]), default=1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS compute on one thread; also a decorator of functions.

    It may be entered within itself, and by several threads at once: BLAS has its own threads again
    when the last one leaves. A thread that is started within enters it too.
    """
    global _inside, _before
    shared, own = _libraries()
    with _lock:
        if not _inside:
            _before = _numbers([*shared, *own])
            _set(shared, [1] * len(shared))
        _inside += 1
    own_before = _numbers(own)
    _set(own, [1] * len(own))
    try:
        yield
    finally:
        _set(own, own_before)
        with _lock:
            _inside -= 1
            if not _inside:
                _set(shared, _before[: len(shared)])


@lru_cache(maxsize=1)
def _libraries() -> tuple[list[Any], list[Any]]:
    """Give what controls each BLAS: those with threads for all who call them, and the others.

    The number of threads is set for the whole process in OpenBLAS with threads of its own, and for
    the thread that sets it in the others.
    """
    from threadpoolctl import ThreadpoolController  # not needed to read a head

    with suppress(*_NOT_THERE):
        scipys()  # so that it is loaded
    shared, own = [], []
    for one in ThreadpoolController().lib_controllers:
        if one.internal_api == "openblas" and one.threading_layer != "openmp":
            shared.append(one)
        elif one.user_api == "blas":
            own.append(one)
    return shared, own


def _numbers(libraries: list[Any]) -> list[int]:
    return [one.num_threads for one in libraries]


def _set(libraries: list[Any], numbers: list[int]) -> None:
    for one, number in zip(libraries, numbers, strict=True):
        # From 3.8 on, threadpoolctl does nothing, without a word, for other threads than the one
        # that set a number before.
        if hasattr(one, "clear_controlling_thread"):
            one.clear_controlling_thread(force=True)
        one.set_num_threads(number)
        if hasattr(one, "clear_controlling_thread"):
            one.clear_controlling_thread()


def _fastest() -> Multiply:
    if _taken is not None:
        return _taken
    with _measuring:  # once, whichever threads ask at a time
        return _measured()


@lru_cache(maxsize=1)
def _measured() -> Multiply:
    try:
        other = scipys()
    except _NOT_THERE:
        return numpys
    with one_thread():
        return faster(numpys, other)


def numpys(a: Array, b: Array, /, out: Array | None = None) -> Array:
    """Multiply by NumPy's BLAS."""
    found: Array = np.matmul(a, b, out=out)
    return found


def faster(first: Multiply, other: Multiply) -> Multiply:
    """Take the other way to multiply if it is far ahead of the first one.

    What counts is the time of the processor: other processes, and threads of one BLAS that still
    wait for work, can hold up the other for a hundred times as long as it takes.
    """
    a = np.ones((_ROWS, _COLUMNS), np.float32)
    b = np.ones((_COLUMNS, _COLUMNS), np.float32)

    def seconds(way: Multiply) -> float:
        start = time.thread_time()
        way(a, b)
        return time.thread_time() - start

    each = [(seconds(first), seconds(other)) for _ in range(1 + _REPEATS)]
    of_first, of_other = (min(found) for found in zip(*each[1:], strict=True))
    return other if of_other * _FAR_AHEAD < of_first else first


def scipys() -> Multiply:
    """Give the product of SciPy's BLAS.

    Raises
    ------
    ImportError, AttributeError, KeyError
        It can't be reached.
    """
    from scipy.linalg import cython_blas

    routines = {name: _routine(cython_blas, *_ROUTINES[name]) for name in _ROUTINES}

    def product(a: Array, b: Array, /, out: Array | None = None) -> Array:
        found = np.zeros((a.shape[0], b.shape[1]), a.dtype)
        if found.size and a.shape[1]:
            routines[a.dtype.name](a, b, found)
        if out is None:
            return found
        out[:] = found
        return out

    return product


def _routine(table: Any, name: str, number: Any) -> Callable[[Array, Array, Array], None]:
    """Wrap a routine of BLAS (https://www.netlib.org/blas/), which counts by columns.

    What is laid out by rows is its transpose there: so a @ b = (b' @ a')', and b comes first.
    """
    capsule = table.__pyx_capi__[name]
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, (ctypes.py_object,)
    routine = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(pointer_of(capsule, name_of(capsule)))

    def call(a: Array, b: Array, out: Array) -> None:
        rows, columns, inner = a.shape[0], b.shape[1], a.shape[1]
        (b, of_b, lead_b), (a, of_a, lead_a) = _by_rows(b), _by_rows(a)
        sizes = [ctypes.c_int(n) for n in (columns, rows, inner, lead_b, lead_a, columns)]
        n, m, k, ldb, lda, ldc = (ctypes.addressof(size) for size in sizes)
        flags = [ctypes.c_char(flag) for flag in (of_b, of_a)]
        one, zero = number(1.0), number(0.0)
        routine(
            ctypes.addressof(flags[0]), ctypes.addressof(flags[1]), n, m, k, ctypes.addressof(one),
            b.ctypes.data, ldb, a.ctypes.data, lda, ctypes.addressof(zero), out.ctypes.data, ldc,
        )  # fmt: skip

    return call


def _by_rows(matrix: Array) -> tuple[Array, bytes, int]:
    """Give a matrix, or a copy, as BLAS can read it, whether to transpose it, and its stride."""
    size = matrix.itemsize
    if matrix.strides[1] == size and matrix.strides[0] >= matrix.shape[1] * size:
        return matrix, b"N", max(1, matrix.strides[0] // size)
    if matrix.strides[0] == size and matrix.strides[1] >= matrix.shape[0] * size:
        return matrix, b"T", max(1, matrix.strides[1] // size)
    return np.ascontiguousarray(matrix), b"N", max(1, matrix.shape[1])
