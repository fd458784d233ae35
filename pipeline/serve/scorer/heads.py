"""Say what several heads make of the vectors of their encoders, in one product for all of them.

In come heads with their names; out come the views to compute of each encoder, and for a batch of
vectors the logits of every head. A head of several encoders adds up what each of them gives, so no
vector has to wait for those of another encoder. It runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features.base.arrays import Floats
from features.base.shown import shown
from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from pipeline.head.head import Head

if TYPE_CHECKING:
    from features.encoder.engine import Matrix


@dataclass(frozen=True)
class Stack:
    """The weights of all heads that take the same vectors of an encoder, side by side.

    Attributes
    ----------
    sources : tuple of VectorSpec
        What is taken, in order.
    weights : float64 array (D, M)
        M is the number of classes of all these heads together.
    """

    sources: tuple[VectorSpec, ...]
    weights: Floats

    def logits(self, vectors: Mapping[str, Matrix]) -> Floats:
        """Give the logits without intercepts, (N, M), of N texts.

        Vectors are rounded as the cached ones are that the heads were fitted on, as in `predict`.
        """
        X = np.hstack(
            [
                vectors[one.view].astype(one.store_dtype).astype(np.float32, copy=False)
                for one in self.sources
            ]
        )
        return np.asarray(X @ self.weights)


@dataclass(frozen=True)
class Part:
    """Where the logits of a head are found: among those of a stack of an encoder."""

    encoder: int
    stack: int
    columns: slice


@dataclass(frozen=True)
class ServedHead:
    """A head with its name, and where its logits are found.

    Attributes
    ----------
    name : str
    head : Head
    parts : tuple of Part
        One for each of its encoders.
    """

    name: str
    head: Head
    parts: tuple[Part, ...]

    @property
    def encoders(self) -> list[int]:
        """The numbers of its encoders, in the order of the head."""
        return [part.encoder for part in self.parts]


@dataclass(frozen=True)
class Heads:
    """Heads that are served together.

    Attributes
    ----------
    by_name : dict of str to ServedHead
        In the order in which they were given.
    encoders : list of lists of VectorSpec
        What is wanted of each encoder, see `encoders_of`.
    stacks : list of lists of Stack
        Of each encoder.
    """

    by_name: dict[str, ServedHead]
    encoders: list[list[VectorSpec]]
    stacks: list[list[Stack]]


def gathered(named: Sequence[tuple[str, Head]]) -> Heads:
    """Put heads together by what they take.

    Raises
    ------
    InputError
        Two have one name.
    """
    encoders: dict[str, list[VectorSpec]] = {}
    blocks: dict[str, dict[tuple[VectorSpec, ...], list[Floats]]] = {}
    by_name: dict[str, ServedHead] = {}
    for name, head in named:
        if name in by_name:
            raise InputError(
                f"two heads have the name {shown(name)}; heads are served by the names of their "
                "files: rename one of them"
            )
        by_name[name] = ServedHead(name, head, tuple(_placed(head, encoders, blocks)))
    return Heads(
        by_name,
        # In half precision all are served by vectors in float32, but not the other way round.
        [sorted(found, key=lambda one: one.precision == "half") for found in encoders.values()],
        [
            [Stack(sources, np.vstack(found).T.copy()) for sources, found in stacks.items()]
            for stacks in blocks.values()
        ],
    )


def _placed(
    head: Head,
    encoders: dict[str, list[VectorSpec]],
    blocks: dict[str, dict[tuple[VectorSpec, ...], list[Floats]]],
) -> list[Part]:
    """Add what a head takes to what others take, and give where its logits will be."""
    ends = np.cumsum([source.width for source in head.sources])
    columns = [
        range(end - source.width, end) for source, end in zip(head.sources, ends, strict=True)
    ]
    parts = []
    for fingerprint in dict.fromkeys(source.spec.fingerprint for source in head.sources):
        own = [
            (source, place)
            for source, place in zip(head.sources, columns, strict=True)
            if source.spec.fingerprint == fingerprint
        ]
        wanted = encoders.setdefault(fingerprint, [])
        wanted.extend(source for source, _ in own if source not in wanted)
        stacks = blocks.setdefault(fingerprint, {})
        stack = stacks.setdefault(tuple(source for source, _ in own), [])
        start = sum(map(len, stack))
        stack.append(head.coef[:, np.concatenate([place for _, place in own])])
        parts.append(
            Part(
                list(encoders).index(fingerprint),
                list(stacks).index(tuple(source for source, _ in own)),
                slice(start, start + len(head.coef)),
            )
        )
    return parts
