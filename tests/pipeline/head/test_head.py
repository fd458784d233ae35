import dataclasses
import json
import os
import stat
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from stores import OTHER_SPEC, SPEC, make_head, write_store
from threadpoolctl import threadpool_limits

from features.errors import CannotContinue, FileRefused, InputError
from features.store.reader import FeatureStore
from pipeline.head.head import load_head, save_head, views_for
from pipeline.head.priors import shift

HEADS = [
    {"n_classes": 2},
    {"n_classes": 3},
    {"n_classes": 7},
    {"n_classes": 2, "widths": (8, 4)},
    {"n_classes": 3, "widths": (8, 4, 5)},
    {"n_classes": 3, "labels": ["né\tgatif", "😀", "0"]},
    {"n_classes": 2, "labels": ["a" * 200, "b"]},
]


def vectors(head, n_rows=40, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, head.coef.shape[1])).astype(np.float32)


@pytest.mark.parametrize("options", HEADS)
def test_roundtrip(options, tmp_path):
    head = make_head(**options)
    save_head(head, tmp_path / "head.joblib")
    loaded = load_head(tmp_path / "head.joblib")
    assert loaded.labels == head.labels
    assert loaded.sources == head.sources
    assert loaded.metadata == head.metadata
    X = vectors(head)
    np.testing.assert_allclose(loaded.predict_proba(X), head.predict_proba(X), atol=1e-12, rtol=0)
    assert loaded.predict(X) == head.predict(X)


def test_metadata_of_all_json_types_comes_back(tmp_path):
    metadata = {
        "C": 0.1,
        "text": "ü" * 300,
        "none": None,
        "yes": True,
        "no": False,
        "numbers": [0, -1, 255, 256, 65_536, -(2**31), 2**40, 1e-300, -0.5],
        "many": [float(i) for i in range(2500)],  # more than one batch of APPENDS
        "nested": [{"a": [[], {}, [1]]}, {}],
        "same": ["macro recall"] * 3,  # memoised once
    }
    head = dataclasses.replace(make_head(), metadata=metadata)
    save_head(head, tmp_path / "head.joblib")
    assert load_head(tmp_path / "head.joblib").metadata == metadata


@pytest.mark.parametrize("options", HEADS)
def test_joblib_gives_a_plain_dict_and_a_stock_estimator(options, tmp_path):
    head = make_head(**options)
    save_head(head, tmp_path / "head.joblib")
    content = joblib.load(tmp_path / "head.joblib")
    assert type(content) is dict
    assert list(content) == ["format", "version", "estimator", "labels", "sources", "metadata"]
    assert (content["format"], content["version"]) == ("frostline-head", 1)
    assert content["labels"] == list(head.labels)
    assert content["metadata"] == head.metadata
    fields = {"spec", "fingerprint", "view", "width", "precision", "store_dtype"}
    assert all(set(source) == fields for source in content["sources"])
    assert [s["fingerprint"] for s in content["sources"]] == [
        source.spec.fingerprint for source in head.sources
    ]
    json.dumps({name: content[name] for name in ("labels", "sources", "metadata")})
    estimator = content["estimator"]
    assert type(estimator) is LogisticRegression
    X = vectors(head)
    ours = head.predict_proba(X)
    np.testing.assert_allclose(estimator.predict_proba(X), ours, atol=1e-9, rtol=0)
    assert estimator.predict(X).tolist() == head.predict(X)
    assert estimator.n_features_in_ == head.coef.shape[1]


@pytest.mark.parametrize("n_classes", [2, 3, 7, 8, 12])
@pytest.mark.parametrize("width", [1, 3, 97, 384, 1500])
def test_a_row_is_scored_alike_whatever_is_beside_it(n_classes, width):
    """To the bit: alone, in parts of any size and layout, and with any number of threads."""
    head = make_head(n_classes, widths=(width,))
    X = vectors(head, 333)
    expected = head.predict_proba(X)
    for parts in ([X[:1], X[1:]], [X[:160], X[160:]], np.array_split(X, 50), [X[:, ::-1][:, ::-1]]):
        np.testing.assert_array_equal(np.concatenate([*map(head.predict_proba, parts)]), expected)
    np.testing.assert_array_equal(head.predict_proba(np.asfortranarray(X)), expected)
    np.testing.assert_array_equal(head.predict_proba(X.astype(np.float64)), expected)
    with threadpool_limits(limits=2, user_api="blas"):
        np.testing.assert_array_equal(head.predict_proba(X), expected)


def with_prior(**options):
    metadata = {"C": 1.0, "prior": [0.2, 0.3, 0.5], "class_rows": [10, 60, 30]}
    return dataclasses.replace(make_head(**options), metadata=metadata)


@pytest.mark.parametrize(
    ("prior", "shares"),
    [
        ("uniform", [1 / 3] * 3),
        ("training", [0.1, 0.6, 0.3]),
        ("class 0=1,class 1=1,class 2=2", [0.25, 0.25, 0.5]),
    ],
)
def test_moved_to_another_prior(prior, shares, tmp_path):
    head = with_prior()
    new = head.with_prior(prior)
    X = vectors(head)
    logits = np.log(head.predict_proba(X)) + shift(head.prior, np.array(shares))
    expected = softmax(logits, axis=1)
    np.testing.assert_allclose(new.predict_proba(X), expected, rtol=1e-10)
    np.testing.assert_allclose(new.prior, shares)
    assert new.predict(X) == [head.labels[k] for k in expected.argmax(axis=1)]
    # And there and back, through a file.
    save_head(new, tmp_path / "head.joblib")
    back = load_head(tmp_path / "head.joblib").with_prior("class 0=2,class 1=3,class 2=5")
    np.testing.assert_allclose(back.predict_proba(X), head.predict_proba(X), rtol=1e-10)
    assert joblib.load(tmp_path / "head.joblib")["metadata"]["prior"] == new.metadata["prior"]


def test_a_head_without_a_prior_cannot_be_moved():
    assert make_head().prior is None
    with pytest.raises(InputError, match="does not say which prior it answers for"):
        make_head().with_prior("uniform")


@pytest.mark.parametrize(
    "metadata",
    [
        {"prior": "uniform"},
        {"prior": [0.5, 0.5]},
        {"prior": [0.5, 0.5, 0.0]},
        {"prior": [0.5, 0.5, float("nan")]},
        {"prior": [0.5, 0.5, float("inf")]},
        {"prior": [0.5, 0.5, "x"]},
        {"prior": {"class 0": 1.0}},
        {"class_rows": [1, 2, 0]},
        {"class_rows": [1, 2]},
        {"class_rows": [1.0, 2.0, 3.0]},
    ],
)
def test_odd_priors_are_refused(metadata, tmp_path):
    save_head(dataclasses.replace(make_head(), metadata=metadata), tmp_path / "head.joblib")
    with pytest.raises(FileRefused, match="is not one number above 0 for each class"):
        load_head(tmp_path / "head.joblib")


def test_loading_needs_neither_sklearn_nor_joblib_nor_torch(tmp_path):
    head = make_head()
    save_head(head, tmp_path / "head.joblib")
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from pipeline.head.head import load_head\n"
        f"head = load_head({str(tmp_path / 'head.joblib')!r})\n"
        "assert head.predict_proba(np.zeros((1, 8))).shape == (1, 3)\n"
        "print([m for m in ('sklearn', 'joblib', 'torch', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_file_appears_by_rename_and_alone(tmp_path):
    path = tmp_path / "head.joblib"
    path.write_text("what was there")
    old = path.stat().st_ino
    save_head(make_head(), path)
    assert path.stat().st_ino != old
    assert [p.name for p in tmp_path.iterdir()] == ["head.joblib"]


def test_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "head.joblib"
    path.write_text("what was there")
    unpicklable = dataclasses.replace(make_head(), metadata={"C": 1.0, "bad": lambda: None})
    with pytest.raises(Exception, match="pickle"):
        save_head(unpicklable, path)
    assert path.read_text() == "what was there"
    assert [p.name for p in tmp_path.iterdir()] == ["head.joblib"]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(CannotContinue, match="cannot be written"):
        save_head(make_head(), tmp_path / "no" / "head.joblib")


@pytest.mark.parametrize("shape", [(3, 7), (3, 9), (8,), (1, 3, 8), (3, 0)])
def test_vectors_of_another_width(shape):
    with pytest.raises(InputError, match=r"this head takes \(N, 8\): cls \(8\)"):
        make_head().predict_proba(np.zeros(shape, np.float32))


def test_no_rows():
    head = make_head()
    assert head.predict_proba(np.zeros((0, 8), np.float32)).shape == (0, 3)
    assert head.predict(np.zeros((0, 8), np.float32)) == []


def test_views_are_read_in_the_order_of_the_head(tmp_path):
    views = {"max": np.zeros((4, 5)), "cls": np.zeros((4, 8)), "mean": np.zeros((4, 4))}
    path = write_store(tmp_path / "s.h5", views, [0, 1, 2, 0])
    with FeatureStore(path) as store:
        head = make_head(widths=(8, 4, 5))
        assert views_for(head.sources, store) == ["cls", "mean", "max"]


def test_store_of_another_encoder_is_refused_by_both_fingerprints(tmp_path):
    path = write_store(tmp_path / "s.h5", np.zeros((3, 8)), [0, 1, 2], spec=OTHER_SPEC)
    with FeatureStore(path) as store, pytest.raises(FileRefused) as error:
        views_for(make_head().sources, store)
    assert SPEC.fingerprint[:12] in str(error.value)
    assert OTHER_SPEC.fingerprint[:12] in str(error.value)
    assert "weights" in str(error.value)


def test_name_of_the_model_does_not_matter(tmp_path):
    renamed = dataclasses.replace(SPEC, model="/elsewhere", revision="main")
    path = write_store(tmp_path / "s.h5", np.zeros((3, 8)), [0, 1, 2], spec=renamed)
    with FeatureStore(path) as store:
        assert views_for(make_head().sources, store) == ["cls"]


def test_missing_view(tmp_path):
    path = write_store(tmp_path / "s.h5", {"mean": np.zeros((3, 8))}, [0, 1, 2])
    with FeatureStore(path) as store, pytest.raises(InputError, match="no view 'cls'"):
        views_for(make_head().sources, store)


def test_no_such_head(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_head(tmp_path / "none.joblib")
    with pytest.raises(InputError, match="is a folder"):
        load_head(tmp_path)


def test_pipes_and_devices_are_no_heads(tmp_path):
    """They never end, or never begin."""
    os.mkfifo(tmp_path / "pipe.joblib")
    (tmp_path / "zero.joblib").symlink_to("/dev/zero")
    for name, kind in (("pipe.joblib", "a pipe"), ("zero.joblib", "a device")):
        with pytest.raises(InputError, match=f"{name} is {kind}, not a file"):
            load_head(tmp_path / name)


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "head.joblib").open("wb") as file:
        file.truncate(2**40)  # without a byte of it on the disk
    with pytest.raises(FileRefused, match="has 1099511627776 bytes; a head has at most"):
        load_head(tmp_path / "head.joblib")


@pytest.mark.parametrize("version", ["0.24.2", "1.3.0", "99.0"])
def test_heads_of_other_versions_of_scikit_learn_load_without_a_warning(tmp_path, version):
    path = tmp_path / "head.joblib"
    head = make_head()
    save_head(head, path)
    here = sklearn.__version__
    content = joblib.load(path)
    state = content["estimator"].__dict__
    state |= {"multi_class": "auto", "n_jobs": None, "l1_ratio": None}  # what older ones had
    joblib.dump(content, path, protocol=4)
    data = path.read_bytes()
    assert data.count(here.encode()) == 1
    other = version.ljust(len(here), "0")[: len(here)].encode()
    path.write_bytes(data.replace(here.encode(), other))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_head(path)
    np.testing.assert_array_equal(loaded.coef, head.coef)


def test_a_new_head_is_as_private_as_the_umask_says(tmp_path):
    path = tmp_path / "head.joblib"
    for umask, mode in ((0o077, 0o600), (0o022, 0o644), (0o027, 0o640)):
        path.unlink(missing_ok=True)
        before = os.umask(umask)
        try:
            save_head(make_head(), path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_head_that_replaces_another_is_as_private(tmp_path):
    path = tmp_path / "head.joblib"
    save_head(make_head(), path)
    path.chmod(0o600)
    save_head(make_head(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
