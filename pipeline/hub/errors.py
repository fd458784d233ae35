"""Say in one line why the hub did not do what it was asked, and what helps.

The client raises a dozen types, from those of HTTP to those of the disk. In comes any of them, out
comes an error of ours. Nothing is asked of the hub here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import CannotContinue, FrostlineError, InputError, first_line

_LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or give `token`"
# What an answer of the hub means, and what helps.
_STATUS = {
    401: f"the hub does not know the token, or wants one: {_LOG_IN}",
    403: "the token may not do this: take one that may (to write, a token with the role 'write')",
    404: "the hub has nothing of this name; check it",
    409: "somebody else has changed it at the same time: try again",
    413: "the hub takes no file of this size",
    429: "the hub takes no more requests for now: wait some minutes, and try again",
}


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn errors of the client, and of the network, into ours.

    Parameters
    ----------
    what : str
        Is the subject of the message: `hf:owner/name`.

    Raises
    ------
    InputError
        The name, the revision or the token is wrong.
    CannotContinue
        The network, the hub or the disk is.
    """
    try:
        yield
    except (FrostlineError, MemoryError):
        raise
    except Exception as error:  # the hub client raises a dozen types, from HTTP to validation
        raise _ours(what, _answer_behind(error)) from error


def is_unreachable(error: BaseException) -> bool:
    """Tell whether the hub was not asked, or gave no answer at all."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):  # an answer, though it is one of the client's own errors
        return False
    # httpx, and its successor, share no type with each other.
    names = {one.__name__ for one in type(error).__mro__}
    return isinstance(error, OfflineModeIsEnabled) or bool(names & {"TransportError"})


def _answer_behind(error: Exception) -> Exception:
    """Give the answer of the hub that an error of the client was made from, if one was."""
    from huggingface_hub.errors import HfHubHTTPError

    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, HfHubHTTPError):
        inner = inner.__cause__
    return error if inner is None else inner


def _ours(what: str, error: Exception) -> FrostlineError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        cure = f"ask for access on its page, and then {_LOG_IN}"
        return InputError(f"{what} is gated: {cure}")
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{what}: the repository has no such revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"{what}: the hub shows no such repository: check the name, and if it is private, "
            f"{_LOG_IN}"
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return InputError(f"{what}: no token is there: {_LOG_IN}")
    if isinstance(error, errors.EntryNotFoundError):
        return _not_kept(what, error)
    # What is wrong with the call; an answer that is no JSON is another kind of it.
    if isinstance(error, errors.HFValidationError) or type(error) is ValueError:
        return InputError(f"{what}: {' '.join(str(error).split())[:300]}")
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(what, error)
    if is_unreachable(error):
        return CannotContinue(f"{what}: the hub can't be reached ({first_line(error)})")
    return CannotContinue(f"{what}: {first_line(error)}")


def _not_kept(what: str, error: Exception) -> FrostlineError:
    """Word that a file is not there: on the hub, or in the cache where only that may be asked."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError):
        return CannotContinue(
            f"{what} is not in the cache, and the hub was not asked or can't be reached: fetch it "
            "once where there is a network, without HF_HUB_OFFLINE and `local_files_only`"
        )
    return InputError(f"{what}: {first_line(error)}")


def _answered(what: str, error: Exception) -> FrostlineError:
    """Word an answer by its number; the hub's own words come along where they say more."""
    status = int(error.response.status_code)  # type: ignore[attr-defined]
    said = first_line(ValueError(getattr(error, "server_message", None) or ""))
    more = "" if said == "ValueError" else f" (it says: {said})"
    if status >= 500:
        return CannotContinue(f"{what}: the hub has a fault of its own, {status}{more}: try later")
    kind = CannotContinue if status in (409, 429) else InputError
    return kind(f"{what}: {_STATUS.get(status, f'the hub answers {status}')}{more}")
