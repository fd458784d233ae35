"""Find the texts that pieces share and encode each once: the steps before the pieces are made.

    digests   each piece: read it, and write down its different texts
    owners    each range, once all digests are there: who owns what others have too
    vectors   each piece, once all ranges are done: encode what others take of it

Then a piece is made like any other, but for the texts that it shares: their vectors are given to it
(`given_to`), once their owners have done the third step. No owner waits for another: that is why
shared texts are encoded first and by themselves, and not with the pieces that own them. Any job may
do any step, at any time and again; what is done is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.base.storage import exists
from features.extraction.encoding import Encoding, Given, GivenTexts, NewTexts, worker_thread
from features.extraction.journal import Journal
from features.extraction.windows import Window, read_windows
from features.pieces.duplicates.digests import DIGEST, distinct, write_digests
from features.pieces.duplicates.folder import Folder
from features.pieces.duplicates.owners import TAKE, read_of_piece, write_owners
from features.pieces.duplicates.vectors import SharedVectors, SharedWriter, write_shared
from features.pieces.piece import Piece
from features.pieces.scratch import scratch, work_folder
from features.spec.normalize import normalizer
from features.spec.vector_spec import VectorSpec
from features.store.joined.layout import ranges

if TYPE_CHECKING:
    from features.pieces.make_piece import PieceMaker


def prepare(maker: PieceMaker, pieces: Sequence[Piece]) -> str | None:
    """Do the steps for some pieces, as far as they can be done now.

    Returns
    -------
    str or None
        What others must have done before any of the pieces can be made; None if nothing.

    Raises
    ------
    InputError, FileRefused, CannotContinue
    """
    folder = maker.duplicates
    folder.make()
    by_number = {piece.number: piece for piece in pieces}
    for number in folder.without("digests", by_number):
        write_piece_digests(maker, by_number[number])
    if lacking := folder.without("digests", range(folder.pieces)):
        return f"written down the texts of {named(lacking)}"
    for number in in_turn(len(folder.ranges()), list(by_number), folder.pieces):
        if not exists(folder.takes(number)):  # jobs that run at the same time share them out
            find_owners(maker, number)
    for number in folder.without("vectors", by_number):
        encode_shared(maker, by_number[number])
    return None


def in_turn(n_ranges: int, mine: Sequence[int], n_pieces: int) -> list[int]:
    """Order the ranges for a job, so that jobs which begin together begin with different ones.

    Examples
    --------
    >>> in_turn(6, [1, 4, 7], 9)  # the second of three jobs
    [2, 3, 4, 5, 0, 1]
    """
    jobs = max(1, n_pieces // max(1, len(mine)))
    first = n_ranges * (min(mine, default=0) % jobs) // jobs
    return [*range(first, n_ranges), *range(first)]


def named(pieces: Sequence[int]) -> str:
    """Name pieces by their numbers, which ascend.

    Examples
    --------
    >>> named([3]), named([0, 1, 2, 7])
    ('piece 3', 'pieces 0-2, 7')
    """
    return f"piece{'s' * (len(pieces) > 1)} {ranges(pieces)}"


def write_piece_digests(maker: PieceMaker, piece: Piece) -> None:
    """Write down the different texts of a piece."""
    windows = _windows(maker, piece)
    digests = distinct(window.digests for window in windows)
    write_digests(maker.duplicates.digests(piece.number), digests)


def find_owners(maker: PieceMaker, number: int) -> None:
    """Find who owns the shared texts of a range; the digests of all pieces must be there."""
    folder = maker.duplicates
    files = [folder.digests(piece) for piece in range(folder.pieces)]
    write_owners(folder.takes(number), folder.shared(number), folder.ranges()[number], files)


def encode_shared(maker: PieceMaker, piece: Piece) -> None:
    """Encode the texts that a piece owns and others take; all ranges must be done."""
    folder = maker.duplicates
    target = folder.vectors(piece.number)
    files = [folder.shared(number) for number in range(len(folder.ranges()))]
    shared, ends = read_of_piece(files, DIGEST, piece.number)
    if not len(shared):  # a file all the same, as it says that the step is done
        with write_shared(target, maker.vectors, shared, ends):
            return
    with scratch(work_folder(folder.store), piece.number, maker.order.digest) as place:
        if exists(target):  # another process was faster
            return
        with Journal(place / "shared") as journal, worker_thread(Event()) as worker:
            dtype = maker.vectors.store_dtype
            encoding = Encoding(maker.load, journal, dtype, worker, maker.seconds, _ignore)
            encoding.begin()
            assert journal.header is not None, "`begin` has written it"
            with write_shared(target, journal.header.vectors, shared, ends) as writer:
                for window in _windows(maker, piece):
                    _encode_window(encoding, journal, writer, window)
            maker.count(encoding)


def ready_of(
    maker: PieceMaker, pieces: Sequence[Piece]
) -> tuple[list[Piece], list[Piece], list[int]]:
    """Tell which pieces can be made now; all ranges must be done.

    Returns
    -------
    ready, waiting : lists of Piece
        Those whose owners have encoded what others take, and the rest.
    owners : list of int
        The pieces that the rest waits for.
    """
    folder = maker.duplicates
    if not maker.shares:
        return list(pieces), [], []
    lacking = set(folder.without("vectors", range(folder.pieces)))
    ready: list[Piece] = []
    waiting: list[Piece] = []
    owners: set[int] = set()
    for piece in pieces:
        takes = _takes_of(folder, piece.number)[0] if lacking else np.empty(0, TAKE)
        waits_for = lacking.intersection(takes["owner"].tolist())
        (waiting if waits_for else ready).append(piece)
        owners |= waits_for
    return ready, waiting, sorted(owners)


@contextmanager
def given_to(folder: Folder, piece: int, vectors: VectorSpec, place: Path) -> Iterator[Given]:
    """Give the vectors that a piece takes, while it is made; its owners must have theirs.

    Parameters
    ----------
    folder : Folder
    piece : int
    vectors : VectorSpec
        What they are to be.
    place : Path
        A folder for what is fetched.
    """
    place.mkdir(exist_ok=True)
    takes, ends = _takes_of(folder, piece)
    with SharedVectors(takes, ends, folder.vectors, vectors, place / "shared") as given:
        yield given


def _takes_of(folder: Folder, piece: int) -> tuple[Array, npt.NDArray[np.int64]]:
    files = [folder.takes(number) for number in range(len(folder.ranges()))]
    return read_of_piece(files, TAKE, piece)


def _windows(maker: PieceMaker, piece: Piece) -> Iterator[Window]:
    """Read a piece as it is read when it is made."""
    normalise = normalizer(maker.vectors.spec.normalizer)
    return read_windows(maker.reader(piece), normalise, maker.seconds, None, maker.window_rows)


def _encode_window(
    encoding: Encoding, journal: Journal, writer: SharedWriter, window: Window
) -> None:
    """Encode those texts of a window that are wanted, and write their vectors."""
    wanted = writer.wanted(window.digests)
    texts = {
        digest: text
        for digest, text, one in zip(window.digests, window.texts, wanted, strict=True)
        if one
    }
    if texts:
        writer.add(_vectors_of(journal, encoding.submit(texts)))


def _vectors_of(journal: Journal, new: NewTexts) -> GivenTexts:
    """Read what the model has made of texts."""
    places = new.places.result()
    assert journal.header is not None, "there are places, so there are vectors"
    vectors = {view: journal.read(view, places) for view in journal.header.vectors.views}
    return GivenTexts(new.digests, new.n_tokens, new.truncated, vectors)


def _ignore(texts: int) -> None:
    """Show no progress within a piece: these steps are short."""
