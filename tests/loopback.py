"""A small Hub on loopback, which huggingface_hub's own code downloads from."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest

from calotype.catalog.hub import hide_bars

COMMIT = "c" * 40
LARGE = {".onnx", ".bin", ".safetensors", ".ckpt"}
"""Suffixes of files that the Hub keeps by their SHA-256."""
NETWORKS = {
    "x2.onnx": b"network of two" * 500,
    "nets/x4.param": b"7767517 lines",
    "nets/x4.bin": b"weights" * 900,
    "README.md": b"words",
}


@dataclass
class Hub:
    """A small Hub: one repository, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(NETWORKS))
    """At ``main`` and ``v1``, which are ``COMMIT``."""
    others: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by further commits."""
    repo: str = "acme/nets"
    tags: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    """Names of files that arrive wrong."""
    cut: set[str] = field(default_factory=set)
    """Names of files whose connection breaks once."""
    broken: set[str] = field(default_factory=set)
    """Names of files of which the middle is never reached."""
    gated: bool = False
    gated_files: bool = False
    status: int = 200
    url: str = ""

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return a revision's commit and files."""
        if revision in ("main", "v1", COMMIT):
            return COMMIT, self.files
        return (revision, self.others[revision]) if revision in self.others else None

    def fetched(self) -> list[str]:
        """Return the paths of files that were downloaded, in order, and forget them."""
        start = re.compile(rf"GET /{self.repo}/resolve/[^/]+/")
        paths = [start.sub("", line) for line in self.asked if start.match(line)]
        self.asked.clear()
        return paths

    def info(self, commit: str, files: dict[str, bytes]) -> bytes:
        """Describe the repository."""
        said = {
            "id": self.repo,
            "modelId": self.repo,
            "sha": commit,
            "siblings": [_sibling(name, body) for name, body in files.items()],
            "tags": self.tags,
            "downloads": 0,
            "likes": 0,
            "private": False,
            "cardData": {"license": "mit"},
        }
        return json.dumps(said).encode()


def digest(name: str, body: bytes) -> str:
    """Return the digest by which the Hub knows a file."""
    if PurePosixPath(name).suffix in LARGE:
        return hashlib.sha256(body).hexdigest()
    blob = b"blob %d\0" % len(body) + body
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


def _sibling(name: str, body: bytes) -> dict[str, object]:
    said: dict[str, object] = {"rfilename": name, "size": len(body), "blobId": "b" * 40}
    if PurePosixPath(name).suffix in LARGE:
        lfs = {"sha256": digest(name, body), "size": len(body), "pointerSize": 130}
        return said | {"lfs": lfs}
    return said | {"blobId": digest(name, body)}


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
        elif match := re.fullmatch(rf"/{self.hub.repo}/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2])
        else:
            self._send(404, b"{}")

    def _info(self, repo: str, revision: str) -> None:
        found = self.hub.at(revision)
        if self.hub.status != 200:
            self._send(self.hub.status, b"{}")
        elif repo != self.hub.repo:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif found is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._send(200, self.hub.info(*found), {"Content-Type": "application/json"})

    def _file(self, revision: str, name: str) -> None:
        found = self.hub.at(revision)
        assert found is not None
        commit, files = found
        if self.hub.gated_files:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            return
        body = files[name]
        etag = digest(name, body)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if name in self.hub.damaged:
            body = body[:-1] + b"?"
        start = 0
        if asked := self.headers.get("range"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.command == "GET" and name in self.hub.broken and start:
            self.close_connection = True
            return
        self._send(206 if start else 200, body[start:], headers, name)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, name: str = ""
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET" and name in self.hub.cut | self.hub.broken:
            self.hub.cut.discard(name)
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(body)


@contextlib.contextmanager
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve the small Hub, and make the library use it."""
    from huggingface_hub import constants

    with listening() as small:
        monkeypatch.setattr(constants, "ENDPOINT", small.url)
        template = small.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("time.sleep", lambda _: None)  # what it does between tries
        hide_bars()
        yield small


@contextlib.contextmanager
def listening() -> Iterator[Hub]:
    """Serve the small Hub, for other processes too."""
    small = Hub()
    handler = type("Handler", (_Handler,), {"hub": small})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        small.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield small
        server.shutdown()
        thread.join()
