"""What adapters add to weights, and how it gets there and away again."""

from collections.abc import Mapping

import numpy as np
import openvino as ov
from openvino import opset13 as op
from torch import Tensor, nn

from calotype.backends.diffusion.rewrite import translated
from calotype.errors import MissingWeightsError

Deltas = Mapping[str, Tensor]
"""By the name of a weight in its module: float32, of the weight's shape, to be added."""

ROOT = "self.m."
"""What the converter puts before the names of a traced module's weights."""
SQUEEZED = "_compressed"
"""What it puts behind the names of those that it keeps in 16 bits."""


def add(module: nn.Module, deltas: Deltas) -> None:
    """Add to a module's weights for good."""
    weights = dict(module.named_parameters())
    for name, delta in deltas.items():
        weights[name].data += delta.to(weights[name])


class Addition:
    """Adds to a module's weights, and takes all of it back, bit for bit.

    Args:
        module: whose weights.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: dict[str, Tensor] = {}

    def put(self, deltas: Deltas) -> None:
        """Add to the weights, in place of what was added before."""
        weights = dict(self._module.named_parameters())
        for name, kept in self._kept.items():
            weights[name].data.copy_(kept)
        self._kept = {name: weights[name].data.clone() for name in deltas}
        add(self._module, deltas)


def patched(model: ov.Model, deltas: Deltas, name: str) -> None:
    """Add to the weights of a converted network.

    Args:
        model: changed in place.
        deltas: what to add.
        name: of the network, for errors.

    Raises:
        MissingWeightsError: the network has no such weight.
    """
    weights = {
        node.get_friendly_name().removesuffix(SQUEEZED).removeprefix(ROOT): node
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
    }
    for weight, delta in deltas.items():
        places = {weight: delta} | translated(weight, delta)
        found = {place: part for place, part in places.items() if place in weights}
        if not found:
            raise MissingWeightsError(f"{name} has no weight {weight} to adapt")
        for place, part in found.items():
            _replace(weights[place], part)


def _replace(node: ov.Node, delta: Tensor) -> None:
    """Put the sum of a constant and something else in the constant's place."""
    old = node.get_data()
    added = delta.numpy().reshape(old.shape)
    total = op.constant((old.astype(np.float32) + added).astype(old.dtype))
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(total.output(0))
