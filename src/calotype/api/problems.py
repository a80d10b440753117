"""Errors to answers: the only place that knows errors and status codes both."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
    errors.UnknownPathError: HTTPStatus.NOT_FOUND,
    errors.UnknownRequestError: HTTPStatus.NOT_FOUND,
    errors.RequestConflictError: HTTPStatus.CONFLICT,
    errors.ResultGoneError: HTTPStatus.GONE,
    errors.UnsafeResultError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ModelLoadingError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ShuttingDownError: HTTPStatus.SERVICE_UNAVAILABLE,
    # Not a 503: clients repeat those, and the operator would have to cancel again.
    errors.RequestCancelledError: HTTPStatus.CONFLICT,
    errors.UnfinishedError: HTTPStatus.CONFLICT,
    errors.StoreUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RequestLostError: HTTPStatus.SERVICE_UNAVAILABLE,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What an answer says of an error, however it is written."""

    status: HTTPStatus
    kind: str
    """Stable machine name."""
    message: str
    """One sentence, on one line."""
    retry_after_s: float | None = None
    """When a retry may succeed, if that is known."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further members of the body."""


Written = tuple[Mapping[str, object], Mapping[str, str]]
"""A body, and headers beside those that every error has."""

Dialect = Callable[[Problem], Written]
"""How an API writes its errors: the statuses and the words are the same in all."""


def plain(problem: Problem) -> Written:
    """Write an error as clients of the Inference API read it."""
    return {"error": problem.message, "error_type": problem.kind, **problem.extra}, {}


def log_problem(error: Exception) -> None:
    """Write to the log what a client must not see."""
    if not isinstance(error, errors.CalotypeError):
        logger.error("unexpected error", exc_info=error)
    elif _fixed(error) is not None:
        logger.error("%s: %s", type(error).__name__, error, exc_info=error.__cause__)


def describe(error: Exception) -> Problem:
    """Return what an answer says of an error, and nothing that its client must not see."""
    if not isinstance(error, errors.CalotypeError):
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return Problem(status=status, kind="internal", message=INTERNAL)
    fixed = _fixed(error)
    text = f"{error.stage}: {fixed}" if fixed and error.stage else fixed or str(error)
    extra: dict[str, object] = {}
    if isinstance(error, errors.ModelLoadingError):
        extra["estimated_time"] = round(error.retry_after_s or 1.0, 3)
    return Problem(
        status=status_of(error),
        kind=error.kind,
        message=" ".join(text.split()),
        retry_after_s=error.retry_after_s,
        extra=extra,
    )


def _fixed(error: errors.CalotypeError) -> str | None:
    """Return what is told in place of an error's own words; None where those are told."""
    return next((FIXED[cls] for cls in type(error).__mro__ if cls in FIXED), None)


def problem(error: Exception, dialect: Dialect = plain) -> Response:
    """Answer a request that failed; what its client must not see goes to the log."""
    log_problem(error)
    told = describe(error)
    is_stranger = told.status == HTTPStatus.UNAUTHORIZED
    headers = {"www-authenticate": "Bearer"} if is_stranger else {}
    return write(told, headers=headers, dialect=dialect)


def refusal(
    status: HTTPStatus,
    kind: str,
    message: str,
    *,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
    dialect: Dialect = plain,
) -> Response:
    """Write an error.

    Args:
        status: never 503 without ``retry-after``, which is filled in.
        kind: stable machine name.
        message: one sentence.
        retry_after_s: when a retry may succeed, if that is known.
        headers: further ones.
        extra: further members of the body.
        dialect: of the API that was asked.
    """
    told = Problem(
        status=status,
        kind=kind,
        message=" ".join(message.split()),
        retry_after_s=retry_after_s,
        extra=extra or {},
    )
    return write(told, headers=headers, dialect=dialect)


def write(
    told: Problem, *, headers: Mapping[str, str] | None = None, dialect: Dialect = plain
) -> Response:
    """Write what is known of an error as an answer."""
    body, more = dialect(told)
    shown = printable(told.message, _HEADER_CHARS)
    sent = {"x-error-message": shown, **(headers or {}), **more}
    wait_s = told.retry_after_s
    if wait_s is None and told.status == HTTPStatus.SERVICE_UNAVAILABLE:
        wait_s = 1.0
    if wait_s is not None:
        sent["retry-after"] = str(max(1, math.ceil(wait_s)))
    return json_response(body, told.status, sent)


def documented(
    classes: Iterable[type[errors.CalotypeError]] = tuple(STATUS),
) -> dict[HTTPStatus, list[str]]:
    """Return the kinds of some errors by status, for the OpenAPI page; by default of all."""
    kinds: dict[HTTPStatus, list[str]] = {HTTPStatus.INTERNAL_SERVER_ERROR: ["internal"]}
    for cls in classes:
        listed = kinds.setdefault(STATUS[cls], [])
        if cls.kind not in listed:
            listed.append(cls.kind)
    return dict(sorted(kinds.items()))
