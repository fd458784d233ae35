"""Make a model ready to run: from its export without torch, or else with torch.

In come a spec with a way to find its files, the views, and the settings that the user or an earlier
run decided (`Runtime`); out goes an `Engine`. Where an earlier run found that an exported model is
the fastest, it is opened without loading torch; for everything else see
`features/encoder/loading.py`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from features.backends.choice import Choice, Runtime
from features.backends.exported.export_files import TOKENIZER, ExportPlace, read_export
from features.backends.exported.runtime import ExportedBackend
from features.backends.registry import EXPORTED, KERNEL_PACKAGES, Backend
from features.base.cache import recall, remember
from features.base.machine import machine, may_have_accelerator
from features.errors import FileRefused, InputError
from features.spec.checkpoint import Checkpoint
from features.spec.encoder_spec import EncoderSpec
from features.spec.pooling import SENTENCE, Pooling
from features.spec.sentence_folder import read_sentence_modules
from features.spec.sentence_modules import SentenceModules
from features.spec.tokenizer import TextTokenizer, open_tokenizer

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Views:
    """The views to be pooled from a model's hidden states.

    Attributes
    ----------
    poolings : tuple of Pooling or SentenceModules
    n_layers : int
        Of the model, L.
    widths : dict of str to int
        Canonical name of each view and its width D.
    layers : tuple of int
        Numbers of the hidden states that are needed, ascending.
    pooler : bool
        Whether the pooler's output is.
    """

    poolings: tuple[Pooling | SentenceModules, ...]
    n_layers: int
    widths: dict[str, int]
    layers: tuple[int, ...]
    pooler: bool


def with_modules(
    poolings: Sequence[Pooling],
    find: Callable[[], Checkpoint],
    spec: EncoderSpec,
    tokenizer: TextTokenizer,
) -> tuple[Pooling | SentenceModules, ...]:
    """Give the views, with the modules of the model's folder where one is `sentence`.

    Raises
    ------
    InputError
        The spec has no modules, so it is not that of the view.
    FileRefused
        They are not honoured, or not those of the spec.
    """
    if not any(pooling.tokens == SENTENCE for pooling in poolings):
        return tuple(poolings)
    checkpoint = find()
    modules = read_sentence_modules(checkpoint.with_modules())
    if modules.digest != spec.modules:
        raise FileRefused(
            f"pooling 'sentence': the modules of {checkpoint.name} are {modules.digest[:12]}, and "
            f"the encoder is of {spec.modules[:12] or 'none'}"
        )
    prompt = tokenizer.tokenize([spec.prefix]) if spec.prefix else None
    # What stands behind a text is none of the prompt.
    n = 0 if prompt is None else int(prompt.lengths[0]) - min(1, tokenizer.vocabulary.suffix)
    return tuple(
        modules.behind(n) if pooling.tokens == SENTENCE else pooling for pooling in poolings
    )


def wanted_views(
    poolings: tuple[Pooling | SentenceModules, ...],
    name: str,
    *,
    n_layers: int,
    hidden_size: int,
    has_pooler: bool,
    prefix: int,
) -> Views:
    """Find out what a model must give for some poolings.

    Raises
    ------
    InputError
        It can't give it.
    """
    for pooling in poolings:
        if pooling.tokens == "pooler" and not has_pooler:
            raise InputError(f"pooling 'pooler': {name} has no trained pooler; take cls or mean")
        if pooling.tokens == "cls" and prefix == 0:
            raise InputError(
                f"pooling {pooling.name!r}: {name} puts no special token before a text; take mean"
            )
    numbers = {n for p in poolings for n in p.layer_numbers(n_layers) if p.tokens != "pooler"}
    pooler = any(p.tokens == "pooler" for p in poolings)
    return Views(
        poolings,
        n_layers,
        {p.name: p.width(n_layers, hidden_size) for p in poolings},
        tuple(sorted(numbers | ({n_layers} if pooler else set()))),
        pooler,
    )


@dataclass(frozen=True)
class Engine:
    """A model that is ready to run.

    Attributes
    ----------
    tokenizer : TextTokenizer
    backends : tuple of Backend
        One for each device.
    choice : Choice
        What runs, and why.
    device : str
        The first device.
    views : Views
    flops_per_token : float
    load_reference : callable
        Loads the stock model as a backend: slow, and in float32.
    one_core : bool
        See `Runtime`.
    """

    tokenizer: TextTokenizer
    backends: tuple[Backend, ...]
    choice: Choice
    device: str
    views: Views
    flops_per_token: float
    load_reference: Callable[[], Backend]
    one_core: bool = False

    def vectors(self, backend: Backend, ids: Sequence[npt.NDArray[np.int32]]) -> dict[str, Matrix]:
        """Run a batch of B texts and pool it: a float32 array (B, D) a view."""
        return pooled(backend, ids, self.views, self.tokenizer)


def pooled(
    backend: Backend,
    ids: Sequence[npt.NDArray[np.int32]],
    views: Views,
    tokenizer: TextTokenizer,
) -> dict[str, Matrix]:
    """Run a batch of B texts and pool it: a float32 array (B, D) a view."""
    vocabulary = tokenizer.vocabulary
    vectors = {
        view: np.empty((len(ids), width), np.float32) for view, width in views.widths.items()
    }
    for part in backend.forward(ids):
        with _no_gradients():
            hidden = part.hidden_states(vocabulary.prefix, vocabulary.suffix)
            for pooling in views.poolings:
                found = pooling.pool(hidden, views.n_layers)
                vectors[pooling.name][part.texts] = (
                    found if isinstance(found, np.ndarray) else found.cpu().numpy()
                )
    return vectors


def not_finite(vectors: Mapping[str, Matrix]) -> Rows:
    """Find the rows that have a value, in any view, that is not finite."""
    finite = [np.isfinite(matrix).all(axis=1) for matrix in vectors.values()]
    return np.flatnonzero(~np.logical_and.reduce(finite))


def least_mean_cosine(a: dict[str, Matrix], b: dict[str, Matrix]) -> float:
    """Give the mean over the texts of cos(a, b), for the view where it is least."""

    def mean_cosine(x: Matrix, y: Matrix) -> float:
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return float(np.mean((x * y).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)))

    # numpy's, which lets a NaN through.
    return float(np.min([mean_cosine(a[view], b[view]) for view in a]))


def _no_gradients() -> AbstractContextManager[Any]:
    torch = sys.modules.get("torch")
    return torch.inference_mode() if torch else nullcontext()


def load_engine(
    find: Callable[[], Checkpoint],
    spec: EncoderSpec,
    poolings: tuple[Pooling, ...],
    runtime: Runtime,
) -> Engine:
    """Make a model ready to run, in the fastest way that is allowed and known.

    Parameters
    ----------
    find : callable
        Gives the files of the spec's model; asked only where they are needed: an export is found by
        the digests in the spec.
    spec, poolings, runtime

    Raises
    ------
    InputError, FileRefused, CannotContinue
    """
    memory = Memory.of(spec, poolings, runtime)
    found = _opened(find, spec, poolings, runtime, memory)
    if found is not None:
        return found
    checkpoint = find()
    with _no_collections():
        from features.encoder.loading import load_with_torch

        return load_with_torch(checkpoint, spec, poolings, runtime, memory)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keep Python from looking for garbage while torch is imported.

    That makes a million objects, and no garbage: a fifth of the time is saved.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# Raised where there are new ways to run a model, so that all are measured anew.
_WAYS = 3


@dataclass(frozen=True)
class Memory:
    """The memory of an encoder on this machine: the choice, and what was exported.

    Attributes
    ----------
    key : mapping
        The machine, the model, the views, and what was decided by hand.
    wider : mapping, optional
        The key of runs that were not held to a precision: what one of them took in the same
        precision is taken again, so that what is added to a file is made as the rest of it was.
    """

    key: Mapping[str, Any]
    wider: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, spec: EncoderSpec, poolings: Sequence[Pooling], runtime: Runtime) -> Memory:
        """Give the memory of an encoder."""
        key: dict[str, Any] = {
            "ways": _WAYS,
            "machine": machine(KERNEL_PACKAGES, of_one_core=runtime.one_core),
            "model": ExportPlace.of(spec).model,
            "max_length": spec.max_length,
            "views": sorted(pooling.name for pooling in poolings),
            "dtype": runtime.dtype,
            "device": runtime.device,
            "backend": runtime.backend,
            "max_batch_tokens": runtime.max_batch_tokens,
            "precision": runtime.precision,
        }
        if spec.modules:
            key["modules"] = spec.modules
        if runtime.one_core:
            key["one_core"] = True
        return cls(key, None if runtime.precision is None else {**key, "precision": None})

    def choice(self) -> Choice | None:
        """Give the choice of an earlier run, if there is one."""
        return self._found[0]

    def exported(self) -> tuple[list[int], bool] | None:
        """Give the hidden states that an earlier run took, and whether the pooler's output too."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[Choice | None, tuple[list[int], bool] | None]:
        for key in (self.key, self.wider):
            value: Any = {} if key is None else recall("choices", key)
            try:
                choice = Choice.from_dict(value["choice"], remembered=True)
                layers = [int(n) for n in value["layers"]], bool(value["pooler"])
            except (ValueError, TypeError, KeyError):
                continue
            if key is self.key or choice.candidate.precision == self.key["precision"]:
                return choice, layers
        return None, None

    def keep(self, choice: Choice, views: Views) -> None:
        """Remember a choice."""
        value = {"choice": choice.to_dict(), "layers": list(views.layers), "pooler": views.pooler}
        remember("choices", self.key, value)


def _opened(
    find: Callable[[], Checkpoint],
    spec: EncoderSpec,
    poolings: tuple[Pooling, ...],
    runtime: Runtime,
    memory: Memory,
) -> Engine | None:
    """Open an exported model, if that is what was chosen before; None where torch is needed."""
    if runtime.device not in ("auto", "cpu") or (
        runtime.device == "auto" and may_have_accelerator()
    ):
        return None
    choice, exported = runtime.begun or memory.choice(), memory.exported()
    if choice is None or exported is None or choice.candidate.backend not in EXPORTED:
        return None
    candidate = choice.candidate
    if runtime.backend not in ("auto", candidate.backend) or runtime.dtype not in (
        "auto",
        candidate.dtype,
    ):
        return None
    folder = ExportPlace.of(spec).folder(candidate.backend, *exported)
    export = read_export(folder)
    if export is None or export.vocabulary is None or candidate.dtype not in export.one_length:
        return None
    vocabulary = export.vocabulary
    content = (folder / TOKENIZER).read_text(encoding="utf-8")
    tokenizer = open_tokenizer(spec.model, content, vocabulary, spec.max_length)
    views = wanted_views(
        with_modules(poolings, find, spec, tokenizer),
        spec.model,
        n_layers=export.n_layers,
        hidden_size=export.hidden_size,
        has_pooler=export.has_pooler,
        prefix=vocabulary.prefix,
    )
    if (views.layers, views.pooler) != (export.layers, export.pooler):
        return None
    try:
        backend = ExportedBackend(candidate.backend, folder, export, candidate.dtype)
    except Exception:  # the border to foreign code: whatever it is, torch does without
        return None

    def load_reference() -> Backend:
        from features.encoder.loading import load_reference

        return load_reference(find(), spec, views)

    if runtime.max_batch_tokens is not None:
        choice = replace(choice, max_batch_tokens=runtime.max_batch_tokens)
    return Engine(
        tokenizer,
        (backend,),
        choice,
        "cpu",
        views,
        export.flops_per_token,
        load_reference,
        runtime.one_core,
    )
