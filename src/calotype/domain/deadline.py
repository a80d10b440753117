"""Deadlines: times on the monotonic clock, infinite for none."""

import asyncio
import time


def on_loop(deadline_s: float) -> float | None:
    """Move a deadline to the running event loop's clock, which need not be the monotonic one.

    Args:
        deadline_s: monotonic clock, seconds; infinite for none.

    Returns:
        What ``asyncio.timeout_at`` takes; None for no deadline.
    """
    if deadline_s == float("inf"):
        return None
    return asyncio.get_running_loop().time() + deadline_s - time.monotonic()
