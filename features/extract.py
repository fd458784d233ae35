"""Stage one on one screen: read → normalise → encode what is new → write.

In come files of tweets, out goes a feature file (`features/store.py`) and a summary, timed part by
part. What is encoded is in the journal at once (`features/journal.py`), so a run that was stopped,
however that came, goes on where it was and ends in the same bytes: batches depend on the input and the
encoder alone, and those that the journal has are skipped. Parsing of options and printing are the
command line's.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from features import quarantine
from features.batching import read_ahead, windows
from features.building import ShardBuilder
from features.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.errors import CannotContinue, FileRefused, InputError, first_line
from features.journal import PLACE, Header, Journal, Places
from features.normalize import normalizer
from features.paths import check_replaceable
from features.pooling import DEFAULT_POOLING, parse_poolings
from features.rejects import RejectLog, rejects_path
from features.spec import EncoderSpec, make_spec
from features.store import DIGEST_BYTES, FeatureStore, Shard
from features.summary import ExtractSummary, Progress, clock, summarise, timed
from features.tweets import Reject, Tweet, TweetReader, characters
from features.version import __version__

if TYPE_CHECKING:
    from features.encoder import FrozenEncoder, Tokens

STORE_DTYPES = ("float16", "float32")
# Rows that are sorted by length together. More fill batches better and hold more in memory; beyond
# some thousands of tweets padding is below 2 %.
WINDOW = 8192


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
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExtractSummary:
    """Encode tweets once, and cache their vectors in an HDF5 file.

    If `output` is there already and of the same encoder, its vectors are used: with the same input
    nothing is done, with a longer one only new texts are encoded. A run that was interrupted or killed
    goes on where it was, if it is called again in the same way.

    Parameters
    ----------
    inputs : path or sequence of paths
        See `TweetReader`, as for `text_column` to `mapping`.
    output : path
        The feature file.
    model, revision, pooling, max_length, normalize, dtype, device, backend, max_batch_tokens
        See `FrozenEncoder`.
    store_dtype : str
        `float16` or `float32`, for vectors on disk.
    strict : bool
        Stop at the first row that can't be used, instead of writing it to `<output>.rejects.jsonl`.
    overwrite : bool
        Replace `output`, whatever is there.
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
    for written in (output, rejects_path(output)):
        check_replaceable(written, [*paths, labels, mapping])
    with clock(seconds, "load"):
        checkpoint = find_checkpoint(model, revision=revision)
        spec = make_spec(
            checkpoint,
            max_length=max_length,
            normalize=normalize,
            quantize="int8" if dtype == "int8" else "none",
        )
    normalise = normalizer(spec.normalizer)

    with ExitStack() as stack:
        with _stopping(output):
            journal = stack.enter_context(Journal(output, overwrite=overwrite))
        stack.enter_context(_stopping(output, journal))
        previous = None
        if output.exists() and not overwrite:
            previous = stack.enter_context(_open_previous(output, spec, views, dtype, store_dtype))
            if dtype == "auto" and previous.precision == "float32":
                dtype = "float32"
        dtype = _resume(journal, spec, views, dtype, store_dtype, overwrite=overwrite)
        for line in journal.remarks():
            say(line)
        builder = stack.enter_context(ShardBuilder(output, journal, previous))
        rejects = stack.enter_context(RejectLog(output, strict=strict))
        encoder: FrozenEncoder | None = None
        encoded = encoded_tokens = resumed = 0
        content = hashlib.sha256()  # of ids, labels and normalised texts, in order
        share = 0.0
        stopped = threading.Event()

        def report(of_window: int = 0) -> None:
            nonlocal share
            if stopped.is_set():
                raise CancelledError
            if progress is not None:
                # Reading runs ahead, so what is read is not yet what is done; and it is known in bytes,
                # so the share is held where later rows are shorter.
                rows = builder.n_rows + of_window
                read = reader.fraction_read()
                done = (rows + rejects.count) / max(1, reader.rows_read)
                share = max(share, min(1.0, (read or 0.0) * done))
                progress(Progress(rows, None if read is None else share))

        def encode(encoder: FrozenEncoder, digests: list[bytes], tokens: Tokens) -> Places:
            """Run the batches that the journal lacks, and give the places of all texts there."""
            nonlocal encoded, encoded_tokens, resumed
            places = np.zeros(len(digests), PLACE)
            plan = encoder.plan(tokens)
            found = {}
            for number, rows in enumerate(plan):
                there = journal.find([digests[row] for row in rows])
                if there is not None:
                    found[number] = places[rows] = there
                    resumed += len(rows)
            done = sum(map(len, found.values()))
            with clock(seconds, "forward"):
                for rows, vectors in encoder.run_batches(tokens, plan, skip=found):
                    places[rows] = journal.append([digests[row] for row in rows], vectors)
                    encoded += len(rows)
                    encoded_tokens += sum(len(tokens.ids[row]) for row in rows)
                    done += len(rows)
                    report(done)
            if not places["finite"].all():
                raise CannotContinue(
                    f"a vector has values that are not finite in {encoder.dtype}; compute in float32 "
                    "(--dtype float32)"
                )
            return places

        def write(batch: _Encoded) -> None:
            window = batch.window
            places = None if batch.places is None else batch.places.result()
            with clock(seconds, "write"):
                if places is not None and batch.tokens is not None:
                    tokens = batch.tokens
                    builder.add_texts(list(batch.new), tokens.lengths, tokens.truncated, places)
                slots = builder.slots(window.digests)
                builder.add_rows(
                    [tweet.id for tweet in window.tweets],
                    [tweet.label for tweet in window.tweets],
                    [slots[digest] for digest in window.digests],
                    [not text.strip() for text in window.texts],
                    [tweet.repaired for tweet in window.tweets],
                )
                for tweet, digest in zip(window.tweets, window.digests, strict=True):
                    content.update(json.dumps([tweet.id, tweet.label]).encode() + digest)
            report()

        # One window is read and the next one tokenised while a third is in the model, and what comes out
        # of it is written behind.
        screened = stack.enter_context(closing(read_ahead(_screen(reader, normalise, seconds), 1)))
        forward = stack.enter_context(_worker(stopped))
        waiting: _Encoded | None = None
        for window in screened:
            rejects.add(window.rejects)
            if not window.tweets:
                continue
            known = builder.slots(window.digests).keys() | (waiting.new if waiting else {}).keys()
            new = {
                digest: text
                for digest, text in zip(window.digests, window.texts, strict=True)
                if digest not in known
            }
            tokens = places = None
            if new:
                if encoder is None:  # not before there is something to encode
                    with clock(seconds, "load"):
                        encoder = _load_encoder(
                            checkpoint,
                            spec,
                            views,
                            dtype,
                            device,
                            backend,
                            max_batch_tokens,
                            previous,
                        )
                    journal.begin(
                        Header(spec, encoder.views, store_dtype, encoder.precision, encoder.dtype)
                    )
                with clock(seconds, "tokenise"):
                    tokens = encoder.tokenize(list(new.values()))
                places = forward.submit(encode, encoder, list(new), tokens)
            if waiting:
                write(waiting)
            waiting = _Encoded(window, new, tokens, places)
        if waiting:
            write(waiting)

        if not builder.n_rows:
            raise InputError(f"no usable tweet in {', '.join(map(str, paths))}{rejects.hint()}")
        outcome = "written" if previous is None else "extended"
        if encoder is None and previous and builder.repeats(previous, reader.label_order):
            outcome = "unchanged"
        else:
            with clock(seconds, "write"):
                source = encoder or previous
                assert source is not None, "rows without a previous store were encoded"
                provenance = _provenance(paths, encoder, previous, content.hexdigest())
                shard = Shard(spec, source.views, [], source.precision, store_dtype, provenance)
                builder.commit(shard, reader.label_order)
        unique = builder.n_unique()
        journal.remove()
    seconds["total"] = perf_counter() - started
    flops = encoder.flops_per_token * encoded_tokens if encoder else 0.0
    return summarise(output, outcome, unique, encoded, resumed, flops, rejects, encoder, seconds)


@dataclass(frozen=True)
class _Window:
    """Rows that are handled together: what can be used, as normalised texts with digests, and the rest."""

    tweets: list[Tweet]
    rejects: list[Reject]
    texts: list[str]
    digests: list[bytes]


@dataclass(frozen=True)
class _Encoded:
    """A window on its way through the model: its new texts by digest, their tokens and vectors to be."""

    window: _Window
    new: dict[bytes, str]
    tokens: Tokens | None
    places: Future[Places] | None


def _screen(
    reader: TweetReader, normalise: Callable[[str], str], seconds: dict[str, float]
) -> Iterator[_Window]:
    for rows in timed(windows(reader, WINDOW, characters), seconds, "read"):
        with clock(seconds, "read"):
            tweets = [row for row in rows if isinstance(row, Tweet)]
            texts = [normalise(tweet.text) for tweet in tweets]
            rejects = [row for row in rows if isinstance(row, Reject)]
            window = _Window(tweets, rejects, texts, [text_digest(text) for text in texts])
        yield window


def text_digest(text: str) -> bytes:
    """Identify a normalised text: BLAKE2b-128 of its UTF-8."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _open_previous(
    output: Path, spec: EncoderSpec, views: Sequence[str], dtype: str, store_dtype: str
) -> FeatureStore:
    """Open the file that is there, if its vectors are what this run would make."""
    try:
        previous = FeatureStore(output)
        with ExitStack() as undo:
            undo.callback(previous.close)
            for read in (previous.labels, previous.digests, previous.n_tokens, previous.flags):
                read()  # what `ShardBuilder` will need, so that damage is found here
            undo.pop_all()
    except FileRefused as error:
        raise FileRefused(f"{error}; {_CURE}") from error
    differing = _differences(previous, spec, views, dtype, store_dtype)
    if differing:
        previous.close()
        raise InputError(f"{output} was made by another encoder ({differing}): {_CURE}")
    return previous


def _resume(
    journal: Journal,
    spec: EncoderSpec,
    views: Sequence[str],
    dtype: str,
    store_dtype: str,
    *,
    overwrite: bool,
) -> str:
    """Check that the journal's vectors are what this run would make, and give their dtype.

    They may be a night's work, and the call a slip: so it is refused, as with a finished file.
    """
    if journal.header is None:
        return dtype
    differing = _differences(journal.header, spec, views, dtype, store_dtype)
    if dtype not in ("auto", journal.header.dtype) and not differing:
        differing = f"dtype: {journal.header.dtype} in the file, {dtype} asked for"
    if not differing:
        return journal.header.dtype
    if not overwrite:
        raise InputError(
            f"{journal.path} holds {journal.kept:,} vectors of a run that was interrupted, by another "
            f"encoder ({differing}): {_CURE}"
        )
    journal.clear()
    return dtype


_CURE = "give another -o, or --overwrite to replace the file"


def _differences(
    there: FeatureStore | Header,
    spec: EncoderSpec,
    views: Sequence[str],
    dtype: str,
    store_dtype: str,
) -> str:
    """What differs between the vectors that are there and those that are asked for; empty if nothing."""
    differing = there.spec.differences(spec)
    asked = {"auto": None, "float32": "float32", "int8": "int8"}.get(dtype, "half")
    for name, found, wanted in (
        ("views", sorted(there.views), sorted(views)),
        ("store dtype", there.store_dtype, store_dtype),
        ("precision", there.precision, asked or there.precision),
    ):
        if found != wanted:
            shown = [", ".join(v) if isinstance(v, list) else v for v in (found, wanted)]
            differing.append(f"{name}: {shown[0]} here, {shown[1]} there")
    listed = "; ".join(differing)
    return listed.replace(" here,", " in the file,").replace(" there", " asked for")


def _load_encoder(
    checkpoint: Checkpoint,
    spec: EncoderSpec,
    views: Sequence[str],
    dtype: str,
    device: str,
    backend: str,
    max_batch_tokens: int | None,
    previous: FeatureStore | None,
) -> FrozenEncoder:
    from features.encoder import FrozenEncoder  # torch: only where something is encoded

    encoder = FrozenEncoder.from_checkpoint(
        checkpoint,
        spec,
        pooling=views,
        dtype=dtype,
        device=device,
        max_batch_tokens=max_batch_tokens,
        backend=backend,
    )
    if previous is not None and encoder.precision != previous.precision:
        raise InputError(
            f"{previous} was made in {previous.precision} precision, and this machine would compute in "
            f"{encoder.dtype}; the two are not mixed in one file: give --dtype bfloat16 or --overwrite"
        )
    return encoder


def _provenance(
    paths: Sequence[str | Path],
    encoder: FrozenEncoder | None,
    previous: FeatureStore | None,
    input_digest: str,
) -> dict[str, Any]:
    packages = ("torch", "transformers", "tokenizers", "h5py", "numpy")
    return {
        "frostline": __version__,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "inputs": [Path(path).name for path in paths],
        "device": str(encoder.device) if encoder else None,
        "dtype": encoder.dtype if encoder else None,
        "input_digest": input_digest,
        "extends_rows": previous.n_rows if previous else 0,
    }


@contextmanager
def _worker(stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
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


@contextmanager
def _stopping(output: Path, journal: Journal | None = None) -> Iterator[None]:
    """Turn what the disk says, or Ctrl-C, into one clear line that says how to go on."""
    before = _identity(output)
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        if _identity(output) != before:
            raise CannotContinue(f"{output} {_REPLACED}: {reason}; {_FINISH}") from error
        raise CannotContinue(
            f"{output} cannot be written: {reason}; what was at that name is untouched{_kept(journal)}"
        ) from error
    except KeyboardInterrupt as error:
        if _identity(output) != before:
            raise KeyboardInterrupt(f"interrupted; {output} {_REPLACED}; {_FINISH}") from error
        kept = _kept(journal) or "; no output was changed"
        raise KeyboardInterrupt(f"interrupted{kept}") from error


_REPLACED = "has its new content already, but the run did not come to its end"
_FINISH = "run the same command to finish it"


def _identity(path: Path) -> quarantine.Identity | None:
    with suppress(OSError):
        return quarantine.identity(path)
    return None


def _kept(journal: Journal | None) -> str:
    if journal is None or not journal.kept:
        return ""
    return f"; run the same command to continue: {journal.kept:,} of the vectors are kept"
