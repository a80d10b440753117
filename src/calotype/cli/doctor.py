"""``calotype doctor``: what is wrong with this machine or installation, and what mends it."""

import dataclasses
import json

import click

from calotype.cli.checks import examine
from calotype.cli.options import FOLDERS, read_settings, setting_options

HELP = """Check this machine and this installation: versions, processor, weights, folders, port.

\b
Examples:
  calotype doctor
  calotype doctor --host 0.0.0.0 --port 80
  calotype doctor --json

Each line is ok, a warning or a problem; the latter two come with what mends them. Exits with 1
when there is a problem.
"""
WIDTH = max(map(len, ("ok", "warning", "problem")))
NAME_WIDTH = 10


@click.command(name="doctor", help=HELP, short_help="Check this machine and this installation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@setting_options("host", "port", "insecure", "precision", "threads", *FOLDERS)
@click.pass_context
def command(ctx: click.Context, /, *, as_json: bool, **given: object) -> None:
    """Print a line for each check as soon as it is known."""
    checks = []
    for check in examine(read_settings(given)):
        checks.append(check)
        if not as_json:
            click.echo(f"{check.status:{WIDTH}}  {check.name:{NAME_WIDTH}}  {check.text}")
            if check.fix:
                click.echo(f"{'':{WIDTH}}  {'':{NAME_WIDTH}}  -> {check.fix}")
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    problems = sum(check.status == "problem" for check in checks)
    if problems:
        click.echo(f"{problems} problem{'s' if problems > 1 else ''}", err=True)
        ctx.exit(1)
