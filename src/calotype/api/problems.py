"""Errors to answers: the only place that knows errors and status codes both."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from calotype import errors
from calotype.api.document import json_response
from calotype.domain.text import printable

logger = logging.getLogger(__name__)

STATUS: Mapping[type[errors.CalotypeError], HTTPStatus] = {
    errors.MalformedRequestError: HTTPStatus.BAD_REQUEST,
    errors.InvalidParameterError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BadImageError: HTTPStatus.BAD_REQUEST,
    errors.PayloadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.NotAcceptableError: HTTPStatus.NOT_ACCEPTABLE,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.UnknownModelError: HTTPStatus.NOT_FOUND,
    errors.UnknownRequestError: HTTPStatus.NOT_FOUND,
    errors.UnsafeResultError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ModelLoadingError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ShuttingDownError: HTTPStatus.SERVICE_UNAVAILABLE,
    # Not a 503: clients repeat those, and the operator would have to cancel again.
    errors.RequestCancelledError: HTTPStatus.CONFLICT,
    errors.ModelCrashedError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.OutOfMemoryError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BadOutputError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidSettingError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidCatalogError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.MissingWeightsError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.MissingExtraError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Every error that can reach a client."""

FIXED: Mapping[type[errors.CalotypeError], str] = {
    errors.OutOfMemoryError: "The model ran out of memory; a smaller picture may work",
    errors.BadOutputError: "The model returned no usable picture; the server's log says why",
    errors.BackendError: "The model failed; the server's log says why",
    # These two name a package to install and a file without its folder: what their reader needs.
    errors.MissingWeightsError: "",
    errors.MissingExtraError: "",
    errors.ConfigError: "The model is not set up correctly; the server's log says why",
}
"""What clients read in place of an error's own words; empty means those words after all."""

INTERNAL = "Internal error; the server's log says more under this request's id"

_HEADER_CHARS = 1000


def status_of(error: errors.CalotypeError) -> HTTPStatus:
    """Return the status of an error, or of the nearest class above it; 500 when there is none."""
    found = (STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(error: Exception) -> Response:
    """Answer a request that failed; what its client must not see goes to the log."""
    if not isinstance(error, errors.CalotypeError):
        logger.error("unexpected error", exc_info=error)
        return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", INTERNAL)
    fixed = next((FIXED[cls] for cls in type(error).__mro__ if cls in FIXED), None)
    if fixed is not None:
        logger.error("%s: %s", type(error).__name__, error, exc_info=error.__cause__)
    status = status_of(error)
    headers = {"www-authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    extra: dict[str, object] = {}
    if isinstance(error, errors.ModelLoadingError):
        extra["estimated_time"] = round(error.retry_after_s or 1.0, 3)
    return refusal(
        status,
        error.kind,
        f"{error.stage}: {fixed}" if fixed and error.stage else fixed or str(error),
        retry_after_s=error.retry_after_s,
        headers=headers,
        extra=extra,
    )


def refusal(
    status: HTTPStatus,
    kind: str,
    message: str,
    *,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
) -> Response:
    """Write an error in the one form that all have.

    Args:
        status: never 503 without ``retry-after``, which is filled in.
        kind: stable machine name.
        message: one sentence.
        retry_after_s: when a retry may succeed, if that is known.
        headers: further ones.
        extra: further members of the body.
    """
    line = " ".join(message.split())
    sent = {"x-error-message": printable(line, _HEADER_CHARS), **(headers or {})}
    if retry_after_s is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = 1.0
    if retry_after_s is not None:
        sent["retry-after"] = str(max(1, math.ceil(retry_after_s)))
    return json_response({"error": line, "error_type": kind, **(extra or {})}, status, sent)


def documented() -> dict[HTTPStatus, list[str]]:
    """Return the kinds of error by status, for the OpenAPI page."""
    kinds: dict[HTTPStatus, list[str]] = {}
    for cls, status in STATUS.items():
        listed = kinds.setdefault(status, [])
        if cls.kind not in listed:
            listed.append(cls.kind)
    kinds[HTTPStatus.INTERNAL_SERVER_ERROR].append("internal")
    return dict(sorted(kinds.items()))
