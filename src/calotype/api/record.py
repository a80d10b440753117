"""What can be told of one request: its state, what happened, and how it ended."""

import asyncio
import base64
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from calotype.api.answer import RawHeaders
from calotype.api.problems import Problem, plain
from calotype.domain.event import Entered, Event, Loading, Preview, Progress, Queued, Started
from calotype.domain.hooks import Hooks

State = Literal["received", "queued", "loading", "running", "done", "failed", "cancelled"]
Json = dict[str, Any]

MAX_EVENTS = 32
"""Events that a slow reader may be behind; of more it misses the oldest."""


_NOBODY = Hooks()
"""Of every request that is over: thousands of them may be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a request was doing at some time."""

    state: State
    details: Json
    stage: str
    preview: str


@dataclass(slots=True, kw_only=True)
class Told:
    """An event as it is told: its number, its name, and the state of the request then."""

    number: int
    name: str
    moment: Moment
    text: str = ""
    """As it is written to readers, once it has been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The picture that a request was answered with."""

    headers: RawHeaders
    body: bytes
    etag: str


class Record:
    """One request, from its first byte until it is forgotten; belongs to one event loop.

    Args:
        request_id: what its sender calls it.
        owner: name of the sender's token; nobody else sees the record.
        model_id: what runs; of a chain, all of it.
        is_kept: whether its sender knows the id, so that it is told of and kept when it is over.
        is_job: whether its answer waits here to be fetched.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        request_id: str,
        owner: str = "",
        model_id: str = "",
        *,
        is_kept: bool = False,
        is_job: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request_id, self.owner, self.model_id = request_id, owner, model_id
        self.is_kept, self.is_job = is_kept, is_job
        self.task: asyncio.Task[Any] | None = None
        """Serves it now."""
        self.stop_reason = ""
        """Why somebody cancelled it; empty while nobody has."""
        self.state: State = "received"
        self.answer: Answer | None = None
        """Of a job that is over, until it is forgotten for want of room."""
        self.ended_s = 0.0
        """On the clock; 0 before."""
        self.run = ""
        """What tells it from others of its name, where several servers share a store."""
        self.on_told: Callable[[Record], None] | None = None
        """Called at each event, where others are to hear of it."""
        self.hooks = Hooks(on_event=self._heard)
        self._clock, self._created_s = clock, time.time()
        self._details: Json = {}
        self._stage = self._preview = ""
        self.problem: Problem | None = None
        """Why it failed, or was cancelled."""
        self._pace: tuple[float, int, int] = (0.0, 0, 0)
        """When the steps began to be counted, how many were done then, and how many there are."""
        self._events: deque[Told] = deque(maxlen=MAX_EVENTS)
        self._changed: asyncio.Event | None = None
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._tell("received")

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.ended_s > 0

    @property
    def events(self) -> tuple[Told, ...]:
        """What happened, the last last; one kind follows another."""
        return tuple(self._events)

    @property
    def document(self) -> Json:
        """What its sender is told."""
        return self.document_at(self._moment())

    def document_at(self, moment: Moment) -> Json:
        """Describe it as it was at some time."""
        fetched = self.is_job and moment.state == "done" and self.answer is not None
        created = datetime.fromtimestamp(self._created_s, UTC).isoformat("T", "seconds")
        return {
            "id": self.request_id,
            "model": self.model_id,
            "state": moment.state,
            "stage": moment.stage or None,
            "place": moment.details.get("place"),
            "estimated_time": moment.details.get("estimated_time"),
            "progress": moment.details.get("progress"),
            "preview": moment.preview or None,
            "error": error_document(self.problem) if self.problem else None,
            "result": f"/requests/{self.request_id}/result" if fetched else None,
            "job": self.is_job,
            "created_at": created,
        }

    def cancel(self, reason: str) -> None:
        """Stop serving it.

        The work is left alone: others may wait for the same picture.

        Args:
            reason: what the sender is told.
        """
        if not self.stop_reason and not self.is_over:
            self.stop_reason = reason
            if self.task is not None:
                self.task.cancel()

    def end(self, state: State, problem: Problem | None = None) -> None:
        """Note how it ended.

        Args:
            state: done, failed or cancelled.
            problem: what its sender is told, if that is not the picture.
        """
        if self.is_over:
            return
        self.ended_s = self._clock()
        self.state, self.problem, self._details, self._preview = state, problem, {}, ""
        self.task = None
        self.hooks = _NOBODY
        self._tell(state)
        self._events = deque(tuple(self._events)[-1:])

    async def change(self, timeout_s: float) -> None:
        """Wait until something happens, or the time is over."""
        self._changed = self._changed or asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def over(self, timeout_s: float) -> None:
        """Wait until it is over, or the time is."""
        until_s = self._clock() + timeout_s
        while not self.is_over and (left_s := until_s - self._clock()) > 0:
            await self.change(left_s)

    async def picture(self) -> Answer | None:
        """Return the answer of a job that is done, as long as it is kept."""
        return self.answer

    def _heard(self, event: Event) -> None:
        """Take an event, from whatever thread."""
        if threading.get_ident() == self._thread:
            self._take(event)
        else:
            self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        if self.is_over:
            return
        match event:
            case Entered():
                self._stage = event.stage
            case Queued():
                self._enter("queued", "queued", place=event.place)
            case Loading():
                self._enter("loading", "loading", estimated_time=round(event.estimated_s, 3))
            case Started():
                self._pace = (self._clock(), 0, 0)
                self._enter("running", "started")
            case Progress():
                self._enter("running", "progress", progress=self._progress(event))
            case Preview():
                text = base64.b64encode(event.body).decode()
                self._preview = f"data:image/png;base64,{text}"
                self._tell("preview")

    def _enter(self, state: State, name: str, **details: object) -> None:
        self.state, self._details = state, details
        self._tell(name)

    def _progress(self, event: Progress) -> Json:
        """Describe progress, with the time that is left by the pace so far."""
        began_s, before, total = self._pace
        if event.total != total or event.done < before:
            began_s, before = self._clock(), event.done
            self._pace = (began_s, before, event.total)
        made, left_s = event.done - before, None
        if event.done == event.total:
            left_s = 0.0
        elif made > 0:
            left_s = (self._clock() - began_s) / made * (event.total - event.done)
            left_s = round(left_s, 1)
        return {"step": event.done, "total": event.total, "seconds_left": left_s}

    def _tell(self, name: str) -> None:
        """Add an event, in place of the last one if that is of the same name."""
        if not self.is_kept:
            return
        number = self._events[-1].number + 1 if self._events else 1
        if self._events and self._events[-1].name == name:
            self._events.pop()
        moment = self._moment(shown=name == "preview")
        self._events.append(Told(number=number, name=name, moment=moment))
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        if self.on_told is not None:
            self.on_told(self)

    def _moment(self, *, shown: bool = True) -> Moment:
        """Return what it is doing now.

        Args:
            shown: with what the picture looks like; each step would send it again.
        """
        preview = self._preview if shown else ""
        return Moment(state=self.state, details=self._details, stage=self._stage, preview=preview)


def error_document(problem: Problem) -> Json:
    """Write an error as the answer does, with what stands in its headers."""
    error = {"status": int(problem.status), **plain(problem)[0]}
    wait_s = problem.retry_after_s
    return error if wait_s is None else error | {"retry_after_s": round(wait_s, 1)}
