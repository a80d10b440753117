import dataclasses

import pytest

from calotype.catalog.schema import load_catalog_file
from calotype.domain.model import ModelSpec
from calotype.domain.placement import (
    Bounds,
    Deployment,
    Placement,
    plan_deployments,
    read_bounds,
)
from calotype.errors import InvalidSettingError

KEYS = ", ".join(field.name for field in dataclasses.fields(Placement))


def model(id: str, alias: str = "", **cluster: str | float) -> ModelSpec:
    return ModelSpec(id=id, alias=alias, backend="fake", revision="", cluster=cluster)


A, B, C = model("org/a", "a"), model("org/b", "b"), model("org/c")


def plan(text: str, *models: ModelSpec) -> dict[str, Deployment]:
    return {one.name: one for one in plan_deployments(models or (A, B, C), text)}


def named(text: str, *models: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Return which models each deployment has."""
    found = plan(text, *models).items()
    return {name: tuple(spec.id for spec in one.models) for name, one in found}


# Who runs where.


@pytest.mark.parametrize("text", ["", "  ", ";", "*: replicas=1"])
def test_models_that_no_entry_names_share_replicas(text: str) -> None:
    assert named(text) == {"models": ("org/a", "org/b", "org/c")}


def test_an_entry_gives_its_model_a_deployment_of_its_own() -> None:
    assert named("a: replicas=2") == {"model-a": ("org/a",), "models": ("org/b", "org/c")}


def test_a_name_alone_is_an_entry() -> None:
    assert named("a; org/c") == {
        "model-a": ("org/a",),
        "model-org-c": ("org/c",),
        "models": ("org/b",),
    }


def test_models_of_one_entry_share_its_replicas() -> None:
    assert named("b, org/c: gpus=1") == {"model-b": ("org/b", "org/c"), "models": ("org/a",)}


def test_no_deployment_is_left_for_nobody() -> None:
    assert named("a, b, org/c") == {"model-a": ("org/a", "org/b", "org/c")}


# What each gets.


def test_every_number_of_an_entry() -> None:
    text = "a: replicas=1-4 cpus=2 gpus=0.5 ongoing=3 target=1.5 up_s=1 down_s=600"
    assert plan(text)["model-a"].placement == Placement(
        replicas=Bounds(least=1, most=4),
        cpus=2,
        gpus=0.5,
        ongoing=3,
        target=1.5,
        up_s=1,
        down_s=600,
    )


def test_the_star_holds_for_all_whatever_its_place() -> None:
    found = plan("a: cpus=2; *: cpus=1 ongoing=5; b")
    assert found["model-a"].placement == Placement(cpus=2, ongoing=5)
    assert found["model-b"].placement == found["models"].placement == Placement(cpus=1, ongoing=5)


def test_the_catalog_says_it_where_no_entry_does() -> None:
    own = model("org/own", "own", replicas="2-3", cpus=2)
    found = plan("*: ongoing=5", A, own)
    assert named("", A, own) == {"model-own": ("org/own",), "models": ("org/a",)}
    assert found["model-own"].placement == Placement(
        replicas=Bounds(least=2, most=3), cpus=2, ongoing=5
    )


def test_an_entry_beats_the_catalog_and_the_catalog_the_star() -> None:
    own = model("org/own", "own", cpus=2, gpus=1)
    found = plan("own: cpus=3; *: cpus=1 gpus=0", A, own)
    assert found["model-own"].placement == Placement(cpus=3, gpus=1)


def test_the_first_of_an_entry_tells_what_the_catalog_says() -> None:
    own = model("org/own", "own", cpus=2)
    assert plan("own, a", A, own)["model-own"].placement == Placement(cpus=2)
    assert plan("a, own", A, own)["model-a"].placement == Placement()


def test_a_table_of_a_catalog_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("catalog") / "catalog.toml"
    file.write_text(
        '[[model]]\nid = "org/own"\nbackend = "fake"\n'
        '[model.cluster]\nreplicas = "1-3"\ncpus = 2\nongoing = 4\n'
    )
    (spec,) = load_catalog_file(file)
    (one,) = plan_deployments([spec], "")
    assert one.name == "model-org-own"
    assert one.placement == Placement(replicas=Bounds(least=1, most=3), cpus=2, ongoing=4)


# What is refused, and what the message says.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (": cpus=1", "cluster_models must be NAME, NAME: KEY=VALUE ...; ..., got ': cpus=1'"),
        ("a: cpus", "cluster_models must be NAME, NAME: KEY=VALUE ...; ..., got 'a: cpus'"),
        ("a: cpus=", "cluster_models must be NAME, NAME: KEY=VALUE ...; ..., got 'a: cpus='"),
        ("nope: cpus=1", "cluster_models names 'nope', which is no model"),
        ("a: cores=1", f"cluster_models: a has the keys {KEYS}, got 'cores'"),
        ("*: cores=1", f"cluster_models: * has the keys {KEYS}, got 'cores'"),
        (
            "a: cpus=two",
            "cluster_models: a: cpus must be 0 or more (no part below 0.0001), got 'two'",
        ),
        (
            "a: cpus=nan",
            "cluster_models: a: cpus must be 0 or more (no part below 0.0001), got 'nan'",
        ),
        ("a: up_s=inf", "cluster_models: a: up_s must be a number, 0.001 or more, got 'inf'"),
        ("a: target=0", "cluster_models: a: target must be a number, 0.001 or more, got '0'"),
        ("a: ongoing=0", "cluster_models: a: ongoing must be a whole number above 0, got '0'"),
        (
            "a: replicas=3-1",
            "cluster_models: a: replicas must be a whole number above 0, or MIN-MAX with"
            " 0 <= MIN <= MAX and MAX above 0, got '3-1'",
        ),
        ("a; a", "cluster_models has 'model-a' twice"),
        ("a; b, a", "cluster_models has 'org/a' twice"),
        ("a; org/a", "cluster_models has 'model-a' twice"),
    ],
)
def test_an_entry_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InvalidSettingError) as raised:
        plan(text)
    assert str(raised.value) == said


def refusal(text: str, *models: ModelSpec) -> str:
    with pytest.raises(InvalidSettingError) as raised:
        plan(text, *models)
    return str(raised.value)


@pytest.mark.parametrize("key", ["cpus", "gpus"])
def test_a_part_that_is_too_small_for_ray(key: str) -> None:
    """It was a traceback from Ray."""
    said = refusal(f"a: {key}=0.00001")
    assert said.startswith(f"cluster_models: a: {key} must be 0 or more (no part below 0.0001")
    assert said.endswith(", got '0.00001'")
    assert getattr(plan(f"a: {key}=0.0001")["model-a"].placement, key) == 0.0001


def test_no_processors_are_what_is_meant_by_zero() -> None:
    """It said "above 0"."""
    said = "cluster_models: a: cpus must be 0 or more (no part below 0.0001), got '-1'"
    assert refusal("a: cpus=-1") == said
    assert plan("a: cpus=0")["model-a"].placement.cpus == 0


@pytest.mark.parametrize("gpus", ["1.5", "1.00001", "-1", "2.5"])
def test_several_gpus_are_whole(gpus: str) -> None:
    """1.5 was taken, and refused by Ray on the cluster."""
    assert refusal(f"a: gpus={gpus}") == (
        "cluster_models: a: gpus must be 0 or more (no part below 0.0001, and whole above 1),"
        f" got '{gpus}'"
    )


@pytest.mark.parametrize("gpus", [0, 0.5, 1, 2, 2.0])
def test_gpus_that_are_shared_or_whole(gpus: float) -> None:
    assert plan(f"a: gpus={gpus}")["model-a"].placement.gpus == gpus


def test_jobs_are_counted_in_whole_numbers() -> None:
    """It asked for "a number above 0"."""
    said = "cluster_models: a: ongoing must be a whole number above 0, got '2.5'"
    assert refusal("a: ongoing=2.5") == said


@pytest.mark.parametrize(
    "text",
    [
        "*: replicas=1; *: replicas=2",
        "*: cpus=1 replicas=1; *: replicas=2",
        "*: replicas=1; *: cpus=1",
        "a; *: cpus=1; *: cpus=2",
        # As `calotype cluster config --kuberay` makes it from the first.
        "*: cpus=4; *: replicas=1; *: replicas=2",
    ],
)
def test_the_rest_has_one_entry(text: str) -> None:
    """The last was taken."""
    assert refusal(text) == "cluster_models has '*' twice"


def test_what_pods_reserve_is_beaten_by_the_entry_for_the_rest() -> None:
    found = plan("*: cpus=4; a: gpus=1; *: cpus=1 ongoing=5")
    assert found["model-a"].placement == Placement(cpus=1, gpus=1, ongoing=5)
    assert found["models"].placement == Placement(cpus=1, ongoing=5)


@pytest.mark.parametrize("text", ["a, a: replicas=2", "a, b, org/a"])
def test_a_model_that_one_entry_names_twice(text: str) -> None:
    """It was taken, and listed twice."""
    assert refusal(text) == "cluster_models has 'org/a' twice"


def test_a_model_may_be_called_as_the_deployment_of_another_is() -> None:
    found = named("a", A, model("model-a"))
    assert found == {"model-a": ("org/a",), "models": ("model-a",)}


@pytest.mark.parametrize(
    ("text", "where", "ongoing", "target"),
    [
        ("a: ongoing=1 target=4 replicas=1-4", "a", 1, "4"),
        ("a: ongoing=1 target=2 replicas=1-4", "a", 1, "2"),  # the default, but said
        ("a, b: ongoing=1 target=1.5", "a, b", 1, "1.5"),
        ("a: target=8.5 replicas=1-4", "a", 8, "8.5"),
        ("*: target=4; a: ongoing=1", "a", 1, "4"),
        ("*: ongoing=1; a: target=4", "a", 1, "4"),
        ("*: ongoing=1 target=4", "*", 1, "4"),
    ],
)
def test_a_target_above_what_a_replica_holds(
    text: str, where: str, ongoing: int, target: str
) -> None:
    """It was taken."""
    assert refusal(text) == (
        f"cluster_models: {where}: target must be at most ongoing, which is {ongoing}, got {target}"
    )


def test_a_target_of_the_catalog_above_what_a_replica_holds() -> None:
    own = model("org/own", "own", target=4)
    said = ": target must be at most ongoing, which is 1, got 4"
    assert refusal("own: ongoing=1", own) == f"cluster_models: own{said}"
    assert refusal("*: ongoing=1", own) == f"model org/own: cluster{said}"


@pytest.mark.parametrize(
    "text",
    [
        "own: ongoing=20; *: target=9",  # what beats it mends it
        "own: ongoing=1 target=1; *: target=4",
        "own: target=8",
        "own: ongoing=1 replicas=1-4",  # nobody said the target
    ],
)
def test_a_target_that_a_replica_can_hold(text: str) -> None:
    assert set(plan(text, model("org/own", "own"))) == {"model-own"}


@pytest.mark.parametrize("text", ["a replicas=2", "a replicas=2 cpus=1", "a, b replicas=2"])
def test_names_and_values_without_a_colon_between(text: str) -> None:
    """It said that 'a replicas=2' is no model."""
    assert refusal(f"{text}; *: cpus=1") == (
        f"cluster_models needs a ':' between the names and KEY=VALUE, got {text!r}"
    )


def test_a_catalog_that_is_wrong_is_named() -> None:
    with pytest.raises(
        InvalidSettingError, match=r"^model org/own: cluster has the keys replicas, "
    ):
        plan("", model("org/own", cores=1))


def test_models_whose_names_give_one_deployment() -> None:
    with pytest.raises(InvalidSettingError, match=r"^cluster_models has 'model-a-b' twice$"):
        plan("", model("a/b", cpus=1), model("a+b", cpus=1))


# Bounds.


@pytest.mark.parametrize(
    ("text", "least", "most"), [("3", 3, 3), (" 1-3 ", 1, 3), ("0-2", 0, 2), ("2-2", 2, 2)]
)
def test_bounds(text: str, least: int, most: int) -> None:
    assert read_bounds(text, "replicas") == Bounds(least=least, most=most)


NO_BOUNDS = ["", "0", "0-0", "-1", "4-2", "1-", "a", "1.5", "1 - 3"]


@pytest.mark.parametrize("text", NO_BOUNDS)
def test_bounds_that_are_none(text: str) -> None:
    """It said "at least 1 at most"."""
    with pytest.raises(InvalidSettingError) as raised:
        read_bounds(text, "replicas")
    assert str(raised.value) == (
        "replicas must be a whole number above 0, or MIN-MAX with 0 <= MIN <= MAX and MAX above 0,"
        f" got {text!r}"
    )


@pytest.mark.parametrize("text", [*NO_BOUNDS, "0-3"])
def test_a_server_in_front_is_always_there(text: str) -> None:
    """It said "at least 1 at most"."""
    with pytest.raises(InvalidSettingError) as raised:
        read_bounds(text, "cluster_ingresses", 1)
    assert str(raised.value) == (
        "cluster_ingresses must be a whole number above 0, or MIN-MAX with 1 <= MIN <= MAX,"
        f" got {text!r}"
    )
