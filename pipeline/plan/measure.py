"""Measure a worker on the first rows of an input: read, tokenise, encode, write, multiply.

In go an input and the settings of an encoder; out come `Figures`. The model is loaded here, so this
is the one module of `pipeline/plan` that needs torch, or what else runs the model. The model reads
as many of the texts as its seconds allow, in batches that are drawn at random, because a plan of
batches begins with texts of one length. What is written goes into a temporary folder (`TMPDIR`),
and is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.backends.choice import Runtime
from features.base.machine import n_cores, processor
from features.errors import InputError
from features.spec.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.spec.normalize import normalizer
from features.spec.pooling import DEFAULT_POOLING, SENTENCE, parse_poolings
from features.spec.unused_parts import unused_parts
from features.spec.vector_spec import STORE_DTYPES, VectorSpec
from features.tweets.columns import Columns
from features.tweets.table import InputFormat
from pipeline.plan.figures import Figures
from pipeline.plan.sample import read_sample
from pipeline.plan.trials import pass_rate, write_rate

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.encoder.engine import Matrix
    from features.spec.tokenizer import Tokens

SAMPLE_ROWS = 20_000
SECONDS, _MOST_SECONDS = 5.0, 3600
# Vectors that are kept to be written, and texts that are tokenised before time is taken.
_KEPT, _WARM_TEXTS = 1024, 100


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
    if "," in settings.device:
        raise InputError(
            f"`device` is {settings.device!r}: one worker is measured, which has one device; give "
            "one, e.g. cuda:0"
        )
    if not 0 < seconds <= _MOST_SECONDS:
        raise InputError(f"`seconds` is {seconds}; give a number above 0, up to {_MOST_SECONDS:,}")
    views = [view.name for view in parse_poolings(settings.pooling)]
    checkpoint = find_checkpoint(settings.model, revision=settings.revision)
    spec = _spec_of(checkpoint, settings, views)
    sample = read_sample(inputs, columns, written, normalizer(spec.normalizer), sample_rows)
    progress(0.1)
    encoder, load_seconds = _load(checkpoint, spec, settings, views)
    for line in filter(None, [unused_parts(checkpoint, spec), encoder.remark]):
        say(line)
    progress(0.4)
    encoder.tokenize(sample.texts[:_WARM_TEXTS])  # threads start when they are first needed
    started = time.perf_counter()
    tokens = encoder.tokenize(sample.texts)
    tokenise_seconds = max(time.perf_counter() - started, 1e-9)
    progress(0.5)
    encoded, rate, vectors = _encode(encoder, tokens, seconds)
    progress(0.8)
    store = VectorSpec(spec, encoder.views, encoder.precision, settings.store_dtype)
    bytes_written = write_rate(store, vectors)
    flops = pass_rate(max(encoder.views.values()))
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
        rows_searched=sample.rows_searched,
        why_whole=sample.why_whole,
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
) -> tuple[FrozenEncoder, float]:
    """Load the encoder, and give the seconds that a worker takes for it.

    Where ways to run the model were compared first, it is loaded again: of all workers one alone
    compares, and the others are told.
    """
    started = time.perf_counter()
    from features.encoder.encoder import FrozenEncoder  # torch: only where a model is run

    runtime = Runtime(
        settings.dtype,
        settings.device,
        settings.backend,
        settings.max_batch_tokens,
        one_core=True,  # as pieces are made: the plan is of the way that they take
    )
    encoder = FrozenEncoder.from_spec(spec, lambda: checkpoint, pooling=views, runtime=runtime)
    choice = encoder.choice
    if choice.rates and not choice.remembered:
        started = time.perf_counter()
        runtime = replace(runtime, begun=choice)
        encoder = FrozenEncoder.from_spec(spec, lambda: checkpoint, pooling=views, runtime=runtime)
    return encoder, time.perf_counter() - started


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
