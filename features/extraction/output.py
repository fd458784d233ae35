"""Make the output of a run, shard by shard and in order: a single file, or a folder of shards.

`open_output` looks at the file or folder under the output's name and at its journal, and gives an
`Output` that owns the journal and the builder. `begin` starts the first shard, and `next_shard`
finishes one and starts the next; rows are added; `finish` writes a shard, or leaves the old one if
it is the same. A `SingleFile` is one shard that has no place in a folder. A `ShardFolder` replaces
shards in an order in which no reader takes a part of them for all. It encodes nothing, and knows no
tweets.
"""

from __future__ import annotations

import hashlib
import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.backends.registry import RUNTIME_PACKAGES
from features.base import disk
from features.base.machine import versions
from features.base.paths import check_replaceable
from features.errors import FileRefused, InputError
from features.extraction.encoding import Encoding, NewTexts
from features.extraction.journal import Journal
from features.extraction.resume import CURE, check_same, fit_journal, open_previous, stopping
from features.extraction.shard_builder import ShardBuilder
from features.extraction.windows import Window
from features.spec.vector_spec import VectorSpec
from features.store import admission
from features.store.checksum import check_seal
from features.store.format import Shard
from features.store.reader import FeatureStore
from features.store.shard_folder import Part, aside_path, existing_parts, leftovers, part_path
from features.tweets.rejects import rejects_path
from features.version import __version__

# Packages whose versions are written into a feature file.
_RECORDED = ("torch", "transformers", "tokenizers", *RUNTIME_PACKAGES, "h5py", "numpy")


@dataclass(frozen=True)
class Request:
    """The output that a run is asked to make.

    Attributes
    ----------
    path : Path
        The file, or the folder.
    vectors : VectorSpec
        What they are to be, as far as that is known before the model is loaded.
    dtype : str
        Of the forward pass, as it was asked for.
    inputs : sequence of str
        Names of the input files.
    shard_rows : int or None
        Rows of a shard at most; None for a single file.
    overwrite : bool
        Whether what is there is replaced.
    of_piece : bool
        Whether it is a piece of a larger output. Then it has the same bytes on each device of a
        kind, it may have no row, and what can be said of all of the input alone is left to whoever
        has all of it.
    """

    path: Path
    vectors: VectorSpec
    dtype: str
    inputs: Sequence[str]
    shard_rows: int | None
    overwrite: bool
    of_piece: bool = False


def recorded_versions() -> dict[str, str]:
    """Give the versions that are written into a feature file: Python's and those of packages."""
    return {"python": platform.python_version(), **versions(_RECORDED)}


@contextmanager
def open_output(request: Request, say: Callable[[str], None]) -> Iterator[Output]:
    """Open the output of a run, locked by its journal.

    What the disk or Ctrl-C says inside becomes one line that says how to go on.

    Parameters
    ----------
    request : Request
    say : callable
        Called with what the user should know at once, a line each.

    Raises
    ------
    InputError, FileRefused, CannotContinue
        What is there is not this run's, or can't be used, or can't be written.
    """
    in_folder = request.shard_rows is not None
    with ExitStack() as stack:
        with stopping(request.path, of_folder=in_folder):
            journal = stack.enter_context(
                Journal(request.path, overwrite=request.overwrite, of_folder=in_folder)
            )
        stack.enter_context(stopping(request.path, journal, of_folder=in_folder))
        dtype = fit_journal(journal, request.vectors, request.dtype, overwrite=request.overwrite)
        request = replace(request, dtype=dtype)
        kind = ShardFolder if in_folder else SingleFile
        output = stack.enter_context(closing(kind(request, journal, say)))
        for line in journal.remarks():
            say(line)
        output.builder = stack.enter_context(ShardBuilder(request.path, journal))
        yield output


class Output(ABC):
    """The output of one run; made by `open_output`.

    Attributes
    ----------
    request : Request
        With the dtype that an interrupted run was begun with.
    journal : Journal
    builder : ShardBuilder
    """

    builder: ShardBuilder

    def __init__(self, request: Request, journal: Journal, say: Callable[[str], None]) -> None:
        self.request, self.journal = request, journal
        self._say = say
        self._existing: dict[int, Path] = {}
        self._like: Shard | None = None  # what a shard of this encoder says of itself
        self._store: FeatureStore | None = None
        self._encoding: Encoding | None = None
        self._number = 0
        self._changed = False
        self._taken_over = False
        self._look_around()

    @property
    def precision(self) -> str | None:
        """`float32`, `half` or `int8`, where vectors are there."""
        return None if self._like is None else self._like.vectors.precision

    @property
    def rows(self) -> int:
        """Rows so far, of all shards."""
        return self.builder.first_row + self.builder.n_rows

    @property
    def begun(self) -> bool:
        """Whether there was anything to write."""
        return self._encoding is not None

    def existing_bytes(self) -> int:
        """Count the bytes that are kept of earlier runs: shards and the journal."""
        return sum(path.stat().st_size for path in [*self._kept(), self.journal.path])

    def close(self) -> None:
        """Close what is open."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def begin(self, encoding: Encoding) -> None:
        """Begin the first shard."""
        self._encoding = encoding
        self._make_way(encoding)
        self._open()

    def next_shard(self, label_names: Sequence[str] | None) -> None:
        """Finish the shard at work, and go on to the next one."""
        if self.builder.n_rows:  # or all were rejects, and the next rows are the first
            self.finish(label_names, last=False)
            self.builder.settle(self._path(self._number))
            self._number += 1
            self._open()

    def add_texts(self, new: NewTexts) -> None:
        """Add texts to the shard at work that the model is through with."""
        places = new.places.result()
        rows = np.flatnonzero(places["finite"])
        self.builder.add_texts(
            [new.digests[row] for row in rows],
            [new.n_tokens[row] for row in rows],
            [new.truncated[row] for row in rows],
            places[rows],
        )

    def add_rows(self, window: Window) -> None:
        """Add rows to the shard at work; their texts are known."""
        if not window.tweets:
            return
        slots = self.builder.slots(window.digests)
        self.builder.add_rows(
            [tweet.id for tweet in window.tweets],
            [tweet.label for tweet in window.tweets],
            [slots[digest] for digest in window.digests],
            [not text.strip() for text in window.texts],
            [tweet.repaired for tweet in window.tweets],
        )
        for tweet, digest in zip(window.tweets, window.digests, strict=True):
            self._content.update(json.dumps([tweet.id, tweet.label]).encode() + digest)

    def finish(self, label_names: Sequence[str] | None, *, last: bool) -> None:
        """Put the shard at work in its place, unless the one that is in it is the same."""
        path = self._path(self._number)
        if not self.builder.n_rows:
            raise InputError(
                f"no row for {path} can be used: their vectors are not finite, see the rejects; "
                "use another model, or a larger `shard_rows`"
            )
        part = self._part(last=last)
        existing = self._existing.get(self._number)
        if (
            self._store is not None
            and self._store.shards[0].part == part
            and self.builder.repeats(self._store, label_names)
        ):
            if existing != path and existing is not None:
                disk.rename(existing, path)
                disk.sync_folder(path.parent)
        else:
            self._changed = True
            self._make_room(path)
            self.builder.commit(path, replace(self._describe(), part=part), label_names)
            if existing is not None and existing != path:
                disk.unlink(existing)
            if not last:
                used = self.encoding.resumed > self._resumed_before
                self.journal.forget(0 if used else self._journal_start)
        if last:
            self._remove_beyond()
        self.close()

    @property
    def encoding(self) -> Encoding:
        """What encodes the texts of this run; there is one from `begin` on."""
        assert self._encoding is not None, "`begin` comes first"
        return self._encoding

    def outcome(self) -> str:
        """Give what became of the output: `written`, `extended` or `unchanged`."""
        if not self._changed:
            return "unchanged"
        return "extended" if self._taken_over else "written"

    def _open(self) -> None:
        """Take over what is at the place of the shard at work."""
        self._content = hashlib.sha256()  # of ids, labels and normalised texts, in order
        self._journal_start = self.journal.end
        self._resumed_before = self.encoding.resumed
        self._open_existing()
        if self._store is not None:
            self.builder.take_over(self._store)
            self._like = self._store.shards[0]
            self._taken_over = True

    def _describe(self) -> Shard:
        """Describe the shard at work, for its attributes."""
        encoder, like, asked = self.encoding.encoder, self._like, self.request.vectors
        if encoder is not None:
            views, precision = encoder.views, encoder.precision
            device, choice = encoder.device, encoder.choice
            if self.request.of_piece:  # the same bytes whoever makes it
                device, choice = device.partition(":")[0], choice.decided
            made: dict[str, Any] = {
                "device": device,
                "dtype": encoder.dtype,
                "choice": choice.to_dict(),
            }
        else:
            assert like is not None, "rows without a shard before them were encoded"
            views, precision = dict(like.vectors.views), str(like.vectors.precision)
            made = {name: like.provenance.get(name) for name in ("device", "dtype", "choice")}
        provenance: dict[str, Any] = {
            "frostline": __version__,
            "versions": recorded_versions(),
            "inputs": list(self.request.inputs),
            **made,
            "input_digest": self._content.hexdigest(),
            "extends_rows": self._store.n_rows if self._store is not None else 0,
        }
        return Shard(VectorSpec(asked.spec, views, precision, asked.store_dtype), [], provenance)

    @abstractmethod
    def _look_around(self) -> None:
        """Find what exists under the output's name, and refuse it if it does not fit this run."""

    @abstractmethod
    def _make_way(self, encoding: Encoding) -> None:
        """Remove what is to be replaced before anything is begun."""

    @abstractmethod
    def _kept(self) -> list[Path]:
        """List the files of earlier runs that need not be written again."""

    @abstractmethod
    def _path(self, number: int) -> Path:
        """Give the name of a shard."""

    @abstractmethod
    def _part(self, *, last: bool) -> Part | None:
        """Give the place of the shard at work in its folder."""

    @abstractmethod
    def _open_existing(self) -> None:
        """Open what is at the place of the shard at work, if it can be used."""

    @abstractmethod
    def _make_room(self, path: Path) -> None:
        """Prepare the place of a shard that is about to be written."""

    @abstractmethod
    def _remove_beyond(self) -> None:
        """Remove what lies behind the last shard."""


class SingleFile(Output):
    """An output that is one file."""

    def _look_around(self) -> None:
        path = self.request.path
        if path.exists() and not self.request.overwrite:
            self._existing = {0: path}
            self._store = open_previous(path, self.request.vectors)
            self._like = self._store.shards[0]

    def _make_way(self, encoding: Encoding) -> None:
        pass  # it is replaced at the end, in one go

    def _kept(self) -> list[Path]:
        return []  # it is written again as a whole

    def _path(self, number: int) -> Path:
        return self.request.path

    def _part(self, *, last: bool) -> Part | None:
        return None

    def _open_existing(self) -> None:
        pass  # it is open since `_look_around`

    def _make_room(self, path: Path) -> None:
        pass

    def _remove_beyond(self) -> None:
        pass


class ShardFolder(Output):
    """An output that is a folder of shards, each finished by itself."""

    def __init__(self, request: Request, journal: Journal, say: Callable[[str], None]) -> None:
        assert request.shard_rows is not None, "a folder has shards"
        self._shard_rows = request.shard_rows
        self._doomed: dict[int, Path] = {}  # to be removed before anything is begun
        super().__init__(request, journal, say)

    def _look_around(self) -> None:
        self._existing = existing_parts(self.request.path)
        if not self._existing:
            return
        if self.request.overwrite and self.journal.header is None:
            self._doomed, self._existing = self._existing, {}
            return
        try:
            self._check_existing()
        except InputError:
            if not self.request.overwrite:
                raise
            self.journal.clear()
            self._doomed, self._existing, self._like = self._existing, {}, None

    def _check_existing(self) -> None:
        """Refuse shards of another encoder, or cut in another way."""
        with suppress(FileRefused):  # one child for all of them; what is damaged is made again
            admission.admit(list(self._existing.values()))
        for path in self._existing.values():
            try:
                store = FeatureStore(path)
            except FileRefused:
                continue
            with store:
                check_same(store, self.request.vectors)
                part = store.shards[0].part
                if part is None or part.shard_rows != self._shard_rows:
                    cut = "by itself" if part is None else f"with `shard_rows={part.shard_rows}`"
                    raise InputError(
                        f"{path} was made {cut}, not with `shard_rows={self._shard_rows}`: "
                        f"give that, or {CURE}"
                    )
                self._like = self._like or store.shards[0]

    def _make_way(self, encoding: Encoding) -> None:
        if self._doomed:
            encoding.load()  # before anything is lost
            # The last first: no reader takes the rest for all of it.
            for path in reversed(self._doomed.values()):
                disk.unlink(path)
            disk.sync_folder(self.request.path)
            encoding.begin()

    def _kept(self) -> list[Path]:
        return list(self._existing.values())

    def _path(self, number: int) -> Path:
        return part_path(self.request.path, number)

    def _part(self, *, last: bool) -> Part | None:
        return Part(self._number, self.builder.first_row, self._shard_rows, last)

    def _open_existing(self) -> None:
        path = self._existing.get(self._number)
        if path is not None:
            try:
                check_seal(path)
                self._store = FeatureStore(path)
            except FileRefused as error:
                self._say(f"{error}; it is made again")

    def _make_room(self, path: Path) -> None:
        """Make the folder; and where shards come behind this one, see that nobody reads both."""
        folder = path.parent
        if not folder.is_dir():
            disk.mkdir(folder)
            disk.sync_folder(folder.parent)
        top = max(self._existing, default=-1)
        if top > self._number and self._existing[top] == part_path(folder, top):
            disk.rename(self._existing[top], aside_path(folder, top))
            disk.sync_folder(folder)
            self._existing[top] = aside_path(folder, top)

    def _remove_beyond(self) -> None:
        """Remove the shards of a longer input, the last first, and what is set aside."""
        beyond = [path for number, path in self._existing.items() if number > self._number]
        self._changed |= bool(beyond)
        # A run that was killed may have left one aside that has its place again.
        surplus = [*leftovers(self.request.path), *reversed(beyond)]
        for path in surplus:
            disk.unlink(path)
        if surplus:
            disk.sync_folder(self.request.path)


def check_output(path: Path, shard_rows: int | None, inputs: Sequence[str | Path | None]) -> None:
    """Refuse an output that can't take its name, and a file for a folder or the other way round."""
    if path.name in ("", ".."):
        raise InputError(
            f"output {str(path)!r} has no name of its own; give a file's, or with `shard_rows` "
            "a folder's"
        )
    if shard_rows is None:
        if path.is_dir():
            raise InputError(
                f"{path} is a folder; give the name of a file in it, or `shard_rows` for a folder "
                "of shards"
            )
        check_replaceable(path, inputs)
    elif shard_rows < 1:
        raise InputError(f"shard rows is {shard_rows}; it must be at least 1")
    elif path.is_symlink() or not path.is_dir():
        check_replaceable(path, inputs, of_folder=True)
        if path.exists() and not path.is_dir():  # another job may make it meanwhile
            raise InputError(
                f"{path} is a file; `shard_rows` makes a folder: give another `output`, or leave "
                "it out"
            )
    check_replaceable(rejects_path(path), inputs)
