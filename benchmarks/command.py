"""Commands as a user starts them, watched from outside: how long, how much processor and memory."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_S = 0.02
LOOK_S = 0.1
"""Between two looks at the memory, which cost more."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took."""

    status: int
    """As of ``subprocess``: negative for a signal."""
    began_s: float
    """By the clock that files have their times from."""
    seconds: float
    cpu_s: float
    """Of its children too."""
    peak_bytes: int
    """Resident, of the command and all that it started."""
    said: str
    stopped: bool = False
    """It took too long."""

    def how_it_ended(self) -> str:
        """Say it for people; empty if it ended well."""
        if self.stopped:
            return f"stopped after {self.seconds:.0f} s"
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return f"exit status {self.status}" if self.status else ""

    def last_line(self) -> str:
        """Return the last thing that it said."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


def run(command: Sequence[str], environ: Mapping[str, str], log: Path, limit_s: float) -> Usage:
    """Run a command to its end.

    Args:
        command: the program with its arguments.
        environ: its environment.
        log: where what it says goes.
        limit_s: it is killed after that.
    """
    with log.open("w") as file:
        began_s, started_s = time.time(), time.perf_counter()
        # A session of its own, so that it and all that it started can be killed.
        process = subprocess.Popen(
            command, env=environ, stdout=file, stderr=file, start_new_session=True
        )
    peak_bytes, looked_s, stopped = 0, 0.0, False
    try:
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            now_s = time.perf_counter()
            if now_s - looked_s > LOOK_S:
                peak_bytes, looked_s = max(peak_bytes, _resident_bytes(process.pid)), now_s
            if now_s - started_s > limit_s and not stopped:
                stopped = True
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(POLL_S)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    seconds = time.perf_counter() - started_s
    process.returncode = os.waitstatus_to_exitcode(ended[1])  # Popen can't know it any more
    cpu_s = ended[2].ru_utime + ended[2].ru_stime
    said = log.read_text(encoding="utf-8", errors="replace")
    return Usage(process.returncode, began_s, seconds, cpu_s, peak_bytes, said, stopped)


def _resident_bytes(pid: int) -> int:
    """Return the memory of a process and its children; at least the most that one ever had.

    That most is kept by the kernel, so a peak between two looks is seen too.
    """
    sizes = list(_sizes(pid))
    return max(sum(now for now, _ in sizes), max((most for _, most in sizes), default=0))


def _sizes(pid: int) -> Iterator[tuple[int, int]]:
    """Yield what each process has now, and the most that it had."""
    with contextlib.suppress(psutil.Error):
        main = psutil.Process(pid)
        for process in [main, *main.children(recursive=True)]:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
                if "VmHWM" in lines:  # a process that has just ended has none
                    yield _kib(lines["VmRSS"]), _kib(lines["VmHWM"])


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024
