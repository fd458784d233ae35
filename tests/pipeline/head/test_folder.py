"""A head as a folder without a pickle: all of it comes back; what is no head is refused."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from stores import LABELS, OTHER_SPEC, blobs, make_head, write_store

from features.base import disk
from features.errors import CannotContinue, FileRefused, InputError
from pipeline import fit
from pipeline.head.folder import MAX_CONFIG
from pipeline.head.head import Head, load_head, save_head
from pipeline.head.pretrained import files_for
from pipeline.head.training_texts import TrainingTexts
from pipeline.hub.address import Address

HEADS = {
    "two classes": {"n_classes": 2},
    "three classes": {"n_classes": 3},
    "many classes": {"n_classes": 7, "widths": (8, 4, 5)},
    "odd labels": {"n_classes": 4, "labels": ["né\tgatif", "😀", "", "</script>\u202e\ud800"]},
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A head that has everything: figures of held-out rows, calibration, novelty, texts."""
    path = tmp_path_factory.mktemp("fitted") / "s.h5"
    X, y = blobs(600, 8, 3)
    write_store(path, X, y)
    head = fit(path, cv=5).head
    assert head.novelty is not None
    assert head.texts is not None
    assert head.held_out is not None
    return head


def saved(head, folder, **options):
    head.save_pretrained(folder, **options)
    return folder


def vectors(head, n_rows=40):
    shape = (n_rows, head.coef.shape[1])
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def as_json(metadata):
    return json.loads(json.dumps(metadata))


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_the_bits_of_every_head_come_back(options, tmp_path):
    head = make_head(**options)
    # Weights of a binary head that are not each other's negative.
    head = dataclasses.replace(head, coef=head.coef + 0.1, intercept=head.intercept - 1 / 3)
    loaded = load_head(saved(head, tmp_path / "head"))
    assert (loaded.labels, loaded.sources) == (head.labels, head.sources)
    assert loaded.metadata == head.metadata
    assert loaded.coef.tobytes() == head.coef.tobytes()
    assert loaded.intercept.tobytes() == head.intercept.tobytes()
    assert (loaded.novelty, loaded.texts) == (None, None)
    X = vectors(head)
    assert loaded.predict_proba(X).tobytes() == head.predict_proba(X).tobytes()


def test_all_that_a_fit_keeps_comes_back(fitted, tmp_path):
    loaded = load_head(saved(fitted, tmp_path / "head"))
    for field in dataclasses.fields(Head):
        assert getattr(loaded, field.name) is not None, field.name
    assert loaded.metadata == as_json(fitted.metadata)
    X = vectors(fitted)
    assert loaded.novelty.of(X).tobytes() == fitted.novelty.of(X).tobytes()
    assert loaded.novelty.to_dict().keys() == fitted.novelty.to_dict().keys()
    np.testing.assert_array_equal(loaded.texts.digests, fitted.texts.digests)
    assert loaded.texts.texts == fitted.texts.texts
    for name in ("prior", "confusion", "uncertainty"):
        mine, theirs = getattr(loaded.held_out, name), getattr(fitted.held_out, name)
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(loaded.prior, fitted.prior)
    moved = loaded.with_prior("training").predict_proba(X)
    np.testing.assert_array_equal(moved, fitted.with_prior("training").predict_proba(X))


def test_joblib_and_folder_and_back(fitted, tmp_path):
    """A head that goes through both formats answers with the same bits."""
    save_head(fitted, tmp_path / "head.joblib")
    first = load_head(tmp_path / "head.joblib")
    second = Head.from_pretrained(saved(first, tmp_path / "head"))
    save_head(second, tmp_path / "again.joblib")
    X = vectors(fitted)
    for other in (second, load_head(tmp_path / "again.joblib")):
        assert other.predict_proba(X).tobytes() == first.predict_proba(X).tobytes()


def test_the_layout(fitted, tmp_path):
    folder = saved(fitted, tmp_path / "head")
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "head.safetensors",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert list(config) == [
        "format",
        "version",
        "labels",
        "sources",
        "metadata",
        "novelty",
        "texts",
        "tensors_sha256",
    ]
    assert (config["format"], config["version"]) == ("frostline-head", 1)
    arrays = load((folder / "head.safetensors").read_bytes())
    assert {name: (str(a.dtype), a.shape) for name, a in arrays.items() if "." not in name} == {
        "coef": ("float64", (3, 8)),
        "intercept": ("float64", (3,)),
    }
    np.testing.assert_array_equal(arrays["coef"], fitted.coef)
    # The file is read without us, and three lines give the probabilities.
    logits = vectors(fitted) @ arrays["coef"].T + arrays["intercept"]
    np.testing.assert_array_equal(
        [config["labels"][k] for k in logits.argmax(axis=1)], fitted.predict(vectors(fitted))
    )


def test_it_is_the_same_bytes_every_time(fitted, tmp_path):
    one, other = saved(fitted, tmp_path / "one"), saved(fitted, tmp_path / "other")
    for name in ("config.json", "head.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_digests_of_texts_can_be_left_out(fitted, tmp_path):
    folder = saved(fitted, tmp_path / "head", training_texts=False)
    assert load_head(folder).texts is None
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    digests = fitted.texts.digests.astype("<i8")
    assert not any(one.tobytes() in everything for one in digests)
    assert b"No digests of training texts" in everything


def test_loading_needs_no_other_library(tmp_path):
    folder = saved(make_head(), tmp_path / "head")
    names = ("sklearn", "joblib", "torch", "transformers", "huggingface_hub", "pickle")
    code = (
        "import sys\n"
        "from pipeline.head.head import load_head\n"
        "before = set(sys.modules)\n"
        f"load_head({str(folder)!r})\n"
        f"print([m for m in {names} if m in set(sys.modules) - before])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_what_is_there_is_kept_unless_it_may_go(tmp_path):
    folder = tmp_path / "head"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    saved(make_head(seed=1), folder)
    with pytest.raises(InputError, match=r"holds README\.md, config\.json.* `overwrite=True`"):
        saved(make_head(seed=2), folder)
    np.testing.assert_array_equal(load_head(folder).coef, make_head(seed=1).coef)
    saved(make_head(seed=2), folder, overwrite=True)
    np.testing.assert_array_equal(load_head(folder).coef, make_head(seed=2).coef)
    assert (folder / "notes.txt").read_text() == "mine"
    assert len(list(folder.iterdir())) == 4


def test_folders_that_can_not_be(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(InputError, match="is no folder"):
            saved(make_head(), tmp_path / name)
    with pytest.raises(InputError, match="does not exist; make it first"):
        saved(make_head(), tmp_path / "no" / "head")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(CannotContinue, match="cannot be written"):
            saved(make_head(), tmp_path / "closed" / "head")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir() and p.name != "closed") == []


def test_what_json_has_no_word_for(tmp_path):
    for bad in (float("nan"), float("inf"), {1, 2}):
        head = dataclasses.replace(make_head(), metadata={"C": 1.0, "bad": bad})
        with pytest.raises(InputError, match="JSON can't hold"):
            saved(head, tmp_path / "head")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_disk_that_fails_while_a_head_is_replaced(failing, tmp_path, monkeypatch):
    """One of the two heads, or a refusal: never the arrays of one with the labels of the other."""
    folder = saved(make_head(seed=1), tmp_path / "head")
    renames = []

    def rename(path, to, real=disk.rename):
        renames.append(to)
        if len(renames) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, to)

    monkeypatch.setattr(disk, "rename", rename)
    with pytest.raises(CannotContinue, match="cannot be written: No space left"):
        saved(make_head(seed=2), folder, overwrite=True)
    assert len(list(folder.iterdir())) == 3
    if failing == 2:
        with pytest.raises(FileRefused, match="is not the file that config"):
            load_head(folder)
    else:
        whole = make_head(seed=1 if failing == 1 else 2)
        np.testing.assert_array_equal(load_head(folder).coef, whole.coef)


def test_a_disk_that_fails_while_a_folder_is_made(tmp_path, monkeypatch):
    def rename(path, to):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "rename", rename)
    with pytest.raises(CannotContinue, match="cannot be written"):
        saved(make_head(), tmp_path / "head")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_can_be_read_however_much_it_is(tmp_path):
    """Many counts, as many classes have, are written in fewer bytes, or not at all."""
    head = dataclasses.replace(make_head(), metadata={"counts": [0] * 1_300_000})
    assert load_head(saved(head, tmp_path / "many")).metadata == head.metadata
    head = dataclasses.replace(make_head(), metadata={"text": "x" * MAX_CONFIG})
    with pytest.raises(InputError, match="keep the head as a joblib file"):
        saved(head, tmp_path / "more")
    assert not (tmp_path / "more").exists()


# Files from strangers.


@pytest.mark.slow
@pytest.mark.parametrize("item", [b"[],", b'"ab",', b"1e1,"])
def test_memory_stays_in_proportion(item, tmp_path):
    """The largest config that is looked at, of what grows most in memory."""
    folder = saved(make_head(), tmp_path / "head")
    text = b'{"format": [' + item * (MAX_CONFIG // len(item) - 8) + b"0]}"
    assert len(text) < MAX_CONFIG
    (folder / "config.json").write_bytes(text)
    tracemalloc.start()
    try:
        with pytest.raises(FileRefused):
            load_head(folder)
        assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    finally:
        tracemalloc.stop()


def rewritten(folder, *, config=None, arrays=None, tensors=None):
    """Change a folder, and make the digest in it right again, so that the change alone is seen."""
    content = json.loads((folder / "config.json").read_text())
    if arrays is not None:
        tensors = save(arrays(load((folder / "head.safetensors").read_bytes())))
    if tensors is not None:
        (folder / "head.safetensors").write_bytes(tensors)
    content["tensors_sha256"] = hashlib.sha256(
        (folder / "head.safetensors").read_bytes()
    ).hexdigest()
    content = content if config is None else config(content)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def header(length, text=b"{}"):
    return struct.pack("<Q", length) + text


def set_in(config, *path, to):
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return config


def entry(shape, dtype="F64", offsets=(0, 8)):
    text = json.dumps({"coef": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    return header(len(text), text) + bytes(8)


ALTERED = {
    "another format": ({"config": lambda c: c | {"format": "frostline-features"}}, "not a frost"),
    "no format": ({"config": lambda c: {}}, "not a frostline head|belongs to"),
    "a later version": ({"config": lambda c: c | {"version": 2}}, "it has version 2"),
    "a version of text": ({"config": lambda c: c | {"version": "1"}}, "it has version '1'"),
    "a list": ({"config": lambda c: [c]}, "holds no JSON object"),
    "one label": ({"config": lambda c: c | {"labels": ["a"]}}, "labels are not texts"),
    "labels of numbers": ({"config": lambda c: c | {"labels": [1, 2, 3]}}, "labels are not texts"),
    "a label twice": ({"config": lambda c: c | {"labels": ["a", "b", "a"]}}, "comes twice"),
    "a label more": (
        {"config": lambda c: c | {"labels": ["a", "b", "c", "d"], "metadata": {}}},
        r"coef is not an array of shape \(4, 8\)",
    ),
    "no source": ({"config": lambda c: c | {"sources": []}}, "names no source"),
    "another width": (
        {"config": lambda c: set_in(c, "sources", 0, "width", to=9)},
        r"coef is not an array of shape \(3, 9\)",
    ),
    "a view that is a path": (
        {"config": lambda c: set_in(c, "sources", 0, "view", to="../../etc/passwd")},
        "unknown view",
    ),
    "a wrong fingerprint": (
        {"config": lambda c: set_in(c, "sources", 0, "fingerprint", to="0" * 64)},
        "fingerprint is not that of its spec",
    ),
    "metadata of text": ({"config": lambda c: c | {"metadata": "x"}}, "no metadata"),
    "a prior that is none": (
        {"config": lambda c: set_in(c, "metadata", "prior", to=[0.5, 0.5])},
        "prior is not one number",
    ),
    "a threshold of text": (
        {"config": lambda c: set_in(c, "novelty", "threshold", to="1")},
        "novelty is not that",
    ),
    "an infinite threshold": (
        {"config": lambda c: set_in(c, "novelty", "threshold", to=float("inf"))},
        "not valid JSON",
    ),
    "novelty without its numbers": (
        {"config": lambda c: {k: v for k, v in c.items() if k != "novelty"}},
        "config.json no novelty",
    ),
    "texts without their number": (
        {"config": lambda c: c | {"texts": {}}},
        "not ascending digests",
    ),
    "weights in the config": ({"config": lambda c: c | {"coef": [[1.0]]}}, "belong into"),
    "an estimator": ({"config": lambda c: c | {"estimator": {}}}, "belong into"),
    "an array more": ({"arrays": lambda a: a | {"x" * 500: a["coef"]}}, "which no head has"),
    "no coef": ({"arrays": lambda a: {k: v for k, v in a.items() if k != "coef"}}, "its coef is"),
    "float32": (
        {"arrays": lambda a: a | {"coef": a["coef"].astype(np.float32)}},
        "coef as float32, not as float64",
    ),
    "integers": (
        {"arrays": lambda a: a | {"intercept": np.arange(3)}},
        "intercept as int64, not as float64",
    ),
    "turned": ({"arrays": lambda a: a | {"coef": a["coef"].T.copy()}}, "not an array of shape"),
    "NaN": ({"arrays": lambda a: a | {"coef": a["coef"] * np.nan}}, "not finite"),
    "infinity": ({"arrays": lambda a: a | {"intercept": np.full(3, np.inf)}}, "not finite"),
    "variances of zero": (
        {"arrays": lambda a: a | {"novelty.variances": a["novelty.variances"] * 0}},
        "novelty is not that",
    ),
    "digests that fall": (
        {"arrays": lambda a: a | {"texts.digests": a["texts.digests"][::-1].copy()}},
        "not ascending digests",
    ),
    "no bytes": ({"tensors": b""}, "no safetensors file"),
    "a huge header": ({"tensors": header(2**62)}, "no safetensors file"),
    "a long header": ({"tensors": header(2**20, b"{}" + b" " * 2**20)}, "no safetensors file"),
    "a header of a list": ({"tensors": header(2, b"[]")}, "no whole safetensors file"),
    "a header that is no JSON": ({"tensors": header(2, b"{'")}, "no whole safetensors file"),
    "a header that nests": ({"tensors": header(60000, b"[" * 60000)}, "no whole safetensors"),
    "a pickle": ({"tensors": b"\x80\x04N."}, "no safetensors file"),
    "bytes too few": ({"tensors": entry([2])}, "no whole safetensors file"),
    "a shape that overflows": ({"tensors": entry([2**62, 4])}, "no whole safetensors file"),
    "negative offsets": ({"tensors": entry([1], offsets=(-8, 0))}, "no whole safetensors file"),
    "offsets beyond the end": ({"tensors": entry([1], offsets=(8, 16))}, "no whole safetensors"),
    "a type of its own": ({"tensors": entry([1], dtype="O8")}, "no whole safetensors file"),
}


@pytest.mark.parametrize("case", ALTERED)
def test_files_that_are_no_head_are_refused_in_one_line(case, fitted, tmp_path):
    change, match = ALTERED[case]
    folder = rewritten(saved(fitted, tmp_path / "head"), **change)
    with pytest.raises(FileRefused, match=match) as error:
        load_head(folder)
    message = str(error.value)
    assert message.startswith(f"{folder}: ")
    assert "\n" not in message
    assert len(message) < 1000


def test_the_change_above_is_what_is_refused(fitted, tmp_path):
    folder = rewritten(saved(fitted, tmp_path / "head"), arrays=dict)
    assert isinstance(load_head(folder), Head)


BROKEN_JSON = {
    "cut": lambda text: text[:-20],
    "empty": lambda text: b"",
    "NaN": lambda text: text.replace(b'"seed": 0', b'"seed": NaN'),
    "not UTF-8": lambda text: text.replace(b"negative", b"\xff\xfe"),
    "nested": lambda text: b"[" * 100_000,
    "a huge number": lambda text: text.replace(b'"seed": 0', b'"seed": ' + b"9" * 10_000),
}


@pytest.mark.parametrize("case", BROKEN_JSON)
def test_configs_that_are_no_json(case, fitted, tmp_path):
    folder = saved(fitted, tmp_path / "head")
    text = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(BROKEN_JSON[case](text))
    with pytest.raises(FileRefused, match=r"config\.json is not valid JSON") as error:
        load_head(folder)
    assert len(str(error.value)) < 500


def test_two_halves_of_different_heads(tmp_path):
    """Arrays of the same shapes, so that only the digest can tell."""
    one, other = (saved(make_head(seed=n), tmp_path / str(n)) for n in (1, 2))
    (one / "head.safetensors").write_bytes((other / "head.safetensors").read_bytes())
    with pytest.raises(FileRefused, match="is not the file that config"):
        load_head(one)


@pytest.mark.parametrize("name", ["config.json", "head.safetensors"])
def test_files_that_never_end_or_are_not_there(name, tmp_path):
    folder = saved(make_head(), tmp_path / "head")
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"is a folder without {name}; that of a head has"):
        load_head(folder)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match="is a pipe"):
        load_head(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is a device"):
        load_head(folder)
    (folder / name).unlink()
    with (folder / name).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileRefused, match=rf"{name} has more than [\d,]+ bytes"):
        load_head(folder)


def test_a_joblib_file_is_read_as_well(tmp_path):
    save_head(make_head(), tmp_path / "head.joblib")
    loaded = Head.from_pretrained(tmp_path / "head.joblib")
    np.testing.assert_array_equal(loaded.coef, make_head().coef)


@pytest.mark.parametrize(
    ("name", "hinted"),
    [
        ("jane/sentiment", True),
        ("jane/sentiment.joblib", False),
        ("sentiment", False),
        ("./jane/../sentiment", False),
        ("a/b/c", False),
    ],
)
def test_a_name_that_could_be_of_the_hub(name, hinted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file") as error:
        load_head(name)
    assert ("a head on the hub is given as hf:jane/sentiment" in str(error.value)) == hinted


def test_another_folder(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        load_head(tmp_path)
    with pytest.raises(InputError, match=r"`revision` 'main' is for the hub; .* is here"):
        Head.from_pretrained(tmp_path, revision="main")


@given(data=st.data())
def test_any_cut_or_change(tmp_path_factory, data):
    """A head, or the documented errors, whatever was changed in the two files."""
    good = tmp_path_factory.getbasetemp() / "small"
    if not good.exists():
        texts = TrainingTexts(np.arange(3), 3)
        saved(dataclasses.replace(make_head(3, widths=(2,)), texts=texts), good)
    folder = tmp_path_factory.mktemp("changed")
    name = data.draw(st.sampled_from(["config.json", "head.safetensors"]))
    changed = bytearray((good / name).read_bytes())
    start = data.draw(st.integers(0, len(changed) - 1))
    changed[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    for one in ("config.json", "head.safetensors"):
        (folder / one).write_bytes(bytes(changed) if one == name else (good / one).read_bytes())
    if name == "head.safetensors":
        content = json.loads((folder / "config.json").read_text())
        content["tensors_sha256"] = hashlib.sha256(bytes(changed)).hexdigest()
        (folder / "config.json").write_text(json.dumps(content))
    with contextlib.suppress(FileRefused):
        assert isinstance(load_head(folder), Head)


def test_transformers_takes_it_for_no_model(tmp_path):
    """Even in a folder that is named like one: `config.json` has no `model_type`."""
    from transformers import AutoConfig

    folder = saved(make_head(), tmp_path / "bert-base")
    with pytest.raises(ValueError, match="Unrecognized model"):
        AutoConfig.from_pretrained(folder)


@pytest.mark.parametrize("judged_by", ["folds", "validation"])
def test_no_folder_of_any_file_that_a_fit_is_given_goes_to_the_hub(judged_by, tmp_path):
    """Stores of two encoders that do not match, corrections, an earlier head of other rows."""
    folder = tmp_path / "secret"
    folder.mkdir()
    X, y = blobs(300, 8, 3)
    some = np.flatnonzero(np.arange(300) % 7 != 3)
    named = {"ids": [f"row-{n}" for n in some], "texts": [f"text {n}" for n in some]}
    stores = [
        write_store(folder / "a.h5", X[:, :4], y),
        write_store(folder / "b.h5", X[some, 4:], y[some], spec=OTHER_SPEC, **named),
    ]
    save_head(fit(stores, C=0.1, cv=2).head, folder / "old.joblib")
    (folder / "corrections.csv").write_text(f"id,row,label\nrow-0,0,{LABELS[(y[0] + 1) % 3]}\n")
    options = {"corrections": folder / "corrections.csv", "conflicts": "drop"}
    if judged_by == "validation":
        options = {"validation": [write_store(folder / "c.h5", X[:, :4], y), stores[1]]}
    else:
        options["cv"] = 2
    old = load_head(folder / "old.joblib")
    other = dataclasses.replace(old, metadata=old.metadata | {"class_rows": [9, 9, 9]})
    save_head(other, folder / "old.joblib")
    head = fit(stores, C=0.1, against=folder / "old.joblib", **options).head
    assert head.metadata["changes"]["remarks"]
    assert b"secret" in b"".join(files_for(head, tmp_path / "x", training_texts=False).values())
    for content in files_for(head, Address("jane/tweets"), training_texts=False).values():
        assert b"secret" not in content
        assert str(tmp_path).encode() not in content
