"""Addresses to listen on."""

import ipaddress
import socket

from calotype.errors import InvalidSettingError


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address to listen on.

    Raises:
        InvalidSettingError: there is no such address.
    """
    return all(ipaddress.ip_address(address).is_loopback for address in addresses(host))


def addresses(host: str) -> list[str]:
    """Return the numeric addresses of a host; an empty one means all."""
    try:
        found = socket.getaddrinfo(
            host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise InvalidSettingError(
            f"host must be an address of this machine, got {host!r}: {error.strerror}"
        ) from error
    return [str(info[4][0]).partition("%")[0] for info in found]
