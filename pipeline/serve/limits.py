"""Say how much a client may ask of the server, and how long it may take. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass

from features.errors import InputError

# More marks than these texts have would not fit into the headers of an answer.
MOST_TEXTS = 1024


@dataclass(frozen=True)
class Limits:
    """What is allowed; more is refused, with the number in the answer.

    Attributes
    ----------
    max_client_batch_size : int
        Texts in a request.
    max_text_bytes : int
        Of a text, in UTF-8.
    max_body_bytes : int
        Of a request's body.
    max_queue : int
        Texts that are waited for by all clients together.
    max_connections : int
        That are open at a time.
    header_seconds, body_seconds : float
        For the head of a request, and for its body, to come in.
    idle_seconds : int
        That a connection may stay open between two requests.
    drain_seconds : int
        For the work that is left when the server is told to end.

    Raises
    ------
    InputError
        A number is below 1, or they exclude each other.
    """

    max_client_batch_size: int = 256
    max_text_bytes: int = 65_536
    max_body_bytes: int = 2_000_000
    max_queue: int = 4096
    max_connections: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: int = 75
    drain_seconds: int = 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise InputError(f"`{name}` is {value}; it must be at least 1")
        if self.max_client_batch_size > MOST_TEXTS:
            raise InputError(
                f"`max_client_batch_size` is {self.max_client_batch_size:,}; it must be at most "
                f"{MOST_TEXTS:,}: clients of more texts send several requests"
            )
        if self.max_queue < self.max_client_batch_size:
            raise InputError(
                f"`max_queue` is {self.max_queue:,}, less than a request may hold: give at least "
                f"`max_client_batch_size`, {self.max_client_batch_size:,}"
            )
