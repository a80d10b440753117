"""Reading events as a client does."""

import asyncio
import json
from typing import Any, NamedTuple

import httpx

from api.server import SOON_S, Server

NOBODY: dict[str, str] = {}


class Event(NamedTuple):
    number: int
    name: str
    document: dict[str, Any]


def parse(text: str) -> list[Event]:
    """Take a stream apart, comments left out."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            assert set(lines) == {"id", "event", "data"}
            found.append(Event(int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def listen(
    server: Server, name: str, headers: dict[str, str] = NOBODY
) -> asyncio.Task[httpx.Response]:
    """Begin to read the events of a request; the answer is there at their end."""
    reading = server.client.get(f"/requests/{name}/events", headers=headers)
    return asyncio.create_task(reading)


async def heard(reading: asyncio.Task[httpx.Response]) -> list[Event]:
    """Return the events of a stream that ends."""
    response = await asyncio.wait_for(reading, SOON_S)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    return parse(response.text)


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]
