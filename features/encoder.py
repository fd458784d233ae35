"""Texts in, one matrix a view out, in input order: the frozen encoder.

`FrozenEncoder` puts together the tokenizer, a backend and the poolings. It reads and writes no files
but the model's own; `features/extract.py` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from features.backends import (
    DEFAULT_BATCH_TOKENS,
    TorchBackend,
    choose_device,
    half_dtypes,
)
from features.batching import token_batches
from features.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from features.errors import CannotContinue, FileRefused, InputError, first_line
from features.normalize import normalizer
from features.pooling import DEFAULT_POOLING, HiddenStates, parse_poolings
from features.spec import EncoderSpec, make_spec

Matrix = npt.NDArray[np.float32]

# Half precision is taken by `dtype="auto"` only where every view keeps at least this mean cosine to
# float32 on the texts below; the contract of the design.
MIN_HALF_COSINE = 0.9999
_PROBE_TEXTS = (
    "ok",
    "not bad at all, actually!",
    "@user the 7:42 is late AGAIN. thanks for nothing http",
    "so happy for you two 🎉❤️ #wedding",
    "The council meets on Tuesday at 6 pm in the old library.",
    "I wanted to love this film, I really did, but two hours in I was checking my watch and by the "
    "third plot twist I'd have paid someone to let me out of there.",
    "¿alguien sabe a qué hora abre la biblioteca mañana?",
    "$AAPL up 3.2%, oil flat, and my savings account earned 4 cents. living the dream",
)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Tokens:
    """Texts as token ids, special tokens included.

    Attributes
    ----------
    ids : list of int32 arrays
        One a text, of at most `max_length`.
    truncated : list of bool
        Whether the text had more tokens than that.
    """

    ids: list[npt.NDArray[np.int32]]
    truncated: list[bool]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.ids]


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
        `auto`, `float32`, `bfloat16` or `float16`. `auto` takes half precision where the device is
        faster in it and every view keeps a mean cosine of 0.9999 to float32, else float32.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
    max_batch_tokens : int, optional
        Tokens in a padded batch. Changes the speed, not the vectors.
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
        revision: str | None = None,
    ) -> None:
        parse_poolings(pooling)  # before any file is read
        checkpoint = find_checkpoint(model, revision=revision)
        spec = make_spec(checkpoint, max_length=max_length, normalize=normalize)
        self._load(checkpoint, spec, pooling, dtype, device, max_batch_tokens)

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
    ) -> FrozenEncoder:
        """Load the encoder of a spec that was made from, or checked against, these files."""
        encoder = cls.__new__(cls)
        encoder._load(checkpoint, spec, pooling, dtype, device, max_batch_tokens)
        return encoder

    def _load(
        self,
        checkpoint: Checkpoint,
        spec: EncoderSpec,
        pooling: str | Sequence[str],
        dtype: str,
        device: str,
        max_batch_tokens: int | None,
    ) -> None:
        self._poolings = parse_poolings(pooling)
        if dtype not in ("auto", *_DTYPES):
            raise InputError(f"unknown dtype {dtype!r}: choose one of auto, {', '.join(_DTYPES)}")
        if max_batch_tokens is not None and max_batch_tokens < 1:
            raise InputError(f"max batch tokens is {max_batch_tokens}; it must be at least 1")
        self.device = choose_device(device)
        self.spec = spec
        self._max_batch_tokens = max_batch_tokens or DEFAULT_BATCH_TOKENS[self.device.type]
        self._normalize = normalizer(spec.normalizer)
        self._tokenizer = _load_tokenizer(checkpoint)
        self._prefix, self._suffix = self._count_special_tokens()
        probe = self.tokenize([self._normalize(text) for text in _PROBE_TEXTS])
        self._backend = TorchBackend(checkpoint, probe.ids[1].tolist(), self._padding_id())
        self._check_vocabulary()
        self.views = self._check_views()
        self.dtype = self._choose_dtype(dtype, probe)

    @property
    def precision(self) -> str:
        """`float32` or `half`: a store holds vectors of one of them, never both."""
        return "float32" if self.dtype == "float32" else "half"

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
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError(
                "encode takes a list of texts, each a str; put a single one into a list"
            )
        slots: dict[str, int] = {}
        rows = [slots.setdefault(self._normalize(text), len(slots)) for text in texts]
        unique = self.run(self.tokenize(list(slots)))
        return {view: matrix[rows] for view, matrix in unique.items()}

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Turn normalised texts into token ids, cut to `spec.max_length`."""
        limit = self.spec.max_length
        if not texts:
            return Tokens([], [])
        if self._tokenizer.is_fast:
            fast = self._tokenizer.backend_tokenizer
            fast.no_padding()
            fast.enable_truncation(limit, direction=self._tokenizer.truncation_side)
            encodings = fast.encode_batch_fast(list(texts))
            return Tokens(
                [self._as_array(encoding.ids) for encoding in encodings],
                [bool(encoding.overflowing) for encoding in encodings],
            )
        whole = self._tokenizer(list(texts), truncation=False, padding=False, verbose=False)
        cut = self._tokenizer(list(texts), truncation=True, max_length=limit, padding=False)
        return Tokens(
            [self._as_array(ids) for ids in cut["input_ids"]],
            [len(ids) > limit for ids in whole["input_ids"]],
        )

    def _as_array(self, ids: Sequence[int]) -> npt.NDArray[np.int32]:
        """Token ids of a text; one unknown token where a tokenizer makes none of an empty text."""
        if not len(ids):
            ids = [int(self._tokenizer.unk_token_id or self._padding_id())]
        return np.asarray(ids, dtype=np.int32)

    def run(
        self, tokens: Tokens, on_batch: Callable[[int], None] | None = None
    ) -> dict[str, Matrix]:
        """Run the forward pass and pool.

        Parameters
        ----------
        tokens : Tokens
            N texts.
        on_batch : callable, optional
            Called after each batch with the number of texts done.

        Returns
        -------
        dict of str to float32 array (N, D)
            One matrix a view, rows in the order of `tokens`.

        Raises
        ------
        CannotContinue
            A vector is not finite: the values overflowed in half precision.
        """
        lengths = tokens.lengths
        vectors = {
            view: np.empty((len(lengths), width), np.float32) for view, width in self.views.items()
        }
        done = 0
        # The longest first: a device that is too small for a batch says so at once.
        batches = token_batches(lengths, self._max_batch_tokens, one_length=not self._backend.pads)
        for batch in reversed(batches):
            for view, pooled in self._run_batch([tokens.ids[i] for i in batch]).items():
                vectors[view][batch] = pooled
            done += len(batch)
            if on_batch is not None:
                on_batch(done)
        for view, matrix in vectors.items():
            if not np.isfinite(matrix).all():
                row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
                raise CannotContinue(
                    f"view {view!r} has values that are not finite in {self.dtype} (text {row} of "
                    f"{len(lengths)}); compute in float32 (--dtype float32)"
                )
        return vectors

    def _run_batch(self, ids: Sequence[npt.NDArray[np.int32]]) -> dict[str, Matrix]:
        lengths = np.array([len(row) for row in ids])
        width = int(lengths.max())
        padded = np.full((len(ids), width), self._padding_id(), dtype=np.int64)
        for row, text in zip(padded, ids, strict=True):
            row[: len(text)] = text
        position = np.arange(width)
        attended = position < lengths[:, None]
        content = (position >= self._prefix) & (position < lengths[:, None] - self._suffix)
        on_device = [torch.from_numpy(a).to(self.device) for a in (padded, attended, content)]
        n_layers = self._backend.n_layers
        wanted = {
            n for p in self._poolings for n in p.layer_numbers(n_layers) if p.tokens != "pooler"
        }
        pooler = any(p.tokens == "pooler" for p in self._poolings)
        layers, pooled = self._backend.forward(
            on_device[0],
            on_device[1],
            sorted(wanted | ({n_layers} if pooler else set())),
            pooler=pooler,
        )
        hidden = HiddenStates(layers, on_device[1], on_device[2], pooled)
        with torch.inference_mode():
            return {p.name: p.pool(hidden, n_layers).cpu().numpy() for p in self._poolings}

    def _check_views(self) -> dict[str, int]:
        """Widths of the views, once all of them can be had from this model."""
        for pooling in self._poolings:
            if pooling.tokens == "pooler" and not self._backend.has_pooler:
                raise InputError(
                    f"pooling 'pooler': {self.spec.model} has no trained pooler; take cls or mean"
                )
            if pooling.tokens == "cls" and self._prefix == 0:
                raise InputError(
                    f"pooling {pooling.name!r}: {self.spec.model} puts no special token before a text; "
                    "take mean"
                )
        backend = self._backend
        return {p.name: p.width(backend.n_layers, backend.hidden_size) for p in self._poolings}

    def _choose_dtype(self, asked: str, probe: Tokens) -> str:
        """Move the model to the device in the asked precision; `auto` proves it on the probe."""
        if asked != "auto":
            self._backend.to(self.device, _DTYPES[asked])
            return asked
        self.dtype = "float32"
        self._backend.to(self.device, torch.float32)
        candidates = half_dtypes(self.device)
        if candidates:
            in_float32 = self._backend
            exact = self.run(probe)
            for candidate in candidates:
                self.dtype = str(candidate).removeprefix("torch.")
                self._backend = deepcopy(in_float32)
                self._backend.to(self.device, candidate)
                try:
                    if _least_mean_cosine(exact, self.run(probe)) >= MIN_HALF_COSINE:
                        return self.dtype
                except CannotContinue:
                    continue  # it overflows: not a precision for this model
            self._backend = in_float32
        return "float32"

    def _count_special_tokens(self) -> tuple[int, int]:
        """How many special tokens the tokenizer puts before and behind a text."""
        mask = self._tokenizer("a b", return_special_tokens_mask=True)["special_tokens_mask"]
        first = mask.index(0) if 0 in mask else len(mask)
        return first, mask[::-1].index(0) if 0 in mask else 0

    def _check_vocabulary(self) -> None:
        """Refuse a tokenizer that gives ids for which the model has no embedding."""
        tokens, embeddings = len(self._tokenizer), self._backend.n_embeddings
        if tokens > embeddings:
            raise FileRefused(
                f"model {self.spec.model!r}: its tokenizer has {tokens} tokens, its weights embed "
                f"{embeddings}; the two don't belong together"
            )

    def _padding_id(self) -> int:
        # Padding is masked, so that any id will do where the tokenizer has none; but models that
        # number positions by what is not padding need the right one.
        return int(self._tokenizer.pad_token_id or 0)


def _least_mean_cosine(a: dict[str, Matrix], b: dict[str, Matrix]) -> float:
    """Mean over the texts of cos(a, b), for the view where it is least."""

    def mean_cosine(x: Matrix, y: Matrix) -> float:
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return float(np.mean((x * y).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)))

    return min(mean_cosine(a[view], b[view]) for view in a)


def _load_tokenizer(checkpoint: Checkpoint) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # the border to foreign code and foreign files: any type can come
        raise FileRefused(
            f"model {checkpoint.name!r}: its tokenizer cannot be loaded: {first_line(error)}"
        ) from error
