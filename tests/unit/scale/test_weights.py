"""Weights on a node that has none: what stays, what is fetched, what is never half there."""

import hashlib
import json
import multiprocessing
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calotype.catalog.scan import scan_models_dir
from calotype.catalog.weights import check, read
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import InvalidParameterError, MissingWeightsError
from calotype.scale.blob import Blobs
from calotype.scale.depot import CHUNK_BYTES, Depot
from calotype.scale.digest import Digests
from calotype.scale.weights import NodeWeights
from calotype.settings import Settings
from loopback import serve
from nodes import Near, depot_of, die_within, elsewhere, leftovers, localize

CONTENT = bytes(range(256)) * 80_000  # of three pieces
A, B = "a" * 56, "b" * 56  # ids of nodes, as long as Ray has them
PIPELINE = {
    "model_index.json": json.dumps(
        {
            "_class_name": "StableDiffusionInstructPix2PixPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
        }
    ).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"weights" * 1000,
}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Make the models folder of the node that has the files."""
    folder = tmp_path / "there" / "models"
    (folder / "acme").mkdir(parents=True)
    (folder / "acme/net.onnx").write_bytes(CONTENT)
    for name, body in PIPELINE.items():
        (folder / "acme/edit" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "acme/edit" / name).write_bytes(body)
    return folder


@pytest.fixture
def source(models: Path, tmp_path: Path) -> Near:
    return Near(depot_of(models), tmp_path)


@pytest.fixture
def node(source: Near, tmp_path: Path) -> NodeWeights:
    return NodeWeights(tmp_path / "here", source)


def spec_of(models: Path, id: str) -> ModelSpec:
    return next(spec for spec in scan_models_dir(models) if spec.id == id)


@pytest.fixture
def net(models: Path, tmp_path: Path) -> ModelSpec:
    return elsewhere(spec_of(models, "acme/net"), models, tmp_path / "nowhere")


@pytest.fixture
def edit(models: Path, tmp_path: Path) -> ModelSpec:
    return elsewhere(spec_of(models, "acme/edit"), models, tmp_path / "nowhere")


def test_a_file_that_is_here_and_right_stays(node: NodeWeights, source: Near, models: Path) -> None:
    spec = spec_of(models, "acme/net")
    found = node.localize(spec)
    assert [file.path for file in found.files] == [file.path for file in spec.files]
    assert found.files[0].sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found.revision == spec.revision
    assert source.asked == ["seal acme/net"]


def test_a_file_that_is_not_here_is_fetched_once(
    node: NodeWeights, source: Near, net: ModelSpec
) -> None:
    found = node.localize(net)
    assert read(found.files[0]) == CONTENT
    assert Path(found.files[0].path).name == "net.onnx"
    assert found.revision == net.revision
    assert node.localize(net) == found
    assert source.asked == ["seal acme/net", "read onnx"]


def test_another_file_at_the_path_is_not_taken(node: NodeWeights, net: ModelSpec) -> None:
    path = Path(net.files[0].path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1] + b"x")  # as long
    assert read(node.localize(net).files[0]) == CONTENT


def test_what_was_fetched_serves_without_the_source(
    node: NodeWeights, source: Near, net: ModelSpec
) -> None:
    found = node.localize(net)
    source.away = True
    assert node.localize(net) == found


def test_a_package_that_is_here_needs_no_source(
    node: NodeWeights, source: Near, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.away = True
    spec = _packaged(tmp_path / "site", monkeypatch)
    assert node.localize(spec) == spec


def test_the_weights_of_a_package_that_is_missing_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _packaged(tmp_path / "site", monkeypatch)
    content = read(spec.files[0])
    depot = Depot(lambda: [spec], lambda _: list, tmp_path, Digests(tmp_path / "digests"))

    class Elsewhere(Near):
        """The package is gone while this node looks, and there while the source reads."""

        def read(self, spec: ModelSpec, role: str) -> Iterator[bytes]:
            (tmp_path / "away").rename(tmp_path / "site/odd_net_pkg/net.bin")
            yield from super().read(spec, role)

    (tmp_path / "site/odd_net_pkg/net.bin").rename(tmp_path / "away")
    found = NodeWeights(tmp_path / "here", Elsewhere(depot, tmp_path)).localize(spec)
    assert found.files[0].package == ""
    assert read(found.files[0]) == content


def _packaged(site: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """Make a model whose file is in an importable package."""
    folder = site / "odd_net_pkg"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "net.bin").write_bytes(b"packed")
    monkeypatch.syspath_prepend(site)
    digest = hashlib.sha256(b"packed").hexdigest()
    file = WeightFile(role="bin", package="odd_net_pkg", path="net.bin", sha256=digest)
    return ModelSpec(id="acme/packed", backend="fake", revision="1", files=(file,))


def test_a_pipeline_is_laid_out_as_it_was(node: NodeWeights, source: Near, edit: ModelSpec) -> None:
    found = node.localize(edit)
    index = next(file for file in found.files if file.role == "model_index.json")
    folder = Path(index.path).parent
    held = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    assert {name: path.read_bytes() for name, path in held.items()} == PIPELINE
    assert all(report.ok for report in check(found))
    assert len(source.asked) == 1 + len(PIPELINE)


def test_of_a_pipeline_that_is_here_in_part_the_rest_is_fetched(
    node: NodeWeights, source: Near, models: Path, tmp_path: Path, edit: ModelSpec
) -> None:
    shutil.copytree(models, tmp_path / "nowhere")
    (tmp_path / "nowhere/acme/edit/unet/config.json").unlink()
    found = node.localize(edit)
    assert {Path(file.path).read_bytes() for file in found.files} == set(PIPELINE.values())
    assert source.asked == ["seal acme/edit", "read unet/config.json"]


def test_files_outside_their_pipelines_folder_are_not_sent(
    node: NodeWeights, edit: ModelSpec
) -> None:
    stray = replace(
        edit.files[1], role="stray", path=str(Path(edit.files[0].path).parents[1] / "x")
    )
    sealed = tuple(replace(file, sha256="0" * 64) for file in (*edit.files, stray))
    with pytest.raises(MissingWeightsError, match="outside their pipeline's folder"):
        node.localize(replace(edit, files=sealed))


def test_several_processes_fetch_a_file_once(
    models: Path, tmp_path: Path, source: Near, net: ModelSpec
) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(4)
    processes = [
        context.Process(target=localize, args=(models, tmp_path, net, gate.wait)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert source.asked.count("read onnx") == 1


def test_whoever_is_killed_over_a_file_leaves_it_to_the_next(
    models: Path, tmp_path: Path, node: NodeWeights, net: ModelSpec
) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=die_within, args=(models, tmp_path, net)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert leftovers(tmp_path)
    assert read(node.localize(net).files[0]) == CONTENT
    assert leftovers(tmp_path) == []


def test_who_waits_takes_over_when_a_transfer_fails(tmp_path: Path) -> None:
    blobs, begun, fail = Blobs(tmp_path), threading.Event(), threading.Event()
    file = WeightFile(role="a", package="", path="a", sha256=hashlib.sha256(b"ok").hexdigest())

    def break_off() -> Iterator[bytes]:
        yield b"o"
        begun.set()
        fail.wait()
        raise MissingWeightsError("away")

    def first() -> None:
        with pytest.raises(MissingWeightsError, match="away"):
            blobs.obtain(file, break_off)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    fail.set()
    assert blobs.obtain(file, lambda: iter([b"ok"])).read_bytes() == b"ok"
    thread.join()
    assert leftovers(tmp_path) == []


def test_what_is_not_as_its_digest_says_is_not_kept(node: NodeWeights, net: ModelSpec) -> None:
    wrong = replace(net, files=(replace(net.files[0], sha256="0" * 64),))
    with pytest.raises(MissingWeightsError, match=r"net\.onnx did not arrive as their digest says"):
        node.localize(wrong)
    blobs = Path(node.adapters_dir).parent / "blobs"
    assert [path.suffix for path in blobs.iterdir()] == [".lock"]


def test_a_full_disk_is_named(node: NodeWeights, source: Near, net: ModelSpec) -> None:
    def fill() -> None:
        raise OSError(28, "No space left on device")

    source.stop = fill
    with pytest.raises(
        MissingWeightsError, match=r"No space left on device; make room .* 20480000"
    ):
        node.localize(net)
    assert leftovers(node.adapters_dir.parent) == []


def test_files_changed_after_the_catalog_was_read_are_refused(
    node: NodeWeights, source: Near, models: Path, net: ModelSpec
) -> None:
    source.depot.seal(net.id, net.revision)
    (models / "acme/net.onnx").write_bytes(b"edited")
    with pytest.raises(MissingWeightsError, match=r"changed, or removed, .* deploy again"):
        node.localize(net)


def test_files_removed_after_the_catalog_was_read_are_refused(
    node: NodeWeights, source: Near, models: Path, net: ModelSpec
) -> None:
    source.depot.seal(net.id, net.revision)
    (models / "acme/net.onnx").unlink()
    with pytest.raises(MissingWeightsError):
        node.localize(net)


def test_a_new_revision_is_known_without_a_new_depot(
    node: NodeWeights, source: Near, models: Path, net: ModelSpec
) -> None:
    node.localize(net)
    (models / "acme/net.onnx").write_bytes(b"edited")
    newer = elsewhere(spec_of(models, "acme/net"), models, models / "nowhere")
    assert read(node.localize(newer).files[0]) == b"edited"
    assert node.localize(net).files[0].sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("id", "revision", "role"),
    [
        ("acme/net", "0", "onnx"),
        ("acme/absent", "0", "onnx"),
        ("../acme/net", "0", "onnx"),
        ("lora:acme/ink", "0", "adapter"),
    ],
)
def test_what_no_catalog_lists_is_not_handed_out(
    source: Near, id: str, revision: str, role: str
) -> None:
    with pytest.raises(MissingWeightsError, match="of this revision"):
        source.depot.read(id, revision, role, 0)


def test_a_role_is_no_path(source: Near, models: Path) -> None:
    (models / "acme/secret").write_bytes(b"secret")
    spec = spec_of(models, "acme/edit")
    with pytest.raises(MissingWeightsError, match="no file"):
        source.depot.read(spec.id, spec.revision, "../secret", 0)


@pytest.mark.parametrize("id", ["../net", "/etc/passwd", "a/../../b", "lora:a"])
def test_an_adapters_id_is_no_path(source: Near, id: str) -> None:
    with pytest.raises(InvalidParameterError):
        source.depot.adapter(id)


def test_pieces_are_bounded(source: Near, models: Path) -> None:
    spec = spec_of(models, "acme/net")
    assert len(source.depot.read(spec.id, spec.revision, "onnx", 0)) == CHUNK_BYTES
    assert source.depot.read(spec.id, spec.revision, "onnx", len(CONTENT)) == b""


def test_adapters_come_as_they_are_now(node: NodeWeights, source: Near, models: Path) -> None:
    ink = models / "loras/acme/ink.safetensors"
    ink.parent.mkdir(parents=True)
    ink.write_bytes(b"one")
    node.bring_adapters(["acme/ink", "acme/absent"])
    here = node.adapters_dir / "acme/ink.safetensors"
    assert here.read_bytes() == b"one"
    assert not (node.adapters_dir / "acme/absent.safetensors").exists()
    ink.write_bytes(b"another")
    node.bring_adapters(["acme/ink"])
    assert here.read_bytes() == b"another"
    source.away = True
    node.bring_adapters(["acme/ink"])
    assert here.read_bytes() == b"another"
    with pytest.raises(MissingWeightsError, match="away"):
        node.bring_adapters(["acme/absent"])
    source.away = False
    ink.unlink()
    node.bring_adapters(["acme/ink"])
    assert not here.exists()


def test_an_adapter_of_another_machine_is_fetched(
    source: Near, models: Path, tmp_path: Path
) -> None:
    ink = models / "loras/ink.safetensors"
    ink.parent.mkdir()
    ink.write_bytes(b"one")

    class Afar(Near):
        """Its paths lead nowhere here."""

        def adapter(self, id: str) -> ModelSpec | None:
            spec = super().adapter(id)
            return spec and elsewhere(spec, models, tmp_path / "nowhere")

    node = NodeWeights(tmp_path / "here", Afar(source.depot, tmp_path))
    node.bring_adapters(["ink"])
    ink.write_bytes(b"two")
    assert (node.adapters_dir / "ink.safetensors").read_bytes() == b"one"
    node.bring_adapters(["ink"])
    assert (node.adapters_dir / "ink.safetensors").read_bytes() == b"two"
    assert source.asked == ["read adapter", "read adapter"]


def test_the_hub_is_asked_once_for_all_nodes(
    source: Near, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serve(monkeypatch, tmp_path) as hub:
        hub.files = {"x2.onnx": hub.files["x2.onnx"]}
        source.depot.find(hub.repo)
        asking = [threading.Thread(target=source.depot.pull, args=(hub.repo,)) for _ in range(3)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert hub.fetched() == ["x2.onnx"]
        pulled = {spec.id for spec in source.depot.pull(hub.repo)}
        assert pulled == {"acme/net", "acme/edit", hub.repo}
        assert hub.fetched() == []


def test_a_digest_is_worked_out_once(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spec_of(models, "acme/net").files[0]
    first = Digests(tmp_path / "digests").of(file)
    monkeypatch.setattr("calotype.catalog.weights.digest", None)
    assert Digests(tmp_path / "digests").of(file) == first


class Handle:
    """Stands in for Ray's, of an actor in this process."""

    def __init__(self, cluster: "Cluster", actor: object, node_id: str) -> None:
        self._cluster, self._actor, self.runs_on = cluster, actor, node_id

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=partial(self._call, getattr(self._actor, method)))

    def _call(self, method: Any, *args: object) -> object:  # noqa: ANN401
        before, self._cluster.here = self._cluster.here, self.runs_on
        try:
            return method(*args)
        finally:
            self._cluster.here = before


class Cluster:
    """Stands in for Ray: of several nodes, with at most one actor.

    Whatever is called is on the node ``here``; in the actor that is the actor's.
    """

    def __init__(self) -> None:
        self.here = A
        self.live: Handle | None = None

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: self.here)

    def remote(self, cls: type) -> SimpleNamespace:
        return SimpleNamespace(
            options=lambda **options: SimpleNamespace(remote=partial(self._start, cls, options))
        )

    def _start(self, cls: type, options: dict[str, Any], *args: object) -> Handle:
        assert self.live is None, "its name is taken"
        self.live = Handle(self, cls(*args), options["scheduling_strategy"].node_id)
        return self.live

    def get_actor(self, name: str, namespace: str) -> Handle:
        if self.live is None:
            raise ValueError(name, namespace)
        return self.live

    def get(self, answers: object, timeout: float) -> object:
        del timeout
        return answers

    def kill(self, handle: Handle) -> None:
        assert handle is self.live
        self.live = None


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    pytest.importorskip("ray", reason="Ray is not installed")
    cluster = Cluster()
    monkeypatch.setattr("calotype.scale.weights_source.ray", cluster)
    return cluster


def start(models: Path, tmp_path: Path) -> None:
    from calotype.scale.weights_source import start_source

    start_source(Settings(models_dir=str(models), cache_dir=str(tmp_path / "cache")))


def test_whoever_deploys_again_from_its_node_keeps_the_actor(
    cluster: Cluster, models: Path, tmp_path: Path
) -> None:
    start(models, tmp_path)
    first = cluster.live
    start(models, tmp_path)
    assert cluster.live is first


def test_whoever_deploys_from_another_node_hands_out_its_own_files(
    cluster: Cluster, models: Path, tmp_path: Path
) -> None:
    start(models, tmp_path)
    cluster.here = B  # with the same paths
    start(models, tmp_path)
    assert cluster.live is not None
    assert cluster.live.runs_on == B


def test_an_actor_that_tells_no_node_is_replaced(
    cluster: Cluster, models: Path, tmp_path: Path
) -> None:
    older = SimpleNamespace(serves=lambda _: True)
    cluster.live = Handle(cluster, older, cluster.here)
    start(models, tmp_path)
    assert cluster.live is not None
    assert cluster.live.node_id.remote() == cluster.here
