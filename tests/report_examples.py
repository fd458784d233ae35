"""Facts and points of a report, made by hand: hostile texts among them, no model, no files."""

import numpy as np

from pipeline.facts.facts import (
    Check,
    ClassRows,
    DataFacts,
    Duplicates,
    Facts,
    HeadFacts,
    Lengths,
    Listed,
    Points,
    Script,
    Suspect,
)
from pipeline.facts.figures import (
    Bin,
    Choice,
    Confusion,
    CurvePoint,
    Forecast,
    LearningCurve,
    PrecisionRecall,
    Reliability,
    TriedC,
)
from pipeline.fitting.changes import Change, Changes, Undisputed

LABELS = ("negative", "neutral", "positive")
HOSTILE = (
    "<script>alert(1)</script>",
    "</textarea></script><img src=x onerror=alert(2)>",
    "&lt;b&gt; &amp; &#x27; \"quoted\" 'single' `tick` | pipe | [a](javascript:alert(3)) ![b](c)",
    "\u202eright to left\u202c and \u2066isolated\u2069",
    "a" + "\u0301" * 10_000,
    "zero\u200bwidth\u200djoiners\ufeff",
    "\x1b[31mred\x1b[0m\x07 \x00 end",
    "two\nlines\r\nand # a heading\n\n---\n| a | b |",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "=HYPERLINK(1) 👩‍👩‍👧‍👦 🇩🇪 ",
)


def example_points(n_rows=300, *, with_text=True, seed=0):
    """Three clouds of rows, some without a label."""
    rng = np.random.default_rng(seed)
    predicted = np.arange(n_rows) % 3
    label = np.where(rng.random(n_rows) < 0.2, rng.integers(-1, 3, n_rows), predicted)
    xy = rng.normal(size=(n_rows, 2)) + np.array([[0, 2], [2, 0], [-2, -1]])[predicted]
    texts = [HOSTILE[i] if i < len(HOSTILE) else f"tweet number {i}" for i in range(n_rows)]
    return Points(
        xy.astype(np.float32),
        label.astype(np.int16),
        predicted.astype(np.int16),
        rng.uniform(0.34, 1, n_rows).astype(np.float32),
        np.arange(n_rows),
        [f"id-{i}" for i in range(n_rows)],
        texts if with_text else None,
    )


def example_facts(points=None):
    """Facts in which every part is filled; lists and confusion are those of the points."""
    points = example_points() if points is None else points
    wrong = np.flatnonzero((points.label >= 0) & (points.label != points.predicted))
    by_probability = np.argsort(points.probability, kind="stable")
    return Facts(
        verdict="The head finds 62.5 % of each class (macro recall 0.625, 95 % interval 0.590 to "
        "0.660), nearly twice as good as chance.",
        head=HeadFacts(
            "head.joblib",
            LABELS,
            ("mean@last4+concat (1536)",),
            ("all-MiniLM-L6-v2 (0123456789ab)",),
            0.00316,
            (1 / 3, 1 / 3, 1 / 3),
            "temperature",
            240,
        ),
        data=_data(points),
        checks=_checks(),
        choice=Choice(
            "macro-recall",
            tuple(
                TriedC(C, 0.625 - d, -d, 0.004 * (d > 0), 0.9 + d, C == 0.001, d == 0, d <= 0.004)
                for C, d in ((0.0001, 0.03), (0.001, 0.002), (0.01, 0.0), (0.1, 0.01), (1.0, 0.05))
            ),
        ),
        metrics=_metrics(points),
        confusion=Confusion(LABELS, _confusion(points)),
        precision_recall=tuple(
            PrecisionRecall(name, (0.0, 0.5, 1.0), (1.0, 0.8 - 0.1 * k, 0.33), 0.7 - 0.1 * k)
            for k, name in enumerate(LABELS)
        ),
        reliability=Reliability(
            tuple(Bin(c, c - 0.1, 40) for c in (0.4, 0.5, 0.6, 0.7, 0.8, 0.95)),
            tuple(Bin(c, c - 0.01, 40) for c in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        ),
        learning_curve=LearningCurve(
            "macro-recall",
            tuple(
                CurvePoint(n, 0.65 - 0.5 / n**0.5, 0.64 - 0.6 / n**0.5, 0.66 - 0.4 / n**0.5)
                for n in (15, 30, 60, 120, 240)
            ),
            Forecast(480, 0.627, 0.615, 0.64, 0.012, 0.004, 0.02),
        ),
        mistakes=tuple(_listed(points, i) for i in wrong[:20]),
        uncertain=tuple(_listed(points, i) for i in by_probability[:20]),
        suspects=tuple(
            Suspect(
                **vars(_listed(points, i)),
                score=0.99 - 0.01 * n,
                suggested=LABELS[points.predicted[i]],
                loss=3.2 - 0.1 * n,
            )
            for n, i in enumerate(wrong[:20])
        ),
        changes=Changes(
            "old.joblib",
            (
                Change("macro-recall", 0.613, 0.625, 0.012, 0.004, 0.02),
                Change("log-loss", 0.91, 0.9, -0.01, -0.02, 0.001),
            ),
            14,
            6,
            240,
            Undisputed(234, (Change("macro-recall", 0.62, 0.626, 0.006, -0.002, 0.014),)),
            "5-fold cross-validation, each text by a model that did not see it",
            (),
        ),
        provenance={
            "versions": {"frostline": "0.0", "numpy": "2.0", "python": "3.11"},
            "head": {"frostline": "0.0", "C": 0.00316, "seed": 0},
            "map": {"kind": "pca"},
            "commands": [
                "frostline fit tweets.h5 -o head.joblib",
                "frostline report head.joblib tweets.h5 -o report.html",
            ],
        },
        left_out=("The learning curve is of 240 of 300 rows.",),
    )


def _data(points):
    labelled = points.label[points.label >= 0]
    counts = np.bincount(labelled, minlength=3).tolist()
    return DataFacts(
        ("tweets.h5",),
        len(points.label),
        len(labelled),
        tuple(ClassRows(n, c, c / len(labelled)) for n, c in zip(LABELS, counts, strict=True)),
        Lengths((0, 10, 20, 30, 129), (50, 150, 80, 20), 3),
        Duplicates(5, 12, 2),
        None if points.texts is None else (Script("Latin", 290), Script("none", 10)),
    )


def _checks():
    return (
        Check("conflicting-labels", "problem", "Conflicting labels", "2 texts differ.", "Correct."),
        Check("c-at-edge", "good", "C inside the grid", "C is 0.001 of 0.0001 to 1.", ""),
        Check("few-rows", "warning", "Enough rows", "240 rows.", "Label more."),
        Check("label-shift", "skipped", "Shares of the classes", "The rows are its own.", ""),
    )


def _metrics(points):
    confusion = np.array(_confusion(points))
    recall = np.diag(confusion) / confusion.sum(axis=1)
    precision = np.diag(confusion) / confusion.sum(axis=0)
    f1 = 2 * precision * recall / (precision + recall)
    return {
        "rows": int(confusion.sum()),
        "macro_recall": float(recall.mean()),
        "accuracy": float(np.diag(confusion).sum() / confusion.sum()),
        "macro_f1": float(f1.mean()),
        "log_loss": 0.9,
        "macro_recall_interval": (float(recall.mean()) - 0.03, float(recall.mean()) + 0.03),
        "calibration_error": 0.02,
        "classes": [
            {"label": n, "rows": int(r), "precision": float(p), "recall": float(c), "f1": float(f)}
            for n, r, p, c, f in zip(
                LABELS, confusion.sum(axis=1), precision, recall, f1, strict=True
            )
        ],
        "confusion": confusion.tolist(),
        "measured_on": "5-fold cross-validation, each text by a model that did not see it",
    }


def _confusion(points):
    there = points.label >= 0
    cells = np.bincount(points.label[there] * 3 + points.predicted[there], minlength=9)
    return tuple(map(tuple, cells.reshape(3, 3).tolist()))


def _listed(points, row):
    return Listed(
        int(points.rows[row]),
        points.ids[row],
        LABELS[points.label[row]] if points.label[row] >= 0 else "",
        LABELS[points.predicted[row]],
        float(points.probability[row]),
        None if points.texts is None else points.texts[row],
    )
