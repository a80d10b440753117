"""``calotype models``: what can be run."""

import json

import click

from calotype.assembly import open_catalog
from calotype.catalog import weights
from calotype.catalog.catalog import Catalog
from calotype.cli.options import FOLDERS, read_settings, setting_options
from calotype.cli.table import aligned, megabytes
from calotype.domain.model import ModelSpec, ParamSpec
from calotype.domain.params import all_params
from calotype.domain.schema import json_schema
from calotype.errors import BackendError, ConfigError

URL = "http://127.0.0.1:8000"
CHECK_HELP = """Check that the weights of models (default: all) are there and are the right ones.

\b
Examples:
  calotype models check
  calotype models check upscale --run

Exits with 1 when something is wrong, after saying which command mends it.
"""


@click.group(name="models", short_help="List, explain and check the models.")
def command() -> None:
    """List, explain and check the models."""


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@setting_options(*FOLDERS)
def list_models(*, as_json: bool, **given: object) -> None:
    """List the models: those that come with Calotype, and your own."""
    catalog = _catalog(given)
    if as_json:
        click.echo(json.dumps([_described(spec, catalog) for spec in catalog.all()], indent=2))
        return
    rows = [
        (spec.alias or "-", spec.id, spec.task, megabytes(spec.size_bytes), spec.licence)
        for spec in catalog.all()
    ]
    click.echo(aligned(("ALIAS", "ID", "TASK", "SIZE", "LICENCE"), rows))


@command.command(name="show")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@setting_options(*FOLDERS)
def show_model(model: str, *, as_json: bool, **given: object) -> None:
    """Explain one model: what it does, what it takes, and how to call it."""
    catalog = _catalog(given)
    spec = catalog.get(model)
    if as_json:
        described = _described(spec, catalog) | {"parameters": json_schema(spec)}
        click.echo(json.dumps(described, indent=2))
        return
    name = spec.name
    facts = {
        "id": spec.id,
        "alias": spec.alias or "-",
        "task": spec.task,
        "scale": _scale(spec),
        "backend": spec.backend,
        "revision": spec.revision,
        "size": megabytes(spec.size_bytes),
        "licence": spec.licence,
        "source": spec.source or "-",
    }
    click.echo("\n".join(f"{key:9} {value}" for key, value in facts.items()))
    if spec.description:
        click.echo(f"\n{spec.description}")
    click.echo("\nParameters")
    click.echo("\n".join(f"  {line}" for param in all_params(spec) for line in _explained(param)))
    click.echo(f"\nOn the command line\n  calotype run {name} photo.jpg{_arguments(spec)}")
    click.echo(f"\nOver HTTP\n  {_curl(spec)}")


@command.command(name="check", help=CHECK_HELP, short_help="Check the weights of models.")
@click.argument("models", nargs=-1)
@click.option("--run", "run", is_flag=True, help="Load each model too, and run a tiny picture.")
@setting_options(*FOLDERS)
@click.pass_context
def check_models(
    ctx: click.Context, /, *, models: tuple[str, ...], run: bool, **given: object
) -> None:
    """Look at every file, and run the models if asked to."""
    catalog = _catalog(given)
    specs = [catalog.get(name) for name in models] or list(catalog.all())
    broken = 0
    for spec in specs:
        problems = [report.problem for report in weights.check(spec) if not report.ok]
        said = "weights are right" if any(f.sha256 for f in spec.files) else "weights are there"
        if run and not problems:
            problems, ran = _tried(spec, given)
            said += ran
        broken += bool(problems)
        for problem in problems:
            click.echo(f"wrong  {spec.id}: {problem}")
        if not problems:
            click.echo(f"ok     {spec.id}: {said}")
    if broken:
        click.echo(f"{broken} of {len(specs)} models can't be served", err=True)
        ctx.exit(1)


def _tried(spec: ModelSpec, given: dict[str, object]) -> tuple[list[str], str]:
    """Run a model; return what went wrong, and how it went."""
    from calotype.cli.trial import trial  # noqa: PLC0415  the other commands need no engine
    from calotype.local import Calotype  # noqa: PLC0415

    settings = {name: value for name, value in given.items() if value is not None}
    try:
        with Calotype(**settings) as local:
            took_s = trial(local, spec)
    except (ConfigError, BackendError) as error:
        return [str(error)], ""
    return [], f", loaded and ran in {took_s:.2f} s"


def _catalog(given: dict[str, object]) -> Catalog:
    return open_catalog(read_settings(given))


def _described(spec: ModelSpec, catalog: Catalog) -> dict[str, object]:
    """Describe a model as JSON."""
    return {
        "id": spec.id,
        "alias": spec.alias or None,
        "default": spec is catalog.default,
        "task": spec.task,
        "description": spec.description,
        "backend": spec.backend,
        "revision": spec.revision,
        "size_bytes": spec.size_bytes,
        "licence": spec.licence,
        "source": spec.source or None,
    }


def _scale(spec: ModelSpec) -> str:
    """Say how much larger the result is."""
    if spec.param("scale"):
        return "a parameter"
    return f"x{spec.scale}" if spec.scale else "the network's own, known when it is loaded"


def _explained(param: ParamSpec) -> list[str]:
    """Explain one parameter."""
    said = [param.type, "required" if param.required else ""]
    if param.minimum is not None or param.maximum is not None:
        low, high = (_bound(b) for b in (param.minimum, param.maximum))
        said.append(f"{low} to {high}")
    if param.default is not None:
        shown = json.dumps(param.default)
        said.append(f"default {shown}")
    lines = [f"{param.name}  ({', '.join(filter(None, said))})", f"    {param.help}"]
    if param.choices:
        lines.append(f"    one of: {', '.join(map(str, param.choices))}")
    return lines


def _bound(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}"


def _arguments(spec: ModelSpec) -> str:
    """Return the options that a model can't do without."""
    return "".join(
        f" --{param.name.replace('_', '-')} {'other.jpg' if param.type == 'image' else 'VALUE'}"
        for param in spec.params
        if param.required
    )


def _curl(spec: ModelSpec) -> str:
    """Write a request that runs as it stands."""
    url = f"{URL}/models/{spec.name}"
    required = [param for param in spec.params if param.required]
    if not required:
        return f"curl --data-binary @photo.jpg {url} -o result.jpg"
    images = ["photo.jpg", *("other.jpg" for param in required if param.type == "image")]
    values = {param.name: "%s" if param.type == "image" else "..." for param in required}
    body = json.dumps({"inputs": "%s", "parameters": values})
    files = " ".join(f"\"$(base64 < {image} | tr -d '\\n')\"" for image in images)
    return f"printf '{body}' {files} |\n    curl --data-binary @- {url} -o result.jpg"
