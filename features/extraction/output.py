"""The output of a run: a file, or a folder of shards, and what of it is there already.

Shards are made one by one and in order: `begin` looks at what is at the place of the next one, rows
are added, `finish` leaves it as it is or replaces it. A file is one shard without a place in a folder.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.base import disk
from features.base.machine import versions
from features.errors import FileRefused, InputError
from features.extraction.encoding import Encoding, NewTexts
from features.extraction.journal import Journal
from features.extraction.resume import CURE, check_encoder, open_previous
from features.extraction.shard_builder import ShardBuilder
from features.spec.encoder_spec import EncoderSpec
from features.store import admission
from features.store.checksum import check_seal
from features.store.format import Shard
from features.store.reader import FeatureStore
from features.store.shard_folder import Part, aside_path, leftovers, part_path, parts_there
from features.tweets.reader import Tweet
from features.version import __version__

# Whose versions a shard remembers, where they are installed.
_PACKAGES = ("torch", "transformers", "tokenizers", "openvino", "onnxruntime", "h5py", "numpy")


@dataclass(frozen=True)
class Asked:
    """What the vectors of a run are to be."""

    spec: EncoderSpec
    views: Sequence[str]
    dtype: str
    store_dtype: str


class Shards:
    """The shards of one run of `extract`, in order; `close` it at the end.

    Parameters
    ----------
    output : Path
        The file, or the folder.
    shard_rows : int or None
        Rows of a shard at most; None for a single file.
    asked : Asked
        What the vectors are to be.
    journal : Journal
    inputs : sequence of str
        Names of the input files.
    overwrite : bool
        Whether what is there is replaced.
    say : callable
        Called with what the user should know.

    Attributes
    ----------
    precision : str or None
        That of the vectors that are there.
    """

    def __init__(
        self,
        output: Path,
        shard_rows: int | None,
        asked: Asked,
        journal: Journal,
        inputs: Sequence[str],
        *,
        overwrite: bool,
        say: Callable[[str], None],
    ) -> None:
        self._output, self._shard_rows, self._asked = output, shard_rows, asked
        self._journal, self._inputs, self._say = journal, inputs, say
        self._there: dict[int, Path] = {}
        self._doomed: dict[int, Path] = {}  # to be removed before anything is begun
        self._like: Shard | None = None  # what a shard of this encoder says of itself
        self._store: FeatureStore | None = None
        self._number = 0
        self._changed = False
        self._taken_over = False
        if shard_rows is None:
            if output.exists() and not overwrite:
                self._there = {0: output}
                self._store = open_previous(
                    output, asked.spec, asked.views, asked.dtype, asked.store_dtype
                )
                self._like = self._store.shards[0]
        else:
            self._look_around(shard_rows, overwrite=overwrite)

    @property
    def precision(self) -> str | None:
        """`float32`, `half` or `int8`, where vectors are there."""
        return None if self._like is None else self._like.precision

    @property
    def rows(self) -> int:
        """Rows so far, of all shards."""
        return self._builder.first_row + self._builder.n_rows

    def bytes_there(self) -> int:
        """Bytes of what is kept of earlier runs: shards and the journal."""
        kept = [*self._there.values(), self._journal.path] if self._shard_rows is not None else []
        return sum(path.stat().st_size for path in kept or [self._journal.path])

    def close(self) -> None:
        """Close what is open."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def begin(self, builder: ShardBuilder, encoding: Encoding) -> None:
        """Begin with the first shard."""
        self._builder, self._encoding = builder, encoding
        if self._doomed:
            encoding.load()  # before anything is lost
            for path in reversed(
                self._doomed.values()
            ):  # the last first: no reader takes it for whole
                disk.unlink(path)
            disk.sync_folder(self._output)
            encoding.begin()
        self._open()

    def add(self, tweets: Sequence[Tweet], texts: Sequence[str], digests: Sequence[bytes]) -> None:
        """Add rows to the shard at work; their texts are known."""
        slots = self._builder.slots(digests)
        self._builder.add_rows(
            [tweet.id for tweet in tweets],
            [tweet.label for tweet in tweets],
            [slots[digest] for digest in digests],
            [not text.strip() for text in texts],
            [tweet.repaired for tweet in tweets],
        )
        for tweet, digest in zip(tweets, digests, strict=True):
            self._content.update(json.dumps([tweet.id, tweet.label]).encode() + digest)

    def add_texts(self, new: NewTexts) -> None:
        """Add texts of the shard at work, once the model is through with them."""
        places = new.places.result()
        rows = np.flatnonzero(places["finite"])
        self._builder.add_texts(
            [new.digests[row] for row in rows],
            [len(new.tokens.ids[row]) for row in rows],
            [new.tokens.truncated[row] for row in rows],
            places[rows],
        )

    def finish(self, label_names: Sequence[str] | None, *, last: bool) -> None:
        """Leave the shard at work as it is, if it is that already, or put the new one in its place."""
        path = self._path(self._number)
        if not self._builder.n_rows:
            raise InputError(
                f"no row for {path} can be used: their vectors are not finite, see the rejects; use another "
                "model, or a larger --shard-rows"
            )
        part = None
        if self._shard_rows is not None:
            part = Part(self._number, self._builder.first_row, self._shard_rows, last)
        there = self._there.get(self._number)
        if (
            self._store is not None
            and self._store.shards[0].part == part
            and self._builder.repeats(self._store, label_names)
        ):
            if there != path and there is not None:
                disk.rename(there, path)
                disk.sync_folder(self._output)
        else:
            self._changed = True
            if self._shard_rows is not None:
                self._make_room(path.parent)
            self._builder.commit(path, replace(self._describe(), part=part), label_names)
            if there is not None and there != path:
                disk.unlink(there)
            if not last:
                used = self._encoding.resumed > self._resumed_before
                self._journal.forget(0 if used else self._journal_start)
        if last and self._shard_rows is not None:
            self._remove_beyond()
        self.close()

    def next(self) -> None:
        """Go on to the next shard."""
        self._builder.settle(self._path(self._number))
        self._number += 1
        self._open()

    def outcome(self) -> str:
        """`written`, `extended` or `unchanged`."""
        if not self._changed:
            return "unchanged"
        return "extended" if self._taken_over else "written"

    def _path(self, number: int) -> Path:
        return self._output if self._shard_rows is None else part_path(self._output, number)

    def _look_around(self, shard_rows: int, *, overwrite: bool) -> None:
        """Know the shards that are there, if they are of this run's encoder and cut."""
        self._there = parts_there(self._output)
        if not self._there:
            return
        if overwrite and self._journal.header is None:
            self._doomed, self._there = self._there, {}
            return
        try:
            self._check_there(shard_rows)
        except InputError:
            if not overwrite:
                raise
            self._journal.clear()
            self._doomed, self._there, self._like = self._there, {}, None

    def _check_there(self, shard_rows: int) -> None:
        with suppress(FileRefused):  # one child for all of them; what is damaged is made again
            admission.admit(list(self._there.values()))
        asked = self._asked
        for path in self._there.values():
            try:
                store = FeatureStore(path)
            except FileRefused:
                continue
            with store:
                check_encoder(store, asked.spec, asked.views, asked.dtype, asked.store_dtype)
                part = store.shards[0].part
                if part is None or part.shard_rows != shard_rows:
                    cut = "by itself" if part is None else f"with --shard-rows {part.shard_rows}"
                    raise InputError(
                        f"{path} was made {cut}, not with --shard-rows {shard_rows}: give "
                        f"that, or {CURE}"
                    )
                self._like = self._like or store.shards[0]

    def _open(self) -> None:
        """Take over what is at the place of the shard at work."""
        self._content = hashlib.sha256()  # of ids, labels and normalised texts, in order
        self._journal_start = self._journal.end
        self._resumed_before = self._encoding.resumed
        path = self._there.get(self._number)
        if path is not None and self._shard_rows is not None:
            try:
                check_seal(path)
                self._store = FeatureStore(path)
            except FileRefused as error:
                self._say(f"{error}; it is made again")
        if self._store is not None:
            self._builder.take_over(self._store)
            self._like = self._store.shards[0]
            self._taken_over = True

    def _describe(self) -> Shard:
        """What the shard at work says of itself."""
        encoder, like, asked = self._encoding.encoder, self._like, self._asked
        if encoder is not None:
            views, precision = encoder.views, encoder.precision
            made: dict[str, Any] = {
                "device": encoder.device,
                "dtype": encoder.dtype,
                "choice": encoder.choice.to_dict(),
            }
        else:
            assert like is not None, "rows without a shard before them were encoded"
            views, precision = dict(like.views), like.precision
            made = {name: like.provenance.get(name) for name in ("device", "dtype", "choice")}
        provenance: dict[str, Any] = {
            "frostline": __version__,
            "versions": {"python": platform.python_version(), **versions(_PACKAGES)},
            "inputs": list(self._inputs),
            **made,
            "input_digest": self._content.hexdigest(),
            "extends_rows": self._store.n_rows if self._store is not None else 0,
        }
        return Shard(asked.spec, views, [], precision, asked.store_dtype, provenance)

    def _make_room(self, folder: Path) -> None:
        """Make the folder; and where shards come behind this one, see that nobody reads both."""
        if not folder.is_dir():
            disk.mkdir(folder)
            disk.sync_folder(folder.parent)
        top = max(self._there, default=-1)
        if top > self._number and self._there[top] == part_path(folder, top):
            disk.rename(self._there[top], aside_path(folder, top))
            disk.sync_folder(folder)
            self._there[top] = aside_path(folder, top)

    def _remove_beyond(self) -> None:
        """Remove the shards of a longer input, the last first, and what is set aside."""
        beyond = [path for number, path in self._there.items() if number > self._number]
        self._changed |= bool(beyond)
        # A run that was killed may have left one aside that has its place again.
        surplus = [*leftovers(self._output), *reversed(beyond)]
        for path in surplus:
            disk.unlink(path)
        if surplus:
            disk.sync_folder(self._output)
