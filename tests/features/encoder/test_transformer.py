"""`FrozenBert` as scikit-learn uses a transformer."""

import pickle
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from architectures import TEXTS, WIDTH
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from features import FrozenBert, FrozenEncoder
from features.errors import InputError

GOOD = [
    "what a lovely day, so happy",
    "best concert ever, thank you",
    "i love this film",
    "great food and lovely people",
    "so proud of you two",
]
BAD = [
    "worst film of the year",
    "the bus is late again, thanks for nothing",
    "i hate waiting in the rain",
    "awful food and rude people",
    "so sad and so tired",
]
X, Y = GOOD + BAD, ["good"] * len(GOOD) + ["bad"] * len(BAD)


def tiny(folder: Any, **options: Any) -> FrozenBert:
    return FrozenBert(folder, dtype="float32", **options)


def test_a_pipeline_learns_from_minilm():
    classifier = make_pipeline(FrozenBert(pooling="mean"), LogisticRegression())
    assert classifier.fit(X, Y).score(X, Y) == 1.0
    unseen = ["a lovely concert, love it", "hate this awful bus"]
    assert classifier.predict(unseen).tolist() == ["good", "bad"]


def test_its_vectors_are_those_of_the_encoder(tiny_model):
    folder = tiny_model("bert")
    ours = tiny(folder, pooling="cls", max_length=9).fit_transform(TEXTS)
    encoder = FrozenEncoder(folder, pooling="cls", max_length=9, dtype="float32")
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, encoder.encode(TEXTS)["cls"])


def test_several_views_come_side_by_side_with_names(tiny_model):
    views = ["mean@last2+concat", "cls", "max"]  # in this order, not sorted
    frozen = tiny(tiny_model("bert"), pooling=views)
    matrix = frozen.fit_transform(TEXTS)
    encoder = FrozenEncoder(tiny_model("bert"), pooling=views, dtype="float32")
    vectors = encoder.encode(TEXTS)
    names = frozen.get_feature_names_out().tolist()
    assert matrix.shape == (len(TEXTS), 4 * WIDTH)
    assert names == [f"{view}[{i}]" for view in views for i in range(vectors[view].shape[1])]
    for view in views:
        columns = [name.startswith(f"{view}[") for name in names]
        np.testing.assert_array_equal(matrix[:, columns], vectors[view])


def test_parameters_are_those_of_the_encoder(tiny_model):
    given = {
        "model": tiny_model("bert"),
        "pooling": ["cls"],
        "max_length": 9,
        "normalize": "none",
        "prefix": "query: ",
        "prompt_name": None,
        "dtype": "float32",
        "device": "cpu",
        "max_batch_tokens": 64,
        "backend": "torch",
        "revision": None,
    }
    assert FrozenBert(**given).get_params() == given
    assert FrozenBert().set_params(**given).get_params() == given


def test_a_clone_is_unfitted_and_equal(tiny_model):
    frozen = tiny(tiny_model("bert"), pooling=["cls", "mean"], max_length=9).fit(TEXTS)
    copy = clone(frozen)
    assert copy is not frozen
    assert copy.get_params() == frozen.get_params()
    assert not hasattr(copy, "encoder_")
    np.testing.assert_array_equal(copy.fit_transform(TEXTS), frozen.transform(TEXTS))


def test_nothing_is_loaded_or_checked_before_fit():
    # So that scikit-learn can build, clone and print it anywhere.
    frozen = FrozenBert("no/such/model", pooling="nonsense")
    assert "no/such/model" in repr(frozen)
    with pytest.raises(InputError, match="nonsense"):
        frozen.fit([])


def test_transform_alone_loads_the_model(tiny_model):
    frozen = tiny(tiny_model("bert"), pooling="cls")
    np.testing.assert_array_equal(frozen.transform(TEXTS), clone(frozen).fit_transform(TEXTS))


def test_fit_follows_changed_parameters(tiny_model):
    frozen = tiny(tiny_model("bert"), pooling="cls").fit(TEXTS)
    wider = frozen.set_params(pooling="mean@last2+concat").fit_transform(TEXTS)
    assert wider.shape == (len(TEXTS), 2 * WIDTH)


@pytest.mark.parametrize(
    "texts", [tuple(TEXTS), np.array(TEXTS), iter(TEXTS)], ids=lambda t: type(t)
)
def test_texts_may_come_in_any_container(tiny_model, texts):
    frozen = tiny(tiny_model("bert"), pooling="cls").fit([])
    np.testing.assert_array_equal(frozen.transform(texts), frozen.transform(TEXTS))


def test_no_texts(tiny_model):
    frozen = tiny(tiny_model("bert"), pooling=["cls", "mean"]).fit([])
    assert frozen.transform([]).shape == (0, 2 * WIDTH)


def test_a_pickle_carries_no_weights_and_finds_the_model_again(tiny_model):
    frozen = tiny(tiny_model("bert"), pooling=["cls", "mean"]).fit(TEXTS)
    data = pickle.dumps(frozen)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert again.get_params() == frozen.get_params()
    np.testing.assert_array_equal(again.transform(TEXTS), frozen.transform(TEXTS))


def test_a_fitted_pipeline_predicts_the_same_after_a_pickle(tiny_model):
    frozen = tiny(tiny_model("bert"), pooling="mean@last4+sum")
    classifier = make_pipeline(frozen, LogisticRegression()).fit(X, Y)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


def test_names_of_the_columns_after_a_pickle(tiny_model):
    frozen = tiny(tiny_model("bert"), pooling=["cls", "mean"]).fit(TEXTS)
    again = pickle.loads(pickle.dumps(frozen))
    assert again.get_feature_names_out().tolist() == frozen.get_feature_names_out().tolist()


def test_it_stands_in_unions_and_searches(tiny_model):
    folder = tiny_model("bert")
    union = FeatureUnion([("a", tiny(folder, pooling="cls")), ("b", tiny(folder, pooling="max"))])
    assert union.fit_transform(X).shape == (len(X), 2 * WIDTH)
    assert union.get_feature_names_out()[WIDTH] == "b__max[0]"
    search = GridSearchCV(
        make_pipeline(tiny(folder), LogisticRegression()),
        {"frozenbert__pooling": ["cls", "mean", ["cls", "mean"]]},
        cv=2,
        error_score="raise",
    )
    assert search.fit(X, Y).predict(X).shape == (len(X),)


def test_it_takes_what_the_encoder_takes():
    """Every parameter of `FrozenEncoder`, in the same order, with the same default."""
    theirs, ours = (signature(kind).parameters for kind in (FrozenEncoder, FrozenBert))
    assert list(map(str, ours.values())) == list(map(str, theirs.values()))


def test_the_backend_is_passed_on(tiny_model):
    bert = FrozenBert(tiny_model("bert"), backend="torch", dtype="float32").fit([])
    assert bert.encoder_.choice.candidate.backend == "torch"
    with pytest.raises(InputError, match="abacus"):
        FrozenBert(tiny_model("bert"), backend="abacus").fit([])


def test_frames_are_refused_and_columns_and_generators_give_a_row_each(tiny_model):
    bert = FrozenBert(tiny_model("bert"), dtype="float32")
    frame = pd.DataFrame({"text": TEXTS, "label": "x"})
    for wrong in (frame, pl.from_pandas(frame), np.array([TEXTS]), {"text": TEXTS}):
        with pytest.raises(InputError, match="give its column of texts"):
            bert.transform(wrong)
    expected = bert.transform(TEXTS)
    columns = (frame["text"], pl.Series(TEXTS), np.array(TEXTS), (text for text in TEXTS))
    for column in columns:
        np.testing.assert_array_equal(bert.transform(column), expected)
    with pytest.raises(InputError, match="number 1 is nan, a float"):
        bert.transform([TEXTS[0], float("nan")])


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_come_out_with_names_and_the_index(tiny_model, kind):
    views = ["cls", "mean"]
    expected = tiny(tiny_model("bert"), pooling=views).fit_transform(TEXTS)
    bert = tiny(tiny_model("bert"), pooling=views).set_output(transform=kind)
    series = pd.Series(TEXTS, index=[7, *range(len(TEXTS) - 1)])
    for texts in (TEXTS, series, series.to_frame("text"), pl.Series(TEXTS)):
        frame = bert.fit_transform(texts)
        assert type(frame) is {"pandas": pd.DataFrame, "polars": pl.DataFrame}[kind]
        assert list(frame.columns) == bert.get_feature_names_out().tolist()
        np.testing.assert_array_equal(frame.to_numpy(), expected)
        if kind == "pandas" and isinstance(texts, pd.Series | pd.DataFrame):
            assert frame.index.equals(series.index)


def test_a_frame_of_one_column_is_its_column(tiny_model):
    bert = tiny(tiny_model("bert")).fit([])
    expected = bert.transform(TEXTS)
    frame = pd.DataFrame({"text": TEXTS})
    for one in (frame, pl.from_pandas(frame), pa.table(frame), np.array(TEXTS)[:, None]):
        np.testing.assert_array_equal(bert.transform(one), expected)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("column", ["text", ["text"]])
def test_it_stands_in_a_column_transformer(tiny_model, frame, column):
    data = frame({"text": X, "likes": range(len(X))})
    columns = ColumnTransformer(
        [
            ("text", tiny(tiny_model("bert"), pooling="cls"), column),
            ("n", StandardScaler(), ["likes"]),
        ]
    )
    matrix = columns.set_output(transform="pandas").fit_transform(data)
    assert list(matrix.columns) == [*(f"text__cls[{i}]" for i in range(WIDTH)), "n__likes"]
    np.testing.assert_array_equal(
        matrix.iloc[:, :-1], tiny(tiny_model("bert"), pooling="cls").fit_transform(X)
    )
    classifier = make_pipeline(clone(columns), LogisticRegression()).fit(data, Y)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict(data), classifier.predict(data))


def test_it_says_that_it_takes_texts():
    tags = get_tags(FrozenBert())
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.requires_fit


# Those of scikit-learn's that do without numbers; the others are for matrices.
CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
    "check_do_not_raise_errors_in_init_or_set_params",
]


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_scikit_learn(name):
    getattr(estimator_checks, name)("FrozenBert", FrozenBert())


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_all_checks_that_scikit_learn_has_for_texts():
    found = estimator_checks.check_estimator(FrozenBert(), on_skip=None)
    assert {one["status"] for one in found} == {"passed"}
