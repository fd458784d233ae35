"""Load a model with torch, and take the fastest way to run it that keeps its vectors.

In come a checkpoint, its spec, views and the settings that the user decided; out goes an `Engine`.
On the CPU the choice follows from what this run or an earlier one has measured
(`features/backends/trial.py`); on accelerators, half precision is taken where the vectors keep it.
Models that were exported before are opened without this module (`features/encoder/engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from features.backends import registry
from features.backends.choice import (
    BY_PRODUCTS,
    IN_HALF,
    PLAIN,
    PREPACKED,
    Candidate,
    Choice,
    Runtime,
)
from features.backends.devices import choose_devices, default_batch_tokens, half_dtypes
from features.backends.eager.packed_attention import ATTENTION
from features.backends.eager.product_rates import (
    attends_faster_in_half,
    int8_is_exact,
    products_attend_faster,
)
from features.backends.eager.reference import Reference
from features.backends.eager.stock_model import StockModel, load
from features.backends.exported.export_files import ExportPlace
from features.backends.registry import (
    BACKENDS,
    Backend,
    check_backend,
    make_backend,
    unsupported_dtype,
)
from features.backends.streams import one_core
from features.backends.trial import OUT_OF_TIME, Trial, int8_reason, run_trial
from features.encoder.engine import (
    Engine,
    Matrix,
    Memory,
    Views,
    least_mean_cosine,
    not_finite,
    pooled,
    wanted_views,
    with_modules,
)
from features.encoder.probe_texts import PROBE_TEXTS, RANGE_TEXTS
from features.errors import FileRefused, FrostlineError, InputError, first_line
from features.spec.checkpoint import Checkpoint
from features.spec.encoder_spec import EncoderSpec
from features.spec.normalize import normalizer
from features.spec.pooling import Pooling
from features.spec.sentence_modules import SentenceModules
from features.spec.tokenizer import TextTokenizer, Tokens, load_tokenizer

# The least mean cosine to float32 that every view must keep on `PROBE_TEXTS`, by precision: half
# precision is the contract of the design, float32 may differ by rounding alone.
MIN_COSINE = {"float32": 0.999999, "half": 0.9999}


def load_with_torch(
    checkpoint: Checkpoint,
    spec: EncoderSpec,
    poolings: tuple[Pooling, ...],
    runtime: Runtime,
    memory: Memory,
) -> Engine:
    """Load a checkpoint, and make the backend that is chosen for it.

    Raises
    ------
    InputError
        It is no encoder, can't give a view, or can't run as was decided by hand.
    FileRefused
        Its files are damaged, or don't belong together.
    """
    devices = choose_devices(runtime.device)
    if runtime.backend != "auto":
        check_backend(runtime.backend, devices[0])
    model = open_model(checkpoint, spec, poolings)
    stock, views = model.stock, model.views
    threads = torch.get_num_threads()
    maker = partial(
        make_backend,
        stock=stock,
        layers=views.layers,
        pooler=views.pooler,
        place=ExportPlace.of(spec),
        tokenizer=model.tokenizer,
    )
    # Weights are laid out, and ways to run them measured, as they will run.
    with one_core() if runtime.one_core else nullcontext():
        choice, backends = _chosen(model, runtime, memory, devices, maker)
    if runtime.one_core and devices[0].type == "cpu" and choice.candidate.backend == "torch":
        for backend in backends:
            backend.streams = threads
    return Engine(
        tokenizer=model.tokenizer,
        backends=backends,
        choice=choice,
        device=str(devices[0]),
        views=views,
        flops_per_token=stock.flops_per_token(views.layers[-1]),
        load_reference=partial(load_reference, checkpoint, spec, views),
        one_core=runtime.one_core,
    )


def open_model(checkpoint: Checkpoint, spec: EncoderSpec, poolings: tuple[Pooling, ...]) -> Model:
    """Load the stock model and the tokenizer of a checkpoint; decide on no backend.

    Raises
    ------
    InputError
        It is no encoder, or can't give a view.
    FileRefused
        Its files are damaged, or don't belong together.
    """
    tokenizer = load_tokenizer(checkpoint, spec.max_length)
    samples = _as_read(RANGE_TEXTS, spec, tokenizer)
    stock = _stock(checkpoint, tokenizer, samples)
    _check_vocabulary(spec.model, tokenizer, stock)
    views = with_modules(poolings, lambda: checkpoint, spec, tokenizer)
    return Model(stock, spec, _views(views, spec, stock, tokenizer), tokenizer, samples)


def load_reference(checkpoint: Checkpoint, spec: EncoderSpec, views: Views) -> Backend:
    """Load the stock model, to be run as it is."""
    tokenizer = load_tokenizer(checkpoint, spec.max_length)
    samples = _as_read(PROBE_TEXTS, spec, tokenizer)
    return Reference(_stock(checkpoint, tokenizer, samples), views.layers, pooler=views.pooler)


def _as_read(texts: Sequence[str], spec: EncoderSpec, tokenizer: TextTokenizer) -> Tokens:
    """Turn raw texts into the tokens that the model reads of them."""
    normalise = normalizer(spec.normalizer)
    return tokenizer.tokenize([spec.prefix + normalise(text) for text in texts])


def _stock(checkpoint: Checkpoint, tokenizer: TextTokenizer, samples: Tokens) -> StockModel:
    stock = load(checkpoint, samples.ids[1].tolist(), tokenizer.vocabulary.padding_id)
    return replace(stock, samples=tuple(tuple(ids.tolist()) for ids in samples.ids))


def _views(
    poolings: tuple[Pooling | SentenceModules, ...],
    spec: EncoderSpec,
    stock: StockModel,
    tokenizer: TextTokenizer,
) -> Views:
    return wanted_views(
        poolings,
        spec.model,
        n_layers=stock.n_layers,
        hidden_size=stock.hidden_size,
        has_pooler=stock.has_pooler,
        prefix=tokenizer.vocabulary.prefix,
    )


def _check_vocabulary(name: str, tokenizer: TextTokenizer, stock: StockModel) -> None:
    """Refuse a tokenizer that gives ids for which the model has no embedding."""
    tokens, embeddings = tokenizer.vocabulary.n_tokens, stock.n_embeddings
    if tokens > embeddings:
        raise FileRefused(
            f"model {name!r}: its tokenizer has {tokens} tokens, its weights embed "
            f"{embeddings}; the two don't belong together"
        )


@dataclass(frozen=True)
class Model:
    """A stock model with what is wanted of it, and texts to try it on.

    Attributes
    ----------
    stock : StockModel
    spec : EncoderSpec
    views : Views
    tokenizer : TextTokenizer
    samples : Tokens
        Of texts as people write them.
    """

    stock: StockModel
    spec: EncoderSpec
    views: Views
    tokenizer: TextTokenizer
    samples: Tokens

    def trial(self, budget: int, *, tune: bool, one_core: bool) -> Trial:
        """Make the trial of ways to run it, with `budget` tokens in a batch to begin with."""
        return Trial(
            widths=self.stock.widths,
            flops_per_token=self.stock.flops_per_token(self.views.layers[-1]),
            texts=self.samples.ids,
            affixes=(self.tokenizer.vocabulary.prefix, self.tokenizer.vocabulary.suffix),
            max_length=self.spec.max_length,
            max_batch_tokens=budget,
            tune=tune,
            one_core=one_core,
        )


def _chosen(
    model: Model,
    runtime: Runtime,
    memory: Memory,
    devices: Sequence[torch.device],
    maker: Callable[..., Backend],
) -> tuple[Choice, tuple[Backend, ...]]:
    """Decide what runs the model, and make it for each device."""
    device = devices[0]
    make = partial(maker, device=device)
    budget = runtime.max_batch_tokens or default_batch_tokens(device, model.stock.hidden_size)
    allowed = candidates(runtime, device, has_layers=model.stock.layers is not None)
    if runtime.dtype == "int8":
        _check_int8(model.stock, device, begun=runtime.begun is not None)
    keeps = partial(_keeps_vectors, runtime, _Exact(model))
    found: tuple[Choice, Backend] | None = None
    for known in (runtime.begun, memory.choice()):
        if found is None and known is not None and known.candidate.is_of(allowed):
            found = _again(known, make)
    if found is None and device.type == "cpu":
        allowed = [_attending(candidate, model.stock) for candidate in allowed]
    if found is None and device.type != "cpu":
        found = _first_that_keeps(allowed, budget, make, keeps)
    elif found is None and len(allowed) == 1:
        backend = make(allowed[0])
        found = Choice(allowed[0], budget, backend.streams), backend
    elif found is None:
        # Other batches round in other ways.
        tune = runtime.max_batch_tokens is None and not runtime.one_core
        trial = model.trial(budget, tune=tune, one_core=runtime.one_core)
        place, views = ExportPlace.of(model.spec), model.views
        with place.only_what_is_taken(views.layers, views.pooler) as taken:
            found = run_trial(trial, allowed, make, keeps)
            taken.add(found[0].candidate.backend)
    choice, backend = found
    if runtime.one_core and not runtime.begun and device.type == "cpu":
        choice = replace(choice, streams=1)
    if runtime.begun is not None:
        # Batches of the same texts, or the journal's would not be found.
        tokens = runtime.max_batch_tokens or runtime.begun.max_batch_tokens
        choice = replace(choice, max_batch_tokens=tokens)
    elif not choice.remembered and OUT_OF_TIME not in choice.left_out.values():
        memory.keep(choice, model.views)
    others = [maker(choice.candidate, device=other) for other in devices[1:]]
    return choice, (backend, *others)


def candidates(runtime: Runtime, device: torch.device, *, has_layers: bool) -> list[Candidate]:
    """Give the ways to run a model that what was decided by hand leaves open, torch's first.

    Raises
    ------
    InputError
        There is none.
    """
    names = registry.backends_on(device) if runtime.backend == "auto" else [runtime.backend]
    dtypes: Sequence[str] = (runtime.dtype,)
    if runtime.dtype == "auto":
        half = half_dtypes(device)
        dtypes = {"float32": ("float32",), "half": half}.get(
            runtime.precision or "",
            (*half, "float32") if device.type != "cpu" else ("float32", *half),
        )
    if runtime.dtype == "int8":
        names = [name for name in names if "int8" in BACKENDS[name].dtypes] or names
    found = []
    for name in names:
        row = BACKENDS[name]
        kernels = row.kernels if device.type == "cpu" and "int8" not in dtypes else row.kernels[:1]
        if not has_layers and PLAIN in kernels:
            kernels = (PLAIN,)  # what can't be laid out is one and the same
        found += [
            Candidate(name, dtype, kernel)
            for dtype in dtypes
            if dtype in row.dtypes
            for kernel in kernels
        ]
    if not found:
        dtype = runtime.dtype if runtime.dtype != "auto" else "half precision"
        raise unsupported_dtype(names[0], dtype)
    return found


def _attending(candidate: Candidate, stock: StockModel) -> Candidate:
    """Let a candidate of torch in half precision, or beside int8, attend as is faster here."""
    if candidate.backend != "torch" or candidate.dtype == "float32" or stock.heads is None:
        return candidate
    beside_int8 = candidate.dtype == "int8"
    dtype = torch.bfloat16 if beside_int8 else getattr(torch, candidate.dtype)
    faster = products_attend_faster(dtype, stock.heads, stock.hidden_size // stock.heads)
    attention = BY_PRODUCTS if faster else ""
    if beside_int8:
        attention = attention or IN_HALF
        if not attends_faster_in_half(stock.hidden_size, stock.heads, ATTENTION[attention]):
            attention = ""
    return replace(candidate, attention=attention)


def _check_int8(stock: StockModel, device: torch.device, *, begun: bool) -> None:
    """Refuse 8-bit products where they gain nothing, before anything is built for them.

    A run that was begun with them elsewhere goes on wherever they are exact.
    """
    if device.type != "cpu" or stock.layers is None:
        return  # refused by the backend, with its reason
    if begun and int8_is_exact():
        return
    if reason := int8_reason(stock.widths):
        raise InputError(
            f"dtype int8 can't be used on this machine: {reason}; give `dtype=auto` "
            "(vectors of int8 can be made and scored on a machine where it is)"
        )


class _Exact:
    """Vectors of the probe in float32, by the stock model; made when they are first asked for."""

    def __init__(self, model: Model) -> None:
        self._stock, self._views, self._tokenizer = model.stock, model.views, model.tokenizer
        self._ids = model.samples.ids[: len(PROBE_TEXTS)]
        self._vectors: dict[str, Matrix] | None = None

    def cosine(self, backend: Backend) -> float:
        """Give the mean cosine to them, of the view where it is least.

        Texts that the model can't read don't count. Not a number where the backend's vectors are
        not finite, or the model can't read any text.
        """
        if self._vectors is None:
            views = self._views
            reference = Reference(self._stock, views.layers, pooler=views.pooler)
            self._vectors = pooled(reference, self._ids, views, self._tokenizer)
        order = np.argsort([len(ids) for ids in self._ids], kind="stable")
        batches = [order]
        if backend.one_length:
            batches = [order[[n]] for n in range(len(order))]
        found = {view: np.empty_like(matrix) for view, matrix in self._vectors.items()}
        for rows in batches:
            for view, matrix in pooled(
                backend, [self._ids[i] for i in rows], self._views, self._tokenizer
            ).items():
                found[view][rows] = matrix
        readable = np.setdiff1d(order, not_finite(self._vectors))
        if not len(readable):
            return float("nan")
        exact = {view: matrix[readable] for view, matrix in self._vectors.items()}
        return least_mean_cosine(exact, {view: matrix[readable] for view, matrix in found.items()})


def _keeps_vectors(runtime: Runtime, exact: _Exact, candidate: Candidate, backend: Backend) -> str:
    """Say what is wrong with a candidate's vectors; "" where nothing is, or the user chose it."""
    by_hand = runtime.dtype != "auto" and candidate.precision == "half"
    if by_hand or candidate in (Candidate("torch", "float32", k) for k in (PREPACKED, PLAIN)):
        # Float32 in torch proves itself when it is fused, and is what all else falls back to.
        return ""
    cosine, least = exact.cosine(backend), MIN_COSINE[candidate.precision]
    # Not "below": a model that overflows gives values that are not a number.
    return "" if cosine >= least else f"its vectors keep a cosine of {cosine:.5f}, not {least}"


def _again(choice: Choice, make: Callable[[Candidate], Backend]) -> tuple[Choice, Backend] | None:
    """Make what was chosen before; None where it can't be had any more."""
    try:
        backend = make(choice.candidate)
    except FrostlineError:
        return None
    if choice.candidate.backend == "torch":
        backend.streams = choice.streams
    return choice, backend


def _first_that_keeps(
    allowed: Sequence[Candidate],
    budget: int,
    make: Callable[[Candidate], Backend],
    keeps: Callable[[Candidate, Backend], str],
) -> tuple[Choice, Backend]:
    """Take the first candidate whose vectors keep their precision: the order is the device's."""
    left_out: dict[str, str] = {}
    for candidate in allowed:
        try:
            backend = make(candidate)
        except FrostlineError as error:
            left_out[str(candidate)] = first_line(error)
            if candidate == allowed[-1]:
                raise
            continue
        reason = "" if candidate.dtype in ("float32", "int8") else keeps(candidate, backend)
        if not reason:
            return Choice(candidate, budget, backend.streams, {}, left_out), backend
        left_out[str(candidate)] = reason
    raise InputError(
        "no precision that this device computes in keeps the vectors: "
        + "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        + "; give `dtype=float32`"
    )
