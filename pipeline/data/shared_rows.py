"""Let worker processes read the labelled rows of stores: stores in, the same ones shared out.

A worker opens the stores for itself, by the paths that it is told, and looks whether they are the
ones that the fit began with. Which rows have a label, after corrections and conflicts, is told with
each group. No label is read here, and nothing is computed.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from features.base.arrays import Array, Mask
from features.engines.engine import Engine
from features.errors import FileRefused
from pipeline.data.join import Joined, SharedRows, open_joined
from pipeline.data.matching import nth
from pipeline.solver.blocks import Rows
from pipeline.solver.distributed import crew_of


@dataclass(frozen=True)
class Sharing:
    """Who goes through the vectors of stores, beside this process.

    Attributes
    ----------
    engine : Engine, optional
        Without one, nobody.
    memory : int, optional
        Bytes of vectors that all workers together may hold; default: each its share of a quarter of
        what is free on its machine.
    """

    engine: Engine | None
    memory: int | None

    @contextmanager
    def out(self, stores: Joined, features: str | Path | Sequence[str | Path]) -> Iterator[Joined]:
        """Start workers that have the rows with labels among them.

        Parameters
        ----------
        stores : Joined
            With the labels that are to be fitted.
        features : path or sequence of paths
            Where they were opened.
        """
        if self.engine is None:
            yield stores
            return
        kept = stores.codes >= 0
        paths = [features] if isinstance(features, str | Path) else features
        source = StoreSource(tuple(map(_everywhere, paths)), digest_of(stores))
        n_rows = int(np.count_nonzero(kept))
        with crew_of(self.engine, source, n_rows, _Places(kept), memory=self.memory) as crew:
            yield replace(stores, shared=SharedRows(crew, kept))


def _everywhere(path: str | Path) -> str:
    """Give a path that does not depend on the folder that a process is in; a URL is one."""
    return str(path) if "://" in str(path) else str(Path(path).absolute())


@dataclass(frozen=True)
class _Place:
    """Rows of stores: from one to before another, and which of them are kept, as packed bits."""

    start: int
    stop: int
    kept: bytes

    def mask(self) -> Mask:
        bits = np.frombuffer(zlib.decompress(self.kept), np.uint8)
        return np.unpackbits(bits, count=self.stop - self.start).astype(bool)


class _Places:
    """Say where some of the rows that are kept are."""

    def __init__(self, kept: Mask) -> None:
        self._kept, self._numbers = kept, np.flatnonzero(kept)

    def __call__(self, rows: slice) -> _Place:
        start, stop = int(self._numbers[rows.start]), int(self._numbers[rows.stop - 1]) + 1
        bits = np.packbits(self._kept[start:stop])
        return _Place(start, stop, zlib.compress(bits.tobytes(), 1))


def digest_of(stores: Joined) -> str:
    """Give a digest by which open stores are known: of their encoders, rows and provenance."""
    said = [
        [store.fingerprint, store.n_rows, store.starts, store.provenance] for store in stores.stores
    ]
    text = json.dumps([stores.n_rows, said], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class StoreSource:
    """Stores that a worker opens by their paths.

    Attributes
    ----------
    paths : tuple of str
    digest : str
        See `digest_of`.
    """

    paths: tuple[str, ...]
    digest: str

    @contextmanager
    def open(self) -> Iterator[Callable[[Any, Any], Rows]]:
        """Open the stores.

        Raises
        ------
        FileRefused
            They are not those that the fit began with.
        """
        with open_joined(self.paths, labels=False) as stores:
            if digest_of(stores) != self.digest:
                raise FileRefused(
                    f"{stores} is not, for a worker, the store that the fit began with; give all "
                    "workers the same files, in a folder that they share, and don't change them "
                    "meanwhile"
                )
            yield partial(_rows, stores)


def _rows(stores: Joined, view: tuple[str, ...], place: _Place) -> Rows:
    """Give the rows of a place."""
    sources = stores.choose(view)
    kept = place.mask()

    def pieces(start: int) -> Iterator[Array]:
        at = nth(kept, start)
        for piece in stores.blocks(sources, start=place.start + at):
            here = kept[at : at + len(piece)]
            piece = piece[: len(here)]
            yield piece if here.all() else piece[here]
            at += len(piece)
            if at == len(kept):
                return

    shape = int(np.count_nonzero(kept)), sum(source.width for source in sources)
    return Rows(shape, np.result_type(*(source.store_dtype for source in sources)), pieces)
