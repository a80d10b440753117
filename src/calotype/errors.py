"""Every error this package raises on purpose.

* CalotypeError
  x RequestError          the caller's fault; never retried
    - MalformedRequestError
    - InvalidParameterError
    - BadImageError
    - PayloadTooLargeError
    - NotAcceptableError
    - UnauthorizedError
    - ForbiddenError
    - UnknownModelError
    - UnknownPathError
    - UnknownRequestError
    - RequestConflictError
    - ResultGoneError
    - UnsafeResultError
  x CapacityError         nobody's fault; the caller may retry
    - RateLimitedError
    - QueueFullError
    - ModelLoadingError
    - DeadlineExceededError
    - ShuttingDownError
    - RequestCancelledError
    - UnfinishedError
    - StoreUnavailableError
    - RequestLostError
  x BackendError          the model's fault; detail goes to the log only
    - ModelCrashedError
    - OutOfMemoryError
    - BadOutputError
  x ConfigError           the operator's fault; raised before the socket opens
    - InvalidSettingError
    - InvalidCatalogError
    - MissingWeightsError
    - MissingExtraError

No class here knows HTTP: ``api/problems.py`` owns the status table.
"""

from typing import ClassVar, Self


class CalotypeError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        kind: stable machine name, sent to clients as ``error_type``.
        retry_after_s: seconds to wait before a retry may succeed, if known.
        stage: of a chain, with which the message begins; empty where there is none.
    """

    kind: ClassVar[str] = "internal"

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, stage: str = ""
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.stage = stage

    def at(self, stage: str) -> Self:
        """Return the error as one of that stage of a chain."""
        return type(self)(f"{stage}: {self}", retry_after_s=self.retry_after_s, stage=stage)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.retry_after_s, self.stage))


def _rebuild(
    cls: type[CalotypeError], message: str, retry_after_s: float | None, stage: str
) -> CalotypeError:
    return cls(message, retry_after_s=retry_after_s, stage=stage)


class RequestError(CalotypeError):
    """The caller's fault; never retried."""


class MalformedRequestError(RequestError):
    """The body, or a header, cannot be read as a request."""

    kind = "malformed"


class InvalidParameterError(RequestError):
    """A parameter has a wrong type or range, or is refused by ``x-strict``."""

    kind = "validation"


class BadImageError(RequestError):
    """The upload is not an image we decode."""

    kind = "image"


class PayloadTooLargeError(RequestError):
    """More bytes or more pixels than the limits allow."""

    kind = "too_large"


class NotAcceptableError(RequestError):
    """No format in the Accept header can be produced."""

    kind = "not_acceptable"


class UnauthorizedError(RequestError):
    """No token, or one that is unknown, expired or revoked."""

    kind = "unauthorized"


class ForbiddenError(RequestError):
    """A good token without the scope, or a model that can never be loaded here."""

    kind = "forbidden"


class UnknownModelError(RequestError):
    """The catalog, or the server, has nothing of that name."""

    kind = "unknown_model"


class UnknownPathError(RequestError):
    """The server has nothing at that path."""

    kind = "not_found"


class UnknownRequestError(RequestError):
    """No request of that id is known: it is forgotten, or there never was one."""

    kind = "unknown_request"


class RequestConflictError(RequestError):
    """A job of that id is there already."""

    kind = "conflict"


class ResultGoneError(RequestError):
    """The job is done, and its picture is no longer kept."""

    kind = "gone"


class UnsafeResultError(RequestError):
    """The model's own safety checker objects to the result, and such results are refused."""

    kind = "unsafe"


class CapacityError(CalotypeError):
    """Nobody's fault; the caller may retry."""


class RateLimitedError(CapacityError):
    """This token spent its budget."""

    kind = "rate_limited"


class QueueFullError(CapacityError):
    """Admission refused: the model's queue is at its bound."""

    kind = "overloaded"


class ModelLoadingError(CapacityError):
    """The weights are still being loaded."""

    kind = "loading"


class DeadlineExceededError(CapacityError):
    """The job was still waiting, or still running, at its deadline."""

    kind = "timeout"


class ShuttingDownError(CapacityError):
    """The server is draining."""

    kind = "shutting_down"


class RequestCancelledError(CapacityError):
    """Its sender or an operator stopped the work; the same request may be sent again."""

    kind = "cancelled"


class UnfinishedError(CapacityError):
    """The job is not done yet."""

    kind = "unfinished"


class StoreUnavailableError(CapacityError):
    """What the servers share does not answer, and this can't be done without it."""

    kind = "store_unavailable"


class RequestLostError(CapacityError):
    """The server that ran a request is gone, and nobody will answer it."""

    kind = "lost"


def shutting_down() -> ShuttingDownError:
    """Return what is told to whoever sends work, or has some, when the server ends."""
    return ShuttingDownError("the server is shutting down", retry_after_s=5.0)


class BackendError(CalotypeError):
    """The model's fault; detail goes to the log only."""

    kind = "backend"


class ModelCrashedError(BackendError):
    """The backend raised."""


class OutOfMemoryError(BackendError):
    """The device ran out of memory on a batch of one."""


class BadOutputError(BackendError):
    """The backend returned NaN, or a wrong shape, dtype or count."""


class ConfigError(CalotypeError):
    """The operator's fault; raised before the socket opens."""

    kind = "config"


class InvalidSettingError(ConfigError):
    """A setting has a value outside its documented range."""


class InvalidCatalogError(ConfigError):
    """models.toml does not describe a servable model."""


class MissingWeightsError(ConfigError):
    """A weight file is missing, unreadable, or not the one its digest names."""


class MissingExtraError(ConfigError):
    """A backend needs ``pip install calotype[extra]``."""
