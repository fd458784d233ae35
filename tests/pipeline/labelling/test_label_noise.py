"""Scores of labels, by hand and on clouds with wrong labels in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from pipeline.labelling.label_noise import (
    doubt_by_joint,
    estimate_joint,
    find_doubts,
    ranks,
    trust,
)

# Labels and probabilities of three classes. The thresholds are the means of the own classes:
# 0: (.9 + .7 + .2) / 3 = .6; 1: (.8 + .6) / 2 = .7; 2: (.9 + .1) / 2 = .5.
Y = np.array([0, 0, 0, 1, 1, 2, 2])
P = np.array(
    [
        [0.9, 0.1, 0.0],  # counts for 0
        [0.7, 0.2, 0.1],  # 0
        [0.2, 0.2, 0.6],  # 2: its label is 0
        [0.1, 0.8, 0.1],  # 1
        [0.3, 0.6, 0.1],  # for none: .6 is below .7
        [0.0, 0.1, 0.9],  # 2
        [0.1, 0.8, 0.1],  # 1: its label is 2
    ]
)
# Counts [[2, 0, 1], [0, 1, 0], [0, 1, 1]], each row of them made to sum to 3, 2 and 2 of 7 rows.
JOINT = np.array([[2, 0, 1], [0, 2, 0], [0, 1, 1]]) / 7


def test_the_joint_by_hand():
    np.testing.assert_allclose(estimate_joint(Y, P), JOINT, atol=1e-12)


def test_doubt_by_hand():
    # Of true class 0 all labels are 0, of 1 two thirds are 1 and one third 2, of 2 half are 0.
    # So row 2, label 0: (1 * .2) against (.5 * .6); row 6, label 2: (.5 * .1) against (1/3 * .8).
    found = doubt_by_joint(Y, P, JOINT)
    np.testing.assert_allclose(found[[2, 6]], [0.3 / 0.5, (0.8 / 3) / (0.8 / 3 + 0.05)])
    np.testing.assert_allclose(found[[0, 3]], 0.0, atol=1e-12)  # no class 1 is ever labelled 0


def test_where_the_joint_leaves_no_class_the_probability_speaks():
    joint = np.array([[0.5, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(doubt_by_joint(np.array([0]), np.array([[0.0, 1.0]]), joint), [1.0])


def test_a_class_none_of_whose_rows_is_sure_is_taken_as_it_is():
    p = np.full((4, 2), 0.5)
    joint = estimate_joint(np.array([0, 0, 1, 1]), p)
    assert joint.sum() == pytest.approx(1)
    assert (joint >= 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_a_joint_has_the_shares_of_the_labels(seed, n_classes):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=30)])
    p = rng.dirichlet(np.ones(n_classes), len(y))
    joint = estimate_joint(y, p)
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(y) / len(y))
    doubt = doubt_by_joint(y, p, joint)
    assert ((doubt >= -1e-12) & (doubt <= 1)).all()


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5]), min_size=2, max_size=30))
def test_ranks_are_those_of_scipy(values):
    expected = (rankdata(values) - 1) / (len(values) - 1)
    np.testing.assert_allclose(ranks(np.array(values)), expected)


def test_scores_and_suggestions_by_hand():
    found = find_doubts(Y, np.stack([P, P]), np.array([0, 0, 1, 0, 0, 0, 1.0]))
    np.testing.assert_allclose(found.loss[[0, 6]], -np.log([0.9, 0.1]))
    assert found.suggested.tolist() == [1, 1, 2, 0, 0, 1, 1]
    assert found.probability[[2, 6]].tolist() == pytest.approx([0.6, 0.8])
    assert found.order[:2].tolist() == [6, 2]
    assert found.n_wrong == 2  # 7 rows * (1 + 1) / 7


def test_loss_is_the_mean_over_repeats_and_no_number_is_lost():
    y, other = np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]])
    sure = np.array([[0.0, 1.0], [0.5, 0.5]])
    loss = find_doubts(y, np.stack([sure, other]), np.zeros(2)).loss
    tiny = np.finfo(float).tiny
    np.testing.assert_allclose(loss, [-(np.log(tiny) + np.log(0.5)) / 2, np.log(2)])


@given(st.permutations(range(len(Y))))
def test_the_order_of_the_rows_moves_nothing(order):
    order, near = np.array(order), np.linspace(0, 1, len(Y))
    there, moved = find_doubts(Y, P[None], near), find_doubts(Y[order], P[None, order], near[order])
    np.testing.assert_allclose(moved.combined, there.combined[order])
    assert order[moved.order].tolist() == there.order.tolist()


def test_trust_by_hand():
    # Of class 0: 1 and .2 against their mean .6. Class 1 has nothing left: its rows count alike.
    found = trust(np.array([0, 0, 1, 1]), np.array([0, 0.8, 1, 1]))
    np.testing.assert_allclose(found, [1 / 0.6, 0.2 / 0.6, 1, 1])


@given(st.integers(0, 2**32 - 1))
def test_trust_leaves_the_classes_their_weight(seed):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(4), rng.integers(4, size=30)])
    weight = trust(y, rng.random(len(y)))
    assert (weight >= 0).all()
    np.testing.assert_allclose(np.bincount(y, weight), np.bincount(y))
