"""Texts in, one matrix a view out, in input order: the frozen encoder.

`FrozenEncoder` puts together the tokenizer, a backend and the poolings. It reads and writes no
files but the model's own; `features/extract.py` does that.
"""

from __future__ import annotations

import queue
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.backends.choice import Choice, Runtime
from features.backends.registry import BACKENDS, Backend
from features.backends.streams import one_core, streams
from features.encoder.batching import token_batches
from features.encoder.engine import (
    Engine,
    Matrix,
    Rows,
    least_mean_cosine,
    load_engine,
    not_finite,
)
from features.errors import InputError, NotFinite
from features.spec.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.spec.normalize import normalizer
from features.spec.pooling import DEFAULT_POOLING, SENTENCE, parse_poolings
from features.spec.tokenizer import Tokens
from features.spec.unused_parts import unused_parts

# 8-bit integers must keep this mean cosine to float32 on texts of the run.
MIN_INT8_COSINE = 0.99
_PROVING_TEXTS = 64


class FrozenEncoder:
    """A frozen Hugging Face encoder that turns texts into pooled contextual embeddings.

    What runs the model is measured when it is loaded, and remembered for the next time
    (`features/backends/trial.py`); `choice` says what was taken.

    Parameters
    ----------
    model : str or Path
        `all-MiniLM-L6-v2`, a hub id or a local folder; see `find_checkpoint`.
    pooling : str or sequence of str
        The views to compute, all in one forward pass; see `features/spec/pooling.py`.
    max_length : int, optional
        Tokens read of a text. Default: 128, or the model's limit where that is less.
    normalize : str
        `tweeteval` or `none`.
    prefix : str
        What is put before each normalised text, where the model expects that: `query:` and a
        blank. It is part of what vectors mean.
    prompt_name : str, optional
        The name of a prompt in the model's folder that is the prefix; "" is none. Default: that
        which the folder says where a view is `sentence`, else none.
    dtype : str
        `auto`, `float32`, `bfloat16`, `float16` or `int8`. `auto` takes half precision where it is
        measured to be faster and every view keeps a mean cosine of 0.9999 to float32, else float32.
        `int8` computes products of 8-bit integers, on the CPU: another encoder, with vectors about
        a percent away. It is refused where it is not faster, or where the mean cosine to float32 on
        texts of the run is below 0.99.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; several GPUs, each with its own batches, as in
        `cuda:0,cuda:1`.
    max_batch_tokens : int, optional
        Tokens in a batch. Changes the speed, not the vectors.
    backend : str
        `auto`, the fastest of those that are installed, or a row of
        `features.backends.registry.BACKENDS`. Changes the speed, not the vectors.
    revision : str, optional
        Branch, tag or commit of a hub model.

    Attributes
    ----------
    spec : EncoderSpec
        What makes its vectors comparable.
    views : dict of str to int
        Canonical name of each view and its width D.
    choice : Choice
        What runs the model, and the rates by which it was chosen.
    dtype, device : str
        What the forward pass computes in, and on. Vectors come out in float32.
    flops_per_token : float
        See `StockModel.flops_per_token`.

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
        prefix: str = "",
        prompt_name: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        max_batch_tokens: int | None = None,
        backend: str = "auto",
        revision: str | None = None,
    ) -> None:
        views = [one.name for one in parse_poolings(pooling)]  # before any file is read
        checkpoint = find_checkpoint(model, revision=revision)
        spec = make_spec(
            checkpoint,
            max_length=max_length,
            normalize=normalize,
            prefix=prefix,
            prompt_name=prompt_name,
            quantize="int8" if dtype == "int8" else "none",
            sentence=SENTENCE in views,
        )
        runtime = Runtime(dtype, device, backend, max_batch_tokens)
        self._load(lambda: checkpoint, spec, pooling, runtime)
        for line in filter(None, [unused_parts(checkpoint, spec), self.remark]):
            warnings.warn(line, stacklevel=2)

    @classmethod
    def from_spec(
        cls,
        spec: EncoderSpec,
        find: Callable[[], Checkpoint],
        *,
        pooling: str | Sequence[str] = DEFAULT_POOLING,
        runtime: Runtime | None = None,
    ) -> FrozenEncoder:
        """Load the encoder of a spec; `find` gives files that are those of the spec."""
        encoder = cls.__new__(cls)
        encoder._load(find, spec, pooling, runtime or Runtime())
        return encoder

    def _load(
        self,
        find: Callable[[], Checkpoint],
        spec: EncoderSpec,
        pooling: str | Sequence[str],
        runtime: Runtime,
    ) -> None:
        poolings = parse_poolings(pooling)
        _check_runtime(runtime, spec)
        self.spec = spec
        self._normalize = normalizer(spec.normalizer)
        self._engine = load_engine(find, spec, poolings, runtime)
        self._check_prefix()
        self._reference: Backend | None = None  # loaded where a text overflows
        # What int8 has to be compared with, until it has been.
        self._unproved = self.dtype == "int8"

    @property
    def choice(self) -> Choice:
        """What runs the model, and the rates by which it was chosen."""
        return self._engine.choice

    @property
    def views(self) -> dict[str, int]:
        """Canonical name of each view and its width D."""
        return self._engine.views.widths

    @property
    def dtype(self) -> str:
        """What the forward pass computes in."""
        return self._engine.choice.candidate.dtype

    @property
    def device(self) -> str:
        """What it runs on; the first, where it is several."""
        return self._engine.device

    @property
    def flops_per_token(self) -> float:
        """Operations of the linear layers on a token, see `StockModel.flops_per_token`."""
        return self._engine.flops_per_token

    @property
    def precision(self) -> str:
        """`float32`, `half` or `int8`: a store holds vectors of one of them, never two."""
        return self._engine.choice.candidate.precision

    @property
    def truncation_side(self) -> str:
        """The end at which texts of too many tokens are cut: `right` or `left`."""
        return self._engine.tokenizer.vocabulary.truncation_side

    @property
    def remark(self) -> str:
        """What is odd about how the model reads texts, with the cure; "" where nothing is."""
        if not self._engine.tokenizer.loses_case():
            return ""
        return (
            f"model {self.spec.model!r}: case is lost: its tokenizer lower-cases texts, though its "
            'vocabulary is cased; if it was trained so, write {"do_lower_case": false} into '
            "tokenizer_config.json in its folder"
        )

    def _check_prefix(self) -> None:
        """Refuse a prefix that leaves no room for texts."""
        prefix, room = self.spec.prefix, self.spec.max_length
        tokens = self.tokenize([""]) if prefix else None
        if tokens is not None and (tokens.truncated[0] or tokens.lengths[0] >= room):
            raise InputError(
                f"`prefix` {prefix!r} takes all of the {room} tokens that are read of a text; give "
                "a shorter one, or more `max_length`"
            )

    def encode(self, texts: Iterable[str]) -> dict[str, Matrix]:
        """Encode raw texts: normalise, tokenise, run, pool.

        Parameters
        ----------
        texts : iterable of str, (N,)
            A list, a generator, a column of a frame of pandas, polars or Arrow. Identical
            normalised texts are run once.

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
        texts = as_texts(texts)
        slots: dict[str, int] = {}
        rows = [slots.setdefault(self._normalize(text), len(slots)) for text in texts]
        unique = self.run(self.tokenize(list(slots)))
        bad = set(not_finite(unique).tolist())
        if bad:
            where = [number for number, row in enumerate(rows) if row in bad]
            raise NotFinite(
                f"the vectors of {len(where)} of {len(texts)} texts (the first is number "
                f"{where[0]}) are not finite, in float32 too: {self.spec.model} can't read them; "
                "leave them out",
                where,
            )
        return {view: matrix[rows] for view, matrix in unique.items()}

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Turn normalised texts into token ids, behind the prefix, cut to `spec.max_length`.

        Raises
        ------
        FileRefused
            The tokenizer fails at one of them.
        """
        prefix = self.spec.prefix
        return self._engine.tokenizer.tokenize([prefix + t for t in texts] if prefix else texts)

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
        vectors = self._run(tokens, self._engine.backends)
        bad = not_finite(vectors)
        if len(bad):
            for view, matrix in self.run_alone([tokens.ids[i] for i in bad]).items():
                vectors[view][bad] = matrix
        return vectors

    def run_alone(self, ids: Sequence[npt.NDArray[np.int32]]) -> dict[str, Matrix]:
        """Run texts one by one, and in float32, by the stock model, those that overflow even so.

        One that overflows can take its neighbours in a packed batch with it
        (`features/backends/eager/packed_attention.py`). What is not finite in the end is the
        model's own. Shapes are those of `run`.
        """
        engine = self._engine
        with one_core() if engine.one_core else nullcontext():
            each = [engine.vectors(engine.backends[0], [text]) for text in ids]
            for number, vectors in enumerate(each):
                if len(not_finite(vectors)):
                    each[number] = engine.vectors(self._load_reference(), [ids[number]])
        return {view: np.concatenate([vectors[view] for vectors in each]) for view in self.views}

    def _load_reference(self) -> Backend:
        if self._reference is None:
            self._reference = self._engine.load_reference()
        return self._reference

    def _run(self, tokens: Tokens, backends: Sequence[Backend]) -> dict[str, Matrix]:
        n = len(tokens.ids)
        vectors = {view: np.empty((n, width), np.float32) for view, width in self.views.items()}
        self._prove(tokens)
        plan = _plan(tokens, self.choice.max_batch_tokens, backends[0])
        for rows, matrices in _batches(self._engine, backends, tokens, plan, ()):
            for view, matrix in matrices.items():
                vectors[view][rows] = matrix
        return vectors

    def plan(self, tokens: Tokens, max_batch_tokens: int | None = None) -> list[Rows]:
        """Group texts into batches, by their lengths alone; in the order in which they are run.

        Parameters
        ----------
        tokens : Tokens
        max_batch_tokens : int, optional
            Of a batch at most; default: as the encoder's own.

        Returns
        -------
        list of int arrays
            Numbers of texts; each text once.
        """
        budget = self.choice.max_batch_tokens if max_batch_tokens is None else max_batch_tokens
        return _plan(tokens, budget, self._engine.backends[0])

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
        self._prove(tokens)
        yield from _batches(self._engine, self._engine.backends, tokens, plan, skip)

    def _prove(self, tokens: Tokens) -> None:
        """Refuse int8 if it leaves the vectors of these texts too far from those in float32."""
        if not self._unproved or not tokens.ids:
            return
        self._unproved = False
        step = -(-len(tokens.ids) // _PROVING_TEXTS)
        some = Tokens(tokens.ids[::step], tokens.truncated[::step])
        found = self._run(some, self._engine.backends)
        cosine = least_mean_cosine(self._run(some, [self._load_reference()]), found)
        self._reference = None  # as large as the model, and hardly ever needed again
        if not cosine >= MIN_INT8_COSINE:
            self._unproved = True
            raise InputError(
                f"dtype int8: {self.spec.model} keeps a mean cosine of only {cosine:.4f} to "
                f"float32 on {len(some.ids)} of these texts, and must keep {MIN_INT8_COSINE}; "
                "give `dtype=auto`"
            )


def as_texts(texts: Iterable[str]) -> list[str]:
    """Give texts as a list, and refuse what is something else.

    Raises
    ------
    InputError
        It is a single text, a frame or a mapping, or one of them is no text.

    Examples
    --------
    >>> as_texts(text for text in ("a", "b"))
    ['a', 'b']
    """
    if isinstance(texts, str):
        raise InputError("encode takes a list of texts, each a str; put a single one into a list")
    # What is iterated over in a frame or a mapping are names, not texts.
    is_table = isinstance(texts, Mapping) or hasattr(texts, "columns")
    if is_table or not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) != 1:
        raise InputError(
            f"encode takes a list of texts, not a {type(texts).__name__}: give its column of "
            'texts, such as frame["text"]'
        )
    # What is iterated over in a column of Arrow are its own scalars.
    give = getattr(texts, "to_pylist", texts.__iter__)
    try:
        found = list(give())
    except UnicodeDecodeError as error:
        raise InputError(f"texts that are not UTF-8 can't be encoded: {error}") from error
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise InputError(
                f"encode takes a list of texts, each a str; number {number} is {text!r}, a "
                f"{type(text).__name__}: leave it out, or make it a text"
            )
    return found


def _check_runtime(runtime: Runtime, spec: EncoderSpec) -> None:
    """Refuse what can't be meant, before any file is read."""
    dtype, tokens = runtime.dtype, runtime.max_batch_tokens
    if dtype not in ("auto", *BACKENDS["torch"].dtypes):
        raise InputError(
            f"unknown dtype {dtype!r}: choose one of auto, {', '.join(BACKENDS['torch'].dtypes)}"
        )
    if tokens is not None and tokens < 1:
        raise InputError(f"max batch tokens is {tokens}; it must be at least 1")
    quantized = spec.quantization != "none"
    if quantized != (dtype == "int8"):
        raise InputError(
            f"dtype {dtype!r} can't make the vectors of an encoder with quantization "
            f"{spec.quantization!r}; give `dtype={'int8' if quantized else 'auto'}`"
        )


def _plan(tokens: Tokens, max_batch_tokens: int, backend: Backend) -> list[Rows]:
    # The longest first: a device that is too small for a batch says so at once, and no stream has
    # a long one left when the others are through.
    return token_batches(tokens.lengths, max_batch_tokens, one_length=backend.one_length)[::-1]


def _batches(
    engine: Engine,
    backends: Sequence[Backend],
    tokens: Tokens,
    plan: Sequence[Rows],
    skip: Container[int],
) -> Iterator[tuple[Rows, dict[str, Matrix]]]:
    """Run batches on all streams of some backends."""
    idle: queue.SimpleQueue[Backend] = queue.SimpleQueue()
    for _ in range(backends[0].streams):
        for backend in backends:
            idle.put(backend)

    def run_batch(rows: Rows) -> tuple[Rows, dict[str, Matrix]]:
        backend = idle.get()
        try:
            return rows, engine.vectors(backend, [tokens.ids[i] for i in rows])
        finally:
            idle.put(backend)

    # By the plan, not by what is left of it: products in several threads add up in another order.
    n_streams = min(idle.qsize(), len(plan))
    with streams(n_streams, one_core=engine.one_core) as run_all:
        yield from run_all(run_batch, (r for n, r in enumerate(plan) if n not in skip))
