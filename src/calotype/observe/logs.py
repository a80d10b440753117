"""Logs: JSON lines with the request's id, or text on a terminal. Secrets never get here."""

import contextvars
import functools
import json
import logging
import re
import sys
import time
from typing import Literal

from calotype.observe import trace

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""Set by the HTTP layer; every line logged while it serves a request carries it."""

SECRET = re.compile(r"(?i)\b(bearer:?\s+|calo_|hf_)[A-Za-z0-9._~+/=-]{4,}")
SECRET_MARKS = ("bearer", "calo_", "hf_")
"""One of them is in everything that looks like a secret."""
FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the ids, and what ``extra`` held."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        if trace_id := trace.trace_id():
            line["trace_id"] = trace_id
        line |= {k: v for k, v in record.__dict__.items() if k not in FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(_encode(line))


_encode = json.JSONEncoder(default=str).encode


@functools.lru_cache(maxsize=4)
def _second(since_1970: int) -> str:
    """Write a second of Universal Time; most lines are of the same as the one before."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since_1970))


class TextFormatter(logging.Formatter):
    """What a person reads in a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        return redact(super().format(record))


def redact(text: str) -> str:
    """Blot out everything that looks like a token."""
    lower = text.lower()
    if not any(mark in lower for mark in SECRET_MARKS):  # most often; the search takes 25 us
        return text
    return SECRET.sub(lambda match: f"{match.group(1)}[redacted]", text)


def set_up(level: str, format: Literal["auto", "text", "json"] | str) -> None:
    """Send the logs of this process to stderr.

    Args:
        level: debug, info, warning or error.
        format: auto means text on a terminal and JSON elsewhere.
    """
    as_text = format == "text" or (format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Nothing here shows threads and processes; to look them up takes a third of what a line does.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    logging.getLogger("pyvips").setLevel("WARNING")
    logging.getLogger("python_multipart").setLevel("ERROR")  # a damaged form is its client's matter
