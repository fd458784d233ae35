"""State what all jobs that make a store agree on, in its `order.json`, and refuse who does not.

In comes what one job was asked for; the first job writes it down, by a name that is taken once, and
each other one compares. Out comes what the first one wrote, which all of them follow: so the store
has the same bytes whoever makes its pieces. Not in it: where files and models lie, which device
runs, how rejects are taken, how many jobs there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.backends.choice import Runtime
from features.base import disk
from features.base.remote.urls import is_url
from features.base.storage import (
    Target,
    child,
    exists,
    listed,
    local_path,
    read_bytes,
    size,
)
from features.errors import CannotContinue, FileRefused, InputError, first_line, system_reason
from features.pieces.duplicates.ranges import MEMORY
from features.pieces.piece import Piece, digest_of
from features.pieces.scratch import put_once
from features.spec.encoder_spec import Difference, EncoderSpec, listed_differences
from features.spec.vector_spec import VectorSpec
from features.store.joined import order as joined
from features.store.joined.fields import (
    check_names,
    content_of,
    count,
    names,
    sealed,
    sha256,
    without_seal,
)
from features.store.joined.layout import CHOICE, MAX_PIECES, order_path, receipts_folder
from features.store.joined.receipt import Receipt
from features.tweets.columns import Columns
from features.tweets.rows.inputs import Input, name_of, path_of
from features.tweets.table import InputFormat

_FIELDS = ("format", "version", "pieces", "shard_rows", "inputs", "spec", "views", "options")
# Within what a text is encoded once: its piece, or all pieces.
DUPLICATES = ("piece", "all")
_CURE = "give what the store was begun with, or another `output` (or remove the folder)"


@dataclass(frozen=True)
class Order:
    """What all jobs of a store agree on.

    Attributes
    ----------
    pieces : int
        How many there are; 0 where that is not known yet.
    pieces_digest : str
        SHA-256 of what each of them is made of.
    shard_rows : int
    inputs : tuple of (str, int)
        Name and bytes of each input, in their order; names go without their folders.
    spec : EncoderSpec
        As the first job found it: its names of the model stand in every shard.
    views : tuple of str
    options : mapping of str to Any
        By parameter of `extract`, the others that change what is in the store: JSON types.
    is_sealed : bool
        Whether its file ends in a seal; the first ones did not.
    """

    pieces: int
    pieces_digest: str
    shard_rows: int
    inputs: tuple[tuple[str, int], ...]
    spec: EncoderSpec
    views: tuple[str, ...]
    options: Mapping[str, Any]
    is_sealed: bool = True

    def to_json(self) -> bytes:
        """Give the content of the file: the same bytes for the same order."""
        content = {
            "format": joined.FORMAT,
            "version": joined.VERSION,
            "pieces": {"count": self.pieces, "digest": self.pieces_digest},
            "shard_rows": self.shard_rows,
            "inputs": [{"name": name, "bytes": size} for name, size in self.inputs],
            "spec": self.spec.to_dict(),
            "views": list(self.views),
            "options": dict(sorted(self.options.items())),
        }
        data = sealed(content, indent=1)
        return data if self.is_sealed else without_seal(data)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Order:
        """Read what `to_json` wrote; `name` is that of the file.

        Raises
        ------
        FileRefused
            It is something else, damaged or of another version.
        """
        content = content_of(data, name, joined.FORMAT, joined.VERSION, joined.CURE)
        try:
            check_names(content, _FIELDS, "the order")
            pieces = check_names(content["pieces"], ("count", "digest"), "pieces")
            inputs = [check_names(one, ("name", "bytes"), "an input") for one in content["inputs"]]
            if not isinstance(content["options"], dict):
                raise ValueError("its options are none")
            return cls(
                count(pieces["count"], "the number of pieces", 1, MAX_PIECES),
                sha256(pieces["digest"], "the digest of the pieces"),
                count(content["shard_rows"], "shard_rows", 1),
                tuple((str(one["name"]), count(one["bytes"], "bytes")) for one in inputs),
                EncoderSpec.from_dict(content["spec"]),
                names(content["views"], "views"),
                content["options"],
                is_sealed=without_seal(data) != data,
            )
        except (ValueError, TypeError, FileRefused) as error:
            raise FileRefused(f"{name} is damaged: {first_line(error)}; {joined.CURE}") from error

    @property
    def of_store(self) -> joined.Order:
        """What a joined store knows of it."""
        names = tuple(name for name, _ in self.inputs)
        return joined.Order(joined.digest_of(self.to_json()), self.pieces, names)

    def with_pieces(self, pieces: Sequence[Piece]) -> Order:
        """Give it with the pieces that were found."""
        return replace(self, pieces=len(pieces), pieces_digest=digest_of(pieces))

    def differences(self, other: Order) -> list[Difference]:
        """Give what differs; names of the model are no difference."""
        found = list(_between_inputs(self.inputs, other.inputs))
        if self.shard_rows != other.shard_rows:
            found.append(Difference("`shard_rows`", self.shard_rows, other.shard_rows))
        found += self.spec.differences(other.spec)
        if set(self.views) != set(other.views):
            found.append(Difference("`pooling`", ", ".join(self.views), ", ".join(other.views)))
        for option in sorted({*self.options, *other.options}):
            mine, theirs = self.options.get(option), other.options.get(option)
            if mine != theirs:
                found.append(Difference(f"`{option}`", _worded(mine), _worded(theirs)))
        pieces = [f"{one.pieces:,}, {one.pieces_digest[:12]}" for one in (self, other)]
        if other.pieces and not found and pieces[0] != pieces[1]:
            found.append(Difference("pieces of inputs of the same size", *pieces))
        return found

    def check(self, asked: Order, name: str) -> None:
        """Refuse a job that was asked for something else; `name` is that of the file.

        Raises
        ------
        InputError
        """
        if differing := self.differences(asked):
            said = listed_differences(differing, "there", "asked for")
            raise InputError(f"{name} is of another store ({said}): {_CURE}")


def check_duplicates(duplicates: str, memory: int | None, *, in_pieces: bool) -> int:
    """Check within what a text is to be encoded once, and give the memory to compare texts in.

    Raises
    ------
    InputError
    """
    if duplicates not in DUPLICATES:
        raise InputError(f"unknown `duplicates` {duplicates!r}: choose {' or '.join(DUPLICATES)}")
    if duplicates == "all" and not in_pieces:
        raise InputError(
            "`duplicates=all` is for `part` and `engine`: without them a text is encoded once in "
            "the whole input anyway"
        )
    if memory is not None and duplicates != "all":
        raise InputError(
            "`memory` is for `duplicates=all`, which compares the texts of all pieces: leave it out"
        )
    return MEMORY if memory is None else memory


def order_of(
    inputs: Sequence[Input],
    shard_rows: int,
    vectors: VectorSpec,
    runtime: Runtime,
    columns: Columns,
    written: InputFormat,
    window_rows: int,
    duplicates: str,
) -> Order:
    """Put down what a job was asked for; its pieces are not known yet.

    Parameters
    ----------
    inputs : sequence of Input
    shard_rows : int
    vectors : VectorSpec
        What they are to be.
    runtime : Runtime
        Its device is each job's own.
    columns : Columns
    written : InputFormat
    window_rows : int
    duplicates : str
        Within what a text is encoded once: one of `DUPLICATES`.

    Raises
    ------
    InputError
        A file is not there.
    """
    paths = [path_of(one) for one in inputs]
    sizes = [0 if path in (None, "-") else size(path) for path in paths]
    return Order(
        0,
        "",
        shard_rows,
        tuple((name_of(one), n) for one, n in zip(inputs, sizes, strict=True)),
        vectors.spec,
        tuple(vectors.views),
        {
            "dtype": runtime.dtype,
            "store_dtype": vectors.store_dtype,
            "backend": runtime.backend,
            "max_batch_tokens": runtime.max_batch_tokens,
            "window_rows": window_rows,
            "duplicates": duplicates,
            "text_column": columns.text,
            "label_column": columns.label,
            "id_column": columns.id,
            "labels": _digest_of_file(columns.labels),
            "mapping": _digest_of_file(columns.mapping),
            "label_case": columns.label_case,
            "input_format": written.format,
            "encoding": written.encoding,
            "delimiter": written.delimiter,
            "quoting": written.quoting,
            "header": written.header,
        },
    )


def agree(store: Target, asked: Order) -> Order:
    """Write down what a job was asked for, or compare it with what the first job wrote.

    Parameters
    ----------
    store : path or URL
        Its folders are made; that above it must be there.
    asked : Order

    Returns
    -------
    Order
        The first job's.

    Raises
    ------
    InputError
        It is another one, or something else is at that name.
    FileRefused
        It is damaged.
    """
    there = existing_order(store, asked)
    if there is not None:
        if not _receipts_in(store):  # an empty folder may have been lost
            make_folders(store)
        return there
    asked = _as_receipts_name_it(store, asked)
    make_folders(store)
    put_once(store, order_path(store), asked.to_json())
    there = existing_order(store, asked)
    if there is None:
        raise CannotContinue(
            f"{order_path(store)} is there, and no file: remove it, and run the same command again"
        )
    return there


def existing_order(store: Target, asked: Order) -> Order | None:
    """Give the order of a store, once it is that of this job; None where there is none yet.

    Raises
    ------
    InputError
        It is another one, or a folder is there that was not made in parts.
    FileRefused
        It is damaged.
    """
    target = order_path(store)
    if not exists(target):
        odd = "" if _receipts_in(store) else _what_is_there(store)
        if odd and not exists(target):
            raise InputError(
                f"{store} holds {odd} and no order.json, so it was not made in parts: give another "
                "`output`"
            )
    if not exists(target):
        return None
    data = read_bytes(target)
    there = Order.from_json(data, str(target))
    if there.to_json() != data:
        raise FileRefused(f"{target} was altered: {joined.CURE}")
    there.check(asked, str(target))
    return there


def make_folders(store: Target) -> None:
    """Make the folders of a store, on a disk; object storage has none.

    Raises
    ------
    CannotContinue
    """
    if is_url(store):
        return
    top = local_path(store)
    try:
        for folder in (top, receipts_folder(top)):
            disk.mkdir(folder)
            disk.sync_folder(folder.parent)
    except OSError as error:
        raise CannotContinue(f"{store} cannot be written: {system_reason(error)}") from error


def _what_is_there(store: Target) -> str:
    """Name something in a folder that a store would be confused with; empty where there is none.

    A choice may be there before, that of another store, so that both have the same bytes.
    """
    found = list(listed(store))
    if not is_url(store) and local_path(store).is_dir():
        found += [path.name for path in local_path(store).glob("piece-*")]
    odd = [
        one
        for one in found
        if (one.endswith((".h5", ".json")) and one != CHOICE) or one.startswith("piece-")
    ]
    return next(iter(sorted(odd)), "")


def _receipts_in(store: Target) -> list[str]:
    return list(listed(receipts_folder(store)))


def _as_receipts_name_it(store: Target, asked: Order) -> Order:
    """Refuse a store that has lost its order, unless its receipts were made for this one."""
    for name in _receipts_in(store)[:1]:
        path = child(receipts_folder(store), name)
        named = Receipt.from_json(read_bytes(path), str(path)).order
        for one in (asked, replace(asked, is_sealed=False)):
            if one.of_store.digest == named:
                return one
        raise InputError(
            f"{store} has no order.json, and {path} was made for another order than this: {_CURE}"
        )
    return asked


def _digest_of_file(path: str | Path | None) -> str | None:
    """Identify the content of a small file that is read besides the input; None for none."""
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _between_inputs(
    mine: tuple[tuple[str, int], ...], theirs: tuple[tuple[str, int], ...]
) -> Iterator[Difference]:
    """Give how the inputs differ: in their number, or in the first that is another one."""
    if len(mine) != len(theirs):
        yield Difference("number of inputs", len(mine), len(theirs))
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            yield Difference(f"input {number}", *(f"{n} ({b:,} bytes)" for n, b in (one, other)))
            return


def _worded(value: Any) -> Any:
    """Word a value of an option; of a digest, its first 12 digits."""
    if value is None or value == "":
        return "nothing" if value is None else "''"
    return value[:12] if isinstance(value, str) and len(value) == 64 else value
