"""Fused linear layers compute what stock ones compute; what is fused, by architecture."""

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, N_LAYERS, stock_model
from torch import nn

from features.backends.eager import forward
from features.backends.eager.forward import TorchBackend
from features.backends.eager.fused_layers import (
    Prepacked,
    PrepackedLinear,
    _Residual,
    _Single,
    can_fuse,
    fuse,
)

CPU = torch.device("cpu")
TOLERANCE = 1e-5
FUSED = [name for name in ARCHITECTURES if ARCHITECTURES[name].layers]


def needs(dtype):
    if not can_fuse(dtype):
        pytest.skip(f"torch has no oneDNN products of prepacked weights in {dtype} here")


def padded(stock):
    """Texts of two lengths, one beside padding: ids and mask."""
    long = [*stock.probe, *stock.probe[1:]]
    ids = torch.tensor([long, [*stock.probe, *[stock.padding_id] * (len(long) - len(stock.probe))]])
    attended = torch.ones_like(ids)
    attended[1, len(stock.probe) :] = 0
    return ids, attended


def run(module, stock):
    """The last hidden states of all tokens that are none of padding."""
    ids, attended = padded(stock)
    with torch.inference_mode():
        states = module(input_ids=ids, attention_mask=attended).last_hidden_state
    return states[attended.bool()].float()


def fused(stock, dtype=torch.float32):
    module = deepcopy(stock.module).to(dtype)
    fuse(module, stock.layers, lambda: run(module, stock), Prepacked(module))
    return module


@pytest.mark.parametrize("architecture", FUSED)
def test_fused_equals_stock_in_float32(tiny_model, architecture):
    needs(torch.float32)
    stock = stock_model(tiny_model(architecture))
    module = fused(stock)
    assert any(isinstance(part, _Single | _Residual) for part in module.modules())
    assert not any(type(part) is nn.Linear for part in module.get_submodule(stock.layers).modules())
    torch.testing.assert_close(run(module, stock), run(stock.module, stock), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("architecture", FUSED)
def test_fused_is_as_near_to_float32_as_stock_in_bfloat16(tiny_model, architecture):
    needs(torch.bfloat16)
    stock = stock_model(tiny_model(architecture))
    exact = run(stock.module, stock)
    errors = [
        float((run(module, stock) - exact).abs().mean())
        for module in (fused(stock, torch.bfloat16), deepcopy(stock.module).bfloat16())
    ]
    assert 0 < errors[0] <= 1.5 * errors[1]


# What becomes of the parts of a layer. Parts that read the same tensor are one product ("_Part"); a
# "_Residual" computes the product before it and the sum; an activation that is computed along with
# the product before it is left as "Identity".
QKV = dict.fromkeys(("query", "key", "value"), "_Part")
BERT = {
    **{f"attention.self.{name}": kind for name, kind in QKV.items()},
    "attention.output": "_Residual",
    "intermediate.dense": "_Single",
    "intermediate.intermediate_act_fn": "Identity",
    "output": "_Residual",
}
ENDS_OF_ITS_OWN = {  # no residual sum that is known
    "attention.output.dense": "_Single",
    "intermediate.dense": "_Single",
    "intermediate.intermediate_act_fn": "Identity",
    "output.dense": "_Single",
}
PARTS = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "camembert", "bertweet", "bert-japanese", "electra"),
        BERT,
    ),
    "distilbert": {
        **dict.fromkeys(("attention.q_lin", "attention.k_lin", "attention.v_lin"), "_Part"),
        "attention.out_lin": "_Single",
        "ffn.lin1": "_Single",
        "ffn.activation": "Identity",
        "ffn.lin2": "_Single",
    },
    "mpnet": {
        **dict.fromkeys(("attention.attn.q", "attention.attn.k", "attention.attn.v"), "_Part"),
        "attention.attn.o": "_Single",
        "intermediate.dense": "_Single",
        "intermediate.intermediate_act_fn": "Identity",
        "output": "_Residual",
    },
    "deberta": {
        "attention.self.in_proj": "_Single",  # one product already
        "attention.self.pos_proj": "_Part",  # both read the relative positions
        "attention.self.pos_q_proj": "_Part",
        **ENDS_OF_ITS_OWN,
    },
    # Keys and queries project the relative positions too (`share_att_key`), another tensor than the
    # values: they stay apart.
    "deberta-v2": {
        **{f"attention.self.{name}_proj": "_Single" for name in QKV},
        **{name: kind for name, kind in BERT.items() if "self" not in name},
    },
    "modernbert": {
        "attn.Wqkv": "_Single",
        "attn.Wo": "_Single",
        "mlp.Wi": "_Single",
        "mlp.Wo": "_Single",
    },
    "megatron-bert": {
        **{f"attention.self.{name}": kind for name, kind in QKV.items()},
        **ENDS_OF_ITS_OWN,
    },
    "albert": {
        **{f"albert_layers.0.attention.{name}": kind for name, kind in QKV.items()},
        "albert_layers.0.attention.dense": "_Single",
        "albert_layers.0.ffn": "_Single",
        "albert_layers.0.activation": "Identity",
        "albert_layers.0.ffn_output": "_Single",
    },
}


@pytest.mark.parametrize("architecture", FUSED)
def test_what_is_fused(tiny_model, architecture):
    needs(torch.float32)
    stock = stock_model(tiny_model(architecture))
    was = dict(stock.module.named_modules())
    module = fused(stock)
    changed = {
        name: type(part).__name__
        for name, part in module.named_modules()
        # What lies inside of a replacement is its own business.
        if name in was and type(part) is not type(was[name])
    }
    expected = {}
    for number in range(len(stock.layers_of(module))):
        expected |= {
            f"{stock.layers}.{number}.{k}": kind for k, kind in PARTS[architecture].items()
        }
    assert changed == expected


def test_layers_that_are_shared_are_fused_once(tiny_model):
    needs(torch.float32)
    stock = stock_model(tiny_model("albert"))
    module = fused(stock)
    prepacked = [part for part in module.modules() if isinstance(part, _Single | _Residual)]
    assert len(stock.layers_of(module)) == 1 < N_LAYERS
    assert len(prepacked) == 3, "beside query, key and value, which hold theirs together"


def test_the_stock_model_stays_as_it_is(tiny_model):
    stock = stock_model(tiny_model("bert"))
    before = [(name, type(part)) for name, part in stock.module.named_modules()]
    expected = run(stock.module, stock)
    TorchBackend(stock, [N_LAYERS], pooler=False, device=CPU, dtype=torch.float32)
    assert [(name, type(part)) for name, part in stock.module.named_modules()] == before
    assert torch.equal(run(stock.module, stock), expected)


def test_activations_that_are_not_known_stay(tiny_model):
    needs(torch.float32)
    stock = stock_model(tiny_model("bert"))
    module = deepcopy(stock.module)
    for layer in stock.layers_of(module):
        layer.intermediate.intermediate_act_fn = nn.SiLU()
    expected = run(module, stock)
    fuse(module, stock.layers, lambda: run(module, stock), Prepacked(module))
    assert type(stock.layers_of(module)[0].intermediate.intermediate_act_fn) is nn.SiLU
    torch.testing.assert_close(run(module, stock), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("wrong", [0.0, -1.0, torch.nan])
def test_a_fusion_that_goes_wrong_is_not_used(tiny_model, monkeypatch, wrong):
    def fuse_wrongly(model, layers, run, products):
        fuse(model, layers, run, products)
        for norm in model.modules():
            if type(norm) is nn.LayerNorm:
                norm.weight = nn.Parameter(norm.weight * wrong, requires_grad=False)

    stock = stock_model(tiny_model("bert"))
    monkeypatch.setattr(forward, "fuse", fuse_wrongly)
    backend = TorchBackend(stock, [N_LAYERS], pooler=False, device=CPU, dtype=torch.float32)
    assert not any(isinstance(part, _Single | _Residual) for part in backend.model.modules())
    (block,) = backend.forward([np.array(stock.probe, np.int32)])
    with torch.inference_mode():
        expected = stock.module(input_ids=torch.tensor([stock.probe])).last_hidden_state
    torch.testing.assert_close(block.layers[N_LAYERS], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("architecture", ["bert", "albert"])
def test_two_threads_run_a_fused_model_at_a_time(tiny_model, architecture):
    """They meet behind every query, so that each has one product under way while the other asks."""
    needs(torch.float32)
    stock = stock_model(tiny_model(architecture))
    module = fused(stock)
    together = threading.Barrier(2, timeout=30)

    def meet(*_):
        together.wait()

    def states(ids):
        with torch.inference_mode():
            return module(input_ids=ids).last_hidden_state

    texts = [torch.tensor([stock.probe]), torch.tensor([stock.probe[:1] * len(stock.probe)])]
    expected = [states(ids) for ids in texts]
    for name, part in module.named_modules():
        if name.endswith("query"):
            part.register_forward_hook(meet)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(states, texts))
    for mine, alone in zip(found, expected, strict=True):
        assert torch.equal(mine, alone)
    assert not torch.allclose(*expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_packed_product_by_hand(dtype):
    needs(dtype)
    weight = torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]], dtype=dtype)
    bias = torch.tensor([1.0, -2.0], dtype=dtype)
    x = torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, -1.0]], dtype=dtype)
    plain, positive = PrepackedLinear(weight, bias), PrepackedLinear(weight, bias, ("relu", ""))
    assert plain(x).tolist() == [[4.0, 0.0], [3.0, -5.0]]
    assert positive(x).tolist() == [[4.0, 0.0], [3.0, 0.0]]
    assert plain.plus(x, torch.ones(2, 2, dtype=dtype)).tolist() == [[5.0, 1.0], [4.0, -4.0]]
    assert PrepackedLinear(weight, None)(x).tolist() == [[3.0, 2.0], [2.0, -3.0]]


def test_no_operator_no_fusion(tiny_model, monkeypatch):
    def missing(*args):
        raise RuntimeError("no such operator")

    monkeypatch.setattr("features.backends.eager.fused_layers.PrepackedLinear", missing)
    assert not can_fuse(torch.float32)
    stock = stock_model(tiny_model("bert"))
    backend = TorchBackend(stock, [N_LAYERS], pooler=False, device=CPU, dtype=torch.float32)
    assert {type(part) for part in backend.model.modules()} == {
        type(part) for part in stock.module.modules()
    }
