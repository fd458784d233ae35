"""Name the columns of scores and give their cells, for files and frames alike.

In comes a block of scores, out goes a list of cells for each column, in the order of the columns.
Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.head.head import Head
from pipeline.scoring.evaluate import Scores

# By column, the cells of some rows.
Cells = dict[str, list[Any]]


@dataclass(frozen=True)
class ScoreColumns:
    """The columns of a head's scores.

    Attributes
    ----------
    labels : sequence of str
        Of the head.
    with_text, with_novelty : bool
        Whether those columns are there.
    """

    labels: Sequence[str]
    with_text: bool = False
    with_novelty: bool = False

    @classmethod
    def of(cls, head: Head, *, with_text: bool = False, with_novelty: bool = False) -> ScoreColumns:
        """Give those of a head."""
        return cls(tuple(head.labels), with_text, with_novelty)

    @property
    def numbers(self) -> list[str]:
        """The names of columns of float64; all others hold texts."""
        return [*(f"p_{name}" for name in self.labels), *(["novelty"] * self.with_novelty)]

    @property
    def names(self) -> list[str]:
        """All names: `id`, `text`, `label`, `p_<label>` for each class, `novelty`, `flags`."""
        return ["id", *(["text"] * self.with_text), "label", *self.numbers, "flags"]

    def cells(self, block: Scores) -> Cells:
        """Give the cells of a block.

        Probabilities have six digits: more than half precision carries. The label is the argmax of
        what is written.
        """
        proba = block.proba.round(6)
        cells: Cells = {"id": list(block.ids)}
        if self.with_text:
            assert block.texts is not None, "cached vectors come without their texts"
            cells["text"] = list(block.texts)
        cells["label"] = [self.labels[winner] for winner in proba.argmax(axis=1)]
        for number, name in enumerate(self.labels):
            cells[f"p_{name}"] = proba[:, number].tolist()
        if self.with_novelty:
            assert block.novelty is not None, "the head can't tell"
            cells["novelty"] = block.novelty.round(3).tolist()
        return cells | {"flags": list(block.flags)}
