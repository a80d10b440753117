"""From tensors to a network, by what spandrel knows of architectures."""

from collections.abc import Iterable

import numpy as np
import torch

from calotype.backends.checkpoint.library import EXTRA, has_extra, registry, spandrel
from calotype.backends.checkpoint.state import State
from calotype.domain.image import RGB
from calotype.errors import MissingWeightsError

_SHOWN = 4
_DRAWN = ("MAT", "z")
"""An architecture, and what it draws when it is made, which no checkpoint holds."""


def find_network(state: State, name: str) -> spandrel.ModelBase:
    """Make the network that a checkpoint is for.

    Args:
        state: as ``read_state`` returns it.
        name: of the file, for errors.

    Returns:
        In f32 on the processor, for inference; of 1 or 3 channels.

    Raises:
        MissingWeightsError: its architecture is unknown, its tensors don't fit together, or it
            takes no picture.
    """
    canonical = spandrel.canonicalize_state_dict(state)
    loader = spandrel.ModelLoader(registry=registry())
    try:
        found = loader.load_from_state_dict(canonical)
    except spandrel.UnsupportedModelError as error:
        raise MissingWeightsError(_unknown(canonical, name)) from error
    except Exception as error:  # whatever tensors lead to that are not what their names say
        raise MissingWeightsError(
            f"{name} looks like a network that spandrel {spandrel.__version__} knows, but its"
            f" tensors don't fit together ({type(error).__name__}): download it again, or try a"
            " newer spandrel"
        ) from error
    for kind, channels in (("takes", found.input_channels), ("gives", found.output_channels)):
        if channels not in (1, RGB):
            raise MissingWeightsError(
                f"{name} {kind} pictures of {channels} channels; expected 1 or 3"
            )
    found.model.requires_grad_(requires_grad=False)
    _fix_drawn(found)
    return found.float().eval()


def _unknown(state: Iterable[str], name: str) -> str:
    """Say that an architecture is unknown, and what can be done."""
    names = [str(key) for key in state][:_SHOWN]
    more = "" if has_extra() else f", or {EXTRA}, which has MAT, DDColor and others,"
    return (
        f"{name} is of no architecture that spandrel {spandrel.__version__} knows (its tensors"
        f" begin with {', '.join(names):.200}): a newer spandrel{more} may; or export it as .onnx"
    )


def _fix_drawn(found: spandrel.ModelBase) -> None:
    """Draw the same at every load, in a buffer, which follows the network to a device."""
    architecture, attribute = _DRAWN
    if found.architecture.id == architecture:
        shape = getattr(found.model, attribute).shape
        drawn = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
        delattr(found.model, attribute)
        found.model.register_buffer(attribute, drawn, persistent=False)
