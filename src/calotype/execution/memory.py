"""How much memory there is, and how much a process holds."""

import mmap
import os
import resource
import sys
from pathlib import Path

_CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
_RESET_PEAK = b"5"
"""Source: proc(5), /proc/pid/clear_refs."""


def machine_bytes() -> int:
    """Return the memory of this machine, or of the container if that is less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in _CGROUP_LIMITS:
        try:
            found.append(int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # there is none, or it says `max`
    return min(found)


def resident_bytes(pid: int) -> int:
    """Return what a process holds in memory; 0 where that can't be told."""
    try:
        file = os.open(f"/proc/{pid}/statm", os.O_RDONLY)  # before each run, so it must be quick
        try:
            pages = int(os.read(file, 200).split()[1])
        finally:
            os.close(file)
    except (OSError, ValueError, IndexError):
        return 0
    return pages * mmap.PAGESIZE


def reset_peak() -> None:
    """Let ``peak_bytes`` count from now on, where the system can."""
    try:
        file = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(file, _RESET_PEAK)
        finally:
            os.close(file)
    except OSError:
        return


def peak_bytes() -> int:
    """Return the most that this process held since ``reset_peak``, or ever."""
    try:
        file = os.open("/proc/self/status", os.O_RDONLY)  # after each run, so it must be quick
        try:
            status = os.read(file, mmap.PAGESIZE)
        finally:
            os.close(file)
        return int(status.partition(b"\nVmHWM:")[2].split(maxsplit=1)[0]) * 1024
    except (OSError, ValueError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
