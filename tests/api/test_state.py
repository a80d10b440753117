"""What the server says of its models, and does with them, given what a runner says."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from api.server import problem_of, serving
from calotype.api.app import create_app
from calotype.api.auth import Authenticator
from calotype.api.limits import RateLimiter
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.request import Job, Outcome
from calotype.errors import RequestCancelledError

MIB = 1024 * 1024


@dataclass
class Told:
    """A runner and a control that say and do what the test wants."""

    status_: ModelStatus = field(default_factory=lambda: ModelStatus(state="unloaded"))
    draining: bool = False
    error: BaseException | None = None
    loaded: list[str] = field(default_factory=list)

    async def submit(self, job: Job) -> Outcome:
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError

    def status(self, model: ModelSpec) -> ModelStatus:
        del model
        return self.status_

    async def load(self, model: ModelSpec) -> None:
        if self.error is not None:
            raise self.error
        self.loaded.append(model.id)

    async def unload(self, model: ModelSpec) -> None:
        self.loaded.remove(model.id)

    async def numbers(self) -> bytes:
        return b""


async def nothing() -> None:
    pass


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[tuple[Told, httpx.AsyncClient]]:
    runner = Told()
    async with serving(tmp_path) as server:
        app = create_app(
            pipeline=replace(server.services.pipeline, runner=runner),
            control=runner,
            settings=server.services.settings,
            authenticator=Authenticator(server.tokens),
            limiter=RateLimiter(),
            start=nothing,
            stop=nothing,
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield runner, client


@pytest.mark.parametrize(
    ("model_state", "word"),
    [
        ("unloaded", "Loadable"),
        ("loading", "Loadable"),
        ("failed", "Loadable"),
        ("loaded", "Loaded"),
        ("too_large", "TooBig"),
    ],
)
async def test_the_states_as_clients_know_them(
    told: tuple[Told, httpx.AsyncClient], model_state: str, word: str
) -> None:
    runner, client = told
    runner.status_ = ModelStatus(state=cast(Any, model_state))
    found = (await client.get("/status/echo")).json()
    assert (found["state"], found["loaded"]) == (word, word == "Loaded")
    ready = await client.get("/ready")
    assert ready.status_code == (503 if model_state in ("failed", "too_large") else 200)
    assert ready.json()["state"] == model_state


@pytest.mark.parametrize(("left_s", "sent"), [(37.2, "38"), (0.0, "1"), (None, "10")])
async def test_a_failed_default_model_says_when_it_is_tried_again(
    told: tuple[Told, httpx.AsyncClient], left_s: float | None, sent: str
) -> None:
    runner, client = told
    runner.status_ = ModelStatus(state="failed", reason="no /secret/file", retry_after_s=left_s)
    ready = await client.get("/ready")
    text = "Model echo could not be loaded; the server's log says why"
    assert problem_of(ready) == (503, "not_ready", text)
    assert ready.headers["retry-after"] == sent


async def test_models_show_what_is_known_of_them(told: tuple[Told, httpx.AsyncClient]) -> None:
    runner, client = told
    names = ("state", "resident_bytes", "estimated_load_s", "retry_after_s")

    async def shown() -> list[tuple[object, ...]]:
        one, many = (await client.get("/models/echo")).json(), (await client.get("/models")).json()
        return [tuple(found[name] for name in names) for found in (one, *many)]

    runner.status_ = ModelStatus(state="loaded", resident_bytes=5 * MIB)
    assert set(await shown()) == {("loaded", 5 * MIB, None, None)}
    runner.status_ = ModelStatus(
        state="failed", estimated_load_s=1.23456, retry_after_s=9.87654, reason="/secret"
    )
    assert set(await shown()) == {("failed", None, 1.235, 9.877)}
    assert "/secret" not in (await client.get("/models")).text


async def test_the_answer_to_a_load_says_what_became_of_it(
    told: tuple[Told, httpx.AsyncClient],
) -> None:
    runner, client = told
    runner.status_ = ModelStatus(state="loaded", precision="bf16", resident_bytes=5 * MIB)
    body = (await client.post("/models/echo/load")).json()
    assert (body["precision"], body["resident_bytes"]) == ("bf16", 5 * MIB)
    assert runner.loaded == ["test/echo"]
    assert (await client.post("/models/echo/unload")).status_code == 200
    assert runner.loaded == []


async def test_a_load_that_is_overtaken_by_an_unload(
    told: tuple[Told, httpx.AsyncClient],
) -> None:
    runner, client = told
    text = "Model echo was unloaded while it was loaded"
    runner.error = RequestCancelledError(text)
    assert problem_of(await client.post("/models/echo/load")) == (409, "cancelled", text)


async def test_a_bug_in_a_load_answers_a_fixed_sentence(
    told: tuple[Told, httpx.AsyncClient],
) -> None:
    runner, client = told
    runner.error = ValueError("at /secret")
    assert problem_of(await client.post("/models/echo/load"))[:2] == (500, "internal")
