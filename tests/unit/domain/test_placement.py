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
        ("a: cpus=two", "cluster_models: a: cpus must be a number above 0, got 'two'"),
        ("a: cpus=-1", "cluster_models: a: cpus must be a number above 0, got '-1'"),
        ("a: cpus=nan", "cluster_models: a: cpus must be a number above 0, got 'nan'"),
        ("a: up_s=inf", "cluster_models: a: up_s must be a number above 0, got 'inf'"),
        ("a: ongoing=0", "cluster_models: a: ongoing must be a number above 0, got '0'"),
        ("a: ongoing=1.5", "cluster_models: a: ongoing must be a number above 0, got '1.5'"),
        (
            "a: replicas=3-1",
            "cluster_models: a: replicas must be a number or MIN-MAX, at least 1 at most,"
            " got '3-1'",
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


@pytest.mark.parametrize("text", ["", "0", "0-0", "-1", "2-1", "1-", "a", "1.5", "1 - 3"])
def test_bounds_that_are_none(text: str) -> None:
    with pytest.raises(InvalidSettingError) as raised:
        read_bounds(text, "cluster_ingresses")
    assert str(raised.value) == (
        f"cluster_ingresses must be a number or MIN-MAX, at least 1 at most, got {text!r}"
    )


def test_a_server_in_front_is_always_there() -> None:
    with pytest.raises(InvalidSettingError, match="got '0-2'"):
        read_bounds("0-2", "cluster_ingresses", 1)
