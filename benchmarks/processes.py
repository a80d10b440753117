"""Processes seen from outside: which belong to a server, what they hold, what they took."""

import contextlib
from collections.abc import Sequence

import psutil


def live_children(pid: int) -> list[psutil.Process]:
    """Return the processes that a process has started, and they in turn."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if is_alive(child)]


def note_children(pid: int, family: list[psutil.Process]) -> None:
    """Add what a process has started to a list, so that it can be found when that one is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family += live_children(pid)


def kill_all(family: Sequence[psutil.Process]) -> None:
    """End what a server left behind: Ray's processes are in sessions of their own."""
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that only waits to be buried doesn't."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def tree_bytes(pid: int) -> int:
    """Return the memory of a process and of all that it started."""
    return sum(map(share_bytes, _tree(pid)))


def tree_cpu_s(pid: int) -> float:
    """Return the processor time that a process took so far, with all that it started."""
    return sum(map(_cpu_s, _tree(pid)))


def _tree(pid: int) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


def share_bytes(process: psutil.Process) -> int:
    """Return a process's memory, with its share of what it shares where the system tells that."""
    with contextlib.suppress(psutil.Error):
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    return 0  # it has just ended


def _cpu_s(process: psutil.Process) -> float:
    """Return what a process took, with those of its children that have ended."""
    with contextlib.suppress(psutil.Error):
        took = process.cpu_times()
        ended = getattr(took, "children_user", 0.0) + getattr(took, "children_system", 0.0)
        return float(took.user + took.system + ended)
    return 0.0
