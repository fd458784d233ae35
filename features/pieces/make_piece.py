"""Make pieces of a store: a piece in, its receipt out, done twice or ten times as done once.

A piece is made in a folder of its own (`scratch.py`) by the run of a single machine
(`features/extraction/run.py`), with its journal and its shards. Then the folder takes its name in
the store, whole, and is never changed; then the receipt is created, which is the commit point.
Whoever comes later finds the receipt, or makes the missing one of what has its name already. The
encoder is loaded once, for the first piece that needs it. Which pieces are made is others' to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from features.backends.choice import Choice, Runtime
from features.base import disk
from features.base.remote.urls import is_url
from features.base.storage import Target, local_path
from features.errors import (
    CannotContinue,
    FileRefused,
    InputError,
    judged_rejects,
    system_reason,
)
from features.extraction.disk_space import shortage, vector_bytes
from features.extraction.encoding import Encoding, Given, NothingGiven
from features.extraction.output import Output, Request, recorded_versions
from features.extraction.run import Told, run
from features.extraction.summary import Progress
from features.extraction.timing import no_seconds
from features.pieces.choice import agreed_encoder
from features.pieces.duplicates.folder import Folder
from features.pieces.duplicates.ranges import MEMORY
from features.pieces.duplicates.steps import given_to
from features.pieces.effort import Effort, EncoderUsed
from features.pieces.order import Order
from features.pieces.piece import Piece, reader_of
from features.pieces.receipts import describe, put_piece, put_receipt, read_receipt
from features.pieces.scratch import scratch, work_folder
from features.spec.checkpoint import Checkpoint, find_checkpoint
from features.spec.unused_parts import unused_parts
from features.spec.vector_spec import VectorSpec, precision_of
from features.store.joined.layout import REJECTS, piece_folder
from features.store.joined.receipt import Receipt
from features.tweets.columns import Columns
from features.tweets.findings import Findings
from features.tweets.reader import TweetReader
from features.tweets.rejects import RejectLog
from features.tweets.table import InputFormat
from features.version import __version__

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder


@dataclass(frozen=True)
class MakePieces:
    """The work of making pieces of a store, to be given to any process.

    Attributes
    ----------
    store : path or URL
    order : Order
        As the store has it.
    model, revision : str
        Where the encoder's model lies.
    runtime : Runtime
        What of how it is run was decided by hand.
    columns : Columns
    written : InputFormat
    strict : bool
        Whether the first row that can't be used ends the work.
    memory : int
        Bytes in which texts of several pieces are compared, where they are encoded once in all.
    """

    store: Target
    order: Order
    model: str
    revision: str | None
    runtime: Runtime
    columns: Columns
    written: InputFormat
    strict: bool = False
    memory: int = MEMORY

    @contextmanager
    def open(self, told: Told = Told()) -> Iterator[PieceMaker]:  # noqa: B008 - it is frozen
        """Give what makes pieces, one at a time, and holds the model meanwhile."""
        yield PieceMaker(self, told)


class PieceMaker:
    """Makes pieces one by one; made by `MakePieces.open`.

    Parameters
    ----------
    work : MakePieces
    told : Told

    Attributes
    ----------
    encoder : FrozenEncoder or None
        None until a text is new.
    findings : Findings
        Of the pieces that were read.
    seconds : dict of str to float
        See `no_seconds`.
    made, encoded, resumed, unique, tokens : int
        Pieces that were read; of them, texts that the encoder read, texts that a run which was
        stopped had left, distinct texts, and tokens that the encoder read.
    expected : int
        Pieces that are still to be made, this one among them, for the space that the disk needs.
    order : Order
        What all pieces of the store have in common.
    vectors : VectorSpec
        What is asked for.
    window_rows : int
    shares : bool
        Whether a text that several pieces have is encoded once.
    duplicates : Folder
        Where such texts are written down.
    memory : int
        Bytes in which they are compared.
    """

    def __init__(self, work: MakePieces, told: Told) -> None:
        self.encoder: FrozenEncoder | None = None
        self.begin()
        self.expected = 1
        self._work, self._told = work, told
        self.order, options = work.order.of_store, work.order.options
        self.window_rows: int = options["window_rows"]
        self.vectors = VectorSpec(
            work.order.spec,
            dict.fromkeys(work.order.views, 0),
            precision_of(options["dtype"]),
            options["store_dtype"],
        )
        self.shares = options["duplicates"] == "all"
        self.duplicates = Folder(work.store, work.order.pieces)
        self.memory = work.memory

    def begin(self) -> None:
        """Count from 0 again."""
        self.findings, self.seconds = Findings(), no_seconds()
        self.made = self.encoded = self.resumed = self.unique = self.tokens = 0

    @property
    def effort(self) -> Effort:
        """What it has taken so far."""
        used = EncoderUsed.of(self.encoder)
        return Effort(
            self.made,
            self.encoded,
            self.resumed,
            self.unique,
            self.tokens,
            self.findings,
            self.seconds,
            used,
        )

    def __call__(self, piece: Piece) -> Receipt:
        """Make a piece, unless it is made, and give its receipt.

        Raises
        ------
        InputError, FileRefused, CannotContinue
        """
        store = self._work.store
        found = read_receipt(store, self.order, piece.number)
        if found is not None:
            return found
        try:
            with (
                writing(store),
                scratch(work_folder(store), piece.number, self.order.digest) as folder,
            ):
                return read_receipt(store, self.order, piece.number) or self._commit(piece, folder)
        except InputError:
            # Whoever was faster may have finished the store, and removed what this takes of others.
            found = read_receipt(store, self.order, piece.number)
            if found is None:
                raise
            return found

    def _commit(self, piece: Piece, folder: Path) -> Receipt:
        store, order, say = self._work.store, self.order, self._told.say
        place = piece_folder(store, piece.number)
        # Of a server, files appear one by one: what is there may be a part.
        if is_url(store) or not local_path(place).exists():
            made = folder / "shards"
            self._run(piece, made)
            receipt = put_piece(store, order, piece.number, made, say)
        else:  # killed before the receipt, or another process is just there
            receipt = describe(order, piece.number, local_path(place))
        return put_receipt(store, order, receipt, folder, say)

    def reader(self, piece: Piece) -> TweetReader:
        """Give the reader of a piece."""
        return reader_of(piece, self._work.columns, self._work.written)

    def show(self, now: Progress) -> None:
        """Show how far a piece is."""
        if self._told.progress is not None:
            self._told.progress(now)

    def count(self, encoding: Encoding) -> None:
        """Count what was encoded."""
        self.encoded += encoding.encoded
        self.resumed += encoding.resumed
        self.tokens += encoding.tokens

    def _run(self, piece: Piece, output: Path) -> None:
        """Write the shards of a piece; texts that it shares with others are given, if asked for."""
        if self.shares:
            place = output.with_name("given")
            with given_to(self.duplicates, piece.number, self.vectors, place) as given:
                self._write(piece, output, given)
        else:
            self._write(piece, output, NothingGiven())

    def _write(self, piece: Piece, output: Path, given: Given) -> None:
        """Write the shards of a piece, and its rejects beside them."""
        work = self._work
        reader = self.reader(piece)
        request = Request(
            output,
            self.vectors,
            work.order.options["dtype"],
            [Path(name).name for name in reader.files],
            work.order.shard_rows,
            overwrite=False,
            of_piece=True,
        )
        rejects = RejectLog(output, strict=work.strict, allowed=True)
        done = run(
            reader,
            request,
            rejects,
            partial(self._load, reader),
            told=self._told,
            seconds=self.seconds,
            window_rows=self.window_rows,
            given=given,
        )
        self.made += 1
        self.count(done.encoding)
        self.unique += done.unique
        self.findings.add(reader.findings)
        if rejects.count:
            assert rejects.path is not None, "they are of a file"
            disk.mkdir(output)
            disk.rename(rejects.path, output / REJECTS)
            warning = judged_rejects(
                rejects.count, reader.rows_read, f"they are in {REJECTS} of its piece", allowed=True
            )
            if warning is not None:
                self._told.say(f"piece {piece.number}: {warning}")

    def _load(self, reader: TweetReader, target: Output) -> FrozenEncoder:
        if self.encoder is None:
            self._warn_of_disk(reader, target)
        return self.load()

    def load(self) -> FrozenEncoder:
        """Give the encoder, loaded once."""
        if self.encoder is None:
            work = self._work
            here = {"frostline": __version__, **recorded_versions()}
            self.encoder = agreed_encoder(work.store, self._load_as, here, self._told.say)
            lines = [unused_parts(self._checkpoint, self.encoder.spec), self.encoder.remark]
            for line in filter(None, lines):
                self._told.say(line)
        return self.encoder

    def _load_as(self, choice: Choice | None) -> FrozenEncoder:
        from features.encoder.encoder import (
            FrozenEncoder,
        )  # numpy and more: only where it is needed

        work = self._work
        return FrozenEncoder.from_spec(
            work.order.spec,
            lambda: self._checkpoint,
            pooling=list(work.order.views),
            runtime=replace(work.runtime, begun=choice, one_core=True),
        )

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        """Find the model here, and refuse another one than that of the order."""
        work, spec = self._work, self._work.order.spec
        found = find_checkpoint(work.model, revision=work.revision)
        digests = (found.weights_digest(), found.config_digest(), found.tokenizer_digest())
        if digests != (spec.weights, spec.config, spec.tokenizer):
            raise FileRefused(
                f"model {found.name!r} is not the one that {work.store} is made with: weights, "
                f"config or tokenizer are others; give this machine the same files"
            )
        return found

    def _warn_of_disk(self, reader: TweetReader, target: Output) -> None:
        """Say if the disk may be too small for the pieces that are still to be made here."""
        fraction = reader.fraction_read()
        warning = shortage(
            target.request.path.parent,
            rows_read=reader.rows_read,
            fraction_read=None if fraction is None else fraction / self.expected,
            vector_bytes=vector_bytes(
                self._checkpoint, self._work.order.views, target.request.vectors.store_dtype
            ),
            shard_rows=target.request.shard_rows,
            existing_bytes=target.existing_bytes(),
        )
        if warning is not None:
            self._told.say(warning)


@contextmanager
def writing(store: Target) -> Iterator[None]:
    """Say in one line what the disk says."""
    try:
        yield
    except OSError as error:
        reason = system_reason(error)
        raise CannotContinue(
            f"{store} cannot be written: {reason}; pieces that are finished stay, and the same "
            "command goes on"
        ) from error
