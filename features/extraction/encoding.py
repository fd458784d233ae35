"""Encode the new texts of a run, in a thread of the model's own, and keep their vectors.

In come windows of normalised texts; out come the same windows once the journal holds the vectors of
their texts, with the places of those that were new. Texts that are known or whose vectors are given
from elsewhere, and batches that the journal holds already, are not encoded again. It does not read
tweets, and writes nothing but the journal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floating
from features.extraction.journal import PLACE, Header, Journal, Places
from features.extraction.timing import clock
from features.extraction.windows import Window
from features.spec.vector_spec import VectorSpec

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.extraction.shard_builder import ShardBuilder
    from features.spec.tokenizer import Tokens


@dataclass(frozen=True)
class NewTexts:
    """Texts on their way through the model.

    Attributes
    ----------
    digests, n_tokens, truncated : lists
        One of each a text.
    places : Future of Places
        Where the journal will have their vectors.
    """

    digests: list[bytes]
    n_tokens: list[int]
    truncated: list[bool]
    places: Future[Places]


@dataclass(frozen=True)
class GivenTexts:
    """Texts that were encoded elsewhere, with the same encoder at the same precision.

    Attributes
    ----------
    digests, n_tokens, truncated : lists
        One of each a text.
    vectors : mapping of str to array (N, D)
        For each view, as they are stored; not finite where the text has none.
    """

    digests: list[bytes]
    n_tokens: list[int]
    truncated: list[bool]
    vectors: Mapping[str, Floating]


class Given(Protocol):
    """Vectors that need not be made here."""

    def find(self, digests: Sequence[bytes]) -> GivenTexts | None:
        """Give those of these texts that are known here; None where none is."""


class NothingGiven:
    """No vectors: every text is encoded here."""

    def find(self, digests: Sequence[bytes]) -> None:
        """Find nothing."""


class Encoding:
    """The encoder of a run, made when it is first needed, and its journal.

    Parameters
    ----------
    make : callable
        Gives the encoder.
    journal : Journal
        Where vectors go; what it has is not encoded again.
    store_dtype : str
        Of the vectors on disk.
    worker : ThreadPoolExecutor
        The thread of the model.
    seconds : dict
        Times, part by part.
    report : callable
        Called after each batch with the texts of a window that are done.
    given : Given
        Texts that are not to be encoded here.

    Attributes
    ----------
    encoder : FrozenEncoder or None
        None until a text is new.
    encoded, resumed, tokens : int
        Texts that it read, texts of its own that the journal had, tokens that it read.
    unusable : set of bytes
        Digests of texts whose vectors are not finite, in float32 too.
    """

    def __init__(
        self,
        make: Callable[[], FrozenEncoder],
        journal: Journal,
        store_dtype: str,
        worker: ThreadPoolExecutor,
        seconds: dict[str, float],
        report: Callable[[int], None],
        given: Given = NothingGiven(),  # noqa: B008 - it holds nothing
    ) -> None:
        self.encoder: FrozenEncoder | None = None
        self.encoded = self.resumed = self.tokens = 0
        self.unusable: set[bytes] = set()
        self._make = make
        self._journal = journal
        self._store_dtype = store_dtype
        self._worker = worker
        self._seconds = seconds
        self._report = report
        self._given = given

    def load(self) -> FrozenEncoder:
        """Give the encoder, made once."""
        if self.encoder is None:
            with clock(self._seconds, "load"):
                self.encoder = self._make()
        return self.encoder

    def begin(self) -> FrozenEncoder:
        """Give the encoder, and say in the journal what its vectors are, if it is not said."""
        encoder = self.load()
        vectors = VectorSpec(encoder.spec, encoder.views, encoder.precision, self._store_dtype)
        self._journal.begin(Header(vectors, encoder.dtype, encoder.choice))
        return encoder

    def through(
        self, windows: Iterable[Window], builder: ShardBuilder
    ) -> Iterator[tuple[Window, NewTexts | None]]:
        """Give windows of a shard once the model is through with the texts that are new in them.

        The next window is tokenised, and in the model, while one is handled by whoever takes them.
        """
        waiting: tuple[Window, NewTexts | None] | None = None
        for window in windows:
            known = self.unusable | set(builder.slots(window.digests))
            if waiting is not None and waiting[1] is not None:
                known.update(waiting[1].digests)
            texts = {
                digest: text
                for digest, text in zip(window.digests, window.texts, strict=True)
                if digest not in known
            }
            new = self.submit(texts) if texts else None
            if waiting is not None:
                yield _done(*waiting)
            waiting = window, new
        if waiting is not None:
            yield _done(*waiting)

    def submit(self, texts: Mapping[bytes, str]) -> NewTexts:
        """Tokenise normalised texts, by digest, and hand them to the model, but those given."""
        encoder = self.begin()
        given = self._given.find(list(texts))
        if given is not None:
            known = set(given.digests)
            texts = {digest: text for digest, text in texts.items() if digest not in known}
        with clock(self._seconds, "tokenise"):
            tokens = encoder.tokenize(list(texts.values()))
        digests = list(texts)
        if given is None:
            places = self._worker.submit(self._encode, encoder, digests, tokens)
            return NewTexts(digests, tokens.lengths, tokens.truncated, places)
        return NewTexts(
            [*digests, *given.digests],
            [*tokens.lengths, *given.n_tokens],
            [*tokens.truncated, *given.truncated],
            self._worker.submit(self._encode_others, encoder, digests, tokens, given),
        )

    def _encode_others(
        self, encoder: FrozenEncoder, digests: list[bytes], tokens: Tokens, given: GivenTexts
    ) -> Places:
        """Run the batches of the texts that were not given, and keep those that were."""
        kept = self._journal.find(given.digests)
        if kept is None:
            kept = self._journal.append(given.digests, given.vectors)
        self.unusable.update(given.digests[row] for row in np.flatnonzero(~kept["finite"]))
        own = self._encode(encoder, digests, tokens) if digests else np.zeros(0, PLACE)
        return np.concatenate([own, kept])

    def _encode(self, encoder: FrozenEncoder, digests: list[bytes], tokens: Tokens) -> Places:
        """Run the batches that the journal lacks, and give the places of all texts there."""
        places = np.zeros(len(digests), PLACE)
        plan = encoder.plan(tokens)
        found = {}
        for number, rows in enumerate(plan):
            kept = self._journal.find([digests[row] for row in rows])
            if kept is not None:
                found[number] = places[rows] = kept
                self.resumed += len(rows)
        done = sum(map(len, found.values()))
        with clock(self._seconds, "forward"):
            for rows, vectors in encoder.run_batches(tokens, plan, skip=found):
                places[rows] = self._journal.append([digests[row] for row in rows], vectors)
                self.encoded += len(rows)
                self.tokens += sum(len(tokens.ids[row]) for row in rows)
                done += len(rows)
                self._report(done)
            for row in np.flatnonzero(~places["finite"]):
                places[row] = self._encode_alone(encoder, digests[row], tokens.ids[row])
        self.unusable.update(digests[row] for row in np.flatnonzero(~places["finite"]))
        return places

    def _encode_alone(
        self, encoder: FrozenEncoder, digest: bytes, ids: npt.NDArray[np.int32]
    ) -> Places:
        """Give the place of a text that was not finite among others, run again."""
        kept = self._journal.find([digest])
        if kept is None or not kept["finite"].all():
            vectors = encoder.run_alone([ids])
            kept = self._journal.append([digest], vectors)
        place: Places = kept[0]
        return place


def _done(window: Window, new: NewTexts | None) -> tuple[Window, NewTexts | None]:
    """Wait for the model."""
    if new is not None:
        new.places.result()
    return window, new


@contextmanager
def worker_thread(stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Give a thread for the model that ends when the run does, at the next batch."""
    worker = ThreadPoolExecutor(1, "encode")
    patient = True
    try:
        yield worker
    except KeyboardInterrupt:
        patient = False  # a batch of a large model takes seconds: what is in the model is lost
        raise
    finally:
        stopped.set()
        worker.shutdown(wait=patient, cancel_futures=True)
