"""Every way to run the frozen forward pass gives what transformers gives, text by text."""

import configparser
import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from architectures import (
    ARCHITECTURES,
    N_LAYERS,
    TEXTS,
    WORDS,
    Plain,
    plain_forward,
    stock_model,
)
from click.testing import CliRunner
from contracts import assert_same, check_backend_contract, states, with_other_neighbours

from features import FrozenEncoder
from features.backends.choice import PLAIN, PREPACKED, Candidate
from features.backends.eager.packed_attention import ATTENTION, implementation
from features.backends.eager.stock_model import StockModel
from features.backends.exported.runtime import runtime
from features.backends.registry import (
    BACKENDS,
    EXPORTED,
    Backend,
    backends_on,
    check_backend,
    make_backend,
)
from features.errors import FileRefused, InputError
from pipeline.cli.commands import main

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
MAX_LENGTH = 24
EVERY = list(range(N_LAYERS + 1))


def skip_without(name: str) -> None:
    for package in BACKENDS[name].packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def make(
    name: str,
    stock: StockModel,
    layers=EVERY,
    *,
    pooler=False,
    dtype="float32",
    kernels="",
    attention="",
) -> Backend:
    """A backend of the table on the CPU; skips where its package is not installed."""
    skip_without(name)
    candidate = Candidate(name, dtype, kernels, attention)
    return make_backend(candidate, stock, layers, pooler=pooler, device=CPU)


@dataclass(frozen=True)
class Case:
    """A backend of an architecture with all hidden states, and texts for it, shortest first."""

    stock: StockModel
    backend: Backend
    ids: list[np.ndarray]
    plain: list[Plain]


@pytest.fixture(scope="module")
def case(tiny_model) -> Callable[[str, str], Case]:
    @functools.cache
    def made(name: str, architecture: str) -> Case:
        folder = tiny_model(architecture)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        rows = [tokenizer(text, truncation=True, max_length=MAX_LENGTH) for text in TEXTS]
        ids = [np.array(row["input_ids"], np.int32) for row in rows]
        order = np.argsort([len(text) for text in ids], kind="stable")
        stock = stock_model(folder)
        backend = make(name, stock, pooler=ARCHITECTURES[architecture].pooler)
        plain = plain_forward(folder, [TEXTS[i] for i in order], MAX_LENGTH)
        return Case(stock, backend, [ids[i] for i in order], plain)

    return made


# What makes the others slow is not the forward pass, but that they translate and compile a model.
QUICK = ("bert", "modernbert", "deberta-v2")
ALL = [
    pytest.param(
        name,
        architecture,
        marks=[] if name == "torch" or architecture in QUICK else [pytest.mark.slow],
    )
    for name in BACKENDS
    for architecture in ARCHITECTURES
]
SOME = [(name, architecture) for name in BACKENDS for architecture in QUICK]


@pytest.mark.parametrize(("name", "architecture"), ALL)
def test_a_backend_keeps_its_contract(case, name, architecture):
    its = case(name, architecture)
    expected = [
        dict(enumerate(text.states)) | ({} if text.pooler is None else {"pooler": text.pooler})
        for text in its.plain
    ]
    check_backend_contract(its.backend, its.ids, expected)


# The same for one that packs: with a pooler, nothing is packed.
@pytest.mark.parametrize("kernels", [PREPACKED, PLAIN])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_torch_gives_the_same_packed(case, architecture, kernels):
    its = case("torch", architecture)
    backend = make("torch", its.stock, kernels=kernels)
    assert backend.packs == (its.stock.first_position is not None)
    assert_same(states(backend, its.ids), [dict(enumerate(text.states)) for text in its.plain])


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_half_precision_is_that_of_the_model_however_it_attends(case, architecture, attention):
    its = case("torch", architecture)
    backend = make("torch", its.stock, dtype="bfloat16", attention=attention)
    if backend.packs:
        assert backend.model.config._attn_implementation == implementation(attention)
    for found, text in zip(states(backend, its.ids), its.plain, strict=True):
        for number, state in found.items():
            cosine = torch.cosine_similarity(
                torch.as_tensor(state).float(), torch.as_tensor(text.states[number]), dim=-1
            )
            assert cosine.min() > 0.995


@pytest.mark.parametrize("layers", [[0], [1, 3], [0, 4]], ids=str)
@pytest.mark.parametrize("name", BACKENDS)
def test_the_layers_that_were_asked_for_and_no_others(case, name, layers):
    its = case(name, "bert")
    found = states(make(name, its.stock, layers), its.ids)
    assert_same(found, [{number: text.states[number] for number in layers} for text in its.plain])


@pytest.mark.parametrize("name", BACKENDS)
def test_the_pooler_comes_along_with_any_layers(case, name):
    its = case(name, "bert")
    found = states(make(name, its.stock, [1], pooler=True), its.ids)
    assert_same(found, [{1: text.states[1], "pooler": text.pooler} for text in its.plain])


def test_the_contract_sees_a_leak(case):
    """Stock attention lets all texts of a packed batch see each other: so the trap is armed."""
    its = case("torch", "bert")
    backend = make("torch", its.stock)
    assert backend.model.config._attn_implementation == implementation("")
    backend.model.set_attn_implementation("sdpa")
    together = states(backend, its.ids)
    after = states(backend, with_other_neighbours(its.ids, 0))
    alone = states(backend, its.ids[:1])
    for leaking in (after, alone):
        with pytest.raises(AssertionError, match="not close"):
            assert_same([leaking[0]], [together[0]])
    with pytest.raises(AssertionError, match="not close"):
        check_backend_contract(backend, its.ids, together)


# Batches that are odd.


@pytest.mark.parametrize(("name", "architecture"), SOME)
def test_texts_of_one_token_and_batches_of_one_text(case, name, architecture):
    its = case(name, architecture)
    token = np.array(its.stock.probe[:1], np.int32)
    expected = its.stock.module(input_ids=torch.tensor([its.stock.probe[:1]]))
    for batch in ([token], [token] * 5, [token, *its.ids]):
        found = states(its.backend, batch)[0][N_LAYERS]
        torch.testing.assert_close(found, expected.last_hidden_state[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_model_that_sees_padding_gets_texts_of_one_length(case, name):
    its = case(name, "bert")
    assert not its.backend.one_length
    seeing = replace(its.stock, heeds_padding=False, first_position=None)
    assert make(name, seeing, [0]).one_length


@pytest.mark.parametrize("name", BACKENDS)
def test_an_encoder_gives_the_same_vectors_with_each(tiny_model, name):
    skip_without(name)
    options = {"pooling": VIEWS, "normalize": "none", "max_length": MAX_LENGTH, "dtype": "float32"}
    plain = plain_forward(tiny_model("bert"), TEXTS, MAX_LENGTH)
    encoder = FrozenEncoder(tiny_model("bert"), backend=name, max_batch_tokens=60, **options)
    vectors = encoder.encode(TEXTS)
    for view, definition in VIEWS.items():
        expected = np.stack([definition(text).numpy() for text in plain])
        np.testing.assert_allclose(vectors[view], expected, rtol=0, atol=1e-5)


VIEWS: dict[str, Callable[[Plain], torch.Tensor]] = {
    "cls": lambda text: text.states[-1][0],
    "mean-content@2": lambda text: (
        text.states[2][text.content].sum(0) / max(1, int(text.content.sum()))
    ),
    "max@last2+concat": lambda text: torch.cat([s.amax(0) for s in text.states[-2:]]),
    "pooler": lambda text: text.pooler,
}


# Precision.


def openvino_has_bfloat16() -> bool:
    openvino = pytest.importorskip("openvino")
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize("name", BACKENDS)
def test_half_precision_keeps_the_direction(case, name):
    its = case(name, "bert")
    if "bfloat16" not in BACKENDS[name].dtypes:
        pytest.skip(f"{name} computes in float32 alone")
    if name == "openvino" and not openvino_has_bfloat16():
        with pytest.raises(InputError, match=r"OpenVINO computes in f32 .*: give `dtype=float32`$"):
            make(name, its.stock, [N_LAYERS], dtype="bfloat16")
        pytest.skip("OpenVINO has bfloat16 only where the processor has it")
    half = make(name, its.stock, [N_LAYERS], dtype="bfloat16")
    for found, text in zip(states(half, its.ids), its.plain, strict=True):
        mine, right = found[N_LAYERS].float().mean(0), text.states[N_LAYERS].mean(0)
        assert torch.cosine_similarity(mine, right, dim=0) >= 0.999
        assert (mine - right).abs().max() > 1e-4, "it was computed in bfloat16"


REFUSED = [("openvino", "float16", "float32 or bfloat16"), ("onnx", "bfloat16", "float32")]


@pytest.mark.parametrize(("name", "dtype", "allowed"), REFUSED)
def test_a_precision_that_it_does_not_have_is_refused_with_those_it_has(case, name, dtype, allowed):
    stock = case(name, "bert").stock
    with pytest.raises(
        InputError,
        match=f"'{name}' computes in {allowed}, not in {dtype}: "
        "give `dtype=float32` or `backend=torch`$",
    ):
        make(name, stock, [0], dtype=dtype)


@pytest.mark.parametrize(("name", "dtype", "allowed"), REFUSED)
def test_so_it_is_when_an_encoder_is_asked_for_it(tiny_model, name, dtype, allowed):
    skip_without(name)
    with pytest.raises(
        InputError, match=f"'{name}' computes in {allowed}.*, not in {dtype}: .*`dtype=float32`"
    ):
        FrozenEncoder(tiny_model("bert"), pooling="mean@0", backend=name, dtype=dtype)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_module_of_a_runtime_exports_and_loads(name):
    skip_without(name)
    module = runtime(name)
    assert module.__name__ == BACKENDS[name].module
    assert callable(module.export) and callable(module.load)


def test_what_runs_exports_is_all_but_torch():
    assert set(BACKENDS) - set(EXPORTED) == {"torch"}


@pytest.mark.parametrize("name", EXPORTED)
def test_an_extra_of_the_same_name_installs_its_packages(name):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options.extras_require"][name].split("\n")
    assert {line.split(" ")[0] for line in wanted if line} == set(BACKENDS[name].packages)


def test_auto_precision_is_one_that_the_backend_has(tiny_model, monkeypatch, tmp_path):
    skip_without("onnx")
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("features.encoder.loading.half_dtypes", lambda device: ("bfloat16",))
    assert FrozenEncoder(tiny_model("bert"), pooling="mean@0", backend="onnx").dtype == "float32"


# Translations that go wrong.


def test_a_translation_is_reported_to_nobody(case, tmp_path, monkeypatch):
    """OpenVINO tells Google Analytics of each one, unless it is kept from that."""
    pytest.importorskip("openvino_telemetry")
    stock, sent = case("torch", "bert").stock, []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", sent.append)
    monkeypatch.setattr("multiprocessing.Process", lambda **given: sent.append(given))
    make("openvino", stock, [0])
    assert (sent, list(tmp_path.iterdir())) == ([], [])
    assert "CI" not in os.environ


@pytest.mark.parametrize("name", EXPORTED)
def test_the_stock_model_stays_as_it_is(case, name):
    its = case(name, "bert")
    assert not any(part.training for part in its.stock.module.modules())
    assert {parameter.dtype for parameter in its.stock.module.parameters()} == {torch.float32}
    with torch.no_grad():
        found = its.stock.module(input_ids=torch.from_numpy(its.ids[-1]).long()[None])
    torch.testing.assert_close(found.last_hidden_state[0], its.plain[-1].states[-1])


@pytest.mark.parametrize("name", EXPORTED)
def test_a_model_that_cannot_be_translated_is_refused_with_the_cure(case, name):
    class Odd(torch.nn.Module):
        def forward(self, **inputs):
            raise NotImplementedError("of no use\nto anybody")

    stock = case(name, "bert").stock
    odd = Odd()
    odd.config = stock.module.config
    with pytest.raises(
        FileRefused, match=rf"'{name}' can't run .*: give `backend=torch`$"
    ) as error:
        make(name, replace(stock, module=odd), [0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("wrong", [-1.0, torch.nan])
def test_a_translation_that_gives_other_states_is_not_used(case, monkeypatch, name, wrong):
    stock = case(name, "bert").stock
    load = runtime(name).load

    def wrongly(*args):
        infer = load(*args)
        return lambda *inputs: [array * np.float32(wrong) for array in infer(*inputs)]

    monkeypatch.setattr(runtime(name), "load", wrongly)
    with pytest.raises(FileRefused, match="hidden states are others"):
        make(name, stock, [0])


@pytest.mark.parametrize("name", EXPORTED)
def test_a_translation_that_sees_padding_gets_texts_of_one_length(case, monkeypatch, name):
    stock = case(name, "bert").stock
    assert not make(name, stock, [0]).one_length
    load = runtime(name).load

    def seeing(*args):
        infer = load(*args)
        return lambda ids, attended: [a if attended.all() else -a for a in infer(ids, attended)]

    monkeypatch.setattr(runtime(name), "load", seeing)
    assert make(name, stock, [0]).one_length


def test_a_model_that_is_too_large_for_onnx_is_refused_with_the_cure(case, monkeypatch):
    stock = case("onnx", "bert").stock
    monkeypatch.setattr("features.backends.exported.onnx_runtime._MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"up to 2 GiB.* `backend=openvino` or `backend=torch`"):
        make("onnx", stock, [0])


# The command line.


@pytest.mark.parametrize("command", ["extract", "predict", "evaluate"])
def test_help_names_every_backend(command):
    (option,) = [p for p in main.commands[command].params if p.name == "backend"]
    named = re.findall(r"\w+", option.help.partition(":")[0])
    assert set(named) - {"or"} == {"auto", *BACKENDS}


def test_extract_and_predict_run_the_backend_that_was_asked_for(tiny_model, tmp_path, monkeypatch):
    made = []

    def noting(candidate, **options):
        made.append(candidate.backend)
        return make_backend(Candidate("torch", candidate.dtype), **options)

    monkeypatch.setattr("features.encoder.loading.make_backend", noting)
    monkeypatch.setattr("features.encoder.loading.check_backend", lambda name, device: None)
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    lines = [f"{word} is {word},{len(word) % 2}" for word in WORDS if word.isalpha()]
    Path("tweets.csv").write_text("\n".join(["text,label", *lines]))
    for typed in (
        f"extract tweets.csv -o t.h5 --model {tiny_model('bert')} --backend onnx",
        "fit t.h5 -o h.joblib --C 1",
        "predict h.joblib tweets.csv -o scored.csv --backend openvino",
        "evaluate h.joblib tweets.csv --backend torch",
    ):
        result = CliRunner().invoke(main, typed.split())
        assert result.exit_code == 0, result.output
    assert made == ["onnx", "openvino", "torch"]


# The table.


def test_a_name_that_is_not_in_the_table_is_refused_with_those_that_are():
    allowed = re.escape(", ".join(["auto", *BACKENDS]))
    with pytest.raises(InputError, match=f"unknown backend 'tpu': choose one of {allowed}"):
        check_backend("tpu", CPU)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_device_that_it_does_not_run_on_is_refused_with_the_cure(name):
    for device in {"cuda", "mps", "meta"} - set(BACKENDS[name].devices):
        with pytest.raises(
            InputError, match=rf"'{name}' runs on .*cpu.*, not on {device}.*`backend=torch`"
        ):
            check_backend(name, torch.device(device))


@pytest.mark.parametrize(
    ("name", "package"),
    [(name, package) for name in BACKENDS for package in BACKENDS[name].packages],
)
def test_a_package_that_is_not_installed_is_named_with_the_cure(monkeypatch, name, package):
    for needed in BACKENDS[name].packages:
        pytest.importorskip(needed)
    monkeypatch.setattr(
        "features.backends.registry.find_spec",
        lambda asked: None if asked == package else find_spec(asked),
    )
    with pytest.raises(
        InputError, match=rf"needs the package {package}: pip install 'frostline\[{name}\]'"
    ):
        check_backend(name, CPU)


def test_auto_is_a_row_of_the_table_that_is_installed_and_runs_on_the_device(
    tiny_model, every_backend, monkeypatch
):
    installed = [name for name in BACKENDS if all(map(find_spec, BACKENDS[name].packages))]
    assert backends_on(CPU) == installed
    for device in ("cuda", "mps"):
        assert backends_on(torch.device(device)) == [
            name for name in installed if device in BACKENDS[name].devices
        ]
    for missing in EXPORTED:
        package = BACKENDS[missing].packages[-1]
        with monkeypatch.context() as patch:
            patch.setattr(
                "features.backends.registry.find_spec",
                lambda asked, gone=package: None if asked == gone else find_spec(asked),
            )
            assert backends_on(CPU) == [name for name in installed if name != missing]
    choice = FrozenEncoder(tiny_model("bert"), pooling="mean@0").choice
    assert choice.candidate.backend in installed
    tried = {*choice.rates, *choice.left_out}
    assert {candidate.partition(" ")[0] for candidate in tried} == set(installed)


def test_an_encoder_refuses_a_backend_before_it_reads_the_model(tiny_model):
    with pytest.raises(InputError, match="unknown backend 'tpu'"):
        FrozenEncoder(tiny_model("bert"), backend="tpu")
