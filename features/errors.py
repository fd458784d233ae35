"""Define the errors that a user can meet: three kinds, each with an exit code of the commands.

A message says what was wrong, with the value, what is allowed, and the cure. A parameter that the
cure names is in backticks, as in `dtype=auto`: the command line turns it into its flag. Anything
else that escapes from the library is a bug of ours.
"""

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# From which share of the rows on rejects are told loudly, and refused.
LOUD_SHARE, REFUSED_SHARE = 0.01, 0.2
# What rewords messages, such as by the URL of a file in place of the path of its copy.
REWORDINGS: list[Callable[[str], str]] = []


class FrostlineError(Exception):
    """The base of the errors that a user can meet."""

    exit_code = 4

    def __str__(self) -> str:
        return reworded(super().__str__())

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors of workers cross the border of a process whatever their constructors ask for.
        return _rebuilt, (type(self), self.args), self.__dict__


class InputError(FrostlineError):
    """A wrong call or input: an option, a column, a label, a missing file."""

    exit_code = 2


class FileRefused(FrostlineError):
    """A file that is not what it should be, is damaged, or belongs to another encoder."""

    exit_code = 3


class CannotContinue(FrostlineError):
    """A right call that the machine cannot go on with: no memory, no disk, values overflow."""

    exit_code = 4


class NotFinite(CannotContinue):
    """Vectors that overflow, in float32 too; `texts` are the numbers of their texts."""

    def __init__(self, message: str, texts: Sequence[int]) -> None:
        super().__init__(message)
        self.texts = tuple(texts)


def _rebuilt(kind: type[FrostlineError], arguments: tuple[Any, ...]) -> FrostlineError:
    """Make an error of ours again without calling its constructor."""
    error = kind.__new__(kind)
    error.args = arguments
    return error


def reworded(text: str) -> str:
    """Give a text by all of `REWORDINGS`."""
    for rewording in REWORDINGS:
        text = rewording(text)
    return text


def first_line(error: BaseException) -> str:
    """Give what another library's error says, short enough for a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def system_reason(error: BaseException) -> str:
    """Give what the system says went wrong, without its number and without the path."""
    return str(getattr(error, "strerror", None) or first_line(error))


def is_full_disk(error: BaseException) -> bool:
    """Tell whether a write found no room, in Python or in Rust, which writes the number down."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    numbers = {getattr(error, "errno", None), int(said[1]) if said else None}
    return not numbers.isdisjoint({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def judged_rejects(
    count: int,
    rows: int,
    reasons: str,
    *,
    allowed: bool,
    cure: str = "give `allow_rejects` to go on all the same",
) -> str | None:
    """Judge how many of the rows of an input were rejected.

    Parameters
    ----------
    count, rows : int
        Those that were rejected, of how many.
    reasons : str
        Says where the reasons are.
    allowed : bool
        Whether there may be too many.
    cure : str
        Says how they are allowed.

    Returns
    -------
    str or None
        A warning, where it is more than `LOUD_SHARE`, and not all.

    Raises
    ------
    InputError
        It is more than `REFUSED_SHARE`, and that was not allowed.
    """
    if count <= LOUD_SHARE * rows or count == rows:  # all: there is nothing to go on
        return None
    counted = f"{count:,} of {rows:,} rows were rejected"
    if count > REFUSED_SHARE * rows and not allowed:
        raise InputError(
            f"{counted}, more than a fifth, so the input is probably read in the wrong way: "
            f"{reasons}; {cure}"
        )
    return f"WARNING: {counted}; {reasons}"


@contextmanager
def foreign(failed: str) -> Iterator[None]:
    """Turn any error of a foreign library that reads a foreign file into a refusal of the file.

    Panics of Rust are among them. Our own errors pass.

    Raises
    ------
    FileRefused
        The message says what failed, and what the other library says.
    CannotContinue
        The disk is full, which is no fault of the file.
    """
    try:
        yield
    except (FrostlineError, KeyboardInterrupt, GeneratorExit, SystemExit):
        raise
    except BaseException as error:
        if is_full_disk(error):
            raise CannotContinue(f"{first_line(error)}: make room on the disk") from error
        raise FileRefused(f"{failed}: {first_line(error)}") from error
