"""What there is to say about an input: collected row by row, told in lines at the end.

Counts only, in bounded memory; nothing is changed or rejected here.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from features.base.shown import listed, shown
from features.errors import InputError
from features.tweets.columns import label_like
from features.tweets.values import BLANKS

# Different labels that are counted; more are no classes.
_MOST_LABELS = 10_000
# Columns that are left, which are remembered.
_MOST_NAMES = 1000
# Ids that are looked at for doubles; eight bytes each.
_MOST_IDS = 4_000_000


@dataclass(frozen=True)
class FileRead:
    """How a file is read: its columns by role, its format, and the columns that are left."""

    columns: Mapping[str, str]
    format: str
    left: tuple[str, ...]

    @property
    def unused_labels(self) -> list[str]:
        """Those that are left and look like labels."""
        return label_like(self.left)

    @property
    def opening(self) -> str:
        """What is known as soon as the reading begins."""
        unused = self.unused_labels
        left = f"; not read, though like labels: {listed(unused)}" if unused else ""
        return f"{self.format}: {self._columns()}{left}"

    def __str__(self) -> str:
        return f"{self._columns()} ({self.format})"

    def _columns(self) -> str:
        return ", ".join(f"{role} from {shown(name)}" for role, name in self.columns.items())


@dataclass
class Findings:
    """What was found in an input so far.

    Attributes
    ----------
    files : dict of str to FileRead
        By name; files of text alone have no columns.
    notes : list of str
        What is in the files and is not read.
    labels, missing_labels : Counter
        Labels as they are used; the markers of missing ones as they stand in the file.
    completed : int
        Tweets whose text was cut and whose whole text was read.
    without_id, exponent_ids : int
        Rows without an id in a file that has ids; ids such as `1.2E+17`.
    stripped : int
        Labels with blanks around them, which are read without.
    mapped, unmapped : int
        Labels that the mapping has and has not.
    """

    files: dict[str, FileRead] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    missing_labels: Counter[str] = field(default_factory=Counter)
    completed: int = 0
    without_id: int = 0
    exponent_ids: int = 0
    mapped: int = 0
    unmapped: int = 0
    stripped: int = 0
    _ids: array[int] = field(default_factory=lambda: array("q"))
    _doubled: tuple[int, int] = (0, 0)  # among how many ids, and how many

    def saw_columns(
        self, name: str, columns: Mapping[str, str], existing: Sequence[str], how: str = ""
    ) -> None:
        """Remember how a file is read; of objects, more and more keys are seen."""
        before = self.files[name].left if name in self.files else ()
        taken = set(columns.values())
        left = dict.fromkeys(column for column in (*before, *existing) if column not in taken)
        self.files[name] = FileRead(dict(columns), how, tuple(left)[:_MOST_NAMES])

    def saw_label(self, label: str) -> None:
        """Count a label."""
        if label in self.labels or len(self.labels) < _MOST_LABELS:
            self.labels[label] += 1

    def saw_id(self, identity: str) -> None:
        """Remember an id that is in the file."""
        if len(self._ids) < _MOST_IDS:
            # Not `hash`, which is another one in each process: workers count together.
            digest = blake2b(identity.encode(errors="surrogatepass"), digest_size=8)
            self._ids.append(int.from_bytes(digest.digest(), "little", signed=True))

    def add(self, other: Findings) -> None:
        """Count what was found in another part of the input as well."""
        self.files.update(other.files)
        self.notes.extend(note for note in other.notes if note not in self.notes)
        for label, n in other.labels.items():
            if label in self.labels or len(self.labels) < _MOST_LABELS:
                self.labels[label] += n
        self.missing_labels.update(other.missing_labels)
        self._ids.extend(other._ids[: _MOST_IDS - len(self._ids)])
        for name in ("completed", "without_id", "exponent_ids", "mapped", "unmapped", "stripped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def doubled_ids(self) -> int:
        """Rows whose id an earlier row has, among the first millions."""
        if self._doubled[0] != len(self._ids):
            self._doubled = len(self._ids), len(self._ids) - len(set(self._ids))
        return self._doubled[1]

    def saw_missing_label(self, value: object) -> None:
        """Count a label that is missing, by what stands in its place."""
        self.missing_labels[value.strip(BLANKS) if isinstance(value, str) else ""] += 1

    def check_mapping(self, mapping: Mapping[str, str]) -> None:
        """Refuse a mapping that maps none of the labels that are there."""
        if self.unmapped and not self.mapped:
            raise InputError(
                f"the mapping has none of the labels of the input; it maps {listed(mapping)}"
            )

    def label_variants(self) -> list[list[str]]:
        """Give labels that differ in case and blanks alone, group by group."""
        groups: dict[str, list[str]] = {}
        for label in self.labels:
            groups.setdefault(folded_label(label), []).append(label)
        return [sorted(group) for group in groups.values() if len(group) > 1]

    def remarks(self) -> Iterator[str]:
        """Give what the user should know, a line each."""
        yield from self.notes
        for name, file in self.files.items():
            if file.unused_labels:
                taken = file.columns.get("label")
                what = f"labels are read from {shown(taken)}" if taken else "no labels are read"
                yield (
                    f"{name}: {what}; {listed(file.unused_labels)} may hold labels too: choose "
                    "with `label_column`"
                )
        if self.completed:
            yield f"{self.completed:,} texts were cut, and were read whole from the same objects"
        if markers := {marker: n for marker, n in self.missing_labels.items() if marker}:
            counted = ", ".join(f"{shown(marker)} {n:,}" for marker, n in sorted(markers.items()))
            yield f"labels that are read as missing: {counted}"
        if self.stripped:
            yield f"{self.stripped:,} labels have blanks around them, which are left out"
        for group in self.label_variants():
            counted = ", ".join(f"{shown(label)} {self.labels[label]:,}" for label in group)
            yield (
                f"labels that differ in case or blanks alone: {counted}; merge with "
                "`label_case=fold`"
            )
        if self.exponent_ids:
            yield (
                f"{self.exponent_ids:,} ids are written like 1.2E+17, so they may have lost digits "
                "and no longer tell tweets apart; write ids as text"
            )
        if doubled := self.doubled_ids:
            yield f"{doubled:,} rows have the id of an earlier row"
        if self.without_id:
            yield f"{self.without_id:,} rows have no id; each gets one by its place in the input"


def folded_label(label: str) -> str:
    """Give a label without case, with single blanks, and each letter with its marks as one."""
    visible = label.replace("\u200b", "").replace("\ufeff", "")
    return " ".join(unicodedata.normalize("NFC", visible).split()).casefold()
