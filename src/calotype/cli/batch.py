"""Running one picture after the other: what fails, what is skipped, what is said meanwhile."""

import errno
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from calotype.cli.plan import Errand
from calotype.domain.text import show_value
from calotype.errors import BackendError, RequestError
from calotype.local import Calotype
from calotype.picture import Picture, SavedPicture

HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What the next picture would meet too."""


@dataclass(slots=True)
class Report:
    """How a run went."""

    total: int
    done: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Name of the input, and what was wrong."""
    seconds: float = 0.0

    def sentence(self) -> str:
        """Sum up."""
        parts = [f"{self.done} done"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped, for the result is there (--overwrite redoes it)")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return f"{', '.join(parts)}, in {self.seconds:.1f} s"


class Screen:
    """What is seen while pictures run, all of it on standard error.

    Args:
        total: pictures in all.
        bars: draw progress bars.
        quiet: say nothing but warnings.
    """

    def __init__(self, total: int, *, bars: bool, quiet: bool) -> None:
        self._quiet, self._warned = quiet, set[str]()
        self._bars: list[tqdm[Any]] = []
        self.picture: tqdm[Any] | None = None
        if bars and not quiet:
            # tqdm's own lock is two in one, between which Ctrl-C leaves the first one taken for
            # ever; and its monitor is a further thread that takes them.
            tqdm.monitor_interval = 0
            tqdm.set_lock(threading.RLock())
            if total > 1:
                self._bars.append(tqdm(total=total, unit=" pictures", file=sys.stderr))
            self.picture = tqdm(total=1, leave=False, unit=" steps", file=sys.stderr)
            self._bars.append(self.picture)

    def step(self, done: int, total: int) -> None:
        """Move the picture's bar; called from the model's thread."""
        if self.picture is not None:
            self.picture.total = total
            self.picture.update(done - self.picture.n)

    def begin(self, name: str) -> None:
        """Name the picture that is run."""
        if self.picture is not None:
            self.picture.reset(1)
            self.picture.set_description(name[-30:])

    def end(self) -> None:
        """Count a picture."""
        if len(self._bars) > 1:
            self._bars[0].update()

    def say(self, text: str) -> None:
        """Print a line, unless it should be quiet or the bars say it."""
        if not self._quiet and not self._bars:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Print a warning, once."""
        if text not in self._warned:
            self._warned.add(text)
            with tqdm.external_write_mode(file=sys.stderr):
                click.echo(f"warning: {text}", err=True)

    def close(self) -> None:
        """Leave the terminal in order."""
        for bar in reversed(self._bars):
            bar.close()


@dataclass(frozen=True, slots=True)
class Desk:
    """Where one picture after the other is run."""

    local: Calotype
    model: str
    parameters: Mapping[str, object]
    screen: Screen

    def run(self, errand: Errand) -> None:
        """Read, run and write one picture.

        Raises:
            RequestError: the picture is wrong.
            BackendError: the model failed.
            OSError: a file can't be read or written.
        """
        picture: Picture | SavedPicture
        if errand.source is None or errand.target is None:
            picture = self._run_stream(errand)
        else:
            picture = self.local.run_file(
                self.model,
                errand.source,
                errand.target,
                self.parameters,
                format=errand.format,
                on_progress=self.screen.step,
            )
        for warning in picture.warnings:
            self.screen.warn(warning)
        if errand.target is not None:
            details = _details(picture)
            self.screen.say(f"{errand.source or '-'} -> {errand.target}  {details}")

    def _run_stream(self, errand: Errand) -> Picture:
        """Run a picture from standard input, or to standard output."""
        upload = errand.source.read_bytes() if errand.source else sys.stdin.buffer.read()
        picture = self.local.run_with(
            self.model,
            upload,
            self.parameters,
            format=errand.format,
            on_progress=self.screen.step,
        )
        if errand.target is not None:
            picture.saved(errand.target)
        else:
            sys.stdout.buffer.write(picture.body)
            sys.stdout.buffer.flush()
        return picture


def run_all(desk: Desk, errands: list[Errand], report: Report) -> None:
    """Run every errand; a bad picture is noted and does not stop the rest.

    Args:
        desk: where they are run; its screen is told what happens.
        errands: what is left to do.
        report: counted up, so that it is right after Ctrl-C too.

    Raises:
        ConfigError: the model can't be loaded.
        OSError: the disk is full or can't be written.
    """
    started_s, screen = time.monotonic(), desk.screen
    try:
        for errand in errands:
            name = str(errand.source) if errand.source else "standard input"
            screen.begin(name)
            try:
                desk.run(errand)
                report.done += 1
            except (RequestError, BackendError) as error:
                report.failures.append((name, str(error)))
            except OSError as error:
                if error.errno in HOPELESS:
                    raise
                report.failures.append((name, _reason(error)))
            screen.end()
    finally:
        report.seconds = time.monotonic() - started_s
        screen.close()


def _details(picture: Picture | SavedPicture) -> str:
    """Say what came out, and whatever repeats it."""
    seed = f", seed {picture.seed}" if picture.seed is not None else ""
    return f"{picture.size}, {picture.inference_s:.2f} s{seed}"


def _reason(error: OSError) -> str:
    """Say why a file could not be used, and which one if it isn't the input."""
    where = f"{show_value(str(Path(error.filename)))}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
