"""`colorize` once more: the network by PyTorch, all around it by OpenCV and formulas, in f64.

What the method is stands in docs and in ``training/colorize``; nothing of ``calotype.backends`` is
used. Colours that sRGB lacks lose chroma until they fit, here to the last bit.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotype.catalog.catalog import build_catalog
from reference_networks import file_of
from testset import Pixels

sys.path.append(str(Path(__file__).parents[1]))

from training.colorize.network import Colorizer  # beside the benchmarks

TEMPERATURE = 0.85
"""The default of ``training/colorize/export.py``, with which the weights were written."""
STRIDE_PX = 16
LINEAR_OF_LEVEL_KNEE, LEVEL_OF_LINEAR_KNEE = 0.04045, 0.0031308
"""Where the curve of sRGB becomes a straight line. Source: IEC 61966-2-1."""
DELTA = 6 / 29
"""Source: CIE 15."""
TOLERANCE = 1e-3
"""Linear light this far out of 0..1 is clipped, in colours that fit otherwise."""
HALVINGS = 40
XYZ_OF_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = XYZ_OF_RGB.sum(axis=1)

Values = NDArray[np.float64]


def colorizer() -> Callable[[Pixels], Pixels]:
    """Load the network that comes along."""
    tensors = weights_of(file_of("colorize", "xml"), file_of("colorize", "bin"))
    centres = tensors.pop("self.centres")
    network = Colorizer(len(centres))
    state = {name.removeprefix("self.network."): value for name, value in tensors.items()}
    lacking, unknown = network.load_state_dict(state, strict=False)
    # The class is taught, not told: its layer isn't exported. Counters are not used.
    used = [name for name in lacking if not name.endswith("num_batches_tracked")]
    if unknown or any(not name.startswith("classes.") for name in used):
        raise SystemExit(f"the weights of colorize don't fit: {used}, {unknown}")
    return partial(_colorize, network.double().eval(), centres.double())


def weights_of(xml: bytes, data: bytes) -> dict[str, Tensor]:
    """Return the named weights of a network in OpenVINO's own form."""
    found = {}
    for layer in ET.fromstring(xml).iter("layer"):  # noqa: S314  its digest was checked
        name = layer.get("name", "")
        constant = layer.find("data")
        if layer.get("type") == "Const" and name.startswith("self.") and constant is not None:
            dtype = {"f16": np.float16, "f32": np.float32}[constant.get("element_type", "")]
            shape = [int(side) for side in constant.get("shape", "").split(",")]
            start, size = (int(constant.get(key, "")) for key in ("offset", "size"))
            values = np.frombuffer(data[start : start + size], dtype).reshape(shape)
            found[name.removesuffix("_compressed")] = torch.tensor(values.astype(np.float32))
    return found


def _colorize(network: Colorizer, centres: Tensor, pixels: Pixels) -> Pixels:
    options = build_catalog().get("colorize").options
    h, w, _ = pixels.shape
    small_h, small_w = (
        min(int(options["most_px"]), max(1, round(side * unit)) * STRIDE_PX)
        for side in (h, w)
        for unit in (float(options["side_px"]) / min(h, w) / STRIDE_PX,)
    )
    lightness = lightness_of(pixels)
    size = (small_w, small_h)
    small = np.asarray(cv2.resize(lightness, size, interpolation=cv2.INTER_AREA), np.float64)
    chroma = _chroma(network, centres, small)
    mean = chroma.mean(axis=(1, 2), keepdims=True)
    chroma = float(options["cast"]) * mean + float(options["gain"]) * (chroma - mean)
    size = (small_w // 2, small_h // 2)
    coarse = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.float64)
    radius, epsilon = int(options["radius"]), float(options["epsilon"])
    full = [_guided(lightness, coarse, plane, radius, epsilon) for plane in chroma]
    return pixels_of(lightness, full[0], full[1])


def _chroma(network: Colorizer, centres: Tensor, lightness: Values) -> Values:
    """Return a* and b* (2, h, w): the mean of what the picture and its mirror image get."""
    plane = torch.tensor(lightness / 50 - 1)
    with torch.no_grad():
        logits, _ = network(torch.stack([plane, plane.flip(1)])[:, None])
    # not by `annealed`, which computes the odds in f32
    odds = torch.softmax(logits / TEMPERATURE, 1)
    straight, mirrored = torch.einsum("nchw,cd->ndhw", odds, centres)
    return np.asarray(((straight + mirrored.flip(2)) / 2).numpy(), np.float64)


def _guided(full: Values, coarse: Values, chroma: Values, radius: int, epsilon: float) -> Values:
    """Enlarge by the fast guided filter. Source: He and Sun, 2015."""
    mean, means = _mean(coarse, radius), _mean(chroma, radius)
    covariance = _mean(coarse * chroma, radius) - mean * means
    slope = covariance / (_mean(coarse * coarse, radius) - mean * mean + epsilon)
    offset = means - slope * mean
    size = (full.shape[1], full.shape[0])
    large = [
        np.asarray(cv2.resize(_mean(plane, radius), size, interpolation=cv2.INTER_LINEAR))
        for plane in (slope, offset)
    ]
    return np.asarray(large[0] * full + large[1])


def _mean(plane: Values, radius: int) -> Values:
    """Return the mean over squares, of what of them lies in the picture."""
    side = (2 * radius + 1, 2 * radius + 1)
    total, count = (
        np.asarray(cv2.boxFilter(values, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT))
        for values in (plane, np.ones_like(plane))
    )
    return np.asarray(total / count)


def lightness_of(pixels: Pixels) -> Values:
    """Return L*, 0..100."""
    level = pixels / 255
    power = ((level + 0.055) / 1.055) ** 2.4
    linear = np.where(level <= LINEAR_OF_LEVEL_KNEE, level / 12.92, power)
    y = linear @ (XYZ_OF_RGB[1] / WHITE[1])
    f = np.where(y > DELTA**3, np.cbrt(y), y / (3 * DELTA**2) + 4 / 29)
    return np.asarray(116 * f - 16)


def pixels_of(lightness: Values, a: Values, b: Values) -> Pixels:
    """Return sRGB; what it lacks gets the most chroma that fits."""
    low, high = np.zeros_like(a), np.ones_like(a)
    fits = _fits(_linear(lightness, a, b))
    for _ in range(HALVINGS):
        share = (low + high) / 2
        inside = _fits(_linear(lightness, a * share, b * share))
        low, high = np.where(inside, share, low), np.where(inside, high, share)
    share = np.where(fits, 1, low)
    linear = np.clip(_linear(lightness, a * share, b * share), 0, 1)
    power = 1.055 * linear ** (1 / 2.4) - 0.055
    level = np.where(linear <= LEVEL_OF_LINEAR_KNEE, linear * 12.92, power)
    return np.floor(level * 255 + 0.5).astype(np.uint8)


def _linear(lightness: Values, a: Values, b: Values) -> Values:
    """Return linear light (h, w, 3), which may be out of 0..1."""
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > DELTA, f**3, 3 * DELTA**2 * (f - 4 / 29))
    return np.asarray(xyz @ np.linalg.inv(XYZ_OF_RGB / WHITE[:, None]).T)


def _fits(linear: Values) -> NDArray[np.bool_]:
    inside = (linear >= -TOLERANCE) & (linear <= 1 + TOLERANCE)
    return np.asarray(inside.all(axis=-1))
