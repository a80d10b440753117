"""What was measured before on this machine: to say how long things take and what they need."""

import json
import logging
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from calotype.atomic import write_atomically
from calotype.domain.model import ModelSpec

KEPT = 9
"""Loads remembered for each model."""
BYTES_PER_S = 30e6
BASE_S = 0.5
"""First guess for a model that was never loaded here."""
BASE_BYTES = 100_000_000
BYTES_PER_WEIGHT = 2.5
"""First guess of a worker's memory: an engine, and the weights while they are being compiled."""
NEWS = 0.1
"""Share of change that is worth remembering."""
FIRST_SERVICE_S = 1.0
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Record:
    """What is known of a model."""

    loads_s: list[float] = field(default_factory=list)
    resident_bytes: int = 0
    """After its last load; 0: not measured."""
    rest_bytes: int = 0
    """While it did nothing, between two runs, when that was looked at last."""


class History:
    """Loads by model, kept in a small file, and recent service times.

    Args:
        file: where loads are kept between starts; None: nowhere.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._records = _read(file)
        self._services: dict[str, deque[float]] = {}

    def loaded(self, model: ModelSpec, seconds: float, resident_bytes: int = 0) -> None:
        """Remember a load."""
        record = self._records.setdefault(_key(model), _Record())
        record.loads_s = [*record.loads_s, round(seconds, 3)][-KEPT:]
        record.resident_bytes = resident_bytes or record.resident_bytes
        self._write()

    def rested(self, model: ModelSpec, resident_bytes: int) -> None:
        """Remember what a worker held after a run: engines take some memory only then."""
        record = self._records.setdefault(_key(model), _Record())
        news = abs(resident_bytes - record.rest_bytes) > record.rest_bytes * NEWS
        if news:
            record.rest_bytes = resident_bytes
            self._write()

    def _write(self) -> None:
        """Keep everything for the next start."""
        if self._file is None:
            return
        content = {name: asdict(one) for name, one in self._records.items()}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(content).encode())
        except OSError as error:
            logger.warning("load times are not kept for the next start: %s", error)

    def load_s(self, model: ModelSpec) -> float:
        """Return the median of the model's past loads, or a guess from the size of its files."""
        record = self._records.get(_key(model))
        if record and record.loads_s:
            return median(record.loads_s)
        return BASE_S + model.size_bytes / BYTES_PER_S

    def resident_bytes(self, model: ModelSpec) -> int:
        """Return the memory to expect of a worker that does nothing, measured or guessed."""
        record = self._records.get(_key(model), _Record())
        measured = max(record.resident_bytes, record.rest_bytes)
        return measured or round(BASE_BYTES + model.size_bytes * BYTES_PER_WEIGHT)

    def measured_bytes(self, model: ModelSpec) -> int:
        """Return the memory of a worker after its last load; 0: never measured."""
        record = self._records.get(_key(model))
        return record.resident_bytes if record else 0

    def served(self, model: ModelSpec, seconds: float) -> None:
        """Remember how long the device was busy for a job."""
        self._services.setdefault(model.id, deque(maxlen=16)).append(seconds)

    def service_s(self, model: ModelSpec) -> float:
        """Return the mean of the model's recent jobs; before the first, that of all models."""
        known = self._services.get(model.id)
        if known is None:
            known = deque(s for times in self._services.values() for s in times)
        return sum(known) / len(known) if known else FIRST_SERVICE_S


def _key(model: ModelSpec) -> str:
    """Name a model closely enough that what was measured of it still holds."""
    return f"{model.id} {model.revision}"


def _read(file: Path | None) -> dict[str, _Record]:
    """Read the file; one that is missing or damaged is as good as empty."""
    if file is None or not file.exists():
        return {}
    try:
        found = json.loads(file.read_bytes())
        return {str(name): _record(one) for name, one in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        logger.warning("past load times are unreadable: %s", error)
        return {}


def _record(one: dict[str, object]) -> _Record:
    loads, resident, rest = one["loads_s"], one["resident_bytes"], one["rest_bytes"]
    if not isinstance(loads, list) or not isinstance(resident, int) or not isinstance(rest, int):
        raise TypeError(f"not a record: {one}")
    return _Record([float(s) for s in loads][-KEPT:], resident, rest)
