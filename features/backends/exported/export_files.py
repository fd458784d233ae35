"""Write, find and check the files of exported models in the user's cache. No torch.

An export is a folder: the files of the runtime (`features/backends/exported/openvino_runtime.py`,
`features/backends/exported/onnx_runtime.py`), `tokenizer.json`, and `export.json`, which says what
the model is and the SHA-256 of each file. Its name is a digest of the model's content, of what was
exported and of the versions of what exported it, so that an export of anything else is never found.
Whoever opens one needs neither torch nor transformers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.backends.registry import BACKENDS, EXPORTED
from features.base.cache import cache_folder, is_ours, keep_folder
from features.base.machine import fingerprint, versions
from features.spec.encoder_spec import EncoderSpec
from features.spec.tokenizer import Vocabulary
from features.version import __version__

# Raise it whenever an export would hold something else.
VERSION = 1
MANIFEST, TOKENIZER = "export.json", "tokenizer.json"


@dataclass(frozen=True)
class Export:
    """The description of an exported model.

    Attributes
    ----------
    layers : tuple of int
        Numbers of the hidden states that it gives, ascending.
    pooler : bool
        Whether it gives the pooler's output as well.
    n_layers, hidden_size : int
    has_pooler : bool
        Whether the model has a trained pooler.
    flops_per_token : float
    padding_id : int
    one_length : mapping of str to bool
        For each dtype in which it was found to give what the model gives: whether the texts of a
        batch must be of one length.
    vocabulary : Vocabulary or None
        Of the tokenizer that lies beside it; None where it has none that can.
    """

    layers: tuple[int, ...]
    pooler: bool
    n_layers: int
    hidden_size: int
    has_pooler: bool
    flops_per_token: float
    padding_id: int
    one_length: Mapping[str, bool]
    vocabulary: Vocabulary | None


@dataclass(frozen=True)
class ExportPlace:
    """The place of the exports of a model.

    Attributes
    ----------
    model : str
        Digest of its weights, config and tokenizer.
    """

    model: str

    @classmethod
    def of(cls, spec: EncoderSpec) -> ExportPlace:
        """Give the place of an encoder's model; encoders that cut texts differently share it."""
        return cls(
            hashlib.sha256(f"{spec.weights}{spec.config}{spec.tokenizer}".encode()).hexdigest()
        )

    def folder(self, runtime: str, layers: Sequence[int], pooler: bool) -> Path:
        """Give the folder of one export; it may not exist."""
        made_by = versions(("torch", "transformers", *BACKENDS[runtime].packages))
        what = [
            VERSION,
            __version__,
            self.model,
            runtime,
            list(layers),
            pooler,
            sorted(made_by.items()),
        ]
        return self._above() / f"{self.model[:12]}-{runtime}-{fingerprint(what)[:16]}"

    @contextmanager
    def only_what_is_taken(
        self, layers: Sequence[int] | None = None, pooler: bool = False
    ) -> Iterator[set[str]]:
        """Remove what is exported inside for a trial, but for the runtimes in the set given.

        Parameters
        ----------
        layers, pooler : optional
            Of the exports that are looked at, see `folder`; without, all of the model's are.
        """
        before, taken = set(self._existing(layers, pooler)), set[str]()
        try:
            yield taken
        finally:
            for path in set(self._existing(layers, pooler)) - before:
                if path.name.split("-")[1] not in taken:
                    shutil.rmtree(path, ignore_errors=True)

    def _above(self) -> Path:
        return cache_folder() / "exports"

    def _existing(self, layers: Sequence[int] | None, pooler: bool) -> list[Path]:
        if layers is None:
            return list(self._above().glob(f"{self.model[:12]}-*"))
        folders = [self.folder(runtime, layers, pooler) for runtime in EXPORTED]
        return [folder for folder in folders if folder.exists()]


def read_export(folder: Path) -> Export | None:
    """Read and check an export; None where there is none, or one that is not whole."""
    if not is_ours(folder):
        return None
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        files = content.pop("files")
        existing = {path.name for path in folder.iterdir()}
        if existing != {*files, MANIFEST} or not all(
            _digest(folder / name) == digest for name, digest in files.items()
        ):
            return None
        vocabulary = content.pop("vocabulary")
        return Export(
            **{
                **content,
                "layers": tuple(content["layers"]),
                "vocabulary": None if vocabulary is None else Vocabulary.from_dict(vocabulary),
            }
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_export(
    folder: Path, export: Export, write: Callable[[Path], None], tokenizer: str | None
) -> Path | None:
    """Keep an export, whole or not at all; None where the disk does not take it.

    Parameters
    ----------
    folder : Path
        Its final name.
    export : Export
    write : callable
        Writes the files of the runtime into a folder.
    tokenizer : str or None
        The content of tokenizer.json.
    """

    def write_all(aside: Path) -> None:
        write(aside)
        if tokenizer is not None:
            (aside / TOKENIZER).write_text(tokenizer, encoding="utf-8")
        files = {path.name: _digest(path) for path in sorted(aside.iterdir())}
        content: dict[str, Any] = {**dataclasses.asdict(export), "files": files}
        (aside / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")

    return keep_folder(folder, write_all)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
