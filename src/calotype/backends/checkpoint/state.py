"""The tensors in a checkpoint, of whichever form; no code in one ever runs."""

import io
import pickle
import re
import zipfile

import torch
from safetensors.torch import load as load_safetensors

from calotype.backends.checkpoint.program import read_program
from calotype.errors import MissingWeightsError

State = dict[str, object]
"""Tensors by name, or such mappings by name."""

_ZIP = b"PK\x03\x04"
_LENGTH_BYTES = 8
"""Of the number that a safetensors file begins with; an opening brace follows."""
_REFUSED = re.compile(r"GLOBAL (\S+)")
_AGAIN = "it is cut short or damaged, or no checkpoint at all: download it again"


def read_state(data: bytes, name: str) -> State:
    """Read a checkpoint.

    Args:
        data: a safetensors file, or what ``torch.save`` or ``torch.jit.save`` wrote.
        name: of the file, for errors.

    Raises:
        MissingWeightsError: it is damaged, or holds something else than tensors; the message says
            what can be done.
    """
    try:
        state = _read(data)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        if refused is None:
            raise MissingWeightsError(f"{name} can't be read: {_AGAIN}") from error
        raise MissingWeightsError(
            f"{name} holds more than tensors ({refused[1]:.80}), which could be code and is never"
            " run: save its weights alone, as .safetensors"
        ) from error
    except Exception as error:  # each form ends in its own way
        raise MissingWeightsError(f"{name} can't be read: {_AGAIN}") from error
    if not isinstance(state, dict) or not state:
        raise MissingWeightsError(
            f"{name} holds {type(state).__name__} and no tensors by name: save the state_dict of"
            " its network, as .safetensors"
        )
    return state


def _read(data: bytes) -> object:
    """Read a file by its first bytes; its suffix proves nothing."""
    if data[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{":
        return load_safetensors(data)
    if data.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (weights := read_program(archive)) is not None:
                return weights
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
