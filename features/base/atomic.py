"""Write output files that appear complete, by rename, or not at all; whatever is in them."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.base import disk
from features.errors import CannotContinue, system_reason


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; what is there at the end is synced and takes its name.

    Nobody else can look into the folder where it is made. A file that replaces another is as
    private as that one was; a new one is what the umask says.

    Raises
    ------
    CannotContinue
        The disk refused; what was at `path` is as it was.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            aside = Path(folder) / path.name
            yield aside
            if path.exists():
                aside.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
            with aside.open("rb") as file:
                disk.sync(file.fileno())
            disk.rename(aside, path)
            disk.sync_folder(path.parent)
    except OSError as error:
        raise CannotContinue(f"{path} cannot be written: {system_reason(error)}") from error
