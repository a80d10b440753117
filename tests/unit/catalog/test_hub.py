import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from calotype.catalog import hub
from calotype.catalog.hub import RemoteFile, choose, fetch, look_up
from calotype.errors import (
    ForbiddenError,
    MissingExtraError,
    MissingWeightsError,
    UnknownModelError,
)

COMMIT = "c" * 40
FILES = {
    "x2.onnx": b"network of two" * 500,
    "nets/x4.param": b"7767517 lines",
    "nets/x4.bin": b"weights" * 900,
    "README.md": b"words",
}
LFS = {"x2.onnx", "nets/x4.bin"}


@dataclass
class Hub:
    """A small Hub: one repository, ``acme/nets``, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    gated: bool = False
    status: int = 200
    url: str = ""

    def info(self) -> bytes:
        """Describe the repository."""
        siblings = []
        for name, body in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False)
            said: dict[str, object] = {"rfilename": name, "size": len(body)}
            said["blobId"] = blob.hexdigest()
            if name in LFS:
                digest = hashlib.sha256(body).hexdigest()
                said["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 130}
            siblings.append(said)
        return json.dumps(
            {
                "id": "acme/nets",
                "modelId": "acme/nets",
                "sha": COMMIT,
                "siblings": siblings,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "private": False,
                "cardData": {"license": "mit"},
            }
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    """Answers what ``huggingface_hub`` asks."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        self.hub.tokens.add(self.headers.get("authorization", ""))
        if match := re.fullmatch(r"/api/models/(.+?)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/acme/nets/resolve/([^/]+)/(.+)", path):
            self._file(match[2])
        else:
            self._send(404, b"{}")

    def _info(self, repo: str, revision: str) -> None:
        if self.hub.status != 200:
            self._send(self.hub.status, b"{}")
        elif repo != "acme/nets":
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", "v1", COMMIT):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._send(200, self.hub.info(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        body = self.hub.files[name]
        etag = hashlib.sha256(body).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if name in self.hub.damaged:
            body = body[:-1] + b"?"
        start = 0
        if asked := self.headers.get("range"):
            self.hub.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._send(206 if start else 200, body[start:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET" and self.path.rpartition("/")[2] in self.hub.cut:
            self.hub.cut.clear()
            self.wfile.write(body[:1000])
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve the small Hub on loopback, and make the library use it."""
    from huggingface_hub import constants

    small = Hub()
    handler = type("Handler", (_Handler,), {"hub": small})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        small.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", small.url)
        template = small.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        hub.hide_bars()
        yield small
        server.shutdown()
        thread.join()


def _said() -> list[str]:
    return []


def test_networks_are_fetched_and_described(served: Hub, tmp_path: Path) -> None:
    repository = look_up("acme/nets")
    assert (repository.commit, repository.licence) == (COMMIT, "mit")
    assert [n.id for n in repository.networks] == ["acme/nets-nets-x4", "acme/nets-x2"]
    said = _said()
    for network in repository.networks:
        fetch(repository, network, tmp_path, said.append)
    assert (tmp_path / "acme/nets-x2.onnx").read_bytes() == FILES["x2.onnx"]
    assert (tmp_path / "acme/nets-nets-x4.param").read_bytes() == FILES["nets/x4.param"]
    assert (tmp_path / "acme/nets-nets-x4.bin").read_bytes() == FILES["nets/x4.bin"]
    assert not list((tmp_path / ".pull").iterdir())
    sidecar = (tmp_path / "acme/nets-x2.toml").read_text()
    assert 'licence = "mit"' in sidecar
    assert f"acme/nets/tree/{COMMIT}" in sidecar
    assert said[0] == f"fetching nets/x4.param of acme/nets at {COMMIT[:12]}"
    assert not any("README" in path for path in served.asked)
    # A branch may move while files arrive: all of them come from the one commit.
    assert all(COMMIT in path for path in served.asked if "resolve" in path)


def test_the_models_are_served_under_their_names(served: Hub, tmp_path: Path) -> None:
    from calotype.catalog.scan import scan_models_dir

    repository = look_up("acme/nets")
    for network in repository.networks:
        fetch(repository, network, tmp_path, _said().append)
    specs = {spec.id: spec for spec in scan_models_dir(tmp_path)}
    assert sorted(specs) == ["acme/nets-nets-x4", "acme/nets-x2"]
    assert specs["acme/nets-x2"].licence == "mit"
    assert served.asked


def test_what_is_here_is_not_fetched_again(served: Hub, tmp_path: Path) -> None:
    repository = look_up("acme/nets", pattern="x2.*")
    (network,) = repository.networks
    fetch(repository, network, tmp_path, _said().append)
    served.asked.clear()
    said = _said()
    fetch(repository, network, tmp_path, said.append)
    assert said == ["x2.onnx is here already"]
    assert not served.asked
    (tmp_path / "acme/nets.onnx").write_bytes(b"another")
    fetch(repository, network, tmp_path, _said().append)
    assert (tmp_path / "acme/nets.onnx").read_bytes() == FILES["x2.onnx"]


def test_a_connection_that_breaks_is_made_again(served: Hub, tmp_path: Path) -> None:
    served.cut.add("x2.onnx")
    repository = look_up("acme/nets", pattern="*.onnx")
    fetch(repository, repository.networks[0], tmp_path, _said().append)
    assert served.asked.count(f"GET /acme/nets/resolve/{COMMIT}/x2.onnx") == 2
    assert (tmp_path / "acme/nets.onnx").read_bytes() == FILES["x2.onnx"]


def test_an_interrupted_pull_goes_on_with_the_file_it_was_at(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    download = huggingface_hub.hf_hub_download

    def interrupted(repo: str, name: str, **named: object) -> str:
        if name.endswith(".bin"):
            raise KeyboardInterrupt
        return str(download(repo, name, **named))  # type: ignore[call-overload]

    repository = look_up("acme/nets", pattern="*.param")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(repository, repository.networks[0], tmp_path, _said().append)
    assert not (tmp_path / "acme/nets.bin").exists()
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    said = _said()
    fetch(repository, repository.networks[0], tmp_path, said.append)
    assert said[0] == "nets/x4.param is here already"
    assert (tmp_path / "acme/nets.bin").read_bytes() == FILES["nets/x4.bin"]
    assert served.asked.count(f"GET /acme/nets/resolve/{COMMIT}/nets/x4.param") == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_mirror_that_only_knows_status_codes(served: Hub, status: int) -> None:
    served.status = status
    with pytest.raises(UnknownModelError, match="there is no model acme/nets"):
        look_up("acme/nets")


def test_a_hub_in_trouble(served: Hub) -> None:
    served.status = 501
    with pytest.raises(MissingWeightsError, match="answered 501; try again later"):
        look_up("acme/nets")


def test_a_damaged_file_is_refused(served: Hub, tmp_path: Path) -> None:
    served.damaged.add("x2.onnx")
    repository = look_up("acme/nets", pattern="*.onnx")
    with pytest.raises(MissingWeightsError, match="did not arrive as the Hub describes it"):
        fetch(repository, repository.networks[0], tmp_path, _said().append)
    assert not (tmp_path / "acme/nets.onnx").exists()
    served.damaged.clear()
    fetch(repository, repository.networks[0], tmp_path, _said().append)


def test_a_sidecar_of_the_users_own_is_kept(served: Hub, tmp_path: Path) -> None:
    repository = look_up("acme/nets", pattern="*.onnx")
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/nets.toml").write_text("tile = 64\n")
    fetch(repository, repository.networks[0], tmp_path, _said().append)
    assert (tmp_path / "acme/nets.toml").read_text() == "tile = 64\n"
    assert served.asked


def test_a_revision(served: Hub) -> None:
    assert look_up("acme/nets", "v1").commit == COMMIT
    assert "GET /api/models/acme/nets/revision/v1" in served.asked
    with pytest.raises(UnknownModelError, match="acme/nets has no revision v9"):
        look_up("acme/nets", "v9")


def test_the_token_is_sent(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    look_up("acme/nets")
    assert served.tokens == {"Bearer hf_secret"}


def test_a_repository_that_is_not_there(served: Hub) -> None:
    with pytest.raises(UnknownModelError, match=f"there is no model acme/gone at {served.url}"):
        look_up("acme/gone")


def test_a_gated_repository(served: Hub) -> None:
    served.gated = True
    with pytest.raises(ForbiddenError, match=r"acme/nets is gated: accept its terms .* HF_TOKEN"):
        look_up("acme/nets")


def test_a_name_that_the_hub_cannot_have(served: Hub) -> None:
    with pytest.raises(UnknownModelError, match="no name of a model"):
        look_up("acme/..nets--")
    assert not served.asked


def test_offline(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match="HF_HUB_OFFLINE keeps acme/nets away"):
        look_up("acme/nets")
    assert not served.asked


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingWeightsError, match=r"http://127\.0\.0\.1:9 can't be reached"):
        look_up("acme/nets")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'calotype\[hub\]'"):
        look_up("acme/nets")


def _files(*names: str) -> list[RemoteFile]:
    return [RemoteFile(name=name) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.onnx", "README.md"], ["acme/nets"]),
        (["a.param", "a.bin"], ["acme/nets"]),
        (["a.onnx", "a.param", "a.bin"], ["acme/nets"]),
        (["a.onnx", "b.onnx"], ["acme/nets-a", "acme/nets-b"]),
        (["a b.onnx", "c/d.onnx"], ["acme/nets-a-b", "acme/nets-c-d"]),
        (["a.onnx", "big.onnx", "big.onnx_data"], ["acme/nets"]),
    ],
)
def test_how_networks_are_named(names: list[str], expected: list[str]) -> None:
    assert [network.id for network in choose("acme/nets", _files(*names))] == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["m.safetensors", "m.pth"], "holds PyTorch and safetensors weights only, which a later"),
        (["big.onnx", "big.onnx_data"], "external data"),
        (["a.param"], r"holds no .onnx or .param with .bin; it holds a\.param"),
        (["1", "2", "3", "4", "5", "6"], "1, 2, 3, 4, 5 and 1 more"),
        ([], "it holds nothing"),
    ],
)
def test_a_repository_without_anything_to_open(names: list[str], message: str) -> None:
    with pytest.raises(MissingWeightsError, match=message):
        choose("acme/nets", _files(*names))


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(MissingWeightsError, match=r"in acme/nets matches z\*; it holds a\.onnx"):
        choose("acme/nets", _files("a.onnx"), "z*")
