"""Ways to run the frozen forward pass: token ids in, hidden states out. No pooling, no files.

There is one so far, stock transformers models in torch. A backend is given padded ids and a mask,
and gives back the layers that were asked for; layers behind the deepest of them do not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn

from features.checkpoint import Checkpoint
from features.errors import CannotContinue, FileRefused, InputError, first_line

# What the CPU must have for bfloat16 products to be faster than float32 ones (x86: AMX tiles or
# AVX-512 BF16; Arm: BF16 instructions). Without them bfloat16 is emulated and slow.
_CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")

# Tokens of a padded batch. Measured for the CPU with `benchmarks/extract.py --sweep-batch-tokens`:
# beyond some thousands the activations of a batch fall out of the cache. Accelerators want more.
DEFAULT_BATCH_TOKENS = {"cpu": 4096, "cuda": 65_536, "mps": 16_384}


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a device that is there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = name.partition(":")
    if kind not in DEFAULT_BATCH_TOKENS or (index and (kind != "cuda" or not index.isdigit())):
        raise InputError(f"unknown device {name!r}: choose one of auto, cpu, cuda, cuda:N, mps")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(mps)}[kind]
    if int(index or 0) >= there:
        raise InputError(f"device {name!r} is not there: this machine has {there} of kind {kind}")
    return torch.device(name)


def half_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """The half-precision types that this device computes faster than float32, best first.

    float16 has three more bits of mantissa than bfloat16, bfloat16 the range of float32.
    """
    if device.type == "cuda":
        return (torch.float16, torch.bfloat16)
    if device.type == "mps":
        return (torch.float16,)
    capabilities = torch.cpu.get_capabilities()
    return (torch.bfloat16,) if any(capabilities.get(c) for c in _CPU_BFLOAT16) else ()


class _DeepestReached(Exception):
    """Ends a forward pass behind the deepest layer that is wanted."""


class TorchBackend:
    """A stock transformers encoder in torch.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its files.
    probe : sequence of int
        The tokens of some text; run to find the model's layers, and whether it heeds padding.
    padding_id : int
        The token to pad with.

    Attributes
    ----------
    n_layers, hidden_size, n_embeddings : int
        L, H, and the number of tokens that it knows.
    device : torch.device
        Where the weights are; the CPU until `to` moves them.
    has_pooler : bool
        Whether the checkpoint holds a trained pooler.
    pads : bool
        Whether a text gives the same beside padding. Some models see it all the same (those with
        convolutions or Fourier transforms): texts of different lengths must not share a batch.
    """

    def __init__(self, checkpoint: Checkpoint, probe: Sequence[int], padding_id: int) -> None:
        self.model, missing = _load(checkpoint)
        self.device = torch.device("cpu")
        untrained = [name for name in missing if "pooler" not in name]
        if untrained:
            raise FileRefused(
                f"model {checkpoint.name!r}: its weights lack {len(untrained)} of the encoder's tensors "
                f"({', '.join(untrained[:3])}, …), so they would be random; fetch the model again"
            )
        ids = torch.tensor([list(probe)])
        beside = torch.nn.functional.pad(ids, (0, 5), value=padding_id)
        attended = torch.arange(beside.shape[1])[None] < ids.shape[1]
        try:
            with torch.inference_mode():
                output = self.model(
                    input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
                )
                states = [state.clone() for state in output.hidden_states]
                padded = self.model(input_ids=beside, attention_mask=attended.long())
            self.hidden_size = int(states[0].shape[-1])
            if any(state.shape != (*ids.shape, self.hidden_size) for state in states):
                raise ValueError("its layers don't give one vector a token")
            self.n_embeddings = int(self.model.get_input_embeddings().weight.shape[0])
            self._layers = _find_layers(self.model, ids, states)
        except Exception as error:  # the border to foreign code: any type can come
            raise FileRefused(
                f"model {checkpoint.name!r} does not run as an encoder of texts: {first_line(error)}"
            ) from error
        alone = states[-1]
        self.pads = torch.allclose(
            padded.last_hidden_state[:, : ids.shape[1]],
            alone,
            rtol=1e-3,
            atol=1e-4 * float(alone.abs().max()),
        )
        self.n_layers = len(states) - 1
        self.has_pooler = output.get("pooler_output") is not None and not any(
            "pooler" in name for name in missing
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the weights."""
        self.model.to(device=device, dtype=dtype)
        self.device = device

    def forward(
        self, ids: torch.Tensor, attended: torch.Tensor, layers: Sequence[int], *, pooler: bool
    ) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
        """Run one batch.

        Parameters
        ----------
        ids, attended : Tensor (B, T), int64 and bool
            Token ids, and where they are not padding. On this backend's device.
        layers : sequence of int
            Numbers of the layers to give back: 0 the embeddings, L the last.
        pooler : bool
            Whether to give back the pooler's output.

        Returns
        -------
        layers : dict of int to Tensor (B, T, H)
        pooler : Tensor (B, H) or None
        """
        with torch.inference_mode(), _no_memory_left(self.device):
            mask = attended.long()
            if self._layers is None:
                output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
                states = {number: output.hidden_states[number] for number in layers}
                return states, output.pooler_output if pooler else None
            deepest = self.n_layers if pooler else max(layers)
            with _tapped(self._layers, set(layers), deepest) as states:
                try:
                    output = self.model(input_ids=ids, attention_mask=mask)
                except _DeepestReached:
                    return states, None
            if self.n_layers in layers:
                states[self.n_layers] = output.last_hidden_state
            return states, output.pooler_output if pooler else None


@contextmanager
def _no_memory_left(device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CannotContinue(
            f"{device} ran out of memory; give a smaller --max-batch-tokens"
        ) from error


def _load(checkpoint: Checkpoint) -> tuple[Any, list[str]]:
    """Load in float32 on the CPU; give the model and the names of tensors that the files lack."""
    config = checkpoint.config
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"model {checkpoint.name!r} ({config.get('model_type')}) is an encoder-decoder; "
            "choose an encoder such as BERT, RoBERTa, ELECTRA or ModernBERT"
        )
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        model, info = transformers.AutoModel.from_pretrained(
            checkpoint.folder,
            config=_config(checkpoint),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # the border to foreign code and foreign files: any type can come
        raise FileRefused(
            f"model {checkpoint.name!r} cannot be loaded: {first_line(error)}"
        ) from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
    return model.eval().requires_grad_(False), sorted(info["missing_keys"])


def _config(checkpoint: Checkpoint) -> Any:
    """The model's config, with the attention that its class supports, whatever the file asks for."""
    config = transformers.AutoConfig.from_pretrained(
        checkpoint.folder, trust_remote_code=False, local_files_only=True
    )
    model_class = transformers.MODEL_MAPPING[type(config)]
    first = model_class[0] if isinstance(model_class, tuple) else model_class
    config._attn_implementation = "sdpa" if first._supports_sdpa else "eager"
    return config


def _find_layers(
    model: nn.Module, ids: torch.Tensor, expected: Sequence[torch.Tensor]
) -> list[nn.Module] | None:
    """Find the modules whose inputs, call by call, are the hidden states 0 to L-1.

    They are found by running the model and comparing with its own `hidden_states`, not by name, so
    it works for shared layers (ALBERT) and for what stands between layers (DeBERTa's convolution).
    None where there is no such list; then whole forward passes are run.
    """
    n_layers = len(expected) - 1
    for modules in (m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m)):
        layers = list(modules)
        # Up to twice as many calls are recorded: a list that is called more often than L is another.
        with torch.inference_mode(), _tapped(layers, set(range(2 * n_layers)), -1) as states:
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        found = [*(states[number] for number in sorted(states)), output.last_hidden_state]
        if len(found) == len(expected) and all(map(torch.equal, found, expected)):
            return layers
    return None


@contextmanager
def _tapped(
    layers: Sequence[nn.Module], wanted: set[int], deepest: int
) -> Iterator[dict[int, torch.Tensor]]:
    """While open, a forward pass leaves the inputs of its layers here, by number, and ends early.

    The input of layer i+1 is hidden state i. Once hidden state `deepest` is there, the pass is
    ended with `_DeepestReached`. The last one is nobody's input: only the model can finish it (some
    put a norm behind the last layer).
    """
    states: dict[int, torch.Tensor] = {}
    calls = 0

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal calls
        if calls in wanted:
            states[calls] = args[0] if args else kwargs["hidden_states"]
        if calls == deepest:
            raise _DeepestReached
        calls += 1

    handles = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
