"""Read feature stores of several encoders over the same tweets as one. No torch, no fitting.

Files of one encoder are shards: their rows follow each other. Files of different encoders are
joined: their columns stand side by side, row by row, as `pipeline/data/matching.py` matches them.

Encoders are numbered from 1 in the order of their files: `2:mean` is the view `mean` of the second
one, `mean` that of every encoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Mask
from features.errors import FileRefused, InputError
from features.spec.pooling import parse_pooling
from features.spec.vector_spec import VectorSpec
from features.store.reader import FeatureStore
from pipeline.data.matching import Matching, match, nth, same_texts
from pipeline.head.head import views_for
from pipeline.solver.blocks import cut
from pipeline.solver.distributed import Crew

# The code of a row that has a label and is left out for it; -1 is that of a row without one.
LEFT_OUT = -2


@dataclass(frozen=True)
class SharedRows:
    """Workers that have rows of stores among them, and which rows of all these are."""

    crew: Crew
    kept: Mask


@dataclass(frozen=True)
class Joined:
    """Open stores, one an encoder, whose rows are matched; made by `open_joined`.

    Attributes
    ----------
    stores : tuple of FeatureStore
    matching : Matching, optional
        None where there is one store, all of whose rows are there.
    n_rows : int
        N.
    label_names : list of str
    codes : int array (N,)
        Into `label_names`; -1 where no store has a label, `LEFT_OUT` where the row is left out.
    kept : tuple of bool arrays
        The rows of each store that are in all of them.
    shared : SharedRows, optional
        See `pipeline/data/shared_rows.py`.
    """

    stores: tuple[FeatureStore, ...]
    n_rows: int
    label_names: list[str]
    codes: npt.NDArray[np.int32]
    matching: Matching | None = None
    kept: tuple[Mask, ...] = field(default=())
    shared: SharedRows | None = None

    def __str__(self) -> str:
        return " and ".join(map(str, self.stores))

    def made_from(self) -> list[dict[str, Any]]:
        """Say, as JSON types, what the vectors of each encoder were made from, and by what."""
        return [_made_from(store) for store in self.stores]

    def name(self, source: VectorSpec) -> str:
        """Give the name of a view, with the number of its encoder where there are several."""
        if len(self.stores) == 1:
            return source.view
        return f"{self._number(source) + 1}:{source.view}"

    def every_view(self) -> list[VectorSpec]:
        """Give all views of all encoders."""
        return [_source(store, view) for store in self.stores for view in store.views]

    def choose(self, asked: Sequence[str] | None) -> list[VectorSpec]:
        """Give the views that were asked for; without, the only one of each encoder.

        Raises
        ------
        InputError
            A view or an encoder is not there, a view is named twice, or several are there and none
            was named.
        """
        if not asked:
            return [_source(store, store.choose_views(None)[0]) for store in self.stores]
        chosen = [source for text in asked for source in self._named(text)]
        for source in chosen:
            if chosen.count(source) > 1:
                raise InputError(f"view {self.name(source)!r} is named twice; name each view once")
        return chosen

    def _named(self, text: str) -> list[VectorSpec]:
        match = re.fullmatch(r"(\d+):(.*)", text)
        numbers = [int(match[1])] if match else range(1, len(self.stores) + 1)
        view = parse_pooling(match[2] if match else text).name
        found = []
        for number in numbers:
            if not 1 <= number <= len(self.stores):
                raise InputError(
                    f"{text}: there is no encoder {number}; the files are of {len(self.stores)}"
                )
            store = self.stores[number - 1]
            if view not in store.views:
                cure = (
                    f"; to take a view of one encoder alone, give its number, e.g. 1:{view}"
                    if len(self.stores) > 1 and not match
                    else ""
                )
                raise InputError(
                    f"{store} holds no view {view!r}; it holds: {', '.join(store.views)}{cure}"
                )
            found.append(_source(store, view))
        return found

    def check_all_taken(self, chosen: Sequence[VectorSpec]) -> None:
        """Refuse to leave an encoder out without a word."""
        taken = {self._number(source) for source in chosen}
        for number, store in enumerate(self.stores):
            if number not in taken:
                raise InputError(
                    f"no view of {store} is asked for; leave the file out, or add "
                    f"`pooling={number + 1}:VIEW`"
                )

    def like(self, sources: Sequence[VectorSpec]) -> list[VectorSpec]:
        """Give the views here that are those of a head, in its order.

        Raises
        ------
        FileRefused
            A store is of an encoder that the head does not take, or one that it takes is missing.
        InputError
            A view is missing.
        """
        for store in self.stores:
            own = [s for s in sources if s.spec.fingerprint == store.fingerprint]
            views_for(own or sources, store)
        for source in sources:
            fingerprint = source.spec.fingerprint
            if all(store.fingerprint != fingerprint for store in self.stores):
                raise FileRefused(
                    f"the head takes vectors of encoder {fingerprint[:12]} ({source.spec.model}) "
                    f"as well, which {self} does not hold: extract the same tweets with it, and "
                    "give both files"
                )
        return [_source(self.stores[self._number(s)], s.view) for s in sources]

    def _number(self, source: VectorSpec) -> int:
        return [store.fingerprint for store in self.stores].index(source.spec.fingerprint)

    def blocks(
        self,
        sources: Sequence[VectorSpec],
        dtype: npt.DTypeLike | None = None,
        start: int = 0,
        *,
        piece_bytes: int = 8 * 2**20,
    ) -> Iterator[Array]:
        """Iterate over blocks of joined rows (n, D) from row `start` on.

        Without a dtype the values come as they are stored. Rows of several stores come in pieces of
        about `piece_bytes`.
        """
        if len(self.stores) == 1:
            (store,) = self.stores
            views = [source.view for source in sources]
            for _, block in store.blocks(views, dtype=dtype or store.store_dtype, start=start):
                yield block
            return
        rows = max(1, piece_bytes // (4 * sum(source.width for source in sources)))
        columns = [cut(self._pieces(source, dtype, start), rows) for source in sources]
        for parts in zip(*columns, strict=True):
            yield np.hstack(parts)

    def _pieces(
        self, source: VectorSpec, dtype: npt.DTypeLike | None, start: int
    ) -> Iterator[Array]:
        number = self._number(source)
        store, kept = self.stores[number], self.kept[number]
        first = nth(kept, start)
        for at, block in store.blocks(source.view, dtype=dtype or store.store_dtype, start=first):
            yield block[kept[at : at + len(block)]]

    def ids(self, rows: slice) -> list[str]:
        """Give the ids of some rows."""
        if not self.kept:
            return self.stores[0].ids(rows)
        places = np.flatnonzero(self.kept[0])[rows]
        if not len(places):
            return []
        there = self.stores[0].ids(slice(int(places[0]), int(places[-1]) + 1))
        return [there[place - places[0]] for place in places]

    def flags(self, rows: slice) -> npt.NDArray[np.uint8]:
        """Give the flags of some rows, those of the first store."""
        if not self.kept:
            return self.stores[0].flags(rows)
        places = np.flatnonzero(self.kept[0])[rows]
        return self.stores[0].flags()[places]

    def texts(self) -> npt.NDArray[np.integer[Any]]:
        """Say which rows have the same text, to any of the encoders: equal rows of (N, ·)."""
        if not self.kept:
            return self.stores[0].digests()
        digests = [s.digests()[kept] for s, kept in zip(self.stores, self.kept, strict=True)]
        if self.matching is not None and self.matching.by_text:
            return digests[0]
        return same_texts(digests)


def _source(store: FeatureStore, view: str) -> VectorSpec:
    return VectorSpec(store.spec, {view: store.views[view]}, store.precision, store.store_dtype)


@contextmanager
def open_joined(
    features: str | Path | Sequence[str | Path], *, labels: bool = True
) -> Iterator[Joined]:
    """Open feature stores: files of one encoder as shards, files of different ones side by side.

    Parameters
    ----------
    features : path or sequence of paths
        Files, or folders of shards.
    labels : bool
        Whether they are wanted; without, those of files of one encoder are not read.

    Raises
    ------
    InputError
        A file is given twice, some files are of one encoder and some of others, the stores share no
        row, or the rows come in another order.
    FileRefused
        As `FeatureStore` does.
    """
    paths = [features] if isinstance(features, str | Path) else list(features)
    with ExitStack() as files:
        stores = [files.enter_context(FeatureStore(path)) for path in paths]
        if len({store.fingerprint for store in stores}) <= 1:
            if len(stores) != 1:
                files.close()
                _check_once([path for store in stores for path in store.paths])
                sources = [source for store in stores for source in store.sources]
                stores = [files.enter_context(FeatureStore(sources))]
            (store,) = stores
            codes = store.labels() if labels else np.zeros(0, np.int32)
            yield Joined((store,), store.n_rows, store.label_names, codes)
            return
        _check_one_each(stores)
        matched = match(stores)
        yield Joined(
            tuple(stores),
            matched.matching.rows,
            matched.label_names,
            matched.codes,
            matched.matching,
            matched.kept,
        )


def _check_once(shards: Sequence[Path]) -> None:
    """Refuse a file that is there twice: its rows would count twice."""
    seen: dict[Path, Path] = {}
    for shard in shards:
        first = seen.setdefault(shard.resolve(), shard)
        if first is not shard:
            also = "" if first == shard else f", the other time as {first}"
            raise InputError(
                f"{shard} is given twice{also}, so that each of its rows would count twice; give "
                "each file once, by itself or in its folder"
            )


def _check_one_each(stores: Sequence[FeatureStore]) -> None:
    of_encoder: dict[str, list[str]] = {}
    for store in stores:
        of_encoder.setdefault(store.fingerprint, []).append(str(store))
    for fingerprint, names in of_encoder.items():
        if len(names) > 1:
            raise InputError(
                f"{' and '.join(names)} are both of encoder {fingerprint[:12]}, the other files "
                "are not: files of one encoder are appended, those of different encoders stand "
                "side by side; put the files of each encoder into a folder of their own, and give "
                "the folders"
            )


def _made_from(store: FeatureStore) -> dict[str, Any]:
    first = store.provenance[0]
    choice = first.get("choice")
    candidate = choice.get("candidate") if isinstance(choice, dict) else None
    return {
        "inputs": first.get("inputs", []),
        "input_digests": [one["input_digest"] for one in store.provenance if "input_digest" in one],
        "rows": store.n_rows,
        "device": first.get("device"),
        "dtype": first.get("dtype"),
        "backend": candidate.get("backend") if isinstance(candidate, dict) else None,
    }
