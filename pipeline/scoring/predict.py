"""Score tweets or cached vectors with a head, in input order and in bounded memory.

`predict` crosses back into stage one in one place, `encoders_for`: it builds the encoders that the
head itself describes, so that nobody scores with another model, pooling, length or normaliser.
Cached vectors are scored without any model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.backends.choice import Runtime
from features.base import storage
from features.base.read_ahead import live_windows
from features.base.remote import copies
from features.errors import FileRefused, InputError, NotFinite
from features.spec.checkpoint import Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, listed_differences, make_spec
from features.spec.unused_parts import unused_parts
from features.spec.vector_spec import VectorSpec
from features.store.format import EMPTY, REPAIRED, SIGNATURE
from features.tweets.columns import Columns
from features.tweets.reader import Reject, Tweet, TweetReader, characters
from features.tweets.rejects import RejectLog
from features.tweets.table import InputFormat
from pipeline.data.join import Joined, open_joined
from pipeline.data.matching import Matching
from pipeline.head.folder import TENSORS
from pipeline.head.head import Head
from pipeline.scoring.evaluate import Scores
from pipeline.solver.blocks import BLOCK_ROWS, cut

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.encoder.engine import Matrix

# What scores rows, and is told of rejects.
Scorer = Callable[[Iterable[Tweet | Reject], Callable[[Iterable[Reject]], None]], Iterator[Scores]]

# Rows that are encoded together when they are there, and the seconds to wait for more of them when
# the input pauses.
_WINDOW = 2048
_PATIENCE = 0.05


def encoders_for(
    head: Head,
    *,
    models: Sequence[str | Path] = (),
    runtime: Runtime = Runtime(),  # noqa: B008 - it is frozen
    say: Callable[[str], None] = lambda line: None,
) -> list[FrozenEncoder]:
    """Load the encoders that a head was fitted on; see `encoders_of`."""
    return encoders_of(head.encoders, models=models, runtime=runtime, say=say)


def encoders_of(
    encoders: Sequence[Sequence[VectorSpec]],
    *,
    models: Sequence[str | Path] = (),
    runtime: Runtime = Runtime(),  # noqa: B008
    say: Callable[[str], None] = lambda line: None,
) -> list[FrozenEncoder]:
    """Load encoders that heads were fitted on.

    Parameters
    ----------
    encoders : sequence of sequences of VectorSpec
        The vectors that are wanted of each encoder, as in `Head.encoders`. The first ones of an
        encoder say the precision.
    models : sequence of str or path
        Where their models lie on this machine, one for each encoder in the same order; default:
        the names that the heads remember.
    runtime : Runtime
        Device, backend and budget of tokens; the dtype is the head's.
    say : callable
        Told what is odd about a model, a line each.

    Raises
    ------
    InputError
        A model can't be found, or there are more or fewer than encoders.
    FileRefused
        It is another one; both fingerprints are named.
    """
    found = []
    for sources, model in zip(encoders, places_of(encoders, models), strict=True):
        spec = sources[0].spec
        find = cache(partial(model_of, spec, model, say))
        if model is not None:
            find()  # what is named is looked at, even where an export of the head's model is known
        from features.encoder.encoder import FrozenEncoder  # only where a model runs

        found.append(
            FrozenEncoder.from_spec(
                spec,
                find,
                pooling=list(dict.fromkeys(source.view for source in sources)),
                # A head of half-precision vectors takes whichever is faster here; others take their
                # own.
                runtime=replace(
                    runtime,
                    dtype="auto" if sources[0].precision == "half" else str(sources[0].precision),
                ),
            )
        )
        if found[-1].remark:
            say(found[-1].remark)
    return found


def places_of(
    encoders: Sequence[Sequence[VectorSpec]], models: Sequence[str | Path]
) -> Sequence[str | Path | None]:
    """Give for each encoder where its model lies; None: where the head remembers it.

    Raises
    ------
    InputError
        There are more or fewer places than encoders.
    """
    if models and len(models) != len(encoders):
        raise InputError(
            f"the head has {len(encoders)} encoders, `models` names {len(models)}: give one for "
            "each, in the order that `frostline inspect` shows"
        )
    return models or [None] * len(encoders)


def model_of(spec: EncoderSpec, model: str | Path | None, say: Callable[[str], None]) -> Checkpoint:
    """Find the model of a head's encoder, refuse another one, and say what of it is not used.

    Parameters
    ----------
    spec : EncoderSpec
        Of the encoder.
    model : str, path or None
        Where it lies; None: the name that the spec remembers.
    say : callable

    Raises
    ------
    InputError
        There is none.
    FileRefused
        It is another one; both fingerprints are named.
    """
    try:
        checkpoint = find_checkpoint(model or spec.model, revision=None if model else spec.revision)
    except InputError as error:
        if model is None:
            raise InputError(
                f"the head's model is not here: {error}; say where it lies with `models`"
            ) from error
        raise
    limit = checkpoint.position_limit()
    if limit is not None and limit < spec.max_length:
        raise FileRefused(
            f"{checkpoint.name} reads {limit} tokens, encoder {spec.fingerprint[:12]} of the head "
            f"{spec.max_length}: it is another model; give the folder of {spec.model} as `models`"
        )
    quantize = spec.quantization.partition("/")[0]
    found = make_spec(
        checkpoint,
        max_length=spec.max_length,
        normalize=spec.normalizer,
        quantize=quantize,
        prefix=spec.prefix,
        prompt_name=None if spec.prefix else "",
        sentence=bool(spec.modules),
    )
    if found.fingerprint != spec.fingerprint:
        raise FileRefused(
            f"{checkpoint.name} makes vectors of encoder {found.fingerprint[:12]}, the head was "
            f"fitted on those of encoder {spec.fingerprint[:12]} "
            f"({listed_differences(found.differences(spec))}); give the folder of {spec.model} as "
            "`models`"
        )
    if unused := unused_parts(checkpoint, spec):
        say(unused)
    return checkpoint


def score_tweets(
    head: Head,
    rows: Iterable[Tweet | Reject],
    encoders: Sequence[FrozenEncoder],
    *,
    on_rejects: Callable[[Iterable[Reject]], None],
) -> Iterator[Scores]:
    """Score tweets as they come, encoding them once with each encoder.

    A pause in the input hands out what was read so far.
    """
    for window in windows_of(rows):
        scores, rejects = score_window(head, encoders, window)
        on_rejects(rejects)
        if scores is not None:
            yield scores


def windows_of(rows: Iterable[Tweet | Reject]) -> Iterator[list[Tweet | Reject]]:
    """Cut rows into those that are scored together; a pause ends a window."""
    return live_windows(rows, _WINDOW, _PATIENCE, characters)


def score_window(
    head: Head, encoders: Sequence[FrozenEncoder], window: Sequence[Tweet | Reject]
) -> tuple[Scores | None, list[Reject]]:
    """Score the tweets of a window; with all rows that could not be."""
    rejects = [row for row in window if isinstance(row, Reject)]
    tweets = [row for row in window if isinstance(row, Tweet)]
    tweets, vectors = _encoded(tweets, encoders, rejects.extend)
    if not tweets:
        return None, rejects
    X = side_by_side(head, vectors)
    scores = Scores(
        [tweet.id for tweet in tweets],
        [tweet.text for tweet in tweets],
        [tweet.label for tweet in tweets],
        head.predict_proba(X),
        [_marks(not tweet.text.strip(), tweet.repaired) for tweet in tweets],
        [tweet.group for tweet in tweets],
        None if head.novelty is None else head.novelty.of(X),
    )
    return scores, rejects


def encode_for(head: Head, texts: Sequence[str], encoders: Sequence[FrozenEncoder]) -> Matrix:
    """Encode texts, all of them together, as they are for scoring: raw vectors (N, D).

    Raises
    ------
    NotFinite
        The vectors of some texts overflow.
    """
    return side_by_side(head, {one.spec.fingerprint: one.encode(texts) for one in encoders})


def side_by_side(head: Head, vectors: dict[str, dict[str, Matrix]]) -> Matrix:
    """Put the views of a head side by side, (N, D); `vectors` by fingerprint of encoder and view.

    They are rounded as the cached vectors are that the head was fitted on, so that scoring a text
    and scoring its cached vector agree.
    """
    views = [
        vectors[source.spec.fingerprint][source.view].astype(source.store_dtype).astype(np.float32)
        for source in head.sources
    ]
    return np.hstack(views)


def _encoded(
    tweets: list[Tweet],
    encoders: Sequence[FrozenEncoder],
    on_rejects: Callable[[Iterable[Reject]], None],
) -> tuple[list[Tweet], dict[str, dict[str, Matrix]]]:
    """Encode tweets by each encoder; those that one of them can't read are left out of all."""
    while True:
        texts = [tweet.text for tweet in tweets]
        try:
            return tweets, {one.spec.fingerprint: one.encode(texts) for one in encoders}
        except NotFinite as error:
            bad = set(error.texts)
            on_rejects(
                tweets[n].rejected("its vector is not finite, in float32 too") for n in sorted(bad)
            )
            tweets = [tweet for n, tweet in enumerate(tweets) if n not in bad]


def score_stores(head: Head, stores: Joined) -> Iterator[Scores]:
    """Score cached vectors, in blocks that do not depend on the shards that they lie in."""
    sources = stores.like(head.sources)
    names: list[str | None] = [*stores.label_names, None]
    texts, start = stores.texts(), 0
    for block in cut(stores.blocks(sources, np.float32), BLOCK_ROWS):
        rows = slice(start, start + len(block))
        yield Scores(
            stores.ids(rows),
            None,
            [names[code] for code in stores.codes[rows]],
            head.predict_proba(block),
            [_marks(bool(f & EMPTY), bool(f & REPAIRED)) for f in stores.flags(rows).tolist()],
            novelty=None if head.novelty is None else head.novelty.of(block),
            digests=texts[rows],
            share=rows.stop / stores.n_rows,
        )
        start = rows.stop


def _marks(empty: bool, repaired: bool) -> str:
    """Name what a reader of a score should know of its text."""
    return " ".join(name for name, holds in (("empty", empty), ("repaired", repaired)) if holds)


def is_store(path: str | Path) -> bool:
    """Tell cached vectors from tweets and heads: by the name of an input, or by how it begins."""
    if Path(path).suffix in (".h5", ".hdf5"):
        return not (Path(path) / TENSORS).exists()
    target = copies.target_of(path)
    if not isinstance(target, Path):
        return _is_store_there(target)
    path = target
    if path.is_dir():
        return not (path / TENSORS).exists()
    with suppress(OSError, ValueError):  # what can't be read is said by who reads it
        if path.is_file():
            with path.open("rb") as file:
                return file.read(len(SIGNATURE)) == SIGNATURE
    return False


def _is_store_there(url: str) -> bool:
    """Tell the same in object storage: by the names in a folder, or by how a file begins."""
    if storage.exists(url):
        with storage.reading(url) as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    names = storage.listed(url)
    return bool(names) and TENSORS not in names


@contextmanager
def scored(
    head: Head,
    inputs: Sequence[str | Path],
    *,
    rejects: RejectLog,
    load: Callable[[Head], Sequence[FrozenEncoder] | Scorer] = encoders_for,
    columns: Columns = Columns(),  # noqa: B008 - it is frozen
    written: InputFormat = InputFormat(),  # noqa: B008
    on_matching: Callable[[Matching], None] = lambda matching: None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Iterator[Scores]]:
    """Open tweets or cached vectors for scoring.

    Parameters
    ----------
    head : Head
    inputs : sequence of paths
        All of them tweets, or all of them cached vectors.
    rejects : RejectLog
    load : callable
        Gives the encoders of the head, where there are tweets; or what scores them in their place.
    columns, written
        See `TweetReader`.
    on_matching : callable
        Told what came of joining the stores of several encoders.
    say : callable
        Told what there is to say about the input, a line each, when all of it is scored.
    """
    if any(is_store(path) for path in inputs):
        if len(inputs) > 1 and not all(is_store(path) for path in inputs):
            raise InputError("tweets and cached vectors can't be scored together; give one kind")
        if columns.given:
            raise InputError(
                f"{', '.join(f'`{name}`' for name in columns.given)} are for tweets; cached "
                "vectors have their ids and labels already: give them to extract"
            )
        with open_joined(inputs) as stores:
            if stores.matching is not None:
                on_matching(stores.matching)
            yield score_stores(head, stores)
        return
    reader = TweetReader(inputs, columns, written=written)
    by = load(head)
    if isinstance(by, Sequence):
        scores = score_tweets(head, reader, by, on_rejects=rejects.add)
    else:
        scores = by(reader, rejects.add)
    yield _settling(scores, reader, rejects, say)


def _settling(
    scores: Iterator[Scores],
    reader: TweetReader,
    rejects: RejectLog,
    say: Callable[[str], None],
) -> Iterator[Scores]:
    """Give all scores; say and check what is known at their end, before a file has its name."""
    rows = 0
    for block in scores:
        rows += len(block.ids)
        read, done = reader.fraction_read(), (rows + rejects.count) / reader.rows_read
        yield replace(block, share=None if read is None else min(1.0, read * done))
    for line in rejects.closing_remarks(reader):
        say(line)
    if rejects.count and not rows:
        raise InputError(f"no usable tweet in the input{rejects.hint()}")
    rejects.settle()
