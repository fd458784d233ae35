"""Start the server, and end it without losing a request that it has taken.

In come heads, encoders and settings. The port is taken first, so that a wrong one is said at once;
then the models are run once, and only then connections are accepted. When it is told to end, it is
unhealthy at once, goes on answering for a second what is on its way, closes the port, finishes its
work, and ends. Told again, it ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from threadpoolctl import ThreadpoolController

from features.base.paths import check_input
from features.base.shown import shown
from features.errors import CannotContinue, InputError, system_reason
from pipeline.serve.app import Service, application
from pipeline.serve.guards import Entrance, Guard
from pipeline.serve.limits import Limits
from pipeline.serve.metrics import Metrics
from pipeline.serve.protocol import LAST_SECONDS, bounded
from pipeline.serve.scorer.heads import Heads
from pipeline.serve.scorer.scorer import Scorer

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder

# For requests that are on their way when the server is told to end.
_GRACE_SECONDS = 1.0
_TOKEN = re.compile(rb"[!-~]{16,4096}")


@dataclass(frozen=True)
class Place:
    """Where the server listens, and who may ask.

    Attributes
    ----------
    host : str
    port : int
        0 for any that is free.
    token : bytes, optional

    Raises
    ------
    InputError
        Other machines could ask without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: bytes | None = None

    def __post_init__(self) -> None:
        if self.token is None and not all(_is_loopback(one) for one in self.addresses):
            raise InputError(
                f"`host` {self.host}: other machines could use this server; give a file with a "
                "secret as `token_file`, or leave `host` at 127.0.0.1"
            )

    @property
    def addresses(self) -> list[str]:
        """The addresses that the host has.

        Raises
        ------
        InputError
            It has none.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, OverflowError) as error:
            raise InputError(
                f"`host` {shown(self.host)} is no address of this machine: {system_reason(error)}; "
                "leave it at 127.0.0.1, or give 0.0.0.0 for all"
            ) from error
        return [str(address[0]) for *_, address in found]

    @property
    def entrance(self) -> Entrance:
        """Who may ask."""
        names = {"localhost", "127.0.0.1", "[::1]", self.host.lower(), f"[{self.host}]"}
        return Entrance(self.token, frozenset(names))

    @contextmanager
    def bound(self) -> Iterator[socket.socket]:
        """Take the port; nobody can connect yet.

        Raises
        ------
        InputError
            It can't be had.
        """
        address = self.addresses[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind((address, self.port))
            except (OSError, OverflowError) as error:
                raise InputError(
                    f"{self.host} port {self.port} can't be had: {system_reason(error)}; give "
                    "another `port`, 0 for any that is free, or another `host`"
                ) from error
            yield found


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def read_token(path: Path) -> bytes:
    """Read the secret that clients must send.

    Raises
    ------
    InputError
        It is no file that its owner alone can read, or no secret.
    """
    check_input(path)
    try:
        mode, content = path.stat().st_mode, path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"{path} can be read by others (its mode is {stat.S_IMODE(mode):04o}), so it is no "
            f"secret: chmod 600 {path}"
        )
    if not _TOKEN.fullmatch(content):
        raise InputError(
            f"{path} holds no token: 16 characters or more of ASCII, without blanks, in one line, "
            'as python -c "import secrets; print(secrets.token_urlsafe(32))" prints it'
        )
    return content


class _Server(uvicorn.Server):
    """uvicorn's server, without its own way to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


def http_server(guard: Guard, limits: Limits) -> uvicorn.Server:
    """Put an application behind HTTP; it ends when its `should_exit` is set."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return _Server(
        uvicorn.Config(
            guard,
            http=bounded(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=limits.drain_seconds,
        )
    )


def serve(
    heads: Heads,
    load: Callable[[], Sequence[FrozenEncoder]],
    place: Place,
    limits: Limits,
    *,
    say: Callable[[str], None],
    log: Callable[[str], None] | None = None,
) -> None:
    """Serve heads until SIGTERM or SIGINT.

    Parameters
    ----------
    heads : Heads
    load : callable
        Gives the encoders of `heads.encoders`.
    place : Place
    limits : Limits
    say : callable
        Told a line when the server is ready, and when it ends.
    log : callable, optional
        Told a line for each request.

    Raises
    ------
    InputError
        The port can't be had.
    CannotContinue
        Work was left when it had to end.
    """
    with place.bound() as bound:
        metrics = Metrics()
        scorer = Scorer(heads, load(), max_queue=limits.max_queue, ran=metrics.ran)
        try:
            scorer.warm_up()
            _use_one_blas_thread()
            # The libraries' million objects are no garbage, and looking through them takes a fifth
            # of the time of the event loop. Python looks at all others when those that are new are
            # a quarter of what was there when it last did so: that must not count what is frozen.
            gc.collect()
            gc.freeze()
            gc.collect()
            metrics.watch(lambda: scorer.waiting)
            service = Service(scorer, limits, metrics, has_token=place.token is not None)
            guard = application(service, place.entrance, metrics, log)
            server = http_server(guard, limits)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_until_told(server, bound, service, guard, say))
        finally:
            scorer.close()
    if scorer.unanswered:
        raise CannotContinue(
            f"{scorer.unanswered:,} texts were still waiting after {limits.drain_seconds} s: their "
            "requests have no answer"
        )


def _use_one_blas_thread() -> None:
    """Let NumPy multiply on one core: the products are small, and the others run the model."""
    for library in ThreadpoolController().lib_controllers:
        # torch may have a BLAS of its own, which is to use what it has.
        if library.user_api == "blas" and "numpy" in library.filepath:
            library.set_num_threads(1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Take uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:  # not on this system
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _until_told(
    server: uvicorn.Server,
    bound: socket.socket,
    service: Service,
    guard: Guard,
    say: Callable[[str], None],
) -> None:
    """Run the server until a signal comes, and end it in order."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def end(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        service.is_draining = guard.is_draining = True
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, end, number)
        except NotImplementedError:  # the loops of Windows
            signal.signal(number, lambda n, frame: loop.call_soon_threadsafe(end, n))
    running = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    host, port = bound.getsockname()[:2]
    say(f"ready on http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it)")
    await asyncio.wait([running, asyncio.create_task(told.wait())], return_when="FIRST_COMPLETED")
    if told.is_set():
        say("ending: what was asked for is still answered")
        await asyncio.sleep(_GRACE_SECONDS)
        # Who is connected already, and was not taken yet, is; nobody else gets a connection.
        bound.listen(0)
        await asyncio.sleep(LAST_SECONDS)
        server.should_exit = True
    await running
