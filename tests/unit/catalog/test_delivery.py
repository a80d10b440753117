"""Whole pulls from a Hub on loopback: what arrives, what is kept, what is never half there."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from calotype.catalog import delivery
from calotype.catalog.choice import choose
from calotype.catalog.hub import look_up
from calotype.catalog.scan import scan_models_dir
from calotype.errors import ForbiddenError, MissingWeightsError
from loopback import COMMIT, NETWORKS, Hub

NEWER = "d" * 40
DIFFUSERS = "diffusion_pytorch_model"
INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
}
NEEDED = {
    "model_index.json": json.dumps(INDEX).encode(),
    "scheduler/scheduler_config.json": b"{}",
    "text_encoder/config.json": b'{"text": 1}',
    "text_encoder/model.safetensors": b"whole text" * 300,
    "unet/config.json": b'{"net": 1}',
    f"unet/{DIFFUSERS}.fp16-00001-of-00002.safetensors": b"first half" * 4000,
    f"unet/{DIFFUSERS}.fp16-00002-of-00002.safetensors": b"second half" * 4000,
    f"unet/{DIFFUSERS}.safetensors.index.fp16.json": b'{"weight_map": {}}',
    "vae/config.json": b'{"vae": 1}',
    f"vae/{DIFFUSERS}.fp16.safetensors": b"half a vae" * 200,
}
BESIDE = {
    "README.md": b"words",
    "all.ckpt": b"pickle" * 900,
    "all.safetensors": b"everything" * 900,
    "safety_checker/pytorch_model.bin": b"pickle" * 900,
    "text_encoder/pytorch_model.bin": b"pickle" * 900,
    "unet/code.py": b"import os",
    f"unet/{DIFFUSERS}.non_ema.safetensors": b"not averaged" * 900,
    f"unet/{DIFFUSERS}.safetensors": b"whole" * 9000,
    f"vae/{DIFFUSERS}.safetensors": b"whole" * 900,
}
SECOND_SHARD = f"unet/{DIFFUSERS}.fp16-00002-of-00002.safetensors"

Pull = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def pull(served: Hub, folder: Path) -> Pull:
    """Do what the command does; return what it says."""

    def run(revision: str = "", pattern: str = "", *, lora: bool = False) -> list[str]:
        said: list[str] = []
        repository = look_up(served.repo, revision)
        read = partial(delivery.read, repository, folder=folder)
        choices = choose(repository, read, pattern, lora=lora)
        delivery.fetch(repository, choices, folder, said.append)
        return said

    return run


@pytest.fixture
def pipeline(served: Hub) -> Hub:
    """Serve a pipeline with much beside it."""
    served.repo = "acme/edit"
    served.files = NEEDED | BESIDE
    return served


def _held(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, hidden ones too."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _placed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"acme/edit/{name}": body for name, body in files.items()}


def test_networks_are_fetched_and_described(served: Hub, pull: Pull, folder: Path) -> None:
    said = pull()
    assert (folder / "acme/nets-x2.onnx").read_bytes() == NETWORKS["x2.onnx"]
    assert (folder / "acme/nets-nets-x4.param").read_bytes() == NETWORKS["nets/x4.param"]
    assert (folder / "acme/nets-nets-x4.bin").read_bytes() == NETWORKS["nets/x4.bin"]
    assert not list((folder / ".pull").iterdir())
    sidecar = (folder / "acme/nets-x2.toml").read_text()
    assert 'licence = "mit"' in sidecar
    assert f"acme/nets/tree/{COMMIT}" in sidecar
    assert said[:2] == [
        "acme/nets: 3 files, 13.3 kB",
        f"fetching nets/x4.param (13 bytes) of acme/nets at {COMMIT[:12]}",
    ]
    assert not any("README" in path for path in served.asked)
    specs = {spec.id: spec for spec in scan_models_dir(folder)}
    assert sorted(specs) == ["acme/nets-nets-x4", "acme/nets-x2"]
    assert specs["acme/nets-x2"].licence == "mit"


def test_networks_that_are_here_are_not_fetched_again(
    served: Hub, pull: Pull, folder: Path
) -> None:
    pull(pattern="x2.*")
    served.asked.clear()
    assert pull(pattern="x2.*") == ["acme/nets: 1 file, 7.0 kB, here already"]
    assert not served.fetched()
    (folder / "acme/nets.onnx").write_bytes(b"another")
    pull(pattern="x2.*")
    assert (folder / "acme/nets.onnx").read_bytes() == NETWORKS["x2.onnx"]


def test_half_of_a_network_is_never_in_place(served: Hub, pull: Pull, folder: Path) -> None:
    served.broken.add("nets/x4.bin")
    with pytest.raises(MissingWeightsError, match="can't be reached"):
        pull(pattern="*.param")
    assert not (folder / "acme").exists()
    served.broken.clear()
    served.asked.clear()
    assert pull(pattern="*.param")[1].startswith("fetching nets/x4.bin (6.3 kB)")
    assert served.fetched() == ["nets/x4.bin"]
    assert (folder / "acme/nets.bin").read_bytes() == NETWORKS["nets/x4.bin"]


def test_a_sidecar_of_the_users_own_is_kept(pull: Pull, folder: Path) -> None:
    (folder / "acme").mkdir(parents=True)
    (folder / "acme/nets.toml").write_text("tile = 64\n")
    pull(pattern="*.onnx")
    assert (folder / "acme/nets.toml").read_text() == "tile = 64\n"


def test_exactly_what_a_pipeline_needs_arrives(pipeline: Hub, pull: Pull, folder: Path) -> None:
    said = pull()
    held = _held(folder)
    sidecar = held.pop("acme/edit.toml").decode()
    assert held == _placed(NEEDED)
    assert f"acme/edit/tree/{COMMIT}" in sidecar
    assert sorted(pipeline.fetched()) == sorted(NEEDED)
    assert said[0] == "acme/edit: 10 files, 89.3 kB"
    shard = f"fetching {SECOND_SHARD} (44.0 kB) of acme/edit at {COMMIT[:12]}"
    assert shard in said


def test_a_pipeline_is_served_under_its_name(pipeline: Hub, pull: Pull, folder: Path) -> None:
    pull()
    (spec,) = scan_models_dir(folder)
    assert (spec.id, spec.backend, spec.licence) == ("acme/edit", "diffusers", "mit")
    assert {file.role for file in spec.files} == set(NEEDED)
    assert pipeline.asked


def test_a_pipeline_that_is_here_is_not_fetched_again(
    pipeline: Hub, pull: Pull, folder: Path
) -> None:
    pull()
    (before,) = scan_models_dir(folder)
    pipeline.asked.clear()
    assert pull() == ["acme/edit: 10 files, 89.3 kB, here already"]
    assert not pipeline.fetched()
    (after,) = scan_models_dir(folder)
    assert after.revision == before.revision


def test_an_interrupted_pull_goes_on_with_the_file_it_was_at(
    pipeline: Hub, pull: Pull, folder: Path
) -> None:
    pipeline.broken.add(SECOND_SHARD)
    with pytest.raises(MissingWeightsError, match="can't be reached; try again later"):
        pull()
    assert set(pipeline.fetched()) < set(NEEDED)
    assert not (folder / "acme").exists()
    assert scan_models_dir(folder) == []
    pipeline.broken.clear()
    said = pull()
    assert said[0] == "acme/edit: 10 files, 89.3 kB, of which 43.3 kB are here already"
    assert pipeline.fetched() == list(NEEDED)[list(NEEDED).index(SECOND_SHARD) :]
    assert _held(folder / "acme/edit") == NEEDED


def test_a_file_of_a_pipeline_that_arrives_wrong(pipeline: Hub, pull: Pull, folder: Path) -> None:
    pipeline.damaged.add(SECOND_SHARD)
    with pytest.raises(MissingWeightsError, match=f"{SECOND_SHARD} did not arrive as the Hub"):
        pull()
    assert not (folder / "acme").exists()
    pipeline.damaged.clear()
    pull()
    assert _held(folder / "acme/edit") == NEEDED


def test_a_file_that_was_changed_here_is_replaced(pipeline: Hub, pull: Pull, folder: Path) -> None:
    pull()
    pipeline.asked.clear()
    (folder / "acme/edit/vae/config.json").write_bytes(b"{}")
    pull()
    assert pipeline.fetched() == ["vae/config.json"]
    assert _held(folder / "acme/edit") == NEEDED


def test_another_revision_replaces_what_differs_and_removes_what_is_gone(
    pipeline: Hub, pull: Pull, folder: Path
) -> None:
    pull("v1")
    pipeline.asked.clear()
    whole = f"vae/{DIFFUSERS}.safetensors"
    newer = dict(NEEDED) | {"unet/config.json": b'{"net": 2}', whole: b"newer" * 900}
    del newer[f"vae/{DIFFUSERS}.fp16.safetensors"]
    pipeline.others[NEWER] = newer
    (folder / "acme/edit/notes.md").write_bytes(b"mine")
    said = pull(NEWER)
    assert sorted(pipeline.fetched()) == sorted(["unet/config.json", whole])
    assert _held(folder / "acme/edit") == newer | {"notes.md": b"mine"}
    assert f"acme/edit/tree/{NEWER}" in (folder / "acme/edit.toml").read_text()
    gone = f"vae/{DIFFUSERS}.fp16.safetensors"
    assert said[-1] == f"removing {gone}, which is no part of this revision"
    assert not list((folder / ".pull").iterdir())


def test_a_model_stays_whole_while_its_next_revision_arrives(
    pipeline: Hub, pull: Pull, folder: Path
) -> None:
    pull()
    pipeline.others[NEWER] = dict(NEEDED) | {SECOND_SHARD: b"newer" * 900}
    pipeline.broken.add(SECOND_SHARD)
    with pytest.raises(MissingWeightsError):
        pull(NEWER)
    assert _held(folder / "acme/edit") == NEEDED
    assert f"acme/edit/tree/{COMMIT}" in (folder / "acme/edit.toml").read_text()


def test_a_pull_that_ends_between_two_folders(pipeline: Hub, pull: Pull, folder: Path) -> None:
    pull()
    (folder / "acme/edit").replace(folder / ".pull/acme--edit~old")
    (folder / ".pull/acme--edit~new").mkdir()
    pipeline.asked.clear()
    assert pull()[0].endswith("here already")
    assert pipeline.fetched() in ([], ["model_index.json"])
    assert _held(folder / "acme/edit") == NEEDED
    assert not list((folder / ".pull").iterdir())


def test_a_disk_without_links(
    pipeline: Hub, pull: Pull, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    pull()
    assert _held(folder / "acme/edit") == NEEDED
    assert pipeline.asked


def test_a_folder_that_is_a_link(pipeline: Hub, pull: Pull, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "acme").mkdir(parents=True)
    (folder / "acme/edit").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MissingWeightsError, match="is a link: remove it"):
        pull()
    assert pipeline.fetched() == ["model_index.json"]


@pytest.mark.parametrize("revision", ["", "v1", COMMIT])
def test_all_files_come_from_one_commit(
    pipeline: Hub, pull: Pull, folder: Path, revision: str
) -> None:
    pull(revision)
    assert all(COMMIT in line for line in pipeline.asked if "resolve" in line)
    assert f"acme/edit/tree/{COMMIT}" in (folder / "acme/edit.toml").read_text()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"_class_name": "TextToVideoSDPipeline"}, "takes no picture"),
        ({"unet": ["mine", "Net"]}, "its unet needs code from its own repository"),
        ({"safety_checker": ["stable_diffusion", "Checker"]}, "its safety_checker has pickled"),
    ],
)
def test_of_what_cannot_be_served_only_the_index_is_fetched(
    pipeline: Hub, pull: Pull, folder: Path, index: dict[str, object], message: str
) -> None:
    pipeline.files["model_index.json"] = json.dumps(INDEX | index).encode()
    with pytest.raises(MissingWeightsError, match=f"acme/edit can't be served: .*{message}"):
        pull()
    assert pipeline.fetched() == ["model_index.json"]
    assert not (folder / "acme").exists()


def test_a_gated_pipeline(pipeline: Hub, pull: Pull, folder: Path) -> None:
    pipeline.gated_files = True
    with pytest.raises(ForbiddenError, match="acme/edit is gated"):
        pull()
    assert not (folder / "acme").exists()


def test_an_adapter_is_fetched_and_described(served: Hub, pull: Pull, folder: Path) -> None:
    served.repo, served.tags = "acme/pixel", ["lora"]
    served.files = {"pixel.safetensors": b"up and down" * 90, "README.md": b"words"}
    pull()
    held = _held(folder)
    assert held.pop("loras/acme/pixel.safetensors") == served.files["pixel.safetensors"]
    assert f"acme/pixel/tree/{COMMIT}" in held.pop("loras/acme/pixel.toml").decode()
    assert held == {}
    assert scan_models_dir(folder) == []
    served.asked.clear()
    assert pull()[0].endswith("here already")
    assert not served.fetched()


def test_a_chosen_adapter(served: Hub, pull: Pull, folder: Path) -> None:
    served.files = {"a/v1.safetensors": b"one", "v2.safetensors": b"two"}
    pull(pattern="v1*", lora=True)
    assert (folder / "loras/acme/nets.safetensors").read_bytes() == b"one"


def test_a_hub_that_says_no_sizes(served: Hub, folder: Path) -> None:
    """A mirror may say little: the library then knows by itself what is whole."""
    from dataclasses import replace

    repository = look_up("acme/nets")
    bare = replace(
        repository,
        files=tuple(replace(f, size_bytes=None, sha256="", git_sha1="") for f in repository.files),
    )
    choices = choose(bare, lambda _: b"", "*.onnx")
    said: list[str] = []
    delivery.fetch(bare, choices, folder, said.append)
    assert said == ["acme/nets: 1 file", f"fetching x2.onnx of acme/nets at {COMMIT[:12]}"]
    assert (folder / "acme/nets.onnx").read_bytes() == NETWORKS["x2.onnx"]
