"""Write an ncnn super-resolution network as ONNX, for the engines that read nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calotype.backends.ncnn import Layer


class _Writer:
    """Nodes and weights of the graph so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:  # noqa: ANN401
        """Append an operation."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """Append a constant."""
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def to_onnx(layers: Sequence[Layer], side_px: int) -> bytes:
    """Write the network for one picture of (3, side, side)."""
    writer, alias = _Writer(), dict[str, str]()
    for layer in layers:
        inputs = [alias.get(name, name) for name in layer.inputs]
        if layer.type == "Split":
            alias |= dict.fromkeys(layer.outputs, inputs[0])
        elif layer.type != "Input":
            LAYERS[layer.type](writer, layer, inputs, layer.outputs[0])
    graph = helper.make_graph(
        writer.nodes,
        "network",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, side_px, side_px])],
        [helper.make_tensor_value_info(layers[-1].outputs[0], TensorProto.FLOAT, [1, 3, "h", "w"])],
        writer.tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _convolution(writer: _Writer, layer: Layer, inputs: list[str], out: str) -> None:
    channels, k, pad = layer.integer(0), layer.integer(1), layer.integer(4)
    kernel = layer.weights[0].astype(np.float32).reshape(channels, -1, k, k)
    names = [
        inputs[0],
        writer.tensor(f"{out}.w", kernel),
        writer.tensor(f"{out}.b", layer.weights[1]),
    ]
    if not layer.integer(9):
        writer.node("Conv", names, out, pads=[pad] * 4)
        return
    plain = writer.node("Conv", names, f"{out}.plain", pads=[pad] * 4)
    writer.node("LeakyRelu", [plain], out, alpha=layer.array(10)[0])


def _prelu(writer: _Writer, layer: Layer, inputs: list[str], out: str) -> None:
    slope = writer.tensor(f"{out}.s", layer.weights[0].reshape(-1, 1, 1))
    writer.node("PRelu", [inputs[0], slope], out)


def _eltwise(writer: _Writer, layer: Layer, inputs: list[str], out: str) -> None:
    factor = writer.tensor(f"{out}.c", np.array(layer.array(1)[0], np.float32))
    scaled = writer.node("Mul", [inputs[0], factor], f"{out}.scaled")
    writer.node("Add", [scaled, inputs[1]], out)


def _interp(writer: _Writer, layer: Layer, inputs: list[str], out: str) -> None:
    scales = np.array([1, 1, layer.number(1), layer.number(2)], np.float32)
    writer.node(
        "Resize",
        [inputs[0], "", writer.tensor(f"{out}.k", scales)],
        out,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _shuffle(writer: _Writer, layer: Layer, inputs: list[str], out: str) -> None:
    writer.node("DepthToSpace", inputs, out, blocksize=layer.integer(0), mode="CRD")


LAYERS: dict[str, Callable[[_Writer, Layer, list[str], str], object]] = {
    "BinaryOp": lambda writer, _, inputs, out: writer.node("Add", inputs, out),
    "Concat": lambda writer, _, inputs, out: writer.node("Concat", inputs, out, axis=1),
    "Convolution": _convolution,
    "Eltwise": _eltwise,
    "Interp": _interp,
    "PReLU": _prelu,
    "PixelShuffle": _shuffle,
}
