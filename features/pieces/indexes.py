"""Keep the indexes of large files in the store, so that one job looks at a file for all jobs.

In comes which index is wanted, out comes the one that the store has, or a new one, which is kept.
An index is another one where the file has changed; what is not as it was written is written anew.
It decides nothing: whether all jobs have the same pieces is the order's to say.
"""

from __future__ import annotations

from collections.abc import Callable

from features.base import disk, shown, storage
from features.base.remote.urls import is_url
from features.base.storage import Target, child, exists, local_path, read_bytes
from features.errors import first_line
from features.pieces.file_index import FileIndex, IndexRequest, make_index
from features.pieces.scratch import put_once, put_over
from features.store.joined.fields import sealed, unsealed
from features.store.joined.layout import INDEXES

# Bytes of a file from which on a look takes so long that it is said.
_LONG = 2**30


def kept_in(
    store: Target, make_folders: Callable[[], None], say: Callable[[str], None]
) -> Callable[[IndexRequest], FileIndex]:
    """Give what makes an index once in a store.

    Parameters
    ----------
    store : path or URL
    make_folders : callable
        Makes the store's folders; called before the first index is kept.
    say : callable
        Called with what the user should know.
    """

    def index_of(request: IndexRequest) -> FileIndex:
        target = child(store, INDEXES, f"{request.key}.json")
        keep: Callable[[Target, Target, bytes], object] = put_once
        if exists(target):
            try:
                found = FileIndex.from_json(unsealed(read_bytes(target)))
                if found.is_of(request.path):
                    return found
                say(
                    f"WARNING: {request.path} has another time than when it was first looked at, "
                    "and is read again: if its rows have changed, remove the folder and begin "
                    "again, as pieces of both would be mixed; if it is a copy, keep the time "
                    "(`cp -p`)"
                )
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                say(f"{target} is damaged ({first_line(error)}): {request.path} is read instead")
                keep = put_over
        if (n_bytes := storage.size(request.path)) > _LONG:
            say(
                f"{request.path} ({shown.size(n_bytes)}) is read once for all jobs, to find where "
                "its rows end"
            )
        made = make_index(request)
        if made.parts:
            make_folders()
            if not is_url(store):
                disk.mkdir(local_path(store) / INDEXES)
            keep(store, target, sealed(made.to_json()))
        return made

    return index_of
