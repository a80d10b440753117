"""Start a worker process, with a line to it."""

import os
import signal
import socket
import subprocess
import sys

from calotype.execution.channel import Channel

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Sent to all processes of a terminal or a service; only the server decides what they mean."""


def spawn(name: str) -> tuple["subprocess.Popen[bytes]", Channel]:
    """Start a process that runs ``execution.child``.

    Args:
        name: of the model, for whoever looks at a list of processes.

    Returns:
        The process, and the server's end of the line to it.

    Raises:
        OSError: the system has no room for another.
    """
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "calotype.execution.child"]
    # It inherits the mask, so that none of these ends it before it has learned to ignore them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603  our own interpreter
                [*command, str(theirs.fileno()), str(os.getpid()), name],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process, Channel(ours)
