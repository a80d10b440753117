"""Adapters as files: where they are, and which version of them."""

from collections.abc import Mapping
from pathlib import Path

from calotype.domain.lora import lora_file
from calotype.domain.request import Loras, ParamValue

ADAPTERS = "loras"
"""Folder of adapters in the models folder."""


def adapters_stamp(folder: Path, values: Mapping[str, ParamValue]) -> str:
    """Return what is equal as long as the files of a request's adapters are the same.

    Args:
        folder: where they are.
        values: validated parameters.

    Returns:
        Size and time of change of each file; empty where no adapters are asked for.
    """
    loras = values.get("loras")
    if not isinstance(loras, Loras):
        return ""
    stamps = []
    for adapter, _ in loras.scales:
        try:
            stat = lora_file(folder, adapter).stat()
            stamps.append(f"{stat.st_size}:{stat.st_mtime_ns}")
        except OSError:  # the backend says that there is none
            stamps.append("absent")
    return " ".join(stamps)
