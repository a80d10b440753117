"""The requests in work, and those that are over for a while, by their ids."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from calotype.api.archive import Archive, Key
from calotype.api.exchange import Exchange
from calotype.api.header import is_id_chosen
from calotype.api.presence import ClientGoneError
from calotype.api.problems import describe
from calotype.api.record import Record
from calotype.errors import RequestCancelledError, shutting_down


class InFlight:
    """Knows every request in work; belongs to one event loop.

    Clients choose ids, so that several requests may have the same.

    Args:
        archive: keeps those that are over.
    """

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.on_enter: Callable[[Record], None] | None = None
        """Called with each request that its sender may ask for, where others are to hear of it."""
        self._records: dict[str, list[Record]] = {}
        self._early: defaultdict[Key, list[asyncio.Event]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self._records.values()))

    def jobs(self) -> Counter[str]:
        """Return how many jobs are not over, by owner; with those whose body is on its way."""
        found = (record for records in self._records.values() for record in set(records))
        return Counter(one.owner for one in found if one.is_job and not one.is_over)

    def new(self, exchange: Exchange, owner: str, *, is_job: bool = False) -> Record:
        """Return a record of a request that is coming in.

        Args:
            exchange: of the request, with its model.
            owner: name of the sender's token.
            is_job: whether it goes on when its sender has left.
        """
        chosen = is_job or is_id_chosen(exchange.headers)
        name = exchange.request_id
        return Record(name, owner, exchange.model, is_kept=chosen, is_job=is_job)

    def find(self, request_id: str) -> tuple[Record, ...]:
        """Return the requests of an id that are in work, the oldest first."""
        return tuple(self._records.get(request_id, ()))

    def look_up(self, owner: str, request_id: str) -> Record | None:
        """Return an owner's request: a job if there is one of that id, else the newest."""
        own = [one for one in self.find(request_id) if one.owner == owner and one.is_kept]
        kept = self.archive.find(owner, request_id)
        found = [*([kept] if kept else []), *own]
        newest = found[-1] if found else None
        return next((record for record in reversed(found) if record.is_job), newest)

    async def coming(self, owner: str, request_id: str, patience_s: float) -> Record | None:
        """Return an owner's request, waiting for it if it has not come yet."""
        record = self.look_up(owner, request_id)
        if record is not None:
            return record
        key, came = (owner, request_id), asyncio.Event()
        self._early[key].append(came)
        try:
            async with asyncio.timeout(patience_s):
                await came.wait()
        except TimeoutError:
            return None
        finally:
            self._early[key].remove(came)
            if not self._early[key]:
                del self._early[key]
        return self.look_up(owner, request_id)

    def stop(self, owner: str, request_id: str, reason: str) -> int:
        """Stop an owner's request, the one that ``look_up`` finds; return how many there were."""
        record = self.look_up(owner, request_id)
        if record is None or record.is_over:
            return 0
        record.cancel(reason)
        return 1

    def cancel(self, request_id: str) -> int:
        """Stop the requests of an id, whosoever; return how many there were."""
        found = self.find(request_id)
        for record in found:
            record.cancel("the request was cancelled by an operator")
        return len(found)

    @contextlib.contextmanager
    def holding(self, record: Record) -> Iterator[None]:
        """Know a request for as long as the calling task serves it, and how it ended.

        Raises:
            RequestCancelledError: somebody cancelled it.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  whoever awaits is in a task
        if record.stop_reason:
            raise RequestCancelledError(record.stop_reason)
        before = task.cancelling()
        record.task = task
        self._enter(record)
        try:
            with _ending(record):
                try:
                    yield
                except asyncio.CancelledError:
                    # If the server cancels the task too, that counts for more.
                    if not record.stop_reason or task.cancelling() > before + 1:
                        raise
                    raise RequestCancelledError(record.stop_reason) from None
        finally:
            self._leave(record)
            if record.stop_reason:
                task.uncancel()

    def _enter(self, record: Record) -> None:
        self._records.setdefault(record.request_id, []).append(record)
        for came in self._early.get((record.owner, record.request_id), ()):
            came.set()
        if record.is_kept and self.on_enter is not None:
            self.on_enter(record)

    def _leave(self, record: Record) -> None:
        records = self._records[record.request_id]
        records.remove(record)
        if not records:
            del self._records[record.request_id]
        if record.is_over and record.is_kept and record not in records:
            self.archive.add(record)


@contextlib.contextmanager
def _ending(record: Record) -> Iterator[None]:
    """Note how a request ends; one that goes on as a job doesn't."""
    try:
        yield
    except ClientGoneError:
        record.end("cancelled", describe(RequestCancelledError("the client left")))
        raise
    except asyncio.CancelledError:
        record.end("failed", describe(shutting_down()))
        raise
    except RequestCancelledError as error:
        record.end("cancelled", describe(error))
        raise
    except Exception as error:
        record.end("failed", describe(error))
        raise
    if not record.is_job:
        record.end("done")
