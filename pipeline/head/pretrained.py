"""Write and read a head as Hugging Face's tools do: a folder of three files, or a repository.

`Head.save_pretrained`, `push_to_hub` and `from_pretrained` are made of these functions. They are
not those of huggingface_hub's `ModelHubMixin`, which sets attributes of an object before it is
made, as a frozen one refuses, has to be imported with the class, and writes the parameters of the
constructor into `config.json`. The names of methods and parameters are its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.base.atomic import new_folder, replacing
from features.base.remote import copies
from features.errors import FileRefused, InputError
from pipeline.head.content import MAX_BYTES, of_arrays, parts_of
from pipeline.head.folder import CONFIG, MAX_CONFIG, TENSORS, files_of, read_folder
from pipeline.head.head import Head, content_of
from pipeline.hub.address import Address
from pipeline.hub.card import card_of
from pipeline.hub.record import dataset_of
from pipeline.hub.repository import Access, fetch

CARD = "README.md"
NAMES = (CARD, CONFIG, TENSORS)
# How `measured_on` names the files of `--validation`.
_FILES = re.compile(r"(?<= rows of ).+")


def card_for(
    head: Head, place: str, *, license: str | None = None, language: str | Sequence[str] = ()
) -> str:
    """Write the card of a head alone; arguments as for `files_for`."""
    content = content_of(head, {"coef": head.coef, "intercept": head.intercept})
    return card_of(content, place, license=license, language=language)


def files_for(
    head: Head,
    place: Path | Address,
    *,
    license: str | None = None,
    language: str | Sequence[str] = (),
    training_texts: bool,
) -> dict[str, bytes]:
    """Give the three files by their names.

    Parameters
    ----------
    head : Head
    place : Path or Address
        Where they will be. What goes to the hub names no folder of this machine.
    license, language, training_texts
        As for `Head.save_pretrained`.
    """
    content = content_of(head, {"coef": head.coef, "intercept": head.intercept})
    if not training_texts:
        content.pop("texts", None)
    if isinstance(place, Address):
        content["metadata"] = _without_folders(head.metadata)
        content["sources"] = [_without_folder(entry) for entry in content["sources"]]
    files = files_of(content)
    # A card lies in the folder itself, so that no path of this machine is in it.
    named = str(place) if isinstance(place, Address) else place.resolve().name
    card = card_of(content, named, license=license, language=language)
    return files | {CARD: card.encode()}


def _without_folder(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Name the model of a source without the folder that it lay in; the hub's names stay."""
    spec = entry["spec"]
    if spec["revision"] is not None:
        return dict(entry)
    return {**entry, "spec": {**spec, "model": _name_of(spec["model"])}}


def _without_folders(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Name the files that a head tells of without their folders."""
    said = dict(metadata)
    if isinstance(said.get("measured_on"), str):
        said["measured_on"] = _files_named(said["measured_on"])
    if isinstance(said.get("data"), list):
        said["data"] = [
            one | {"inputs": [_input_named(name) for name in one["inputs"]]}
            for one in said["data"]
            if isinstance(one, dict) and isinstance(one.get("inputs"), list)
        ]
    if isinstance(said.get("changes"), dict):
        said["changes"] = _changes_named(said["changes"])
    matching = said.get("matching")
    if isinstance(matching, dict) and isinstance(matching.get("left_out"), dict):
        said["matching"] = matching | {"left_out": _all_named(matching["left_out"])}
    return said


def _changes_named(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Name the earlier head without its folder, in what is said of it too."""
    said, against = dict(changes), changes.get("against")
    if isinstance(said.get("measured_on"), str):
        said["measured_on"] = _files_named(said["measured_on"])
    if isinstance(against, str):
        said["against"] = _name_of(against)
        if isinstance(said.get("remarks"), list | tuple):
            said["remarks"] = [
                str(one).replace(against, said["against"]) for one in said["remarks"]
            ]
    return said


def _all_named(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Name files without their folders, and tell those of one name apart by a number."""
    found: dict[str, Any] = {}
    for path, count in rows.items():
        name, others = _name_of(str(path)), 1
        while (unique := name if others == 1 else f"{name} ({others})") in found:
            others += 1
        found[unique] = count
    return found


def _input_named(name: Any) -> str:
    """Name an input without its folder; the hub's names of data sets stay."""
    return str(name) if dataset_of(str(name)) else _name_of(str(name))


def _files_named(text: str) -> str:
    return _FILES.sub(lambda found: "".join(map(_name_of, re.split(r"( and |, )", found[0]))), text)


def _name_of(path: str) -> str:
    """Give the last part of a path of this system or of another one."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def write_folder(folder: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write files into a folder, which is made as a whole where it is not there.

    Raises
    ------
    InputError
        A file of one of the names is there, or the folder is none.
    CannotContinue
        The disk refused.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is no folder; give the name of one, which is made")
    sent = copies.names_at(folder)
    if not folder.exists() and not sent:
        with new_folder(folder) as aside:
            for name, content in files.items():
                (aside / name).write_bytes(content)
        return
    there = sorted(name for name in files if name in sent or (folder / name).exists())
    if there and not overwrite:
        raise InputError(
            f"{folder} holds {', '.join(there)} already; `overwrite=True` replaces what is there"
        )
    folder.mkdir(exist_ok=True)
    # A reader between two of these finds arrays of another head, which `config.json` refuses.
    for name in sorted(files, key=NAMES.index, reverse=True):
        with replacing(folder / name) as aside:
            aside.write_bytes(files[name])


def from_folder(folder: Path, *, max_bytes: int = MAX_BYTES) -> Head:
    """Read the head in a folder."""
    return _read(folder, str(folder), max_bytes)


def from_hub(address: Address, access: Access | None = None, *, max_bytes: int = MAX_BYTES) -> Head:
    """Read the head in a repository."""
    limits = {CONFIG: min(MAX_CONFIG, max_bytes), TENSORS: max_bytes}
    return _read(fetch(address, limits, access or Access()), str(address), max_bytes)


def _read(folder: Path, name: str, max_bytes: int) -> Head:
    try:
        return Head(**parts_of(read_folder(folder, max_bytes=max_bytes), of_arrays))
    except FileRefused as error:
        raise FileRefused(f"{name}: {error}") from error
