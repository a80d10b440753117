"""``calotype pull``: a model made ready before its first request."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from calotype.assembly import open_catalog
from calotype.catalog import delivery, hub, weights
from calotype.catalog.catalog import Catalog
from calotype.catalog.choice import Choice, choose
from calotype.catalog.scan import describe_file
from calotype.cli.options import FOLDERS, read_settings, setting_options
from calotype.cli.trial import trial
from calotype.domain.model import ModelSpec
from calotype.errors import (
    CalotypeError,
    InvalidCatalogError,
    MissingWeightsError,
    UnknownModelError,
)
from calotype.local import Calotype
from calotype.settings import Settings

HELP = """Get a model ready, so that its first request is fast.

A model that comes with Calotype is checked and compiled. Any other ID is fetched from the Hugging
Face Hub into the models folder: .onnx files, .param files with their .bin, checkpoints of PyTorch
(.safetensors, .pth, .pt, .ckpt), diffusers pipelines (of the weights only the .safetensors, and of
those the fp16 ones where there are some), and adapters (LoRA). Of one name in several forms the
first of these is taken. What is there already isn't fetched again: a pull that was interrupted
goes on with the file that it was at, from that file's start. Nothing is served before all of it is
there.

\b
Examples:
  calotype pull upscale
  calotype pull acme/super-resolution
  calotype pull acme/super-resolution@v1.2        a branch, tag or commit
  calotype pull acme/many-nets --file '*x4*'
  calotype pull timbrooks/instruct-pix2pix        a pipeline
  calotype pull acme/pixel-art                    an adapter, if it is named or tagged so
  calotype pull --lora acme/inks --file 'ink-v2*'

HF_ENDPOINT (a mirror), HF_TOKEN (for gated models) and HF_HUB_OFFLINE are honoured. Fetching needs
`pip install 'calotype[hub]'`, pipelines need `pip install 'calotype[diffusers]'`, and checkpoints
`pip install 'calotype[torch]'`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What to take of which repository."""

    name: str
    revision: str
    pattern: str
    lora: bool


@click.command(
    name="pull", help=HELP, short_help="Get a model ready: fetch it from the Hub, or compile it."
)
@click.argument("model", metavar="ID[@REVISION]")
@click.option("--file", "pattern", metavar="PATTERN", default="", help="Only files of that name.")
@click.option("--lora", is_flag=True, help="Take an adapter, even if it isn't named or tagged so.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@setting_options("precision", "threads", *FOLDERS)
def command(model: str, *, pattern: str, lora: bool, quiet: bool, **given: object) -> None:
    """Fetch what isn't there, then compile."""
    settings = read_settings(given)
    name, _, revision = model.partition("@")
    wish = _Wish(name=name, revision=revision, pattern=pattern, lora=lora)
    spec = None if lora else _own(open_catalog(settings), name)
    if spec is not None and not _is_pulled(spec, settings):
        if revision or pattern:
            raise UnknownModelError(f"{name} comes with Calotype: it has no revisions or files")
        ready = [spec.id]
    else:
        ready = _fetch(settings, wish, quiet=quiet)
    if not ready:
        return
    set_values = {key: value for key, value in given.items() if value is not None}
    with Calotype(**set_values) as local:
        for ready_id in ready:
            _make_ready(local, ready_id, quiet=quiet)


def _own(catalog: Catalog, name: str) -> ModelSpec | None:
    """Return the model of that name, if there is one."""
    try:
        return catalog.get(name) if name else None
    except UnknownModelError:
        return None


def _is_pulled(spec: ModelSpec, settings: Settings) -> bool:
    """Tell whether a model lies in the models folder, so that the Hub may have a newer one."""
    folder = settings.models_path.resolve()
    return bool(spec.files) and all(
        not file.package and folder in weights.locate(file).parents for file in spec.files
    )


def _fetch(settings: Settings, wish: _Wish, *, quiet: bool) -> list[str]:
    """Fetch models or an adapter; return the ids of the models, which can be tried."""
    if wish.name.count("/") != 1:
        raise UnknownModelError(
            f"Model {wish.name} does not exist; one of the Hub is written org/name"
        )
    if quiet or not sys.stderr.isatty():
        hub.hide_bars()
    folder, say = settings.models_path, _sayer(quiet=quiet)
    repository = hub.look_up(wish.name, wish.revision)
    read = partial(delivery.read, repository, folder=folder)
    adapters_dir = str(settings.loras_path.absolute())
    choices = choose(repository, read, wish.pattern, lora=wish.lora, adapters_dir=adapters_dir)
    delivery.fetch(repository, choices, folder, say)
    for choice in choices:
        if choice.kind == "adapter":
            used = json.dumps([{"id": choice.id, "scale": 1.0}])
            say(f"{choice.id} is ready, for models that it was made for, with the parameter")
            say(f"  loras: {used}")
    models = [choice for choice in choices if choice.kind != "adapter"]
    reasons = {choice.id: _unserved(choice, folder) for choice in models}
    ready = [choice_id for choice_id, reason in reasons.items() if not reason]
    if models and not ready:
        raise MissingWeightsError("; ".join(reasons.values()))
    for reason in filter(None, reasons.values()):
        click.echo(f"warning: {reason}", err=True)
    return ready


def _unserved(choice: Choice, folder: Path) -> str:
    """Say why a network that was fetched is none, which only its tensors' names tell."""
    try:
        if choice.kind == "network":
            describe_file(folder / next(iter(choice.files)))
    except InvalidCatalogError as error:
        return str(error)
    return ""


def _make_ready(local: Calotype, id: str, *, quiet: bool) -> None:
    """Check the files and compile the network."""
    say = _sayer(quiet=quiet)
    spec = local.model(id)
    for report in weights.check(spec):
        if not report.ok:
            raise MissingWeightsError(report.problem)
    try:
        took_s = trial(local, spec)
    except CalotypeError as error:
        raise MissingWeightsError(f"{id} is here, but can't be run: {error}") from error
    digests = "weights right, " if any(file.sha256 for file in spec.files) else ""
    say(f"{spec.id} is ready: {digests}compiled and tried in {took_s:.2f} s")
    prompt = spec.param("prompt")
    said = ' --prompt "..."' if prompt is not None and prompt.required else ""
    say(f"  calotype run {spec.name} photo.jpg{said}")


def _sayer(*, quiet: bool) -> Callable[[str], None]:
    """Return what prints a line, or nothing."""
    return (lambda _: None) if quiet else click.echo
