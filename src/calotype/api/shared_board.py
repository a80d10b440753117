"""Requests of all servers that share a store, by their names."""

import asyncio
import contextlib
import logging
import secrets

from calotype.api.board import LocalBoard
from calotype.api.chronicle import PACE_S, Chronicle
from calotype.api.followed import Followed
from calotype.api.header import REQUEST_ID
from calotype.api.inflight import InFlight
from calotype.api.jobs import id_taken
from calotype.api.record import Record
from calotype.api.relay import Order, Relay
from calotype.api.remote import REST_S, Remote
from calotype.api.slot import Slot
from calotype.errors import StoreUnavailableError
from calotype.settings import Settings
from calotype.store.client import Store

logger = logging.getLogger(__name__)

ALONE = "the shared store does not answer: until it does, only this server knows of the job"
"""Told to whoever sends a job then."""


class SharedBoard:
    """Finds what this server knows itself, and asks the store for the rest.

    Args:
        in_flight: knows this server's requests.
        store: where the others are told of.
        settings: how long and how much is kept.
    """

    def __init__(self, in_flight: InFlight, store: Store, settings: Settings) -> None:
        self._in_flight, self._store, self._keep_s = in_flight, store, settings.result_s
        self._local = LocalBoard(in_flight)
        self._chronicle = Chronicle(store, secrets.token_hex(8), settings)
        self._relay = Relay(store, self._obey)
        in_flight.on_enter = self._chronicle.enter

    async def claim(self, record: Record) -> tuple[str, ...]:
        """Take the id of a job on all servers; return warnings for its sender.

        Raises:
            RequestConflictError: its owner has a job of that id, on another server.
        """
        try:
            if not await self._chronicle.claim(record):
                await self._given_up(record.owner, record.request_id)
                if not await self._chronicle.claim(record):
                    raise id_taken(record.request_id)
        except StoreUnavailableError:
            logger.warning("job %s: %s", record.request_id, ALONE)
            return (ALONE,)
        return ()

    async def tell(self, record: Record) -> None:
        """See to it that others know now what became of a request, where they can be told."""
        with contextlib.suppress(StoreUnavailableError):
            await self._chronicle.tell(record)

    async def find(self, owner: str, request_id: str) -> Followed | None:
        """Return an owner's request: a job if there is one of that id, else the newest.

        Raises:
            StoreUnavailableError: it isn't known here, and the store doesn't answer.
        """
        local = self._in_flight.look_up(owner, request_id)
        if local is not None and local in self._chronicle:
            return local
        try:
            remote = await self._remote(owner, request_id)
        except StoreUnavailableError:
            if local is None:
                raise
            return local
        return local if remote is None or (local and local.run == remote.run) else remote

    async def coming(self, owner: str, request_id: str, patience_s: float) -> Followed | None:
        """As ``find``; wait for the request if it has not come yet."""
        with contextlib.suppress(StoreUnavailableError):
            if (found := await self.find(owner, request_id)) is not None:
                return found
        here = asyncio.create_task(self._in_flight.coming(owner, request_id, patience_s))
        elsewhere = asyncio.create_task(self._appears(Slot(self._store, owner, request_id)))
        both = (here, elsewhere)
        try:
            await asyncio.wait(both, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
        return await self.find(owner, request_id)

    async def stop(self, request: Followed, reason: str, patience_s: float) -> None:
        """Cancel a request, and wait until it is over, or the time is."""
        if not isinstance(request, Remote):
            await self._local.stop(request, reason, patience_s)
            return
        told = Order(deed="stop", owner=request.owner, request_id=request.request_id, reason=reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                # Whoever has just found the store again may not hear yet.
                while not request.is_over and not await self._relay.order(told):
                    await request.change(REST_S)
                await request.over(patience_s)

    async def forget(self, request: Followed) -> None:
        """Forget a request that is over, on all servers."""
        if isinstance(request, Remote):
            await request.forget()
        elif isinstance(request, Record):
            await self._chronicle.forget(request)
        told = Order(deed="forget", owner=request.owner, request_id=request.request_id)
        await self._relay.order(told)
        await self._local.forget(request)

    async def cancel(self, request_id: str) -> int:
        """Stop the requests of an id on all servers, whosoever; return how many there were."""
        here = self._in_flight.cancel(request_id)
        try:
            return here + await self._relay.order(Order(deed="cancel", request_id=request_id))
        except StoreUnavailableError:
            if not here:
                raise
            return here

    def expires_in_s(self, request: Followed) -> float:
        """Return how long a request stays, unless room is needed."""
        return self._local.expires_in_s(request)

    async def attend(self) -> None:
        """Tell of this server's requests, and hear the orders of others, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._chronicle.attend())
            tasks.create_task(self._relay.attend())

    async def close(self) -> None:
        """Say how the last requests ended."""
        await self._chronicle.close()

    async def _remote(self, owner: str, request_id: str) -> Remote | None:
        """Return what the store tells of a request, after a while if its server is missing."""
        if not REQUEST_ID.fullmatch(request_id.encode(errors="replace")):
            return None
        slot = Slot(self._store, owner, request_id)
        page = await slot.read()
        if page is None or not page.lines:
            return None
        remote = Remote(
            self._store, slot, page, owner=owner, request_id=request_id, keep_s=self._keep_s
        )
        while not remote.is_over and not await remote.look():
            if not remote.is_told_of:
                return None  # somebody has just forgotten it
            await remote.change(REST_S)
        return remote

    async def _given_up(self, owner: str, request_id: str) -> None:
        """Wait until a request is over or lost, unless its server says that it is at it.

        One whose server has just died is sent again at once, before anybody has noticed.
        """
        remote = await self._remote(owner, request_id)
        while remote is not None and remote.is_told_of and not remote.is_over:
            seek = Order(deed="seek", request_id=request_id, run=remote.run)
            if self._obey(seek) or await self._relay.order(seek):
                return
            await remote.change(REST_S)

    async def _appears(self, slot: Slot) -> None:
        """Wait until the store tells of a request."""
        while True:
            try:
                if await slot.news(0, PACE_S * 10):
                    return
            except StoreUnavailableError:
                await asyncio.sleep(REST_S)

    def _obey(self, order: Order) -> int:
        """Do what another server orders."""
        match order.deed:
            case "stop":
                return self._in_flight.stop(order.owner, order.request_id, order.reason)
            case "forget":
                self._in_flight.archive.remove(order.owner, order.request_id)
                return 1
            case "cancel":
                return self._in_flight.cancel(order.request_id)
            case "seek":
                return sum(one.run == order.run for one in self._in_flight.find(order.request_id))
