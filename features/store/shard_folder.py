"""Name the shards of a folder that one run makes, order them, and check the place of each.

A folder that was written with `shard_rows` holds `part-00000.h5`, `part-00001.h5`... Each says in
its attribute `part` which one it is, so that a folder that lacks some is not taken for whole. While
shards are replaced, the last of the old ones is set aside under a name that no reader looks for:
without a last shard a folder is refused, so nobody reads new shards together with old ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from features.errors import FileRefused, InputError

_NAME = re.compile(r"part-([0-9]{5,9})\.h5")
_ASIDE = re.compile(r"\.part-([0-9]{5,9})\.aside")


@dataclass(frozen=True)
class Part:
    """The place of a shard in its folder.

    Attributes
    ----------
    number : int
        From 0.
    first_row : int
        Rows of all shards before it.
    shard_rows : int
        Rows that a shard has at most.
    last : bool
        Whether none comes behind it.
    """

    number: int
    first_row: int
    shard_rows: int
    last: bool

    def to_json(self) -> str:
        """Give the content of the attribute."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Read what `to_json` wrote; a ValueError where it is something else."""
        content = json.loads(text)
        kinds = {"number": int, "first_row": int, "shard_rows": int, "last": bool}
        if not isinstance(content, dict) or {k: type(v) for k, v in content.items()} != kinds:
            raise ValueError(f"its part is {text[:100]!r}")
        return cls(**content)


def part_path(folder: Path, number: int) -> Path:
    """Give the path of a shard."""
    return folder / f"part-{number:05d}.h5"


def number_of(path: Path) -> int | None:
    """Give the number of a shard by its file's name; None for other names."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else None


def aside_path(folder: Path, number: int) -> Path:
    """Give the path of a finished shard that is set aside while those before it are replaced."""
    return folder / f".part-{number:05d}.aside"


def existing_parts(folder: Path) -> dict[int, Path]:
    """Give the shards that are there by number, those that are set aside too, in order.

    Raises
    ------
    InputError
        Other feature files are there, which would be read as shards.
    """
    existing: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:  # names with a dot come first
        found = _NAME.fullmatch(path.name) or _ASIDE.fullmatch(path.name)
        if found:
            existing[int(found[1])] = path
        elif path.suffix == ".h5":
            raise InputError(
                f"{folder} holds {path.name}, which is none of its shards (part-00000.h5, ...) and "
                "would be read with them: move it, or give another `output`"
            )
    return dict(sorted(existing.items()))


def leftovers(folder: Path) -> list[Path]:
    """Give the shards that are set aside."""
    return sorted(path for path in folder.iterdir() if _ASIDE.fullmatch(path.name))


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Sort the files of a folder: shards by number, others by name."""

    def key(path: Path) -> tuple[int, str]:
        found = _NAME.fullmatch(path.name)
        return (int(found[1]) if found else 0, path.name)

    return sorted(paths, key=key)


def check_whole(
    folder: Path, paths: Sequence[Path], parts: Sequence[Part | None], rows: Sequence[int]
) -> None:
    """Refuse a folder that lacks a shard, or whose shards are not of one run.

    Files without parts pass.

    Raises
    ------
    FileRefused
    """
    known = [(path, part) for path, part in zip(paths, parts, strict=True) if part is not None]
    if not known:
        return
    cure = "run the same `frostline extract` again"
    if len(known) < len(paths):
        odd = next(path for path, part in zip(paths, parts, strict=True) if part is None)
        raise FileRefused(f"{odd} is not one of the shards of {folder}: move it elsewhere")
    first_row = 0
    for number, ((path, part), n_rows) in enumerate(zip(known, rows, strict=True)):
        if part.number != number:
            raise FileRefused(
                f"{folder} lacks shard {number} ({part_path(folder, number).name}); {cure}"
            )
        if part.shard_rows != known[0][1].shard_rows or part.first_row != first_row:
            raise FileRefused(
                f"{path} begins at row {part.first_row} in shards of {part.shard_rows}, where row "
                f"{first_row} in shards of {known[0][1].shard_rows} would follow; {cure}"
            )
        if part.last != (number == len(known) - 1):
            claim = "says that it is the last, and others follow"
            claim = claim if part.last else "is not the last, and none follows it"
            raise FileRefused(f"{folder} is not whole: {path.name} {claim}; {cure}")
        first_row += n_rows
