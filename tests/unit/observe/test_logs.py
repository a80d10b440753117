"""Logs are JSON with the request's id, and never hold a secret."""

import json
import logging

import pytest

from calotype.observe import logs


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("calotype.test", logging.INFO, "f.py", 1, message, None, None)
    made.__dict__.update(extra)
    return made


def test_a_line_is_json_with_the_request_id() -> None:
    token = logs.REQUEST_ID.set("abc-1")
    try:
        line = json.loads(logs.JsonFormatter().format(record("hello", model="upscale", ms=3)))
    finally:
        logs.REQUEST_ID.reset(token)
    assert line["message"] == "hello"
    assert line["request_id"] == "abc-1"
    assert (line["model"], line["ms"], line["level"]) == ("upscale", 3, "info")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer calo_abcdefgh12345678",
        "authorization: bearer: s3cr3t-abcdef",
        "token hf_abcdefghijklmnop was sent",
        "calo_abcdefgh12345678",
    ],
)
@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.TextFormatter()])
def test_secrets_are_blotted_out(text: str, formatter: logging.Formatter) -> None:
    line = formatter.format(record(text))
    assert "abcdef" not in line
    assert "[redacted]" in line


def test_set_up_keeps_third_parties_in_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.set_up("warning", "json")
        assert len(root.handlers) == 1
        assert isinstance(root.handlers[0].formatter, logs.JsonFormatter)
        assert not logging.getLogger("uvicorn.access").propagate
        logs.set_up("info", "text")
        assert isinstance(root.handlers[0].formatter, logs.TextFormatter)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
