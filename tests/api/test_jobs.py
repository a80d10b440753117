import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.events import heard, listen, names
from api.server import (
    ECHO,
    LONG,
    SOON_S,
    STRENGTH,
    Gate,
    Line,
    Server,
    bearers,
    command,
    fake,
    in_work,
    jobs,
    picture,
    problem_of,
    serving,
    text,
    tokens_seen,
    until,
)
from calotype.api import archive
from calotype.codec.encode import encode

ASYNC = {"prefer": "respond-async"}
TIMES = {"x-compute-time", "x-total-time", "x-queue-time", "x-inference-time", "x-cache"}
OF_AN_EXCHANGE = {*TIMES, "x-compute-type", "x-request-id", "content-length", "preference-applied"}


async def post(
    server: Server,
    model: str = "echo",
    seed: int = 0,
    prefer: str = "respond-async",
    token: dict[str, str] | None = None,
    **headers: str,
) -> httpx.Response:
    """Post a job."""
    told = {"prefer": prefer, **(token or {})}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await server.client.post(f"/models/{model}", content=picture(seed=seed), headers=told)


async def result(
    server: Server, name: str, wait: int = 20, token: dict[str, str] | None = None, **headers: str
) -> httpx.Response:
    told = {**({"prefer": f"wait={wait}"} if wait else {}), **(token or {})}
    told |= {key.replace("_", "-"): value for key, value in headers.items()}
    return await server.client.get(f"/requests/{name}/result", headers=told)


async def test_a_job_is_taken_and_its_picture_fetched(server: Server) -> None:
    taken = await post(server, x_request_id="mine")
    assert taken.status_code == 202
    assert taken.headers["location"] == "/requests/mine"
    assert taken.headers["preference-applied"] == "respond-async"
    assert taken.json()["id"] == "mine"
    assert taken.json()["job"] is True
    fetched = await result(server, "mine")
    direct = await server.run("echo")
    assert fetched.status_code == 200
    assert fetched.content == direct.content
    told = {key: v for key, v in fetched.headers.items() if key not in OF_AN_EXCHANGE}
    assert told == {key: v for key, v in direct.headers.items() if key not in OF_AN_EXCHANGE}
    state = (await server.client.get("/requests/mine")).json()
    assert (state["state"], state["result"]) == ("done", "/requests/mine/result")
    assert (await result(server, "mine")).content == direct.content  # as often as one likes


async def test_the_server_makes_an_id_for_who_has_none(server: Server) -> None:
    taken = await post(server)
    assert taken.headers["location"] == f"/requests/{taken.json()['id']}"
    assert (await result(server, taken.json()["id"])).status_code == 200


async def test_the_picture_has_an_etag(server: Server) -> None:
    await post(server, x_request_id="mine")
    etag = (await result(server, "mine")).headers["etag"]
    again = await result(server, "mine", if_none_match=etag)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag


async def test_who_prefers_to_wait_gets_the_picture_at_once(server: Server) -> None:
    answer = await post(server, prefer="respond-async, wait=20", x_request_id="mine")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["preference-applied"] == "respond-async"
    assert (await result(server, "mine")).content == answer.content


async def test_who_waits_in_vain_is_told_where_it_will_be(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path, fake("slow", step_s=1)) as server:
        taken = await post(server, "slow", prefer="wait=1, respond-async", x_request_id="mine")
        assert (taken.status_code, taken.json()["state"]) == (202, "running")
        early = await result(server, "mine", wait=0)
        assert problem_of(early) == (409, "unfinished", "Request mine is not done yet")
        assert early.headers["retry-after"] == "1"
        waiting = asyncio.create_task(result(server, "mine"))
        state = asyncio.create_task(
            server.client.get("/requests/mine", headers={"prefer": "wait=20"})
        )
        await asyncio.sleep(0.02)
        gate.open()
        assert (await waiting).status_code == 200
        assert (await state).json()["state"] == "done"


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b'{"inputs": "%s", "parameters": {"strength": 7}}', 422, "validation"),
    ],
)
async def test_what_can_be_seen_at_once_is_refused_at_once(
    server: Server, body: bytes, status: int, kind: str
) -> None:
    body = body.replace(b"%s", text(picture()).encode())
    headers = {**ASYNC, "x-request-id": "mine"}
    refused = await server.client.post("/models/echo", content=body, headers=headers)
    assert problem_of(refused)[:2] == (status, kind)
    # The same is told to who asks later.
    assert problem_of(await result(server, "mine")) == problem_of(refused)
    assert names(await heard(listen(server, "mine"))) == ["failed"]


async def test_what_fails_later_is_told_in_place_of_the_picture(server: Server) -> None:
    headers = {**ASYNC, "x-request-id": "mine"}
    taken = await server.client.post("/models/echo", content=b"no picture", headers=headers)
    assert taken.status_code == 202
    failed = await result(server, "mine")
    assert problem_of(failed)[:2] == (400, "image")
    state = (await server.client.get("/requests/mine")).json()
    assert (state["state"], state["error"]["status"]) == ("failed", 400)


async def test_the_detail_of_a_crash_is_logged_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, fake("sick", fail="crash")) as server:
        await post(server, "sick", x_request_id="mine")
        failed = await result(server, "mine")
    assert problem_of(failed) == (500, "backend", "The model failed; the server's log says why")
    (line,) = [r for r in caplog.records if r.name == "calotype.api.problems"]
    assert line.levelno == logging.ERROR


async def test_a_job_is_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        await post(server, "slow", x_request_id="mine")
        await in_work(server, "slow")
        gone = await server.client.delete("/requests/mine")
        assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")
        assert jobs() == 0
        assert problem_of(await result(server, "mine"))[:2] == (409, "cancelled")
        assert (await server.client.delete("/requests/mine")).status_code == 204
        assert (await result(server, "mine")).status_code == 404


async def test_operators_cancel_jobs_too(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        await post(server, "slow", x_request_id="mine")
        await in_work(server, "slow")
        assert (await command(server, "/requests/mine/cancel")).json()["cancelled"] == 1
        told = problem_of(await result(server, "mine"))
        assert told == (409, "cancelled", "the request was cancelled by an operator")


async def test_a_done_job_is_forgotten_on_request(server: Server) -> None:
    await post(server, x_request_id="mine", prefer="respond-async, wait=20")
    assert (await server.client.delete("/requests/mine")).status_code == 204
    assert (await server.client.get("/requests/mine")).status_code == 404
    assert (await post(server, x_request_id="mine")).status_code == 202  # its id is free again


async def test_an_id_is_taken_once(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), ECHO) as server:
        await post(server, "slow", x_request_id="mine")
        again = await post(server, "slow", x_request_id="mine")
        assert problem_of(again)[:2] == (409, "conflict")
        # A request that somebody holds a connection for hides no job.
        await in_work(server, "slow")
        direct = asyncio.create_task(server.run("slow", picture(seed=1), {"x-request-id": "mine"}))
        await until(lambda: _jobs(2))
        assert (await server.client.get("/requests/mine")).json()["job"] is True
        await command(server, "/requests/mine/cancel")
        assert (await direct).status_code == 409


async def _jobs(number: int) -> bool:
    return jobs() == number


async def test_there_are_only_so_many_jobs(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), queue_size=1) as server:
        await post(server, "slow", x_request_id="mine")
        busy = await post(server, "slow", 1)
        assert problem_of(busy)[:2] == (429, "overloaded")
        assert int(busy.headers["retry-after"]) >= 1
        await server.client.delete("/requests/mine")
        assert (await post(server, "slow", 1, x_request_id="next")).status_code == 202
        await server.client.delete("/requests/next")


async def test_a_token_may_have_half_of_the_jobs(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), queue_size=2) as server:
        mine, yours = await bearers(server, "a", "b")
        assert (await post(server, "slow", 1, x_request_id="mine", token=mine)).status_code == 202
        refused = await post(server, "slow", 2, token=mine)
        assert problem_of(refused)[:2] == (429, "overloaded")
        assert (await post(server, "slow", 3, x_request_id="yours", token=yours)).status_code == 202
        for name, token in (("mine", mine), ("yours", yours)):
            gone = await server.client.delete(f"/requests/{name}", headers=token)
            assert gone.status_code == 200


async def test_a_job_has_more_time_than_a_request(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), deadline_s=0.2) as server:
        assert (await server.run("slow")).status_code == 504
        await post(server, "slow", x_request_id="mine")
        await asyncio.sleep(0.4)
        assert (await server.client.get("/requests/mine")).json()["state"] == "running"
        await server.client.delete("/requests/mine")
        await post(server, "slow", x_request_id="short", x_deadline_ms="100")
        assert problem_of(await result(server, "short"))[:2] == (504, "timeout")


async def test_a_job_goes_on_when_its_client_has_left(tmp_path: Path, gate: Gate) -> None:
    """The connection breaks while it waits for the first answer."""
    async with serving(tmp_path, fake("slow", step_s=1)) as server:
        line = Line(picture())
        told = {"x_request_id": "mine", "prefer": "respond-async, wait=60"}
        posting = line.post(server, "/models/slow", **told)
        await gate.reached()
        line.left.set()
        await asyncio.wait_for(posting, SOON_S)
        assert line.sent == []
        assert (await server.client.get("/requests/mine")).json()["state"] == "running"
        gate.open()
        assert (await result(server, "mine")).status_code == 200


async def test_a_picture_is_kept_while_there_is_room(tmp_path: Path) -> None:
    size = len(await _answer(tmp_path / "a"))
    async with serving(tmp_path / "b", ECHO, result_bytes=2 * size + size // 2) as server:
        for seed in range(3):
            await post(server, seed=seed, x_request_id=f"job-{seed}", prefer="respond-async,wait=9")
        gone = problem_of(await result(server, "job-0"))
        assert gone == (410, "gone", "the picture of request job-0 is not kept any more")
        assert (await server.client.get("/requests/job-0")).json()["result"] is None
        assert (await result(server, "job-1")).status_code == 200
        assert (await result(server, "job-2")).status_code == 200


async def _answer(folder: Path) -> bytes:
    async with serving(folder, ECHO) as server:
        return (await server.run("echo")).content


async def test_a_job_is_kept_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path, ECHO, result_s=1) as server:
        await post(server, x_request_id="mine", prefer="respond-async, wait=9")
        assert (await server.client.get("/requests/mine")).json()["expires_in_s"] <= 1
        kept = archive.Archive.find

        def later(self: archive.Archive, owner: str, request_id: str) -> object:
            self._keep_s = 0
            return kept(self, owner, request_id)

        monkeypatch.setattr(archive.Archive, "find", later)
        assert (await server.client.get("/requests/mine")).status_code == 404


async def test_jobs_need_tokens_where_there_are_some(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), ECHO) as server:
        secret = server.tokens.create("a", models=["test/echo"])
        await tokens_seen()
        mine = {"authorization": f"Bearer {secret}"}
        assert (await post(server, x_request_id="mine")).status_code == 401
        assert (await post(server, "slow", x_request_id="mine", token=mine)).status_code == 403
        assert (await post(server, "echo", x_request_id="mine", token=mine)).status_code == 202
        assert (await result(server, "mine")).status_code == 401
        assert (await result(server, "mine", token=mine)).status_code == 200


async def test_the_end_of_the_server_ends_jobs(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        await post(server, "slow", x_request_id="mine")
        await in_work(server, "slow")
        reading = listen(server, "mine")
        await server.services.stop()
        events = await heard(reading)
    assert names(events)[-1] == "failed"
    assert events[-1].document["error"]["error_type"] == "shutting_down"


async def test_a_draining_server_takes_no_jobs(server: Server) -> None:
    server.services.refuse()
    assert problem_of(await post(server))[:2] == (503, "shutting_down")


async def test_a_job_may_be_answered_from_the_cache(server: Server) -> None:
    await server.run("echo")
    answer = await post(server, prefer="respond-async, wait=9", x_request_id="mine")
    assert answer.headers["x-cache"] == "hit"


async def test_a_preference_without_meaning_is_ignored(server: Server) -> None:
    for prefer in ("", "wait=soon", "return=minimal; x, =", 'wait="1"', "ünknown".encode().hex()):
        answer = await server.client.post(
            "/models/echo", content=picture(), headers={"prefer": prefer}
        )
        assert answer.status_code == 200


async def test_strict_jobs_refuse_what_is_ignored(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", STRENGTH)) as server:
        body = {"inputs": text(picture()), "parameters": {"prompt": "x"}}
        headers = {**ASYNC, "x-strict": "true"}
        refused = await server.client.post("/models/slow", json=body, headers=headers)
        assert problem_of(refused)[:2] == (422, "validation")


# What once went wrong


async def test_a_refused_job_leaves_its_id_free(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), ECHO, queue_size=1) as server:
        await post(server, "slow", x_request_id="first")
        assert (await post(server, seed=1, x_request_id="mine")).status_code == 429
        await server.client.delete("/requests/first")
        headers = {**ASYNC, "x-request-id": "mine"}
        refused = await server.client.post("/models/echo", content=b"{", headers=headers)
        assert refused.status_code == 400
        assert (await post(server, x_request_id="mine")).status_code == 202
        assert (await result(server, "mine")).status_code == 200


async def test_uploads_that_end_together_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), queue_size=2) as server:
        ready = asyncio.Event()

        async def body(seed: int) -> AsyncIterator[bytes]:
            whole = picture(seed=seed)
            yield whole[:50]
            await ready.wait()
            yield whole[50:]

        sending = [
            asyncio.create_task(
                server.client.post("/models/slow", content=body(seed), headers=ASYNC)
            )
            for seed in range(5)
        ]
        await asyncio.sleep(0.05)
        ready.set()
        answers = await asyncio.gather(*sending)
        assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429]
        for answer in answers:
            if answer.status_code == 202:
                await server.client.delete(answer.headers["location"])


async def test_a_plain_request_of_its_id_takes_no_job_s_picture_away(server: Server) -> None:
    await post(server, x_request_id="mine", prefer="respond-async, wait=9")
    headers = {"x-request-id": "mine"}
    assert (await server.client.post("/models/echo", content=b"{", headers=headers)).is_error
    assert (await result(server, "mine")).status_code == 200


async def test_the_result_of_a_request_whose_client_left_is_an_answer(server: Server) -> None:
    for prefer in ("", "respond-async"):
        name = f"left{len(prefer)}"
        line = Line(b"half", whole=False)
        line.left.set()
        await line.post(server, "/models/echo", x_request_id=name, prefer=prefer)
        assert line.sent == []
        told = problem_of(await result(server, name))
        assert told == (409, "cancelled", "the client left")


async def test_a_picture_too_large_to_be_kept_is_answered_to_who_waits(tmp_path: Path) -> None:
    async with serving(tmp_path, ECHO, result_bytes=0) as server:
        answer = await post(server, x_request_id="mine", prefer="respond-async, wait=9")
        assert answer.headers["content-type"] == "image/png"
        assert (await result(server, "mine")).status_code == 410


async def test_a_job_waits_for_its_model(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", load_s=0.3), hold_s=0) as server:
        await post(server, "slow", x_request_id="mine")
        assert (await result(server, "mine")).status_code == 200


async def test_a_job_that_does_not_wait_is_told_when_to_come_back(
    tmp_path: Path, gate: Gate
) -> None:
    async with serving(tmp_path, fake("slow", load_s=1), hold_s=0) as server:
        await post(server, "slow", x_request_id="mine", x_wait_for_model="false")
        failed = await result(server, "mine")
        assert problem_of(failed)[:2] == (503, "loading")
        assert failed.json()["estimated_time"] > 0
        state = (await server.client.get("/requests/mine")).json()
        assert state["error"]["estimated_time"] == failed.json()["estimated_time"]
        gate.open()


async def test_a_picture_that_is_being_written_when_the_server_ends_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: Any) -> bytes:  # noqa: ANN401
        threading.Event().wait(0.5)
        return encode(*args)

    monkeypatch.setattr("calotype.codec.service.encode", slow)
    async with serving(tmp_path, ECHO, cache_disk_bytes=10**6) as server:
        await post(server, x_request_id="mine")
        await until(lambda: _is_encoding(server))
        server.services.refuse()
        assert await server.services.settle()  # the device is idle
    async with serving(tmp_path, ECHO, cache_disk_bytes=10**6) as server:
        assert (await server.run("echo")).headers["x-cache"] == "hit"


async def _is_encoding(server: Server) -> bool:
    state = (await server.client.get("/requests/mine")).json()["state"]
    return bool(state == "running") and jobs() == 0
