"""Weights over a real Ray: the actor that has them, and processes with another node's folders."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from calotype.assembly import open_catalog
from calotype.catalog.weights import read
from calotype.domain.model import ModelSpec
from calotype.errors import MissingWeightsError, UnknownModelError
from calotype.scale.depot import CHUNK_BYTES
from calotype.scale.weights import NodeWeights
from calotype.scale.weights_source import (
    NAME,
    NAMESPACE,
    RemoteSource,
    start_source,
    stop_source,
)
from calotype.settings import Settings
from loopback import Hub, listening
from nodes import elsewhere

pytestmark = [
    pytest.mark.timeout(180),
    # Ray leaves sockets and processes to the interpreter's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CONTENT = bytes(range(256)) * 40_000 * 8
PIECES = -(-len(CONTENT) // CHUNK_BYTES)


class Counting(RemoteSource):
    """Counts the files that are begun, and does something after a piece."""

    begun = 0

    def read(self, spec: ModelSpec, role: str) -> Iterator[bytes]:
        self.begun += 1
        for piece in super().read(spec, role):
            yield piece
            self.after_piece()

    def after_piece(self) -> None:
        """Do nothing."""


class Breaking(Counting):
    """Kills the source after the first piece; Ray starts it again."""

    broken = False

    def after_piece(self) -> None:
        if not self.broken:
            self.broken = True
            ray.kill(ray.get_actor(NAME, namespace=NAMESPACE), no_restart=False)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Serve a Hub of one network."""
    with listening() as hub:
        hub.files = {"x2.onnx": hub.files["x2.onnx"]}
        yield hub


@pytest.fixture(scope="module")
def cluster(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start a Ray of one node, whose processes inherit which Hub to ask."""
    tmp = tmp_path_factory.mktemp("r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(tmp / "hf"))
        patch.setenv("HF_HUB_DISABLE_XET", "1")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        ray.init(
            "local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(tmp)
        )
        yield
        ray.shutdown()


@pytest.fixture
def settings(cluster: None, tmp_path: Path) -> Iterator[Settings]:
    """Hand out the files of a folder."""
    del cluster
    models = tmp_path / "there" / "models"
    (models / "acme").mkdir(parents=True)
    (models / "acme/net.onnx").write_bytes(CONTENT)
    settings = Settings(models_dir=str(models), cache_dir=str(tmp_path / "there" / "cache"))
    start_source(settings)
    yield settings
    stop_source()


@pytest.fixture
def net(settings: Settings, tmp_path: Path) -> ModelSpec:
    """Return the model as another machine gets it."""
    spec = open_catalog(settings).get("acme/net")
    return elsewhere(spec, settings.models_path, tmp_path / "nowhere")


def localize(cache: Path, spec: ModelSpec) -> tuple[ModelSpec, int, str]:
    source = Counting()
    found = NodeWeights(cache, source).localize(spec)
    return found, source.begun, hashlib.sha256(read(found.files[0])).hexdigest()


def test_processes_of_a_node_get_a_file_once(net: ModelSpec, tmp_path: Path) -> None:
    task: Any = ray.remote(localize).options(num_cpus=0.5)
    cache = tmp_path / "here"
    answers = ray.get([task.remote(cache, net) for _ in range(4)])
    assert sum(begun for _, begun, _ in answers) == 1
    assert {digest for _, _, digest in answers} == {hashlib.sha256(CONTENT).hexdigest()}
    assert all(Path(found.files[0].path).is_relative_to(cache) for found, _, _ in answers)


def test_a_transfer_goes_on_when_the_source_comes_back(net: ModelSpec, tmp_path: Path) -> None:
    source = Breaking()
    found = NodeWeights(tmp_path / "here", source).localize(net)
    assert read(found.files[0]) == CONTENT
    assert source.broken
    assert source.begun == 1
    assert PIECES > 2


def test_a_source_that_stays_away_is_named(net: ModelSpec, tmp_path: Path) -> None:
    stop_source()
    node = NodeWeights(tmp_path / "here", RemoteSource(patience_s=0.1))
    with pytest.raises(MissingWeightsError, match="the node with the weights does not answer"):
        node.localize(net)
    assert [path for path in (tmp_path / "here").rglob("*") if path.is_file()] == []


def test_an_error_of_the_source_is_told_as_it_is(net: ModelSpec) -> None:
    with pytest.raises(MissingWeightsError, match="of this revision"):
        RemoteSource().seal(replace(net, revision="0"))


def test_the_latest_deployment_counts(settings: Settings, net: ModelSpec, tmp_path: Path) -> None:
    before = ray.get_actor(NAME, namespace=NAMESPACE)
    start_source(settings)
    assert ray.get_actor(NAME, namespace=NAMESPACE) == before
    start_source(replace(settings, models_dir=str(tmp_path / "none")))
    assert ray.get_actor(NAME, namespace=NAMESPACE) != before
    with pytest.raises(MissingWeightsError, match="of this revision"):
        RemoteSource().seal(net)


@pytest.mark.usefixtures("settings")
def test_the_hub_is_asked_by_the_source_alone(hub: Hub) -> None:
    source = RemoteSource()
    deliveries = [source.find(hub.repo) for _ in range(2)]
    pulled = [{spec.id for spec in deliver()} for deliver in deliveries]
    assert hub.repo in pulled[0]
    assert pulled[0] == pulled[1]
    assert hub.fetched() == ["x2.onnx"]
    with pytest.raises(UnknownModelError, match="no model acme/other"):
        source.find("acme/other")


def test_an_adapter_comes_over_the_cluster(settings: Settings, tmp_path: Path) -> None:
    settings.loras_path.mkdir()
    (settings.loras_path / "ink.safetensors").write_bytes(b"ink")
    node = NodeWeights(tmp_path / "here", RemoteSource())
    node.bring_adapters(["ink"])
    assert (node.adapters_dir / "ink.safetensors").read_bytes() == b"ink"
