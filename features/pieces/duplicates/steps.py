"""Find the texts that pieces share and encode each once: the steps before the pieces are made.

    digests   each piece: read it, and write down its different texts
    ranges    once all digests are there: cut them into ranges
    owners    each range: who owns what others have too
    vectors   each piece, once all ranges are done: encode what others take of it

Then a piece is made like any other, but for the texts that it shares: their vectors are given to it
(`given_to`). No owner waits for another: that is why shared texts are encoded first and by
themselves, and not with the pieces that own them. Jobs share the tasks of a step out (`claims`):
each does those of its own pieces, and then what nobody has begun, so one job alone comes to the end
of the steps too, and of many that begin together each does its share. What is done is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.base.storage import Target, exists, name_of
from features.extraction.encoding import Encoding, Given, GivenTexts, NewTexts, worker_thread
from features.extraction.journal import Journal
from features.extraction.summary import Progress
from features.extraction.windows import Window, read_windows
from features.pieces.duplicates.claims import share_out
from features.pieces.duplicates.digests import DIGEST, distinct, write_digests
from features.pieces.duplicates.folder import Folder
from features.pieces.duplicates.owners import TAKE, read_of_piece, write_owners
from features.pieces.duplicates.vectors import SharedVectors, SharedWriter, write_shared
from features.pieces.effort import Meter
from features.pieces.piece import Piece
from features.pieces.scratch import scratch, work_folder
from features.spec.normalize import normalizer
from features.spec.vector_spec import VectorSpec
from features.store.joined.join import finished_pieces

if TYPE_CHECKING:
    from features.pieces.make_piece import PieceMaker

# What is done in the steps, as it is shown.
READING, COMPARING, ENCODING = "reading texts", "comparing texts", "encoding repeated texts"


def prepare(
    maker: PieceMaker,
    pieces: Sequence[Piece],
    mine: Sequence[int],
    meter: Meter,
    say: Callable[[str], None],
) -> None:
    """Do the steps together with all other jobs, until the pieces can be made.

    Parameters
    ----------
    maker : PieceMaker
    pieces : sequence of Piece
        All of them.
    mine : sequence of int
        Those that this job is to make, and that are not made yet.
    meter : Meter
    say : callable
        Called with what the user should know.

    Raises
    ------
    InputError, FileRefused, CannotContinue
        What is done stays.
    """
    folder = maker.duplicates
    folder.make()
    turn = [*mine, *(n for n in in_turn(len(pieces), mine, len(pieces)) if n not in set(mine))]

    def share(doing: str, tasks: dict[Target, Callable[[], None]]) -> bool:
        meter.begin(doing, len(tasks))
        return share_out(
            folder.place,
            {name_of(target): task for target, task in tasks.items()},
            is_needless=lambda: finished_pieces(folder.store).issuperset(mine),
            advance=meter.reach,
            on_wait=lambda name: say(
                f"this job waits for {name} of another one, and does it if that one is not there "
                "any more"
            ),
        )

    def at_pieces(step: Callable[[PieceMaker, Piece], None], to: Callable[[int], Target]) -> Any:
        return {to(number): partial(step, maker, pieces[number]) for number in turn}

    if not share(READING, at_pieces(write_piece_digests, folder.digests)):
        return
    if not share(COMPARING, {folder.borders: partial(folder.cut, maker.memory)}):
        return
    numbers = in_turn(len(folder.ranges()), mine, len(pieces))
    if share(COMPARING, {folder.takes(n): partial(find_owners, maker, n) for n in numbers}):
        share(ENCODING, at_pieces(encode_shared, folder.vectors))


def in_turn(n_tasks: int, mine: Sequence[int], n_pieces: int) -> list[int]:
    """Order the tasks for a job, so that jobs which begin together begin with different ones.

    Examples
    --------
    >>> in_turn(6, [1, 4, 7], 9)  # the second of three jobs
    [2, 3, 4, 5, 0, 1]
    """
    jobs = max(1, n_pieces // max(1, len(mine)))
    first = n_tasks * (min(mine, default=0) % jobs) // jobs
    return [*range(first, n_tasks), *range(first)]


def write_piece_digests(maker: PieceMaker, piece: Piece) -> None:
    """Write down the different texts of a piece."""
    windows = _windows(maker, piece)
    digests = distinct(window.digests for window in windows)
    write_digests(maker.duplicates.digests(piece.number), digests)


def find_owners(maker: PieceMaker, number: int) -> None:
    """Find who owns the shared texts of a range; the digests of all pieces must be there."""
    folder = maker.duplicates
    ranges = folder.ranges(maker.memory)
    files = [folder.digests(piece) for piece in range(folder.pieces)]
    write_owners(folder.takes(number), folder.shared(number), ranges[number], files)


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
    """Read a piece as it is read when it is made, and tell how far that is."""
    normalise = normalizer(maker.vectors.spec.normalizer)
    reader, rows = maker.reader(piece), 0
    for window in read_windows(reader, normalise, maker.seconds, None, maker.window_rows):
        yield window
        rows += len(window.texts)
        maker.show(Progress(rows, reader.fraction_read()))


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
    """Leave the batches of a window aside: what is shown are windows."""
