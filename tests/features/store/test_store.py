import dataclasses
import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from damage import flip_a_byte
from stores import write_store

from features.errors import FileRefused, InputError
from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec
from features.store.format import EMPTY, FORMAT, REPAIRED, TRUNCATED, VERSION, Shard, sort_labels
from features.store.reader import FeatureStore
from features.store.writer import write_shard

SPEC = EncoderSpec("some-model", None, "a" * 64, "b" * 64, "c" * 64, 128, "tweeteval/1")
OTHER_SPEC = dataclasses.replace(SPEC, weights="d" * 64, model="other-model")
VIEWS = {"cls": 8, "mean@last4+sum": 12}


def columns_of(n_rows, views, dtype, label_names=("bad", "good"), seed=0):
    """Rows that differ in every dataset; ids of several lengths, not all of them ASCII."""
    random = np.random.default_rng(seed)
    ids = [f"é{seed}-{i}" * (1 + i % 3) for i in range(n_rows)]
    return {
        "id": np.array([name.encode() for name in ids]),
        "label": random.integers(-1, len(label_names), n_rows).astype(np.int32),
        "digest": random.integers(0, 256, (n_rows, 16), dtype=np.uint8),
        "n_tokens": random.integers(2, 129, n_rows).astype(np.int32),
        "flags": random.choice([0, TRUNCATED, EMPTY, REPAIRED, 7], n_rows).astype(np.uint8),
        **{
            view: random.standard_normal((n_rows, width)).astype(dtype)
            for view, width in views.items()
        },
    }


def write(path, n_rows=10, views=VIEWS, dtype="float32", seed=0, sizes=None, **attributes):
    attributes = {
        "spec": SPEC,
        "label_names": ["bad", "good"],
        "precision": "float32",
        "provenance": {"frostline": "0", "inputs": ["tweets.csv"]},
    } | attributes
    columns = columns_of(n_rows, views, dtype, attributes["label_names"], seed)
    write_shard(
        path,
        Shard(
            VectorSpec(attributes["spec"], views, attributes["precision"], dtype),
            attributes["label_names"],
            attributes["provenance"],
            attributes.get("part"),
        ),
        n_rows=n_rows,
        id_bytes=columns["id"].itemsize,
        rows_of=lambda name, rows: columns[name][rows],
        **(sizes or {}),
    )
    return columns


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "tweets.h5")
    return tmp_path / "tweets.h5"


def open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def refusal(kind, path):
    before = open_files()
    with pytest.raises(kind) as caught:
        FeatureStore(path)
    assert open_files() == before, "a refused file stays open"
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------ written and read


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("n_rows", [1, 10, 3000])
def test_rows_come_back(tmp_path, dtype, n_rows):
    columns = write(tmp_path / "a.h5", n_rows, dtype=dtype)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert (store.n_rows, len(store)) == (n_rows, n_rows)
        assert store.ids() == [name.decode() for name in columns["id"]]
        for name in ("digest", "n_tokens", "flags"):
            read = {"digest": store.digests, "n_tokens": store.n_tokens, "flags": store.flags}[name]
            np.testing.assert_array_equal(read(), columns[name], strict=True)
        np.testing.assert_array_equal(store.labels(), columns["label"], strict=True)
        for view in VIEWS:
            expected = columns[view].astype(np.float32)
            np.testing.assert_array_equal(store.read(view), expected, strict=True)


def test_what_a_file_says_about_itself_comes_back(path):
    with FeatureStore(path) as store:
        assert store.spec == SPEC
        assert store.fingerprint == SPEC.fingerprint
        assert store.views == VIEWS
        assert list(store.views) == list(VIEWS)
        assert store.label_names == ["bad", "good"]
        assert store.precision == "float32"
        assert store.store_dtype == "float32"
        assert store.provenance == [{"frostline": "0", "inputs": ["tweets.csv"]}]
        assert str(store) == str(path)


def test_one_file_keeps_the_order_of_its_labels(tmp_path):
    names = ["positive", "neutral", "negative", "größer", '"'] + [str(n) for n in range(9, -1, -1)]
    write(tmp_path / "a.h5", label_names=names)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.label_names == names


def test_no_labels(tmp_path):
    write(tmp_path / "a.h5", label_names=[])
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.label_names == []
        assert set(store.labels()) == {-1}


def test_several_views_side_by_side(path):
    with FeatureStore(path) as store:
        both = store.read(["mean@last4+sum", "cls"])
        np.testing.assert_array_equal(both[:, :12], store.read("mean@last4+sum"))
        np.testing.assert_array_equal(both[:, 12:], store.read("cls"))


def test_chosen_rows(path):
    chosen = np.arange(10) % 3 == 0
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.read("cls", chosen), store.read("cls")[chosen])
        assert store.read("cls", np.zeros(10, dtype=bool)).shape == (0, 8)
        assert store.ids(slice(2, 5)) == store.ids()[2:5]
        assert store.ids(slice(0, 0)) == []
        assert store.ids(slice(8, 99)) == store.ids()[8:]


def test_blocks_are_bounded_and_make_the_whole(tmp_path):
    sizes = {"chunk_bytes": 1000, "block_bytes": 4000}
    columns = [write(tmp_path / f"{seed}.h5", 500, seed=seed, sizes=sizes) for seed in range(2)]
    with FeatureStore(tmp_path) as store:
        blocks = list(store.blocks("cls", **sizes))
        assert max(block.nbytes for _, block in blocks) <= 4000
        assert [start for start, _ in blocks] == np.cumsum([0, *map(len, (b for _, b in blocks))])[
            :-1
        ].tolist()
        joined = np.vstack([block for _, block in blocks])
        np.testing.assert_array_equal(joined, np.vstack([c["cls"] for c in columns]))
        np.testing.assert_array_equal(joined, store.read("cls"))
        for start in (1, 499, 500, 777, 999):
            numbers, rest = zip(*store.blocks("cls", start=start, **sizes), strict=True)
            assert numbers[0] == start
            np.testing.assert_array_equal(np.vstack(rest), joined[start:])
        assert list(store.blocks("cls", start=1000, **sizes)) == []
        chosen = np.arange(1000) % 7 == 0
        np.testing.assert_array_equal(store.read("cls", chosen), joined[chosen])


@pytest.mark.parametrize(
    ("asked", "names"),
    [(["mean@-4:-1"], ["mean@last4+sum"]), (["mean@last4", "cls@-1"], ["mean@last4+sum", "cls"])],
)
def test_views_are_asked_for_in_the_grammar(path, asked, names):
    with FeatureStore(path) as store:
        assert store.choose_views(asked) == names


@pytest.mark.parametrize(
    ("asked", "wording"),
    [
        (None, r"holds several views: cls, mean@last4\+sum; choose with `pooling`"),
        (["max"], r"holds no view 'max'; it holds: cls, mean@last4\+sum"),
        (["cls", "cls@-1"], "'cls' is named twice"),
        (["average"], "cls, mean, mean-content, max, pooler"),
    ],
)
def test_views_that_cannot_be_chosen(path, asked, wording):
    with FeatureStore(path) as store, pytest.raises(InputError, match=wording):
        store.choose_views(asked)


def test_the_only_view_need_not_be_named(tmp_path):
    write(tmp_path / "a.h5", views={"max": 4})
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.choose_views(None) == ["max"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"pos", "neg", "neu"}, ["neg", "neu", "pos"]),
        ({"10", "9", "0"}, ["0", "9", "10"]),
        ({"b", "10", "9", "-1"}, ["9", "10", "-1", "b"]),
        (set(), []),
    ],
)
def test_order_of_labels(names, expected):
    assert sort_labels(names) == expected


# ----------------------------------------------------------------------------------- the contract


def test_three_lines_of_plain_h5py_read_it(tmp_path):
    columns = write(tmp_path / "tweets.h5", 50)
    code = (
        "import h5py\n"
        "with h5py.File('tweets.h5') as f:\n"
        "    X, y = f['mean@last4+sum'][:], f['label'][:]\n"
        "print(X.shape, X.dtype, X[7, 3].hex() if hasattr(X[7, 3], 'hex') else X[7, 3], y.sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    value = columns["mean@last4+sum"][7, 3]
    assert done.stdout.split()[:3] == ["(50,", "12)", "float32"]
    assert done.stdout.split()[3] == (value.hex() if hasattr(value, "hex") else str(value))
    assert done.stdout.split()[4] == str(columns["label"].sum())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_layout(tmp_path, dtype):
    n = 3000
    views = {"cls": 384, "mean@all+concat": 2688}
    columns = write(tmp_path / "a.h5", n, views, dtype)
    expected = {
        "id": (h5py.string_dtype("utf-8", columns["id"].itemsize), (n,)),
        "label": (np.int32, (n,)),
        "digest": (np.uint8, (n, 16)),
        "n_tokens": (np.int32, (n,)),
        "flags": (np.uint8, (n,)),
        "cls": (np.dtype(dtype), (n, 384)),
        "mean@all+concat": (np.dtype(dtype), (n, 2688)),
    }
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert set(file) == set(expected)
        for name, (kind, shape) in expected.items():
            dataset = file[name]
            assert isinstance(file.get(name, getlink=True), h5py.HardLink), name
            assert (dataset.dtype, dataset.shape) == (kind, shape), name
            assert dataset.dtype.kind != "O", name
            assert dataset.fletcher32, name
            assert not dataset.is_virtual, name
            assert not dataset.external, name
            assert not dict(dataset.attrs), name
            assert dataset.chunks[1:] == shape[1:], f"{name} is not chunked by rows"
            if name in views:
                size = np.prod(dataset.chunks) * dataset.dtype.itemsize
                assert 256 * 1024 <= size <= 1024 * 1024, name
        id_type = file["id"].id.get_type()
        assert id_type.get_cset() == h5py.h5t.CSET_UTF8
        assert not id_type.is_variable_str()


def test_a_row_wider_than_a_chunk_should_be_is_a_chunk(tmp_path):
    write(tmp_path / "a.h5", 3, {"mean@all+concat": 200_000})
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["mean@all+concat"].chunks == (1, 200_000)


def test_attributes(path):
    with h5py.File(path, "r") as file:
        attributes = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in file.attrs.items()
        }
    assert attributes.pop("format") == FORMAT == "frostline-features"
    assert attributes.pop("version") == VERSION == 1
    assert json.loads(attributes.pop("views")) == list(VIEWS)
    assert json.loads(attributes.pop("label_names")) == ["bad", "good"]
    # Without a prefix and modules a spec is written as it was before there were any.
    later = ("prefix", "modules")
    spec = {name: value for name, value in dataclasses.asdict(SPEC).items() if name not in later}
    assert json.loads(attributes.pop("spec")) == spec
    assert attributes.pop("fingerprint") == SPEC.fingerprint
    assert attributes.pop("precision") == "float32"
    assert json.loads(attributes.pop("provenance"))["inputs"] == ["tweets.csv"]
    assert not attributes


def test_the_same_rows_make_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, 700)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_that_is_there_is_not_written_over(path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write(path)
    assert path.read_bytes() == before


def test_too_many_labels_are_no_classes(tmp_path):
    with pytest.raises(
        InputError, match=r'have 9000 different values, e\.g\. "tweet 0".*`label_column`'
    ):
        write(tmp_path / "a.h5", label_names=[f"tweet {i}" for i in range(9000)])


# --------------------------------------------------------------------------------- several shards


def test_shards_are_read_as_one(tmp_path):
    parts = [("b.h5", ["neg", "pos"]), ("a.h5", ["neu", "neg"]), ("c.h5", [])]
    written = {
        name: write(tmp_path / name, 5 + i, seed=i, label_names=labels)
        for i, (name, labels) in enumerate(parts)
    }
    names = dict(parts)
    for given, order in (
        (tmp_path, ["a.h5", "b.h5", "c.h5"]),  # a folder: by name
        ([tmp_path / name for name, _ in parts], ["b.h5", "a.h5", "c.h5"]),  # as they are given
    ):
        with FeatureStore(given) as store:
            assert store.n_rows == 5 + 6 + 7
            assert store.label_names == ["neg", "neu", "pos"]
            labels = [None if c < 0 else store.label_names[c] for c in store.labels()]
            assert labels == [
                None if c < 0 else names[name][c] for name in order for c in written[name]["label"]
            ]
            assert store.ids() == [i.decode() for name in order for i in written[name]["id"]]
            assert store.ids(slice(3, 14)) == store.ids()[3:14]
            for view in VIEWS:
                expected = np.vstack([written[name][view] for name in order])
                np.testing.assert_array_equal(store.read(view), expected)
            expected = np.concatenate([written[name]["digest"] for name in order])
            np.testing.assert_array_equal(store.digests(), expected)
            assert len(store.provenance) == 3


@pytest.mark.parametrize(
    ("other", "wording"),
    [
        ({"spec": OTHER_SPEC}, "weights: dddddddddddd here, aaaaaaaaaaaa there"),
        ({"spec": OTHER_SPEC}, "model: other-model here, some-model there"),
        ({"spec": dataclasses.replace(SPEC, max_length=64)}, "max_length: 64 here, 128 there"),
        ({"precision": "half"}, "precision: half here, float32 there"),
        ({"dtype": "float16"}, "store dtype: float16 here, float32 there"),
        ({"views": {"cls": 8}}, "views: cls here, cls, mean@last4+sum there"),
        ({"views": {"cls": 9, "mean@last4+sum": 12}}, "views: "),
    ],
)
def test_shards_of_different_encoders_are_refused(tmp_path, other, wording):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", **other)
    message = refusal(FileRefused, tmp_path)
    assert f"{tmp_path / 'b.h5'} and {tmp_path / 'a.h5'} don't belong together" in message
    assert wording in message
    assert "; extract one of the two again, as the other one was" in message
    assert ("`dtype` says the precision" in message) == ("precision" in other)


def test_names_of_models_do_not_tell_shards_apart(tmp_path):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", spec=dataclasses.replace(SPEC, model="/home/me/copy", revision="x"))
    with FeatureStore(tmp_path) as store:
        assert store.n_rows == 20


def test_files_that_are_not_there(tmp_path):
    assert "no such feature file" in refusal(InputError, tmp_path / "gone.h5")
    assert "frostline extract" in refusal(InputError, tmp_path / "gone.h5")
    assert "without feature files (*.h5)" in refusal(InputError, tmp_path)
    assert "no feature file was given" in refusal(InputError, [])


# -------------------------------------------------------------------------------- what is refused


def edited(change):
    def damage(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return edited(change)


def without(name):
    def change(file):
        del (file.attrs if name in file.attrs else file)[name]

    return edited(change)


def replaced(name, make):
    """Replace a dataset by what `make` puts under its name."""

    def change(file):
        old = file[name][:]
        del file[name]
        make(file, name, old)

    return edited(change)


def altered_spec(path):
    content = json.dumps(dataclasses.asdict(dataclasses.replace(SPEC, max_length=64)))
    attribute("spec", content)(path)


def soft_link(file, name, old):
    file["elsewhere"] = old
    file[name] = h5py.SoftLink("/elsewhere")


def external_link(file, name, old):
    shutil.copy(file.filename, file.filename + ".other")
    file[name] = h5py.ExternalLink(file.filename + ".other", "/flags")


def virtual(file, name, old):
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[:] = h5py.VirtualSource(file.filename + ".other", name, old.shape, old.dtype)
    file.create_virtual_dataset(name, layout)


def external_storage(file, name, old):
    file.create_dataset(
        name, old.shape, old.dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


def variable_length(file, name, old):
    file.create_dataset(name, data=list(old), dtype=h5py.string_dtype())


def group(file, name, old):
    file.create_group(name)


REFUSED = {
    "nothing": (lambda p: p.write_bytes(b""), "is not a readable HDF5 file"),
    "text": (lambda p: p.write_text("id,text\n1,hello\n"), "is not a readable HDF5 file"),
    "head only": (lambda p: p.write_bytes(p.read_bytes()[:100]), "is not a readable HDF5 file"),
    "half": (
        lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
        "is not a readable HDF5 file",
    ),
    "last byte gone": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "ends within its seal"),
    "last byte before the seal gone": (
        lambda p: p.write_bytes(p.read_bytes()[:-57]),
        "is not a readable HDF5 file",
    ),
    "something behind the seal": (lambda p: p.write_bytes(p.read_bytes() + b"0"), "behind it"),
    "other HDF5": (without("format"), "not one of frostline's feature files"),
    "other format": (attribute("format", "x"), "not one of frostline's feature files"),
    "format as bytes": (attribute("format", np.bytes_(b"x")), "not one of frostline's feature"),
    "version 2": (attribute("version", 2), "has version 2; this frostline reads 1; update it"),
    "version as text": (attribute("version", "1"), "has version 1; this frostline reads 1"),
    "no version": (without("version"), "has version None"),
    "no spec": (without("spec"), "its attributes are damaged"),
    "spec is no JSON": (attribute("spec", "{"), "its attributes are damaged"),
    "spec is a number": (attribute("spec", 3), "its attributes are damaged"),
    "spec with more": (
        attribute("spec", json.dumps(dataclasses.asdict(SPEC) | {"more": 1})),
        "differs in more",
    ),
    "spec with a bad type": (
        attribute("spec", json.dumps(dataclasses.asdict(SPEC) | {"max_length": "128"})),
        "bad max_length: '128'",
    ),
    "spec altered": (altered_spec, "the file was altered"),
    "fingerprint altered": (attribute("fingerprint", "0" * 64), "its fingerprint 000000000000 is"),
    "views altered": (attribute("views", '["cls", "max"]'), "'max' is missing"),
    "views is a number": (attribute("views", "3"), "its attributes are damaged"),
    "no labels' names": (without("label_names"), "its attributes are damaged"),
    "no view": (without("cls"), "'cls' is missing, or not a dataset of this file"),
    "no ids": (without("id"), "'id' is missing, or not a dataset of this file"),
    "no labels": (without("label"), "is missing"),
    "a row less": (
        replaced("cls", lambda f, n, old: f.create_dataset(n, data=old[1:])),
        "'cls' has 9 rows, 'label' has another number",
    ),
    "integers": (
        replaced("cls", lambda f, n, old: f.create_dataset(n, data=old.astype(int))),
        "'cls' has type int64",
    ),
    "one dimension": (
        replaced("cls", lambda f, n, old: f.create_dataset(n, data=old[:, 0])),
        "shape (10,), which is not of this format",
    ),
    "two precisions": (
        replaced("cls", lambda f, n, old: f.create_dataset(n, data=old.astype(np.float16))),
        "its views are of several types: float16, float32",
    ),
    "group": (replaced("digest", group), "'digest' is missing, or not a dataset of this file"),
    "soft link": (replaced("flags", soft_link), "'flags' is missing, or not a dataset of this"),
    "external link": (replaced("flags", external_link), "'flags' is missing, or not a dataset of"),
    "virtual": (replaced("cls", virtual), "'cls' points to another file"),
    "external storage": (replaced("flags", external_storage), "'flags' points to another file"),
    "variable length": (replaced("id", variable_length), "'id' has type object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(path, case):
    damage, wording = REFUSED[case]
    damage(path)
    message = refusal(FileRefused, path)
    assert wording in message
    assert case.startswith("spec with") or str(path) in message


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(replaced("label", group), id="label is a group"),
        pytest.param(attribute("format", np.zeros(3)), id="format is an array"),
        pytest.param(attribute("version", np.zeros(3)), id="version is an array"),
        pytest.param(attribute("provenance", "[" * 50_000), id="nested provenance"),
        pytest.param(
            replaced("digest", lambda f, n, old: f.create_dataset(n, data=old[:, :8])),
            id="short digests",
        ),
    ],
)
def test_refused_too(path, damage):
    damage(path)
    assert str(path) in refusal(FileRefused, path)


READERS = {
    "id": FeatureStore.ids,
    "label": FeatureStore.labels,
    "digest": FeatureStore.digests,
    "n_tokens": FeatureStore.n_tokens,
    "flags": FeatureStore.flags,
    "cls": lambda store: store.read("cls"),
    "mean@last4+sum": lambda store: store.read(["cls", "mean@last4+sum"]),
}


def test_every_dataset_has_a_reader(path):
    with h5py.File(path, "r") as file:
        assert set(file) == set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_byte_is_found_when_it_is_read(path, name):
    flip_a_byte(path, name)
    with FeatureStore(path) as store:
        with pytest.raises(FileRefused) as caught:
            READERS[name](store)
        assert f"{path}: {name!r} is damaged" in str(caught.value)
        assert "make the file again" in str(caught.value)
        for other in set(READERS) - {name, "mean@last4+sum"}:
            READERS[other](store)


def test_a_flipped_byte_in_a_later_chunk(tmp_path):
    write(tmp_path / "a.h5", 3000, {"cls": 384})
    flip_a_byte(tmp_path / "a.h5", "cls", chunk=3)
    with (
        FeatureStore(tmp_path / "a.h5") as store,
        pytest.raises(FileRefused, match="'cls' is damaged"),
    ):
        store.read("cls")


@pytest.mark.parametrize("code", [2, 100, -2])
def test_labels_without_a_name_are_refused(path, code):
    def change(file):
        file["label"][3] = code

    edited(change)(path)
    with FeatureStore(path) as store, pytest.raises(FileRefused, match="not among its label names"):
        store.labels()


def test_a_file_that_is_cut_while_it_is_open_is_refused(tmp_path):
    """HDF5 reads zeros there, whose checksum is zero, so that it says nothing."""
    X = np.random.default_rng(0).normal(size=(4000, 64))
    path = write_store(tmp_path / "s.h5", X, np.arange(4000) % 3)
    with FeatureStore(path) as store:
        blocks = store.blocks("cls", block_bytes=2**18)
        next(blocks)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        with pytest.raises(FileRefused, match=r"s\.h5: [\d,]+ bytes of it have gone since it"):
            list(blocks)
        with pytest.raises(FileRefused, match="have gone"):
            store.take("cls", np.array([3999]))
