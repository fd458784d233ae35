"""Exported models are opened without torch, give the same vectors, and must be complete."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from architectures import ARCHITECTURES, TEXTS

from features import FrozenEncoder
from features.backends.exported.export_files import MANIFEST, TOKENIZER, ExportPlace, read_export
from features.backends.registry import BACKENDS, EXPORTED
from features.spec.checkpoint import find_checkpoint
from features.spec.tokenizer import Vocabulary, load_tokenizer, open_tokenizer

ROOT = Path(__file__).parents[3]
# What another process has loaded after it has encoded some texts, and the vectors.
ENCODE = """
import json, sys
from features import FrozenEncoder
model, backend, texts = json.loads(sys.argv[1])
encoder = FrozenEncoder(model, pooling=["mean", "cls"], backend=backend, dtype="float32")
vectors = {view: matrix.tolist() for view, matrix in encoder.encode(texts).items()}
loaded = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps([loaded, vectors, encoder.choice.remembered]))
"""

runtimes = pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not all(map(find_spec, BACKENDS[name].packages)), reason=f"no {name}"
            ),
        )
        for name in EXPORTED
    ],
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(model, backend):
    """Encode in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, json.dumps([str(model), backend, TEXTS])],
        capture_output=True, text=True, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded, vectors, remembered = json.loads(done.stdout.splitlines()[-1])
    return loaded, {view: np.array(matrix) for view, matrix in vectors.items()}, remembered


def the_export(cache):
    (folder,) = (cache / "exports").iterdir()
    return folder


@runtimes
def test_the_second_process_needs_no_torch_and_gives_the_same(tiny_model, cache, runtime):
    model = tiny_model("bert")
    expected = FrozenEncoder(model, pooling=["mean", "cls"], dtype="float32", backend="torch")
    encoder = FrozenEncoder(model, pooling=["mean", "cls"], dtype="float32", backend=runtime)
    loaded, found, remembered = encoded(model, runtime)
    assert loaded == [] and remembered
    for view, matrix in expected.encode(TEXTS).items():
        np.testing.assert_allclose(found[view], matrix, atol=1e-5)
    for view, matrix in encoder.encode(TEXTS).items():
        np.testing.assert_array_equal(found[view], matrix.astype(float))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "a bit of the weights": lambda f: flip(max(f.iterdir(), key=lambda p: p.stat().st_size)),
    "a bit of the tokenizer": lambda f: flip(f / TOKENIZER),
    "the manifest is gone": lambda f: (f / MANIFEST).unlink(),
    "the manifest is cut": lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text()[:40]),
    "a file is gone": lambda f: (f / TOKENIZER).unlink(),
    "a file too many": lambda f: (f / "extra").write_text("x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_made_anew(tiny_model, cache, damage):
    if find_spec("onnxruntime") is None:
        pytest.skip("no onnxruntime")
    model = tiny_model("bert")
    FrozenEncoder(model, pooling=["mean", "cls"], dtype="float32", backend="onnx")
    folder = the_export(cache)
    before = read_export(folder)
    assert before is not None
    DAMAGES[damage](folder)
    assert read_export(folder) is None
    encoder = FrozenEncoder(model, pooling=["mean", "cls"], dtype="float32", backend="onnx")
    expected = FrozenEncoder(model, pooling=["mean", "cls"], dtype="float32", backend="torch")
    for view, matrix in expected.encode(TEXTS).items():
        np.testing.assert_allclose(encoder.encode(TEXTS)[view], matrix, atol=1e-5)
    assert read_export(folder) == before


def test_other_weights_have_another_export(tiny_model, cache, tmp_path):
    if find_spec("onnxruntime") is None:
        pytest.skip("no onnxruntime")
    import shutil

    from safetensors.numpy import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(tiny_model("bert"), model)
    FrozenEncoder(model, pooling="mean", dtype="float32", backend="onnx")
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if name.endswith("query.weight"))
    tensors[name] = tensors[name] * 3
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    found = FrozenEncoder(model, pooling="mean", dtype="float32", backend="onnx").encode(TEXTS)
    exact = FrozenEncoder(model, pooling="mean", dtype="float32", backend="torch").encode(TEXTS)
    np.testing.assert_allclose(found["mean"], exact["mean"], atol=1e-5)
    assert len(list((cache / "exports").iterdir())) == 2


def made_inside(place, folders, **exports):
    """Make folders inside, and say which are left of all that there are."""
    with place.only_what_is_taken(**exports) as taken:
        for folder in folders:
            folder.mkdir(parents=True)
        taken.add("onnx")
    return set(folders[0].parent.iterdir())


def test_exports_of_a_trial_are_removed_but_for_those_that_are_taken(cache):
    place, other = ExportPlace("a" * 64), ExportPlace("b" * 64)
    old = place.folder("openvino", [3], pooler=False)
    old.mkdir(parents=True)
    openvino, onnx, deeper = (
        place.folder(name, layers, pooler=False)
        for name, layers in (("openvino", [6]), ("onnx", [6]), ("openvino", [7]))
    )
    elsewhere = other.folder("openvino", [6], pooler=False)
    left = made_inside(place, [openvino, onnx, deeper, elsewhere], layers=[6])
    assert left == {old, onnx, deeper, elsewhere}


def test_without_layers_all_new_ones_of_the_model_are(cache):
    place, other = ExportPlace("a" * 64), ExportPlace("b" * 64)
    old = place.folder("openvino", [3], pooler=False)
    old.mkdir(parents=True)
    openvino, onnx = (place.folder(name, [6], pooler=True) for name in ("openvino", "onnx"))
    elsewhere = other.folder("openvino", [6], pooler=False)
    assert made_inside(place, [openvino, onnx, elsewhere]) == {old, onnx, elsewhere}


def test_what_was_there_stays_when_a_trial_fails(cache):
    place = ExportPlace("a" * 64)
    old, new = (place.folder(name, [6], pooler=False) for name in ("openvino", "onnx"))
    old.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), place.only_what_is_taken([6]):
        new.mkdir()
        raise KeyboardInterrupt
    assert set(old.parent.iterdir()) == {old}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tokenizer_that_was_kept_cuts_as_that_of_transformers_does(tiny_model, architecture):
    checkpoint = find_checkpoint(tiny_model(architecture))
    for max_length in (8, 24):
        loaded = load_tokenizer(checkpoint, max_length)
        if loaded.content is None:
            pytest.skip("a slow tokenizer, which only transformers runs")
        vocabulary = Vocabulary.from_dict(json.loads(json.dumps(loaded.vocabulary.to_dict())))
        opened = open_tokenizer("kept", loaded.content, vocabulary, max_length)
        texts = [*TEXTS, "", "[SEP] and [CLS] </s> <s> [PAD]", "naïve ÉCOLE 東京 🎉 " * 20]
        first, second = loaded.tokenize(texts), opened.tokenize(texts)
        assert [ids.tolist() for ids in first.ids] == [ids.tolist() for ids in second.ids]
        assert first.truncated == second.truncated
