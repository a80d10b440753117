"""Ports for servers that must be told one before they start."""

import itertools
import random
import socket

CHOICE = range(20_000, 32_000)
"""Between what Ray's workers take and what systems hand out by themselves: nobody is given one
between choice and use."""
ORDER = itertools.cycle(random.Random().sample(CHOICE, len(CHOICE)))  # noqa: S311  no secret


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and that no other call is given."""
    for port in ORDER:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError  # the order has no end
