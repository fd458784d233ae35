"""Find a data set by its name, prepare it, and give its rows.

In comes a name such as `hf:tweet_eval/sentiment:train`, see `features/tweets/rows/hub_name.py`; out
goes a `RowSource`. The files are fetched, prepared and kept by the library `datasets`, in its
cache. Code of a data set never runs: scripts are refused, and so are formats other than tables and
texts, and files outside of the repository or folder. What lies in the cache is read without the
network where `HF_HUB_OFFLINE` is set.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.base.shown import listed, shown
from features.errors import FileRefused, FrostlineError, InputError, first_line
from features.tweets.rows import data_set
from features.tweets.rows.hub_name import HubName, parse_hub_name
from features.tweets.rows.row_source import RowSource

# How the library lists the configurations that there are.
_CONFIGS = re.compile(r"(?:vailable configs|Available)[^\[]*\[(.*?)\]")
# What `datasets` reads that may hold texts, by its modules; `cache` is what was read before.
_FORMATS = ("csv", "json", "parquet", "arrow", "text", "cache")
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def hub_source(text: str) -> RowSource:
    """Find a data set by its name, and give its rows.

    Raises
    ------
    InputError
        The name is none, there is no such data set, configuration, split or revision, it may not
        be read, or the hub can't be reached.
    FileRefused
        Its files can't be read, or are of a kind that is not.
    """
    name = parse_hub_name(text)
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{text}: reading data sets of Hugging Face needs datasets: "
            "pip install 'frostline[datasets]'"
        ) from error
    with _quiet(datasets):
        if name.is_folder and _was_saved(name):
            splits, full = _from_disk(datasets, name), name
        else:
            splits, full = _prepared(datasets, name)
        chosen, full = _choose(datasets, splits, full)
    made_of = f" (fingerprint {chosen._fingerprint})" if full.is_folder else ""
    found = data_set.row_source(chosen, f"{full}{made_of}")
    assert found is not None, "it is a Dataset"
    from_cache = f"{found.format} as the cache of this machine has it"
    return replace(found, format=from_cache) if full.is_cached else found


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keep the library's bars and warnings from mixing with what we say; a failure is said once."""
    from huggingface_hub.utils import logging as hub_logging

    bars, level = library.are_progress_bars_disabled(), library.logging.get_verbosity()
    hub_level = hub_logging.get_verbosity()
    library.disable_progress_bars()
    library.logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        library.logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if not bars:
            library.enable_progress_bars()


def _was_saved(name: HubName) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    return any((name.place / file).is_file() for file in ("dataset_dict.json", "state.json"))


def _from_disk(library: Any, name: HubName) -> Any:
    """Open what `save_to_disk` wrote: a data set, or a dict of splits."""
    if name.config:
        raise InputError(f"{name}: what save_to_disk wrote has no configurations; leave it out")
    with _failing(name):
        return library.load_from_disk(str(name.place))
    raise AssertionError("what fails is raised")


def _prepared(library: Any, name: HubName) -> tuple[Any, HubName]:
    """Prepare the files of a data set in the cache, and give its splits with its full name."""
    builder, full = _builder(library, name)
    _check(builder, full)
    known = list(builder.info.splits or getattr(builder.config, "data_files", None) or ())
    if known:
        _check_split(full, [str(one) for one in known])
    with _failing(full):
        if _is(builder, "csv") and builder.info.features is None and name.is_folder:
            builder = _of_texts(library, builder, full)
        builder.download_and_prepare()
        return builder.as_dataset(), full
    raise AssertionError("what fails is raised")


def _builder(library: Any, name: HubName) -> tuple[Any, HubName]:
    """Find a data set; `a/b` may be one, or a configuration of one."""
    owner, _, rest = name.path.partition("/")
    try:
        return _found(library, name)
    except _NotThere as error:
        if name.is_folder or name.config or not rest:
            raise
        other = replace(name, path=owner, config=rest)
        try:
            return _found(library, other)
        except _NotThere as second:
            raise InputError(
                f"{error}; nor is there a data set {owner!r} with a configuration {rest!r}"
            ) from second


class _NotThere(InputError):
    """There is no data set of that name, as far as can be seen."""


def _found(library: Any, name: HubName) -> tuple[Any, HubName]:
    if not name.is_folder and "/" not in name.path:
        name = replace(name, path=_of_today(library, name))
    path = str(name.place) if name.is_folder else name.path
    with _failing(name):
        builder = library.load_dataset_builder(path, name.config, revision=name.revision)
    commit = str(builder.hash or "")
    if _is(builder, "cache") and name.revision and not commit.startswith(name.revision):
        raise InputError(
            f"{name}: the hub can't be reached, and what the cache of this machine has is of the "
            f"commit {commit[:12]}; leave the revision out to read that"
        )
    config = name.config or builder.config.name
    config = None if config == "default" or config.startswith("default-") else config
    full = replace(name, config=config, is_cached=_is(builder, "cache"))
    return builder, replace(full, revision=None if name.is_folder else commit)


def _of_today(library: Any, name: HubName) -> str:
    """Give the id, owner and name, of a data set that is named as in earlier years.

    Where the hub can't be reached, that is the only one of the name in the cache.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    cached = sorted(Path(library.config.HF_DATASETS_CACHE).glob(f"*___{name.path}"))
    if constants.HF_HUB_OFFLINE and len(cached) == 1:
        return cached[0].name.replace("___", "/", 1)
    with _failing(name):
        try:
            return str(HfApi().dataset_info(name.path).id)
        except RepositoryNotFoundError as error:
            raise _not_found("", name) from error
    raise AssertionError("what fails is raised")


def _is(builder: Any, *formats: str) -> bool:
    return not set(formats).isdisjoint(_modules(builder))


def _modules(builder: Any) -> list[str]:
    return [kind.__module__.rpartition(".")[2] for kind in type(builder).__mro__]


def _check(builder: Any, name: HubName) -> None:
    """Refuse formats that hold no texts, and files that lie elsewhere."""
    if not _is(builder, *_FORMATS):
        raise FileRefused(
            f"{name} holds files of another kind ({_modules(builder)[0]}); texts are read from "
            f"{', '.join(_FORMATS[:-1])}"
        )
    base = str(builder.base_path or "")
    for files in (getattr(builder.config, "data_files", None) or {}).values():
        for file in map(str, files):
            inside = file.startswith(base + "/") and ".." not in file.split("/")
            if not inside:
                raise FileRefused(
                    f"{name} names a file that is not its own, {shown(file)}; only the files of a "
                    "data set are read"
                )


def _check_split(name: HubName, known: list[str]) -> None:
    """Refuse a name without a split where there are several, or with one that is not there."""
    whole = replace(name, split=None, revision=None)
    if name.split is None:
        if len(known) != 1:
            raise InputError(
                f"{whole} has the splits {listed(known)}: name one, as in {whole}:{known[0]}"
            )
        return
    for part in name.split.split("+"):
        split = part.partition("[")[0]
        if split not in (*known, "all"):
            raise InputError(f"{whole} has no split {split!r}; its splits are: {listed(known)}")


def _of_texts(library: Any, builder: Any, name: HubName) -> Any:
    """Read cells of tables as the texts that they are.

    By itself the library takes `NA` for nothing and `007` for a number, as pandas does. Here one
    value has one meaning in every format, see `features/tweets/values.py`.
    """
    import pandas as pd  # the library reads tables with it

    first = next(str(file) for files in builder.config.data_files.values() for file in files)
    options = {**builder.config.pd_read_csv_kwargs, "nrows": 0}
    del options["chunksize"]
    columns = pd.read_csv(first, **options).columns
    features = library.Features({str(column): library.Value("string") for column in columns})
    return library.load_dataset_builder(
        str(name.place), name.config, features=features, keep_default_na=False
    )


def _choose(library: Any, splits: Any, name: HubName) -> tuple[Any, HubName]:
    """Give the rows of the split, or of the slices, that are named, and the full name."""
    if isinstance(splits, library.Dataset):
        splits = {str(splits.split or "train"): splits}
    _check_split(name, list(splits))
    if name.split is None:
        ((split, rows),) = splits.items()
        return rows, replace(name, split=split)
    asked = "+".join(splits) if name.split == "all" else name.split
    lengths = {split: len(rows) for split, rows in splits.items()}
    with _failing(name):
        parts = library.ReadInstruction.from_spec(asked).to_absolute(lengths)
        chosen = [splits[part.splitname].select(range(part.from_, part.to)) for part in parts]
        rows = chosen[0] if len(chosen) == 1 else library.concatenate_datasets(chosen)
        return rows, name
    raise AssertionError("what fails is raised")


@contextmanager
def _failing(name: HubName) -> Iterator[None]:
    """Say in one line what the library could not do, with a cure."""
    try:
        yield
    except FrostlineError:
        raise
    except Exception as error:  # the library raises a dozen types, and those of four others
        raise _worded(error, name) from error


def _worded(error: Exception, name: HubName) -> Exception:
    from huggingface_hub import constants

    whole, said = replace(name, split=None, revision=None), " ".join(str(error).split())
    if type(error).__name__ == "DatasetNotFoundError":
        return _not_found(said, name)
    if "scripts are no longer supported" in said:
        cure = f"the hub has a copy of many: try {replace(name, revision='refs/convert/parquet')}"
        if name.is_folder:
            cure = "give a folder of its rows as Parquet, JSON Lines or CSV"
        return FileRefused(f"{whole} is a script, and code of a data set never runs here; {cure}")
    if constants.HF_HUB_OFFLINE and isinstance(error, ConnectionError):
        return _NotThere(
            f"{whole} is not in the cache of this machine, and HF_HUB_OFFLINE is set: run it once "
            "with the network, or give a local folder"
        )
    foreign = type(error).__module__.startswith(("httpx", "huggingface_hub"))
    if foreign or isinstance(error, ConnectionError | TimeoutError):
        return InputError(
            f"{whole}: the hub can't be reached ({first_line(error)}); check the network, or give "
            "a local folder"
        )
    if found := _CONFIGS.search(said):
        configs = [one.strip(" '\"") for one in found[1].split(",")]
        wrong = f"has no configuration {name.config!r}" if name.config else "needs a configuration"
        return InputError(
            f"{replace(whole, config=None)} {wrong}; there are: {listed(configs)}; write e.g. "
            f"{replace(whole, config=configs[0])}"
        )
    if type(error).__name__ in ("DataFilesNotFoundError", "EmptyDatasetError"):
        return InputError(f"{whole} holds no files of data that can be read")
    return FileRefused(f"{whole} cannot be read: {first_line(error.__cause__ or error)}")


def _not_found(said: str, name: HubName) -> Exception:
    """Word that a data set, or its revision, is not to be had."""
    whole = replace(name, split=None, revision=None)
    if "gated" in said:
        page = f"https://huggingface.co/datasets/{name.path}"
        return InputError(f"{whole} is gated: ask for access at {page}, then {_LOGIN}")
    if said.startswith("Revision"):
        return InputError(
            f"{whole} has no revision {name.revision!r}; give a branch, a tag or a commit"
        )
    return _NotThere(
        f"there is no data set {name.path!r} on the hub, or it is private: check the name; if it "
        f"is private, {_LOGIN}"
    )
