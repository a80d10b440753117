"""Weights of programs that ``torch.jit.save`` wrote, without running anything of them.

``torch.jit.load`` runs no Python, but it compiles the code in the file, and what that defines as
``__setstate__`` runs while it loads; such code can write files. So the tensors are read from the
archive here, by an unpickler that knows the names it needs and no others.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

CONSTANTS = "constants.pkl"
"""What only the archives of programs have."""
_PROGRAM = "__torch__"
_LISTS = "torch.jit._pickle"
_TYPES: Mapping[str, torch.dtype] = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


class Part:
    """A module of the program: what it holds, by name."""

    def __init__(self) -> None:
        self.held: Mapping[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.held = state if isinstance(state, Mapping) else {}


class _Reader(pickle.Unpickler):
    """Reads the tree of modules of an archive."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._archive, self._folder = archive, folder
        super().__init__(io.BytesIO(self._stored("data.pkl")))

    def find_class(self, module: str, name: str) -> object:
        """Return what stands for a name; nothing is imported."""
        if module.partition(".")[0] == _PROGRAM:
            return Part
        known: Mapping[tuple[str, str], Callable[..., object]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        }
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if module == _LISTS:
            return list
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: tuple[object, torch.dtype, str, object, int]) -> Tensor:
        """Return all values of a file of the archive."""
        _, dtype, key, _, _ = pid
        content = bytearray(self._stored(f"data/{key}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)

    def _stored(self, name: str) -> bytes:
        """Return a file of the archive that is as large as it says."""
        entry = self._archive.getinfo(f"{self._folder}{name}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile(f"{name} is compressed")  # to what size, nobody knows
        return self._archive.read(entry)


def read_program(archive: zipfile.ZipFile) -> dict[str, Tensor] | None:
    """Read the weights of a program.

    Args:
        archive: as ``torch.jit.save`` or ``torch.save`` writes it, no weights compressed.

    Returns:
        The tensors by the names that the module's own ``state_dict`` has; None: it is no program.

    Raises:
        pickle.UnpicklingError: something in it is neither a module nor a tensor.
        Exception: whatever reading a damaged archive ends with.
    """
    found = [name for name in archive.namelist() if name.split("/")[1:] == [CONSTANTS]]
    if not found:
        return None
    return dict(_named(_Reader(archive, found[0].removesuffix(CONSTANTS)).load(), ""))


def _tensor(
    values: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """Return the part of a storage that is one tensor; torch checks that it lies in there."""
    return values.as_strided(size, stride, offset)


def _named(part: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a module and of those inside it."""
    for name, value in part.held.items() if isinstance(part, Part) else ():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _named(value, f"{prefix}{name}.")
