"""Agree on what runs the model: the first job that encodes measures, and all others follow it.

In comes what a job wants to be loaded, out comes an encoder that runs as the store's `choice.json`
says; the first one makes that file, by a name that is taken once. So vectors of all jobs have the
same bits on machines of one kind. Where the file was lost, it is made again as the finished pieces
say. It makes no pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from features.backends.choice import Choice
from features.base.remote.urls import is_url
from features.base.storage import Target, child, exists, read_bytes
from features.errors import CannotContinue, FileRefused, first_line
from features.pieces.scratch import put_once
from features.store.format import open_file, read_shard
from features.store.joined.fields import check_names, content_of, sealed
from features.store.joined.join import finished_pieces
from features.store.joined.layout import CHOICE, shard_path
from features.store.joined.place import bring_shard

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder

FORMAT, VERSION = "frostline-choice", 1


@dataclass(frozen=True)
class Agreed:
    """What runs the model for all jobs.

    Attributes
    ----------
    device : str
        Its kind: `cpu`, `cuda`, `mps`.
    choice : Choice
    versions : mapping of str to str
        Of the packages that the first job had.
    """

    device: str
    choice: Choice
    versions: Mapping[str, str]

    @property
    def decided(self) -> tuple[str, Choice]:
        """What decides over the bits of vectors."""
        return self.device, self.choice.decided

    def to_json(self) -> bytes:
        """Give the content of the file."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        # Stores for which the same was taken have the same bytes, whatever was measured to take it.
        content["choice"] = self.choice.decided.to_dict()
        return sealed(content, indent=1)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Agreed:
        """Read what `to_json` wrote; `name` is that of the file.

        Raises
        ------
        FileRefused
        """
        cure = "remove it: the next job makes it again, as it was if a piece is finished"
        content = content_of(data, name, FORMAT, VERSION, cure)
        try:
            check_names(content, {"format", "version", "device", "choice", "versions"}, "it")
            versions = {str(one): str(said) for one, said in content["versions"].items()}
            return cls(str(content["device"]), Choice.from_dict(content["choice"]), versions)
        except (ValueError, AttributeError) as error:
            raise FileRefused(f"{name} is damaged: {first_line(error)}; {cure}") from error


def agreed_encoder(
    store: Target,
    load: Callable[[Choice | None], FrozenEncoder],
    versions: Mapping[str, str],
    say: Callable[[str], None],
) -> FrozenEncoder:
    """Load the encoder as the store's choice says, or make that choice.

    Parameters
    ----------
    store : path or URL
    load : callable
        Loads the encoder, as a choice says where that is still to be had.
    versions : mapping of str to str
        Of the packages that are here.
    say : callable
        Called with what the user should know.

    Raises
    ------
    CannotContinue
        What the first job chose is not to be had here.
    FileRefused
        The choice is damaged, or another one than that by which pieces were made.
    """
    target = child(store, CHOICE)
    if not exists(target):
        mine, measured = _made_by(store), None
        if mine is None:
            measured = load(None)
            mine = Agreed(_kind_of(measured.device), measured.choice, versions)
        if put_once(store, target, mine.to_json()) and measured is not None:
            return measured
        # Another job was first: its choice counts.
    agreed = Agreed.from_json(read_bytes(target), str(target))
    made = None if is_url(store) else _made_by(store)  # a shard of a server may be large
    if made is not None and made.decided != agreed.decided:
        raise FileRefused(
            f"{target} says {_worded(agreed)}, and finished pieces were made by {_worded(made)}, "
            "so bits would differ: remove that file, and it is made again as it was"
        )
    encoder = load(agreed.choice)
    here = (_kind_of(encoder.device), encoder.choice.candidate)
    if here != (agreed.device, agreed.choice.candidate):
        raise CannotContinue(
            f"{store} is encoded by {agreed.choice.candidate} on {agreed.device}, as its first job "
            f"chose, and here runs {here[1]} on {here[0]}: run this job on a machine like that "
            "one, or begin again in another folder with `backend`, `dtype` and `device` that all "
            "machines have"
        )
    if other := [name for name in versions if versions[name] != agreed.versions.get(name)]:
        said = ", ".join(
            f"{name} {agreed.versions.get(name)}, here {versions[name]}" for name in other
        )
        say(
            f"WARNING: the first job of {store} had other versions ({said}): vectors of this one "
            "may differ in their last bits, and its files will have other bytes"
        )
    return encoder


def _made_by(store: Target) -> Agreed | None:
    """Give what a finished piece was made by; None where there is none with rows."""
    for piece in sorted(finished_pieces(store)):
        # One that is damaged is made again: another one tells.
        with suppress(FileRefused, CannotContinue, ValueError, KeyError, OSError):
            if not exists(shard_path(store, piece, 0)):
                continue
            with open_file(bring_shard(store, piece, 0)) as file:
                said = read_shard(file).provenance
            versions = {"frostline": said["frostline"], **said["versions"]}
            return Agreed(said["device"], Choice.from_dict(said["choice"]), versions)
    return None


def _worded(agreed: Agreed) -> str:
    choice = agreed.choice
    attends = f" with attention by {choice.candidate.attention}" * bool(choice.candidate.attention)
    return (
        f"{choice.candidate}{attends} on {agreed.device}, {choice.max_batch_tokens:,} tokens in a "
        "batch"
    )


def _kind_of(device: str) -> str:
    return device.partition(":")[0]
