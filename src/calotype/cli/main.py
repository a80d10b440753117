"""The command ``calotype``: its sub-commands, and how errors end it."""

import importlib
import os
import sys
from typing import NamedTuple

import click

from calotype.errors import CalotypeError, ConfigError

EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

DEBUG = "calotype.debug"
"""Key in the context's ``meta``: whether errors show their traceback."""


HELP = """Image-to-image models as a server and on the command line.

\b
Examples:
  calotype run upscale photo.jpg -o large.jpg
  calotype run style photos/ -o painted/ --style great-wave
  calotype serve
  calotype models list

Every setting that `calotype serve --help` lists can also be set by an environment variable:
CALOTYPE_PORT, CALOTYPE_MODELS_DIR and so on.
"""


class _Entry(NamedTuple):
    """Where a command is, and its line in ``calotype --help``."""

    module: str
    line: str


COMMANDS = {
    "serve": _Entry("serve", "Serve the models over HTTP."),
    "run": _Entry("run", "Run a model over pictures, files or whole folders."),
    "models": _Entry("models", "List, explain and check the models."),
    "pull": _Entry("pull", "Get a model ready: fetch it from the Hub, or compile it."),
    "token": _Entry("token", "Create, list, revoke and copy the tokens that open a server."),
    "cluster": _Entry("cluster", "Describe a cluster, and take the server off one."),
    "doctor": _Entry("doctor", "Check this machine and this installation."),
}
"""Each in a module of its own that is imported when it runs, so that the others cost nothing."""


class _Commands(click.Group):
    """The sub-commands; a subclass, for click has no other way to import them late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"calotype.cli.{COMMANDS[cmd_name].module}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.line) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (CalotypeError, OSError) as error:
            if ctx.meta.get(DEBUG) or isinstance(error, BrokenPipeError):
                raise
            click.echo(f"error: {_sentence(error)}", err=True)
            ctx.exit(EXIT_CONFIG if isinstance(error, ConfigError) else 1)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


def _sentence(error: Exception) -> str:
    """Write an error on one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the version; it is looked up only when asked for."""
    del param
    if value:
        metadata = importlib.import_module("importlib.metadata")
        click.echo(f"calotype {metadata.version('calotype')}")
        ctx.exit()


@click.command(cls=_Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
    help="Show the version and exit.",
)  # fmt: skip
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def command(ctx: click.Context, *, debug: bool) -> None:
    """Take the options that every command has."""
    ctx.meta[DEBUG] = debug


def main() -> None:
    """Run the command line."""
    try:
        command(prog_name="calotype")
    except SystemExit as end:
        if end.code != EXIT_INTERRUPTED:
            raise
        # A model that is being loaded can't be stopped, and Python would wait for its thread. No
        # file is ever half-written, so there is nothing to wait for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)
