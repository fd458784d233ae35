"""Run a function in a child process with limits, because it may crash or never end.

`code` names the function, `command` makes the command line, `set_limits` is called in the child
first, and `ending` says how a child that ended badly did so. The callers start the child, and know
what goes in and out.
"""

from __future__ import annotations

import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
# One thread each: those of a BLAS take memory, and a file is checked by one.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def code(module: str) -> str:
    """Give the program of a child: the function `child` of a module of `features`.

    What `features` imports for its users takes longer than a child's own imports and work, so the
    package is an empty one there.
    """
    return (
        "import sys, types; features = sys.modules['features'] = types.ModuleType('features'); "
        "features.__path__ = [sys.argv[1] + '/features']; "
        f"from {module} import child; child()"
    )


def command(program: str, *arguments: str) -> list[str]:
    """Give the command line of a child, which finds our packages wherever it runs."""
    # -P: never import what lies in the current folder, which may be a stranger's too.
    return [sys.executable, "-P", "-c", program, str(_ROOT), *arguments]


def set_limits(
    *, memory_bytes: int, cpu_seconds: int | None = None, written_bytes: int | None = None
) -> None:
    """Limit this process, as far as the system knows such limits; it leaves no core dump."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, written_bytes),
    ):
        if value is not None:
            with suppress(ValueError, OSError):  # macOS knows no limit of memory
                resource.setrlimit(limit, (value, value))


def ending(code: int, errors: str = "") -> str:
    """Say how a child ended, from its exit code and the last line of its errors.

    Examples
    --------
    >>> ending(-6), ending(1, "No such file")
    ('signal 6 (SIGABRT)', 'code 1 (No such file)')
    """
    if code < 0:
        with suppress(ValueError):
            return f"signal {-code} ({signal.Signals(-code).name})"
        return f"signal {-code}"
    last = last_line(errors)
    return f"code {code} ({last})" if last else f"code {code}"


def last_line(errors: str) -> str:
    """Give the start of the last line that a child wrote to its standard error."""
    return (errors.strip().splitlines() or [""])[-1][:200]
