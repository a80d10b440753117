"""Lua scripts, which the store runs as one step."""

from collections.abc import Sequence
from typing import Any

from calotype.store.client import Store


async def run_script(
    store: Store, script: str, keys: Sequence[str], *args: str | bytes | float
) -> Any:  # noqa: ANN401  a script replies with whatever it likes
    """Run a script in the store, where nothing comes between its steps.

    Args:
        store: where it runs.
        script: in Lua.
        keys: its ``KEYS``; one that names several needs them on one node of a cluster.
        args: its ``ARGV``.

    Raises:
        StoreUnavailableError: the store doesn't answer.
    """
    return await store.ask(lambda client: client.eval(script, len(keys), *keys, *args))
