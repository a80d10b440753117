"""Errors as two texts, for whoever must not be trusted with pickles."""

from calotype import errors
from calotype.domain.hooks import JobCancelledError

_TEXT_CHARS = 4000


def describe(error: Exception) -> tuple[str, str]:
    """Return the name of an error's class, and its text."""
    if isinstance(error, errors.CalotypeError | JobCancelledError):
        return type(error).__name__, str(error)[:_TEXT_CHARS]
    out = isinstance(error, MemoryError)
    kind = errors.OutOfMemoryError if out else errors.ModelCrashedError
    return kind.__name__, repr(error)[:_TEXT_CHARS]


def error_of(name: str, text: str) -> errors.CalotypeError | JobCancelledError:
    """Make the error that was described."""
    if name == JobCancelledError.__name__:
        return JobCancelledError(text)
    found = getattr(errors, name, None)
    known = isinstance(found, type) and issubclass(found, errors.CalotypeError)
    return found(text) if known and found is not None else errors.ModelCrashedError(text)
