"""``calotype run``: pictures without a server."""

import logging
import sys
from pathlib import Path

import click

from calotype.catalog.scan import NETWORKS
from calotype.cli.batch import Desk, Report, Screen, run_all
from calotype.cli.main import DEBUG, EXIT_INTERRUPTED
from calotype.cli.options import FOLDERS, read_settings, setting_options
from calotype.cli.parameters import parameter_options, read_parameters
from calotype.cli.plan import Errand, make_plan
from calotype.domain.chain import Chain
from calotype.domain.plan import plan_stages
from calotype.domain.request import FORMATS, ImageFormat
from calotype.local import LOCAL, Calotype
from calotype.observe import logs

SETTINGS = (
    "keep_metadata", "jpeg_quality", "webp_quality", "png_effort", "precision", "threads",
    "max_pixels", "max_output_pixels", *FOLDERS,
)  # fmt: skip
"""The settings that mean something without a server."""


HELP = """Run MODEL over pictures: files, patterns, whole folders, or - for standard input.

MODEL is an id, an alias, or the path of a network's file. MODEL+MODEL runs one after the other.

\b
Examples:
  calotype run upscale photo.jpg                  makes photo_upscale.jpg
  calotype run upscale photo.jpg -o large.png     the suffix decides the format
  calotype run upscale-fast scans/ -o large/      every picture below scans/, tree kept
  calotype run upscale 'in/**/*.png' -o out/      quoted, or not, as you like
  calotype run nets/denoise.pth photo.jpg         a network's file, wherever it lies
  calotype run upscale-fast+style photo.jpg -p upscale-fast.scale=2 --style neon
  calotype run style photo.jpg --style fresco:0.7,neon:0.3 --strength 0.8
  calotype run style-image photo.jpg --style-image painting.jpg --preserve-color
  curl -s URL | calotype run upscale - -o - > large.jpg

A folder is taken up where it was left: what has a result newer than the input is skipped.
A picture that fails is reported at the end and does not stop the rest. Files are written
whole or not at all, and never over an input. `calotype models show MODEL` lists what a model
takes; a parameter that it doesn't use is ignored with a warning.
"""


@click.command(
    name="run", help=HELP, short_help="Run a model over pictures, files or whole folders."
)
@click.argument("model")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUT",
    help="File for one picture, folder for several, - for standard output."
    "  [default: NAME_MODEL beside the input]",
)  # fmt: skip
@click.option("--format", type=click.Choice(FORMATS), help="Format of the results.")
@click.option("--overwrite", is_flag=True, help="Make results anew that are there already.")
@click.option("--dry-run", is_flag=True, help="Say what would be read and written, and stop.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
@click.option("--progress/--no-progress", default=None, help="Bars.  [default: on a terminal]")
@parameter_options
@setting_options(*SETTINGS, defaults=LOCAL)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    model: str,
    inputs: tuple[str, ...],
    output: str | None,
    format: ImageFormat | None,
    overwrite: bool,
    dry_run: bool,
    quiet: bool,
    progress: bool | None,
    others: tuple[str, ...],
    **options: object,
) -> None:
    """Plan, run and report."""
    given = {name: options[name] for name in SETTINGS}
    _set_up_logs(ctx, given)
    with Calotype(**{name: value for name, value in given.items() if value is not None}) as local:
        chain = Chain((local.open(model),)) if _is_file(model) else local.chain(model)
        parameters = read_parameters(chain, options, others)
        plan_stages(chain, parameters)  # what is wrong for all is said before the first
        errands = make_plan(inputs, output, format, chain.spec.name)
        left = [errand for errand in errands if overwrite or not errand.is_done]
        if dry_run:
            _show(errands, left)
            return
        _check_terminal(left)
        report = Report(len(errands), skipped=len(errands) - len(left))
        bars = sys.stderr.isatty() if progress is None else progress

        try:
            screen = Screen(len(left), bars=bars and bool(left), quiet=quiet)
            run_all(Desk(local, chain.spec.id, parameters, screen), left, report)
        except KeyboardInterrupt:
            click.echo(
                f"interrupted: {report.done} of {len(left)} done;"
                " the same command goes on from there",
                err=True,
            )
            ctx.exit(EXIT_INTERRUPTED)
    _conclude(ctx, report, quiet=quiet)


def _is_file(model: str) -> bool:
    """Tell whether a model is named by the path of its file."""
    path = Path(model)
    return path.suffix.lower() in NETWORKS and path.is_file()


def _set_up_logs(ctx: click.Context, given: dict[str, object]) -> None:
    """Keep the log off the screen; what matters of it is said in words."""
    settings = read_settings(given)
    logs.set_up("debug" if ctx.meta.get(DEBUG) else "warning", "text")
    if not ctx.meta.get(DEBUG):
        # A failed load is logged with its traceback for a server's operator; here it is the error.
        logging.getLogger("calotype.execution").setLevel(logging.CRITICAL)
        # What libvips warns of is an error that is told, or harmless.
        logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    logging.getLogger("calotype").debug("settings: %s", settings)


def _show(errands: list[Errand], left: list[Errand]) -> None:
    """Print the plan."""
    for errand in errands:
        skipped = "" if errand in left else "  (skipped: it is there)"
        click.echo(f"{errand.source or '-'} -> {errand.target or '-'}{skipped}")


def _check_terminal(left: list[Errand]) -> None:
    """Refuse to write a file's bytes to a screen."""
    if any(errand.target is None for errand in left) and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: name a file with -o")


def _conclude(ctx: click.Context, report: Report, *, quiet: bool) -> None:
    """Say how it went."""
    for name, reason in report.failures:
        click.echo(f"failed: {name}: {reason}", err=True)
    if not quiet and (report.total > 1 or report.skipped):
        click.echo(report.sentence(), err=True)
    if report.failures:
        ctx.exit(1)
