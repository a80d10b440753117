"""The requests in work, by their ids."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from calotype.domain.request import Hooks
from calotype.errors import RequestCancelledError


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """One request in work."""

    request_id: str
    model_id: str
    hooks: Hooks = field(default_factory=Hooks)
    """Of its own job: they stay still while it waits for an equal request's."""
    task: asyncio.Task[Any]
    """Serves it, from its body to its picture."""
    cancelled: bool = False

    def cancel(self) -> None:
        """Stop serving it.

        Its hooks are left alone: they would stop the job for others too, who wait for the same
        picture.
        """
        if not self.cancelled:
            self.cancelled = True
            self.task.cancel()


class InFlight:
    """Knows every request in work; belongs to one event loop.

    Clients choose ids, so that several requests may have the same.
    """

    def __init__(self) -> None:
        self._entries: dict[str, list[Entry]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def find(self, request_id: str) -> tuple[Entry, ...]:
        """Return the requests of an id, the oldest first."""
        return tuple(self._entries.get(request_id, ()))

    def cancel(self, request_id: str) -> int:
        """Stop the requests of an id; return how many there were."""
        found = self.find(request_id)
        for entry in found:
            entry.cancel()
        return len(found)

    @contextlib.contextmanager
    def holding(self, request_id: str, model_id: str) -> Iterator[Entry]:
        """Know a request for as long as the calling task serves it.

        Raises:
            RequestCancelledError: an operator cancelled it.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  whoever awaits is in a task
        before = task.cancelling()
        entry = Entry(request_id=request_id, model_id=model_id, task=task)
        self._entries.setdefault(request_id, []).append(entry)
        try:
            yield entry
        except asyncio.CancelledError:
            # If the server cancels the task too, that counts for more.
            if not entry.cancelled or task.cancelling() > before + 1:
                raise
            raise RequestCancelledError("the request was cancelled by an operator") from None
        finally:
            self._forget(entry)
            if entry.cancelled:
                task.uncancel()

    def _forget(self, entry: Entry) -> None:
        entries = self._entries[entry.request_id]
        entries.remove(entry)
        if not entries:
            del self._entries[entry.request_id]
