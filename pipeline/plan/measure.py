"""Measure a worker on the first rows of an input: read, tokenise, encode, write, multiply.

In go an input and the settings of an encoder; out come `Figures`. The model is loaded here, so this
is the one module of `pipeline/plan` that needs torch, or what else runs the model. The rows are
read once; the model reads as many of their texts as its seconds allow, in batches that are drawn at
random, because a plan of batches begins with texts of one length. What is written goes into a
temporary folder (`TMPDIR`), and is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.backends.choice import Runtime
from features.base import storage
from features.base.machine import n_cores, processor
from features.errors import InputError
from features.spec.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.spec.normalize import normalizer
from features.spec.pooling import DEFAULT_POOLING, SENTENCE, parse_poolings
from features.spec.unused_parts import unused_parts
from features.spec.vector_spec import STORE_DTYPES, VectorSpec
from features.store.format import text_digest
from features.tweets.columns import Columns
from features.tweets.reader import Tweet, TweetReader
from features.tweets.table import InputFormat
from pipeline.plan.figures import Figures
from pipeline.plan.trials import product_rate, write_rate

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.encoder.engine import Matrix
    from features.spec.tokenizer import Tokens

SAMPLE_ROWS = 20_000
SECONDS = 5.0
# Vectors that are kept to be written.
_KEPT = 1024


@dataclass(frozen=True)
class Settings:
    """How the vectors are to be made; as for `extract`, whose defaults these are."""

    model: str | Path = DEFAULT_MODEL
    revision: str | None = None
    pooling: tuple[str, ...] = (DEFAULT_POOLING,)
    max_length: int | None = None
    normalize: str = "tweeteval"
    prefix: str = ""
    prompt_name: str | None = None
    dtype: str = "auto"
    store_dtype: str = "float16"
    device: str = "auto"
    backend: str = "auto"
    max_batch_tokens: int | None = None


@dataclass(frozen=True)
class _Sample:
    """The first rows of an input: distinct normalised texts, and what reading them took."""

    rows: int
    labelled: int
    classes: int
    texts: list[str]
    id_bytes: int
    input_bytes: float
    input_rows: int | None
    seconds: float


def measure(
    inputs: Any,
    settings: Settings,
    columns: Columns = Columns(),  # noqa: B008 - it is frozen
    written: InputFormat = InputFormat(),  # noqa: B008 - it is frozen
    *,
    sample_rows: int = SAMPLE_ROWS,
    seconds: float = SECONDS,
    progress: Callable[[float], None] = lambda share: None,
    say: Callable[[str], None] = lambda line: None,
) -> Figures:
    """Measure what a worker does with the first rows of an input.

    Parameters
    ----------
    inputs : path, frame or data set, or a sequence of these
        As for `extract`.
    settings : Settings
    columns, written
        As for `TweetReader`.
    sample_rows : int
        Rows to read at most.
    seconds : float
        That the model reads texts for, beside loading, one batch to warm up and one to end with.
    progress : callable
        Is told the share that is done.
    say : callable
        Is told what is odd about the model, a line each.

    Raises
    ------
    InputError, FileRefused
        As `extract` would; or none of the rows can be used.
    """
    if settings.store_dtype not in STORE_DTYPES:
        allowed = " or ".join(STORE_DTYPES)
        raise InputError(f"unknown store dtype {settings.store_dtype!r}: choose {allowed}")
    views = [view.name for view in parse_poolings(settings.pooling)]
    reader = TweetReader(inputs, columns, written=written)
    started = time.perf_counter()
    checkpoint = find_checkpoint(settings.model, revision=settings.revision)
    spec = _spec_of(checkpoint, settings, views)
    sample = _read(reader, normalizer(spec.normalizer), sample_rows)
    progress(0.1)
    encoder = _load(checkpoint, spec, settings, views)
    load_seconds = time.perf_counter() - started - sample.seconds
    for line in filter(None, [unused_parts(checkpoint, spec), encoder.remark]):
        say(line)
    progress(0.4)
    tokens, tokenise_seconds = _timed(lambda: encoder.tokenize(sample.texts))
    progress(0.5)
    encoded, rate, vectors = _encode(encoder, tokens, seconds)
    progress(0.8)
    store = VectorSpec(spec, encoder.views, encoder.precision, settings.store_dtype)
    bytes_written = write_rate(store, vectors)
    flops = product_rate(max(encoder.views.values()))
    progress(1.0)
    machine, gpus = _machine(encoder.device)
    return Figures(
        model=spec.model,
        device=encoder.device,
        dtype=encoder.dtype,
        machine=machine,
        cores=n_cores(),
        gpus=gpus,
        views=dict(encoder.views),
        store_dtype=settings.store_dtype,
        rows=sample.rows,
        labelled=sample.labelled,
        classes=sample.classes,
        distinct=len(sample.texts),
        encoded=encoded,
        tokens=float(np.mean(tokens.lengths)),
        input_bytes=sample.input_bytes,
        id_bytes=sample.id_bytes,
        load_seconds=load_seconds,
        rows_read=sample.rows / sample.seconds,
        texts_tokenised=len(sample.texts) / tokenise_seconds,
        tokens_encoded=rate,
        bytes_written=bytes_written,
        flops=flops,
        input_rows=sample.input_rows,
    )


def _spec_of(checkpoint: Checkpoint, settings: Settings, views: list[str]) -> EncoderSpec:
    return make_spec(
        checkpoint,
        max_length=settings.max_length,
        normalize=settings.normalize,
        quantize="int8" if settings.dtype == "int8" else "none",
        prefix=settings.prefix,
        prompt_name=settings.prompt_name,
        sentence=SENTENCE in views,
    )


def _load(
    checkpoint: Checkpoint, spec: EncoderSpec, settings: Settings, views: list[str]
) -> FrozenEncoder:
    from features.encoder.encoder import FrozenEncoder  # torch: only where a model is run

    runtime = Runtime(settings.dtype, settings.device, settings.backend, settings.max_batch_tokens)
    return FrozenEncoder.from_spec(spec, lambda: checkpoint, pooling=views, runtime=runtime)


def _read(reader: TweetReader, normalise: Callable[[str], str], n: int) -> _Sample:
    """Read, normalise and hash the first rows, as stage one does."""
    texts: dict[bytes, str] = {}
    labels: set[str] = set()
    rows = labelled = id_bytes = text_bytes = 0
    started = time.perf_counter()
    with closing(iter(reader)) as tweets:  # type: ignore[type-var]  # it is a generator
        for row in islice(tweets, n):
            if not isinstance(row, Tweet):
                continue
            text = normalise(row.text)
            texts.setdefault(text_digest(text), text)
            rows += 1
            if row.label is not None:
                labelled += 1
                labels.add(row.label)
            id_bytes = max(id_bytes, len(row.id.encode()))
            text_bytes += len(row.text.encode(errors="replace"))
        fraction = reader.fraction_read()
    seconds = max(time.perf_counter() - started, 1e-9)
    if not rows:
        raise InputError(f"no usable tweet in the first {reader.rows_read:,} rows of {reader}")
    n_bytes = _bytes_read(reader, fraction) or text_bytes
    whole = reader.rows_read < n  # the input has ended
    total = reader.rows_read if whole else fraction and round(reader.rows_read / fraction)
    return _Sample(
        rows,
        labelled,
        len(labels),
        list(texts.values()),
        max(1, id_bytes),
        n_bytes / reader.rows_read,
        total or None,
        seconds,
    )


def _bytes_read(reader: TweetReader, fraction: float | None) -> float:
    """Count the bytes of files that were read; 0 where the input is no files."""
    files = [one for one in reader.files if one != "-"]
    if fraction is None or not files:
        return 0.0
    return fraction * sum(map(storage.size, files))


def _timed(work: Callable[[], Tokens]) -> tuple[Tokens, float]:
    started = time.perf_counter()
    result = work()
    return result, max(time.perf_counter() - started, 1e-9)


def _encode(
    encoder: FrozenEncoder, tokens: Tokens, seconds: float
) -> tuple[int, float, dict[str, Matrix]]:
    """Give the texts that were encoded, the tokens a second, and the vectors of some texts."""
    plan = encoder.plan(tokens)
    order = np.random.default_rng(0).permutation(len(plan))
    shuffled = [plan[i] for i in order]
    kept: dict[str, list[Matrix]] = {view: [] for view in encoder.views}
    for _ in encoder.run_batches(tokens, shuffled[:1]):
        pass  # kernels are generated when they are first needed
    texts = n_tokens = n_kept = 0
    started = time.perf_counter()
    with closing(encoder.run_batches(tokens, shuffled)) as batches:  # type: ignore[type-var]
        for rows, vectors in batches:
            texts += len(rows)
            n_tokens += sum(len(tokens.ids[row]) for row in rows)
            if n_kept < _KEPT:
                n_kept += len(rows)
                for view, matrix in vectors.items():
                    kept[view].append(matrix)
            if time.perf_counter() - started >= seconds:
                break
        rate = n_tokens / max(time.perf_counter() - started, 1e-9)
    return texts, rate, {view: np.concatenate(parts) for view, parts in kept.items()}


def _machine(device: str) -> tuple[str, int]:
    """Name the GPU, or the processor; and count the GPUs of its kind, which share the cores."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device)), torch.cuda.device_count()
    return processor()[0], 0
