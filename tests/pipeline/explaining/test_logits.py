import dataclasses

import numpy as np
import pytest
from stores import OTHER_SPEC, SPEC, make_head

from features.spec.vector_spec import VectorSpec
from pipeline.explaining.logits import TRAINING_MEAN, ZERO, log_odds, view_shares
from pipeline.solver.solve import softmax


def head_of(*sources):
    """A head with random weights on these (spec, view, width)."""
    head = make_head(3, widths=(sum(width for *_, width in sources),))
    vectors = tuple(VectorSpec(spec, {view: n}, "float32", "float16") for spec, view, n in sources)
    return dataclasses.replace(head, sources=vectors)


def test_by_hand():
    head = dataclasses.replace(
        make_head(2, widths=(1, 2)),
        coef=np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]]),
        intercept=np.array([10.0, 20.0]),
    )
    found = view_shares(head, np.array([2.0, 2.0, 2.0]), np.array([1.0, 0.0, 1.0]))
    assert found.names == ("cls", "mean")
    np.testing.assert_array_equal(found.base, [14.0, 21.0])
    np.testing.assert_array_equal(found.parts, [[1.0, 0.0], [7.0, -1.0]])
    assert found.between(0, 1)[0] == -7.0
    np.testing.assert_array_equal(found.between(0, 1)[1], [1.0, 8.0])


@pytest.mark.parametrize("mean", [None, np.linspace(-1, 1, 14)])
def test_shares_add_up_to_the_logits(mean):
    head = head_of((SPEC, "cls", 2), (OTHER_SPEC, "mean@last4+concat", 8), (OTHER_SPEC, "max", 4))
    x = np.random.default_rng(0).normal(size=14).astype(np.float32)
    found = view_shares(head, x, mean)
    logits = head.coef @ x.astype(np.float64) + head.intercept
    np.testing.assert_allclose(found.base + found.parts.sum(axis=0), logits, rtol=1e-12)
    for a in range(3):
        for b in range(3):
            base, parts = found.between(a, b)
            assert base + parts.sum() == pytest.approx(logits[a] - logits[b], abs=1e-12)
    assert found.names == ("1:cls", "2:mean@-4", "2:mean@-3", "2:mean@-2", "2:mean@-1", "2:max")
    assert found.measured_from == (ZERO if mean is None else TRAINING_MEAN)


@pytest.mark.parametrize(
    ("view", "names"),
    [
        ("mean@last2+concat", ["mean@-2", "mean@-1"]),
        ("mean@last4+sum", ["mean@last4+sum"]),
        ("cls@all+concat", ["cls@all+concat"]),  # the head does not say how many layers there are
        ("mean@-3:-2+concat", ["mean@-3:-2+concat"]),
    ],
)
def test_layers_side_by_side_are_parts(view, names):
    head = head_of((SPEC, view, 8))
    x = np.arange(8.0)
    found = view_shares(head, x)
    assert list(found.names) == names
    half = head.coef[:, :4] @ x[:4]
    if len(names) == 2:
        np.testing.assert_allclose(found.parts[0], half)


def test_log_odds_where_probabilities_round_to_one():
    rng = np.random.default_rng(0)
    for logits in rng.normal(size=(20, 4)):
        p = softmax(logits[None])[0]
        for k in range(4):
            assert log_odds(logits, k) == pytest.approx(np.log(p[k] / (1 - p[k])), abs=1e-12)
    assert log_odds(np.array([1000.0, 0.0, 0.0]), 0) == pytest.approx(1000 - np.log(2))
    assert log_odds(np.array([0.0, 1000.0]), 0) == -1000
