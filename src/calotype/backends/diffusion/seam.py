"""A network of a pipeline that runs on OpenVINO behind the pipeline's back."""

import inspect
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import openvino as ov
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from calotype.backends.diffusion.adapter import Deltas, add, patched
from calotype.backends.diffusion.forward import (
    Call,
    Forward,
    join_call,
    put_together,
    read_call,
    swapped,
    take_apart,
)
from calotype.backends.diffusion.graph import Graph, Shelf, convert
from calotype.backends.openvino import Engine
from calotype.backends.traced import check_difference

logger = logging.getLogger(__name__)

COMPILED = 2
"""Sizes for which a network stays compiled."""
CRASHING_BLOCKS = "K"
"""Start of their names: those of the latent upscaler, with OpenVINO 2026.4."""
SIZES = "img_shapes"
"""Argument of networks that are told the picture's sizes as plain numbers, which tracing fixes."""
PICTURE_DIMS = 4
"""Of a convolution's weights: out, in, height, width."""
NEEDED_SHARE = 2.2
"""Free memory that converting needs, as a multiple of the weights."""


class Seam:
    """Answers a module's calls; converts the module at its first one.

    Args:
        name: of the module in its pipeline, e.g. ``unet``.
        module: its ``forward`` becomes this object.
        engine: compiles.
        shelf: where the converted network is kept.
        reload: loads the module anew, with its weights.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        engine: Engine,
        shelf: Shelf,
        reload: Callable[[], nn.Module],
    ) -> None:
        self.name = name
        self._module, self._engine, self._shelf, self._reload = module, engine, shelf, reload
        self._forward: Forward = module.forward
        self.original = self._forward
        """The module's own code, which knows its arguments."""
        self._graph = shelf.find(name)
        self._compiled: OrderedDict[tuple[object, ...], ov.InferRequest] = OrderedDict()
        self._plain: nn.Module | None = None
        self._deltas: Deltas = {}
        self._adapted = ""
        self.trouble = ""
        """Why PyTorch runs it after all; empty: it doesn't."""
        if self._graph is not None:
            release(module)
        elif shelf.attempt(name).is_deadly:
            self._fall_back("converting it ended the process each time")
        elif crashes_converter(module):
            self._fall_back("the converter can't take its kind of blocks")
        elif SIZES in inspect.signature(self._forward).parameters:
            self._fall_back("it would have to be converted for every size")
        module.forward = self

    @property
    def settled(self) -> bool:
        """Whether the network is there, or won't be."""
        return self._graph is not None or bool(self.trouble)

    def adapt(self, name: str, deltas: Deltas) -> None:
        """Add something to the weights from the next call on, in place of what was added before.

        Args:
            name: equal only for equal additions; empty for none.
            deltas: by the name of the weight.
        """
        if name != self._adapted:
            self._adapted, self._deltas, self._plain = name, deltas, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Answer a call as the module would."""
        call = _with_float_scalars(read_call(self._forward, args, kwargs))
        if self._graph is None and not self.trouble:
            self._convert(call)
        if self._graph is not None and self._graph.structure == call.structure:
            return self._infer(self._graph, call)
        if self._graph is not None and not self.trouble:
            self._fall_back("it is called in another way than it was converted for")
        return self._torch(call)

    def _convert(self, call: Call) -> None:
        """Convert the network, and see that it computes the same."""
        needed, free = NEEDED_SHARE * weight_bytes(self._module), free_bytes()
        if needed > free:
            self._fall_back(f"converting needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free")
            return
        try:
            with self._shelf.attempt(self.name).marked(), swapped(self._module, self._forward):
                graph = convert(self._module, self._forward, call)
                expected = self._forward(**join_call(call.tensors, call.rest))
            self._check(self._infer(graph, call), expected)
            self._graph = self._shelf.keep(self.name, graph)
            self._compiled.clear()
            release(self._module)
        except Exception as error:
            self._fall_back(f"it can't be converted: {error!r:.300}")

    def _check(self, found: Any, expected: Any) -> None:
        """Refuse a network that computes something else."""
        for ours, theirs in zip(take_apart(found)[0], take_apart(expected)[0], strict=True):
            difference = float((ours - theirs).abs().max())
            check_difference(difference, float(theirs.abs().max()), self._engine.precision)

    def _infer(self, graph: Graph, call: Call) -> Any:
        """Run the network."""
        request = self._request(graph, call)
        inputs = {
            port: as_input(call.tensors[name], request.model_inputs[port])
            for port, name in enumerate(graph.inputs)
        }
        results = request.infer(inputs, share_inputs=True)
        tensors = [torch.from_numpy(results[port]) for port in request.model_outputs]
        return put_together(tensors, list(graph.outputs))

    def _request(self, graph: Graph, call: Call) -> ov.InferRequest:
        """Return the network compiled for the sizes of a call."""
        shapes = [tuple(call.tensors[name].shape) for name in graph.inputs]
        key = (self._adapted, *shapes)
        if (request := self._compiled.get(key)) is None:
            while len(self._compiled) >= COMPILED:
                self._compiled.popitem(last=False)
            model = graph.model.clone()
            model.reshape({port: ov.PartialShape(shape) for port, shape in enumerate(shapes)})
            if self._deltas:
                patched(model, self._deltas, self.name)
            compiled = self._engine.compile_for_now(self.name, model)
            request = self._compiled[key] = compiled.create_infer_request()
        self._compiled.move_to_end(key)
        return request

    def _fall_back(self, reason: str) -> None:
        """Leave the network to PyTorch, and say so."""
        self.trouble = reason
        logger.warning("%s runs on PyTorch, which is slower: %s", self.name, reason)

    def _torch(self, call: Call) -> Any:
        """Run the module itself, in the engine's precision."""
        half = self._engine.precision == "bf16"
        if self._plain is None:
            if half:  # pipelines make their tensors of the type that this one shows
                release(self._module)
            fresh = half or self._graph is not None or bool(self._deltas)
            self._plain = self._reload() if fresh else self._module
            add(self._plain, self._deltas)
            if half:
                self._plain = self._plain.to(torch.bfloat16)
                lay_channels_last(self._plain)
        forward = self._forward if self._plain is self._module else self._plain.forward
        tensors = dict(call.tensors)
        if half:  # but for lone numbers and lists of them, which are steps: 981 would become 980
            halves = {n: _cast(t, torch.bfloat16) for n, t in tensors.items() if t.dim() > 1}
            tensors |= halves
        answer = forward(**join_call(tensors, call.rest))
        return tree_map_only(Tensor, lambda tensor: _cast(tensor, torch.float32), answer)


def release(module: nn.Module) -> None:
    """Free a module's weights; it keeps their types."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                empty = torch.empty(0, dtype=weight.dtype)
                part._parameters[name] = nn.Parameter(empty, requires_grad=False)


def lay_channels_last(module: nn.Module) -> None:
    """Lay weights out as convolutions of pictures like them best; those of films can't be."""
    for weight in module.parameters():
        if weight.dim() == PICTURE_DIMS:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def crashes_converter(module: nn.Module) -> bool:
    """Tell whether a network has blocks over which OpenVINO's converter crashes or hangs."""
    blocks = getattr(getattr(module, "config", None), "down_block_types", None) or ()
    return any(block.startswith(CRASHING_BLOCKS) for block in blocks)


def weight_bytes(module: nn.Module) -> int:
    """Return what a module's weights take."""
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def free_bytes() -> float:
    """Return how much memory is free, infinity where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    told = next((line for line in lines if line.startswith("MemAvailable")), "")
    return float(told.split()[1]) * 1024 if told else float("inf")


def as_input(tensor: Tensor, port: ov.Output) -> NDArray[Any]:
    """Return a tensor as the type that a network's input has."""
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array.astype(port.get_element_type().to_dtype(), copy=False)


def _with_float_scalars(call: Call) -> Call:
    """Return a call whose lone numbers are floats: one scheduler's step is 981, another's 981.3."""
    tensors: Mapping[str, Tensor] = {
        name: tensor.float() if not tensor.dim() else tensor
        for name, tensor in call.tensors.items()
    }
    return Call(tensors=tensors, rest=call.rest)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
