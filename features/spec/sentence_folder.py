"""Read the modules and prompts of a sentence-transformers folder, or refuse what is not honoured.

In comes the folder of a model, out goes a `SentenceModules` (`features/spec/sentence_modules.py`).
What would change the vectors and is not known here is refused, with the module's name: the vectors
are those of sentence-transformers, or there are none. Code and pickles of a model never run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import FileRefused, InputError
from features.spec.model_files import load_json, read_json
from features.spec.sentence_modules import ACTIVATIONS, MODES, Array, SentenceModules, Step
from features.spec.weights import read_tensors

# Modes of pooling by the keys of older folders, in the order in which their vectors stand.
_OLDER_MODES = dict(
    zip(
        (
            "pooling_mode_cls_token",
            "pooling_mode_max_tokens",
            "pooling_mode_mean_tokens",
            "pooling_mode_mean_sqrt_len_tokens",
            "pooling_mode_weightedmean_tokens",
            "pooling_mode_lasttoken",
        ),
        MODES,
        strict=True,
    )
)
_ABOUT = "config_sentence_transformers.json"


def top_of(folder: Path) -> Path:
    """Give the folder that lists the modules; older ones have one below it for the transformer."""
    inside = not (folder / "modules.json").is_file() and (folder.parent / "modules.json").is_file()
    return folder.parent if inside else folder


def prompts_of(folder: Path) -> dict[str, str]:
    """Give the prompts that a model expects before texts, by name; without empty ones."""
    found = about(folder).get("prompts")
    return {
        str(name): text
        for name, text in (found.items() if isinstance(found, dict) else ())
        if isinstance(text, str) and text
    }


def about(folder: Path) -> dict[str, Any]:
    """Give what a folder says of itself besides its modules; nothing where that is damaged."""
    with suppress(FileRefused):
        if (folder / _ABOUT).is_file():
            return read_json(folder / _ABOUT)
    return {}


def prompt_named(folder: Path, name: str | None) -> str:
    """Give the prompt of a name, by default that which the folder says; "" is none.

    Raises
    ------
    InputError
        There is none of that name.
    """
    prompts = prompts_of(folder)
    if name is None:
        return prompts.get(str(about(folder).get("default_prompt_name")), "")
    if name and name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise InputError(
            f"`prompt_name` {name!r}: the model has no such prompt; it has: {known}; `prefix` puts "
            "any text before the tweets"
        )
    return prompts.get(name, "")


def read_sentence_modules(folder: Path) -> SentenceModules:
    """Read what a folder's modules.json names.

    Parameters
    ----------
    folder : Path
        Of the transformer, or the one above it that holds modules.json.

    Raises
    ------
    InputError
        It is no folder of sentence-transformers.
    FileRefused
        A module, or what its config says, is not honoured here; it is named.
    """
    top = top_of(folder)
    path = top / "modules.json"
    if not path.is_file():
        raise InputError(
            f"pooling 'sentence': {folder} is no folder of sentence-transformers, as there is no "
            "modules.json; take another pooling, such as mean"
        )
    listed = modules_in(path)
    layer_weights: tuple[float, ...] = ()
    if [kind for kind, _ in listed[1:2]] == ["WeightedLayerPooling"]:
        layer_weights = _layer_weights(folder, top / listed.pop(1)[1])
    kinds = [kind for kind, _ in listed]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise FileRefused(
            f"pooling 'sentence': {path} lists {', '.join(kinds) or 'nothing'}; it must begin with "
            "Transformer and Pooling; take another pooling, such as mean"
        )
    settings = _settings(folder, top)
    modes, include_prompt = _modes(top / listed[1][1] / "config.json")
    steps = [
        _step(kind, top / name)
        for kind, name in listed[2:]
        if kind != "Dropout"  # it does nothing to a model that is not trained
    ]
    length = settings.get("max_seq_length")
    max_length = length if type(length) is int and length > 0 else None
    return SentenceModules(modes, tuple(steps), include_prompt, max_length, layer_weights)


def modules_in(path: Path) -> list[tuple[str, str]]:
    """Give the modules that a modules.json lists: kind and folder, in order.

    Raises
    ------
    FileRefused
        One is not honoured here, or lies elsewhere.
    """
    modules = load_json(path)
    listed = modules if isinstance(modules, list) else []
    return [(_kind(module, path), _path(module, path)) for module in listed]


def _kind(module: object, path: Path) -> str:
    name = str(module.get("type")) if isinstance(module, dict) else ""
    package, _, kind = name.rpartition(".")
    known = (
        "Transformer",
        "WeightedLayerPooling",
        "Pooling",
        "Dense",
        "LayerNorm",
        "Normalize",
        "Dropout",
    )
    if package.partition(".")[0] != "sentence_transformers" or kind not in known:
        raise FileRefused(
            f"pooling 'sentence': module {name!r} of {path} is not honoured, only "
            f"{', '.join(known)} of sentence_transformers are; take another pooling, such as mean"
        )
    return kind


def _path(module: Mapping[str, Any], path: Path) -> str:
    name = module.get("path")
    if not isinstance(name, str) or Path(name).name != name:
        raise FileRefused(f"{path} names a path outside of its folder: {str(name)[:100]!r}")
    return name


def _settings(folder: Path, top: Path) -> dict[str, Any]:
    """Read what is said of the transformer, and refuse what would change the vectors."""
    found = [*sorted(folder.glob("sentence_*_config.json"))][:1]
    settings = read_json(found[0]) if found else {}
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise FileRefused(f"pooling 'sentence': {found[0]} says transformer_task {task!r}")
    tokenizer = folder / "tokenizer_config.json"
    lowers = tokenizer.is_file() and read_json(tokenizer).get("do_lower_case") is True
    if settings.get("do_lower_case") is True and not lowers:
        raise FileRefused(
            f"pooling 'sentence': do_lower_case of {found[0]} is not honoured: write it into "
            "tokenizer_config.json, which tokenizers of BERT heed, or lower-case the tweets and "
            "remove it"
        )
    if about(top).get("truncate_dim") is not None:
        raise FileRefused(f"pooling 'sentence': truncate_dim of {top / _ABOUT} is not honoured")
    return settings


def _layer_weights(folder: Path, module: Path) -> tuple[float, ...]:
    """Read the weights of the last layers, whose mean is pooled.

    Raises
    ------
    FileRefused
        They are none, or would be passed over, as sentence-transformers does in silence where the
        config does not say that the model gives its layers.
    """
    if read_json(folder / "config.json").get("output_hidden_states") is not True:
        raise FileRefused(
            f"pooling 'sentence': WeightedLayerPooling in {module} has no effect, as "
            f"{folder / 'config.json'} does not say output_hidden_states; remove one of them"
        )
    weights = _weights(module)
    found = weights.get("layer_weights", np.empty(0, np.float32))
    if list(weights) != ["layer_weights"] or found.ndim != 1 or not found.sum() or not found.size:
        raise FileRefused(
            f"pooling 'sentence': the weights of WeightedLayerPooling in {module} are none"
        )
    n_layers = read_json(module / "config.json").get("num_hidden_layers")
    start = read_json(module / "config.json").get("layer_start")
    if not isinstance(n_layers, int) or not isinstance(start, int):
        raise FileRefused(f"pooling 'sentence': {module / 'config.json'} says no layers")
    if len(found) != n_layers + 1 - start:
        raise FileRefused(
            f"pooling 'sentence': WeightedLayerPooling in {module} has {len(found)} weights for "
            f"layers {start} to {n_layers}"
        )
    return tuple(map(float, found))


def _modes(path: Path) -> tuple[tuple[str, ...], bool]:
    config = read_json(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLDER_MODES.items() if config.get(key) is True] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, Sequence) or not modes or not set(map(str, modes)) <= set(MODES):
        raise FileRefused(
            f"pooling 'sentence': {path} says pooling_mode {str(modes)[:100]}; known are "
            f"{', '.join(MODES)}"
        )
    return tuple(map(str, modes)), config.get("include_prompt", True) is not False


def _step(kind: str, folder: Path) -> Step:
    if kind == "Normalize":
        path = folder / "config.json"
        _check_names(read_json(path) if path.is_file() else {}, path)
        return Step(kind)
    config = read_json(folder / "config.json")
    _check_names(config, folder / "config.json")
    weights = _weights(folder)
    if kind == "LayerNorm":
        _check_shapes(folder, weights, {"norm.weight": 1, "norm.bias": 1})
        return Step(kind, weights=weights)
    # Older folders say nothing where it is torch's Tanh.
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    package, _, activation = name.rpartition(".")
    if not package.startswith("torch.nn.modules.") or activation not in ACTIVATIONS:
        raise FileRefused(
            f"pooling 'sentence': the activation {name!r} of {folder / 'config.json'} is not "
            f"honoured, only {', '.join(ACTIVATIONS)} of torch.nn are"
        )
    residual = config.get("use_residual") is True
    wanted = {"linear.weight": 2} | ({"linear.bias": 1} if config.get("bias", True) else {})
    if residual and config.get("in_features") != config.get("out_features"):
        wanted["residual.weight"] = 2
    _check_shapes(folder, weights, wanted)
    return Step(kind, {"activation": activation, "residual": residual}, weights)


def _check_names(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a module that reads or writes anything but the vector of the sentence."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise FileRefused(
                f"pooling 'sentence': {key} {config[key]!r} of {path} is not honoured"
            )


def _weights(folder: Path) -> dict[str, Array]:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileRefused(
            f"pooling 'sentence': no model.safetensors in {folder}; pickled weights can run code "
            "and are not read: load the model in sentence-transformers where you trust it, and "
            "save() it"
        )
    return {name: _array(kind, shape, data) for name, kind, shape, data in read_tensors(path)}


def _array(kind: str, shape: Sequence[int], data: memoryview) -> Array:
    if kind == "BF16":  # the upper half of a float32
        wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    dtypes = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    if kind not in dtypes:
        raise FileRefused(f"pooling 'sentence': weights of type {kind!r} are not read")
    return np.frombuffer(data, dtypes[kind]).astype(np.float32).reshape(shape)


def _check_shapes(folder: Path, weights: Mapping[str, Array], wanted: Mapping[str, int]) -> None:
    """Refuse weights that are not those of the module."""
    found = {name: array.ndim for name, array in weights.items()}
    if found != dict(wanted):
        raise FileRefused(
            f"pooling 'sentence': the weights in {folder} are {', '.join(sorted(found))}; the "
            f"module has {', '.join(sorted(wanted))}"
        )
    if "linear.weight" in weights:
        rows, columns = weights["linear.weight"].shape
        fits = weights.get("linear.bias", np.empty(rows)).shape == (rows,)
        fits &= weights.get("residual.weight", np.empty((rows, columns))).shape == (rows, columns)
    else:
        fits = weights["norm.weight"].shape == weights["norm.bias"].shape
    if not fits:
        raise FileRefused(f"pooling 'sentence': the weights in {folder} don't fit each other")
