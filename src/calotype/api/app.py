"""The web application: everything in ``api`` joined."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from calotype.api.answer import Answers
from calotype.api.archive import Archive
from calotype.api.auth import Authenticator, Caller
from calotype.api.board import Board, LocalBoard
from calotype.api.command import Commands
from calotype.api.control import Control, Supply
from calotype.api.document import json_response
from calotype.api.edits import Edits
from calotype.api.exchange import KEY, Doorway, Exchange
from calotype.api.gate import Gate
from calotype.api.inference import Inference
from calotype.api.inflight import InFlight
from calotype.api.jobs import Jobs
from calotype.api.limits import Limiter
from calotype.api.lookup import Lookup
from calotype.api.openapi import describe
from calotype.api.operation import Operation
from calotype.api.problems import problem, refusal
from calotype.api.routes import (
    Path,
    command_paths,
    guarded_paths,
    open_paths,
    openai_paths,
    tracking_paths,
)
from calotype.api.shared_board import SharedBoard
from calotype.api.shared_tokens import TokenCopy
from calotype.api.traced import Traced
from calotype.api.tracking import Tracking
from calotype.domain.text import printable
from calotype.errors import CalotypeError, UnknownPathError
from calotype.observe.trace import Tracer
from calotype.pipeline import Pipeline
from calotype.settings import Settings
from calotype.store.client import Store

logger = logging.getLogger(__name__)

JOBS_S = 5.0
"""What jobs that have left the device get to be written and cached, when the server ends."""

_PATH_CHARS = 100


def create_app(
    *,
    pipeline: Pipeline,
    control: Control,
    settings: Settings,
    authenticator: Authenticator,
    limiter: Limiter,
    supply: Supply | None = None,
    tracer: Tracer | None = None,
    store: Store | None = None,
    tokens: TokenCopy | None = None,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    jobs_s: float = JOBS_S,
) -> Starlette:
    """Join the parts of the HTTP server.

    Args:
        pipeline: serves requests.
        control: loads and unloads models.
        settings: limits and defaults.
        authenticator: tells callers by their tokens.
        limiter: counts their requests.
        supply: gets models that nobody has named before; None: such models don't exist.
        tracer: tells a collector of each request; None: nobody.
        store: what several servers share; None: this one is alone.
        tokens: what is known of the tokens in the store, to be kept up to date.
        start: loads models; runs beside the first requests.
        stop: lets running requests finish.
        jobs_s: what jobs get to be done when the server ends, before ``stop``.
    """
    gate = Gate(authenticator=authenticator, limiter=limiter)
    in_flight = InFlight(Archive(settings.result_bytes, settings.result_s))
    board = _board(in_flight, store, settings)
    jobs = Jobs(
        pipeline=pipeline,
        in_flight=in_flight,
        board=board,
        answers=Answers(),
        settings=settings,
    )
    operation = Operation(pipeline=pipeline, control=control, settings=settings, store=store)
    paths = _paths(
        pipeline=pipeline,
        control=control,
        settings=settings,
        gate=gate,
        supply=supply,
        jobs=jobs,
        operation=operation,
    )

    middleware = [Middleware(Doorway)]
    if tracer is not None:
        middleware.insert(0, Middleware(Traced, tracer))
    app = Starlette(
        routes=[path.route() for path in paths],
        middleware=middleware,
        exception_handlers={HTTPException: _no_route},
        lifespan=lambda _: _living(
            jobs, jobs_s=jobs_s, store=store, tokens=tokens, start=start, stop=stop
        ),
    )
    # A redirect would lose the picture of a POST.
    app.router.redirect_slashes = False
    return app


def _board(in_flight: InFlight, store: Store | None, settings: Settings) -> Board:
    """Choose who knows of requests: this server alone, or all that share a store."""
    return LocalBoard(in_flight) if store is None else SharedBoard(in_flight, store, settings)


@contextlib.asynccontextmanager
async def _living(
    jobs: Jobs,
    *,
    jobs_s: float,
    store: Store | None,
    tokens: TokenCopy | None,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """Do what there is to do beside the requests, and what before and after them."""
    beside = [asyncio.create_task(jobs.board.attend(), name="board")]
    if tokens is not None:
        await tokens.refresh()  # or those who come first would be sent away
        beside.append(asyncio.create_task(tokens.follow(), name="tokens"))
    for task in beside:
        task.add_done_callback(_ended)
    starting = asyncio.create_task(_start(start), name="start")
    try:
        yield
    finally:
        starting.cancel()
        await asyncio.wait((starting,))
        await jobs.settle(jobs_s)
        await stop()
        await jobs.close()
        await _end(beside)
        await jobs.board.close()
        if store is not None:
            await store.close()


def _paths(
    *,
    pipeline: Pipeline,
    control: Control,
    settings: Settings,
    gate: Gate,
    supply: Supply | None,
    jobs: Jobs,
    operation: Operation,
) -> list[Path]:
    """Return every route, those first that win over others."""
    in_flight = jobs.in_flight
    inference = Inference(
        pipeline=pipeline,
        control=control,
        settings=settings,
        gate=gate,
        jobs=jobs,
        supply=supply,
    )
    edits = Edits(
        inference=inference,
        pipeline=pipeline,
        control=control,
        in_flight=in_flight,
        settings=settings,
        gate=gate,
        answers=jobs.answers,
    )
    commands = Commands(pipeline=pipeline, control=control, board=jobs.board, settings=settings)
    lookup = Lookup(pipeline=pipeline)
    paths = [
        *command_paths(gate, commands, inference, pipeline),
        *open_paths(inference, operation),
        *tracking_paths(gate, Tracking(jobs.board)),
        *openai_paths(gate, edits, lookup),
        *guarded_paths(gate, lookup, operation),
    ]

    def openapi(request: Request, caller: Caller) -> Response:
        del request
        return json_response(describe(paths, lookup.specs(caller)))

    page = gate.guard(openapi)
    paths.append(Path(method="GET", path="/openapi.json", endpoint=page, summary="This page"))
    return paths


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End what was done beside the requests."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _ended(task: asyncio.Task[None]) -> None:
    """Log what ended beside the requests, which it should not, as soon as it does."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("beside the requests", exc_info=error)


async def _start(start: Callable[[], Awaitable[None]]) -> None:
    """Load models in the background; a failure is logged, and each request will tell it anew."""
    try:
        await start()
    except CalotypeError as error:
        logger.error("preload failed: %s", error)  # noqa: TRY400  the pool has logged the rest
    except Exception:
        logger.exception("preload failed")


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer a path, or a method of one, that doesn't exist."""
    del error  # starlette's, whose Allow names the methods of one route of several
    path = printable(request.url.path, _PATH_CHARS)
    allowed = _methods(request)
    exchange: Exchange = request.scope[KEY]
    if not allowed:
        return problem(UnknownPathError(f"{path} does not exist"), exchange.dialect)
    return refusal(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method",
        f"{printable(request.method, 20)} is not allowed at {path}, only {', '.join(allowed)}",
        headers={"allow": ", ".join(allowed)},
        dialect=exchange.dialect,
    )


def _methods(request: Request) -> list[str]:
    """Return the methods that the routes of a path have together."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] != Match.NONE]
    return sorted({method for route in matching for method in route.methods or ()})
