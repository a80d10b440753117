"""Logs: JSON lines with the request's id, or text on a terminal. Secrets never get here."""

import contextvars
import json
import logging
import re
import sys
import time
from typing import Literal

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""Set by the HTTP layer; every line logged while it serves a request carries it."""

SECRET = re.compile(r"(?i)\b(bearer:?\s+|calo_|hf_)[A-Za-z0-9._~+/=-]{4,}")
FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, and what ``extra`` held."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= {k: v for k, v in record.__dict__.items() if k not in FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


class TextFormatter(logging.Formatter):
    """What a person reads in a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        return redact(super().format(record))


def redact(text: str) -> str:
    """Blot out everything that looks like a token."""
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
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    logging.getLogger("pyvips").setLevel("WARNING")
    logging.getLogger("python_multipart").setLevel("ERROR")  # a damaged form is its client's matter
