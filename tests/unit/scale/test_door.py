import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable

import pytest
from starlette.middleware import Middleware
from starlette.types import Message, Receive, Scope, Send

from calotype.api.header import UNCHOSEN
from calotype.scale.door import ATTEMPTS, KEPT_BYTES, LOST, Door
from calotype.scale.node import ENVIRONMENT

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/models/a", "headers": []}
START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"x-request-id", b"ours"), (b"content-type", b"image/png")],
}
END: Message = {"type": "http.response.body", "body": b"picture"}
GONE: Message = {"type": "http.disconnect"}

Try = Callable[[Scope, Receive, Send], Awaitable[None]]


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def whole(receive: Receive) -> bytes:
    """Read a body to its end."""
    read = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return read
        read += bytes(message["body"])
        if not message["more_body"]:
            return read


class Proxy:
    """What is behind the door; does another thing at each try.

    Args:
        tries: what it does, the last again and again.
    """

    def __init__(self, *tries: Try) -> None:
        self._tries = tries
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        tried = self._tries[min(len(self.scopes), len(self._tries)) - 1]

        async def heard() -> Message:
            message = await receive()
            self.bodies[-1] += message.get("body", b"")
            return message

        self.bodies.append(b"")
        await tried(scope, heard, send)


class Client:
    """Who sends a request, and what came back."""

    def __init__(self, *messages: Message) -> None:
        self._left, self.got = [*messages], list[Message]()

    async def receive(self) -> Message:
        if self._left:
            return self._left.pop(0)
        await asyncio.Event().wait()  # it waits for its answer
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.got.append(message)

    async def visit(self, app: Proxy) -> None:
        await Door(app)(SCOPE, self.receive, self.send)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    del scope
    await whole(receive)
    await send(START)
    await send(END)


async def die_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """End without a word, as Ray Serve's proxy does whose replica is lost."""


async def die_having_read(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, send
    await whole(receive)


async def die_amid_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, send
    await receive()


async def die_amid_the_answer(scope: Scope, receive: Receive, send: Send) -> None:
    del scope
    await whole(receive)
    await send(START)


async def notice_who_leaves(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, send
    while (await receive())["type"] != "http.disconnect":
        pass


def assert_lost(client: Client) -> None:
    """Check that a client was told to send its request again."""
    start, body = client.got
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert [name for name, _ in start["headers"]].count(b"x-request-id") == 1
    assert json.loads(body["body"]) == {"error": LOST, "error_type": "lost"}


@pytest.mark.parametrize("loss", [die_at_once, die_having_read, die_amid_the_body])
async def test_a_server_that_is_lost_before_its_answer_costs_a_try(loss: Try) -> None:
    proxy, client = Proxy(loss, answer), Client(part(b"one ", more=True), part(b"two"))
    await client.visit(proxy)
    assert client.got == [START, END]
    assert len(proxy.bodies) == 2
    assert proxy.bodies[1] == b"one two"


async def test_each_try_gets_a_scope_of_its_own() -> None:
    async def spoil(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        scope["path"] = "/elsewhere"

    proxy = Proxy(spoil, answer)
    await Client(part(b"")).visit(proxy)
    assert proxy.scopes[1]["path"] == SCOPE["path"] == "/models/a"


async def test_some_tries_later_it_says_so() -> None:
    proxy, client = Proxy(die_having_read), Client(part(b"body"))
    await client.visit(proxy)
    assert proxy.bodies == [b"body"] * ATTEMPTS
    assert_lost(client)


async def test_an_answer_that_broke_off_is_not_begun_anew() -> None:
    proxy, client = Proxy(die_amid_the_answer, answer), Client(part(b"body"))
    await client.visit(proxy)
    assert client.got == [START]
    assert len(proxy.scopes) == 1


async def test_an_error_of_the_server_is_an_answer() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({**START, "status": 503})
        await send(END)

    proxy, client = Proxy(refuse, answer), Client(part(b"body"))
    await client.visit(proxy)
    assert [message.get("status") for message in client.got] == [503, None]
    assert len(proxy.scopes) == 1


async def test_nobody_sends_again_for_a_client_that_left() -> None:
    proxy, client = Proxy(notice_who_leaves, answer), Client(part(b"body"), GONE)
    await client.visit(proxy)
    assert len(proxy.scopes) == 1
    assert client.got == []


async def test_a_long_body_is_sent_once() -> None:
    half = bytes(KEPT_BYTES // 2 + 1)
    proxy, client = Proxy(die_having_read, answer), Client(part(half, more=True), part(half))
    await client.visit(proxy)
    assert [len(body) for body in proxy.bodies] == [2 * len(half)]
    assert_lost(client)


async def test_a_body_as_long_as_is_kept_is_sent_again() -> None:
    half = bytes(KEPT_BYTES // 2)
    proxy, client = Proxy(die_having_read, answer), Client(part(half, more=True), part(half))
    await client.visit(proxy)
    assert [len(body) for body in proxy.bodies] == [KEPT_BYTES] * 2
    assert client.got == [START, END]


async def test_the_request_id_of_the_proxy_is_left_out() -> None:
    async def twice(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({**START, "headers": [*START["headers"], (b"X-Request-ID", b"the proxy's")]})
        await send(END)

    client = Client(part(b""))
    await client.visit(Proxy(twice))
    assert client.got == [START, END]


async def heard(*sent: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers that come to the server."""
    proxy, client = Proxy(answer), Client(part(b"body"))
    await Door(proxy)({**SCOPE, "headers": [*sent]}, client.receive, client.send)
    headers: list[tuple[bytes, bytes]] = proxy.scopes[0]["headers"]
    return headers


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-disconnect-disabled",
        b"X_Request_Disconnect-Disabled",
        b"x-request-timeout-seconds",
        b"serve_multiplexed_model_id",
        b"Serve-Multiplexed-Model-Id",
        b"x-session-id",
        b"x-serve-router-request-id",
    ],
)
async def test_a_client_can_not_give_orders_to_ray(name: bytes) -> None:
    own = (b"x-request-id", b"mine")
    assert await heard((name, b"?1"), own, (b"accept", b"*/*")) == [own, (b"accept", b"*/*")]


async def test_the_server_hears_whether_the_client_chose_an_id() -> None:
    assert await heard() == [(UNCHOSEN, b"1")]
    assert await heard((UNCHOSEN, b"2")) == [(UNCHOSEN, b"1")]
    own = (b"X-Request-Id", b"mine")
    assert await heard(own, (UNCHOSEN, b"2")) == [own]


async def test_what_is_no_request_passes() -> None:
    seen: list[str] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        seen.append(scope["type"])

    client = Client()
    await Door(note)({"type": "lifespan"}, client.receive, client.send)
    assert seen == ["lifespan"]


def test_ray_finds_the_door_by_its_name() -> None:
    module, _, name = ENVIRONMENT["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].partition(":")
    (found,) = getattr(importlib.import_module(module), name)()
    assert isinstance(found, Middleware)
    assert repr(found) == "Middleware(Door)"
