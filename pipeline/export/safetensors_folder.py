"""Write a head as `config.json`, `head.safetensors` and a card: no pickle, and no model in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.head.head import Head
from pipeline.head.pretrained import files_for


def write(
    head: Head, folder: Path, models: Sequence[str | Path], say: Callable[[str], None]
) -> None:
    """Write the three files into an empty folder; the models are not needed for it."""
    for name, content in files_for(head, folder, training_texts=True).items():
        (folder / name).write_bytes(content)
