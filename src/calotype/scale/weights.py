"""A model's weights on this node, wherever they came from."""

import contextlib
import hashlib
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Protocol

from calotype.catalog import weights
from calotype.domain.diffusion import INDEX
from calotype.domain.lora import lora_file
from calotype.domain.model import ModelSpec, WeightFile
from calotype.errors import MissingWeightsError
from calotype.scale.blob import Blobs
from calotype.scale.digest import Digests

logger = logging.getLogger(__name__)

FOLDER = "weights"
"""In the folder of the cache."""
DIGESTS = "digests"
"""In that one."""


class Source(Protocol):
    """The node where the catalog was read, which has all files."""

    def seal(self, spec: ModelSpec) -> tuple[WeightFile, ...]:
        """Return a model's files, all with digests.

        Raises:
            MissingWeightsError: it has none of them, or not these, or is away.
        """
        ...

    def read(self, spec: ModelSpec, role: str) -> Iterator[bytes]:
        """Yield a file's content.

        Raises:
            MissingWeightsError: as for ``seal``.
        """
        ...

    def adapter(self, id: str) -> ModelSpec | None:
        """Describe an adapter as if it were a model of one file; None: there is none.

        Raises:
            MissingWeightsError: it is away.
        """
        ...


class NodeWeights:
    """Makes sure that a node has what a model, or a request, is to be loaded from.

    Any number of processes of a node may have one, on the same folder.

    Args:
        cache: folder of the node for what can be made again; it need not exist.
        source: asked for what isn't here, and for digests that nobody wrote down.
    """

    def __init__(self, cache: Path, source: Source) -> None:
        self._folder, self._source = cache / FOLDER, source
        self._blobs = Blobs(self._folder / "blobs")
        self._digests = Digests(self._folder / DIGESTS)

    @property
    def adapters_dir(self) -> Path:
        """Where ``bring_adapters`` puts them: the setting ``loras_dir`` of whoever runs models."""
        return self._folder / "loras"

    def localize(self, spec: ModelSpec) -> ModelSpec:
        """Return a model with files that are on this node; blocks while one is fetched.

        What is here already, in its package or at its path, and has the right digest, stays where
        it is. A pipeline's folder is here as a whole or laid out anew.

        Raises:
            MissingWeightsError: a file can't be had.
        """
        files = self._sealed(spec)
        here = {file.role: path for file in files if (path := self._find(file)) is not None}
        if len(here) == len(files):
            return replace(spec, files=files)
        index = next((file for file in files if file.role == INDEX), None)
        if index is None:
            names = {f.role: f"{i}/{PurePath(f.path).name}" for i, f in enumerate(files)}
        else:
            names = {file.role: _inside(file, index) for file in files}
        missing = [file for file in files if file.role not in here]
        targets = here | {file.role: self._fetch(spec, file) for file in missing}
        moved = files if index is not None else missing
        folder = self._lay_out({names[file.role]: targets[file.role] for file in moved})
        paths = {file.role: str(folder / names[file.role]) for file in moved}
        return replace(
            spec,
            files=tuple(
                replace(file, package="", path=paths[file.role]) if file.role in paths else file
                for file in files
            ),
        )

    def bring_adapters(self, ids: Iterable[str]) -> None:
        """Make sure that adapters are in ``adapters_dir`` as they are at the source now.

        If the source is away, those that came before go on being used.

        Args:
            ids: validated, as of a request's ``loras``.

        Raises:
            MissingWeightsError: one can't be had.
        """
        for one in ids:
            link = lora_file(self.adapters_dir, one)
            try:
                spec = self._source.adapter(one)
            except MissingWeightsError as error:
                if not link.is_file():
                    raise
                logger.warning("the adapter %s is used as it was: %s", one, error)
                continue
            if spec is None:
                link.unlink(missing_ok=True)  # the backend says that there is none
            else:
                _point(link, weights.locate(self.localize(spec).files[0]))

    def _sealed(self, spec: ModelSpec) -> tuple[WeightFile, ...]:
        """Return a model's files with digests; the source is asked once for those of a revision."""
        known = {
            file.role: digest
            for file in spec.files
            if (digest := file.sha256 or self._digests.recall(spec, file.role))
        }
        if len(known) < len(spec.files):
            for file in self._source.seal(spec):
                known[file.role] = file.sha256
                self._digests.remember(spec, file.role, file.sha256)
        return tuple(replace(file, sha256=known[file.role]) for file in spec.files)

    def _find(self, file: WeightFile) -> Path | None:
        """Return where the right file is already, but for those that were fetched."""
        try:
            path = weights.locate(file)
            if file.size_bytes and path.stat().st_size != file.size_bytes:
                return None  # needs no reading
            return path if self._digests.of(file) == file.sha256 else None
        except (MissingWeightsError, OSError):
            return None

    def _fetch(self, spec: ModelSpec, file: WeightFile) -> Path:
        """Return a file by its digest."""

        def read() -> Iterator[bytes]:
            name = PurePath(file.path).name
            logger.info("fetching %s of %s from the node that has it", name, spec.id)
            return self._source.read(spec, file.role)

        return self._blobs.obtain(file, read)

    def _lay_out(self, targets: Mapping[str, Path]) -> Path:
        """Make files appear in a folder of their own, under the names that they must have there.

        Args:
            targets: name in the folder -> where the file is.

        Returns:
            The folder, which is the same one for the same files.
        """
        listing = "\n".join(f"{name}\0{path}" for name, path in sorted(targets.items()))
        folder = self._folder / "models" / hashlib.sha256(listing.encode()).hexdigest()[:32]
        for name, target in targets.items():
            # Whoever else makes this folder now makes the same links.
            with contextlib.suppress(FileExistsError), _writing(target.name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(target)
        return folder


def _inside(file: WeightFile, index: WeightFile) -> str:
    """Return a file's path in a pipeline's folder."""
    folder = PurePath(index.path).parent
    path = PurePath(file.path)
    if ".." in path.parts or not path.is_relative_to(folder):
        raise MissingWeightsError(
            f"the weights {path.name} lie outside their pipeline's folder, so they can't be"
            " sent to another node: put them into it"
        )
    return str(path.relative_to(folder))


def _point(link: Path, target: Path) -> None:
    """Make a link lead to a file, without a moment in which it leads nowhere."""
    if link.is_symlink() and link.readlink() == target:
        return
    with _writing(target.name):
        link.parent.mkdir(parents=True, exist_ok=True)
        new = link.with_name(f".{secrets.token_hex(8)}")
        new.symlink_to(target)
        new.replace(link)


@contextlib.contextmanager
def _writing(name: str) -> Iterator[None]:
    """Say in our words that the node's disk refuses a link."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MissingWeightsError(
            f"the weights {name} can't be put in place: {reason}; the node's cache_dir must be"
            " writable and on a disk with links"
        ) from error
