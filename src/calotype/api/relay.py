"""Orders to all servers that share a store, and how many obeyed."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from calotype.errors import StoreUnavailableError
from calotype.store.channel import hear
from calotype.store.client import Client, Store

logger = logging.getLogger(__name__)

ANSWER_S = 2.0
"""How long an order waits for those who heard it."""
REST_S = 0.5
"""Between two tries to hear orders."""

_CHANNEL = "orders"

Deed = Literal["stop", "forget", "cancel", "seek"]
"""To stop or forget an owner's request, to cancel those of an id, whosoever, or to count a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What all servers are to do with requests of theirs."""

    deed: Deed
    request_id: str
    owner: str = ""
    reason: str = ""
    run: str = ""

    def __post_init__(self) -> None:
        """Refuse what is none.

        Raises:
            ValueError: a later version may have more deeds.
        """
        if self.deed not in get_args(Deed):
            raise ValueError(f"{self.deed} is no deed")


class Relay:
    """Sends orders, and hears those of others.

    Args:
        store: carries them.
        obey: does what an order says on this server; returns how many requests it was about.
    """

    def __init__(self, store: Store, obey: Callable[[Order], int]) -> None:
        self._store, self._obey = store, obey
        self._name = secrets.token_hex(8)
        """Of this server; it does by itself what it orders."""

    async def attend(self) -> None:
        """Hear orders, until cancelled."""
        while True:
            try:
                await hear(self._store, self._store.key(_CHANNEL), self._heard)
            except StoreUnavailableError:
                await asyncio.sleep(REST_S)

    async def order(self, order: Order) -> int:
        """Have all servers do something; return how many requests it was about elsewhere.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        reply = self._store.key("reply", secrets.token_hex(16))
        told = json.dumps({**asdict(order), "reply": reply, "sender": self._name})
        channel, wait_s = self._store.key(_CHANNEL), self._store.wait_s
        left = await self._store.ask(lambda client: client.publish(channel, told))
        until_s, obeyed = time.monotonic() + ANSWER_S, 0
        while left and time.monotonic() < until_s:
            answer = await self._store.ask(lambda client: client.blpop([reply], timeout=wait_s))
            if answer is not None:
                obeyed, left = obeyed + int(answer[1]), left - 1
        return obeyed

    async def _heard(self, message: bytes) -> None:
        try:
            told = json.loads(message)
            reply, sender, order = str(told.pop("reply")), told.pop("sender"), Order(**told)
        except (ValueError, TypeError, KeyError, AttributeError):
            logger.warning("an order is not understood: does a server have another version?")
            return
        done = 0 if sender == self._name else self._obey(order)

        async def tell(client: Client) -> None:
            async with client.pipeline() as batch:  # a transaction: nothing stays for ever
                batch.rpush(reply, done)
                batch.pexpire(reply, int(ANSWER_S * 2000))
                await batch.execute()

        await self._store.ask(tell)
