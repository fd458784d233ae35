"""Name the shards of a folder that are missing, surplus or double: all of them.

In come the files of a folder, and what those that can be read say of their place; out comes a
sentence for each fault. `features/store/shard_folder.py`, in contrast, refuses a folder at its
first fault. Opens no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from features.store.shard_folder import Part, number_of, part_path


def gaps(
    folder: Path, files: Sequence[Path], read: Mapping[Path, tuple[Part | None, int]]
) -> Iterator[tuple[Path, str]]:
    """Say what is wrong with the shards of a folder together, each as a file and a sentence.

    Parameters
    ----------
    folder : Path
    files : sequence of Path
        All feature files in it.
    read : mapping of Path to (Part or None, int)
        What those that can be read say of their place, and their rows.
    """
    parts = {path: (part, rows) for path, (part, rows) in read.items() if part is not None}
    if not parts:
        return
    of_number: dict[int, Path] = {}
    for path in files:
        if path in parts:
            part, _ = parts[path]
            if part.number in of_number:
                yield (
                    path,
                    f"{path} is shard {part.number}, which {of_number[part.number].name} is as "
                    "well: move one of them elsewhere",
                )
            elif path != part_path(folder, part.number):
                yield path, f"{path} is shard {part.number}: rename it to part-{part.number:05d}.h5"
            of_number.setdefault(part.number, path)
        elif path in read:
            yield path, f"{path} is not one of the shards of {folder}: move it elsewhere"
    # What can't be read is there all the same, under the number of its name.
    named = {number_of(path) for path in files if path not in read}
    broken = {number for number in named if number is not None} - set(of_number)
    lasts = [part.number for part, _ in parts.values() if part.last]
    end = min(lasts) if lasts else max({*of_number, *broken})
    for number in range(end + 1):
        if number not in of_number and number not in broken:
            yield folder, f"{folder} lacks shard {number} ({part_path(folder, number).name})"
    for number in sorted({*of_number, *broken}):
        if number > end:
            path = of_number.get(number, part_path(folder, number))
            yield path, f"{path} is surplus: shard {end} says that it is the last"
    if not lasts and end not in broken:
        yield folder, f"{folder} lacks the shards behind shard {end}, which is not the last"
    yield from _seams(of_number, parts)


def _seams(
    of_number: Mapping[int, Path], parts: Mapping[Path, tuple[Part, int]]
) -> Iterator[tuple[Path, str]]:
    """Say which shards next to each other are not of one run: cut alike, one behind the other."""
    shard_rows = parts[of_number[min(of_number)]][0].shard_rows
    for number, path in sorted(of_number.items()):
        part, _ = parts[path]
        if part.shard_rows != shard_rows:
            yield path, f"{path} is one of shards of {part.shard_rows} rows, not of {shard_rows}"
        before = of_number.get(number - 1)
        if before is not None:
            part_before, rows = parts[before]
            if part.first_row != part_before.first_row + rows:
                yield (
                    path,
                    f"{path} begins at row {part.first_row}, {before.name} ends at row "
                    f"{part_before.first_row + rows}",
                )
