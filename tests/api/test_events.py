import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.events import heard, listen, names, parse
from api.server import (
    ECHO,
    LONG,
    SOON_S,
    Gate,
    Line,
    Server,
    bearers,
    begin,
    command,
    fake,
    in_work,
    picture,
    problem_of,
    serving,
    until,
)
from calotype.api import tracking
from calotype.api.header import UNCHOSEN

STEPS = fake("steps", steps=4, step_s=0.001)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only shortly for requests that have not come."""
    monkeypatch.setattr(tracking, "EARLY_S", 0.05)


async def test_events_come_in_order_and_end(tmp_path: Path) -> None:
    async with serving(tmp_path, STEPS) as server:
        reading = listen(server, "mine")
        await asyncio.sleep(0.02)  # it waits for a request that has not come
        assert (await begin(server, "mine", "steps")).status_code == 200
        events = await heard(reading)
    assert names(events)[0] == "received"
    assert names(events)[-1] == "done"
    order = ["received", "queued", "loading", "started", "progress", "done"]
    assert [name for name in order if name in names(events)] == list(dict.fromkeys(names(events)))
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers))
    last = events[-1].document
    assert last["id"] == "mine"
    assert (last["state"], last["model"], last["job"]) == ("done", "test/steps", False)
    assert last["result"] is None  # the client has it
    assert 3500 < last["expires_in_s"] <= 3600


async def test_loading_tells_how_long_and_progress_how_far(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path, fake("slow", load_s=1, steps=4, step_s=1)) as server:
        running = begin(server, "mine")
        reading = listen(server, "mine")
        await in_work(server, "slow", wanted="loading")
        state = (await server.client.get("/requests/mine")).json()
        assert state["state"] == "loading"
        assert state["estimated_time"] > 0
        gate.open()
        await running
        events = await heard(reading)
    assert {"loading", "started", "progress", "done"} <= set(names(events))
    progress = [event.document["progress"] for event in events if event.name == "progress"]
    assert progress[-1]["step"] == progress[-1]["total"] == 4
    assert progress[-1]["seconds_left"] == 0
    assert all(event.document["state"] == "running" for event in events if event.name == "progress")


async def test_who_waits_is_told_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG), ECHO) as server:
        await command(server, "/models/echo/load")
        first = begin(server, "first")
        await in_work(server, "slow")
        second, third = begin(server, "second", "echo", 1), None
        await in_work(server, "echo", 2)
        third = begin(server, "third", "echo", 2)
        await in_work(server, "echo", 3)
        places = [
            (await server.client.get(f"/requests/{name}")).json()["place"]
            for name in ("first", "second", "third")
        ]
        assert places == [None, 1, 2]
        reading = listen(server, "third")
        assert (await server.client.delete("/requests/second")).json()["state"] == "cancelled"
        assert (await server.client.get("/requests/third")).json()["place"] == 1
        await server.client.delete("/requests/first")
        assert (await third).status_code == 200
        assert (await first).status_code == (await second).status_code == 409
        assert names(await heard(reading))[-1] == "done"


async def test_who_comes_late_is_told_the_last(server: Server) -> None:
    await begin(server, "mine", "echo")
    (event,) = await heard(listen(server, "mine"))
    assert event.name == event.document["state"] == "done"
    assert (await server.client.get("/requests/mine")).json()["state"] == "done"


async def test_who_comes_back_is_told_what_it_missed_and_no_more(server: Server) -> None:
    await begin(server, "mine", "echo")
    (event,) = await heard(listen(server, "mine"))
    before = {"last-event-id": str(event.number - 1)}
    assert await heard(listen(server, "mine", before)) == [event]
    # What a browser does once a stream has ended; it stops at a 204.
    again = await listen(server, "mine", {"last-event-id": str(event.number)})
    assert (again.status_code, again.content) == (204, b"")
    assert len(await heard(listen(server, "mine", {"last-event-id": "nonsense"}))) == 1


@pytest.mark.parametrize(
    ("body", "status", "kind"), [(b"no picture", 400, "image"), (b"", 400, "malformed")]
)
async def test_failures_are_told(server: Server, body: bytes, status: int, kind: str) -> None:
    answer = await server.client.post("/models/echo", content=body, headers={"x-request-id": "a"})
    assert answer.status_code == status
    (event,) = await heard(listen(server, "a"))
    assert event.name == event.document["state"] == "failed"
    assert event.document["error"] == {
        "status": status,
        "error": answer.json()["error"],
        "error_type": kind,
    }


async def test_the_detail_of_a_crash_is_not_told(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("sick", fail="crash")) as server:
        assert (await begin(server, "mine", "sick")).status_code == 500
        (event,) = await heard(listen(server, "mine"))
    assert event.document["error"]["error"] == "The model failed; the server's log says why"


async def test_a_cancelled_request_is_told_and_answered(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        running, reading = begin(server, "mine"), listen(server, "mine")
        await in_work(server, "slow")
        gone = await server.client.delete("/requests/mine")
        assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")
        assert problem_of(await running) == (409, "cancelled", "the request was cancelled")
        events = await heard(reading)
        assert names(events)[-1] == "cancelled"
        assert events[-1].document["error"]["error_type"] == "cancelled"
        assert (await server.client.delete("/requests/mine")).status_code == 204  # forgets it
        assert (await server.client.get("/requests/mine")).status_code == 404


@pytest.mark.usefixtures("impatient")
async def test_a_request_that_never_comes_is_not_found(server: Server) -> None:
    for path in ("/requests/nobody", "/requests/nobody/events", "/requests/nobody/result"):
        found = problem_of(await server.client.get(path))
        assert found == (404, "unknown_request", "Request nobody is not known")
    assert (await server.client.delete("/requests/nobody")).status_code == 404


@pytest.mark.usefixtures("impatient")
async def test_an_id_that_a_proxy_of_ours_made_is_not_kept(server: Server) -> None:
    told = {"x-request-id": "made", UNCHOSEN.decode(): "1"}
    answer = await server.run("echo", headers=told)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "made")
    assert (await server.client.get("/requests/made")).status_code == 404


@pytest.mark.usefixtures("impatient")
async def test_a_request_without_an_id_of_its_own_is_not_kept(server: Server) -> None:
    made = (await server.run("echo")).headers["x-request-id"]
    assert (await server.client.get(f"/requests/{made}")).status_code == 404


@pytest.mark.usefixtures("impatient")
async def test_tokens_see_their_own_requests_only(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        secret = server.tokens.create("boss", scopes=("run", "admin"))
        mine, yours = await bearers(server, "a", "b")
        boss = {"authorization": f"Bearer {secret}"}
        running = begin(server, "mine", headers=mine)
        early = listen(server, "mine", yours)
        await until(lambda: _is(server, "/requests/mine", mine, 200))
        calls: list[Callable[[], Any]] = [
            lambda: server.client.get("/requests/mine", headers=yours),
            lambda: server.client.get("/requests/mine/result", headers=yours),
            lambda: server.client.get("/requests/mine/events", headers=yours),
            lambda: server.client.delete("/requests/mine", headers=yours),
            lambda: server.client.get("/requests/mine/events", headers=boss),
        ]
        for call in calls:
            assert problem_of(await call())[:2] == (404, "unknown_request")
        assert (await early).status_code == 404
        assert (await server.client.get("/requests/mine")).status_code == 401
        assert (await server.client.delete("/requests/mine", headers=mine)).status_code == 200
        assert (await running).status_code == 409


async def _is(server: Server, path: str, headers: dict[str, str], status: int) -> bool:
    return (await server.client.get(path, headers=headers)).status_code == status


async def test_equal_requests_are_all_told_of_the_one_that_runs(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path, fake("slow", steps=4, step_s=1)) as server:
        first = begin(server, "first")
        await gate.reached()
        second, reading = begin(server, "second"), listen(server, "second")
        await until(lambda: _state(server, "second", "running"))
        gate.open()
        answers = [await first, await second]
        assert [answer.headers["x-cache"] for answer in answers] == ["miss", "coalesced"]
        told = names(await heard(reading))
    assert "progress" in told
    assert told[-1] == "done"


async def _state(server: Server, name: str, wanted: str) -> bool:
    found = (await server.client.get(f"/requests/{name}")).json()
    return bool(found.get("state") == wanted)


async def test_the_stages_of_a_chain_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path, STEPS, ECHO) as server:
        reading = listen(server, "mine")
        await begin(server, "mine", "steps+echo+steps")
        events = await heard(reading)
    stages = [event.document["stage"] for event in events]
    assert list(dict.fromkeys(stages))[-2:] == ["echo", "steps#2"]
    steps = [event.document["progress"]["step"] for event in events if event.name == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 3000


async def test_a_reader_that_leaves_stops_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        running, reading = begin(server, "mine"), listen(server, "mine")
        await in_work(server, "slow")
        reading.cancel()
        await asyncio.wait((reading,))
        assert not running.done()
        await server.client.delete("/requests/mine")
        assert (await running).status_code == 409


async def test_there_are_only_so_many_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "MAX_STREAMS", 1)
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        running, reading = begin(server, "mine"), listen(server, "mine")
        await in_work(server, "slow")
        assert problem_of(await listen(server, "mine"))[:2] == (429, "overloaded")
        await server.client.delete("/requests/mine")
        await running
        assert names(await heard(reading))[-1] == "cancelled"
        assert names(await heard(listen(server, "mine"))) == ["cancelled"]


async def test_a_silent_stream_says_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr(tracking, "HEARTBEAT_S", 0.01)
    async with serving(tmp_path, fake("slow", step_s=1)) as server:
        running, reading = begin(server, "mine"), listen(server, "mine")
        await gate.reached()
        await asyncio.sleep(0.1)
        gate.open()
        await running
        text = (await asyncio.wait_for(reading, SOON_S)).text
    assert text.count(": still here\n\n") >= 2
    assert parse(text)[-1].name == "done"


async def test_head_of_a_stream_has_no_body(server: Server) -> None:
    await begin(server, "mine", "echo")
    head = await server.client.head("/requests/mine/events")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_request_that_left_is_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        line = Line(picture())
        serving_it = line.post(server, "/models/slow", x_request_id="mine")
        await in_work(server, "slow")
        line.left.set()
        await asyncio.wait_for(serving_it, SOON_S)
        assert line.sent == []
        # Over a network it isn't known yet that the client left: this waits for the end.
        found = (await server.client.get("/requests/mine", headers={"prefer": "wait=20"})).json()
    assert (found["state"], found["error"]["error"]) == ("cancelled", "the client left")


# What once went wrong


async def test_a_number_of_an_earlier_request_hides_nothing(server: Server) -> None:
    await begin(server, "mine", "echo")
    (event,) = await heard(listen(server, "mine", {"last-event-id": "999"}))
    assert event.name == "done"


async def test_who_waits_for_a_request_counts_as_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "MAX_STREAMS", 20)
    async with serving(tmp_path) as server:
        mine, yours = await bearers(server, "a", "b")
        early = [listen(server, "mine", mine) for _ in range(2)]
        await asyncio.sleep(0.05)
        # A tenth of all is what one token may have; others have their own.
        assert problem_of(await listen(server, "mine", mine))[:2] == (429, "overloaded")
        await begin(server, "mine", "echo", headers=mine)
        assert [names(await heard(one))[-1] for one in early] == ["done", "done"]
        await begin(server, "yours", "echo", headers=yours)
        assert names(await heard(listen(server, "yours", yours))) == ["done"]
        assert names(await heard(listen(server, "mine", mine))) == ["done"]


@pytest.mark.parametrize("name", ["a%20b", "x" * 129, "%C3%A9", "a;b"])
async def test_ids_that_cannot_be_are_not_waited_for(server: Server, name: str) -> None:
    found = await asyncio.wait_for(server.client.get(f"/requests/{name}/events"), 5)
    assert problem_of(found)[:2] == (404, "unknown_request")


async def test_a_request_whose_id_the_server_made_is_not_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, fake("slow", **LONG)) as server:
        made = "made-by-the-server"
        monkeypatch.setattr("calotype.api.exchange.secrets.token_hex", lambda _: made)
        running = asyncio.create_task(server.run("slow"))
        await in_work(server, "slow")
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/result")):
            found = await server.client.request(method, f"/requests/{made}{path}")
            assert problem_of(found)[:2] == (404, "unknown_request")
        assert (await command(server, f"/requests/{made}/cancel")).status_code == 200
        assert (await running).status_code == 409
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_who_joins_a_chain_is_told_its_stage(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path, fake("slow", steps=2, step_s=1), ECHO) as server:
        first = begin(server, "first", "slow+echo")
        await gate.reached()
        second = begin(server, "second", "slow+echo")
        await until(lambda: _state(server, "second", "running"))
        assert (await server.client.get("/requests/second")).json()["stage"] == "slow"
        gate.open()
        assert (await first).content == (await second).content
