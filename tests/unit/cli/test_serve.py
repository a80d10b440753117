import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from calotype.api import address
from calotype.assembly import assemble, create_server, open_catalog
from calotype.cli import serve
from calotype.errors import InvalidSettingError
from calotype.settings import Settings

Invoke = Callable[..., Result]
ANY = "0.0.0.0"  # noqa: S104  never really listened on


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Collects the settings of servers that would run now."""
    seen: list[Settings] = []
    monkeypatch.setattr(serve, "serve", lambda services, *_: seen.append(services.settings))
    monkeypatch.setattr(serve, "leave_on_signals", lambda: None)
    return seen


def test_every_setting_is_an_option(invoke: Invoke) -> None:
    shown = invoke("serve", "--help").stdout
    for knob in dataclasses.fields(Settings):
        assert f"--{knob.name.replace('_', '-')}" in shown
    assert "0 to 65535; default 8000" in " ".join(shown.split())
    assert "33554432, 32 MiB" in " ".join(shown.split())


def test_options_beat_the_environment_which_beats_the_file(
    invoke: Invoke, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.toml").write_text("queue_size = 1\njpeg_quality = 1\nwebp_quality = 1\n")
    monkeypatch.setenv("CALOTYPE_JPEG_QUALITY", "2")
    monkeypatch.setenv("CALOTYPE_WEBP_QUALITY", "2")
    result = invoke(
        *("serve", "--port", "0", "--config", "c.toml", "--webp-quality", "3"),
        *("--keep-metadata", "--deadline-s", "1.5"),
    )
    assert result.exit_code == 0
    (settings,) = served
    assert (settings.queue_size, settings.jpeg_quality, settings.webp_quality) == (1, 2, 3)
    assert (settings.keep_metadata, settings.deadline_s) == (True, 1.5)


def test_it_says_where_it_is_and_how_to_use_it(invoke: Invoke, served: list[Settings]) -> None:
    shown = invoke("serve", "--port", "0", "--default-model", "echo").stdout
    assert len(served) == 1
    port = shown.splitlines()[0].rpartition(":")[2]
    assert int(port) > 0
    assert f"curl --data-binary @photo.jpg http://127.0.0.1:{port}/models/echo" in shown
    assert "models  colorize, inpaint, style-image, style, " in shown


def test_it_is_not_open_to_the_network_by_accident(invoke: Invoke, served: list[Settings]) -> None:
    result = invoke("serve", "--host", ANY, "--port", "0")
    assert result.exit_code == 2
    assert "calotype token create NAME" in result.stderr
    assert "--insecure" in result.stderr
    assert not served


def test_a_token_or_the_word_insecure_opens_it(invoke: Invoke, served: list[Settings]) -> None:
    assert invoke("serve", "--host", ANY, "--port", "0", "--insecure").exit_code == 0
    invoke("token", "create", "a")
    shown = invoke("serve", "--host", ANY, "--port", "0").stdout
    assert len(served) == 2
    assert "http://127.0.0.1:" in shown
    assert "and every other address" in shown
    assert '-H "Authorization: Bearer $TOKEN"' in shown


def test_a_port_that_is_taken(invoke: Invoke, served: list[Settings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        result = invoke("serve", "--port", str(port))
    assert result.exit_code == 2
    assert f"error: cannot listen on 127.0.0.1 port {port}: address already in use" in result.stderr
    assert "--port 0" in result.stderr
    assert not served


def reused() -> socket.socket:
    """Return a socket as Ray's proxy has it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def test_a_port_is_held_until_ray_has_it() -> None:
    with serve.hold("127.0.0.1", 0) as held, reused() as proxy, socket.socket() as other:
        address = held.getsockname()
        with pytest.raises(OSError, match="in use"):
            other.bind(address)
        proxy.bind(address)
        proxy.listen()
        held.close()
        with socket.create_connection(address, timeout=5):
            proxy.accept()[0].close()


def test_a_port_where_another_ray_listens_can_not_be_held() -> None:
    with reused() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        port = proxy.getsockname()[1]
        said = f"port {port}: address already in use; choose another port with --port"
        with pytest.raises(InvalidSettingError, match=said):
            serve.hold("127.0.0.1", port)


def test_a_model_to_preload_that_nobody_knows(invoke: Invoke, served: list[Settings]) -> None:
    result = invoke("serve", "--port", "0", "--preload", "echo, nope")
    assert result.exit_code == 1
    assert result.stderr == "error: Model nope does not exist\n"
    assert not served


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), (ANY, False), ("", False)],
)
def test_what_only_this_machine_can_reach(host: str, *, loopback: bool) -> None:
    assert address.is_loopback(host) is loopback


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(InvalidSettingError, match="host must be an address of this machine"):
        address.is_loopback("no such host")


def test_the_address_of_ipv6() -> None:
    settings = Settings(host="::1", default_model="upscale")
    shown = serve.greeting(settings, open_catalog(settings), 9, has_tokens=False)
    assert "listens on http://[::1]:9\n" in shown


def test_a_server_that_does_not_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(heed_signals=lambda: None, run=lambda **_: None, started=False)
    monkeypatch.setattr(serve, "Server", lambda *_: made)
    services = assemble(Settings())
    with serve.listen("127.0.0.1", 0) as listening, pytest.raises(SystemExit):
        serve.serve(services, create_server(services), listening)
