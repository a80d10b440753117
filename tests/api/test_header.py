import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.server import ECHO, Server, fake, picture, problem_of, serving


@pytest.mark.parametrize("spelling", ["0", "false", "False", "no", "NO", "off", "n", " f "])
async def test_use_cache_false(server: Server, spelling: str) -> None:
    for _ in range(2):
        response = await server.run(headers={"x-use-cache": spelling})
        assert response.headers["x-cache"] == "bypass"
    # The new result was stored.
    assert (await server.run()).headers["x-cache"] == "hit"


@pytest.mark.parametrize("spelling", ["1", "true", "TRUE", "yes", "on", "y", ""])
async def test_use_cache_true(server: Server, spelling: str) -> None:
    found = [
        (await server.run(headers={"x-use-cache": spelling})).headers["x-cache"] for _ in range(2)
    ]
    assert found == ["miss", "hit"]


@pytest.mark.parametrize("name", ["x-use-cache", "x-wait-for-model", "x-strict"])
@pytest.mark.parametrize("value", ["maybe", "2", "true, false", "\u00e9"])
async def test_other_booleans_are_refused_by_name(server: Server, name: str, value: str) -> None:
    response = await server.client.post(
        "/models/echo",
        content=picture(),
        headers={name.encode(): value.encode("latin-1")},
    )
    status, kind, message = problem_of(response)
    assert (status, kind) == (422, "validation")
    assert message.startswith(f"{name} must be true or false, got ")


async def test_wait_for_model_waits(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", load_s=0.3), hold_s=0) as server:
        impatient = await server.run("slow")
        assert impatient.status_code == 503
        patient = await server.run("slow", headers={"x-wait-for-model": "true"})
        assert patient.status_code == 200


async def test_wait_for_model_waits_no_longer_than_the_deadline(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", load_s=0.5), hold_s=0) as server:
        wishes = {"x-wait-for-model": "true", "x-deadline-ms": "50"}
        assert problem_of(await server.run("slow", headers=wishes))[:2] == (504, "timeout")


async def test_a_request_is_held_while_the_model_loads(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", load_s=0.2), hold_s=5) as server:
        assert (await server.run("slow")).status_code == 200


@pytest.mark.parametrize("request_id", ["a", "A-b_c.9", "x" * 128])
async def test_a_good_request_id_is_kept(server: Server, request_id: str) -> None:
    for response in (
        await server.run(headers={"x-request-id": request_id}),
        await server.client.get("/health", headers={"x-request-id": request_id}),
        await server.client.get("/nothing", headers={"x-request-id": request_id}),
    ):
        assert response.headers.get_list("x-request-id") == [request_id]


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "a/b", "\u00e9", "a,b"])
async def test_another_request_id_is_replaced(server: Server, request_id: str) -> None:
    sent = {b"x-request-id": request_id.encode("latin-1")}
    response = await server.client.get("/health", headers=sent)
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


async def test_made_request_ids_differ(server: Server) -> None:
    ids = {(await server.client.get("/health")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize(
    "sent", ["0", "-1", "1.5", "soon", "", "3600001", "9" * 30, "5, 6", "\u00b2"]
)
async def test_a_deadline_out_of_range_is_refused_by_name(server: Server, sent: str) -> None:
    headers = {b"x-deadline-ms": sent.encode("latin-1")}
    response = await server.client.post("/models/echo", content=picture(), headers=headers)
    status, kind, message = problem_of(response)
    assert (status, kind) == (422, "validation")
    assert message.startswith("x-deadline-ms must be an integer in [1, 3600000], got ")


@pytest.mark.parametrize("sent", ["3600000", " 60000 ", "0060000"])
async def test_a_deadline_in_range_is_kept(server: Server, sent: str) -> None:
    assert (await server.run(headers={"x-deadline-ms": sent})).status_code == 200


async def test_running_work_ends_at_the_deadline(tmp_path: Path) -> None:
    spec = fake("slow", step_s=0.02, steps=200)
    async with serving(tmp_path, spec) as server:
        response = await server.run("slow", headers={"x-deadline-ms": "100"})
        assert problem_of(response)[:2] == (504, "timeout")


async def test_queued_work_ends_at_the_deadline(tmp_path: Path) -> None:
    spec = fake("slow", step_s=0.4)
    async with serving(tmp_path, spec) as server:
        first = asyncio.create_task(server.run("slow", picture(seed=1)))
        await asyncio.sleep(0.1)
        second = await server.run("slow", picture(9), headers={"x-deadline-ms": "60"})
        assert problem_of(second)[:2] == (504, "timeout")
        assert (await first).status_code == 200


async def test_the_default_deadline_is_a_setting(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", step_s=0.01, steps=100), deadline_s=0.1) as server:
        assert problem_of(await server.run("slow"))[:2] == (504, "timeout")


async def test_a_body_that_never_comes_ends_at_the_deadline(tmp_path: Path) -> None:
    async with serving(tmp_path, ECHO, deadline_s=0.1) as server:

        async def endless() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.sleep(30)

        response = await server.client.post("/models/echo", content=endless())
        assert problem_of(response)[:2] == (504, "timeout")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], "image/jpeg"),
        (["*/*"], "image/jpeg"),
        (["image/*"], "image/jpeg"),
        ([""], "image/jpeg"),
        (["image/png"], "image/png"),
        (["image/webp;q=0.5, image/png;q=0.9"], "image/png"),
        (["image/png", "image/webp"], "image/png"),
        (["image/png;q=0.1", "image/webp"], "image/webp"),
        (["application/json, image/webp"], "image/webp"),
        (["*/*, image/jpeg;q=0"], "image/png"),
    ],
)
async def test_accept(server: Server, accept: list[str], expected: str) -> None:
    request = server.client.build_request(
        "POST", "/models/echo", content=picture(16, "JPEG"), headers=[("accept", a) for a in accept]
    )
    if not accept:
        del request.headers["accept"]
    response = await server.client.send(request)
    assert response.status_code == 200
    assert response.headers["content-type"] == expected


@pytest.mark.parametrize("accept", ["application/json", "text/html, image/gif", "*/*;q=0"])
async def test_nothing_acceptable(server: Server, accept: str) -> None:
    status, kind, message = problem_of(await server.run(headers={"accept": accept}))
    assert (status, kind) == (406, "not_acceptable")
    assert "image/png, image/jpeg, image/webp" in message


async def test_output_format_beats_accept(server: Server) -> None:
    for accept in ("image/png", "application/json"):
        response = await server.run(headers={"accept": accept}, output_format="webp")
        assert response.headers["content-type"] == "image/webp"
