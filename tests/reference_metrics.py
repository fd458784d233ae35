"""Every metric by scikit-learn: what frostline's own figures are held to."""

import numpy as np
from sklearn import metrics


def _macro(function):
    def figure(y, proba):
        # Over the classes that have rows: one that was predicted but never true has no recall.
        there = np.unique(y)
        return function(y, proba.argmax(axis=1), labels=there, average="macro", zero_division=0)

    return figure


# A metric that is not here fails: true classes (N,) and probabilities (N, K) in, its figure out.
BY_SKLEARN = {
    "macro-recall": _macro(metrics.recall_score),
    "accuracy": lambda y, proba: metrics.accuracy_score(y, proba.argmax(axis=1)),
    "macro-f1": _macro(metrics.f1_score),
    "log-loss": lambda y, proba: metrics.log_loss(y, proba, labels=range(proba.shape[1])),
}
