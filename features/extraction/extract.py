"""Stage one on one screen: read → normalise → encode what is new → write.

In come files of tweets, out goes a feature file (`features/store/format.py`), or a folder of shards
(`features/extraction/output.py`), and a summary, timed part by part. What is encoded (`features/extraction/encoding.py`) is in
the journal at once (`features/extraction/journal.py`), so a run that was stopped, however that came, goes on where
it was and ends in the same bytes: batches depend on the input and the encoder alone, and those that the
journal has are skipped. Parsing of options and printing are the command line's.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from features.backends.choice import Runtime
from features.base.paths import check_replaceable
from features.base.read_ahead import HEAVIEST, read_ahead
from features.errors import InputError
from features.extraction.disk_space import shortage, vector_bytes
from features.extraction.encoding import Encoding, NewTexts, worker_thread
from features.extraction.journal import Journal
from features.extraction.output import Asked, Shards
from features.extraction.resume import fit_journal, stopping
from features.extraction.shard_builder import ShardBuilder
from features.extraction.summary import ExtractSummary, Progress, summarise
from features.extraction.timing import clock, timed
from features.spec.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.spec.normalize import normalizer
from features.spec.pooling import DEFAULT_POOLING, parse_poolings
from features.store.format import DIGEST_BYTES
from features.tweets.reader import Reject, Tweet, TweetReader, characters
from features.tweets.rejects import RejectLog, rejects_path

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder

STORE_DTYPES = ("float16", "float32")
# Rows that are sorted by length together. More fill batches better and hold more in memory; beyond
# some thousands of tweets padding is below 2 %.
WINDOW = 8192
# The first one, which nothing else is done beside.
_FIRST_WINDOW = 2048


def extract(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    pooling: str | Sequence[str] = DEFAULT_POOLING,
    max_length: int | None = None,
    normalize: str = "tweeteval",
    dtype: str = "auto",
    store_dtype: str = "float16",
    device: str = "auto",
    backend: str = "auto",
    max_batch_tokens: int | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    labels: str | Path | None = None,
    mapping: str | Path | None = None,
    strict: bool = False,
    overwrite: bool = False,
    shard_rows: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExtractSummary:
    """Encode tweets once, and cache their vectors in an HDF5 file, or in a folder of them.

    If `output` is there already and of the same encoder, its vectors are used: with the same input
    nothing is done, with a longer one only new texts are encoded. A run that was interrupted or killed
    goes on where it was, if it is called again in the same way.

    Parameters
    ----------
    inputs : path or sequence of paths
        See `TweetReader`, as for `text_column` to `mapping`.
    output : path
        The feature file, or the folder of its shards.
    model, revision, pooling, max_length, normalize, dtype, device, backend, max_batch_tokens
        See `FrozenEncoder`.
    store_dtype : str
        `float16` or `float32`, for vectors on disk.
    strict : bool
        Stop at the first row that can't be used, instead of writing it to `<output>.rejects.jsonl`.
    overwrite : bool
        Replace `output`, whatever is there; of a folder, the shards. A run that does so goes on where
        it was, too.
    shard_rows : int, optional
        Write a folder of files of so many rows at most, `part-00000.h5`..., each finished by itself.
    progress : callable, optional
        Called after each batch.
    say : callable, optional
        Called with what the user should know at once, a line each.

    Raises
    ------
    InputError, FileRefused, CannotContinue

    Examples
    --------
    >>> from features import extract
    >>> summary = extract("examples/tweets.csv", "tweets.h5", pooling=["cls", "mean"])
    >>> summary.rows, summary.views
    (956, {'cls': 384, 'mean': 384})
    """
    started = perf_counter()
    seconds = dict.fromkeys(("load", "read", "tokenise", "forward", "write"), 0.0)
    output = Path(output)
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    views = [p.name for p in parse_poolings(pooling)]
    if store_dtype not in STORE_DTYPES:
        raise InputError(f"unknown store dtype {store_dtype!r}: choose {' or '.join(STORE_DTYPES)}")
    reader = TweetReader(
        paths,
        text_column=text_column,
        label_column=label_column,
        id_column=id_column,
        labels=labels,
        mapping=mapping,
    )
    _check_output(output, shard_rows, [*paths, labels, mapping])
    with clock(seconds, "load"):
        checkpoint = find_checkpoint(model, revision=revision)
        spec = make_spec(
            checkpoint,
            max_length=max_length,
            normalize=normalize,
            quantize="int8" if dtype == "int8" else "none",
        )
    normalise = normalizer(spec.normalizer)

    in_folder = shard_rows is not None
    with ExitStack() as stack:
        with stopping(output, of_folder=in_folder):
            journal = stack.enter_context(Journal(output, overwrite=overwrite, of_folder=in_folder))
        stack.enter_context(stopping(output, journal, of_folder=in_folder))
        names = [Path(path).name for path in paths]
        dtype = fit_journal(journal, spec, views, dtype, store_dtype, overwrite=overwrite)
        shards = Shards(
            output,
            shard_rows,
            Asked(spec, views, dtype, store_dtype),
            journal,
            names,
            overwrite=overwrite,
            say=say,
        )
        stack.enter_context(closing(shards))
        for line in journal.remarks():
            say(line)
        builder = stack.enter_context(ShardBuilder(output, journal))
        rejects = stack.enter_context(RejectLog(output, strict=strict))
        share = 0.0
        stopped = threading.Event()

        def report(of_window: int = 0) -> None:
            nonlocal share
            if stopped.is_set():
                raise CancelledError
            if progress is not None:
                # Reading runs ahead, so what is read is not yet what is done; and it is known in bytes,
                # so the share is held where later rows are shorter.
                rows = shards.rows + of_window
                read = reader.fraction_read()
                done = (rows + rejects.count) / max(1, reader.rows_read)
                share = max(share, min(1.0, (read or 0.0) * done))
                progress(Progress(rows, None if read is None else share))

        def load() -> FrozenEncoder:
            warning = shortage(
                output.parent,
                rows_read=reader.rows_read,
                fraction_read=reader.fraction_read(),
                vector_bytes=vector_bytes(checkpoint, views, store_dtype),
                shard_rows=shard_rows,
                there=shards.bytes_there(),
            )
            if warning is not None:
                say(warning)
            begun = None if journal.header is None else journal.header.choice
            runtime = Runtime(dtype, device, backend, max_batch_tokens, shards.precision, begun)
            return _load_encoder(checkpoint, spec, views, runtime, say)

        def write(waiting: _Waiting) -> None:
            if waiting.new is not None:
                waiting.new.places.result()
            with clock(seconds, "write"):
                if waiting.new is not None:
                    shards.add_texts(waiting.new)
                window = waiting.window.without(encoding.unusable)
                rejects.add(window.rejects)
                if window.tweets:
                    shards.add(window.tweets, window.texts, window.digests)
            report()

        # One window is read and the next one tokenised while a third is in the model, and what comes out
        # of it is written behind; but a shard is finished before anything of the next one begins.
        screened = _screen(reader, normalise, seconds, shard_rows)
        screened = stack.enter_context(closing(read_ahead(screened, 1)))
        worker = stack.enter_context(worker_thread(stopped))
        encoding = Encoding(load, journal, store_dtype, worker, seconds, report)
        waiting: _Waiting | None = None
        for window in screened:
            rejects.add(window.rejects)
            if not window.tweets:
                continue
            if waiting is None:
                shards.begin(builder, encoding)
            elif window.shard != waiting.window.shard:
                write(waiting)
                waiting = None
                if builder.n_rows:  # or all are rejects, and the next rows are the first
                    with clock(seconds, "write"):
                        shards.finish(reader.label_order, last=False)
                        shards.next()
            known = encoding.unusable | set(builder.slots(window.digests))
            if waiting is not None and waiting.new is not None:
                known.update(waiting.new.digests)
            texts = {
                digest: text
                for digest, text in zip(window.digests, window.texts, strict=True)
                if digest not in known
            }
            new = encoding.submit(texts) if texts else None
            if waiting is not None:
                write(waiting)
            waiting = _Waiting(window, new)
        if waiting is None:
            raise InputError(f"no usable tweet in {', '.join(map(str, paths))}{rejects.hint()}")
        write(waiting)
        with clock(seconds, "write"):
            rejects.settle()
            shards.finish(reader.label_order, last=True)
        unique = builder.n_unique()
        journal.remove()
    seconds["total"] = perf_counter() - started
    return summarise(output, shards.outcome(), unique, encoding, rejects, seconds)


@dataclass(frozen=True)
class _Window:
    """Rows that are handled together: what can be used, as normalised texts with digests, and the rest."""

    shard: int
    tweets: list[Tweet]
    rejects: list[Reject]
    texts: list[str]
    digests: list[bytes]

    def without(self, unusable: set[bytes]) -> _Window:
        """The rows whose texts have vectors; the others are all of its rejects."""
        good = [n for n, digest in enumerate(self.digests) if digest not in unusable]
        reason = "its vector is not finite, in float32 too"
        return _Window(
            self.shard,
            [self.tweets[n] for n in good],
            [
                tweet.rejected(reason)
                for tweet, digest in zip(self.tweets, self.digests, strict=True)
                if digest in unusable
            ],
            [self.texts[n] for n in good],
            [self.digests[n] for n in good],
        )


@dataclass(frozen=True)
class _Waiting:
    """A window whose new texts are in the model; None where it has none."""

    window: _Window
    new: NewTexts | None


def _screen(
    reader: TweetReader,
    normalise: Callable[[str], str],
    seconds: dict[str, float],
    shard_rows: int | None,
) -> Iterator[_Window]:
    for shard, rows in timed(_windows(reader, shard_rows), seconds, "read"):
        with clock(seconds, "read"):
            tweets = [row for row in rows if isinstance(row, Tweet)]
            texts = [normalise(tweet.text) for tweet in tweets]
            rejects = [row for row in rows if isinstance(row, Reject)]
            digests = [text_digest(text) for text in texts]
            window = _Window(shard, tweets, rejects, texts, digests)
        yield window


def _windows(
    rows: Iterable[Tweet | Reject], shard_rows: int | None
) -> Iterator[tuple[int, list[Tweet | Reject]]]:
    """Cut rows into windows, each with the number of its shard; none lies in two shards."""
    shard = usable = held = 0
    longest = min(_FIRST_WINDOW, WINDOW)
    window: list[Tweet | Reject] = []
    for row in rows:
        full = usable == shard_rows and isinstance(row, Tweet)
        if window and (full or len(window) == longest or held >= HEAVIEST):
            yield shard, window
            window, held, longest = [], 0, WINDOW
        if full:
            shard, usable = shard + 1, 0
        window.append(row)
        held += characters(row)
        usable += isinstance(row, Tweet)
    if window:
        yield shard, window


def text_digest(text: str) -> bytes:
    """Identify a normalised text: BLAKE2b-128 of its UTF-8."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _load_encoder(
    checkpoint: Checkpoint,
    spec: EncoderSpec,
    views: Sequence[str],
    runtime: Runtime,
    say: Callable[[str], None],
) -> FrozenEncoder:
    from features.encoder.encoder import (
        FrozenEncoder,  # numpy and more: only where something is encoded
    )

    encoder = FrozenEncoder.from_spec(spec, lambda: checkpoint, pooling=views, runtime=runtime)
    begun = runtime.begun
    by_hand = runtime.backend != "auto"
    if begun is not None and not by_hand and begun.candidate != encoder.choice.candidate:
        say(
            f"the interrupted run was begun with {begun.candidate}, which is not to be had here now; it goes "
            f"on with {encoder.choice.candidate}, and what it has encoded is kept"
        )
    return encoder


def _check_output(
    output: Path, shard_rows: int | None, inputs: Sequence[str | Path | None]
) -> None:
    """Refuse an output that can't take its name, and a file for a folder or the other way round."""
    if output.name in ("", ".."):
        raise InputError(
            f"output {str(output)!r} has no name of its own; give a file's, or with --shard-rows a folder's"
        )
    if shard_rows is None:
        if output.is_dir():
            raise InputError(
                f"{output} is a folder; give the name of a file in it, or --shard-rows for a folder of "
                "shards"
            )
        check_replaceable(output, inputs)
    elif shard_rows < 1:
        raise InputError(f"shard rows is {shard_rows}; it must be at least 1")
    elif output.is_symlink() or not output.is_dir():
        check_replaceable(output, inputs)
        if output.exists():
            raise InputError(
                f"{output} is a file; --shard-rows makes a folder: give another -o, or leave it out"
            )
    check_replaceable(rejects_path(output), inputs)
