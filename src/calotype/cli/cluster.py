"""``calotype cluster``: what a cluster is told, and its end."""

import importlib
import importlib.metadata
import shlex
from pathlib import Path

import click

from calotype.api import door
from calotype.assembly import open_catalog
from calotype.cli.options import read_settings, setting_options
from calotype.cli.serve import check_binding
from calotype.errors import InvalidSettingError
from calotype.scale import node
from calotype.settings import Settings

CONFIG_HELP = """Print the file that `serve deploy` takes, or a manifest for KubeRay.

It puts onto a cluster what `calotype serve --ray` with the same settings would: edit the numbers of
its deployments there.

\b
Examples:
  calotype cluster config --host 0.0.0.0 --store-url redis://STORE:6379/0 > calotype.yaml
  calotype cluster config --cluster-models 'upscale: replicas=1-4 cpus=2'
  calotype cluster config --apart          a deployment for each model
  calotype cluster config --kuberay --with-store --image registry/calotype:1
"""
ENVIRONMENT_HELP = """Print what Ray's processes need in their environment, as a shell reads it.

\b
Example, on every machine before Ray is started there:
  eval "$(calotype cluster environment)"
  ray start --head
"""


@click.group(name="cluster", short_help="Describe a cluster, and take the server off one.")
def command() -> None:
    """Describe a cluster, and take the server off one; see docs/scale-out.md."""


@command.command(name="config", help=CONFIG_HELP, short_help="Print the file for a cluster.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with settings; environment and options beat it.",
)
@click.option(
    "--apart", is_flag=True,
    help="Give each model that would share replicas with others a deployment of its own.",
)  # fmt: skip
@click.option("--kuberay", is_flag=True, help="Print a RayService for Kubernetes.")
@click.option(
    "--image", metavar="NAME",
    help="With --kuberay: image of the pods.  [default: calotype:VERSION]",
)  # fmt: skip
@click.option("--with-store", is_flag=True, help="With --kuberay: print a Valkey to share, too.")
@setting_options()
def print_config(
    config: Path | None,
    *,
    apart: bool,
    kuberay: bool,
    image: str | None,
    with_store: bool,
    **given: object,
) -> None:
    """Print the file for a cluster."""
    if not kuberay and (image or with_store):
        raise click.UsageError("--image and --with-store go with --kuberay")
    settings = read_settings(given, config)
    if not settings.port:
        raise InvalidSettingError("port must be the same at every node, got 0")
    node.prepare()
    manifest = importlib.import_module("calotype.scale.manifest")
    if apart:
        settings = manifest.set_apart(settings, open_catalog(settings))
    if kuberay:
        click.echo(_kuberay(settings, image, with_store=with_store), nl=False)
        return
    door.check_shared(settings)
    check_binding(settings, has_tokens=door.has_tokens(settings))
    click.echo(manifest.write_config(settings, open_catalog(settings)).text, nl=False)


@command.command(
    name="environment", help=ENVIRONMENT_HELP, short_help="Print what Ray needs to be told."
)
def print_environment() -> None:
    """Print what Ray needs to be told."""
    for name, value in node.ENVIRONMENT.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@command.command(name="stop")
def stop() -> None:
    """Take the server off the cluster of RAY_ADDRESS; its nodes stay."""
    node.prepare()
    was_there = importlib.import_module("calotype.scale.deploy").stop()
    said = "calotype is off the cluster" if was_there else "calotype was not on the cluster"
    click.echo(said, err=True)


def _kuberay(settings: Settings, image: str | None, *, with_store: bool) -> str:
    """Return the documents for Kubernetes.

    Raises:
        InvalidSettingError: it would be open to everybody, or have two stores.
    """
    if with_store and settings.store_url:
        raise InvalidSettingError("store_url names a store already: leave --with-store out")
    if not with_store and not settings.store_url and not settings.insecure:
        raise InvalidSettingError(
            "pods have no token file in common: keep the tokens in a store, with --with-store or"
            " --store-url, or pass --insecure to let everybody in"
        )
    kuberay = importlib.import_module("calotype.scale.kuberay")
    settings = kuberay.for_pods(settings, with_store=with_store)
    image = image or f"calotype:{importlib.metadata.version('calotype')}"
    service: str = kuberay.write_service(settings, open_catalog(settings), image)
    return f"{kuberay.write_store()}---\n{service}" if with_store else service
