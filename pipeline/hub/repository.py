"""Fetch a few files of a repository on the hub, and put a few there in one commit.

`fetch` gives the folder of the hub's own cache, so that what was fetched once is there without a
network; `upload` gives the address of the commit. What is in the files is not known here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import CannotContinue, FileRefused, InputError, first_line
from features.version import __version__
from pipeline.hub.address import Address
from pipeline.hub.errors import is_unreachable, one_line


@dataclass(frozen=True)
class Access:
    """How the hub is asked.

    Attributes
    ----------
    token : str or bool, optional
        Default: HF_TOKEN or what `hf auth login` kept; False asks without one.
    cache_dir : path, optional
        Where files are kept; default the hub's own cache, see HF_HOME.
    local_files_only : bool
        Whether to take what is in the cache and ask nothing.
    """

    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False


def fetch(address: Address, limits: Mapping[str, int], access: Access = Access()) -> Path:
    """Fetch files of one commit, or find them in the cache.

    Where the hub can't be reached, what is in the cache is taken, with a warning.

    Parameters
    ----------
    address : Address
    limits : mapping of str to int
        Names of files in the repository, and the bytes that each may have.
    access : Access

    Returns
    -------
    Path
        A folder that holds them.

    Raises
    ------
    InputError
        There is no such repository or revision, or it is not open to this user.
    FileRefused
        It lacks one of the files, or one is too large.
    CannotContinue
        The hub can't be reached, and the cache has no such files.
    """
    with one_line(str(address)):
        api = _client(access.token)
        reason = None if access.local_files_only else _check(api, address, limits)
        try:
            folder = api.snapshot_download(
                address.repo_id,
                revision=address.revision,
                allow_patterns=list(limits),
                cache_dir=access.cache_dir,
                local_files_only=access.local_files_only or reason is not None,
            )
        except FileNotFoundError as error:
            if not reason:
                raise
            raise CannotContinue(
                f"{address}: the hub can't be reached ({reason}), and the cache has no copy of it"
            ) from error
    if reason:
        warnings.warn(
            f"{address}: the hub can't be reached ({reason}); the copy in the cache is taken, "
            f"commit {Path(folder).name[:12]}",
            stacklevel=2,
        )
    return Path(folder)


def _check(api: Any, address: Address, limits: Mapping[str, int]) -> str | None:
    """Look at names and sizes before anything is fetched; say why the hub can't be asked.

    An empty reason: nobody is to ask it.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = api.model_info(address.repo_id, revision=address.revision, files_metadata=True)
    except Exception as error:
        if not is_unreachable(error):
            raise
        return "" if isinstance(error, OfflineModeIsEnabled) else first_line(error)
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
    for name, most in limits.items():
        if name not in sizes:
            raise FileRefused(f"{address} has no {name}; its files are not those of a head")
        if sizes[name] > most:
            raise FileRefused(f"{address}: {name} has {sizes[name]:,} bytes; at most {most:,}")
    return None


def with_owner(repo_id: str, token: str | bool | None = None) -> str:
    """Give `owner/name`; of a name alone the owner is whose token it is, as the hub has it.

    Raises
    ------
    InputError
        It is no name, or there is no token.
    CannotContinue
        The hub can't be reached or has a fault.
    """
    address = Address(repo_id)
    if "/" in repo_id:
        return repo_id
    with one_line(str(address)):
        return f"{_client(token).whoami()['name']}/{repo_id}"


def upload(
    repo_id: str,
    files: Mapping[str, bytes],
    *,
    commit_message: str,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    create_pr: bool = False,
) -> str:
    """Make the repository where there is none, and put files there in one commit.

    Parameters
    ----------
    repo_id : str
        `owner/name`.
    files : mapping of str to bytes
        All that goes up, by its names in the repository.
    commit_message : str
    private : bool, optional
        Of a new repository; default as its owner has it, which is public for most. True refuses
        one that is there and is public.
    token : str or bool, optional
        Default: HF_TOKEN or what `hf auth login` kept.
    branch : str, optional
        Default `main`.
    create_pr : bool
        Whether to propose the commit as a pull request.

    Returns
    -------
    str
        The address of the commit or pull request.

    Raises
    ------
    InputError
        The name or the token is not right, or the repository is public and should not be.
    CannotContinue
        The hub can't be reached or has a fault.
    """
    from huggingface_hub import CommitOperationAdd

    address = Address(repo_id, branch)
    if not commit_message.strip():
        raise InputError("`commit_message` is empty; say what the commit brings")
    with one_line(str(address)):
        api = _client(token)
        made = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and not api.model_info(made).private:
            raise InputError(
                f"{address} is there already, and public: make it private in its settings, or "
                "leave out `private`; nothing was uploaded"
            )
        commit = api.create_commit(
            made,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=commit_message,
            revision=branch,
            create_pr=create_pr,
        )
    return str(commit.pr_url or commit.commit_url)


def _client(token: str | bool | None) -> Any:
    """Give the hub's client, which leaves words about failures to us and draws no bars."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return HfApi(token=token, library_name="frostline", library_version=__version__)
