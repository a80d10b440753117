"""A request, a job and an answer, without HTTP in any of them."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from calotype.domain.image import Image, Size
from calotype.domain.model import Device, ModelSpec
from calotype.errors import DeadlineExceededError

PACE_KNOWN_S = 1.0
"""After this, the time that a job takes can be told from its first steps."""

HOPELESS = 2.0
"""A forecast over this multiple of the time allowed ends a job."""

ImageFormat = Literal["png", "jpeg", "webp"]
"""What Calotype writes."""

FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp")

Blend = tuple[tuple[int, float], ...]
"""((choice index, weight > 0), ...), ascending, weights summing to 1."""


@dataclass(frozen=True, slots=True)
class Loras:
    """Adapters to add to a model, each once."""

    scales: tuple[tuple[str, float], ...]
    """((id, scale), ...), in the order given; 1 is the scale that an adapter was trained for."""


ParamValue = str | int | float | bool | bytes | Size | Blend | Loras | None
"""A validated parameter; image parameters are still encoded bytes."""

CacheStatus = Literal["hit", "miss", "bypass", "coalesced"]


class Hooks:
    """The two wires between a running job and whoever waits for it; thread-safe.

    Args:
        on_progress: called with (steps done, steps in all) from the worker's thread.
    """

    def __init__(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        self._on_progress = on_progress
        self._on_cancel: list[Callable[[], None]] = []
        self._cancelled = threading.Event()
        self._deadline_s = self._started_s = float("inf")
        self.progress = (0, 0)
        """Steps done, steps in all; (0, 0) before the first."""
        self.notes: tuple[str, ...] = ()
        """Warnings of the run, for the answer."""
        self.facts: Mapping[str, str] = {}
        """What else the answer says of the run, by name. E.g. ``safety``."""

    def start(self, deadline_s: float) -> None:
        """Begin to watch whether the job can be done in time.

        Args:
            deadline_s: monotonic clock, seconds.
        """
        self._deadline_s, self._started_s = deadline_s, time.monotonic()

    def cancel(self) -> None:
        """Ask the job to stop at its next tile or step."""
        self._cancelled.set()
        for act in tuple(self._on_cancel):
            act()

    @contextlib.contextmanager
    def on_cancel(self, act: Callable[[], None]) -> Iterator[None]:
        """Call something once the job is asked to stop, from the thread that asks.

        Args:
            act: called at once if that was before; may be called more than once.
        """
        self._on_cancel.append(act)
        try:
            if self.cancelled:
                act()
            yield
        finally:
            self._on_cancel.remove(act)

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked the job to stop."""
        return self._cancelled.is_set()

    def step(self, done: int, total: int) -> None:
        """Report progress, and stop here if asked to.

        Raises:
            JobCancelledError: somebody called ``cancel``.
            DeadlineExceededError: at this pace, the job would end long after its deadline.
        """
        if self.cancelled:
            raise JobCancelledError(f"cancelled after {done} of {total}")
        if not done:
            # What came before (compiling, the jobs that share the batch) says nothing of the pace.
            self._started_s = time.monotonic()
        self._check_pace(done, total)
        self.report(done, total)

    def report(self, done: int, total: int) -> None:
        """Tell of progress, and nothing else."""
        self.progress = (done, total)
        if self._on_progress is not None:
            self._on_progress(done, total)

    def note(self, text: str) -> None:
        """Add a warning to the answer, unless it has the same one already."""
        if text not in self.notes:
            self.notes = (*self.notes, text)

    def tell(self, name: str, value: str) -> None:
        """Add a fact to the answer, in place of any other of that name."""
        self.facts = {**self.facts, name: value}

    def _check_pace(self, done: int, total: int) -> None:
        """Stop what is hopeless now, rather than at the deadline."""
        if self._deadline_s == float("inf") or not 0 < done < total:
            return
        took_s = time.monotonic() - self._started_s
        needed_s, allowed_s = took_s / done * total, self._deadline_s - self._started_s
        if took_s > PACE_KNOWN_S and needed_s > HOPELESS * allowed_s:
            raise DeadlineExceededError(
                f"the picture is too large for its time: it would take about {needed_s:.0f} s here,"
                f" and {allowed_s:.0f} s were left; send a smaller one, take a faster model, or ask"
                " for a later deadline"
            )


class JobCancelledError(Exception):
    """Ends a running job from inside; never leaves ``execution``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """What the HTTP layer, or the library, hands to the pipeline."""

    model_id: str
    """Id or alias; empty means the default model."""
    upload: bytes
    """The encoded image exactly as received."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """As sent: not validated yet."""
    formats: tuple[ImageFormat, ...] = ()
    """What the caller accepts, best first; empty means the input's own format if it fits."""
    use_cache: bool = True
    wait_for_model: bool = False
    strict: bool = False
    """Refuse what would otherwise be ignored with a warning."""
    deadline_s: float = float("inf")
    """Monotonic clock, seconds."""
    caller: str = ""
    """Name of the token, empty for none."""
    request_id: str = ""
    hooks: Hooks = field(default_factory=Hooks)
    """Progress of the run, and the way to stop it."""

    def job(
        self,
        model: ModelSpec,
        params: Mapping[str, ParamValue],
        image: Image,
        images: Mapping[str, Image],
    ) -> "Job":
        """Return what is to be run, once everything was checked and decoded."""
        return Job(
            model=model,
            image=image,
            params=params,
            images=images,
            deadline_s=self.deadline_s,
            wait_for_model=self.wait_for_model,
            caller=self.caller,
            hooks=self.hooks,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One model with what it runs with: all of a request, or one link of a chain."""

    model: ModelSpec
    values: Mapping[str, ParamValue]
    """Every parameter of the model and the common ones, validated, defaults filled in."""
    label: str = ""
    """What it is called in a chain; empty for a model alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image to run through one model."""

    model: ModelSpec
    image: Image
    params: Mapping[str, ParamValue]
    """Every parameter of the model, defaults filled in."""
    images: Mapping[str, Image] = field(default_factory=dict)
    """The decoded image parameters, by name."""
    deadline_s: float = float("inf")
    wait_for_model: bool = False
    caller: str = ""
    admitted: bool = False
    """A job of the same request was let in before: this one is not refused for a full queue."""
    shrink: int = 0
    """How often the backend shall halve its tile, to need less memory."""
    hooks: Hooks = field(default_factory=Hooks)


def step_together(jobs: Sequence[Job], done: int, total: int) -> None:
    """Report a step that the jobs of a batch made together.

    One that was cancelled, or would never be done in time, doesn't stop its mates.

    Raises:
        JobCancelledError: nobody waits for any of them any more.
        DeadlineExceededError: the only one left would end long after its deadline.
    """
    left = [job for job in jobs if not job.hooks.cancelled]
    if not left:
        raise JobCancelledError(f"cancelled after {done} of {total}")
    for job in left:
        try:
            job.hooks.step(done, total)
        except (JobCancelledError, DeadlineExceededError):
            if len(left) == 1:
                raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a Runner returns for a job."""

    image: Image
    queue_s: float = 0.0
    inference_s: float = 0.0
    batch_size: int = 1
    device: Device = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResponse:
    """What the pipeline hands back."""

    body: bytes
    format: ImageFormat
    etag: str
    """Digest of the body, without quotes."""
    model: ModelSpec
    """What ran; of a chain, what stands for all of it."""
    cache: CacheStatus
    stages: tuple[Stage, ...]
    """What was really used by each model of the chain, or by the one; the seed among it."""
    warnings: tuple[str, ...] = ()
    seed: int | None = None
    outcome: Outcome | None = None
    """How the run went that made it, for whoever asked for it first; None from the cache."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else is to be said of the picture, by name; a header each."""
    compute_s: float = 0.0
    """Decode, queue, inference and encode together; 0 from the cache."""

    @property
    def applied(self) -> Mapping[str, ParamValue | Mapping[str, ParamValue]]:
        """What was really used; of a chain, by the labels of its stages."""
        tables = {stage.label: stage.values for stage in self.stages}
        return self.stages[0].values if "" in tables else tables

    @property
    def compute_type(self) -> Literal["cpu", "gpu", "cache"]:
        """What this request was computed on."""
        if self.outcome is None or self.cache == "coalesced":
            return "cache"
        return self.outcome.device

    @property
    def queue_s(self) -> float:
        """How long the job waited for the device."""
        return self.outcome.queue_s if self.outcome else 0.0

    @property
    def inference_s(self) -> float:
        """How long the job ran."""
        return self.outcome.inference_s if self.outcome else 0.0

    @property
    def batch_size(self) -> int:
        """How many jobs ran together."""
        return self.outcome.batch_size if self.outcome else 1
