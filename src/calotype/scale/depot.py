"""The files of the catalog, on the node that has them, for those that don't."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from calotype.catalog import weights
from calotype.catalog.schema import revision_of, user_file
from calotype.catalog.supply import Find
from calotype.domain.lora import lora_file, parse_loras
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import MissingWeightsError
from calotype.scale.digest import Digests

CHUNK_BYTES = 8 * 1024 * 1024
ADAPTER = "lora:"
"""Before an adapter's id, where a model's would be; no model's can have it."""

Key = tuple[str, str]
"""Id and revision of a model."""


class Depot:
    """Hands out files by model, revision and role: whoever asks names no path.

    Called from any number of threads.

    Args:
        catalog: reads all models; again, when one is asked for that wasn't there.
        find: asks the Hub for a model, as ``catalog.supply`` has it.
        loras_dir: folder of adapters.
        digests: of files for which the catalog has none.
    """

    def __init__(
        self,
        catalog: Callable[[], Iterable[ModelSpec]],
        find: Find,
        loras_dir: Path,
        digests: Digests,
    ) -> None:
        self._catalog, self._find, self._loras_dir = catalog, find, loras_dir
        self._digests = digests
        self._known: dict[Key, ModelSpec] = {}
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def seal(self, id: str, revision: str) -> tuple[WeightFile, ...]:
        """Return a model's files, all with digests.

        Raises:
            MissingWeightsError: there is no such revision here, or not any more.
        """
        spec = self._spec(id, revision)
        with self._turns[f"seal {id}"]:  # a file is read once, however many nodes ask
            files = [f if f.sha256 else replace(f, sha256=self._digests.of(f)) for f in spec.files]
        _check_same(spec)
        return tuple(files)

    def read(self, id: str, revision: str, role: str, start: int) -> bytes:
        """Return a piece of a file.

        Args:
            id: of the model.
            revision: of the model.
            role: of the file.
            start: byte at which the piece begins.

        Returns:
            At most ``CHUNK_BYTES``; nothing at the end of the file.

        Raises:
            MissingWeightsError: there is no such file here, or not any more.
        """
        spec = self._spec(id, revision)
        file = next((file for file in spec.files if file.role == role), None)
        if file is None:
            raise MissingWeightsError(f"{id} has no file {role}")
        _check_same(spec)
        try:
            with weights.locate(file).open("rb") as stream:
                stream.seek(start)
                return stream.read(CHUNK_BYTES)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise MissingWeightsError(
                f"{Path(file.path).name} of {id} can't be read on the node that has it: {reason}"
            ) from error

    def adapter(self, id: str) -> ModelSpec | None:
        """Describe an adapter as a model of one file, its digest being the revision.

        Returns:
            None where there is no such adapter.

        Raises:
            InvalidParameterError: that is no adapter's id.
            MissingWeightsError: it can't be read.
        """
        parse_loras("loras", [{"id": id}])
        path = lora_file(self._loras_dir, id)
        if not path.is_file():
            return None
        file = user_file("adapter", path)
        file = replace(file, sha256=self._digests.of(file))
        spec = ModelSpec(id=f"{ADAPTER}{id}", backend="", revision=file.sha256, files=(file,))
        self._known[spec.id, spec.revision] = spec
        return spec

    def find(self, id: str) -> None:
        """Make sure that the Hub has a model which can be served.

        Raises:
            CalotypeError: it hasn't.
        """
        if not self._has(id):
            self._find(id)

    def pull(self, id: str) -> list[ModelSpec]:
        """Fetch a model of the Hub, if it isn't here, whoever else asks for it.

        Returns:
            All models that are here then.

        Raises:
            CalotypeError: it can't be had.
        """
        with self._turns[f"pull {id}"]:
            if not self._has(id):
                self._find(id)()
        return self._learn()

    def _has(self, id: str) -> bool:
        """Tell whether there is a model of that id now."""
        return any(spec.id == id for spec in self._learn())

    def _spec(self, id: str, revision: str) -> ModelSpec:
        """Find a model."""
        key = (id, revision)
        if key not in self._known:
            self._learn()
        if key not in self._known and id.startswith(ADAPTER):
            self.adapter(id.removeprefix(ADAPTER))
        if key not in self._known:
            raise MissingWeightsError(
                f"the node with the weights has no {id} of this revision: its files were changed"
                " or removed; deploy again"
            )
        return self._known[key]

    def _learn(self) -> list[ModelSpec]:
        """Read the catalog again; models that were in it before stay known as long as they last."""
        specs = list(self._catalog())
        self._known.update({(spec.id, spec.revision): spec for spec in specs})
        return specs


def _check_same(spec: ModelSpec) -> None:
    """Refuse files that were changed after the catalog was read: nodes would differ."""
    if all(file.sha256 for file in spec.files):
        return  # whoever gets it compares
    try:
        same = revision_of(spec) == spec.revision
    except OSError:
        same = False
    if not same:
        raise MissingWeightsError(
            f"the files of {spec.id} were changed, or removed, on the node that has them after it"
            " read its catalog: deploy again"
        )
