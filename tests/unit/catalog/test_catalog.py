from pathlib import Path

import pytest

from calotype.catalog.catalog import Catalog, build_catalog
from calotype.catalog.weights import check
from calotype.domain.model import ModelSpec
from calotype.domain.params import apply_params
from calotype.errors import InvalidCatalogError, InvalidSettingError, UnknownModelError


def _spec(id: str, alias: str = "") -> ModelSpec:
    return ModelSpec(id=id, alias=alias, backend="fake", revision="1")


B, A = _spec("b", "second"), _spec("a/a", "first")


def test_a_model_is_found_by_id_and_alias() -> None:
    catalog = Catalog([B, A])
    assert catalog.get("b") is B
    assert catalog.get("first") is A
    assert catalog.all() == (A, B)


def test_no_name_means_the_default() -> None:
    assert Catalog([B, A]).default is B
    assert Catalog([B, A], default="first").default is A
    assert Catalog([B, A], default="a/a").get("") is A


def test_an_unknown_model_has_the_text_that_clients_match() -> None:
    with pytest.raises(UnknownModelError) as caught:
        Catalog([A]).get("acme/none")
    assert str(caught.value) == "Model acme/none does not exist"


def test_an_unknown_name_is_made_safe_for_a_header() -> None:
    with pytest.raises(UnknownModelError) as caught:
        Catalog([A]).get("\u00e4\r\n" + "x" * 5000)
    assert str(caught.value) == f"Model ???{'x' * 197}... does not exist"


@pytest.mark.parametrize(
    "other", [_spec("b"), _spec("c", "b"), _spec("second"), _spec("c", "second")]
)
def test_two_models_of_one_name_are_refused(other: ModelSpec) -> None:
    with pytest.raises(InvalidCatalogError, match="is taken by model b"):
        Catalog([B, other])


def test_models_without_an_alias_do_not_clash() -> None:
    assert len(Catalog([_spec("a"), _spec("b")]).all()) == 2


def test_a_catalog_has_a_model_and_a_default_in_it() -> None:
    with pytest.raises(InvalidCatalogError, match="at least one model"):
        Catalog([])
    with pytest.raises(InvalidSettingError, match="default_model must be in the catalog"):
        Catalog([A], default="none")


def test_the_embedded_models() -> None:
    catalog = build_catalog()
    assert {spec.alias: spec.id for spec in catalog.all()} == {
        "upscale": "xinntao/realesrgan-x4plus",
        "upscale-anime": "xinntao/realesrgan-x4plus-anime",
        "upscale-fast": "xinntao/realesr-animevideov3",
        "colorize": "calotype/colorize",
        "inpaint": "calotype/inpaint",
        "style": "magenta/multistyle",
        "style-image": "magenta/arbitrary-style",
    }
    assert catalog.default.alias == "upscale"


@pytest.mark.parametrize("spec", build_catalog().all(), ids=lambda spec: spec.alias)
def test_the_embedded_weights_are_the_ones_named(spec: ModelSpec) -> None:
    reports = check(spec)
    assert len(reports) == len(spec.files)
    assert [report.problem for report in reports] == [""] * len(spec.files)
    assert all(file.size_bytes and file.sha256 for file in spec.files)
    assert spec.licence != "unknown"
    assert spec.description.endswith(".")


def test_the_embedded_parameters() -> None:
    catalog = build_catalog()
    assert apply_params(catalog.get("upscale-fast"), {"scale": 2.0}).values["scale"] == 2
    style = apply_params(catalog.get("style"), {"style": "25:1"}, strict=True).values
    assert (style["style"], style["strength"], style["preserve_color"]) == (
        ((25, 1.0),),
        1.0,
        False,
    )


def test_a_catalog_file_and_a_folder_are_joined(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text("[[model]]\nid = 'acme/more'\nbackend = 'fake'\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/own.onnx").write_bytes(b"")
    catalog = build_catalog(tmp_path / "more.toml", tmp_path / "models", default="own")
    assert catalog.get("acme/more").backend == "fake"
    assert catalog.default.id == "own"
    assert len(catalog.all()) == len(build_catalog().all()) + 2


def test_an_embedded_name_cannot_be_taken(tmp_path: Path) -> None:
    (tmp_path / "upscale.onnx").write_bytes(b"")
    with pytest.raises(InvalidCatalogError, match="id upscale is taken by model xinntao/"):
        build_catalog(None, tmp_path)
