"""What crosses between the servers in front of a cluster and the replicas behind them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from calotype.domain.event import Event
from calotype.domain.hooks import Hooks
from calotype.domain.image import Image
from calotype.domain.model import ModelSpec, ModelStatus
from calotype.domain.request import Job, Outcome, ParamValue
from calotype.errors import CalotypeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """A job on its way: clocks differ between machines, and hooks stay where they are."""

    model: ModelSpec
    image: Image
    params: Mapping[str, ParamValue]
    images: Mapping[str, Image] = field(default_factory=dict)
    left_s: float = float("inf")
    """Until its deadline, when it was sent."""
    wait_for_model: bool = False
    caller: str = ""
    admitted: bool = False
    """A job of the same request was let in before."""
    request_id: str = ""
    """For the log there."""
    trace: str = ""
    """W3C traceparent."""

    def job(self, hooks: Hooks) -> Job:
        """Return the job, to be run here."""
        return Job(
            model=self.model,
            image=self.image,
            params=dict(self.params),
            images=self.images,
            deadline_s=time.monotonic() + self.left_s,
            wait_for_model=self.wait_for_model,
            caller=self.caller,
            admitted=self.admitted,
            hooks=hooks,
            trace=self.trace,
        )


@dataclass(frozen=True, slots=True)
class Note:
    """A warning of the run."""

    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What the answer says of the run beside."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """The end of a job that went well."""

    outcome: Outcome
    status: ModelStatus
    """Of its model there."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a job that didn't: raised, an error would come back as one of Ray's."""

    error: CalotypeError
    status: ModelStatus
    """Of its model there. E.g. that it is being loaded."""


News = Event | Note | Fact | Landed | Failed


def pack(job: Job, request_id: str) -> Cargo:
    """Return what is sent of a job; encoded pictures stay, as their pixels go."""
    return Cargo(
        model=job.model,
        image=job.image,
        params={name: v for name, v in job.params.items() if not isinstance(v, bytes)},
        images=job.images,
        left_s=job.deadline_s - time.monotonic(),
        wait_for_model=job.wait_for_model,
        caller=job.caller,
        admitted=job.admitted,
        request_id=request_id,
        trace=job.trace,
    )


def size_bytes(job: Job) -> int:
    """Return what a job's pictures take on their way, there or back, whichever is more."""
    there = sum(image.pixels.nbytes for image in (job.image, *job.images.values()))
    asked = job.params.get("scale")
    scale = asked if isinstance(asked, int) else job.model.scale or 1
    return max(there, job.image.pixels.nbytes * scale**2)
