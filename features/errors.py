"""What can go wrong for a user, in three kinds, each with the exit code of the command line.

A message says what was wrong, with the value, what is allowed, and the cure. Anything else that
escapes from the library is a bug of ours.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class FrostlineError(Exception):
    """Base of the errors that a user can meet."""

    exit_code = 4


class InputError(FrostlineError):
    """The call or its input is wrong: an option, a column, a label, a missing file."""

    exit_code = 2


class FileRefused(FrostlineError):
    """A file is not what it should be, is damaged, or belongs to another encoder."""

    exit_code = 3


class CannotContinue(FrostlineError):
    """The call was right, but the machine cannot go on: no memory, no disk, values overflow."""

    exit_code = 4


class NotFinite(CannotContinue):
    """Vectors of some texts overflow, in float32 too; `texts` are their numbers."""

    def __init__(self, message: str, texts: Sequence[int]) -> None:
        super().__init__(message)
        self.texts = tuple(texts)


def first_line(error: BaseException) -> str:
    """Give what another library's error says, short enough for a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


@contextmanager
def foreign(failed: str) -> Iterator[None]:
    """The border to foreign code that runs on foreign files: any type of error can come, Rust's panics too.

    Raises
    ------
    FileRefused
        For each of them: what failed, and what the other library says. Our own errors pass.
    """
    try:
        yield
    except (FrostlineError, KeyboardInterrupt, GeneratorExit, SystemExit):
        raise
    except BaseException as error:
        raise FileRefused(f"{failed}: {first_line(error)}") from error
