"""Turn ncnn layers into an OpenVINO graph, one function a layer type.

Source of each layer's meaning: the operator table of ncnn's documentation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from calotype.backends.ncnn import Layer, Weights
from calotype.errors import MissingWeightsError

Node = Any
"""One output of an OpenVINO operation; the library's own type says no more."""
NEAREST, BILINEAR, BICUBIC = 1, 2, 3
SAME_UPPER, SAME_LOWER = -233, -234


def to_openvino(layers: Sequence[Layer], name: str) -> ov.Model:
    """Build the network with input (1, 3, ?, ?) float32, RGB, 0..1.

    Args:
        layers: in the order of the file, which is an order of execution.
        name: what to call the network in errors.

    Raises:
        MissingWeightsError: a layer of a type that this importer doesn't know, or no single output.
    """
    blobs: dict[str, Node] = {}
    used = {blob for layer in layers for blob in layer.inputs}
    inputs: list[ov.op.Parameter] = []
    for layer in layers:
        if layer.type == "Input":
            inputs.append(op.parameter([1, 3, -1, -1], np.float32, name=layer.outputs[0]))
            blobs[layer.outputs[0]] = inputs[-1].output(0)
            continue
        if layer.type not in LAYERS:
            raise MissingWeightsError(
                f"{name}: layer type {layer.type} is not supported; "
                f"known are {', '.join(sorted(LAYERS))}"
            )
        node = LAYERS[layer.type](layer, [blobs[blob] for blob in layer.inputs])
        blobs |= dict.fromkeys(layer.outputs, node)
    ends = [blob for layer in layers for blob in layer.outputs if blob not in used]
    if len(inputs) != 1 or len(ends) != 1:
        raise MissingWeightsError(
            f"{name}: {len(inputs)} inputs and {len(ends)} outputs; expected one each"
        )
    return ov.Model([op.result(blobs[ends[0]])], inputs, name)


def _constant(weights: Weights, *shape: int) -> Node:
    """Put weights into the graph; half precision stays half precision in memory."""
    node = op.constant(weights.reshape(shape))
    return (op.convert(node, "f32") if weights.dtype == np.float16 else node).output(0)


def _scalar(value: float) -> Node:
    return op.constant(np.float32(value)).output(0)


def _convolution(layer: Layer, inputs: list[Node]) -> Node:
    out_channels, kw = layer.integer(0), layer.integer(1)
    kh = layer.integer(11, kw)
    groups = layer.integer(7, 1) if layer.type == "ConvolutionDepthWise" else 1
    kernel = layer.weights[0]
    in_channels = kernel.size // (out_channels * kh * kw)  # per group
    strides = [layer.integer(13, layer.integer(3, 1)), layer.integer(3, 1)]
    dilations = [layer.integer(12, layer.integer(2, 1)), layer.integer(2, 1)]
    begin, end, auto = _padding_of(layer)
    if groups == 1:
        weights = _constant(kernel, out_channels, in_channels, kh, kw)
        node = op.convolution(inputs[0], weights, strides, begin, end, dilations, auto)
    else:
        weights = _constant(kernel, groups, out_channels // groups, in_channels, kh, kw)
        node = op.group_convolution(inputs[0], weights, strides, begin, end, dilations, auto)
    return _activated(layer, _biased(layer, node.output(0)))


def _deconvolution(layer: Layer, inputs: list[Node]) -> Node:
    out_channels, kw = layer.integer(0), layer.integer(1)
    kh = layer.integer(11, kw)
    kernel = layer.weights[0]
    in_channels = kernel.size // (out_channels * kh * kw)
    # ncnn keeps (out, in, kh, kw); OpenVINO wants (in, out, kh, kw)
    swapped: Any = np.ascontiguousarray(
        kernel.reshape(out_channels, in_channels, kh, kw).transpose(1, 0, 2, 3)
    )
    begin, end, _ = _padding_of(layer)
    node = op.convolution_backprop_data(
        inputs[0],
        _constant(swapped, *swapped.shape),
        strides=[layer.integer(13, layer.integer(3, 1)), layer.integer(3, 1)],
        pads_begin=begin,
        pads_end=end,
        dilations=[layer.integer(12, layer.integer(2, 1)), layer.integer(2, 1)],
        output_padding=[layer.integer(19), layer.integer(18)],
    )
    return _activated(layer, _biased(layer, node.output(0)))


def _padding_of(layer: Layer) -> tuple[list[int], list[int], str]:
    """Return (top, left), (bottom, right) and OpenVINO's name for automatic padding."""
    left = layer.integer(4)
    auto = {SAME_UPPER: "same_upper", SAME_LOWER: "same_lower"}.get(left, "explicit")
    if auto != "explicit":
        return [0, 0], [0, 0], auto
    top = layer.integer(14, left)
    return [top, left], [layer.integer(16, top), layer.integer(15, left)], auto


def _biased(layer: Layer, node: Node) -> Node:
    if len(layer.weights) == 1:
        return node
    return op.add(node, _constant(layer.weights[1], 1, -1, 1, 1)).output(0)


def _activated(layer: Layer, node: Node) -> Node:
    """Apply the activation that ncnn fuses into convolutions."""
    params = layer.array(10)
    match layer.integer(9):
        case 0:
            return node
        case 1:
            return op.relu(node).output(0)
        case 2:
            return op.prelu(node, _scalar(params[0])).output(0)
        case 3:
            return op.clamp(node, params[0], params[1]).output(0)
        case 4:
            return op.sigmoid(node).output(0)
        case 5:
            return op.mish(node).output(0)
        case kind:
            raise MissingWeightsError(f"{layer.name}: fused activation {kind} is not supported")


def _relu(layer: Layer, inputs: list[Node]) -> Node:
    slope = layer.number(0)
    node = op.prelu(inputs[0], _scalar(slope)) if slope else op.relu(inputs[0])
    return node.output(0)


def _prelu(layer: Layer, inputs: list[Node]) -> Node:
    return op.prelu(inputs[0], _constant(layer.weights[0], -1)).output(0)


def _eltwise(layer: Layer, inputs: list[Node]) -> Node:
    fold = [op.multiply, op.add, op.maximum][layer.integer(0)]
    coefficients = layer.array(1) or (1.0,) * len(inputs)
    terms = [
        node if c == 1.0 else op.multiply(node, _scalar(c)).output(0)
        for node, c in zip(inputs, coefficients, strict=True)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = fold(total, term).output(0)
    return total


def _binary(layer: Layer, inputs: list[Node]) -> Node:
    a = inputs[0]
    b = _scalar(layer.number(2)) if layer.integer(1) else inputs[1]
    kinds: list[Callable[[], ov.Node]] = [
        lambda: op.add(a, b),
        lambda: op.subtract(a, b),
        lambda: op.multiply(a, b),
        lambda: op.divide(a, b),
        lambda: op.maximum(a, b),
        lambda: op.minimum(a, b),
        lambda: op.power(a, b),
        lambda: op.subtract(b, a),
        lambda: op.divide(b, a),
    ]
    return kinds[layer.integer(0)]().output(0)


def _concat(layer: Layer, inputs: list[Node]) -> Node:
    axis = layer.integer(0)  # without the batch axis, which OpenVINO counts
    return op.concat(inputs, axis + 1 if axis >= 0 else axis).output(0)


def _interp(layer: Layer, inputs: list[Node]) -> Node:
    if layer.integer(3) or layer.integer(4):
        raise MissingWeightsError(f"{layer.name}: a resize to a fixed size can't be tiled")
    kind = layer.integer(0)
    node = op.interpolate(
        inputs[0],
        op.constant(np.array([layer.number(1, 1), layer.number(2, 1)], np.float32)),
        mode={NEAREST: "nearest", BILINEAR: "linear_onnx", BICUBIC: "cubic"}[kind],
        shape_calculation_mode="scales",
        coordinate_transformation_mode=(
            "asymmetric"
            if kind == NEAREST
            else "align_corners"
            if layer.integer(6)
            else "half_pixel"
        ),
        nearest_mode="floor",
        cube_coeff=-0.75,
        axes=op.constant(np.array([2, 3], np.int64)),
    )
    return node.output(0)


def _pixel_shuffle(layer: Layer, inputs: list[Node]) -> Node:
    mode = "blocks_first" if layer.integer(1) else "depth_first"
    return op.depth_to_space(inputs[0], mode, layer.integer(0)).output(0)


def _pooling(layer: Layer, inputs: list[Node]) -> Node:
    if not layer.integer(4):
        raise MissingWeightsError(f"{layer.name}: only global pooling is supported")
    axes = op.constant(np.array([2, 3], np.int64))
    reduce = op.reduce_mean if layer.integer(0) else op.reduce_max
    return reduce(inputs[0], axes, keep_dims=True).output(0)


def _padding(layer: Layer, inputs: list[Node]) -> Node:
    top, bottom, left, right = (layer.integer(key) for key in range(4))
    node = op.pad(
        inputs[0],
        op.constant(np.array([0, 0, top, left], np.int64)),
        op.constant(np.array([0, 0, bottom, right], np.int64)),
        ("constant", "edge", "reflect")[layer.integer(4)],
        _scalar(layer.number(5)),
    )
    return node.output(0)


def _memory(layer: Layer, _: list[Node]) -> Node:
    shape = [max(1, layer.integer(key)) for key in (2, 1, 0)]  # c h w
    return _constant(layer.weights[0], 1, *shape)


LAYERS: dict[str, Callable[[Layer, list[Node]], Node]] = {
    "BinaryOp": _binary,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthWise": _convolution,
    "Deconvolution": _deconvolution,
    "Dropout": lambda _, inputs: inputs[0],
    "Eltwise": _eltwise,
    "Interp": _interp,
    "MemoryData": _memory,
    "Noop": lambda _, inputs: inputs[0],
    "PReLU": _prelu,
    "Padding": _padding,
    "PixelShuffle": _pixel_shuffle,
    "Pooling": _pooling,
    "ReLU": _relu,
    "Sigmoid": lambda _, inputs: op.sigmoid(inputs[0]).output(0),
    "Split": lambda _, inputs: inputs[0],
    "TanH": lambda _, inputs: op.tanh(inputs[0]).output(0),
}
