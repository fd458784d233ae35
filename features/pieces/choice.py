"""Agree on what runs the model: the first job that encodes measures, and all others follow it.

In comes what a job wants to be loaded, out comes an encoder that runs as the store's `choice.json`
says; the first one makes that file, by a name that is taken once. So vectors of all jobs have the
same bits on machines of one kind. It makes no pieces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from features.backends.choice import Choice
from features.base.storage import Target, child, exists, read_bytes
from features.errors import CannotContinue, FileRefused, first_line
from features.pieces.scratch import put_once
from features.store.joined.fields import check_names, content_of

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder

FORMAT, VERSION, NAME = "frostline-choice", 1, "choice.json"


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

    def to_json(self) -> bytes:
        """Give the content of the file."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        # Stores for which the same was taken have the same bytes, whatever was measured to take it.
        content["choice"] = self.choice.decided.to_dict()
        return (json.dumps(content, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Agreed:
        """Read what `to_json` wrote; `name` is that of the file.

        Raises
        ------
        FileRefused
        """
        cure = "remove the folder, and begin again"
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
    """
    target = child(store, NAME)
    if not exists(target):
        encoder = load(None)
        mine = Agreed(_kind_of(encoder.device), encoder.choice, versions)
        if put_once(store, target, mine.to_json()):
            return encoder
        # Another job was first: its choice counts.
    agreed = Agreed.from_json(read_bytes(target), str(target))
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


def _kind_of(device: str) -> str:
    return device.partition(":")[0]
