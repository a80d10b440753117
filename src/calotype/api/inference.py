"""POST a picture to a model: the path that must be quick."""

import time

from starlette.types import Receive, Scope, Send

from calotype.api.answer import conditional
from calotype.api.auth import Caller, require
from calotype.api.control import Control, Supply, refuse_draining
from calotype.api.exchange import KEY, Exchange
from calotype.api.gate import Gate
from calotype.api.header import read_preference, read_wishes
from calotype.api.jobs import Jobs, Work
from calotype.api.presence import while_present
from calotype.api.record import Record
from calotype.api.wire import read_request
from calotype.domain.chain import Chain
from calotype.domain.model import ModelSpec
from calotype.domain.request import ImageRequest, ImageResponse
from calotype.errors import UnknownModelError
from calotype.observe import metrics
from calotype.pipeline import Pipeline
from calotype.settings import Settings


class Inference:
    """An ASGI application that runs what its path names, the default model where it names nothing.

    Args:
        pipeline: serves what can be read.
        control: knows whether the server drains.
        supply: gets models that the catalog hasn't; None: they don't exist.
        settings: limits and defaults.
        gate: tells who may.
        jobs: runs what is to be answered later, and knows each request in work.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        control: Control,
        settings: Settings,
        gate: Gate,
        jobs: Jobs,
        supply: Supply | None = None,
    ) -> None:
        self._pipeline, self._control, self._in_flight = pipeline, control, jobs.in_flight
        self._settings, self._gate, self._supply = settings, gate, supply
        self._jobs, self._answers = jobs, jobs.answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            CalotypeError: it cannot be served.
            ClientGoneError: its client left.
        """
        refuse_draining(self._control)  # before the body, which may be long
        exchange: Exchange = scope[KEY]
        caller = await self._gate.admit(exchange)
        chain = await self.chain(model_name(scope), exchange, caller)
        is_job = read_preference(exchange.headers).is_async
        record = self._in_flight.new(exchange, caller.name, is_job=is_job)
        if is_job:
            task = await self._begin(exchange, record, chain, receive)
            later = await self._jobs.first_answer(record, task, exchange, receive)
            await later(scope, receive, send)
            return
        with self._in_flight.holding(record):
            request, warnings = await self._read(exchange, record, chain, receive)
            response = await while_present(self._pipeline.run(request), receive)
        exchange.cache = response.cache
        await self._send(exchange, response, warnings, send)

    async def chain(
        self, name: str, exchange: Exchange, caller: Caller, *, waits: bool = False
    ) -> Chain:
        """Return the models of a name, which the caller may run.

        Args:
            name: id or alias, several joined by ``+``; empty for the default model.
            exchange: that asks for it; told.
            caller: who asks.
            waits: whether a model that is on its way is waited for, where the headers don't say.

        Raises:
            UnknownModelError: there is none of one of the names.
            ForbiddenError: the caller may not run one of them.
        """
        names = self._pipeline.catalog.stages(name)
        models = [await self._model(each, exchange, caller, waits=waits) for each in names]
        exchange.asked(chain := Chain(tuple(models)))
        for model in chain.models:
            require(caller, model.id, model.alias)
        return chain

    async def _read(
        self, exchange: Exchange, record: Record, chain: Chain, receive: Receive
    ) -> tuple[ImageRequest, tuple[str, ...]]:
        """Return the request, and warnings of what was ignored in it."""
        return await read_request(
            exchange,
            receive,
            chain,
            record.owner,
            self._settings,
            hooks=record.hooks,
            is_job=record.is_job,
        )

    async def _begin(
        self, exchange: Exchange, record: Record, chain: Chain, receive: Receive
    ) -> Work:
        """Take a job."""
        self._jobs.check(record)
        try:
            with self._in_flight.holding(record):
                try:
                    notes = await self._jobs.board.claim(record)
                    exchange.extra += ((b"x-hf-warning", note.encode()) for note in notes)
                    request, warnings = await self._read(exchange, record, chain, receive)
                    return await self._jobs.begin(record, request, warnings, exchange.started_s)
                except BaseException:
                    record.is_job = False  # so that its id is free for another try
                    raise
        except Exception:
            await self._jobs.board.tell(record)  # so that it is free on other servers too
            raise

    async def _model(
        self, name: str, exchange: Exchange, caller: Caller, *, waits: bool
    ) -> ModelSpec:
        """Return the model of that name, from the Hub if it is unknown and may come from there."""
        try:
            return self._pipeline.catalog.get(name)
        except UnknownModelError:
            if self._supply is None:
                raise
        require(caller, name)  # before anything is fetched for whoever may not run it
        wishes = read_wishes(exchange.headers, self._settings)
        waits = waits if wishes.wait_for_model is None else wishes.wait_for_model
        hold_s = wishes.deadline_s if waits else self._settings.hold_s
        patience_s = min(hold_s, wishes.deadline_s)
        return await self._supply.pull(name, patience_s)

    async def _send(
        self, exchange: Exchange, response: ImageResponse, warnings: tuple[str, ...], send: Send
    ) -> None:
        """Send the picture, or the news that the client has it."""
        total_s = time.monotonic() - exchange.started_s
        headers = self._answers.headers(response, warnings, total_s)
        known = exchange.headers.get(b"if-none-match")
        status, headers, body = conditional(known, response.etag, headers, response.body)
        metrics.ANSWER.inc(len(body))
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})


def model_name(scope: Scope) -> str:
    """Return the id or alias in a path; empty when the route has none.

    Raises:
        UnknownModelError: the route has one, and this path leaves it empty.
    """
    if "id" not in scope["path_params"]:
        return ""
    name = str(scope["path_params"]["id"]).removesuffix("/")
    if not name:
        raise UnknownModelError("the path names no model; GET /models lists them")
    return name
