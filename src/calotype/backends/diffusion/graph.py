"""Networks of PyTorch as OpenVINO's graphs, kept on disk once they were converted."""

import hashlib
import json
import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import openvino as ov
import torch
from torch import Tensor, nn

from calotype.backends.attempt import Attempt
from calotype.backends.diffusion.forward import Call, Forward, join_call, take_apart
from calotype.backends.diffusion.rewrite import VERSION, rewritten
from calotype.backends.openvino import KEPT_S
from calotype.backends.traced import trace

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A network of dynamic shape."""

    model: ov.Model
    structure: str
    """Of the calls it answers."""
    inputs: tuple[str, ...]
    """Names of the tensors, in the order of the network's inputs."""
    outputs: tuple[tuple[str, int], ...]
    """As ``take_apart`` describes them."""


class Flat(nn.Module):
    """A network whose call takes and gives tensors only, which is what can be traced."""

    def __init__(self, module: nn.Module, forward: Forward, call: Call) -> None:
        super().__init__()
        self.m = module
        self._forward, self._names, self._rest = forward, tuple(call.tensors), call.rest
        self.outputs: list[tuple[str, int]] = []

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run it."""
        given = dict(zip(self._names, tensors, strict=True))
        flat, self.outputs = take_apart(self._forward(**join_call(given, self._rest)))
        return tuple(flat)


def convert(module: nn.Module, forward: Forward, call: Call) -> Graph:
    """Convert a network, as one call uses it.

    Args:
        module: its weights stay where they are, and the graph shares them.
        forward: its own code.
        call: an example.

    Raises:
        Exception: whatever the tracer or the converter makes of a network that it can't take.
    """
    flat = Flat(module, forward, call)
    with torch.no_grad(), rewritten(module):
        model = trace(flat, tuple(call.tensors.values()))
    return Graph(
        model=model,
        structure=call.structure,
        inputs=tuple(call.tensors),
        outputs=tuple(flat.outputs),
    )


class Shelf:
    """Where a model's converted networks are kept.

    Args:
        folder: for converted networks of all models; None: nowhere.
        identity: equal only for equal weights.
        half: keep weights in 16 bits, for networks that compute in no more.
    """

    def __init__(self, folder: Path | None, identity: str, *, half: bool) -> None:
        versions = (ov.get_version(), torch.__version__, str(VERSION), str(half))
        name = hashlib.blake2b("\0".join((identity, *versions)).encode(), digest_size=16)
        self._folder = folder / name.hexdigest() if folder else None
        self._half = half

    def find(self, name: str) -> Graph | None:
        """Return a network that was kept; a damaged one is as good as none."""
        if self._folder is None or not (told := self._folder / f"{name}.json").is_file():
            return None
        try:
            said = json.loads(told.read_bytes())
            weights = self._folder / f"{name}.bin"
            if weights.stat().st_size != said.pop("bytes"):
                raise ValueError("the weights are cut short")
            model = ov.Core().read_model(self._folder / f"{name}.xml", weights)
            told.touch()  # in use
            return Graph(
                model=model,
                structure=said["structure"],
                inputs=tuple(said["inputs"]),
                outputs=tuple((field, number) for field, number in said["outputs"]),
            )
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            logger.warning("converted %s is unusable, converting anew: %s", name, error)
            return None

    def attempt(self, name: str) -> Attempt:
        """Return the conversion of a network as what may take the process along."""
        return Attempt(self._folder / f"{name}.trying" if self._folder else None)

    def keep(self, name: str, graph: Graph) -> Graph:
        """Keep a network for the next start; return it as it is kept, in memory of its own."""
        if self._folder is None:
            return graph
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(name, graph, self._folder)
        except (OSError, RuntimeError) as error:
            logger.warning("the converted %s was not kept for the next start: %s", name, error)
            return graph
        sweep(self._folder.parent)
        return self.find(name) or graph

    def _write(self, name: str, graph: Graph, folder: Path) -> None:
        """Write all files, the one that makes them count last."""
        with tempfile.TemporaryDirectory(dir=folder) as made:
            xml = Path(made, f"{name}.xml")
            ov.save_model(graph.model, xml, compress_to_fp16=self._half)
            weights = xml.with_suffix(".bin")
            said = {
                "structure": graph.structure,
                "inputs": graph.inputs,
                "outputs": graph.outputs,
                "bytes": weights.stat().st_size,
            }
            told = xml.with_suffix(".json")
            told.write_text(json.dumps(said))
            for file in (weights, xml, told):
                file.replace(folder / file.name)


def sweep(folder: Path) -> None:
    """Delete what no start used for long: networks of other versions and of deleted models."""
    stale_s = time.time() - KEPT_S
    for kept in folder.iterdir():
        used = [file.stat().st_mtime for file in kept.glob("*.json")]
        if used and max(used) < stale_s:
            shutil.rmtree(kept, ignore_errors=True)
