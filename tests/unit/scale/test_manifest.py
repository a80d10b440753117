"""What Ray and KubeRay read of what is printed; that it deploys is in tests/scale."""

import importlib.metadata
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import ray
import yaml
from jsonschema_rs import Draft202012Validator
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from calotype.assembly import open_catalog
from calotype.catalog.catalog import Catalog
from calotype.domain.model import ModelSpec
from calotype.domain.placement import Bounds, Deployment, Placement, plan_deployments
from calotype.errors import InvalidSettingError, UnknownModelError
from calotype.scale.application import ROLLOUT
from calotype.scale.kuberay import (
    STORE_URL,
    Group,
    for_pods,
    size_groups,
    write_service,
    write_store,
)
from calotype.scale.manifest import annotate, set_apart, write, write_config
from calotype.scale.node import ENVIRONMENT
from calotype.settings import Settings, load_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ROOT = Path(__file__).parents[3]

A = ModelSpec(id="org/a", alias="a", backend="fake", revision="")
B = ModelSpec(id="org/b", alias="b", backend="fake", revision="")
OWN = ModelSpec(id="org/own", backend="fake", revision="", cluster={"cpus": 2, "replicas": "1-3"})
CATALOG = Catalog([A, B, OWN], A.id)


def printed(settings: Settings) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(write_config(settings, CATALOG).text)
    return config


def application(settings: Settings) -> dict[str, Any]:
    (found,) = printed(settings)["applications"]
    assert isinstance(found, dict)
    return found


def unknown(value: object, schema: type[BaseModel], where: str = "") -> Iterator[str]:
    """Yield the keys that Ray wouldn't read: its schema lets any pass."""
    assert isinstance(value, dict)
    for key, inner in value.items():
        field = schema.model_fields.get(key)
        if field is None:
            yield f"{where}{key}"
            continue
        models = [one for one in _types(field.annotation) if issubclass(one, BaseModel)]
        for one in inner if isinstance(inner, list) else [inner]:
            if models and isinstance(one, dict):
                yield from unknown(one, models[0], f"{where}{key}.")


def _types(annotation: Any) -> Iterator[type]:  # noqa: ANN401  whatever a field has
    inner = get_args(annotation)
    if not inner and isinstance(annotation, type):
        yield annotation
    for one in inner:
        yield from _types(one)


# For `serve deploy`.

SETTINGS = [
    Settings(),
    Settings(host="::1", port=9000, cluster_ingresses="2-5"),
    Settings(cluster_models="a: replicas=0-4 gpus=0.5; *: replicas=2 cpus=1.5", preload="b"),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_ray_reads_all_that_is_printed(settings: Settings) -> None:
    config = printed(settings)
    read = ServeDeploySchema.model_validate(config)
    assert list(unknown(config, ServeDeploySchema)) == []
    assert read.http_options.host == settings.host
    assert read.http_options.port == settings.port
    assert read.proxy_location == "EveryNode"
    assert [one.name for one in read.applications] == ["calotype"]


def test_a_key_that_ray_does_not_know_is_noticed() -> None:
    config = printed(Settings(cluster_models="a: replicas=1-2"))
    deployment = config["applications"][0]["deployments"][0]
    deployment["replicas"] = deployment["autoscaling_config"]["most"] = 1
    config["hosts"] = []
    assert sorted(unknown(config, ServeDeploySchema)) == [
        "applications.deployments.autoscaling_config.most",
        "applications.deployments.replicas",
        "hosts",
    ]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_cluster_makes_the_settings_that_were_said(settings: Settings) -> None:
    args = application(settings)["args"]
    assert args.pop(ROLLOUT)
    assert load_settings(args, environ={}) == settings


def test_each_deployment_has_its_numbers() -> None:
    text = "a: replicas=1-4 cpus=2 gpus=1 ongoing=3 target=1.5 up_s=1 down_s=9; *: replicas=2"
    found = application(Settings(cluster_models=text, cluster_ingresses="2"))["deployments"]
    numbers = {one.pop("name"): one for one in found}
    assert numbers.keys() == {"model-a", "model-org-own", "models", "ingress"}
    assert numbers["model-a"] == {
        "num_replicas": None,
        "autoscaling_config": {
            "min_replicas": 1,
            "max_replicas": 4,
            "target_ongoing_requests": 1.5,
            "upscale_delay_s": 1.0,
            "downscale_delay_s": 9.0,
        },
        "max_ongoing_requests": 3,
        "ray_actor_options": {"num_cpus": 2.0, "num_gpus": 1.0},
    }
    for name in ("models", "ingress"):
        assert numbers[name]["num_replicas"] == 2
        assert numbers[name]["autoscaling_config"] is None
    assert numbers["ingress"]["ray_actor_options"] == {"num_cpus": 0.0}


def test_models_share_replicas_unless_they_are_set_apart() -> None:
    def names(settings: Settings) -> set[str]:
        return {one["name"] for one in application(settings)["deployments"]}

    assert names(Settings()) == {"models", "model-org-own", "ingress"}
    apart = set_apart(Settings(), CATALOG)
    assert names(apart) == {"model-a", "model-b", "model-org-own", "ingress"}
    assert set_apart(apart, CATALOG) == apart


def test_to_be_set_apart_changes_nothing_else() -> None:
    settings = Settings(cluster_models="b: cpus=1; *: cpus=3")
    before = {one.name: one for one in plan_deployments(CATALOG.all(), settings.cluster_models)}
    apart = set_apart(settings, CATALOG).cluster_models
    after = {one.name: one for one in plan_deployments(CATALOG.all(), apart)}
    assert after.pop("model-a").placement == before.pop("models").placement
    assert after == before


def test_passwords_are_left_out() -> None:
    settings = Settings(store_url="redis://me:secret@store:6379/0", trace_url="http://host:4318")
    config = write_config(settings, CATALOG)
    assert "secret" not in config.text
    assert "the variable CALOTYPE_STORE_URL of every node" in " ".join(
        config.text.replace("#", "").split()
    )
    assert config.withheld == ("store_url",)
    assert application(settings)["args"].keys() == {ROLLOUT, "trace_url"}


@pytest.mark.parametrize("option", ["password=hush", "db=1&ssl_password=hush"])
def test_passwords_among_the_options_are_left_out(option: str) -> None:
    config = write_config(Settings(store_url=f"rediss://store:6379/0?{option}"), CATALOG)
    assert "hush" not in config.text
    assert config.withheld == ("store_url",)


def test_another_catalog_is_another_rollout() -> None:
    def rollout(catalog: Catalog) -> str:
        text = write_config(Settings(), catalog).text
        return str(yaml.safe_load(text)["applications"][0]["args"][ROLLOUT])

    changed = Catalog([replace(A, scale=2), B, OWN], A.id)
    assert rollout(CATALOG) == rollout(Catalog([B, OWN, A], A.id))
    assert rollout(CATALOG) != rollout(changed)
    assert rollout(CATALOG).startswith(importlib.metadata.version("calotype"))


def test_what_cannot_be_deployed_is_not_printed() -> None:
    with pytest.raises(InvalidSettingError, match="cluster_models names 'nope'"):
        write_config(Settings(cluster_models="nope: cpus=1"), CATALOG)
    with pytest.raises(InvalidSettingError, match="cluster_ingresses must be"):
        write_config(Settings(cluster_ingresses="0"), CATALOG)
    with pytest.raises(UnknownModelError, match="nope"):
        write_config(Settings(preload="nope"), CATALOG)


def test_comments_stand_above_their_line_and_change_nothing() -> None:
    value = {"a": [{"b": 1}], "c": {"b": 2}}
    text = annotate(write(value), {"c:": "of c", "b: 2": "of " + "b " * 60})
    assert yaml.safe_load(text) == value
    lines = text.splitlines()
    assert lines[lines.index("c:") - 1] == "# of c"
    assert lines[lines.index("  b: 2") - 1].startswith("  # b")
    assert max(map(len, lines)) <= 100


# For KubeRay: of its RayService (ray.io/v1) and of pods, the fields that are used, and no others.


def only(required: dict[str, Any], **optional: object) -> dict[str, Any]:
    """Describe an object that has these fields only."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": [*required],
        "additionalProperties": False,
    }


def each(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1}


TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}
QUANTITY = {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}
VARIABLE = {
    "oneOf": [
        only({"name": TEXT, "value": {"type": "string"}}),
        only(
            {"name": TEXT, "valueFrom": only({"secretKeyRef": only({"name": NAME, "key": TEXT})})}
        ),
    ]
}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
CONTAINER = only(
    {
        "name": NAME,
        "image": TEXT,
        "env": each(VARIABLE),
        "ports": each(only({"containerPort": PORT, "name": {**NAME, "maxLength": 15}})),
        "resources": only({"requests": QUANTITIES, "limits": QUANTITIES}),
    }
)
POD = only({"spec": only({"containers": each(CONTAINER)})})
WORKERS = {
    "groupName": NAME,
    "replicas": COUNT,
    "minReplicas": COUNT,
    "maxReplicas": COUNT,
    "rayStartParams": PARAMS,
    "template": POD,
}
CLUSTER = {
    "rayVersion": TEXT,
    "authOptions": only({"mode": {"enum": ["disabled", "token"]}}),
    "enableInTreeAutoscaling": {"type": "boolean"},
    "headGroupSpec": only({"rayStartParams": PARAMS, "template": POD}),
    "workerGroupSpecs": each(only(WORKERS)),
}
SPEC = {
    "serveConfigV2": TEXT,
    "rayClusterConfig": only(CLUSTER),
    "excludeHeadPodFromServeSvc": {"type": "boolean"},
}
RAY_SERVICE = only(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayService"},
        "metadata": only({"name": NAME}),
        "spec": only(SPEC),
    }
)


def service(settings: Settings, catalog: Catalog = CATALOG) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(write_service(settings, catalog, "registry/calotype:7"))
    return found


def containers(found: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = found["spec"]["rayClusterConfig"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    return [one for group in groups for one in group["template"]["spec"]["containers"]]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_ray_service_has_the_form_that_kuberay_reads(settings: Settings) -> None:
    found = service(for_pods(settings, with_store=True))
    Draft202012Validator(RAY_SERVICE).validate(found)
    config = yaml.safe_load(found["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    assert list(unknown(config, ServeDeploySchema)) == []
    assert found["spec"]["rayClusterConfig"]["rayVersion"] == ray.__version__


def test_a_field_that_kuberay_does_not_know_is_noticed() -> None:
    found = service(for_pods(Settings(), with_store=True))
    found["spec"]["rayClusterConfig"]["headGroupSpec"]["replicas"] = 1
    (error,) = Draft202012Validator(RAY_SERVICE).iter_errors(found)
    assert "'replicas' was unexpected" in error.message


def test_every_pod_is_told_what_a_node_needs() -> None:
    found = service(for_pods(Settings(port=9000), with_store=True))
    for container in containers(found):
        said = {one["name"]: one["value"] for one in container["env"]}
        assert said == ENVIRONMENT | {"CALOTYPE_STORE_URL": STORE_URL}
        assert container["image"] == "registry/calotype:7"
        assert {"containerPort": 9000, "name": "serve"} in container["ports"]
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_pods_answer_whoever_reaches_them_and_reserve_processors() -> None:
    config = yaml.safe_load(service(for_pods(Settings(), with_store=True))["spec"]["serveConfigV2"])
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}  # noqa: S104
    (found,) = config["applications"]
    assert found["args"]["cluster_models"] == "*: cpus=4"
    cpus = {one["name"]: one["ray_actor_options"]["num_cpus"] for one in found["deployments"]}
    assert cpus == {"models": 4, "model-org-own": 2, "ingress": 0}


def test_what_is_said_beats_what_pods_would_reserve() -> None:
    text = for_pods(Settings(cluster_models="a: gpus=1; *: cpus=1"), with_store=True).cluster_models
    cpus = {one.name: one.placement.cpus for one in plan_deployments(CATALOG.all(), text)}
    assert cpus == {"model-a": 1, "models": 1, "model-org-own": 2}


def test_a_password_is_a_secret() -> None:
    url = "redis://me:hush@store:6379/0"
    text = write_service(for_pods(Settings(store_url=url), with_store=False), CATALOG, "i")
    assert "hush" not in text
    reference = {"secretKeyRef": {"name": "calotype", "key": "store-url"}}
    for container in containers(yaml.safe_load(text)):
        assert {"name": "CALOTYPE_STORE_URL", "valueFrom": reference} in container["env"]


def deployment(least: int, most: int, cpus: float = 0, gpus: float = 0) -> Deployment:
    placement = Placement(replicas=Bounds(least=least, most=most), cpus=cpus, gpus=gpus)
    return Deployment(name="d", models=(A,), placement=placement)


@pytest.mark.parametrize(
    ("deployments", "groups"),
    [
        # One replica a pod, as it is the largest.
        ([deployment(1, 4, 4)], [Group(name="cpu", cpus=4, gpus=0, least=1, most=4)]),
        # Two of the smaller fit into a pod of the larger's size.
        (
            [deployment(1, 1, 4), deployment(3, 5, 2)],
            [Group(name="cpu", cpus=4, gpus=0, least=3, most=4)],
        ),
        # Parts of a processor make a whole one.
        ([deployment(2, 5, 0.4)], [Group(name="cpu", cpus=1, gpus=0, least=1, most=3)]),
        # A GPU is shared by two.
        ([deployment(2, 3, 4, 0.5)], [Group(name="gpu", cpus=4, gpus=1, least=2, most=3)]),
        ([deployment(2, 4, 1, 0.5)], [Group(name="gpu", cpus=1, gpus=1, least=2, most=4)]),
        # What needs no GPU waits for none.
        (
            [deployment(1, 2, 4), deployment(0, 2, 8, 2)],
            [
                Group(name="cpu", cpus=4, gpus=0, least=1, most=2),
                Group(name="gpu", cpus=8, gpus=2, least=0, most=2),
            ],
        ),
        # Somebody must answer, and what reserves nothing fits into one pod.
        ([deployment(0, 9)], [Group(name="cpu", cpus=1, gpus=0, least=1, most=1)]),
    ],
)
def test_pods_are_sized_by_replicas(deployments: list[Deployment], groups: list[Group]) -> None:
    assert list(size_groups(deployments)) == groups


def test_the_cluster_grows_only_if_replicas_do() -> None:
    def grows(text: str) -> bool:
        catalog = Catalog([A, B], A.id)
        found = service(for_pods(Settings(cluster_models=text), with_store=True), catalog)
        return bool(found["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"])

    assert not grows("*: replicas=2")
    assert grows("*: replicas=1-2")


def test_the_store_keeps_tokens_when_memory_is_short() -> None:
    claim, store, address = yaml.safe_load_all(write_store())
    assert [one["kind"] for one in (claim, store, address)] == [
        "PersistentVolumeClaim",
        "Deployment",
        "Service",
    ]
    assert address["metadata"]["name"] in STORE_URL
    assert str(address["spec"]["ports"][0]["port"]) in STORE_URL
    pod = store["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= address["spec"]["selector"].items()
    assert store["spec"]["selector"]["matchLabels"] == address["spec"]["selector"]
    (container,) = pod["spec"]["containers"]
    assert "volatile-lru" in container["args"]
    assert (
        pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
        == (claim["metadata"]["name"])
    )


def test_the_models_that_come_along_can_be_sized() -> None:
    settings = for_pods(set_apart(Settings(), open_catalog(Settings())), with_store=True)
    found = service(settings, open_catalog(settings))
    (workers,) = found["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["maxReplicas"] == len(open_catalog(settings).all())


def test_the_image_has_the_ray_that_the_tests_have() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (pin,) = (one for one in said["dependency-groups"]["dev"] if one.startswith("ray["))
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG RAY_VERSION={pin.rpartition('==')[2]}\n" in image
