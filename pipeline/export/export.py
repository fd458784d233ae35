"""Export a head: a folder in the format of another tool, which appears complete or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from features.base.atomic import new_folder
from features.base.remote import copies
from pipeline.export.formats import writer
from pipeline.head.head import Head


def export(
    head: Head,
    folder: str | Path,
    format: str = "onnx",
    *,
    models: Sequence[str | Path] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Write a head, and what it needs to score texts, in the format of another tool.

    Parameters
    ----------
    head : Head
    folder : path
        Is made; nothing may be there.
    format : str
        A row of `pipeline.export.formats.FORMATS`.
    models : sequence of str or path
        Where the head's models lie on this machine, one for each encoder in the order of the head;
        default: the names that the head remembers.
    say : callable
        Told what is odd about a model, a line each.

    Returns
    -------
    dict of str to int
        Name and bytes of each file in the folder.

    Raises
    ------
    InputError
        The folder is there, the format or its package is not, the head's model can't be found, or
        the format can't hold such a head.
    FileRefused
        The model is another one, or can't be exported.
    CannotContinue
        The disk refused.
    """
    write = writer(format)
    with new_folder(copies.output(folder)) as aside:
        write(head, aside, models, say)
        files = sorted(file for file in aside.rglob("*") if file.is_file())
        return {str(file.relative_to(aside)): file.stat().st_size for file in files}
