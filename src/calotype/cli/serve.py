"""``calotype serve``: the server."""

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click
import uvicorn
from starlette.types import ASGIApp

from calotype.api import door
from calotype.api.address import addresses, is_loopback
from calotype.assembly import Services, assemble, create_server, open_catalog
from calotype.catalog.catalog import Catalog
from calotype.cli.options import read_settings, setting_options
from calotype.cli.server import Server, leave_on_signals
from calotype.environment import ray_address
from calotype.errors import InvalidSettingError
from calotype.observe import logs
from calotype.scale import node
from calotype.settings import Settings

BACKLOG = 2048
"""Connections that the kernel holds while the server is busy."""


HELP = """Serve the models over HTTP.

The API is the Hugging Face Inference API's for image-to-image; existing clients need only the
URL. A model is loaded when it is first asked for.

\b
Examples:
  calotype serve
  calotype serve --port 9000 --preload upscale,style
  calotype serve --host 0.0.0.0            needs a token: calotype token create NAME
  calotype serve --memory-bytes 4000000000 --pin upscale
  calotype serve --config calotype.toml
  calotype serve --ray                     on Ray Serve; RAY_ADDRESS=HOST:6379 joins a cluster

Ctrl-C lets running requests finish, for up to --drain-s seconds; a second one stops at once.

The settings come from the options below, else from variables such as CALOTYPE_PORT, else from
the file.
"""


@click.command(name="serve", help=HELP, short_help="Serve the models over HTTP.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with settings; environment and options beat it.",
)
@click.option("--ray", "on_ray", is_flag=True, help="Serve on Ray Serve, see docs/scale-out.md.")
@click.option("--detach", is_flag=True, help="With --ray: leave it on the cluster, and return.")
@setting_options()
def command(config: Path | None, *, on_ray: bool, detach: bool, **given: object) -> None:
    """Check everything, take the port, and serve."""
    if detach and not on_ray:
        raise click.UsageError("--detach goes with --ray")
    settings = read_settings(given, config)
    logs.set_up(settings.log_level, settings.log_format)
    leave_on_signals()
    if on_ray and ray_address():
        door.check_shared(settings)
    has_tokens = door.has_tokens(settings)
    check_binding(settings, has_tokens=has_tokens)
    catalog = open_catalog(settings)
    for name in filter(None, settings.preload.split(",")):
        catalog.get(name.strip())
    if on_ray:
        serve_on_ray(settings, catalog, has_tokens=has_tokens, detach=detach)
        return
    services = assemble(settings, catalog)
    app = create_server(services)
    with listen(settings.host, settings.port) as listening:
        port = listening.getsockname()[1]
        click.echo(greeting(settings, catalog, port, has_tokens=has_tokens))
        serve(services, app, listening)


def serve_on_ray(settings: Settings, catalog: Catalog, *, has_tokens: bool, detach: bool) -> None:
    """Serve on Ray, which is told how before it is imported.

    Raises:
        MissingExtraError: Ray isn't installed.
        InvalidSettingError: the port is taken, or there is no such cluster.
    """
    node.prepare()
    with ExitStack() as held:
        if not ray_address():
            place = held.enter_context(hold(settings.host, settings.port))
            settings = replace(settings, port=place.getsockname()[1])
        deploy = importlib.import_module("calotype.scale.deploy")

        def greet() -> None:
            held.close()
            click.echo(greeting(settings, catalog, settings.port, has_tokens=has_tokens))

        deploy.serve_on_ray(settings, catalog, greet, detach=detach)


def check_binding(settings: Settings, *, has_tokens: bool) -> None:
    """Refuse to be open to the network by accident.

    Raises:
        InvalidSettingError: the host is not loopback, and there is no token.
    """
    if has_tokens or settings.insecure or is_loopback(settings.host):
        return
    raise InvalidSettingError(
        f"host {settings.host} can be reached from other machines, and there is no token: make one"
        " with `calotype token create NAME`, or pass --insecure to let everybody in"
    )


def listen(host: str, port: int) -> socket.socket:
    """Take a port, and listen there.

    Raises:
        InvalidSettingError: it is taken, or not ours to take.
    """
    family, address = _family_and_address(host)
    with _refusal(host, port):
        return socket.create_server((address, port), family=family, backlog=BACKLOG)


def hold(host: str, port: int) -> socket.socket:
    """Take a port for Ray's proxy, which binds it while it is held: its other processes take any.

    Raises:
        InvalidSettingError: it is taken, or not ours to take.
    """
    family, address = _family_and_address(host)
    held = socket.socket(family)
    with ExitStack() as unless_held, _refusal(host, port):
        unless_held.enter_context(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        # Only now: with it, a port where another cluster of this user listens would seem free.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        unless_held.pop_all()
    return held


def _family_and_address(host: str) -> tuple[socket.AddressFamily, str]:
    """Return what to listen on, as sockets take it."""
    address = addresses(host)[0]
    return socket.AF_INET6 if ":" in address else socket.AF_INET, address


@contextmanager
def _refusal(host: str, port: int) -> Iterator[None]:
    """Say of an address that can't be taken what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InvalidSettingError(
            f"cannot listen on {host} port {port}: {reason.lower()};"
            " choose another port with --port, or --port 0 for a free one"
        ) from error


def greeting(settings: Settings, catalog: Catalog, port: int, *, has_tokens: bool) -> str:
    """Say where the server is and how to use it."""
    wildcard = settings.host in ("0.0.0.0", "::", "")  # noqa: S104  compared, not listened on
    host = "127.0.0.1" if wildcard else settings.host
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    default = catalog.default.name
    token = ' -H "Authorization: Bearer $TOKEN"' if has_tokens else ""
    names = ", ".join(spec.name for spec in catalog.all())
    return (
        f"Calotype listens on {url}{' and every other address' if wildcard else ''}\n"
        f"  page    {url} in a browser\n"
        f"  try     curl{token} --data-binary @photo.jpg {url}/models/{default} -o result.jpg\n"
        f"  models  {names}"
    )


def serve(services: Services, app: ASGIApp, listening: socket.socket) -> None:
    """Answer requests until a signal comes; then let the running ones finish.

    Returns at that end, also when some were cut off because they took too long. A second signal
    ends the process with the status 128 + signal.

    Raises:
        SystemExit: the server could not start; the log says why.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="on"
    )
    server = Server(config, services)
    server.heed_signals()
    server.run(sockets=[listening])
    if not server.started:
        raise SystemExit(1)
