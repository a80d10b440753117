"""Modules of PyTorch as OpenVINO's networks."""

import openvino as ov
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

TOLERANCES = {"bf16": 0.1, "f32": 0.01}
"""Largest difference to PyTorch in f32 that is rounding, as a share of the largest value."""


def trace(module: nn.Module, example: tuple[Tensor, ...]) -> ov.Model:
    """Convert a module whose call takes and gives tensors only.

    Args:
        module: its weights stay where they are, and the network shares them.
        example: what it is called with, while it is watched.

    Raises:
        Exception: whatever the tracer or the converter makes of a module that it can't take.
    """
    # Not `ov.convert_model`: it reports its use over the network, and takes twice as long.
    frontend = FrontEndManager().load_by_framework("pytorch")
    traced = TorchScriptPythonDecoder(module, example_input=example)
    return frontend.convert(frontend.load(traced))


def check_difference(difference: float, largest: float, precision: str) -> None:
    """Refuse a network that computes something else.

    Args:
        difference: the largest to what PyTorch computes.
        largest: of the values that PyTorch computes.
        precision: of the network.

    Raises:
        ValueError: that is more than rounding.
    """
    bound = TOLERANCES[precision] * largest
    if not difference <= bound:  # not a number is no small difference
        raise ValueError(f"differs by {difference:.3g}, {bound:.3g} would be rounding")
