"""Find the Ray cluster that is meant, and look whether it answers, before Ray joins it."""

from __future__ import annotations

import ipaddress
import os
import socket
from contextlib import suppress
from typing import Any

from features.errors import InputError, system_reason

# Seconds until a cluster answers.
_PATIENCE = 10.0


def address_of(given: str, services: Any) -> str:
    """Give the address that a user means: with `auto` that of RAY_ADDRESS, or of what runs here.

    Parameters
    ----------
    given : str
    services : module
        Ray's, which looks for clusters on this machine.

    Raises
    ------
    InputError
        None is found, or several.
    """
    if given != "auto":
        return given
    if named := os.environ.get("RAY_ADDRESS"):
        return named
    running = sorted(services.find_gcs_addresses())
    if len(running) == 1:
        return str(running[0])
    if latest := services.find_bootstrap_address(None):
        return str(latest)
    if running:
        raise InputError(
            f"`ray_address` is 'auto', and several clusters run here: give one of "
            f"{', '.join(map(str, running))}"
        )
    raise InputError(
        "`ray_address` is 'auto', and no cluster runs on this machine: start one "
        "(docs/cluster.md), give its HOST:PORT, or give no `ray_address` to start Ray here"
    )


def is_loopback_alone(address: str, given: str) -> bool:
    """Look whether anybody listens at an address, and not but on the loopback address.

    Ray itself would try for minutes, and take the address of the network for the loopback address.

    Parameters
    ----------
    address : str
    given : str
        What the user has given, for messages: the same, or `auto`.

    Raises
    ------
    InputError
        It is no address, or nothing answers there.
    """
    said = repr(address) if address == given else f"{given!r}, which is {address!r} here"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise InputError(
            f"`ray_address` is {said}: give auto, HOST:PORT (6379 is usual) or "
            "ray://HOST:PORT (10001 is usual)"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection:
            loopback = ipaddress.ip_address(connection.getpeername()[0]).is_loopback
    except OSError as error:
        raise InputError(
            f"`ray_address` is {said}, and nothing answers there: {system_reason(error)}; "
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
