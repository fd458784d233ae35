"""Look whether anybody listens where a Ray cluster is said to be, before Ray joins it."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

from features.errors import InputError, system_reason

# Seconds until a cluster answers.
_PATIENCE = 10.0


def is_loopback_alone(address: str) -> bool:
    """Look whether anybody listens at an address, and not but on the loopback address.

    Ray itself would try for minutes, and take the address of the network for the loopback address.

    Raises
    ------
    InputError
        It is no address, or nothing answers there.
    """
    if address == "auto":
        return False
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise InputError(
            f"`ray_address` is {address!r}: give auto, HOST:PORT (6379 is usual) or "
            "ray://HOST:PORT (10001 is usual)"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection:
            loopback = ipaddress.ip_address(connection.getpeername()[0]).is_loopback
    except OSError as error:
        raise InputError(
            f"`ray_address` is {address!r}, and nothing answers there: {system_reason(error)}; "
            "start a cluster there (docs/cluster.md), or give no `ray_address` to start Ray on "
            "this machine"
        ) from error
    return loopback and not answers(_own_address(), int(port))


def answers(host: str, port: int) -> bool:
    """Tell whether anybody listens there."""
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError:
        return False
    return True


def _own_address() -> str:
    """Give the address of this machine in its network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, suppress(OSError):
        one.connect(("192.0.2.1", 9))
        return str(one.getsockname()[0])
    return "127.0.0.1"
