"""A request, a job and an answer, without HTTP in any of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from calotype.domain.hooks import Hooks, JobCancelledError
from calotype.domain.image import Image, Size
from calotype.domain.model import Device, ModelSpec
from calotype.errors import DeadlineExceededError

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
            params=dict(params),  # the backend's own: requests without parameters share theirs
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

    @property
    def scale(self) -> int | None:
        """Size of the result / size of the input, as asked for or declared; None: neither."""
        asked = self.values.get("scale")
        return asked if isinstance(asked, int) else self.model.scale


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
    keep_tile: bool = False
    """The backend shall take no larger tile than the usual one, for want of memory."""
    is_strip: bool = False
    """A row of tiles of a larger picture: the backend tells, as a fact, which tile it has."""
    hooks: Hooks = field(default_factory=Hooks)
    trace: str = ""
    """The span that it is a part of, as a W3C traceparent; empty for none."""


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
    trace: str = ""
    """The span that it was computed in, as a W3C traceparent; empty for none."""


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
        tables = {stage.label: dict(stage.values) for stage in self.stages}
        return tables.get("", tables)

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
