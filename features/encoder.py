"""Texts in, one matrix a view out, in input order: the frozen encoder.

`FrozenEncoder` puts together the tokenizer, a backend and the poolings. It reads and writes no files
but the model's own; `features/extract.py` does that.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from features.backends import (
    Backend,
    choose_devices,
    default_batch_tokens,
    find_backend,
    half_dtypes,
)
from features.batching import token_batches
from features.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.errors import FileRefused, InputError, NotFinite
from features.model import Block, StockModel, load
from features.normalize import normalizer
from features.pooling import DEFAULT_POOLING, HiddenStates, parse_poolings
from features.probe import CALIBRATION_TEXTS, PROBE_TEXTS
from features.reference import Reference
from features.spec import EncoderSpec, make_spec
from features.tokenizer import TextTokenizer, Tokens

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
T = TypeVar("T")
R = TypeVar("R")

# Half precision is taken by `dtype="auto"` only where every view keeps at least this mean cosine to
# float32 on `PROBE_TEXTS`; the contract of the design.
MIN_HALF_COSINE = 0.9999
# 8-bit integers must keep this on texts of the run.
MIN_INT8_COSINE = 0.99
_PROVING_TEXTS = 64
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}


class FrozenEncoder:
    """A frozen Hugging Face encoder that turns texts into pooled contextual embeddings.

    Parameters
    ----------
    model : str or Path
        `all-MiniLM-L6-v2`, a hub id or a local folder; see `find_checkpoint`.
    pooling : str or sequence of str
        The views to compute, all in one forward pass; see `features/pooling.py`.
    max_length : int, optional
        Tokens read of a text. Default: 128, or the model's limit where that is less.
    normalize : str
        `tweeteval` or `none`.
    dtype : str
        `auto`, `float32`, `bfloat16`, `float16` or `int8`. `auto` takes half precision where the device
        is faster in it and every view keeps a mean cosine of 0.9999 to float32, else float32. `int8`
        computes products of 8-bit integers, on the CPU: another encoder, with vectors about a percent
        away. It is refused where the mean cosine to float32 on texts of the run is below 0.99.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; several GPUs, each with its own batches, as in
        `cuda:0,cuda:1`.
    max_batch_tokens : int, optional
        Tokens in a batch. Changes the speed, not the vectors.
    backend : str
        `auto`, or a row of `features.backends.BACKENDS`. Changes the speed, not the vectors.
    revision : str, optional
        Branch, tag or commit of a hub model.

    Attributes
    ----------
    spec : EncoderSpec
        What makes its vectors comparable.
    views : dict of str to int
        Canonical name of each view and its width D.
    dtype : str
        What the forward pass computes in. Vectors come out in float32.

    Examples
    --------
    >>> from features import FrozenEncoder
    >>> encoder = FrozenEncoder(pooling=["cls", "mean@last4+sum"], dtype="float32")
    >>> vectors = encoder.encode(["what a day", "ugh, mondays", "what a day"])
    >>> {view: matrix.shape for view, matrix in vectors.items()}
    {'cls': (3, 384), 'mean@last4+sum': (3, 384)}
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        pooling: str | Sequence[str] = DEFAULT_POOLING,
        max_length: int | None = None,
        normalize: str = "tweeteval",
        dtype: str = "auto",
        device: str = "auto",
        max_batch_tokens: int | None = None,
        backend: str = "auto",
        revision: str | None = None,
    ) -> None:
        parse_poolings(pooling)  # before any file is read
        checkpoint = find_checkpoint(model, revision=revision)
        spec = make_spec(
            checkpoint,
            max_length=max_length,
            normalize=normalize,
            quantize="int8" if dtype == "int8" else "none",
        )
        self._load(checkpoint, spec, pooling, dtype, device, max_batch_tokens, backend)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        spec: EncoderSpec,
        *,
        pooling: str | Sequence[str] = DEFAULT_POOLING,
        dtype: str = "auto",
        device: str = "auto",
        max_batch_tokens: int | None = None,
        backend: str = "auto",
    ) -> FrozenEncoder:
        """Load the encoder of a spec that was made from, or checked against, these files."""
        encoder = cls.__new__(cls)
        encoder._load(checkpoint, spec, pooling, dtype, device, max_batch_tokens, backend)
        return encoder

    def _load(
        self,
        checkpoint: Checkpoint,
        spec: EncoderSpec,
        pooling: str | Sequence[str],
        dtype: str,
        device: str,
        max_batch_tokens: int | None,
        backend: str,
    ) -> None:
        self._poolings = parse_poolings(pooling)
        if dtype not in ("auto", *_DTYPES):
            raise InputError(f"unknown dtype {dtype!r}: choose one of auto, {', '.join(_DTYPES)}")
        if max_batch_tokens is not None and max_batch_tokens < 1:
            raise InputError(f"max batch tokens is {max_batch_tokens}; it must be at least 1")
        quantized = spec.quantization != "none"
        if quantized != (dtype == "int8"):
            raise InputError(
                f"dtype {dtype!r} can't make the vectors of an encoder with quantization "
                f"{spec.quantization!r}; give --dtype {'int8' if quantized else 'auto'}"
            )
        self._devices = choose_devices(device)
        self.device = self._devices[0]
        self._make_backend = find_backend(backend, self.device)
        self.spec = spec
        self._normalize = normalizer(spec.normalizer)
        self._tokenizer = TextTokenizer(checkpoint, spec.max_length)
        samples = self.tokenize([self._normalize(text) for text in CALIBRATION_TEXTS])
        n_probe = len(PROBE_TEXTS)
        probe = Tokens(samples.ids[:n_probe], samples.truncated[:n_probe])
        self._load_stock = partial(
            load, checkpoint, probe.ids[1].tolist(), self._tokenizer.padding_id
        )
        self._reference: Reference | None = None  # loaded anew where a text overflows
        stock = replace(
            self._load_stock(),
            samples=tuple(tuple(ids.tolist()) for ids in samples.ids),
        )
        self._check_vocabulary(stock)
        self._max_batch_tokens = max_batch_tokens or default_batch_tokens(
            self.device, stock.hidden_size
        )
        self.views = self._check_views(stock)
        self._n_layers = stock.n_layers
        numbers = {
            n
            for p in self._poolings
            for n in p.layer_numbers(stock.n_layers)
            if p.tokens != "pooler"
        }
        self._pooler = any(p.tokens == "pooler" for p in self._poolings)
        self._layers = sorted(numbers | ({stock.n_layers} if self._pooler else set()))
        self.flops_per_token = stock.flops_per_token(self._layers[-1])
        self._choose_dtype(stock, dtype, probe)

    @property
    def precision(self) -> str:
        """`float32`, `half` or `int8`: a store holds vectors of one of them, never two."""
        return self.dtype if self.dtype in ("float32", "int8") else "half"

    def encode(self, texts: Sequence[str]) -> dict[str, Matrix]:
        """Encode raw texts: normalise, tokenise, run, pool.

        Parameters
        ----------
        texts : sequence of str, (N,)
            Identical normalised texts are run once.

        Returns
        -------
        dict of str to float32 array (N, D)
            One matrix a view, rows in the order of `texts`.

        Raises
        ------
        NotFinite
            The vectors of some texts overflow, in float32 too.
        InputError
            The first texts, in int8, are too far from float32.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError(
                "encode takes a list of texts, each a str; put a single one into a list"
            )
        slots: dict[str, int] = {}
        rows = [slots.setdefault(self._normalize(text), len(slots)) for text in texts]
        unique = self.run(self.tokenize(list(slots)))
        bad = set(not_finite(unique).tolist())
        if bad:
            where = [number for number, row in enumerate(rows) if row in bad]
            raise NotFinite(
                f"the vectors of {len(where)} of {len(texts)} texts (the first is number {where[0]}) are "
                f"not finite, in float32 too: {self.spec.model} can't read them; leave them out",
                where,
            )
        return {view: matrix[rows] for view, matrix in unique.items()}

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Turn normalised texts into token ids, cut to `spec.max_length`.

        Raises
        ------
        FileRefused
            The tokenizer fails at one of them.
        """
        return self._tokenizer.tokenize(texts)

    def run(self, tokens: Tokens) -> dict[str, Matrix]:
        """Run the forward pass and pool; what is not finite is run again by `run_alone`.

        Parameters
        ----------
        tokens : Tokens
            N texts.

        Returns
        -------
        dict of str to float32 array (N, D)
            One matrix a view, rows in the order of `tokens`; see `not_finite`.

        Raises
        ------
        InputError
            The first texts, in int8, are too far from float32.
        """
        vectors = self._run(tokens)
        bad = not_finite(vectors)
        if len(bad):
            for view, matrix in self.run_alone([tokens.ids[i] for i in bad]).items():
                vectors[view][bad] = matrix
        return vectors

    def run_alone(self, ids: Sequence[npt.NDArray[np.int32]]) -> dict[str, Matrix]:
        """Run texts one by one, and in float32, by the stock model, those that overflow even so.

        One that overflows can take its neighbours in a packed batch with it (`features/attention.py`).
        What is not finite in the end is the model's own. Shapes are those of `run`.
        """
        each = [self._pool_batch(self._backends[0], [text]) for text in ids]
        for number, vectors in enumerate(each):
            if len(not_finite(vectors)):
                if self._reference is None:
                    self._reference = Reference(
                        self._load_stock(), self._layers, pooler=self._pooler
                    )
                each[number] = self._pool_batch(self._reference, [ids[number]])
        return {view: np.concatenate([vectors[view] for vectors in each]) for view in self.views}

    def _run(self, tokens: Tokens) -> dict[str, Matrix]:
        n = len(tokens.ids)
        vectors = {view: np.empty((n, width), np.float32) for view, width in self.views.items()}
        for rows, matrices in self.run_batches(tokens, self.plan(tokens)):
            for view, matrix in matrices.items():
                vectors[view][rows] = matrix
        return vectors

    def plan(self, tokens: Tokens) -> list[Rows]:
        """Group texts into batches, by their lengths alone; in the order in which they are run.

        Returns
        -------
        list of int arrays
            Numbers of texts; each text once.
        """
        # The longest first: a device that is too small for a batch says so at once, and no stream has
        # a long one left when the others are through.
        return token_batches(
            tokens.lengths, self._max_batch_tokens, one_length=self._backends[0].one_length
        )[::-1]

    def run_batches(
        self, tokens: Tokens, plan: Sequence[Rows], skip: Container[int] = ()
    ) -> Iterator[tuple[Rows, dict[str, Matrix]]]:
        """Run the batches of a plan, and give each as soon as it is done.

        What a batch gives does not depend on which others are run, or were skipped.

        Parameters
        ----------
        tokens : Tokens
            The texts that were planned.
        plan : sequence of int arrays
            From `plan`, as a whole.
        skip : container of int
            Numbers of batches that are not wanted.

        Yields
        ------
        rows : int array (B,)
            The batch, one of the plan.
        vectors : dict of str to float32 array (B, D)
            One matrix a view; maybe not finite, where half precision overflows.
        """
        if self._exact is not None and tokens.ids:
            self._prove(tokens, self._exact)
        idle: queue.SimpleQueue[Backend] = queue.SimpleQueue()
        for _ in range(self._backends[0].streams):
            for backend in self._backends:
                idle.put(backend)

        def run_batch(rows: Rows) -> tuple[Rows, dict[str, Matrix]]:
            backend = idle.get()
            try:
                return rows, self._pool_batch(backend, [tokens.ids[i] for i in rows])
            finally:
                idle.put(backend)

        # By the plan, not by what is left of it: products in several threads add up in another order.
        with _streams(min(idle.qsize(), len(plan))) as run_all:
            yield from run_all(run_batch, (r for n, r in enumerate(plan) if n not in skip))

    def _pool_batch(
        self, backend: Backend, ids: Sequence[npt.NDArray[np.int32]]
    ) -> dict[str, Matrix]:
        """Run a batch and pool it."""
        vectors = {
            view: np.empty((len(ids), width), np.float32) for view, width in self.views.items()
        }
        for block in backend.forward(ids):
            hidden = self._hidden_states(block)
            with torch.inference_mode():
                for pooling in self._poolings:
                    pooled = pooling.pool(hidden, self._n_layers)
                    vectors[pooling.name][block.texts] = pooled.cpu().numpy()
        return vectors

    def _hidden_states(self, block: Block) -> HiddenStates:
        width = block.layers[self._layers[0]].shape[1]
        position = torch.arange(width, device=block.lengths.device)
        ends = block.lengths[:, None]
        content = (position >= self._tokenizer.prefix) & (position < ends - self._tokenizer.suffix)
        # Asking an accelerator would wait for it.
        full = self.device.type == "cpu" and bool((block.lengths == width).all())
        attended = None if full else position < ends
        return HiddenStates(block.layers, attended, content, block.pooler)

    def _check_views(self, stock: StockModel) -> dict[str, int]:
        """Widths of the views, once all of them can be had from this model."""
        for pooling in self._poolings:
            if pooling.tokens == "pooler" and not stock.has_pooler:
                raise InputError(
                    f"pooling 'pooler': {self.spec.model} has no trained pooler; take cls or mean"
                )
            if pooling.tokens == "cls" and self._tokenizer.prefix == 0:
                raise InputError(
                    f"pooling {pooling.name!r}: {self.spec.model} puts no special token before a text; "
                    "take mean"
                )
        return {p.name: p.width(stock.n_layers, stock.hidden_size) for p in self._poolings}

    def _choose_dtype(self, stock: StockModel, asked: str, probe: Tokens) -> None:
        """Make the backends in the asked precision; `auto` proves it on the probe."""

        def make(dtype: str, device: torch.device) -> Backend:
            return self._make_backend(
                stock, self._layers, pooler=self._pooler, device=device, dtype=_DTYPES[dtype]
            )

        reference = Reference(stock, self._layers, pooler=self._pooler)
        # What int8 has to be compared with, until it has been.
        self._exact = reference if asked == "int8" else None
        candidates = [
            str(dtype).removeprefix("torch.")
            for dtype in half_dtypes(self.device)
            if asked == "auto" and dtype in self._make_backend.dtypes
        ]
        self._backends: list[Backend] = [reference]
        self.dtype = "float32"
        exact = self._run(probe) if candidates else {}
        for self.dtype in candidates:
            self._backends = [make(self.dtype, self.device)]
            # A model that overflows in this precision is not run in it: NaN is not above anything.
            if _least_mean_cosine(exact, self._run(probe)) >= MIN_HALF_COSINE:
                break
        else:
            self.dtype = "float32" if asked == "auto" else asked
            self._backends = [make(self.dtype, self.device)]
        self._backends += [make(self.dtype, device) for device in self._devices[1:]]

    def _prove(self, tokens: Tokens, exact: Backend) -> None:
        """Refuse int8 if it leaves the vectors of these texts too far from those in float32."""
        step = -(-len(tokens.ids) // _PROVING_TEXTS)
        some = Tokens(tokens.ids[::step], tokens.truncated[::step])
        in_int8, self._exact = self._backends, None
        found = self._run(some)
        self._backends, self.dtype = [exact], "float32"
        try:
            cosine = _least_mean_cosine(self._run(some), found)
        finally:
            self._backends, self.dtype = in_int8, "int8"
        if not cosine >= MIN_INT8_COSINE:
            raise InputError(
                f"dtype int8: {self.spec.model} keeps a mean cosine of only {cosine:.4f} to float32 on "
                f"{len(some.ids)} of these texts, and must keep {MIN_INT8_COSINE}; give --dtype auto"
            )

    def _check_vocabulary(self, stock: StockModel) -> None:
        """Refuse a tokenizer that gives ids for which the model has no embedding."""
        tokens, embeddings = self._tokenizer.n_tokens, stock.n_embeddings
        if tokens > embeddings:
            raise FileRefused(
                f"model {self.spec.model!r}: its tokenizer has {tokens} tokens, its weights embed "
                f"{embeddings}; the two don't belong together"
            )


@contextmanager
def _streams(n: int) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Give a `map` that runs n calls at a time, each in a thread of one core, or a plain one.

    With several, results come in the order in which they are done.
    """
    if n < 2:
        yield map
        return
    threads = torch.get_num_threads()
    # What is set in one thread counts for those that come after it as well, hence the way back.
    pool = ThreadPoolExecutor(n, "forward", initializer=torch.set_num_threads, initargs=(1,))

    def run_all(call: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        for done in as_completed([pool.submit(call, item) for item in items]):
            yield done.result()

    try:
        yield run_all
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def not_finite(vectors: Mapping[str, Matrix]) -> Rows:
    """Numbers of the rows that have a value, in any view, that is not finite."""
    finite = [np.isfinite(matrix).all(axis=1) for matrix in vectors.values()]
    return np.flatnonzero(~np.logical_and.reduce(finite))


def _least_mean_cosine(a: dict[str, Matrix], b: dict[str, Matrix]) -> float:
    """Mean over the texts of cos(a, b), for the view where it is least."""

    def mean_cosine(x: Matrix, y: Matrix) -> float:
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return float(np.mean((x * y).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)))

    # numpy's, which lets a NaN through.
    return float(np.min([mean_cosine(a[view], b[view]) for view in a]))
