"""Whether PyTorch computes on a CUDA device."""

import torch

from calotype.backends.base import Machine
from calotype.errors import InvalidSettingError


def use_cuda(machine: Machine) -> bool:
    """Tell whether networks of PyTorch run on a CUDA device.

    Raises:
        InvalidSettingError: one was asked for that isn't there.
    """
    wanted, has_cuda = machine.diffusion.device, torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise InvalidSettingError("diffusion_device is cuda, and PyTorch finds no CUDA device here")
    return has_cuda and wanted != "cpu"
