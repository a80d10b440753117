import pytest

from calotype.catalog.catalog import Catalog
from calotype.domain.chain import MAX_STAGES, Chain, joint_status, stage_names
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.errors import UnknownModelError

UP = ModelSpec(
    id="acme/up",
    alias="up",
    backend="fake",
    revision="1",
    scale=4,
    licence="MIT",
    task="inpainting",
)
INK = ModelSpec(id="acme/ink", backend="fake", revision="2", licence="MIT")
CATALOG = Catalog([UP, INK])


def refusal(name: str) -> str:
    with pytest.raises(UnknownModelError) as caught:
        CATALOG.chain(name)
    return str(caught.value)


@pytest.mark.parametrize("name", ["up", "acme/up", ""])
def test_a_model_alone_is_a_chain_of_one(name: str) -> None:
    chain = CATALOG.chain(name)
    assert chain.is_single
    assert chain.spec is UP
    assert chain.labels == ("",)
    assert chain.addresses == {}


def test_ids_and_aliases_are_joined() -> None:
    chain = CATALOG.chain("acme/ink+up")
    assert chain.models == (INK, UP)
    assert chain.labels == ("acme/ink", "up")
    assert (chain.spec.id, chain.spec.revision) == ("acme/ink+acme/up", "2+1")
    assert chain.spec.name == "acme/ink+up"
    assert chain.spec.task == "image-to-image"
    assert chain.spec.licence == "MIT"
    assert chain.spec.scale is None, "one of the scales is unknown"
    assert CATALOG.chain("up+acme/up").spec.scale == 16


def test_stages_are_numbered_where_a_model_comes_again() -> None:
    chain = CATALOG.chain("up+acme/ink+acme/up")
    assert chain.labels == ("up#1", "acme/ink", "up#2")
    assert chain.addresses == {
        "acme/up": (0, 2), "acme/up#1": (0,), "acme/up#2": (2,),
        "up": (0, 2), "up#1": (0,), "up#2": (2,),
        "acme/ink": (1,), "acme/ink#1": (1,),
    }  # fmt: skip


def test_an_unknown_stage_is_named_alone() -> None:
    assert refusal("up+nope") == "Model nope does not exist"
    assert refusal("no/pe+up") == "Model no/pe does not exist"


@pytest.mark.parametrize("name", ["up+", "+up", "up++up", "+"])
def test_a_stage_without_a_name(name: str) -> None:
    assert refusal(name) == (
        f"Model {name} does not exist: a stage has no name; a chain is written MODEL+MODEL"
    )


def test_a_chain_is_bounded() -> None:
    assert len(CATALOG.chain("+".join(["up"] * MAX_STAGES)).models) == MAX_STAGES
    assert refusal("+".join(["up"] * 9)).endswith("a chain has at most 8 models, got 9")


def test_a_name_is_taken_apart_unless_there_is_a_model_of_it() -> None:
    odd = ModelSpec(id="a+b", backend="fake", revision="1")
    assert Catalog([UP, odd]).chain("a+b").models == (odd,)
    assert stage_names("") == ("",)


def test_a_chain_is_loaded_only_if_all_of_it_is() -> None:
    chain = Chain((UP, INK, UP))
    up = ModelStatus(state="loaded", device="gpu", resident_bytes=5)
    ink = ModelStatus(state="unloaded", estimated_load_s=2.0)
    found = joint_status(chain, [up, ink, up])
    assert found == ModelStatus(
        state="unloaded", device="gpu", estimated_load_s=2.0, resident_bytes=5
    )
    both = joint_status(chain, [up, ModelStatus(state="loaded"), up])
    assert both.state == "loaded"
    large = ModelStatus(state="too_large", reason="too large")
    assert joint_status(chain, [up, large, up]).reason == "too large"
