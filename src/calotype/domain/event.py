"""What happens to a job on its way, as whoever waits for it is told."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits for the device."""

    place: int
    """1 is the next to run."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Its model is being loaded."""

    estimated_s: float
    """Seconds until it is there, going by its past loads."""


@dataclass(frozen=True, slots=True)
class Started:
    """It runs."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Some of it is done."""

    done: int
    total: int
    """Tiles, or denoising steps; of a chain, thousandths of its stages."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What the picture looks like so far."""

    body: bytes
    """A small PNG file."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A stage of a chain begins: what follows is told of it."""

    stage: str


Event = Queued | Loading | Started | Progress | Preview | Entered
