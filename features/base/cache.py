"""Keep what makes the next run quicker: rates that were measured, models that were exported.

It lies in the user's cache directory, or where `FROSTLINE_CACHE` says, and can be deleted at any
time. Nothing here is needed, and nothing is trusted beyond speed: what is not exactly as it was
written counts as not there, and a cache that can't be written costs time alone. Another user's
files are not read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from features.base.machine import fingerprint

_MAX_BYTES = 2**20


def cache_folder() -> Path:
    """Give the folder of the cache; it may not exist yet."""
    chosen = os.environ.get("FROSTLINE_CACHE")
    return Path(chosen) if chosen else user_cache_path("frostline")


def recall(kind: str, key: Mapping[str, Any]) -> Any:
    """Give what `remember` kept under a key, or None."""
    path = _entry(kind, key)
    try:
        if not is_ours(path) or path.stat().st_size > _MAX_BYTES:
            return None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("key") != json.loads(json.dumps(key)):
        return None
    return content.get("value")


def remember(kind: str, key: Mapping[str, Any], value: Any) -> None:
    """Keep a value, of JSON types, under a key of JSON types."""
    path = _entry(kind, key)
    with suppress(OSError):  # a cache that can't be written costs time alone
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"key": key, "value": value}, file, indent=1)
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def keep_folder(folder: Path, write: Callable[[Path], None]) -> Path | None:
    """Write a folder aside, and give it its name; None where there is no room for it.

    Raises whatever `write` raises, but for what the system says of the disk.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    except OSError:
        return None
    try:
        write(aside)
        if folder.exists():  # of another run, or damaged: this one is whole
            shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        return None
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder


def is_ours(path: Path) -> bool:
    """Tell whether a file or folder belongs to this user, and is no link."""
    try:
        owner = path.lstat().st_uid
        return (not hasattr(os, "geteuid") or owner == os.geteuid()) and not path.is_symlink()
    except OSError:
        return False


def _entry(kind: str, key: Mapping[str, Any]) -> Path:
    return cache_folder() / kind / f"{fingerprint(json.dumps(key, sort_keys=True))}.json"
