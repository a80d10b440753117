"""What a store keeps of one request: whose it is, the last that happened, and its picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calotype.api.record import MAX_EVENTS, Answer, Json
from calotype.store.client import Client, Store
from calotype.store.script import run_script

PIECE_BYTES = 4 * 1024 * 1024
"""What a picture is sent in: a store that works on a piece answers others soon."""

# Of several requests of one name a job stays, and else the newest; one that is over says no more.
_TELL = f"""
local run, server, is_job, is_first, is_over, stay_ms, answer = unpack(ARGV, 1, 7)
local before = redis.call('HMGET', KEYS[1], 'run', 'is_job', 'is_over')
if before[1] == run then
  if before[3] == '1' then return 0 end
else
  if before[1] and (is_first == '0' or before[2] == '1') then return 0 end
  redis.call('DEL', KEYS[1], KEYS[2])
end
redis.call('HSET', KEYS[1], 'run', run, 'server', server, 'is_job', is_job, 'is_over', is_over,
  'answer', answer)
for i = 8, #ARGV, 3 do
  redis.pcall('XADD', KEYS[2], 'MAXLEN', {MAX_EVENTS}, ARGV[i] .. '-0', ARGV[i + 1], ARGV[i + 2])
end
if is_over == '1' then redis.call('XTRIM', KEYS[2], 'MAXLEN', 1) end
redis.call('PEXPIRE', KEYS[1], stay_ms)
redis.call('PEXPIRE', KEYS[2], stay_ms)
return 1
"""
_READ = """
local head = redis.call('HMGET', KEYS[1], 'run', 'server', 'is_over', 'answer')
if not head[1] then return {} end
local events = redis.call('XRANGE', KEYS[2], '(' .. ARGV[1] .. '-0', '+')
return {head, redis.call('PTTL', KEYS[1]), events}
"""
_FORGET = """
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An event: its number, its name, and what the request's sender is told."""

    number: int
    name: str
    document: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a slot holds."""

    run: str
    """Of the request that it tells of."""
    server: str
    """Where that runs, or ran."""
    is_over: bool
    answer: str
    """What is known of the picture beside its bytes; empty where there is none."""
    stays_s: float
    lines: tuple[Line, ...]
    """The last of them are the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a server says of a request that it runs."""

    run: str
    server: str
    is_job: bool
    is_over: bool = False
    is_first: bool = False
    """Whether it may take the slot from an older request."""
    stay_s: float
    """How long the slot stays, unless there is another update."""
    answer: str = ""
    lines: Sequence[Line] = ()


class Slot:
    """What a store keeps of the requests of one name.

    Args:
        store: where it is kept.
        owner: name of the sender's token.
        request_id: what the sender calls its request.
    """

    def __init__(self, store: Store, owner: str, request_id: str) -> None:
        self._store = store
        # The braces keep all of it on one node of a cluster.
        self._name = f"{{{owner}:{request_id}}}"
        self._head, self._events = self._key("head"), self._key("events")

    async def tell(self, update: Update) -> bool:
        """Say what happened; False if the slot belongs to another request.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        flags = (int(update.is_job), int(update.is_first), int(update.is_over))
        told: list[str | int] = [
            update.run,
            update.server,
            *flags,
            int(update.stay_s * 1000),
            update.answer,
        ]
        for line in update.lines:
            told += [line.number, line.name, json.dumps(line.document, separators=(",", ":"))]
        return bool(await run_script(self._store, _TELL, (self._head, self._events), *told))

    async def read(self, seen: int = 0) -> Page | None:
        """Return what is kept; None if nothing is.

        Args:
            seen: number of the last event that is known.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        keys = (self._head, self._events)
        if not (found := await run_script(self._store, _READ, keys, seen)):
            return None
        (run, server, is_over, answer), stays_ms, events = found
        return Page(
            run=run.decode(),
            server=server.decode(),
            is_over=is_over == b"1",
            answer=answer.decode(),
            stays_s=stays_ms / 1000,
            lines=tuple(_line(*event) for event in events),
        )

    async def news(self, seen: int, timeout_s: float) -> bool:
        """Wait for an event after the one of that number; False if none has come.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        wait_ms = max(1, int(min(timeout_s, self._store.wait_s) * 1000))
        name, last = self._events, f"{seen}-0"
        found = await self._store.ask(
            lambda client: client.xread({name: last}, count=1, block=wait_ms)
        )
        return bool(found)

    async def forget(self, run: str) -> None:
        """Forget the request of that run.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        keys = (self._head, self._events, self._picture(run))
        await run_script(self._store, _FORGET, keys, run)

    async def keep(self, run: str, answer: Answer, stay_s: float) -> str:
        """Keep a picture, and return what to say of it in the last update.

        Raises:
            StoreUnavailableError: the store doesn't answer, or has no room.
        """
        key, body = self._picture(run), answer.body
        for start in range(0, len(body), PIECE_BYTES):
            await self._keep_piece(key, start, body[start : start + PIECE_BYTES], stay_s)
        headers = [
            [name.decode("latin-1"), text.decode("latin-1")] for name, text in answer.headers
        ]
        return json.dumps({"headers": headers, "etag": answer.etag, "size": len(body)})

    async def picture(self, page: Page) -> Answer | None:
        """Return the picture of a page, if all of it is still there.

        Raises:
            StoreUnavailableError: the store doesn't answer.
        """
        if not page.answer:
            return None
        about, key, pieces = json.loads(page.answer), self._picture(page.run), list[bytes]()
        for start in range(0, about["size"], PIECE_BYTES):
            pieces.append(await self._piece(key, start))
        body = b"".join(pieces)
        if len(body) != about["size"]:
            return None
        headers = [
            (name.encode("latin-1"), text.encode("latin-1")) for name, text in about["headers"]
        ]
        return Answer(headers=headers, body=body, etag=about["etag"])

    async def _keep_piece(self, key: str, start: int, piece: bytes, stay_s: float) -> None:
        async def write(client: Client) -> None:
            async with client.pipeline() as batch:  # a transaction: half a picture goes by itself
                batch.setrange(key, start, piece)
                batch.pexpire(key, int(stay_s * 1000))
                await batch.execute()

        await self._store.ask(write)

    async def _piece(self, key: str, start: int) -> bytes:
        end = start + PIECE_BYTES - 1
        piece = await self._store.ask(lambda client: client.getrange(key, start, end))
        return piece if isinstance(piece, bytes) else piece.encode()

    def _picture(self, run: str) -> str:
        return self._key(f"picture:{run}")

    def _key(self, part: str) -> str:
        return self._store.key("request", self._name, part)


def _line(number: bytes, fields: Sequence[bytes]) -> Line:
    """Read an entry of a stream."""
    name, text = fields
    document: dict[str, Any] = json.loads(text)
    return Line(number=int(number.partition(b"-")[0]), name=name.decode(), document=document)
