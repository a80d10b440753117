"""Messages that reach whoever listens at the moment, and nobody later."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from calotype.store.client import Store

if TYPE_CHECKING:
    from redis import asyncio as redis
    from redis.asyncio.client import PubSub


async def hear(store: Store, channel: str, heard: Callable[[bytes], Awaitable[None]]) -> None:
    """Take what is published in a channel, one message after the other, until cancelled.

    Args:
        store: where it is published.
        channel: its name.
        heard: given each message.

    Raises:
        StoreUnavailableError: the store doesn't answer, or the connection to it broke.
    """

    async def opened(client: "redis.Redis") -> "PubSub":
        return client.pubsub()

    async with await store.ask(opened) as pubsub:
        await store.ask(lambda _: pubsub.subscribe(channel))
        while True:
            message = await store.ask(
                lambda _: pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
            )
            if message is not None:
                await heard(message["data"])
