"""From weight files to an OpenVINO network that takes and gives uint8 tiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from calotype.backends.ncnn import read_ncnn
from calotype.backends.ncnn_graph import to_openvino
from calotype.domain.image import LUMA, RGB
from calotype.errors import MissingWeightsError

Node = Any
"""One output of an OpenVINO operation; the library's own type says no more."""


def read_onnx(data: bytes, name: str) -> ov.Model:
    """Read an ONNX file.

    Raises:
        MissingWeightsError: it isn't one, or has an operator that OpenVINO lacks.
    """
    try:
        return ov.Core().read_model(data, b"")
    except RuntimeError as error:
        raise MissingWeightsError(f"{name}: not a readable ONNX network") from error


def read_ir(xml: bytes, weights: bytes, name: str) -> ov.Model:
    """Read a network in OpenVINO's own form.

    Raises:
        MissingWeightsError: it isn't one.
    """
    try:
        return ov.Core().read_model(xml, weights)
    except RuntimeError as error:
        raise MissingWeightsError(f"{name}: not a readable OpenVINO network") from error


def read_ncnn_network(param: bytes, weights: bytes, name: str) -> ov.Model:
    """Read a pair of ncnn files.

    Raises:
        MissingWeightsError: they can't be read, or have a layer that the importer lacks.
    """
    return to_openvino(read_ncnn(param, weights, name), name)


def fix_tile(model: ov.Model, tile_px: int, name: str) -> int:
    """Give a network of one picture input a fixed spatial shape, and make its layout NCHW.

    Returns:
        The side of the tile: ``tile_px``, or what the file insists on.

    Raises:
        MissingWeightsError: the network isn't one picture in, one picture out.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise MissingWeightsError(
            f"{name}: {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "expected one each"
        )
    shape = model.input(0).partial_shape
    if shape.rank.is_dynamic or shape.rank.get_length() != 4:  # noqa: PLR2004  n c h w
        raise MissingWeightsError(
            f"{name}: its input has shape {shape}; expected a batch of pictures"
        )
    last = _is_channels_last(shape)
    channels = (
        shape[3 if last else 1].get_length() if not shape[3 if last else 1].is_dynamic else RGB
    )
    if channels not in (1, RGB):
        raise MissingWeightsError(f"{name}: its input has {channels} channels; expected 1 or 3")
    try:
        _reshape(model, tile_px, channels, last=last)
    except RuntimeError:
        sides = [shape[i] for i in ((1, 2) if last else (2, 3))]
        if any(side.is_dynamic for side in sides) or sides[0] != sides[1]:
            raise MissingWeightsError(f"{name}: can't take {tile_px} px tiles") from None
        tile_px = int(sides[0].get_length())
        _reshape(model, tile_px, channels, last=last)
    return tile_px


def _reshape(model: ov.Model, tile_px: int, channels: int, *, last: bool) -> None:
    """Set the input's shape; the output's is checked to have followed."""
    model.reshape([1, tile_px, tile_px, channels] if last else [1, channels, tile_px, tile_px])
    if model.output(0).partial_shape.is_dynamic:
        raise MissingWeightsError("the size of its output depends on the picture")


def _is_channels_last(shape: ov.PartialShape) -> bool:
    """Guess the layout from where the channels are."""
    first, last = shape[1], shape[3]
    named = (1, RGB)
    return (
        not last.is_dynamic
        and last.get_length() in named
        and (first.is_dynamic or first.get_length() not in named)
    )


def with_uint8(model: ov.Model, name: str, *, channels_last: bool | None = None) -> ov.Model:
    """Wrap a fixed-shape network so that it takes (1, th, tw, 3) uint8 and gives uint8 too.

    The conversions run inside the network, where they are fused and vectorised.

    Args:
        model: in and out (1, c, h, w) or (1, h, w, c) float, 0..1; c is 1 or 3.
        name: for errors.
        channels_last: layout; default guessed from the input's shape.

    Raises:
        MissingWeightsError: the output isn't a picture.
    """
    old = model.input(0)
    last = _is_channels_last(old.partial_shape) if channels_last is None else channels_last
    picture = op.parameter(_nhwc(old, RGB, last=last), np.uint8, name="picture")
    node = op.multiply(op.convert(picture, "f32"), _constant(1 / 255)).output(0)
    channels = old.partial_shape[3 if last else 1].get_length()
    if channels == 1:
        weights = op.constant(np.array(LUMA, np.float32).reshape(1, 1, 1, RGB))
        node = op.reduce_sum(op.multiply(node, weights), op.constant([3]), keep_dims=True).output(0)
    if not last:
        node = _transpose(node, (0, 3, 1, 2))
    parameter = model.get_parameters()[0]
    for reader in old.get_target_inputs():
        reader.replace_source_output(node)
    result = as_uint8(model.get_results()[0].input_value(0), name, channels_last=last)
    others = [
        p for p in model.get_parameters() if p.get_friendly_name() != parameter.get_friendly_name()
    ]
    return ov.Model([op.result(result)], [picture, *others], name)


def as_uint8(node: Node, name: str, *, channels_last: bool) -> Node:
    """Turn (1, c, h, w) or (1, h, w, c) float 0..1 into (1, h, w, 3) uint8, rounded to nearest."""
    channels = node.partial_shape[3 if channels_last else 1].get_length()
    if channels not in (1, RGB):
        raise MissingWeightsError(f"{name}: its output has {channels} channels; expected 1 or 3")
    scaled = op.clamp(op.multiply(node, _constant(255)), 0, 255)
    # half up and cut, as converting to integers truncates
    node = op.convert(op.floor(op.add(scaled, _constant(0.5))), "u8").output(0)
    if not channels_last:
        node = _transpose(node, (0, 2, 3, 1))
    return node if channels == RGB else op.tile(node, op.constant([1, 1, 1, RGB])).output(0)


def _nhwc(port: Node, channels: int, *, last: bool) -> ov.PartialShape:
    """Return the shape of a picture for a port."""
    shape = port.partial_shape
    h, w = (shape[1], shape[2]) if last else (shape[2], shape[3])
    return ov.PartialShape([ov.Dimension(1), h, w, ov.Dimension(channels)])


def _transpose(node: Node, order: Sequence[int]) -> Node:
    return op.transpose(node, op.constant(np.array(order, np.int64))).output(0)


def _constant(value: float) -> Node:
    return op.constant(np.float32(value)).output(0)
