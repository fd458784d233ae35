"""Compare a new head with an earlier one: what has changed, with paired intervals. No files.

Both are measured on the same rows and by the corrected labels. A head is no judge of rows that it
was fitted on, so, unless there are validation rows, models stand in for it: they are fitted with
its C, views, scales and class weights on the labels that it had, in the folds of the new fit, and
each judges the rows that it did not see. For the new head these are the corrected labels.

The corrected labels are taken for the truth, and nothing here can tell whether they are. A head
looks better by labels that it has learned from, right or wrong: above all in log-loss, as it knows
how often labels are wrong. So the rows whose label was not changed are measured by themselves
as well: there, no label is in dispute.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.base.arrays import Floats, Indices, Mask
from features.base.shown import listed
from features.errors import InputError
from pipeline.data.conflicts import settle
from pipeline.data.corrections import Corrections, correct
from pipeline.data.labelled_rows import validation_rows
from pipeline.evaluation.bootstrap import Draws, interval
from pipeline.evaluation.metrics import METRICS, score
from pipeline.evaluation.options import Options
from pipeline.fitting.out_of_fold import FoldedRows, Settings, out_of_fold
from pipeline.fitting.task import Task
from pipeline.head.head import Head
from pipeline.head.priors import importance
from pipeline.solver.blocks import Rows


@dataclass(frozen=True)
class Change:
    """A figure of `METRICS` of both heads; `difference` is after less before.

    `low` and `high` are its 95 % percentile interval, by a bootstrap over texts that draws the same
    ones for both.
    """

    name: str
    before: float
    after: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Undisputed:
    """Both heads on the rows whose label is the one that the earlier head had, or a first one."""

    rows: int
    metrics: tuple[Change, ...]


@dataclass(frozen=True)
class Changes:
    """What a new head has changed.

    Attributes
    ----------
    against : str
        Name of the file of the earlier head.
    metrics : tuple of Change
    flipped : int
        Rows that the two predict differently, of `rows`.
    corrections : int
        Rows whose label is not the one that the earlier head had.
    rows : int
        Rows that were measured on.
    undisputed : Undisputed, optional
        The same of the rows whose label was not changed; None where no label was, all of a class
        were, or other rows judge.
    measured_on : str
        Which rows those are, and who judged them.
    remarks : tuple of str
        What keeps the earlier head from being the one that is measured.
    """

    against: str
    metrics: tuple[Change, ...]
    flipped: int
    corrections: int
    rows: int
    undisputed: Undisputed | None
    measured_on: str
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON types."""
        content = dataclasses.asdict(self)
        if self.undisputed is not None:
            content["undisputed"]["metrics"] = list(content["undisputed"]["metrics"])
        return content | {"metrics": list(content["metrics"]), "remarks": list(self.remarks)}


@dataclass(frozen=True)
class Earlier:
    """An earlier head and the labels that it had.

    Attributes
    ----------
    head : Head
    name : str
        Of its file.
    y : int array (N,)
        Codes into the labels of the new fit, for its rows; -1 where there was none.
    corrections : int
        Rows of these files whose label is another one now.
    remarks : tuple of str
        See `Changes`.
    """

    head: Head
    name: str
    y: Indices
    corrections: int
    remarks: tuple[str, ...]


def earlier(head: Head, name: str, task: Task) -> Earlier:
    """Find the labels that a head had: those of the files, and the corrections that it knew.

    Raises
    ------
    InputError
        It has other classes than the new fit, does not say how it was fitted, or a class of its
        labels has no row.
    FileRefused
        It takes vectors of another encoder.
    """
    labels = task.target.labels
    if set(head.labels) != set(labels):
        raise InputError(
            f"{name} has classes {listed(head.labels)}, and the labels to be fitted are "
            f"{listed(labels)}: they can't be measured by the same rows; leave out `against`"
        )
    if task.held is None:
        Settings.of(head)
        task.stores.like(head.sources)
    else:
        task.held.like(head.sources)
        _moved(head, task)
    recorded = _digests(head)
    given = {file.digest for file in task.corrections.files}
    stores, had = correct(task.opened, known_to(head, task.corrections))
    settled, _ = settle(stores, task.conflicts.handling)
    known = np.array(
        [*(labels.index(n) if n in labels else -1 for n in settled.label_names), -1, -1]
    )
    y = known[settled.codes][task.stores.codes >= 0].astype(np.intp)
    rows = np.bincount(y[y >= 0], minlength=len(labels))
    if not rows.all():
        raise InputError(
            f"without the corrections that {name} did not have, no row has label "
            f"{labels[int(rows.argmin())]!r}; leave out `against`"
        )
    remarks = _remarks(head, name, rows, labels, [one for one in recorded if one not in given])
    return Earlier(head, name, y, task.corrections.rows - had.rows, remarks)


def known_to(head: Head | None, corrections: Corrections) -> list[str]:
    """Name those of the files of corrections that a head was fitted with."""
    recorded = [] if head is None else _digests(head)
    return [file.name for file in corrections.files if file.digest in recorded]


def _digests(head: Head) -> list[str]:
    """Give the digests of the corrections that a head says it had."""
    record = head.metadata.get("corrections")
    files = record.get("files") if isinstance(record, dict) else None
    files = files if isinstance(files, list) else []
    found = [one.get("sha256") for one in files if isinstance(one, dict)]
    return [one for one in found if isinstance(one, str)]


def _remarks(
    head: Head, name: str, rows: Indices, labels: Sequence[str], missing: Sequence[str]
) -> tuple[str, ...]:
    """Say where the labels are not those that the head had."""
    if missing:
        return (
            f"{name} was fitted with corrections that are not given, of SHA-256 "
            f"{', '.join(one[:12] for one in missing)}: its labels are taken without them",
        )
    there = dict(zip(head.labels, head.metadata.get("class_rows") or (), strict=False))
    if [there.get(label) for label in labels] != rows.tolist():
        return (
            f"{name} was fitted on other rows or labels ({head.metadata.get('rows', 0):,} rows, "
            f"and {rows.sum():,} here): its settings are measured, on the labels of these files",
        )
    return ()


def changes_of(before: Earlier, after: Head, task: Task, options: Options) -> Changes:
    """Measure both heads, on validation rows or by models that did not see the rows.

    Parameters
    ----------
    before : Earlier
    after : Head
        Fitted by the task.
    task : Task
    options : Options
    """
    prior, y, first = task.target.stated, task.trials.y, task.trials.all[: task.trials.n_first]
    if task.held is None:
        folds = [one.training.held_out for one in first]
        rows = FoldedRows(
            task.stores,
            task.sources,
            task.target,
            task.data,
            [fold for fold in folds if fold is not None],
        )
        probas = [
            out_of_fold(head, of_head, rows, options)
            for head, of_head in ((before.head, before.y), (after, task.target.y))
        ]
        labels = rows.judged(before.y)
        measured_on = (
            f"{len(y):,} rows with the corrected labels, by models with the settings and the "
            "labels of each head that did not see these rows"
        )
    else:
        held = validation_rows(task.held, before.head.sources, before.head.labels)
        old = _moved(before.head, task)
        columns = [old.labels.index(label) for label in after.labels]
        assert task.trials.validation is not None
        probas = [_scored(old, held.X)[:, columns], _scored(after, task.trials.validation)]
        labels = y
        measured_on = f"the {len(y):,} rows of {task.held}, by the heads themselves"
    texts = np.concatenate([one.texts for one in first])
    judged = BothHeads(labels, y, probas, texts, prior, options.seed)
    return judged.changes(before.name, before.corrections, measured_on, before.remarks)


@dataclass(frozen=True)
class BothHeads:
    """Rows, and what is said of them on behalf of two heads.

    Attributes
    ----------
    before, now : int arrays (n,)
        Their labels: those that the earlier head had, -1 where there was none, and the true ones.
    probas : sequence of two float arrays (n, K)
        On behalf of the earlier head, and of the new one.
    texts : int array (n,)
        Equal numbers are one text.
    prior : float array (K,)
        That the probabilities are for.
    seed : int
        Of the bootstrap.
    """

    before: Indices
    now: Indices
    probas: Sequence[Floats]
    texts: Indices
    prior: Floats
    seed: int

    def changes(
        self, against: str, corrections: int, measured_on: str, remarks: tuple[str, ...] = ()
    ) -> Changes:
        """Compare both heads; arguments as in `Changes`."""
        old, new = (proba.argmax(axis=1) for proba in self.probas)
        same = (self.before == self.now) | (self.before < 0)
        undisputed = None
        if not same.all() and np.bincount(self.now[same], minlength=len(self.prior)).all():
            undisputed = Undisputed(int(same.sum()), self._compared(same))
        return Changes(
            against,
            self._compared(np.ones(len(same), bool)),
            int(np.count_nonzero(old != new)),
            corrections,
            len(same),
            undisputed,
            measured_on,
            remarks,
        )

    def _compared(self, some: Mask) -> tuple[Change, ...]:
        """Compare every figure on some of the rows."""
        y, probas = self.now[some], [proba[some] for proba in self.probas]
        weight = importance(y, self.prior)
        draws = Draws(self.texts[some], self.seed).figures(list(METRICS), y, probas, weight=weight)
        found = []
        for metric, drawn in draws.items():
            old, new = (score(metric, y, proba, weight) for proba in probas)
            between = interval(drawn[:, 1] - drawn[:, 0])
            found.append(Change(metric, old, new, new - old, *between))
        return tuple(found)


def _moved(head: Head, task: Task) -> Head:
    """Move an earlier head to the prior of the new one."""
    return head.with_prior(dict(zip(task.target.labels, task.target.stated.tolist(), strict=True)))


def _scored(head: Head, rows: Rows) -> Floats:
    """Score raw vectors, (N, K)."""
    return np.concatenate([head.predict_proba(block) for block in rows.blocks()])
