"""Stage one on one screen: read → normalise → encode what is new → write.

In come files of tweets, out goes a feature file (`features/store.py`) and a summary, timed part by
part. Parsing of options and printing are the command line's.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from features.batching import windows
from features.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.errors import CannotContinue, FileRefused, InputError, first_line
from features.journal import Journal
from features.normalize import normalizer
from features.pooling import DEFAULT_POOLING, parse_poolings
from features.rejects import RejectLog, rejects_path
from features.spec import EncoderSpec, make_spec
from features.store import DIGEST_BYTES, EMPTY, REPAIRED, TRUNCATED, FeatureStore, Shard
from features.tweets import Reject, Tweet, TweetReader
from features.version import __version__

if TYPE_CHECKING:
    from features.encoder import FrozenEncoder

T = TypeVar("T")

STORE_DTYPES = ("float16", "float32")
# Rows that are sorted by length together. More fill batches better and hold more in memory; beyond
# some thousands of tweets padding is below 2 %.
WINDOW = 8192


@dataclass(frozen=True)
class Progress:
    """How far a run is: rows done, and the share of the input (None where its size is unknown)."""

    rows: int
    fraction: float | None


@dataclass(frozen=True)
class ExtractSummary:
    """What a run of `extract` did.

    Attributes
    ----------
    outcome : str
        `written`, `extended` (some texts came from the file that was there) or `unchanged`.
    rows, unique, encoded : int
        Rows of the file, distinct texts in it, texts that the encoder read in this run.
    tokens : int
        Over all rows.
    truncated, empty, repaired, rejected : int
        Rows that were cut, had no text, had bytes that are no text; rows left out.
    seconds : dict of str to float
        `load`, `read`, `tokenise`, `forward`, `write`, `total`.
    """

    output: Path
    outcome: str
    rows: int
    unique: int
    encoded: int
    tokens: int
    truncated: int
    empty: int
    repaired: int
    rejected: int
    rejects_file: Path | None
    labels: dict[str, int]
    views: dict[str, int]
    model: str
    precision: str
    compute: str
    seconds: dict[str, float]
    file_bytes: int

    @property
    def tweets_per_second(self) -> float:
        """Rows over the seconds of the run without loading the model."""
        return self.rows / max(1e-9, self.seconds["total"] - self.seconds["load"])


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
    max_batch_tokens: int | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    labels: str | Path | None = None,
    mapping: str | Path | None = None,
    strict: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ExtractSummary:
    """Encode tweets once, and cache their vectors in an HDF5 file.

    If `output` is there already and of the same encoder, its vectors are used: with the same input
    nothing is done, with a longer one only new texts are encoded.

    Parameters
    ----------
    inputs : path or sequence of paths
        See `TweetReader`, as for `text_column` to `mapping`.
    output : path
        The feature file.
    model, revision, pooling, max_length, normalize, dtype, device, max_batch_tokens
        See `FrozenEncoder`.
    store_dtype : str
        `float16` or `float32`, for vectors on disk.
    strict : bool
        Stop at the first row that can't be used, instead of writing it to `<output>.rejects.jsonl`.
    overwrite : bool
        Replace `output`, whatever is there.
    progress : callable, optional
        Called after each batch.

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
    started = time.perf_counter()
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
    with _writing(output):
        _check_output(output, [*paths, labels, mapping])
    with _clock(seconds, "load"):
        checkpoint = find_checkpoint(model, revision=revision)
        spec = make_spec(checkpoint, max_length=max_length, normalize=normalize)
    normalise = normalizer(spec.normalizer)

    with ExitStack() as stack:
        stack.enter_context(_writing(output))
        previous = None
        if output.exists() and not overwrite:
            previous = stack.enter_context(_open_previous(output, spec, views, dtype, store_dtype))
            if dtype == "auto" and previous.precision == "float32":
                dtype = "float32"
        journal = stack.enter_context(Journal(output, store_dtype, previous))
        rejects = stack.enter_context(RejectLog(output, strict=strict))
        encoder: FrozenEncoder | None = None
        encoded = 0
        content = hashlib.sha256()  # of ids, labels and normalised texts, in order

        share = 0.0

        def report(rows: int, of_window: int = 0) -> None:
            nonlocal share
            if progress is not None:
                # Reading runs ahead by a window, so what is read is not yet what is done; and it is
                # known in bytes, so the share is held where later rows are shorter.
                read = reader.fraction_read()
                done = (rows + of_window + rejects.count) / max(1, reader.rows_read)
                share = max(share, min(1.0, (read or 0.0) * done))
                progress(Progress(rows + of_window, None if read is None else share))

        for window in _timed(windows(reader, WINDOW), seconds, "read"):
            with _clock(seconds, "read"):
                tweets = [row for row in window if isinstance(row, Tweet)]
                rejects.add(row for row in window if isinstance(row, Reject))
                if not tweets:
                    continue
                texts = [normalise(tweet.text) for tweet in tweets]
                digests = [text_digest(text) for text in texts]
                slots = journal.slots(digests)
                new = {d: t for d, t in zip(digests, texts, strict=True) if d not in slots}
            if new:
                if encoder is None:  # not before there is something to encode
                    with _clock(seconds, "load"):
                        encoder = _load_encoder(
                            checkpoint, spec, views, dtype, device, max_batch_tokens, previous
                        )
                with _clock(seconds, "tokenise"):
                    tokens = encoder.tokenize(list(new.values()))
                with _clock(seconds, "forward"):
                    vectors = encoder.run(tokens, on_batch=partial(report, journal.n_rows))
                with _clock(seconds, "write"):
                    slots |= journal.add_texts(list(new), tokens.lengths, tokens.truncated, vectors)
                encoded += len(new)
            for tweet, digest in zip(tweets, digests, strict=True):
                content.update(json.dumps([tweet.id, tweet.label]).encode() + digest)
            with _clock(seconds, "write"):
                journal.add_rows(
                    [tweet.id for tweet in tweets],
                    [tweet.label for tweet in tweets],
                    [slots[digest] for digest in digests],
                    [not text.strip() for text in texts],
                    [tweet.repaired for tweet in tweets],
                )
            report(journal.n_rows)

        if not journal.n_rows:
            raise InputError(f"no usable tweet in {', '.join(map(str, paths))}{rejects.hint()}")
        outcome = "written" if previous is None else "extended"
        if not encoded and previous and journal.repeats(previous, reader.label_order):
            outcome = "unchanged"
        else:
            with _clock(seconds, "write"):
                source = encoder or previous
                assert source is not None, "rows without a previous store were encoded"
                provenance = _provenance(paths, encoder, previous, seconds, content.hexdigest())
                shard = Shard(spec, source.views, [], source.precision, store_dtype, provenance)
                journal.commit(shard, reader.label_order)
        unique = journal.n_unique()
    seconds["total"] = time.perf_counter() - started
    return _summarise(output, outcome, unique, encoded, rejects, encoder, seconds)


def text_digest(text: str) -> bytes:
    """Identify a normalised text: BLAKE2b-128 of its UTF-8."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _check_output(output: Path, inputs: Sequence[str | Path | None]) -> None:
    """Refuse an output that can't be one, or that would replace an input."""
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file, e.g. {output}/tweets.h5")
    if not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist; make it first")
    if output.exists() and not output.is_file():
        raise InputError(f"{output} is not a file that can be replaced; give -o another name")
    for written in (output, rejects_path(output)):
        for path in inputs:
            if path not in (None, "-") and written.exists() and written.samefile(Path(path)):
                raise InputError(
                    f"{written} is an input too, and would be replaced; give -o another name"
                )


def _open_previous(
    output: Path, spec: EncoderSpec, views: Sequence[str], dtype: str, store_dtype: str
) -> FeatureStore:
    """Open the file that is there, if its vectors are what this run would make."""
    cure = "give another -o, or --overwrite to replace the file"
    try:
        previous = FeatureStore(output)
        with ExitStack() as undo:
            undo.callback(previous.close)
            for read in (previous.labels, previous.digests, previous.n_tokens, previous.flags):
                read()  # what `Journal` will need, so that damage is found here
            undo.pop_all()
    except FileRefused as error:
        raise FileRefused(f"{error}; {cure}") from error
    differing = previous.spec.differences(spec)
    asked = None if dtype == "auto" else "float32" if dtype == "float32" else "half"
    for name, there, here in (
        ("views", sorted(previous.views), sorted(views)),
        ("store dtype", previous.store_dtype, store_dtype),
        ("precision", previous.precision, asked or previous.precision),
    ):
        if there != here:
            shown = [", ".join(v) if isinstance(v, list) else v for v in (there, here)]
            differing.append(f"{name}: {shown[0]} here, {shown[1]} there")
    if differing:
        previous.close()
        listed = (
            "; ".join(differing).replace(" here,", " in the file,").replace(" there", " asked for")
        )
        raise InputError(f"{output} was made by another encoder ({listed}): {cure}")
    return previous


def _load_encoder(
    checkpoint: Checkpoint,
    spec: EncoderSpec,
    views: Sequence[str],
    dtype: str,
    device: str,
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
    seconds: dict[str, float],
    input_digest: str,
) -> dict[str, Any]:
    packages = ("torch", "transformers", "tokenizers", "h5py", "numpy")
    return {
        "frostline": __version__,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "inputs": [Path(path).name for path in paths],
        "device": str(encoder.device) if encoder else None,
        "dtype": encoder.dtype if encoder else None,
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
        "input_digest": input_digest,
        "extends_rows": previous.n_rows if previous else 0,
    }


def _summarise(
    output: Path,
    outcome: str,
    unique: int,
    encoded: int,
    rejects: RejectLog,
    encoder: FrozenEncoder | None,
    seconds: dict[str, float],
) -> ExtractSummary:
    """Count what is in the finished file, by reading it back."""
    with FeatureStore(output) as store:
        flags, codes = store.flags(), store.labels()
        return ExtractSummary(
            output=output,
            outcome=outcome,
            rows=store.n_rows,
            unique=unique,
            encoded=encoded,
            tokens=int(store.n_tokens().sum(dtype=np.int64)),
            truncated=int(np.count_nonzero(flags & TRUNCATED)),
            empty=int(np.count_nonzero(flags & EMPTY)),
            repaired=int(np.count_nonzero(flags & REPAIRED)),
            rejected=rejects.count,
            rejects_file=rejects.path if rejects.count else None,
            labels={
                name: int(np.count_nonzero(codes == code))
                for code, name in enumerate(store.label_names)
            },
            views=store.views,
            model=store.spec.model,
            precision=store.precision,
            compute=f"{encoder.device}, {encoder.dtype}" if encoder else "",
            seconds=seconds,
            file_bytes=output.stat().st_size,
        )


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Turn what the disk says into one clear line; errors of reading have theirs already."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise CannotContinue(
            f"{output} cannot be written: {reason}; what was at that name is untouched"
        ) from error


@contextmanager
def _clock(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] += time.perf_counter() - start


def _timed(items: Iterable[T], seconds: dict[str, float], part: str) -> Iterator[T]:
    """Iterate, and count the time that the iterator itself takes."""
    iterator = iter(items)
    while True:
        with _clock(seconds, part):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
