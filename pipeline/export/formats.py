"""List the formats that a head can be exported to: the table `FORMATS`.

To add one is to add a row, and a module with a function `write(head, folder, models, say)` that
writes its files into an empty folder (`pipeline/export/onnx_model.py` is one). Looking at the table
imports none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from features.errors import InputError
from pipeline.head.head import Head

# From a head, an empty folder, the places of its models (none: where the head remembers them) and
# what is told the user's remarks.
Write = Callable[[Head, Path, Sequence[str | Path], Callable[[str], None]], None]


@dataclass(frozen=True)
class Format:
    """A row of the table.

    Attributes
    ----------
    module : str
        Where its function `write` is.
    help : str
        What it is, in a few words.
    packages : tuple of str
        What must be installed beside frostline.
    extra : str
        The extra of frostline that installs them.
    """

    module: str
    help: str
    packages: tuple[str, ...] = ()
    extra: str = ""


FORMATS = {
    "onnx": Format(
        "pipeline.export.onnx_model",
        "encoder, pooling and head as one ONNX graph, with its tokenizer",
        ("onnx", "onnxruntime"),
        "onnx",
    ),
    "sentence-transformers": Format(
        "pipeline.export.sentence_folder",
        "the encoder alone, as a folder whose vectors are those that the head takes",
    ),
    "safetensors": Format(
        "pipeline.export.safetensors_folder",
        "the head alone, without a pickle, with a card for the Hugging Face hub",
    ),
}


def writer(name: str) -> Write:
    """Give the function that writes a format.

    Raises
    ------
    InputError
        There is no such format, or a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}")
    row = FORMATS[name]
    for package in row.packages:
        if find_spec(package) is None:
            raise InputError(
                f"format {name!r} needs the package {package}: pip install 'frostline[{row.extra}]'"
            )
    write: Write = import_module(row.module).write
    return write
