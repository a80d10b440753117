"""Nodes that get weights from each other, in one process or several, without a cluster."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from calotype.catalog.scan import scan_models_dir
from calotype.catalog.supply import find_models
from calotype.catalog.weights import read
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import MissingWeightsError
from calotype.scale.depot import Depot
from calotype.scale.digest import Digests
from calotype.scale.weights import NodeWeights


class Near:
    """A source in the same process that writes down what it is asked."""

    def __init__(self, depot: Depot, tmp: Path) -> None:
        self.depot, self._log = depot, tmp / "asked"
        self.away = False
        self.stop: Callable[[], None] = lambda: None
        """Called before each piece."""

    @property
    def asked(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def seal(self, spec: ModelSpec) -> tuple[WeightFile, ...]:
        self._note(f"seal {spec.id}")
        return self.depot.seal(spec.id, spec.revision)

    def read(self, spec: ModelSpec, role: str) -> Iterator[bytes]:
        self._note(f"read {role}")
        start = 0
        while piece := self.depot.read(spec.id, spec.revision, role, start):
            self.stop()
            yield piece
            start += len(piece)

    def adapter(self, id: str) -> ModelSpec | None:
        if self.away:
            raise MissingWeightsError("away")
        return self.depot.adapter(id)

    def _note(self, text: str) -> None:
        if self.away:
            raise MissingWeightsError("away")
        with self._log.open("a") as log:  # one write, whichever process
            log.write(text + "\n")


def depot_of(models: Path) -> Depot:
    return Depot(
        lambda: scan_models_dir(models),
        partial(find_models, folder=models),
        models / "loras",
        Digests(models.parent / "digests"),
    )


def elsewhere(spec: ModelSpec, there: Path, here: Path) -> ModelSpec:
    """Return a model as another machine sees it: its paths lead nowhere there."""
    files = (replace(f, path=f.path.replace(str(there), str(here))) for f in spec.files)
    return replace(spec, files=tuple(files))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.partial-*")]


def localize(models: Path, tmp: Path, net: ModelSpec, gate: Callable[[], object]) -> None:
    """Be one of several processes of a node."""
    weights = NodeWeights(tmp / "here", Near(depot_of(models), tmp))
    gate()
    read(weights.localize(net).files[0])


def die_within(models: Path, tmp: Path, net: ModelSpec) -> None:
    """Be killed in the middle of a file."""
    source = Near(depot_of(models), tmp)

    def stop() -> None:
        if leftovers(tmp):
            os.kill(os.getpid(), signal.SIGKILL)

    source.stop = stop
    NodeWeights(tmp / "here", source).localize(net)
