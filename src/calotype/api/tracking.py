"""Requests, as those who sent them look after them: state, events, result, cancelling."""

import json
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from calotype.api.auth import Caller
from calotype.api.board import Board
from calotype.api.document import json_response
from calotype.api.exchange import KEY, Exchange
from calotype.api.followed import Followed
from calotype.api.header import REQUEST_ID, read_preference
from calotype.api.jobs import answer_to
from calotype.api.presence import while_present
from calotype.api.record import Json, Told
from calotype.domain.text import printable
from calotype.errors import QueueFullError, UnknownRequestError

EARLY_S = 10.0
"""How long a reader waits for a request that has not come yet."""
HEARTBEAT_S = 15.0
"""How often a silent stream says that it is alive, for proxies that close idle connections."""
MAX_STREAMS = 1000
_ID_CHARS = 128


@dataclass(slots=True)
class Tracking:
    """Endpoints for those who sent requests; each sees its own only."""

    board: Board
    streams: Counter[str] = field(default_factory=Counter)
    """Streams of events that are open, or wait for their requests, by owner."""

    async def state(self, request: Request, caller: Caller) -> Response:
        """Tell how far a request is.

        Raises:
            UnknownRequestError: the caller has none of that id.
        """
        record = await self._waited(request, caller)
        return json_response(self.document(record))

    async def result(self, request: Request, caller: Caller) -> Response:
        """Send the picture of a job.

        Raises:
            UnknownRequestError: the caller has none of that id.
            UnfinishedError: it is not done yet.
            ResultGoneError: it was not kept, or not so long.
        """
        record = await self._waited(request, caller)
        answer = await record.picture() if record.is_over else None
        return answer_to(record, request.scope[KEY], answer)

    async def remove(self, request: Request, caller: Caller) -> Response:
        """Cancel a request that is in work, and forget one that is over.

        Raises:
            UnknownRequestError: the caller has none of that id.
        """
        record = await self._found(request, caller)
        if record.is_over:
            await self.board.forget(record)
            return Response(status_code=HTTPStatus.NO_CONTENT)
        await self.board.stop(record, "the request was cancelled", EARLY_S)
        return json_response(self.document(record))

    async def events(self, request: Request, caller: Caller) -> Response:
        """Tell what happens to a request, as it happens.

        Raises:
            UnknownRequestError: the caller has none of that id, and none came.
            QueueFullError: as many streams are open as may be.
        """
        self._count(caller)
        try:
            request_id: str = request.path_params["request_id"]
            if not REQUEST_ID.fullmatch(request_id.encode()):
                raise _unknown(request_id)  # none can come
            finding = self.board.coming(caller.name, request_id, EARLY_S)
            record = await while_present(finding, request.receive)
            if record is None:
                raise _unknown(request_id)
        except BaseException:
            self.closed(caller.name)
            raise
        last, newest = _seen(request.scope[KEY]), record.events[-1].number
        if record.is_over and last == newest:
            self.closed(caller.name)
            # A browser that reconnects has read the end; this tells it to stop.
            return Response(status_code=HTTPStatus.NO_CONTENT)
        # A larger number is of an earlier request of that id.
        return EventStream(self, record, last if last <= newest else 0)

    def closed(self, owner: str) -> None:
        """Note that a stream has ended."""
        self.streams[owner] -= 1
        if not self.streams[owner]:
            del self.streams[owner]

    def _count(self, caller: Caller) -> None:
        """Note that a stream begins, if there may be one more; no token may take all of them."""
        most = MAX_STREAMS if caller.token is None else MAX_STREAMS // 10
        if self.streams[caller.name] >= most or self.streams.total() >= MAX_STREAMS:
            raise QueueFullError(
                f"busy: {self.streams.total()} streams of events are open; one token may have"
                f" {most}, and all together {MAX_STREAMS}",
                retry_after_s=1.0,
            )
        self.streams[caller.name] += 1

    def document(self, record: Followed) -> Json:
        """Describe a request, and how long it will be known."""
        expires_s = self.board.expires_in_s(record) if record.is_over else None
        rounded = None if expires_s is None else round(expires_s)
        return record.document | {"expires_in_s": rounded}

    async def _waited(self, request: Request, caller: Caller) -> Followed:
        """Return a request, after waiting for its end as long as the caller prefers."""
        record = await self._found(request, caller)
        exchange: Exchange = request.scope[KEY]
        if (wait_s := read_preference(exchange.headers).wait_s) and not record.is_over:
            await while_present(record.over(wait_s), request.receive)
        return record

    async def _found(self, request: Request, caller: Caller) -> Followed:
        request_id = request.path_params["request_id"]
        record = await self.board.find(caller.name, request_id)
        if record is None:
            raise _unknown(request_id)
        return record


class EventStream(Response):
    """An answer that ends when the request does that it tells of.

    Args:
        tracking: counts the open streams.
        record: what is told of.
        seen: number of the last event that the reader knows; 0: none.

    Source:
        https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(self, tracking: Tracking, record: Followed, seen: int) -> None:
        super().__init__(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store",
                "x-accel-buffering": "no",  # nginx would collect events until its buffer is full
            }
        )
        del self.headers["content-length"]
        self._tracking, self._record, self._seen = tracking, record, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the end, or until the reader leaves."""
        try:
            await self._send(scope, receive, send)
        finally:
            self._tracking.closed(self._record.owner)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        await while_present(self._tell(send), receive)

    async def _tell(self, send: Send) -> None:
        # Who comes late is told the last that happened, who comes back what it has missed.
        first = self._seen or self._record.events[-1].number - 1
        while True:
            news = [told for told in self._record.events if told.number > first]
            text = "".join(map(self._written, news)) or ": still here\n\n"
            first = news[-1].number if news else first
            more = not self._record.is_over
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})
            if not more:
                return
            if self._record.events[-1].number <= first:
                await self._record.change(HEARTBEAT_S)

    def _written(self, told: Told) -> str:
        """Write an event, once for all readers; the last one says how long it is known."""
        if not told.text:
            document = self._record.document_at(told.moment)
            if self._record.is_over and told is self._record.events[-1]:
                document = self._tracking.document(self._record)
            text = json.dumps(document, separators=(",", ":"))
            told.text = f"id: {told.number}\nevent: {told.name}\ndata: {text}\n\n"
        return told.text


def _seen(exchange: Exchange) -> int:
    """Return the number of the last event that a reader has; 0 if it says none."""
    sent = exchange.headers.get(b"last-event-id", b"").decode("latin-1")
    return int(sent) if sent.isascii() and sent.isdigit() and len(sent) < _ID_CHARS else 0


def _unknown(request_id: str) -> UnknownRequestError:
    return UnknownRequestError(f"Request {printable(request_id, _ID_CHARS)} is not known")
