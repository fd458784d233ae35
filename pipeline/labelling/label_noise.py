"""Say how much speaks against each label: labels and out-of-fold probabilities in, ranks out. Pure.

Three scores look at the same rows from three sides; each is larger where a label is more doubtful:

    loss        -log p(label | x), the mean over the repeats
    confident   the probability that the label is not the true one, by confident learning's joint
    neighbours  the share of the nearest rows that have another label

Confident learning (Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in
dataset labels", 2021, section 3.1) counts a row of label i for class j where p(j | x) is at least
what rows of label j have on average. These counts, with each row of the table made to sum to the
rows of its label, estimate the joint distribution Q of given and true labels. What it says of one
row follows by Bayes' rule, with the noise that is the same for all rows of a true class:

    p(true = j | x, given = i)  ~  Q[i, j] / sum_i Q[i, j] * p(j | x)

Scores have different units, so they are combined by ranks: the combined score of a row is the mean
of its three ranks, each a share of all rows. Neighbours count a quarter, as they are the noisiest
judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.base.arrays import Codes, Floats, Indices
from pipeline.evaluation.metrics import losses

# Of the ranks of loss, confident and neighbours in the combined score.
_WEIGHTS = (1.0, 1.0, 0.25)


@dataclass(frozen=True)
class Doubts:
    """What speaks against the labels of N rows.

    Attributes
    ----------
    loss, confident, neighbours : float64 arrays (N,)
        See above.
    combined : float64 array (N,)
        Mean of the three ranks, from 0 to 1; neighbours count a quarter.
    suggested : int array (N,)
        The most probable class other than the label.
    probability : float64 array (N,)
        Of the suggested class.
    joint : float64 array (K, K)
        Estimated shares of all rows by given label and true one.
    """

    loss: Floats
    confident: Floats
    neighbours: Floats
    combined: Floats
    suggested: Indices
    probability: Floats
    joint: Floats

    @property
    def order(self) -> Indices:
        """Rows, the most doubtful first; among equals by the loss."""
        return np.lexsort((-self.loss, -self.combined))

    @property
    def n_wrong(self) -> int:
        """Labels that are wrong, as the joint estimates."""
        return round(len(self.loss) * float(self.joint.sum() - np.trace(self.joint)))


def find_doubts(y: Codes, proba: Floats, disagreement: Floats) -> Doubts:
    """Score and rank labels.

    Parameters
    ----------
    y : int array (N,)
        The labels, codes 0 to K-1; each class has rows.
    proba : float64 array (R, N, K)
        Of R repeats, each by models that did not see the row, for the shares of the classes in
        these rows.
    disagreement : float64 array (N,)
        Share of the nearest rows that have another label.
    """
    rows = np.arange(len(y))
    mean = proba.mean(axis=0)
    loss = np.mean([losses(y, one) for one in proba], axis=0)
    joint = estimate_joint(y, mean)
    confident = doubt_by_joint(y, mean, joint)
    others = mean.copy()
    others[rows, y] = -1.0
    suggested = others.argmax(axis=1)
    of_rows = [ranks(one) for one in (loss, confident, disagreement)]
    combined = np.average(of_rows, axis=0, weights=_WEIGHTS)
    return Doubts(
        loss, confident, disagreement, combined, suggested, others[rows, suggested], joint
    )


def estimate_joint(y: Codes, proba: Floats) -> Floats:
    """Estimate the joint distribution of given and true labels, (K, K), by confident learning.

    Parameters
    ----------
    y : int array (N,)
    proba : float64 array (N, K)

    Examples
    --------
    >>> y = np.array([0, 0, 0, 1, 1])
    >>> p = np.array([0.9, 0.8, 0.1, 0.3, 0.1])  # of class 0
    >>> estimate_joint(y, np.column_stack([p, 1 - p])).round(3).tolist()
    [[0.4, 0.2], [0.0, 0.4]]
    """
    n_classes = proba.shape[1]
    class_rows = np.bincount(y, minlength=n_classes)
    threshold = np.array([proba[y == k, k].mean() for k in range(n_classes)])
    sure = np.where(proba >= threshold, proba, -1.0)
    winner, counted = sure.argmax(axis=1), sure.max(axis=1) >= 0
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (y[counted], winner[counted]), 1.0)
    # A label none of whose rows is counted is taken as it is.
    counts[np.diag_indices(n_classes)] += counts.sum(axis=1) == 0
    share = counts / counts.sum(axis=1, keepdims=True)
    return np.asarray(share * (class_rows / len(y))[:, None])


def doubt_by_joint(y: Codes, proba: Floats, joint: Floats) -> Floats:
    """Give the probability, (N,), that each label is not the true one; see above."""
    true_rows = joint.sum(axis=0)
    noise = joint / np.where(true_rows > 0, true_rows, 1.0)
    both = noise[y] * proba
    total = both.sum(axis=1)
    own = both[np.arange(len(y)), y]
    # Where the joint leaves no class possible, what the label has of the probability speaks alone.
    own = np.where(total > 0, own / np.where(total > 0, total, 1.0), proba[np.arange(len(y)), y])
    return np.asarray(1.0 - own)


def trust(y: Codes, doubt: Floats) -> Floats:
    """Give weights to rows, (N,), by how little their labels are doubted.

    Each class keeps the weight of its rows, so that the shares of the classes stay what they are.

    Examples
    --------
    >>> trust(np.array([0, 0, 1, 1]), np.array([0.0, 0.5, 0.9, 0.9])).round(3).tolist()
    [1.333, 0.667, 1.0, 1.0]
    """
    kept = 1.0 - doubt
    mean = np.bincount(y, kept) / np.maximum(np.bincount(y), 1)
    return np.where(mean[y] > 0, kept / np.where(mean[y] > 0, mean[y], 1.0), 1.0)


def ranks(scores: Floats) -> Floats:
    """Give ranks from 0, the least, to 1, the largest; equal scores share the mean of theirs.

    Examples
    --------
    >>> ranks(np.array([3.0, 1.0, 1.0, 9.0])).round(3).tolist()
    [0.667, 0.167, 0.167, 1.0]
    """
    _, number, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[number] / max(1, len(scores) - 1))
