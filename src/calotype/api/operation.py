"""How the server is: health, readiness, versions and numbers."""

import dataclasses
import importlib.metadata
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from calotype.api.auth import Caller
from calotype.api.control import Control, refuse_draining
from calotype.api.document import json_response
from calotype.api.problems import refusal
from calotype.domain.request import FORMATS
from calotype.errors import ForbiddenError
from calotype.pipeline import Pipeline
from calotype.settings import Settings
from calotype.store.client import Store

VERSION = importlib.metadata.version("calotype")

SHOWN_SETTINGS = (
    "max_upload_bytes",
    "max_pixels",
    "max_output_pixels",
    "queue_size",
    "deadline_s",
    "max_deadline_s",
    "hold_s",
    "jpeg_quality",
    "webp_quality",
    "png_effort",
    "keep_metadata",
)
"""What a client may want to know; no folders, no addresses."""

_NOT_READY = {
    "failed": "could not be loaded; the server's log says why",
    "too_large": "does not fit the memory budget",
}
_RETRY_S = 10.0
"""Where it isn't known when a model is tried again."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Operation:
    """Endpoints for those who run the server."""

    pipeline: Pipeline
    control: Control
    settings: Settings
    store: Store | None = None

    async def health(self, request: Request) -> Response:
        """Tell that the process answers; needs no token."""
        del request
        return json_response({"status": "ok", "version": VERSION})

    async def ready(self, request: Request) -> Response:
        """Tell whether the default model can answer, or be loaded to; needs no token.

        Raises:
            ShuttingDownError: the server drains.
        """
        del request
        refuse_draining(self.control)
        spec = self.pipeline.catalog.default
        status = self.pipeline.runner.status(spec)
        body = {"state": status.state, "model": spec.id}
        if self.store is not None:  # without it, pictures are made all the same
            body["store"] = "up" if self.store.is_up else "down"
        why = _NOT_READY.get(status.state)
        if why is None:
            return json_response({"status": "ready", **body})
        known_s = status.retry_after_s
        return refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "not_ready",
            f"Model {spec.name} {why}",
            retry_after_s=_RETRY_S if known_s is None else known_s,
            extra={"status": "failed", **body},
        )

    def info(self, request: Request, caller: Caller) -> Response:
        """Tell the version and the limits."""
        del request, caller
        chosen = {name: getattr(self.settings, name) for name in SHOWN_SETTINGS}
        about = {
            "name": "calotype",
            "version": VERSION,
            "task": "image-to-image",
            "default_model": self.pipeline.catalog.default.id,
            "output_formats": FORMATS,
        }
        return json_response(about | chosen)

    async def metrics(self, request: Request, caller: Caller) -> Response:
        """Show the numbers to Prometheus.

        Where there are tokens, any that may run models or operate the server opens this: a scraper
        gets a token of its own, and strangers learn neither the models nor how busy they are.

        Raises:
            ForbiddenError: the token may do neither.
        """
        del request
        if not (caller.has_scope("admin") or caller.has_scope("run")):
            raise ForbiddenError(f"Token {caller.name} may not read the metrics")
        numbers = await self.control.numbers()
        return Response(numbers, headers={"content-type": CONTENT_TYPE_LATEST})
