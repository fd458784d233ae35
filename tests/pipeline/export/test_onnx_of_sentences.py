"""The view `sentence` in a graph: every pooling and every module of sentence-transformers."""

import numpy as np
import pytest
import torch
from architectures import N_LAYERS, TEXTS, WIDTH, variant
from exports import Exported, expected, head_on
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from torch import nn

from features.spec.sentence_modules import ACTIVATIONS, MODES
from pipeline.export.export import export


def norm(width):
    made = st.LayerNorm(width)
    nn.init.normal_(made.norm.weight)
    nn.init.normal_(made.norm.bias)
    return made


# Of each, what follows the pooling, in order.
STEPS = {
    "no steps": (),
    "residual": (
        lambda width: st.Dense(width, width, activation_function=nn.Tanh(), use_residual=True),
    ),
    "residual of another width": (lambda width: st.Dense(width, 24, use_residual=True),),
    "all": (lambda width: st.Dense(width, 40, bias=False), norm, lambda width: st.Normalize()),
    **{
        name: (
            lambda width, name=name: st.Dense(width, 24, activation_function=getattr(nn, name)()),
        )
        for name in ACTIVATIONS
    },
}


@pytest.mark.parametrize(
    ("steps", "include_prompt"),
    [
        ("all", False),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in STEPS),
    ],
)
def test_it_gives_what_predict_gives(steps, include_prompt, tiny_model, tmp_path):
    torch.manual_seed(0)
    transformer = st.Transformer(str(variant(tiny_model("bert"), tmp_path / "source")))
    made = [transformer, st.Pooling(WIDTH, MODES, include_prompt=include_prompt)]
    width = WIDTH * len(MODES)
    for step in STEPS[steps]:
        made.append(step(width))
        width = getattr(made[-1], "out_features", width)
    prompts = {"prompts": {"about": "the meeting: "}, "default_prompt_name": "about"}
    SentenceTransformer(modules=made, **prompts).save(str(tmp_path / "model"))
    head = head_on(
        tmp_path / "model",
        ["sentence"],
        n_layers=N_LAYERS,
        width=WIDTH,
        sentence_width=width,
        sentence=True,
    )
    assert head.sources[0].spec.prefix == "the meeting: "
    export(head, tmp_path / "out")
    np.testing.assert_allclose(
        Exported(tmp_path / "out").score(TEXTS), expected(head, TEXTS), atol=1e-5
    )
