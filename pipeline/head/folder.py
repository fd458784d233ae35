"""Keep a head as two files without a pickle: `config.json` and `head.safetensors`.

`config.json` is a JSON object::

    format           "frostline-head"
    version          1
    labels           list of the K class names
    sources          list of {spec, fingerprint, view, width, precision, store_dtype}
    metadata         how it was fitted, the class prior that it answers for, and its metrics
    novelty          {rest, threshold}; not in every head
    texts            {texts}; not in every head
    tensors_sha256   of the whole file head.safetensors, so that the two belong together

and `head.safetensors` has the arrays::

    coef, intercept                                float64 (K, D), (K,), on raw vectors
    novelty.center, .inverse_scale                 float32 (D,)
    novelty.means, .directions, .variances         float32 (K, D), (D, R), (R,)
    texts.digests                                  int64 (n,)

Content of a head goes in and bytes come out, and the other way round. What the values mean is
checked in `content`; the hub, and the card that lies beside the two, are not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.paths import check_input
from features.errors import FileRefused, InputError, foreign, system_reason
from pipeline.head.content import MAX_BYTES, require

CONFIG, TENSORS = "config.json", "head.safetensors"
# All arrays that a head can have, and their types.
_ARRAYS = {
    "coef": np.float64,
    "intercept": np.float64,
    "novelty.center": np.float32,
    "novelty.inverse_scale": np.float32,
    "novelty.means": np.float32,
    "novelty.directions": np.float32,
    "novelty.variances": np.float32,
    "texts.digests": np.int64,
}
# What has arrays and numbers: the numbers are in `config.json`.
_MIXED = ("novelty", "texts")
# Of the list of the arrays, with which a safetensors file begins; a head's has a thousand bytes.
_MAX_HEADER = 2**16
# Of `config.json`: a thousand classes have a table of a million counts in a thousand lists. Empty
# lists would grow to thirty times their size in memory.
MAX_CONFIG = 2**23
_MAX_LISTS = 100_000


def files_of(content: Mapping[str, Any]) -> dict[str, bytes]:
    """Give the bytes of the two files, by their names.

    Parameters
    ----------
    content : mapping
        As `parts_of` takes it with `of_arrays`.

    Raises
    ------
    InputError
        The metadata hold something that JSON has no word for, or are too large.
    """
    from safetensors.numpy import save

    arrays: dict[str, npt.NDArray[Any]] = {}
    config: dict[str, Any] = {}
    for name, value in content.items():
        if name in _MIXED and value is not None:
            config[name] = {}
            for part, inner in value.items():
                target = arrays if isinstance(inner, np.ndarray) else config[name]
                target[f"{name}.{part}" if target is arrays else part] = inner
        elif isinstance(value, np.ndarray):
            arrays[name] = value
        elif name not in _MIXED:
            config[name] = value
    tensors = save(
        {name: np.ascontiguousarray(arrays[name], _ARRAYS[name]) for name in sorted(arrays)},
        # One word alone: of several, safetensors writes any first.
        {"format": f"{content['format']}/{content['version']}"},
    )
    config["tensors_sha256"] = hashlib.sha256(tensors).hexdigest()
    return {CONFIG: _written(config), TENSORS: tensors}


def _written(config: Mapping[str, Any]) -> bytes:
    """Write JSON, a value a line unless that would be too much."""
    for indent, separators in ((1, (",", ": ")), (None, (",", ":"))):
        try:
            text = json.dumps(config, indent=indent, separators=separators, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"the head says of itself what JSON can't hold ({error}); fit it again"
            ) from error
        if len(text) < MAX_CONFIG:
            return f"{text}\n".encode()
    raise InputError(
        f"{CONFIG} would have {len(text):,} bytes, and at most {MAX_CONFIG:,} are read; keep the "
        "head as a joblib file"
    )


def read_folder(folder: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read the two files; nothing in them can run.

    Returns
    -------
    dict
        As `parts_of` takes it with `of_arrays`.

    Raises
    ------
    InputError
        One of them is not there.
    FileRefused
        They are no such files, are damaged, or do not belong together.
    """
    config = _config(_bytes_of(folder / CONFIG, min(MAX_CONFIG, max_bytes)))
    tensors = _bytes_of(folder / TENSORS, max_bytes)
    require(
        config.pop("tensors_sha256", None) == hashlib.sha256(tensors).hexdigest(),
        f"{TENSORS} is not the file that {CONFIG} belongs to; fetch or export both again",
    )
    for name, array in _arrays(tensors).items():
        group, _, part = name.rpartition(".")
        inside = config.get(group) if group else config
        require(isinstance(inside, dict), f"{TENSORS} has {name}, and {CONFIG} no {group}")
        inside[part] = array  # type: ignore[index]  # required above
    return config


def _bytes_of(path: Path, most: int) -> bytes:
    if not path.exists():
        raise InputError(
            f"{path.parent} is a folder without {path.name}; that of a head has {CONFIG} and "
            f"{TENSORS}"
        )
    check_input(path)
    try:
        with path.open("rb") as file:
            # Python takes as much memory as is asked for, whatever is there.
            size = os.fstat(file.fileno()).st_size
            data = file.read(size + 1) if size <= most else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
    require(
        max(size, len(data)) <= most,
        f"{path.name} has more than {most:,} bytes; a head's has fewer",
    )
    return data


def _config(data: bytes) -> dict[str, Any]:
    n_lists = data.count(b"[") + data.count(b"{")
    require(n_lists <= _MAX_LISTS, f"{CONFIG} has more than {_MAX_LISTS:,} lists and objects")
    try:
        config = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FileRefused(f"{CONFIG} is not valid JSON: {error}") from error
    require(isinstance(config, dict), f"{CONFIG} holds no JSON object")
    clash = sorted({"coef", "intercept", "estimator"} & set(config))
    require(not clash, f"{CONFIG} holds {', '.join(clash)}, which belong into {TENSORS}")
    return dict(config)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Take the arrays out, which must be known ones, of the right types."""
    from safetensors.numpy import load

    length = int.from_bytes(data[:8], "little")
    require(
        len(data) >= 8 and length <= min(len(data) - 8, _MAX_HEADER),
        f"{TENSORS} is no safetensors file of a head, or cut short",
    )
    with foreign(f"{TENSORS} is no whole safetensors file"):
        arrays = load(data)
    for name, array in arrays.items():
        require(name in _ARRAYS, f"{TENSORS} has an array {name[:60]!r}, which no head has")
        wanted = np.dtype(_ARRAYS[name])
        require(array.dtype == wanted, f"{TENSORS} has {name} as {array.dtype}, not as {wanted}")
    return arrays
