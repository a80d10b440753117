"""What operators tell the server to do: load and unload models, cancel requests."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from calotype.api.auth import Caller
from calotype.api.board import Board
from calotype.api.control import Control, refuse_draining
from calotype.api.document import json_response
from calotype.api.exchange import KEY
from calotype.api.header import read_wishes
from calotype.api.inference import Inference, model_name
from calotype.domain.model import ModelSpec
from calotype.domain.text import printable
from calotype.errors import (
    DeadlineExceededError,
    UnknownModelError,
    UnknownRequestError,
)
from calotype.pipeline import Pipeline
from calotype.settings import Settings

logger = logging.getLogger(__name__)

_ID_CHARS = 128


class Commands:
    """Endpoints that steer models and requests.

    Args:
        pipeline: knows the models.
        control: loads and unloads them.
        board: knows the requests in work.
        settings: how long a command may take.
    """

    def __init__(
        self, *, pipeline: Pipeline, control: Control, board: Board, settings: Settings
    ) -> None:
        self._pipeline, self._control = pipeline, control
        self._board, self._settings = board, settings
        self._begun: set[asyncio.Task[None]] = set()  # asyncio alone would not keep them alive

    async def load(self, request: Request, caller: Caller) -> Response:
        """Load a model, and answer once it is loaded.

        Raises:
            UnknownModelError: there is none of that name.
            DeadlineExceededError: it takes longer; it goes on all the same.
            RequestCancelledError: it was unloaded meanwhile.
            ShuttingDownError: the server drains.
            CalotypeError: it can't be loaded.
        """
        refuse_draining(self._control)
        spec = self._named(request)
        _note(caller, "load model", spec.id)
        started_s, deadline_s = time.monotonic(), self._deadline_s(request)
        late = f"the deadline passed before model {spec.name} was loaded; its loading goes on"
        await self._wait(self._control.load(spec), deadline_s, late)
        status = self._pipeline.runner.status(spec)
        answer = {
            "model": spec.id,
            "state": status.state,
            "load_time_s": round(time.monotonic() - started_s, 3),
            "resident_bytes": status.resident_bytes,
            "precision": status.precision,
        }
        return json_response(answer)

    async def unload(self, request: Request, caller: Caller) -> Response:
        """Unload a model, and answer once its jobs are done.

        Raises:
            UnknownModelError: there is none of that name.
            DeadlineExceededError: its jobs take longer; it is unloaded after them all the same.
        """
        spec = self._named(request)
        _note(caller, "unload model", spec.id)
        deadline_s = self._deadline_s(request)
        late = f"the deadline passed before the jobs of model {spec.name} were done; then it goes"
        await self._wait(self._control.unload(spec), deadline_s, late)
        return json_response({"model": spec.id, "state": "unloaded"})

    async def cancel(self, request: Request, caller: Caller) -> Response:
        """Cancel the requests of an id.

        Raises:
            UnknownRequestError: none is in work.
            StoreUnavailableError: none is in work here, and other servers can't be asked.
        """
        request_id = printable(request.path_params["request_id"], _ID_CHARS)
        _note(caller, "cancel request", request_id)
        cancelled = await self._board.cancel(request_id)
        if not cancelled:
            raise UnknownRequestError(f"Request {request_id} is not in work")
        return json_response({"request_id": request_id, "cancelled": cancelled})

    def _named(self, request: Request) -> ModelSpec:
        """Return the model that a path names.

        Raises:
            UnknownModelError: there is none, or there are several.
        """
        chain = self._pipeline.catalog.chain(model_name(request.scope))
        if not chain.is_single:
            raise UnknownModelError(
                f"{chain.spec.name} is a chain: its models are loaded and unloaded one by one"
            )
        return chain.models[0]

    def _deadline_s(self, request: Request) -> float:
        return read_wishes(request.scope[KEY].headers, self._settings).deadline_s

    async def _wait(self, work: Coroutine[Any, Any, None], deadline_s: float, late: str) -> None:
        """Wait for work that goes on when nobody waits any more: half of it would be worse.

        Args:
            work: loads or unloads the model.
            deadline_s: seconds.
            late: what to say when they have passed.
        """
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait((task,), timeout=deadline_s)
        if not task.done():
            raise DeadlineExceededError(late)
        task.result()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # it may be that nobody waits, and asyncio would complain


class Verb:
    """An ASGI application for ``/models/{id}/VERB``, where ``VERB`` may end a model's name too.

    Args:
        verb: e.g. ``load``.
        command: obeys, unless there is a model of that name.
        inference: runs that model.
        pipeline: knows the models.
    """

    def __init__(
        self,
        verb: str,
        command: Callable[[Request], Awaitable[Response]],
        inference: Inference,
        pipeline: Pipeline,
    ) -> None:
        self._verb, self._command = verb, command
        self._inference, self._pipeline = inference, pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        name = f"{scope['path_params']['id']}/{self._verb}"
        if self._is_model(name):
            await self._inference({**scope, "path_params": {"id": name}}, receive, send)
            return
        response = await self._command(Request(scope, receive))
        await response(scope, receive, send)

    def _is_model(self, name: str) -> bool:
        try:
            self._pipeline.catalog.chain(name)
        except UnknownModelError:
            return False
        return True


def _note(caller: Caller, deed: str, name: str) -> None:
    """Log who told what, since other lines of the log don't."""
    logger.info("%s: %s %s", caller.name or "operator", deed, name)
