"""A whole server with fake models, in this process unless `pytest --live` asks for another."""

import asyncio
import base64
import contextlib
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
from PIL import Image
from starlette.types import ASGIApp

from bridge import Bridge
from calotype.api.door import TOKENS_FILE
from calotype.api.tokens import TokenStore
from calotype.assembly import Services, assemble, create_server
from calotype.catalog.catalog import Catalog
from calotype.catalog.schema import revision_of
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.observe.metrics import REGISTRY
from calotype.settings import Settings
from live import SERVERS, leased, skip_inside
from live import sample as live_sample

Message = MutableMapping[str, Any]

SOON_S = 20.0
"""Far more than what a test waits for takes; what hangs fails."""
LONG: dict[str, float] = {"step_s": 0.02, "steps": 1500}
"""Options of a fake model whose run only a cancellation ends: it takes longer than any test waits,
and less than what the deadline would refuse."""

INVERT = ParamSpec(name="invert", type="boolean", help="swaps light and dark", default=False)
STRENGTH = ParamSpec(
    name="strength", type="number", help="how far", default=0.5, minimum=0, maximum=1
)
SEED = ParamSpec(name="seed", type="integer", help="where draws begin")
STYLE_IMAGE = ParamSpec(name="style_image", type="image", help="a style")


def fake(alias: str, *params: ParamSpec, **options: str | float) -> ModelSpec:
    spec = ModelSpec(
        id=f"test/{alias}",
        alias=alias,
        backend="fake",
        revision="",
        licence="Apache-2.0",
        params=params,
        options=options,
    )
    return replace(spec, revision=revision_of(spec))


ECHO = fake("echo", INVERT, STRENGTH)
DRAW = fake("draw", SEED)
STYLE = fake("style", STYLE_IMAGE)


def picture(side: int = 8, file_format: str = "PNG", *, seed: int = 0) -> bytes:
    # Nobody can empty the cache of a live server: it gets other pictures than for the last test.
    seeds = [seed, SERVERS[0].leases] if SERVERS else seed
    pixels = np.random.default_rng(seeds).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **_options(file_format))
    return file.getvalue()


def _options(file_format: str) -> dict[str, Any]:
    return {"lossless": True} if file_format == "WEBP" else {}


def pixels_of(body: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def text(upload: bytes) -> str:
    return base64.b64encode(upload).decode()


@dataclass(frozen=True, slots=True)
class Server:
    """A started server."""

    app: ASGIApp
    client: httpx.AsyncClient
    tokens: TokenStore
    inside: Services | None = None
    """None: it is another process."""

    @property
    def services(self) -> Services:
        return self.inside or skip_inside()

    async def run(
        self,
        model: str = "echo",
        upload: bytes | None = None,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        **parameters: object,
    ) -> httpx.Response:
        """Post a picture: raw without parameters, else in JSON."""
        upload = picture() if upload is None else upload
        url = f"/models/{model}"
        if not parameters:
            return await self.client.post(url, content=upload, headers=headers)
        body = {"inputs": text(upload), "parameters": parameters}
        return await self.client.post(url, json=body, headers=headers)

    async def send(self, body: object, **headers: str) -> httpx.Response:
        """Post JSON to the echo model."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/models/echo", json=body, headers=named)


@contextlib.asynccontextmanager
async def serving(folder: Path, *specs: ModelSpec, **settings: Any) -> AsyncIterator[Server]:  # noqa: ANN401
    """Serve models, the first being the default."""
    models = specs or (ECHO, DRAW, STYLE)
    told = {
        "default_model": models[0].alias,
        "cache_disk_bytes": 0,
        "isolation": "thread",  # quicker; tests/e2e has the processes
        **settings,
    }
    if SERVERS:
        async with leased(folder, models, told) as client:
            yield Server(Bridge(client), client, TokenStore(folder / "data" / TOKENS_FILE))
        return
    folders = {"data_dir": str(folder / "data"), "cache_dir": str(folder / "cache")}
    chosen = Settings(**{**folders, **told})
    services = assemble(chosen, Catalog(models, models[0].alias))
    app = create_server(services)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield Server(app, client, TokenStore(chosen.data_path / TOKENS_FILE), services)


def problem_of(response: httpx.Response) -> tuple[int, str, str]:
    """Check that an answer is an error in the one documented form; return what it says."""
    body = response.json()
    assert isinstance(body["error"], str)
    assert body["error"]
    assert "\n" not in body["error"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-error-message"]
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "Traceback" not in response.text
    assert "/secret" not in response.text
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) >= 1
    return response.status_code, body["error_type"], body["error"]


def sample(name: str, **labels: str) -> float:
    """Return a number that the server counts."""
    if SERVERS:
        return live_sample(SERVERS[0].url, name, labels)
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Line:
    """A connection whose client the test can make leave."""

    def __init__(self, body: bytes = b"", *, whole: bool = True) -> None:
        self.left = asyncio.Event()
        self.sent: list[Message] = []
        self._body: Message | None = {"type": "http.request", "body": body, "more_body": not whole}
        self._watched = False

    async def receive(self) -> Message:
        if self._body is not None:
            first, self._body = self._body, None
            return first
        self._watched = True
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def watched(self) -> bool:
        """Whether the server has looked if the client is still there."""
        return skip_inside() if SERVERS else self._watched

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def post(self, server: Server, path: str = "/", **headers: str) -> asyncio.Task[None]:
        """Begin to send the body; underscores in names of headers are hyphens."""
        raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b""}
        scope |= {"headers": raw, "root_path": "", "raw_path": path.encode()}
        scope |= {"http_version": "1.1", "scheme": "http"}
        return asyncio.ensure_future(server.app(scope, self.receive, self.send))


class Gate(Protocol):
    """Where fake models that sleep, as they load or run, wait until the test opens it."""

    def open(self) -> None:
        """Let everybody pass, now and later."""

    async def reached(self) -> None:
        """Wait until a model waits here."""


class InnerGate:
    """A gate in this process."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def sleep(self, seconds: float) -> None:
        """Wait, in the place of ``time.sleep``."""
        if seconds:
            self._reached.set()
            self._opened.wait(SOON_S)

    def open(self) -> None:
        self._opened.set()

    async def reached(self) -> None:
        async def true() -> bool:
            return self._reached.is_set()

        await until(true)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that the test can only ask for."""
    async with asyncio.timeout(SOON_S):
        while not await true():  # noqa: ASYNC110  the server has no event for it
            await asyncio.sleep(0.005)


def jobs() -> float:
    """Jobs in work, those included that wait for their model."""
    return sample("calotype_queue_jobs")


async def state(server: Server, model: str) -> str:
    """Return the state of a model."""
    return str((await server.client.get(f"/models/{model}")).json()["state"])


async def in_work(server: Server, model: str, number: int = 1, wanted: str = "loaded") -> None:
    """Wait until so many jobs are in work, and a model is in that state."""

    async def true() -> bool:
        return jobs() == number and await state(server, model) == wanted

    await until(true)


async def tokens_seen() -> None:
    """Wait until the server has looked at its file of tokens, as it does twice a second."""
    await asyncio.sleep(0.6)


async def bearers(server: Server, *names: str) -> list[dict[str, str]]:
    """Make a token of each name; return the headers that they are sent in."""
    secrets = [server.tokens.create(name) for name in names]
    await tokens_seen()
    return [{"authorization": f"Bearer {secret}"} for secret in secrets]


def begin(
    server: Server,
    name: str,
    model: str = "slow",
    seed: int = 0,
    headers: dict[str, str] | None = None,
) -> asyncio.Task[httpx.Response]:
    """Begin to send a picture, under an id of the test's choice."""
    told = {"x-request-id": name, **(headers or {})}
    return asyncio.create_task(server.run(model, picture(seed=seed), told))


async def command(server: Server, path: str, **headers: str) -> httpx.Response:
    """Post without a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await server.client.post(path, headers=named)
