"""Every path once, with what the OpenAPI page says of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from calotype.api.command import Commands, Verb
from calotype.api.gate import Gate
from calotype.api.inference import Inference
from calotype.api.lookup import Lookup
from calotype.api.operation import Operation
from calotype.pipeline import Pipeline

Kind = Literal["picture", "json", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One method of one path."""

    method: Literal["GET", "POST"]
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
        return Path(method="POST", path=path, endpoint=inference, summary=summary, answer="picture")

    def see(path: str, endpoint: Callable[[Request], Awaitable[Response]], summary: str) -> Path:
        return Path(method="GET", path=path, endpoint=endpoint, summary=summary, guarded=False)

    older = "Run a model, on the path of older clients"
    return [
        run("/models/{id:path}", "Run a model on a picture"),
        run("/", "Run the default model on a picture"),
        run("/pipeline/image-to-image/{id:path}", older),
        run("/hf-inference/models/{id:path}", "Run a model, on the path of the API's router"),
        see("/", operation.root, "Say that somebody is here"),
        see("/health", operation.health, "Whether the process answers"),
        see("/ready", operation.ready, "Whether the default model can answer"),
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
        Path(method="GET", path=path, endpoint=gate.guard(endpoint), summary=summary)
        for path, endpoint, summary in listed
    ]
    shown = gate.guard(operation.metrics)
    text: Kind = "text"
    paths.append(
        Path(method="GET", path="/metrics", endpoint=shown, summary="Numbers", answer=text)
    )
    return paths
