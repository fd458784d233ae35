"""Read the pickles that `pipeline/head/head.py` writes, without running anything in them.

In come the bytes of a joblib file, out come dicts, lists, texts, numbers, arrays and inert
`Instance` records. A pickle is a program; here only the instructions that build such values are
known, and of the classes that it may name only an exact list. Nothing is imported or called.

The format is pickle's, protocol 4 or 5 (https://docs.python.org/3/library/pickletools.html), with
joblib's addition: behind the instruction that completes a `NumpyArrayWrapper` stand one byte with
the length of the padding, the padding, and the raw bytes of the array.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ESTIMATOR = "sklearn.linear_model._logistic.LogisticRegression"
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_DTYPE = "numpy.dtype"
_ALLOWED = frozenset([ESTIMATOR, _WRAPPER, _DTYPE, "numpy.ndarray"])
# Numbers, truth values and fixed-width texts; no objects, no records.
_PLAIN_DTYPE = re.compile(r"[fiu][1248]|b1|U[0-9]{1,6}")


# A head has some thousands of instructions. Each may leave an object behind, so that without a
# bound a file would grow to fifty times its size in memory.
_MAX_INSTRUCTIONS = 1_000_000


class UnpickleError(Exception):
    """The bytes are not such a pickle; the message says where it departs from one."""


@dataclass
class Instance:
    """What a pickle says about an object of an allowed class; no object of that class is made."""

    of: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass
class _Dtype:
    kind: str
    byte_order: str = "|"


_MARK = object()


def read_pickle(data: bytes) -> Any:
    """Read one joblib file.

    Raises
    ------
    UnpickleError
        For anything that joblib does not write for dicts, lists, numbers, texts, plain arrays and
        a scikit-learn `LogisticRegression`.
    """
    machine = _Machine(io.BytesIO(data))
    try:
        for number, (opcode, argument, position) in enumerate(pickletools.genops(machine.file)):
            if opcode.name == "STOP":
                break
            if number == _MAX_INSTRUCTIONS:
                raise UnpickleError(f"it has more than {_MAX_INSTRUCTIONS} instructions")
            try:
                machine.run(opcode.name, argument)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise UnpickleError(
                    f"instruction {opcode.name} at byte {position}: {error}"
                ) from error
    except (ValueError, OverflowError, MemoryError) as error:
        raise UnpickleError(str(error)) from error
    if len(machine.stack) != 1 or machine.stack[0] is _MARK or machine.file.read(1):
        raise UnpickleError("it does not end where its content ends")
    return machine.stack[0]


@dataclass
class _Machine:
    """What a pickle is a program for: a stack of values, and a memo of those that come again.

    Each method after `run` carries out the instructions that `_INSTRUCTIONS` gives it.
    """

    file: io.BytesIO
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, name: str, argument: Any) -> None:
        """Carry out one instruction; any that is in none of the four tables is refused."""
        if name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in _VALUES:
            self.stack.append(_VALUES[name]())
        elif name in _SHORT_TUPLES:
            n = _SHORT_TUPLES[name]
            self.stack[-n:] = [tuple(_popped(self.stack, n))]
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        else:
            raise ValueError("heads are written without it")

    def protocol(self, number: Any) -> None:
        if number not in (4, 5):
            raise ValueError(f"protocol {number}")

    def frame(self, size: Any) -> None:
        pass  # a hint for buffered readers

    def tuple_to_mark(self, _: Any) -> None:
        self.stack.append(tuple(_pop_to_mark(self.stack)))

    def append(self, _: Any) -> None:
        target, item = _popped(self.stack, 2)
        _expect(target, list).append(item)
        del self.stack[-1]

    def appends(self, _: Any) -> None:
        items = _pop_to_mark(self.stack)
        _expect(self.stack[-1], list).extend(items)

    def set_item(self, _: Any) -> None:
        key, value = _popped(self.stack, 2)
        del self.stack[-2:]
        _expect(self.stack[-1], dict)[_expect(key, str)] = value

    def set_items(self, _: Any) -> None:
        items = _pop_to_mark(self.stack)
        target = _expect(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_expect(key, str)] = value

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = _popped(self.stack, 1)[0]

    def get(self, number: Any) -> None:
        self.stack.append(self.memo[number])

    def name_global(self, _: Any) -> None:
        module, attribute = _popped(self.stack, 2)
        full = f"{_expect(module, str)}.{_expect(attribute, str)}"
        if full not in _ALLOWED or "." in attribute:
            raise ValueError(f"it names {reprlib.repr(full)}, which a head does not need")
        self.stack[-2:] = [_Global(full)]

    def make_object(self, _: Any) -> None:
        of, arguments = _popped(self.stack, 2)
        if _expect(of, _Global).name not in (ESTIMATOR, _WRAPPER) or arguments != ():
            raise ValueError("an object is made in an unknown way")
        self.stack[-2:] = [Instance(of.name)]

    def make_dtype(self, _: Any) -> None:
        of, arguments = _popped(self.stack, 2)
        if _expect(of, _Global).name != _DTYPE or len(_expect(arguments, tuple)) != 3:
            raise ValueError("a call is made")
        kind = _expect(arguments[0], str)
        if not _PLAIN_DTYPE.fullmatch(kind):
            raise ValueError(f"an array of type {reprlib.repr(kind)}")
        self.stack[-2:] = [_Dtype(kind)]

    def build(self, _: Any) -> None:
        target, state = _popped(self.stack, 2)
        self.stack[-2:] = [_build(target, state, self.file)]


# The four tables of what is known; whatever else a pickle can do stays undone.
# Those that push what stands behind them in the file.
_ARGUMENTS = frozenset(
    [
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
    ]
)
# Those that push a value of their own, each time a new one.
_VALUES: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
# Those that make a tuple of so many values.
_SHORT_TUPLES: Mapping[str, int] = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# All others.
_INSTRUCTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.frame,
    "TUPLE": _Machine.tuple_to_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "STACK_GLOBAL": _Machine.name_global,
    "NEWOBJ": _Machine.make_object,
    "REDUCE": _Machine.make_dtype,
    "BUILD": _Machine.build,
}


def _build(target: Any, state: Any, file: io.BytesIO) -> Any:
    if isinstance(target, _Dtype):
        byte_order = _expect(state, tuple)[1]
        if byte_order not in ("<", ">", "|"):
            raise ValueError(f"byte order {reprlib.repr(byte_order)}")
        target.byte_order = byte_order
        return target
    instance = _expect(target, Instance)
    if instance.state:
        raise ValueError("an object gets its state twice")
    instance.state = dict(_expect(state, dict))
    return _read_array(instance.state, file) if instance.of == _WRAPPER else instance


def _read_array(wrapper: dict[str, Any], file: io.BytesIO) -> np.ndarray[Any, Any]:
    """Read the array behind its wrapper; bounded by the bytes that are there."""
    declared = _expect(wrapper["dtype"], _Dtype)
    dtype = np.dtype(declared.byte_order + declared.kind)
    shape = _expect(wrapper["shape"], tuple)
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 2:
        raise ValueError(f"an array of shape {reprlib.repr(shape)}")
    if wrapper["order"] not in ("C", "F") or wrapper["subclass"] != _Global("numpy.ndarray"):
        raise ValueError("an array of an unknown kind")
    if wrapper.get("numpy_array_alignment_bytes") is not None:
        file.read(file.read(1)[0])
    size = math.prod(shape) * dtype.itemsize
    raw = file.read(size)
    if len(raw) != size:
        raise ValueError(f"an array of {size} bytes in a file that ends before")
    array = np.frombuffer(raw, dtype).reshape(shape, order=wrapper["order"])
    return array.astype(dtype.newbyteorder("="))


def _popped(stack: list[Any], n: int) -> list[Any]:
    """The last `n` values; the caller replaces them."""
    if len(stack) < n or any(value is _MARK for value in stack[-n:]):
        raise ValueError("too few values")
    return stack[-n:]


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    for start in range(len(stack) - 1, -1, -1):
        if stack[start] is _MARK:
            values = stack[start + 1 :]
            del stack[start:]
            return values
    raise ValueError("no mark")


def _expect(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__.lstrip('_')} belongs")
    return value
