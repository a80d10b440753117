"""How long things took before on this machine, to say how long they will take."""

import json
import logging
from collections import deque
from pathlib import Path
from statistics import median

from calotype.atomic import write_atomically
from calotype.domain.model import ModelSpec

KEPT = 9
"""Loads remembered for each model."""
BYTES_PER_S = 30e6
BASE_S = 0.5
"""First guess for a model that was never loaded here."""
FIRST_SERVICE_S = 1.0
logger = logging.getLogger(__name__)


class History:
    """Load times by model, kept in a small file, and recent service times.

    Args:
        file: where load times are kept between starts; None: nowhere.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._loads: dict[str, list[float]] = _read(file)
        self._services: deque[float] = deque(maxlen=32)

    def loaded(self, model: ModelSpec, seconds: float) -> None:
        """Remember a load."""
        self._loads[model.id] = [*self._loads.get(model.id, []), round(seconds, 3)][-KEPT:]
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(self._loads).encode())
        except OSError as error:
            logger.warning("load times are not kept for the next start: %s", error)

    def load_s(self, model: ModelSpec) -> float:
        """Return the median of the model's past loads, or a guess from the size of its files."""
        if past := self._loads.get(model.id):
            return median(past)
        return BASE_S + model.size_bytes / BYTES_PER_S

    def served(self, seconds: float) -> None:
        """Remember how long a job ran."""
        self._services.append(seconds)

    def service_s(self) -> float:
        """Return the mean of the recent jobs."""
        return sum(self._services) / len(self._services) if self._services else FIRST_SERVICE_S


def _read(file: Path | None) -> dict[str, list[float]]:
    """Read the file; one that is missing or damaged is as good as empty."""
    if file is None or not file.exists():
        return {}
    try:
        found = json.loads(file.read_bytes())
        return {str(k): [float(s) for s in v][-KEPT:] for k, v in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("past load times are unreadable: %s", error)
        return {}
