"""Ways to turn texts into mean-pooled vectors, other people's and ours: one small function each.

`contenders` gives the table. A contender is built in a process of its own from a model folder and
gives a function from texts to a float32 matrix (N, D), rows in the order of the texts, and says
what runs there: libraries decide by themselves, and not always what they were asked for. What has
to be exported or quantised first is made by its `prepare`, in yet another process, so that neither
the time nor the memory for that counts. Every import stands inside the function that needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], Matrix]

# The same for all: tokens read of a text, texts in a batch (an accelerator starves on 32).
MAX_LENGTH = 256
BATCH = {"cpu": 32, "cuda": 512}
REFERENCE = "sentence-transformers float32"
FLATTENING = "flash_attention_2"  # with it sentence-transformers leaves out the padding


class Unavailable(Exception):
    """Why a contender does not run here."""


@dataclass(frozen=True)
class Place:
    """Where a contender finds the model, where it may leave files, and what it runs on."""

    folder: Path
    scratch: Path
    device: str


@dataclass(frozen=True)
class Built:
    """A contender that is ready to run.

    Attributes
    ----------
    encode : callable
        From texts to vectors.
    chosen : str
        What runs them, in a line.
    """

    encode: Encode
    chosen: str


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes
    ----------
    name, precision : str
        What it is called, and its class: `float32`, `half` or `int8`.
    build : callable
        Load the model, and give it ready to run.
    prepare : callable, optional
        Makes the files that `build` loads; does nothing if they are there.
    needs : tuple of str
        Distributions that must be installed.
    ours : bool
        Whether it is frostline.
    """

    name: str
    precision: str
    build: Callable[[Place], Built]
    prepare: Callable[[Place], None] | None = None
    needs: tuple[str, ...] = ()
    ours: bool = False

    def check_installed(self) -> None:
        """Raise `Unavailable` if a distribution is missing."""
        missing = [d for d in self.needs if importlib.util.find_spec(d.replace("-", "_")) is None]
        if missing:
            raise Unavailable(f"not installed (pip install {' '.join(missing)})")


def contenders(
    device: str, backends: Sequence[str], budgets: Sequence[int | None]
) -> list[Contender]:
    """Give those for a device; frostline with each backend and each budget of tokens in a batch."""
    ours = [
        Contender(
            ", ".join(
                [f"frostline {precision}"]
                + ([] if backend == "auto" else [backend])
                + ([] if budget is None else [f"{budget} tokens"])
            ),
            precision,
            partial(_frostline, precision=precision, backend=backend, budget=budget),
            ours=True,
        )
        for precision in ("float32", "half", "int8")
        for backend in backends
        for budget in budgets
        if (device, precision) != ("cuda", "int8")
    ]
    return [*(CUDA_PEERS if device == "cuda" else CPU_PEERS), *ours]


def _frostline(place: Place, precision: str, backend: str, budget: int | None) -> Built:
    from features import FrozenEncoder

    load = partial(
        FrozenEncoder,
        place.folder,
        pooling="mean",
        max_length=MAX_LENGTH,
        normalize="none",
        device=place.device,
        max_batch_tokens=budget,
        backend=backend,
    )
    encoder = load(dtype="auto" if precision == "half" else precision)
    note = ""
    if encoder.precision != precision:
        # The class is for those who want half precision, whatever it costs here.
        note = f"; asked for bfloat16: auto takes {encoder.choice.candidate}"
        encoder = load(dtype="bfloat16")
    choice = encoder.choice
    chosen = (
        f"{choice.summary()}; batches of {choice.max_batch_tokens:,} tokens, "
        f"{choice.streams} at a time{note}"
    )
    return Built(lambda texts: encoder.encode(texts)["mean"], chosen)


def _sentence_transformers(place: Place, dtype: str, attention: str = "sdpa") -> Built:
    import torch
    from sentence_transformers import SentenceTransformer, models

    transformer = models.Transformer(
        str(place.folder),
        max_seq_length=MAX_LENGTH,
        model_kwargs={"dtype": dtype, "attn_implementation": attention},
    )
    if attention == FLATTENING and not getattr(transformer, "can_flatten_inputs", False):
        raise Unavailable("this version of sentence-transformers does not flatten")
    pooling = models.Pooling(transformer.model.config.hidden_size, pooling_mode="mean")
    model = SentenceTransformer(modules=[transformer, pooling], device=place.device)
    size = BATCH[place.device]

    def encode(texts: Sequence[str]) -> Matrix:
        vectors = model.encode(list(texts), batch_size=size, show_progress_bar=False)
        return vectors.astype(np.float32, copy=False)

    kept = str(next(model.parameters()).dtype).removeprefix("torch.")
    threads = f"{torch.get_num_threads()} threads, " if place.device == "cpu" else ""
    return Built(encode, f"torch {kept}, attention {attention}, {threads}batches of {size}")


def _export_onnx(place: Place) -> None:
    target = place.scratch / "model.onnx"
    if target.exists():
        return
    import torch

    torch.onnx.export(
        _last_hidden_state(place.folder), _example(), str(target), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["hidden"],
        dynamic_axes={name: {0: "n", 1: "t"} for name in ("input_ids", "attention_mask", "hidden")},
    )  # fmt: skip


def _quantize_onnx(place: Place) -> None:
    target = place.scratch / "model.int8.onnx"
    if target.exists():
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _export_onnx(place)
    quantize_dynamic(
        place.scratch / "model.onnx", target, weight_type=QuantType.QInt8, per_channel=True
    )


def _onnxruntime(place: Place, file: str) -> Built:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(place.scratch / file), providers=["CPUExecutionProvider"]
    )
    encode = _sorted_batches(
        place, lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    )
    threads = session.get_session_options().intra_op_num_threads or "as many as it likes"
    providers = ", ".join(session.get_providers())
    return Built(encode, f"{providers}, threads: {threads}, batches of {BATCH[place.device]}")


def _convert_openvino(place: Place) -> None:
    target = place.scratch / "model.xml"
    if target.exists():
        return
    import openvino

    model = openvino.convert_model(_last_hidden_state(place.folder), example_input=_example())
    # The file is for both classes: its weights must stay in float32.
    openvino.save_model(model, target, compress_to_fp16=False)


def _openvino(place: Place, hint: str) -> Built:
    import openvino

    compiled = openvino.Core().compile_model(
        place.scratch / "model.xml",
        "CPU",
        {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"},
    )
    encode = _sorted_batches(place, lambda ids, mask: compiled([ids, mask])[0])
    # Where the processor has no instructions for a precision, OpenVINO takes another, and goes on.
    kept = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    threads, streams = (
        compiled.get_property(name) for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")
    )
    return Built(
        encode,
        f"asked for {hint}, computes in {kept}, {threads} threads, {streams} at a time, "
        f"batches of {BATCH[place.device]}",
    )


def _sorted_batches(place: Place, forward: Callable[[Any, Any], Any]) -> Encode:
    """Tokenise all, sort by length, pad to the longest of each batch, take the mean over tokens."""
    tokenizer = make_tokenizer(place.folder)
    size = BATCH[place.device]

    def batches(lengths: list[int]) -> Iterator[npt.NDArray[np.intp]]:
        order = np.argsort([-length for length in lengths], kind="stable")
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def encode(texts: Sequence[str]) -> Matrix:
        tokens = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        vectors: Matrix | None = None
        for batch in batches(list(map(len, tokens))):
            width = max(len(tokens[i]) for i in batch)
            ids, mask = np.zeros((2, len(batch), width), np.int64)
            for row, i in enumerate(batch):
                ids[row, : len(tokens[i])] = tokens[i]
                mask[row, : len(tokens[i])] = 1
            hidden = forward(ids, mask)
            if vectors is None:
                vectors = np.empty((len(tokens), hidden.shape[-1]), np.float32)
            weights = (mask / mask.sum(axis=1, keepdims=True)).astype(np.float32)
            vectors[batch] = np.matmul(weights[:, None], hidden)[:, 0]
        assert vectors is not None, "there is always a text"
        return vectors

    return encode


def make_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, cutting at `MAX_LENGTH`, without transformers."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def _last_hidden_state(folder: Path) -> Any:
    """The model as a module of ids and mask, which is what can be exported."""
    import torch
    from transformers import AutoModel

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    return LastHiddenState().requires_grad_(False)


def _example() -> tuple[Any, Any]:
    import torch

    return torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long)


_ST, _ORT, _OV = ("sentence-transformers",), ("onnx", "onnxruntime"), ("openvino",)


def _st(dtype: str, name: str = "", attention: str = "sdpa") -> Contender:
    precision = "float32" if dtype == "float32" else "half"
    build = partial(_sentence_transformers, dtype=dtype, attention=attention)
    return Contender(f"sentence-transformers {dtype}{name}", precision, build, needs=_ST)


def _ort(precision: str, file: str, prepare: Callable[[Place], None]) -> Contender:
    build = partial(_onnxruntime, file=file)
    return Contender(f"ONNX Runtime {precision}", precision, build, prepare, _ORT)


def _ov(dtype: str, precision: str, hint: str) -> Contender:
    build = partial(_openvino, hint=hint)
    return Contender(f"OpenVINO {dtype}", precision, build, _convert_openvino, _OV)


CPU_PEERS = [
    _st("float32"),
    _ort("float32", "model.onnx", _export_onnx),
    _ov("float32", "float32", "f32"),
    _st("bfloat16"),
    _ov("bfloat16", "half", "bf16"),
    _ort("int8", "model.int8.onnx", _quantize_onnx),
]
CUDA_PEERS = [
    _st("float32"),
    _st("float16"),
    _st("float16", ", flattened", attention=FLATTENING),
]
