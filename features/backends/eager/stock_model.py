"""Load a checkpoint as a stock transformers model in float32, and learn about it by running it.

In comes a `Checkpoint`, out goes a `StockModel`: where its layers are, whether it heeds padding,
whether it can run packed. These are found by running it on some tokens, not by the names of its
parts, so that an architecture that is not known here works as well. How it is run fast is the
business of the backends (`features/backends/registry.py`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn

from features.backends.eager.packed_attention import implementation, join, packing
from features.errors import FileRefused, InputError, foreign
from features.spec.checkpoint import Checkpoint
from features.spec.weights import wrapper_of

# Numbers that a model may have beside its weights, e.g. tables of positions.
_UNSAVED = 2**24
# Tokens of the longest text on which packing is proved: beyond a sliding window of the usual sizes.
_PROOF_TOKENS = 256


@dataclass(frozen=True)
class StockModel:
    """A frozen transformers encoder, in float32 on the CPU.

    Attributes
    ----------
    module : Module
        A `transformers` model, in evaluation mode. Backends take copies; it is not changed.
    layers : str, optional
        Name of the list of modules whose inputs, call by call, are the hidden states 0 to L-1. None
        where there is none; then every layer runs, and the model's own `hidden_states` are taken.
    n_layers, hidden_size, n_embeddings : int
        L, H, and the number of tokens that it knows.
    has_pooler : bool
        Whether the checkpoint holds a trained pooler.
    padding_id : int
        The token to pad with.
    probe : tuple of int
        The tokens of some text.
    heeds_padding : bool
        Whether a text gives the same beside padding. Models with convolutions or Fourier transforms
        see it although it is masked: texts of different lengths must not share a batch.
    first_position : int, optional
        Position id of a text's first token, where the model can run packed; None where it can't.
    samples : tuple of tuple of int
        Tokens of more texts, on which backends may measure what values come up.
    """

    module: Any
    layers: str | None
    n_layers: int
    hidden_size: int
    n_embeddings: int
    has_pooler: bool
    padding_id: int
    probe: tuple[int, ...]
    heeds_padding: bool
    first_position: int | None
    samples: tuple[tuple[int, ...], ...] = ()

    def layers_of(self, module: nn.Module) -> list[nn.Module]:
        """Give the layers of the model, or of a copy of it."""
        assert self.layers is not None, "the caller knows that there are some"
        found = module.get_submodule(self.layers)
        assert isinstance(found, nn.ModuleList), "`_find_layers` looks at these only"
        return list(found)

    @property
    def widths(self) -> tuple[int, int]:
        """Columns into and out of the widest linear layer."""
        linear = [part for part in self.module.modules() if isinstance(part, nn.Linear)]
        widest = max(linear, key=lambda part: part.weight.numel(), default=None)
        if widest is None:
            return self.hidden_size, self.hidden_size
        return widest.in_features, widest.out_features

    @property
    def heads(self) -> int | None:
        """How many heads attend, each to H / heads columns; None where that is not known."""
        heads = getattr(self.module.config, "num_attention_heads", None)
        known = isinstance(heads, int) and heads > 0 and self.hidden_size % heads == 0
        return heads if known else None

    def flops_per_token(self, deepest: int) -> float:
        """Count multiplications and additions a token, in linear layers up to state `deepest`.

        2 for each weight, each time that it is used. Attention between tokens, some percent more
        for short texts, is not counted. 0 where the layers are not known.
        """
        if self.layers is None:
            return 0.0
        layers = self.layers_of(self.module)
        # Fewer modules than layers: they are shared, and run again and again (ALBERT).
        runs = [layers[i * len(layers) // self.n_layers] for i in range(deepest)]
        return 2.0 * sum(
            part.weight.numel()
            for layer in runs
            for part in layer.modules()
            if isinstance(part, nn.Linear)
        )


def load(checkpoint: Checkpoint, probe: Sequence[int], padding_id: int) -> StockModel:
    """Load a checkpoint, and run it on a text.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its files.
    probe : sequence of int
        The tokens of some text.
    padding_id : int
        The token to pad with.

    Raises
    ------
    InputError
        It is not an encoder.
    FileRefused
        Tensors are missing, or it does not run.
    """
    module, missing = _load(checkpoint)
    untrained = [name for name in missing if "pooler" not in name]
    if untrained:
        raise FileRefused(
            f"model {checkpoint.name!r}: its weights lack {len(untrained)} of the encoder's "
            f"tensors ({', '.join(untrained[:3])}, …), so they would be random; fetch the model "
            "again"
        )
    ids = torch.tensor([list(probe)])
    beside = torch.nn.functional.pad(ids, (0, 5), value=padding_id)
    attended = torch.arange(beside.shape[1])[None] < ids.shape[1]
    with foreign(f"model {checkpoint.name!r} does not run as an encoder of texts"):
        with torch.inference_mode():
            output = module(
                input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
            )
            states = [state.clone() for state in output.hidden_states]
            padded = module(input_ids=beside, attention_mask=attended.long())
        hidden_size = int(states[0].shape[-1])
        if any(state.shape != (*ids.shape, hidden_size) for state in states):
            raise ValueError("its layers don't give one vector a token")
        n_embeddings = int(module.get_input_embeddings().weight.shape[0])
        layers = _find_layers(module, ids, states)
        heeds_padding = agree(padded.last_hidden_state[:, : ids.shape[1]], states[-1])
        first_position = _first_position(module, probe, padding_id) if heeds_padding else None
    return StockModel(
        module=module,
        layers=layers,
        n_layers=len(states) - 1,
        hidden_size=hidden_size,
        n_embeddings=n_embeddings,
        has_pooler=output.get("pooler_output") is not None
        and not any("pooler" in name for name in missing),
        padding_id=padding_id,
        probe=tuple(probe),
        heeds_padding=heeds_padding,
        first_position=first_position,
    )


def agree(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether two ways to compute hidden states differ by rounding in float32 only."""
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def long_text(module: Any, probe: Sequence[int], padding_id: int) -> list[int]:
    """Make a text on which a sliding window shows, if the model reads so much, of some tokens."""
    limit = getattr(module.config, "max_position_embeddings", None) or _PROOF_TOKENS
    room = max(len(probe), min(_PROOF_TOKENS, limit - padding_id - 2))
    return [*([*probe[:-1]] * room)[: room - 1], probe[-1]]


def _first_position(module: Any, probe: Sequence[int], padding_id: int) -> int | None:
    """Find the first position id with which packed texts give what they give alone.

    RoBERTa and its kin number positions from behind the padding token's id, others from 0. A model
    that does not ask the attention registry, or has position biases, gives other values packed.
    """
    # One text is long, so that a sliding window shows; the short ones lie between and behind.
    long = long_text(module, probe, padding_id)
    texts = [list(probe), long, list(probe[: max(2, len(probe) // 2)]), list(probe)]
    before = module.config._attn_implementation
    with torch.inference_mode():
        each = [torch.tensor([text]) for text in texts]
        alone = torch.cat(
            [
                module(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
                for ids in each
            ]
        )
        ids, borders = join(texts)
        try:
            module.set_attn_implementation(implementation(""))
            for first in (0, padding_id + 1):
                with packing(borders):
                    together = module(
                        input_ids=ids, position_ids=borders.positions(first)[None]
                    ).last_hidden_state[0]
                if together.shape == alone.shape and agree(together, alone):
                    return first
        except Exception:  # the border to foreign code: whatever it is, the model can't run packed
            return None
        finally:
            module.set_attn_implementation(before)
    return None


def _load(checkpoint: Checkpoint) -> tuple[Any, list[str]]:
    """Load in float32 on the CPU; give the model and the names of tensors that the files lack."""
    wrapper = wrapper_of(checkpoint.tensor_names())
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        with foreign(f"model {checkpoint.name!r} cannot be loaded"):
            config = transformers.AutoConfig.from_pretrained(
                checkpoint.folder, trust_remote_code=False, local_files_only=True
            )
            loader = _loader(checkpoint, config)
            _check_size(checkpoint, loader, config)
            model, info = loader.from_pretrained(
                checkpoint.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                key_mapping={f"^{re.escape(wrapper)}": ""} if wrapper else None,
            )
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
    return model.eval().requires_grad_(False), sorted(info["missing_keys"])


def _loader(checkpoint: Checkpoint, config: Any) -> Any:
    """Choose what loads the model: its usual class, or that of an encoder without its decoder.

    Chooses the attention, too, by what the class supports.
    """
    usual = transformers.MODEL_MAPPING[type(config)]
    usual = usual[0] if isinstance(usual, tuple) else usual
    config._attn_implementation = "sdpa" if usual._supports_sdpa else "eager"
    encoder = transformers.MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), usual)
    if encoder is usual and not config.is_encoder_decoder:
        return transformers.AutoModel
    kind = f"model {checkpoint.name!r} ({config.model_type}) is an encoder-decoder"
    if encoder is usual:
        raise InputError(f"{kind}; choose an encoder such as BERT, RoBERTa, ELECTRA or ModernBERT")
    if any("decoder" in name.split(".") for name in checkpoint.tensor_names()):
        raise InputError(
            f"{kind}; save its encoder alone with transformers and give that folder: "
            f"{encoder.__name__}.from_pretrained({checkpoint.name!r}).save_pretrained('encoder'), "
            f"AutoTokenizer.from_pretrained({checkpoint.name!r}).save_pretrained('encoder')"
        )
    return transformers.AutoModelForTextEncoding


def _check_size(checkpoint: Checkpoint, loader: Any, config: Any) -> None:
    """Refuse a config whose model the weights can't fill, before memory is taken for it.

    The model is built without memory first. What its files lack would be made up, at whatever size
    the config says; a number takes a byte of them at least.
    """
    with torch.device("meta"):
        model = loader.from_config(config, trust_remote_code=False)
    declared = sum(parameter.numel() for parameter in model.parameters())
    declared += sum(buffer.numel() for buffer in model.buffers())
    weight_bytes = sum(path.stat().st_size for path in checkpoint.weight_files)
    if declared > weight_bytes + _UNSAVED:
        raise FileRefused(
            f"model {checkpoint.name!r}: its config.json declares a model of {declared:,} numbers, "
            f"and its weights have {weight_bytes:,} bytes; fetch the model again"
        )


def _find_layers(
    module: nn.Module, ids: torch.Tensor, expected: Sequence[torch.Tensor]
) -> str | None:
    """Find the list of modules whose inputs, call by call, are the hidden states 0 to L-1.

    They are found by running the model and comparing with its own `hidden_states`, not by name, so
    it works for shared layers (ALBERT) and for what stands between layers (DeBERTa's convolution).
    """
    n_layers = len(expected) - 1
    for name, modules in module.named_modules():
        if not isinstance(modules, nn.ModuleList) or not len(modules):
            continue
        # Up to twice as many calls are recorded: a list that is called more often than L is
        # another.
        wanted = set(range(2 * n_layers))
        with (
            torch.inference_mode(),
            LayerTaps(list(modules)) as taps,
            taps.recording(wanted, -1) as states,
        ):
            output = module(input_ids=ids, attention_mask=torch.ones_like(ids))
        found = [*(states[number] for number in sorted(states)), output.last_hidden_state]
        if len(found) == len(expected) and all(map(torch.equal, found, expected)):
            return str(name)
    return None


class DeepestReached(Exception):
    """The signal that ends a forward pass behind the deepest layer that is wanted."""


class LayerTaps:
    """Hooks on a model's layers that hand their inputs, the hidden states, to a recorder.

    The input of layer i+1 is hidden state i. The last one is nobody's input: only the model can
    finish it (some put a norm behind the last layer). Several threads may record at a time, each
    its own pass.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._of_thread = threading.local()
        self._handles = [
            layer.register_forward_pre_hook(self._record, with_kwargs=True) for layer in layers
        ]

    def __enter__(self) -> LayerTaps:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def recording(self, wanted: set[int], deepest: int) -> Iterator[dict[int, torch.Tensor]]:
        """Record the hidden states of a pass in this thread, by number, while it is open.

        Once hidden state `deepest` is there, the pass is ended with `DeepestReached`.
        """
        states: dict[int, torch.Tensor] = {}
        self._of_thread.recording = (states, wanted, deepest)
        self._of_thread.calls = 0
        try:
            yield states
        finally:
            del self._of_thread.recording

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not hasattr(self._of_thread, "recording"):
            return
        states, wanted, deepest = self._of_thread.recording
        call = self._of_thread.calls
        if call in wanted:
            states[call] = args[0] if args else kwargs["hidden_states"]
        if call == deepest:
            raise DeepestReached
        self._of_thread.calls += 1
