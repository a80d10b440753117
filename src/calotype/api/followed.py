"""A request as whoever looks after it sees it, wherever it runs."""

from typing import Protocol

from calotype.api.problems import Problem
from calotype.api.record import Answer, Json, Moment, Told


class Followed(Protocol):
    """What can be told of one request: a ``Record`` here, a ``Remote`` of another server."""

    @property
    def request_id(self) -> str:
        """What its sender calls it."""
        ...

    @property
    def owner(self) -> str:
        """Name of the sender's token."""
        ...

    @property
    def run(self) -> str:
        """What tells it from others of its name; empty where no other server can have one."""
        ...

    @property
    def ended_s(self) -> float:
        """When it was over, on the monotonic clock; 0 before."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        ...

    @property
    def problem(self) -> Problem | None:
        """Why it failed, or was cancelled."""
        ...

    @property
    def events(self) -> tuple[Told, ...]:
        """What happened, the last last; at least one."""
        ...

    @property
    def document(self) -> Json:
        """What its sender is told."""
        ...

    def document_at(self, moment: Moment) -> Json:
        """Describe it as it was at some time."""
        ...

    async def change(self, timeout_s: float) -> None:
        """Wait until something happens, or the time is over; may return earlier."""
        ...

    async def over(self, timeout_s: float) -> None:
        """Wait until it is over, or the time is."""
        ...

    async def picture(self) -> Answer | None:
        """Return the answer of a job that is done, as long as it is kept."""
        ...
