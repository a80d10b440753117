"""Running the stages of a chain: what each has of its own, and what all come to together."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from calotype.domain.event import Entered, Event, Progress
from calotype.domain.hooks import Hooks
from calotype.domain.request import Job, Outcome, Stage
from calotype.errors import (
    BackendError,
    ConfigError,
    DeadlineExceededError,
    RequestError,
)

STAGE_STEPS = 1000
"""Steps of each stage in the progress of a chain: how many a model makes is known when it runs."""

_OF_A_STAGE = (RequestError, BackendError, ConfigError, DeadlineExceededError)
"""Errors that say something of the stage; a full queue or a loading model doesn't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How it went: of one stage, or of all."""

    outcome: Outcome
    notes: tuple[str, ...] = ()
    """Warnings of the run, for the answer."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else the answer says, by name."""


@contextlib.contextmanager
def naming(stage: Stage) -> Iterator[None]:
    """Name the stage in errors from inside; a model alone needs no name."""
    try:
        yield
    except _OF_A_STAGE as error:
        if not stage.label or error.stage:
            raise
        raise error.at(stage.label) from error


@contextlib.contextmanager
def stage_hooks(hooks: Hooks, label: str, index: int, count: int) -> Iterator[Hooks]:
    """Give a stage hooks of its own: its pace is its own, its progress a part of the whole.

    Args:
        hooks: of the request; who cancels them cancels the stage.
        label: of the stage.
        index: of the stage.
        count: stages in all; the hooks of one alone are the request's.
    """
    if count == 1:
        yield hooks
        return

    def tell(event: Event) -> None:
        if isinstance(event, Progress):
            share = STAGE_STEPS * event.done // event.total if event.total else 0
            event = Progress(STAGE_STEPS * index + share, STAGE_STEPS * count)
        hooks.happened(event)

    hooks.happened(Entered(label))
    own = Hooks(on_event=tell)
    with hooks.on_cancel(own.cancel):
        yield own


def skip(job: Job) -> Outcome:
    """Return what comes of a job that has nothing to do."""
    job.hooks.report(1, 1)
    return Outcome(image=job.image)


def summed(stages: Sequence[Stage], runs: Sequence[Run]) -> Run:
    """Return how a chain went: times add up, and notes and facts name their stage."""
    if len(runs) == 1:
        return runs[0]
    outcomes = [run.outcome for run in runs]
    notes: list[str] = []
    facts: dict[str, str] = {}
    for stage, run in zip(stages, runs, strict=True):
        notes += [_named(note, stage) for note in run.notes]
        for name, value in run.facts.items():
            before = f"{facts[name]}, " if name in facts else ""
            facts[name] = f"{before}{stage.label}={value}"
    outcome = Outcome(
        image=outcomes[-1].image,
        queue_s=sum(each.queue_s for each in outcomes),
        inference_s=sum(each.inference_s for each in outcomes),
        batch_size=max(each.batch_size for each in outcomes),
        device="gpu" if any(each.device == "gpu" for each in outcomes) else "cpu",
    )
    return Run(outcome=outcome, notes=tuple(notes), facts=facts)


def _named(note: str, stage: Stage) -> str:
    """Say of which stage a note is, after its kind."""
    kind, found, text = note.partition("; ")
    return f"{kind}; {stage.label}: {text}" if found else f"{stage.label}: {note}"


@contextlib.contextmanager
def strip_hooks(hooks: Hooks, index: int, count: int) -> Iterator[Hooks]:
    """Give a strip hooks of its own, whose progress is a part of the whole.

    Args:
        hooks: of the picture; who cancels them cancels the strip.
        index: of the strip.
        count: strips in all, each of as many tiles.
    """

    def step(done: int, total: int) -> None:
        hooks.report(total * index + done, total * count)

    def tell(event: Event) -> None:
        if not isinstance(event, Progress):
            hooks.happened(event)

    own = Hooks(step, tell)
    with hooks.on_cancel(own.cancel):
        yield own
    for note in own.notes:
        hooks.note(note)
