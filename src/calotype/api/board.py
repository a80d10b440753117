"""Where requests are found by their names: on this server, or on all that share a store."""

from typing import Protocol

from calotype.api.followed import Followed
from calotype.api.inflight import InFlight
from calotype.api.record import Record


class Board(Protocol):
    """Knows requests in work, and those that are over for a while."""

    async def claim(self, record: Record) -> tuple[str, ...]:
        """Take the id of a job that has come in; return warnings for its sender.

        Raises:
            RequestConflictError: its owner has a job of that id, on another server.
        """
        ...

    async def tell(self, record: Record) -> None:
        """See to it that others know now what became of a request, where they can be told."""
        ...

    async def find(self, owner: str, request_id: str) -> Followed | None:
        """Return an owner's request: a job if there is one of that id, else the newest.

        Raises:
            StoreUnavailableError: it isn't known here, and others can't be asked.
        """
        ...

    async def coming(self, owner: str, request_id: str, patience_s: float) -> Followed | None:
        """As ``find``; wait for the request if it has not come yet."""
        ...

    async def stop(self, request: Followed, reason: str, patience_s: float) -> None:
        """Cancel a request, and wait until it is over, or the time is.

        Raises:
            StoreUnavailableError: it runs on another server, which can't be told.
        """
        ...

    async def forget(self, request: Followed) -> None:
        """Forget a request that is over.

        Raises:
            StoreUnavailableError: others know of it too, and can't be told.
        """
        ...

    async def cancel(self, request_id: str) -> int:
        """Stop the requests of an id, whosoever; return how many there were.

        Raises:
            StoreUnavailableError: there is none here, and others can't be asked.
        """
        ...

    def expires_in_s(self, request: Followed) -> float:
        """Return how long a request that is over stays, unless room is needed."""
        ...

    async def attend(self) -> None:
        """Do what there is to do beside the requests, until cancelled."""
        ...

    async def close(self) -> None:
        """Say what is left to say when all is over."""
        ...


class LocalBoard:
    """Of a server that shares nothing.

    Args:
        in_flight: knows its requests.
    """

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight

    async def claim(self, record: Record) -> tuple[str, ...]:
        """Do nothing: whoever takes a job has looked for another of its id."""
        del record
        return ()

    async def tell(self, record: Record) -> None:
        """Do nothing: there is nobody else."""
        del record

    async def find(self, owner: str, request_id: str) -> Followed | None:
        """Return an owner's request."""
        return self._in_flight.look_up(owner, request_id)

    async def coming(self, owner: str, request_id: str, patience_s: float) -> Followed | None:
        """Return an owner's request, waiting for it if it has not come yet."""
        return await self._in_flight.coming(owner, request_id, patience_s)

    async def stop(self, request: Followed, reason: str, patience_s: float) -> None:
        """Cancel a request, and wait until it is over, or the time is."""
        self._in_flight.stop(request.owner, request.request_id, reason)
        await request.over(patience_s)

    async def forget(self, request: Followed) -> None:
        """Forget a request that is over."""
        self._in_flight.archive.remove(request.owner, request.request_id)

    async def cancel(self, request_id: str) -> int:
        """Stop the requests of an id, whosoever."""
        return self._in_flight.cancel(request_id)

    def expires_in_s(self, request: Followed) -> float:
        """Return how long a request stays, unless room is needed."""
        return self._in_flight.archive.expires_in_s(request.ended_s)

    async def attend(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""
