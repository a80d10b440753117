import dataclasses
import json
from typing import Any

import pytest

from calotype.domain.chain import Chain
from calotype.domain.event import Entered, Event, Progress, Started
from calotype.domain.hooks import Hooks
from calotype.domain.image import Size
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.params import shown
from calotype.domain.plan import Plan, Planner, plan_stages
from calotype.domain.request import Outcome, Stage
from calotype.domain.seed import choose_seed, seeded
from calotype.domain.stage import Run, naming, stage_hooks, summed
from calotype.errors import InvalidParameterError, ModelCrashedError, QueueFullError

SCALE = ParamSpec(name="scale", type="integer", help="", choices=(2, 3, 4), default=4)
STRENGTH = ParamSpec(name="strength", type="number", help="", minimum=0, maximum=1)
STYLE = ParamSpec(name="style", type="string", help="")
SEED = ParamSpec(name="seed", type="integer", help="")
MASK = ParamSpec(name="mask_image", type="image", help="")

UP = ModelSpec(id="acme/up", alias="up", backend="fake", revision="1", params=(SCALE, STRENGTH))
PAINT = ModelSpec(
    id="acme/paint", alias="style", backend="fake", revision="1", params=(STYLE, STRENGTH, SEED)
)
FILL = ModelSpec(id="acme/fill", backend="fake", revision="1", params=(MASK, SEED))
SIZE = {"width": 8, "height": 6}


def plan(*models: ModelSpec, strict: bool = False, **raw: Any) -> Plan:  # noqa: ANN401
    return plan_stages(Chain(models), raw, strict=strict)


def only(name: str, **raw: object) -> dict[str, Any]:
    """Say parameters to one stage."""
    return {name: raw}


def value(found: Plan, name: str) -> list[object]:
    return [stage.values.get(name) for stage in found.stages]


def refusal(*models: ModelSpec, strict: bool = False, raw: dict[str, object]) -> str:
    with pytest.raises(InvalidParameterError) as caught:
        plan_stages(Chain(models), raw, strict=strict)
    return str(caught.value)


def test_a_parameter_goes_to_every_stage_that_takes_it() -> None:
    found = plan(UP, PAINT, FILL, strength=0.5, mask_image=b"x", strict=True)
    assert value(found, "strength") == [0.5, 0.5, None]
    assert value(found, "mask_image") == [None, None, b"x"]


@pytest.mark.parametrize("name", ["up", "acme/up", "up#1"])
def test_a_stage_has_parameters_of_its_own_which_win(name: str) -> None:
    found = plan(UP, PAINT, strength=0.5, **only(name, strength=0.25, scale=2))
    assert value(found, "strength") == [0.25, 0.5]
    assert value(found, "scale") == [2, None]
    assert found.warnings == ()


def test_a_number_tells_the_same_model_apart() -> None:
    found = plan(UP, PAINT, UP, up={"scale": 3, "strength": 1}, **only("up#2", scale=2))
    assert value(found, "scale") == [3, None, 2]
    assert value(found, "strength") == [1.0, None, 1.0]


def test_a_stage_may_be_called_like_a_parameter() -> None:
    assert value(plan(UP, PAINT, style="neon"), "style") == [None, "neon"]
    assert value(plan(UP, PAINT, style={"style": "neon"}), "style") == [None, "neon"]
    both = plan(UP, PAINT, style="neon", **only("style#1", strength=0.1))
    assert (value(both, "style"), value(both, "strength")) == ([None, "neon"], [None, 0.1])


@pytest.mark.parametrize("raw", [{"target_size": SIZE}, SIZE])
def test_size_and_format_are_the_results(raw: dict[str, Any]) -> None:
    found = plan(UP, PAINT, output_format="png", strict=True, **raw)
    assert value(found, "target_size") == [None, Size(height_px=6, width_px=8)]
    assert value(found, "output_format") == [None, "png"]


def test_a_stage_has_a_size_of_its_own() -> None:
    mid: dict[str, Any] = {"width": 4, "height": 3}
    found = plan(UP, PAINT, up={"target_size": mid}, style={"target_size": SIZE}, **mid)
    assert value(found, "target_size") == [
        Size(height_px=3, width_px=4), Size(height_px=6, width_px=8)
    ]  # fmt: skip


def test_only_the_last_stage_writes_a_file() -> None:
    found = plan(UP, PAINT, up={"output_format": "png"})
    assert found.warnings == (
        "parameters; up.output_format was ignored: only the last stage writes a file",
    )
    said = refusal(UP, PAINT, strict=True, raw={"up": {"output_format": "png"}})
    assert said == "up.output_format is refused: only the last stage writes a file"


def test_wrong_values_name_stage_and_parameter() -> None:
    expected = "up.scale must be one of 2, 3, 4, got 7"
    assert refusal(PAINT, UP, raw={"up": {"scale": 7}}) == expected
    assert refusal(PAINT, UP, raw={"scale": 7}) == expected
    assert refusal(UP, UP, raw={"up#2": {"scale": 7}}).startswith("up#2.scale must be")
    assert refusal(PAINT, UP, raw={"up": 3}) == (
        "up must be an object with parameters of that stage, got 3"
    )
    assert refusal(PAINT, UP, raw={"up": {}, "acme/up": {}}) == (
        "acme/up and up name the same stage: send one"
    )


def test_what_no_stage_takes_is_told() -> None:
    found = plan(UP, FILL, prompt="x", xyz=1, up={"prompt": "y"}, **only("up#2", scale=2))
    assert found.warnings == (
        "parameters; prompt was ignored: up+acme/fill takes no prompt",
        "parameters; xyz was ignored: not a parameter of Calotype",
        "parameters; up#2 was ignored: not a parameter of Calotype; did you mean up?",
        "parameters; up.prompt was ignored: up takes no prompt",
    )
    assert refusal(UP, FILL, strict=True, raw={"prompt": "x"}) == (
        "prompt is refused: up+acme/fill takes no prompt"
    )
    assert refusal(UP, FILL, strict=True, raw={"up": {"prompt": "x"}}) == (
        "up.prompt is refused: up takes no prompt"
    )


def test_warnings_are_bounded_together() -> None:
    tables: dict[str, Any] = {f"up#{n}": {f"p{i}": 1 for i in range(15)} for n in (1, 2)}
    found = plan(UP, UP, **tables)
    assert len(found.warnings) == 21
    assert found.warnings[-1] == "parameters; and 10 more were ignored"


def test_null_is_not_given() -> None:
    found = plan(UP, PAINT, up=None, strength=0.5, style={"strength": None}, strict=True)
    assert value(found, "strength") == [0.5, 0.5]


def test_all_stages_that_draw_share_one_seed() -> None:
    drawn = plan(PAINT, UP, FILL).stages
    seed = choose_seed(drawn)
    assert [stage.values.get("seed") for stage in seeded(drawn, seed)] == [seed, None, seed]
    one = plan(PAINT, FILL, style={"seed": 5}).stages
    other = choose_seed(one)
    assert [stage.values["seed"] for stage in seeded(one, other)] == [5, other]
    assert choose_seed(plan(PAINT, FILL, seed=9).stages) == 9
    assert choose_seed(plan(UP, UP).stages) is None


def test_what_was_used_is_shown_by_stage() -> None:
    found = plan(UP, UP, PAINT, output_format="png", **only("up#2", scale=2))
    assert json.loads(shown(found.stages)) == {
        "up#1": {"scale": 4}, "up#2": {"scale": 2}, "style": {"output_format": "png"}
    }  # fmt: skip


def test_progress_goes_over_all_stages() -> None:
    seen: list[tuple[int, int]] = []
    hooks = Hooks(lambda done, total: seen.append((done, total)))
    for index, total in enumerate((1, 4)):
        with stage_hooks(hooks, f"s{index}", index, 2) as own:
            for done in range(total + 1):
                own.step(done, total)
    assert seen == [
        (0, 2000), (1000, 2000),
        (1000, 2000), (1250, 2000), (1500, 2000), (1750, 2000), (2000, 2000),
    ]  # fmt: skip


def test_what_happens_in_a_stage_is_told_after_its_name() -> None:
    heard: list[Event] = []
    hooks = Hooks(on_event=heard.append)
    for index, label in enumerate(("up", "style")):
        with stage_hooks(hooks, label, index, 2) as own:
            own.happened(Started())
            own.report(1, 2)
    assert heard == [
        Entered("up"), Started(), Progress(500, 2000),
        Entered("style"), Started(), Progress(1500, 2000),
    ]  # fmt: skip


def test_who_cancels_the_request_cancels_its_stage() -> None:
    hooks = Hooks()
    with stage_hooks(hooks, "a", 0, 2) as own:
        hooks.cancel()
        assert own.cancelled
    with stage_hooks(hooks, "b", 1, 2) as own:
        assert own.cancelled, "a stage that begins after that"


def test_the_hooks_of_a_model_alone_are_the_requests() -> None:
    hooks = Hooks()
    with stage_hooks(hooks, "", 0, 1) as own:
        assert own is hooks


def test_errors_name_their_stage_once() -> None:
    up = Stage(model=UP, values={}, label="up")
    with (
        pytest.raises(ModelCrashedError, match=r"^up: broken$") as caught,
        naming(Stage(model=PAINT, values={}, label="style")),
        naming(up),
    ):
        raise ModelCrashedError("broken")
    assert caught.value.stage == "up"
    with pytest.raises(QueueFullError, match=r"^busy$"), naming(up):
        raise QueueFullError("busy")
    with pytest.raises(ModelCrashedError, match=r"^broken$"), naming(Stage(model=UP, values={})):
        raise ModelCrashedError("broken")


def test_times_add_up_and_notes_name_their_stage() -> None:
    image: Any = object()
    first = Outcome(image=image, queue_s=1, inference_s=2, batch_size=3, device="gpu")
    last = Outcome(image=image, queue_s=10, inference_s=20)
    whole = summed(
        plan(FILL, PAINT).stages,
        [
            Run(outcome=first, notes=("size; resized",), facts={"safety": "passed"}),
            Run(outcome=last, notes=("odd",), facts={"safety": "flagged", "x": "1"}),
        ],
    )
    assert whole.outcome == Outcome(
        image=image, queue_s=11, inference_s=22, batch_size=3, device="gpu"
    )
    assert whole.notes == ("size; acme/fill: resized", "style: odd")
    assert whole.facts == {"safety": "acme/fill=passed, style=flagged", "x": "style=1"}


def test_plans_without_parameters_are_made_once_a_model() -> None:
    planner = Planner()
    first = planner.plan(Chain((UP,)), {})
    assert first == plan_stages(Chain((UP,)), {})
    assert planner.plan(Chain((UP,)), {}, strict=True) is first
    assert planner.plan(Chain((UP,)), {"scale": 2}).last.values["scale"] == 2
    assert planner.plan(Chain((UP,)), {}).last.values["scale"] == 4
    newer = dataclasses.replace(UP, params=(dataclasses.replace(SCALE, default=3),))
    assert planner.plan(Chain((newer,)), {}).last.values["scale"] == 3
    assert planner.plan(Chain((UP, PAINT)), {}) == plan_stages(Chain((UP, PAINT)), {})


def test_what_is_required_is_missed_every_time() -> None:
    planner = Planner()
    needs = dataclasses.replace(FILL, params=(dataclasses.replace(MASK, required=True),))
    for _ in range(2):
        with pytest.raises(InvalidParameterError, match="mask_image is required"):
            planner.plan(Chain((needs,)), {})


def test_a_plan_that_strict_would_refuse_is_not_remembered() -> None:
    blend = ParamSpec(name="style", type="blend", help="", choices=("a", "b"), default="a:1,b:1")
    mixed = dataclasses.replace(UP, params=(blend,))
    planner = Planner()
    assert planner.plan(Chain((mixed,)), {}).warnings
    with pytest.raises(InvalidParameterError):
        planner.plan(Chain((mixed,)), {}, strict=True)
