"""Every path once, with what the OpenAPI page says of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from calotype.api import page
from calotype.api.command import Commands, Verb
from calotype.api.edits import Edits
from calotype.api.gate import Command, Endpoint, Gate
from calotype.api.inference import Inference
from calotype.api.lookup import Lookup
from calotype.api.operation import Operation
from calotype.api.problems import STATUS
from calotype.api.tracking import Tracking
from calotype.errors import (
    CalotypeError,
    ForbiddenError,
    QueueFullError,
    ShuttingDownError,
    StoreUnavailableError,
    UnauthorizedError,
    UnknownModelError,
    UnknownPathError,
    UnknownRequestError,
)
from calotype.pipeline import Pipeline

Method = Literal["GET", "POST", "DELETE"]
Kind = Literal[
    "picture", "pictures", "json", "state", "text", "page", "events", "result", "removal"
]

FORM_HEADERS = ("x-use-cache", "x-wait-for-model", "x-strict", "x-deadline-ms", "x-request-id")
"""What whoever sends a form may say beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One method of one path."""

    method: Method
    path: str
    """As starlette writes it: ``{id:path}`` is a name with or without a slash."""
    endpoint: ASGIApp | Callable[[Request], Awaitable[Response]]
    summary: str
    answer: Kind = "json"
    guarded: bool = True
    """Whether it needs a token where there are tokens."""
    scope: str = ""
    """What that token must have; empty where the endpoint decides."""
    headers: tuple[str, ...] = ()
    """Request headers that it reads; a picture's endpoint reads all."""
    fails: tuple[type[CalotypeError], ...] | None = ()
    """What it may fail with, beside refusing strangers; None: with anything."""

    @property
    def errors(self) -> tuple[type[CalotypeError], ...]:
        """What it may be answered with in place of what was asked for."""
        if self.fails is None:
            return tuple(STATUS)
        if not self.guarded:
            return self.fails
        return (UnauthorizedError, StoreUnavailableError, *self.fails)

    def route(self) -> Route:
        """Return it as starlette takes it."""
        return Route(self.path, self.endpoint, methods=[self.method])


def command_paths(
    gate: Gate, commands: Commands, inference: Inference, pipeline: Pipeline
) -> list[Path]:
    """Return what operators steer the server by; to be listed before what runs models."""

    def steer(
        path: str, endpoint: ASGIApp | Callable[[Request], Awaitable[Response]], summary: str
    ) -> Path:
        headers = ("x-deadline-ms",) if "{id" in path else ()
        return Path(
            method="POST",
            path=path,
            endpoint=endpoint,
            summary=summary,
            scope="admin",
            headers=headers,
            fails=None,
        )

    load = gate.guard_admin(commands.load, "load models")
    unload = gate.guard_admin(commands.unload, "unload models")
    cancel = gate.guard_admin(commands.cancel, "cancel requests")
    return [
        steer("/models/{id:path}/load", Verb("load", load, inference, pipeline), "Load a model"),
        steer(
            "/models/{id:path}/unload",
            Verb("unload", unload, inference, pipeline),
            "Unload a model once its jobs are done",
        ),
        steer("/requests/{request_id}/cancel", cancel, "Cancel the requests of an id"),
    ]


def open_paths(inference: Inference, operation: Operation) -> list[Path]:
    """Return what runs models, and what needs no token."""

    def run(path: str, summary: str) -> Path:
        return Path(
            method="POST",
            path=path,
            endpoint=inference,
            summary=summary,
            answer="picture",
            fails=None,
        )

    def see(
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        summary: str,
        answer: Kind = "json",
        *fails: type[CalotypeError],
    ) -> Path:
        return Path(
            method="GET",
            path=path,
            endpoint=endpoint,
            summary=summary,
            answer=answer,
            guarded=False,
            fails=fails,
        )

    older = "Run a model, on the path of older clients"
    return [
        run("/models/{id:path}", "Run a model on a picture"),
        run("/", "Run the default model on a picture"),
        run("/pipeline/image-to-image/{id:path}", older),
        run("/hf-inference/models/{id:path}", "Run a model, on the path of the API's router"),
        see("/", page.root, "The playground page; for who takes no HTML, a word", "page"),
        see("/page/{file}", page.file, "A file of the page", "page", UnknownPathError),
        see("/health", operation.health, "Whether the process answers"),
        see(
            "/ready",
            operation.ready,
            "Whether the default model can answer",
            "json",
            ShuttingDownError,
        ),
    ]


def tracking_paths(gate: Gate, tracking: Tracking) -> list[Path]:
    """Return what tells of requests and jobs."""

    def follow(
        command: Command,
        summary: str,
        answer: Kind,
        *headers: str,
        end: str = "",
        method: Method = "GET",
        fails: tuple[type[CalotypeError], ...] | None = (UnknownRequestError,),
    ) -> Path:
        return Path(
            method=method,
            path=f"/requests/{{request_id}}{end}",
            endpoint=gate.guard_waiting(command),
            summary=summary,
            answer=answer,
            headers=headers,
            fails=fails,
        )

    busy = (UnknownRequestError, QueueFullError)
    happens, fetch = "What happens to a request", "The picture of a job"
    forget = "Cancel a request, or forget one that is over"
    return [
        follow(tracking.state, "How far a request is", "state", "prefer"),
        follow(tracking.events, happens, "events", "last-event-id", end="/events", fails=busy),
        # A job's picture is answered with whatever the job failed with.
        follow(
            tracking.result, fetch, "result", "prefer", "if-none-match", end="/result", fails=None
        ),
        follow(tracking.remove, forget, "removal", method="DELETE"),
    ]


def openai_paths(gate: Gate, edits: Edits, lookup: Lookup) -> list[Path]:
    """Return what OpenAI's clients ask for."""

    def see(path: str, endpoint: Endpoint, summary: str, *fails: type[CalotypeError]) -> Path:
        guarded = gate.guard(endpoint)
        return Path(method="GET", path=path, endpoint=guarded, summary=summary, fails=fails)

    unseen = (UnknownModelError, ForbiddenError)
    return [
        Path(
            method="POST",
            path="/v1/images/edits",
            endpoint=edits,
            summary="Run a model as OpenAI's clients do",
            answer="pictures",
            headers=FORM_HEADERS,
            fails=None,
        ),
        see("/v1/models", lookup.openai_models, "List the models as OpenAI does"),
        see("/v1/models/{id:path}", lookup.openai_model, "A model as OpenAI describes it", *unseen),
    ]


def guarded_paths(gate: Gate, lookup: Lookup, operation: Operation) -> list[Path]:
    """Return what needs a token where there are tokens."""
    listed: Sequence[tuple[str, Callable[..., Response], str]] = (
        ("/models", lookup.models, "List the models"),
        ("/models/", lookup.models, "List the models"),
        ("/models/{id:path}", lookup.model, "Describe a model"),
        ("/models/{id:path}/info", lookup.model, "Describe a model"),
        ("/status/{id:path}", lookup.status, "Whether a model is loaded"),
        ("/framework/{name}", lookup.framework, "List the models of a framework"),
        ("/api/models/{id:path}", lookup.hub_model, "Describe a model as the Hub does"),
        ("/api/tasks", lookup.hub_tasks, "Name the default model as the Hub does"),
        ("/info", operation.info, "Version and limits"),
    )
    paths = [
        Path(
            method="GET",
            path=path,
            endpoint=gate.guard(endpoint),
            summary=summary,
            fails=(UnknownModelError, ForbiddenError) if "{id" in path else (),
        )
        for path, endpoint, summary in listed
    ]
    shown = gate.guard_waiting(operation.metrics)
    numbers = Path(
        method="GET",
        path="/metrics",
        endpoint=shown,
        summary="Numbers",
        answer="text",
        fails=(ForbiddenError,),
    )
    return [*paths, numbers]
