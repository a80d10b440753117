import asyncio
from dataclasses import replace

import pytest

from calotype.api.series import draws, joined, run_all, share_hooks, with_seeds
from calotype.domain.chain import Chain
from calotype.domain.event import Event, Loading, Preview, Progress, Queued, Started
from calotype.domain.hooks import Hooks
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.request import ImageRequest, ImageResponse
from calotype.errors import BadImageError

SEED = ParamSpec(name="seed", type="integer", help="")
PLAIN = ModelSpec(id="test/plain", alias="plain", backend="fake", revision="1")
DRAW = ModelSpec(id="test/draw", alias="draw", backend="fake", revision="1", params=(SEED,))
NARROW = replace(DRAW, id="test/n", alias="n", params=(replace(SEED, minimum=5, maximum=6),))
RESPONSE = ImageResponse(body=b"", format="png", etag="", model=DRAW, cache="miss", stages=())


def test_who_draws() -> None:
    assert [draws(Chain(models)) for models in ((PLAIN,), (DRAW,), (PLAIN, DRAW))] == [
        False,
        True,
        True,
    ]


def test_one_picture_keeps_its_parameters() -> None:
    assert with_seeds(Chain((PLAIN,)), {"a": 1}, 1) == [{"a": 1}]
    assert with_seeds(Chain((DRAW,)), {"seed": None}, 1) == [{"seed": None}]


@pytest.mark.parametrize("seed", [-1, 2**63, "7", True, 0.5, [1], float("nan"), float("inf")])
def test_a_seed_that_is_no_good_is_left_to_the_pipeline(seed: object) -> None:
    first, second = with_seeds(Chain((DRAW,)), {"seed": seed}, 2)
    assert first["seed"] is seed
    assert second["seed"] is seed


def test_seeds_within_the_range_of_every_stage() -> None:
    chain = Chain((DRAW, NARROW))
    assert [one["seed"] for one in with_seeds(chain, {"seed": 6}, 3)] == [6, 5, 6]
    drawn = with_seeds(chain, {}, 2)
    assert {one["seed"] for one in drawn} == {5, 6}


def test_stages_with_seeds_of_their_own() -> None:
    parameters = {"draw": {"seed": 3, "x": 1}, "n": {"x": 2}, "seed": 5}
    second = with_seeds(Chain((DRAW, NARROW)), parameters, 2)[1]
    assert second == {"draw": {"seed": 3, "x": 1}, "n": {"x": 2}, "seed": 6}
    second = with_seeds(Chain((DRAW, PLAIN)), {"draw": {"seed": 3}}, 2)[1]
    assert second["draw"] == {"seed": 4}


def told(count: int, *events: tuple[int, Event]) -> list[Event]:
    heard: list[Event] = []
    hooks = share_hooks(Hooks(on_event=heard.append), count)
    for number, event in events:
        hooks[number].happened(event)
    return heard


def test_the_hooks_of_one_picture_are_its_own() -> None:
    hooks = Hooks()
    assert share_hooks(hooks, 1) == [hooks]


def test_progress_is_that_of_all() -> None:
    heard = told(
        2, (0, Progress(1, 4)), (1, Progress(1, 2)), (0, Progress(4, 4)), (1, Progress(0, 0))
    )
    assert heard == [Progress(n, 2000) for n in (250, 750, 1500, 1000)]


def test_once_one_is_at_work_nothing_waits() -> None:
    events: list[tuple[int, Event]] = [
        (0, Loading(1.0)),
        (1, Queued(2)),
        (0, Started()),
        (1, Queued(1)),
        (1, Started()),
    ]
    assert told(2, *events) == [Loading(1.0), Queued(2), Started()]


def test_what_is_shown_is_the_first_picture() -> None:
    heard = told(2, (0, Preview(b"a")), (1, Preview(b"b")))
    assert heard == [Preview(b"a")]


async def test_the_first_error_stops_the_rest() -> None:
    ended: list[str] = []

    async def run(request: ImageRequest) -> ImageResponse:
        try:
            if request.upload == b"bad":
                raise BadImageError("no")
            await asyncio.sleep(30 if request.upload == b"long" else 0)
        finally:
            ended.append(request.upload.decode())
        return RESPONSE

    def requests(*uploads: bytes) -> list[ImageRequest]:
        return [ImageRequest(model_id="", upload=upload) for upload in uploads]

    with pytest.raises(BadImageError):
        await run_all(run, requests(b"long", b"bad", b"bad"))
    assert ended == ["bad", "bad", "long"]
    assert await run_all(run, requests(b"")) == [RESPONSE]
    assert await run_all(run, requests(b"", b"")) == [RESPONSE, RESPONSE]


def test_what_is_said_of_all() -> None:
    first = replace(RESPONSE, seed=1, facts={"safety": "passed"}, warnings=("a", "b"), compute_s=1)
    second = replace(first, seed=2, facts={"safety": "flagged"}, warnings=("b", "c"), compute_s=2)
    whole = joined([first, replace(second, cache="hit")])
    assert whole.facts == {"safety": "passed, flagged"}
    assert whole.warnings == ("a", "b", "c")
    assert (whole.seed, whole.cache, whole.compute_s) == (None, "miss", 2)
    assert joined([first]) is first
