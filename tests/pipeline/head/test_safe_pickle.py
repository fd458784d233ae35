"""Files from strangers: a head, or `FileRefused`, and nothing that is in them ever runs."""

import builtins
import collections
import contextlib
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stores import make_head

from features.errors import FileRefused
from pipeline.head.head import Head, load_head, save_head
from pipeline.head.safe_pickle import UnpickleError, read_pickle
from pipeline.head.seal import unsealed


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a head with few and small fields, so that many cuts and flips hit each part."""
    path = tmp_path_factory.mktemp("head") / "head.joblib"
    save_head(make_head(3, widths=(4, 2)), path)
    return unsealed(path.read_bytes())  # so that what is behind the seal is tried


@pytest.fixture(scope="module")
def content(good):
    """What joblib sees in it, to be changed and dumped again."""

    def load():
        return joblib.load(io.BytesIO(good))

    return load


def dumped(value, **options):
    file = io.BytesIO()
    joblib.dump(value, file, protocol=4, **options)
    return file.getvalue()


def load_bytes(data, tmp_path):
    path = tmp_path / "head.joblib"
    path.write_bytes(data)
    return load_head(path)


def test_dumped_again_it_loads(content, tmp_path):
    # So that what the tests below change is all that makes the difference.
    assert isinstance(load_bytes(dumped(content()), tmp_path), Head)


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.parts = (function, arguments)

    def __reduce__(self):
        return self.parts


MARKER = "frostline-was-here"
ATTACKS = {
    "os.system": lambda: Call(os.system, f"touch {MARKER}"),
    "builtins.eval": lambda: Call(builtins.eval, f"open({MARKER!r}, 'w')"),
    "builtins.exec": lambda: Call(builtins.exec, f"open({MARKER!r}, 'w')"),
    "builtins.open": lambda: Call(builtins.open, MARKER, "w"),
    "subprocess.Popen": lambda: Call(subprocess.Popen, ["touch", MARKER]),
    "joblib.load": lambda: Call(joblib.load, MARKER),
    "numpy.fromfile": lambda: Call(np.fromfile, MARKER),
    "getattr": lambda: Call(getattr, "x", "upper"),
    "type": lambda: Call(type, "X", (), {}),
}
HIDDEN_IN = {
    "alone": lambda content, attack: attack,
    "metadata": lambda content, attack: content | {"metadata": {"C": 1.0, "x": attack}},
    "labels": lambda content, attack: content | {"labels": [attack, "a", "b"]},
    "estimator": lambda content, attack: content | {"estimator": attack},
    "extra key": lambda content, attack: content | {"extra": [attack]},
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", HIDDEN_IN)
@pytest.mark.parametrize("attack", ATTACKS)
def test_calls_are_refused_and_not_made(attack, place, protocol, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(HIDDEN_IN[place](content(), ATTACKS[attack]()), protocol)
    with pytest.raises(FileRefused, match=r"head\.joblib is not a frostline head"):
        load_bytes(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["head.joblib"]


def test_refusing_starts_opens_and_imports_nothing(tmp_path):
    """In a fresh process with an audit hook: no marker file can miss what the hook sees."""
    attacks = [pickle.dumps(ATTACKS[name](), protocol) for name in ATTACKS for protocol in range(6)]
    (tmp_path / "attacks").write_bytes(pickle.dumps(attacks))
    code = """
import pickle, sys
from pipeline.head.safe_pickle import UnpickleError, read_pickle

attacks = pickle.load(open(sys.argv[1], "rb"))
seen, refused = [], 0
loaded = set(sys.modules)
watched = ("open", "exec", "compile", "os.", "subprocess.", "socket.", "ctypes.", "pickle.")
sys.addaudithook(lambda event, arguments: event.startswith(watched) and seen.append(event))
for data in attacks:
    try:
        read_pickle(data)
    except UnpickleError:
        refused += 1
assert refused == len(attacks), refused
assert set(sys.modules) == loaded, set(sys.modules) - loaded
assert not seen, seen
print("quiet")
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "attacks")], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout.strip()) == (0, "quiet"), result.stderr


def a_pipeline():
    rng = np.random.default_rng(0)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(rng.normal(size=(20, 3)), np.arange(20) % 2)


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros((3, 4)))
    return file.getvalue()


OTHER_FILES = {
    "pipeline": lambda: dumped(a_pipeline()),
    "estimator only": lambda: dumped(a_pipeline()[-1]),
    "dict with a set": lambda: dumped({"format": "frostline-head", "tags": {"a", "b"}}),
    "ordered dict": lambda: dumped(collections.OrderedDict(format="frostline-head")),
    "array": lambda: dumped(np.zeros((3, 4))),
    "list": lambda: dumped([1, 2, 3]),
    "text": lambda: dumped("frostline-head"),
    "bytes": lambda: dumped(b"frostline-head"),
    "complex": lambda: dumped({"format": 1j}),
    "range": lambda: dumped(range(3)),
    "class": lambda: dumped(LogisticRegression),
    "npy": npy,
    "empty": lambda: b"",
    "one byte": lambda: b"\x80",
    "prose": lambda: b"id,text\n1,so happy\n" * 50,
    "zeros": lambda: bytes(5000),
    "zlib of nothing": lambda: zlib.compress(b""),
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(2000),
    "empty dict": lambda: dumped({}),
    "right format, nothing else": lambda: dumped({"format": "frostline-head", "version": 1}),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_are_refused(kind, tmp_path):
    with pytest.raises(FileRefused, match=r"head\.joblib"):
        load_bytes(OTHER_FILES[kind](), tmp_path)


def changed_state(content, **state):
    estimator = content["estimator"]
    for name, value in state.items():
        setattr(estimator, name, value)
    return content


def changed_source(content, **fields):
    content["sources"][0] |= fields
    return content


def changed_spec(content, **fields):
    content["sources"][0]["spec"] |= fields
    return content


def without(content, key):
    del content[key]
    return content


CHANGES = {
    "format": (lambda c: c | {"format": "other-head"}, "not a frostline head"),
    "version 2": (lambda c: c | {"version": 2}, "version 2"),
    "version 0": (lambda c: c | {"version": 0}, "version 0"),
    "version an array": (lambda c: c | {"version": np.array([1, 1])}, "head.joblib"),
    "format an array": (lambda c: c | {"format": np.array([1, 1])}, "head.joblib"),
    "fingerprint an array": (
        lambda c: changed_source(c, fingerprint=np.array(["a", "b"])),
        "fingerprint",
    ),
    "precision an array": (
        lambda c: changed_source(c, precision=np.array(["half", "half"])),
        "incomplete",
    ),
    "version text": (lambda c: c | {"version": "1"}, "version '1'"),
    "no labels": (lambda c: without(c, "labels"), "labels"),
    "one label": (lambda c: c | {"labels": ["a"]}, "labels"),
    "labels not texts": (lambda c: c | {"labels": [0, 1, 2]}, "labels"),
    "other labels": (lambda c: c | {"labels": ["x", "y", "z"]}, "other classes"),
    "labels reordered": (lambda c: c | {"labels": c["labels"][::-1]}, "other classes"),
    "fewer labels": (lambda c: c | {"labels": c["labels"][:2]}, "coef_"),
    "no sources": (lambda c: c | {"sources": []}, "source"),
    "sources no list": (lambda c: c | {"sources": {"a": 1}}, "source"),
    "source no dict": (lambda c: c | {"sources": ["cls"]}, "source"),
    "source twice": (lambda c: c | {"sources": c["sources"] * 2}, "coef_"),
    "no metadata": (lambda c: without(c, "metadata"), "metadata"),
    "metadata a list": (lambda c: c | {"metadata": []}, "metadata"),
    "no estimator": (lambda c: without(c, "estimator"), "estimator"),
    "estimator a dict": (lambda c: c | {"estimator": {"coef_": np.ones((3, 6))}}, "estimator"),
    "width": (lambda c: changed_source(c, width=5), "coef_"),
    "width 0": (lambda c: changed_source(c, width=0), "incomplete"),
    "width true": (lambda c: changed_source(c, width=True), "incomplete"),
    "view": (lambda c: changed_source(c, view=None), "incomplete"),
    "precision": (lambda c: changed_source(c, precision="int4"), "incomplete"),
    "int8 of no int8 encoder": (
        lambda c: changed_source(c, precision="int8"),
        "precision int8 and quantization none",
    ),
    "store dtype": (lambda c: changed_source(c, store_dtype="float64"), "incomplete"),
    "fingerprint": (lambda c: changed_source(c, fingerprint="0" * 64), "fingerprint"),
    "spec altered": (lambda c: changed_spec(c, max_length=64), "fingerprint"),
    "spec of other fields": (lambda c: changed_spec(c, colour="red"), "colour"),
    "spec of other types": (lambda c: changed_spec(c, max_length="128"), "max_length"),
    "nan": (lambda c: changed_state(c, coef_=np.full((3, 6), np.nan)), "not finite"),
    "inf": (lambda c: changed_state(c, intercept_=np.array([0, np.inf, 0])), "not finite"),
    "coef shape": (lambda c: changed_state(c, coef_=np.ones((3, 5))), "coef_"),
    "coef flat": (lambda c: changed_state(c, coef_=np.ones(18)), "coef_"),
    "coef of ints": (lambda c: changed_state(c, coef_=np.ones((3, 6), int)), "coef_"),
    "coef a list": (lambda c: changed_state(c, coef_=[[0.0] * 6] * 3), "coef_"),
    "coef of objects": (lambda c: changed_state(c, coef_=np.ones((3, 6), object)), "type 'O8'"),
    "coef of complex": (lambda c: changed_state(c, coef_=np.ones((3, 6), complex)), "'c16'"),
    "coef of records": (
        lambda c: changed_state(c, coef_=np.zeros((3, 6), [("a", "f8")])),
        "head",
    ),
    "coef 3-D": (lambda c: changed_state(c, coef_=np.ones((3, 6, 1))), "shape"),
    "classes": (lambda c: changed_state(c, classes_=np.array(["a", "b", "c"])), "classes"),
    "classes of objects": (
        lambda c: changed_state(c, classes_=np.array(c["labels"], object)),
        "type 'O8'",
    ),
    "intercept": (lambda c: changed_state(c, intercept_=np.ones(1)), "intercept_"),
    "foreign object in the state": (
        lambda c: changed_state(c, random_state=np.random.default_rng(0)),
        "names",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_altered_heads_are_refused(change, content, tmp_path):
    alter, reason = CHANGES[change]
    with pytest.raises(FileRefused, match=reason):
        load_bytes(dumped(alter(content())), tmp_path)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f4", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_in_any_byte_order_and_layout(dtype, order, content, tmp_path):
    changed = content()
    coef = np.array([[1, 2, 3, 4, 5, 6], [0, 0.5, 0, 0.25, 0, 0], [-1, -2, -3, -4, -5, -6]])
    changed["estimator"].coef_ = np.array(coef, dtype, order=order)
    head = load_bytes(dumped(changed), tmp_path)
    np.testing.assert_array_equal(head.coef, coef)
    assert head.coef.dtype == np.float64


def test_truncated_heads(good, tmp_path):
    for end in range(0, len(good), 50):
        with pytest.raises(FileRefused):
            load_bytes(good[:end], tmp_path)
    with pytest.raises(FileRefused):
        load_bytes(good[:-1], tmp_path)


@pytest.mark.parametrize("tail", [b"\0", b".", b"x" * 1000])
def test_trailing_bytes(tail, good, tmp_path):
    with pytest.raises(FileRefused, match="does not end where its content ends"):
        load_bytes(good + tail, tmp_path)


def test_flipped_bits(good, tmp_path):
    """A flip in a number gives another head; anything else must be refused, never crash."""
    rng = random.Random(0)
    loaded = refused = 0
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            position = rng.randrange(len(data))
            data[position] ^= 1 << rng.randrange(8)
        try:
            head = load_bytes(bytes(data), tmp_path)
        except FileRefused:
            refused += 1
        else:
            loaded += 1
            assert isinstance(head, Head)
            assert np.isfinite(head.coef).all()
            assert head.coef.shape == (len(head.labels), sum(s.width for s in head.sources))
    assert loaded > 50
    assert refused > 50


def frame(body, protocol=4):
    return b"\x80" + bytes([protocol]) + body


def text(name):
    return b"\x8c" + bytes([len(name)]) + name.encode()


RAW = {
    "EXT1": frame(b"\x82\x01."),
    "EXT2": frame(b"\x83\x01\x00."),
    "EXT4": frame(b"\x84\x01\x00\x00\x00."),
    "GLOBAL": frame(b"cos\nsystem\n."),
    "GLOBAL of an allowed name": frame(b"cnumpy\ndtype\n."),
    "INST": frame(b"(ios\nsystem\n."),
    "OBJ": frame(b"(\x8c\x02os\x8c\x06system\x93o."),
    "NEWOBJ_EX": frame(b"\x8c\x02os\x8c\x06system\x93)}\x92."),
    "PERSID": frame(b"Px\n."),
    "BINPERSID": frame(b"NQ."),
    "dotted attribute": frame(b"\x8c\x05numpy\x8c\x0edtype.__init__\x93."),
    "module with the class in it": frame(b"\x8c\x0bnumpy.dtype\x8c\x00\x93."),
    "class of a module's part": frame(
        b"\x8c\x07sklearn\x8c\x27linear_model._logistic.LogisticReg\x93."
    ),
    "global of numbers": frame(b"K\x01K\x02\x93."),
    "dtype called with few": frame(b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f8\x85R."),
    "dtype of objects": frame(b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02O8\x89\x88\x87R."),
    "ndarray called": frame(b"\x8c\x05numpy\x8c\x07ndarray\x93)R."),
    "ndarray made": frame(b"\x8c\x05numpy\x8c\x07ndarray\x93)\x81."),
    "build on a dict": frame(b"}}b."),
    "build on nothing": frame(b"}b."),
    "marks": frame(b"(" * 5000 + b"."),
    "marks closed": frame(b"(" * 3 + b"t" * 5 + b"."),
    "appends without a mark": frame(b"]e."),
    "append to a dict": frame(b"}Na."),
    "append to a mark": frame(b"(Na."),
    "setitem on a list": frame(b"]NNs."),
    "setitems of an odd number": frame(b"}(NNNu."),
    "key that is no text": frame(b"}K\x01Ns."),
    "tuple over a mark": frame(b"(N\x86."),
    "memo of nothing": frame(b"\x94."),
    "memo that is not there": frame(b"h\x07."),
    "memo of a huge number": frame(b"j\xff\xff\xff\xff."),
    "pop": frame(b"NN0."),
    "stop on an empty stack": frame(b"."),
    "stop on two": frame(b"NN."),
    "stop on a mark": frame(b"(."),
    "no stop": frame(b"N"),
    "huge BINUNICODE8": frame(b"\x8d" + struct.pack("<Q", 2**62) + b"x."),
    "negative BINUNICODE8": frame(b"\x8d" + b"\xff" * 8 + b"x."),
    "huge BINUNICODE": frame(b"X\xff\xff\xff\xffx."),
    "huge BINBYTES8": frame(b"\x8e" + struct.pack("<Q", 2**40) + b"x."),
    "huge BYTEARRAY8": frame(b"\x96" + struct.pack("<Q", 2**62) + b"x.", 5),
    "huge LONG4": frame(b"\x8b\xff\xff\xff\x7fx."),
    "huge FRAME": frame(b"\x95" + b"\xff" * 8),
    "text that is not UTF-8": frame(b"\x8c\x02\xff\xfe."),
    "unknown opcode": frame(b"\xff."),
    "protocol 0": b"I1\n.",
    "protocol 3": frame(b"N.", 3),
    "protocol 6": frame(b"N.", 6),
}


@pytest.mark.parametrize("case", RAW)
def test_odd_programs_are_refused(case, tmp_path):
    with pytest.raises(FileRefused):
        load_bytes(RAW[case], tmp_path)


WRAPPED_ARRAY = (
    b"\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93)\x81}("
    b"\x8c\x08subclass\x8c\x05numpy\x8c\x07ndarray\x93"
    b"\x8c\x05shape%s\x8c\x05order\x8c\x01C"
    b"\x8c\x05dtype\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f8\x89\x88\x87R"
    b"(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x8c\x0aallow_mmap\x88ub"
)


def test_the_wrapper_above_is_one():
    data = frame(WRAPPED_ARRAY % b"K\x02\x85" + struct.pack("<2d", 1.5, 2.5) + b".")
    np.testing.assert_array_equal(read_pickle(data), [1.5, 2.5])


@pytest.mark.parametrize(
    "shape",
    [
        b"\x8a\x08" + struct.pack("<q", 2**62) + b"\x85",
        b"\x8a\x08" + struct.pack("<q", 2**62) + b"K\x04\x86",
        b"J\xff\xff\xff\xff\x85",  # -1
        b"\x88\x85",  # (True,)
        b"N\x85",
        b"G" + struct.pack(">d", 2.0) + b"\x85",
        b"K\x02",
    ],
)
def test_arrays_of_impossible_shapes(shape):
    data = frame(WRAPPED_ARRAY % shape + struct.pack("<2d", 1.5, 2.5) + b".")
    with pytest.raises(UnpickleError):
        read_pickle(data)


class Nested:
    """An array of objects in an array of objects, the inner one with a call."""

    def __reduce__(self):
        return os.system, (f"touch {MARKER}",)


def object_array(value):
    array = np.empty(1, dtype=object)
    array[0] = value
    return array


def compatible(name, *fields):
    """How joblib before 0.10 wrote arrays: the path of a file beside the pickle."""
    return text("joblib.numpy_pickle_compat") + text(name) + b"\x93" + b"".join(fields)


def of_subclass(name):
    module, _, attribute = name.rpartition(".")
    return frame(
        (WRAPPED_ARRAY % b"K\x02\x85").replace(
            b"\x8c\x05numpy\x8c\x07ndarray", text(module) + text(attribute)
        )
        + struct.pack("<2d", 1.5, 2.5)
        + b"."
    )


TRICKS = {
    "objects in an array": lambda: dumped(object_array(Nested())),
    "objects in arrays in arrays": lambda: dumped(object_array(object_array(Nested()))),
    "objects in a head": lambda: dumped({"format": "frostline-head", "x": object_array(Nested())}),
    "an array of records of objects": lambda: dumped(np.zeros(2, [("a", "f8"), ("b", "O")])),
    "a path beside it": lambda: frame(compatible("NDArrayWrapper", b")\x81.")),
    "a packed path beside it": lambda: frame(compatible("ZNDArrayWrapper", b")\x81.")),
    "an array of a subclass": lambda: of_subclass("numpy.memmap"),
    "an array of a function": lambda: of_subclass("os.system"),
    "the wrapper's own reader": lambda: frame(
        text("joblib.numpy_pickle") + text("NumpyArrayWrapper.read") + b"\x93)R."
    ),
    "the wrapper called": lambda: frame(
        text("joblib.numpy_pickle") + text("NumpyArrayWrapper") + b"\x93)R."
    ),
    "state for a class": lambda: frame(
        text("joblib.numpy_pickle") + text("NumpyArrayWrapper") + b"\x93}b."
    ),
    "state for the estimator's class": lambda: frame(
        text("sklearn.linear_model._logistic") + text("LogisticRegression") + b"\x93}b."
    ),
    "state with a key that is no text": lambda: frame(
        text("sklearn.linear_model._logistic")
        + text("LogisticRegression")
        + b"\x93)\x81}K\x01K\x02sb."
    ),
    "state in two parts": lambda: frame(
        text("sklearn.linear_model._logistic") + text("LogisticRegression") + b"\x93)\x81}}\x86b."
    ),
    "skops": lambda: b"PK\x03\x04" + bytes(200),
    "a model of torch": lambda: b"PK\x03\x04" + b"archive/data.pkl" + bytes(200),
    "onnx": lambda: b"\x08\x07\x12\x07skl2onnx" + bytes(200),
    "cloudpickle": lambda: dumped(Call(pickle.loads, pickle.dumps(Nested()))),
    "a million instructions": lambda: frame(b"N" * 1_100_000 + b"."),
    "a million lists": lambda: frame(b"]" * 1_100_000 + b"."),
    "a million dicts in one": lambda: frame(b"](" + b"}" * 1_100_000 + b"e."),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_are_refused(trick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileRefused) as caught:
        load_bytes(TRICKS[trick](), tmp_path)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)
    assert ("more than 1000000 instructions" in str(caught.value)) == ("million" in trick)
    assert [path.name for path in tmp_path.iterdir()] == ["head.joblib"]


def test_memory_stays_in_proportion(tmp_path):
    """256 MiB at most are read, and no file makes more than a few hundred out of one."""
    program = frame(b"](" + b"}" * 990_000 + b"e.")
    tracemalloc.start()
    try:
        with pytest.raises(FileRefused):
            load_bytes(program, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(data=st.data())
def test_any_cut_or_change_of_a_head(good, data):
    """Bytes cut out, put in, exchanged: a head's content, or the documented error."""
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed) - 1))
        changed[start : start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
        if not changed:
            break
    with contextlib.suppress(UnpickleError):
        read_pickle(bytes(changed))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data):
    with pytest.raises(UnpickleError):
        read_pickle(data)


OPCODES = [bytes([n]) for n in b"(N}])\x85\x86\x87aesutRb0\x81\x88\x89\x93\x94."]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*OPCODES, b"\x8c\x05numpy", b"\x8c\x05dtype", b"h\x00", b"K\x01"]))
)
def test_random_programs(parts):
    """Of known instructions, so that they come further than random bytes."""
    try:
        value = read_pickle(frame(b"".join(parts) + b"."))
    except UnpickleError:
        return
    assert type(value) is not object  # the mark is no value
    plain = (type(None), bool, int, str, tuple, list, dict)
    assert isinstance(value, plain) or type(value).__module__ == "pipeline.head.safe_pickle"


# Far beyond the interpreter's recursion limit; and 4 million texts when it is written out.
DEEP = b")" + b"\x85" * 100_000
WIDE = b"\x8c\x04boom" + b"".join(b"\x94h%c\x86" % n for n in range(22))
FORMAT_IS_RIGHT = b"\x8c\x06format\x8c\x0efrostline-head"


@pytest.mark.parametrize("value", [DEEP, WIDE], ids=["deep", "wide"])
@pytest.mark.parametrize(
    "program",
    {
        "alone": b"%s.",
        "called": b"%sN\x86R.",
        "version": b"}(" + FORMAT_IS_RIGHT + text("version") + b"%su.",
        "labels": b"}(" + FORMAT_IS_RIGHT + text("version") + b"K\x01" + text("labels") + b"%su.",
        "shape": WRAPPED_ARRAY + b".",
    }.values(),
    ids=["alone", "called", "version", "labels", "shape"],
)
def test_structures_made_to_exhaust_the_reader(value, program, tmp_path):
    with pytest.raises(FileRefused) as error:
        load_bytes(frame(program % value), tmp_path)
    length = len(str(error.value))
    assert length < 2000
