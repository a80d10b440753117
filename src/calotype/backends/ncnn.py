"""Read networks in ncnn's ``.param`` / ``.bin`` form.

The text file lists layers (type, name, blobs in, blobs out, numbered attributes); the binary file
holds their weights one after another, in the order of the layers.

Source: the param and model file structure pages of ncnn's documentation.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calotype.errors import MissingWeightsError

MAGIC = 7767517
F16_FLAG = 0x01306B47
F32_FLAG = 0x0002C056
INT8_FLAG = 0x000D4B38
ARRAY_KEY = -23300
"""Key k of an array attribute is written as ``ARRAY_KEY - k``."""

Weights = NDArray[np.float16] | NDArray[np.float32]
Attribute = float | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an ncnn network."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[int, Attribute]
    weights: tuple[Weights, ...] = field(default=(), compare=False)
    """Flat arrays in file order, e.g. (kernel, bias)."""

    def number(self, key: int, default: float = 0.0) -> float:
        """Return a scalar attribute."""
        value = self.attributes.get(key, default)
        return value[0] if isinstance(value, tuple) else value

    def integer(self, key: int, default: int = 0) -> int:
        """Return a scalar attribute as an integer."""
        return int(self.number(key, default))

    def array(self, key: int) -> tuple[float, ...]:
        """Return an array attribute, empty when absent."""
        value = self.attributes.get(key, ())
        return value if isinstance(value, tuple) else (value,)


def read_ncnn(param: bytes, weights: bytes, name: str) -> list[Layer]:
    """Parse both files.

    Args:
        param: the ``.param`` text.
        weights: the ``.bin`` content.
        name: what to call the network in errors.

    Raises:
        MissingWeightsError: the files are not ncnn's, don't belong together, or hold int8 weights.
    """
    try:
        reader = _WeightReader(weights, name)
        layers = [reader.fill(layer) for layer in _parse_param(param.decode("utf-8"), name)]
    except (ValueError, IndexError, struct.error) as error:
        raise MissingWeightsError(f"{name}: not a readable ncnn network: {error}") from error
    if reader.left:
        raise MissingWeightsError(
            f"{name}: {reader.left} bytes of the .bin file are not used by the .param file: "
            "the two don't belong together"
        )
    return layers


def _parse_param(text: str, name: str) -> Iterator[Layer]:
    """Yield layers without weights."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != str(MAGIC):
        raise MissingWeightsError(
            f"{name}: not an ncnn .param text file (first line is not {MAGIC})"
        )
    for line in lines[2:]:
        words = line.split()
        if not words:
            continue
        n_in, n_out = int(words[2]), int(words[3])
        blobs, rest = words[4 : 4 + n_in + n_out], words[4 + n_in + n_out :]
        yield Layer(
            type=words[0],
            name=words[1],
            inputs=tuple(blobs[:n_in]),
            outputs=tuple(blobs[n_in:]),
            attributes=dict(_attribute(word) for word in rest),
        )


def _attribute(word: str) -> tuple[int, Attribute]:
    """Parse ``key=value`` or ``-233xx=count,v1,v2``."""
    key, _, value = word.partition("=")
    if int(key) <= ARRAY_KEY:
        return ARRAY_KEY - int(key), tuple(float(v) for v in value.split(",")[1:])
    return int(key), float(value)


class _WeightReader:
    """Walks through a ``.bin`` file."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name, self._at = data, name, 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def fill(self, layer: Layer) -> Layer:
        """Return the layer with its weights read."""
        blocks = list(self._blocks(layer))
        return layer if not blocks else _with_weights(layer, tuple(blocks))

    def _blocks(self, layer: Layer) -> Iterator[Weights]:
        match layer.type:
            case "Convolution" | "ConvolutionDepthWise" | "Deconvolution":
                yield self._flagged(layer.integer(6))
                if layer.integer(5):
                    yield self._plain(layer.integer(0))
            case "InnerProduct":
                yield self._flagged(layer.integer(2))
                if layer.integer(1):
                    yield self._plain(layer.integer(0))
            case "PReLU":
                yield self._plain(layer.integer(0))
            case "MemoryData":
                yield self._plain(math.prod(max(1, layer.integer(key)) for key in range(3)))
            case _:
                return

    def _flagged(self, count: int) -> Weights:
        """Read an array that starts with a flag for its type."""
        (flag,) = struct.unpack_from("<I", self._data, self._at)
        self._at += 4
        if flag == F16_FLAG:
            values = np.frombuffer(self._data, np.float16, count, self._at)
            self._at += -(-values.nbytes // 4) * 4  # padded to 4 bytes
            return values
        if flag not in (0, F32_FLAG):
            kind = "int8" if flag == INT8_FLAG else "table-quantized"
            raise MissingWeightsError(
                f"{self._name}: {kind} weights are not supported; use the fp16 or fp32 files"
            )
        return self._plain(count)

    def _plain(self, count: int) -> Weights:
        """Read float32 values."""
        values = np.frombuffer(self._data, np.float32, count, self._at)
        self._at += values.nbytes
        return values


def _with_weights(layer: Layer, weights: tuple[Weights, ...]) -> Layer:
    return Layer(
        type=layer.type,
        name=layer.name,
        inputs=layer.inputs,
        outputs=layer.outputs,
        attributes=layer.attributes,
        weights=weights,
    )
