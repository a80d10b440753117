"""The .param/.bin importer gives what the ncnn library itself computes."""

from collections.abc import Callable
from pathlib import Path

import ncnn
import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from calotype.backends.ncnn import read_ncnn
from calotype.backends.ncnn_graph import to_openvino
from calotype.catalog import weights
from calotype.catalog.catalog import build_catalog
from calotype.errors import MissingWeightsError

Tensor = NDArray[np.float32]
TOLERANCE = 1e-3


def run_ncnn(param: Path, weights_file: Path, image: Tensor, blob_in: str, blob_out: str) -> Tensor:
    net = ncnn.Net()
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16", "use_vulkan")):
            setattr(net.opt, option, False)
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(weights_file)) == 0
    extractor = net.create_extractor()
    extractor.input(blob_in, ncnn.Mat(image).clone())
    failed, found = extractor.extract(blob_out)
    assert failed == 0
    output: Tensor = np.array(found)
    return output


def run_ours(param: Path, weights_file: Path, image: Tensor) -> Tensor:
    layers = read_ncnn(param.read_bytes(), weights_file.read_bytes(), "net")
    model = to_openvino(layers, "net")
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    found = ov.Core().compile_model(model, "CPU", config)(image[None])
    output: Tensor = found[0][0]
    return output


def ends(param: Path) -> tuple[str, str]:
    lines = [line.split() for line in param.read_text().splitlines()[2:]]
    return next(w[4] for w in lines if w[0] == "Input"), lines[-1][4 + int(lines[-1][2])]


def compare(param: Path, weights_file: Path, side: int) -> None:
    image = np.random.default_rng(0).random((3, side, side), dtype=np.float32)
    theirs = run_ncnn(param, weights_file, image, *ends(param))
    ours = run_ours(param, weights_file, image)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("alias", "variant", "side"),
    [
        ("upscale", "", 32),
        ("upscale-anime", "", 48),
        ("upscale-fast", "@2", 64),
        ("upscale-fast", "@3", 64),
        ("upscale-fast", "@4", 64),
    ],
)
def test_embedded_networks_equal_ncnn(alias: str, variant: str, side: int) -> None:
    files = {file.role: file for file in build_catalog().get(alias).files}
    param, weights_file = (weights.locate(files[f"{role}{variant}"]) for role in ("param", "bin"))
    compare(param, weights_file, side)


@pytest.mark.parametrize("name", ["RealESRGAN_General_x4_v3", "RealESRGAN_General_WDN_x4_v3"])
def test_community_networks_equal_ncnn(shared: Path, name: str) -> None:
    folder = shared / "weights"
    compare(folder / f"{name}.param", folder / f"{name}.bin", 40)


def block(values: Tensor, *, half: bool) -> bytes:
    """Write a weight block as ncnn's tools do."""
    if not half:
        return bytes(4) + values.astype(np.float32).tobytes()
    data = values.astype(np.float16).tobytes()
    return (0x01306B47).to_bytes(4, "little") + data + bytes(-len(data) % 4)


def rng_array(*shape: int) -> Tensor:
    return np.random.default_rng(sum(shape)).normal(0, 0.3, shape).astype(np.float32)


def conv(c_in: int, c_out: int, k: int, *, groups: int = 1, half: bool = True) -> bytes:
    kernel = rng_array(c_out, c_in // groups, k, k)
    return block(kernel, half=half) + rng_array(c_out).tobytes()


LAYERS: dict[str, tuple[list[str], bytes]] = {
    "stride, dilation and asymmetric padding": (
        ["Convolution c 1 1 in out 0=5 1=3 2=2 3=2 4=1 14=2 15=3 16=4 5=1 6=135"],
        conv(3, 5, 3),
    ),
    "half kernel of odd length": (["Convolution c 1 1 in out 0=1 1=1 4=0 5=1 6=3"], conv(3, 1, 1)),
    "full-precision kernel": (
        ["Convolution c 1 1 in out 0=4 1=3 4=1 5=1 6=108"],
        conv(3, 4, 3, half=False),
    ),
    "fused relu": (["Convolution c 1 1 in out 0=4 1=3 4=1 5=1 6=108 9=1"], conv(3, 4, 3)),
    "fused leaky relu": (
        ["Convolution c 1 1 in out 0=4 1=3 4=1 5=1 6=108 9=2 -23310=1,2.000000e-01"],
        conv(3, 4, 3),
    ),
    "fused clip": (
        ["Convolution c 1 1 in out 0=4 1=3 4=1 5=1 6=108 9=3 -23310=2,-1.0e-01,3.0e-01"],
        conv(3, 4, 3),
    ),
    "fused sigmoid": (["Convolution c 1 1 in out 0=4 1=3 4=1 5=1 6=108 9=4"], conv(3, 4, 3)),
    "depthwise": (
        ["ConvolutionDepthWise c 1 1 in out 0=3 1=3 4=1 5=1 6=27 7=3"],
        conv(3, 3, 3, groups=3),
    ),
    "deconvolution": (
        ["Deconvolution c 1 1 in out 0=4 1=4 3=2 4=1 5=1 6=192"],
        block(rng_array(4, 3, 4, 4), half=False) + rng_array(4).tobytes(),
    ),
    "prelu": (["PReLU p 1 1 in out 0=3"], rng_array(3).tobytes()),
    "relu": (["BinaryOp s 1 1 in a 0=1 1=1 2=5.0e-01", "ReLU r 1 1 a out"], b""),
    "leaky relu": (
        ["BinaryOp s 1 1 in a 0=1 1=1 2=5.0e-01", "ReLU r 1 1 a out 0=1.0e-01"],
        b"",
    ),
    "sigmoid": (["Sigmoid s 1 1 in out"], b""),
    "tanh": (["TanH s 1 1 in out"], b""),
    "nearest": (["Interp i 1 1 in out 0=1 1=3.0 2=2.0"], b""),
    "bilinear": (["Interp i 1 1 in out 0=2 1=2.0 2=3.0"], b""),
    "bicubic up": (["Interp i 1 1 in out 0=3 1=2.0 2=2.0"], b""),
    "bicubic down": (["Interp i 1 1 in out 0=3 1=7.5e-01 2=5.0e-01"], b""),
    "shuffle": (
        ["Convolution c 1 1 in a 0=12 1=1 5=1 6=36", "PixelShuffle p 1 1 a out 0=2"],
        conv(3, 12, 1),
    ),
    "shuffle of blocks": (
        ["Convolution c 1 1 in a 0=12 1=1 5=1 6=36", "PixelShuffle p 1 1 a out 0=2 1=1"],
        conv(3, 12, 1),
    ),
    "concat": (["Split s 1 2 in a b", "Concat c 2 1 a b out"], b""),
    "sum with coefficients": (
        ["Split s 1 2 in a b", "Eltwise e 2 1 a b out 0=1 -23301=2,2.0e-01,1.0e+00"],
        b"",
    ),
    "product": (["Split s 1 2 in a b", "Eltwise e 2 1 a b out 0=0"], b""),
    "reversed subtraction": (["BinaryOp b 1 1 in out 0=7 1=1 2=2.0"], b""),
    "padding by reflection": (["Padding p 1 1 in out 0=1 1=2 2=3 3=2 4=2"], b""),
    "padding by a value": (["Padding p 1 1 in out 0=1 1=2 2=3 3=2 4=0 5=5.0e-01"], b""),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_equals_ncnn(name: str, tmp_path: Path) -> None:
    rows, data = LAYERS[name]
    blobs = {blob for row in rows for blob in row.split()[4:] if "=" not in blob}
    head = ["7767517", f"{len(rows) + 1} {len(blobs)}", "Input in 0 1 in"]
    param, weights_file = tmp_path / "n.param", tmp_path / "n.bin"
    param.write_text("\n".join([*head, *rows]) + "\n")
    weights_file.write_bytes(data)
    image = np.random.default_rng(3).random((3, 12, 10), dtype=np.float32)
    theirs = run_ncnn(param, weights_file, image, "in", "out")
    assert np.abs(run_ours(param, weights_file, image) - theirs).max() <= TOLERANCE


CONV = "Convolution c 1 1 in out 0=1 1=1 6=3"
Damage = Callable[[], tuple[str, bytes]]


@pytest.mark.parametrize(
    ("rows", "data", "says"),
    [
        (["MultiHeadAttention m 1 1 in out"], b"", "MultiHeadAttention is not supported"),
        ([CONV], b"", "not a readable ncnn network"),
        ([CONV], bytes(4) + bytes(12) + b"more", "4 bytes of the .bin file are not used"),
        ([CONV], (0x000D4B38).to_bytes(4, "little") + bytes(12), "int8 weights"),
        (["Interp i 1 1 in out 0=2 3=100 4=100"], b"", "fixed size"),
        (["Noop a 1 1 in x", "Noop b 1 1 in y"], b"", "1 inputs and 2 outputs"),
        (["Pooling p 1 1 in out 0=1 1=2"], b"", "only global pooling"),
    ],
)
def test_what_cannot_be_read_is_said(rows: list[str], data: bytes, says: str) -> None:
    param = "\n".join(["7767517", "2 2", "Input in 0 1 in", *rows])
    with pytest.raises(MissingWeightsError, match=says):
        to_openvino(read_ncnn(param.encode(), data, "net"), "net")


@pytest.mark.parametrize("param", [b"", b"\x01\x02\x03", b"7767516\n1 1\n", b"7767517\n1 1\nx y\n"])
def test_not_a_param_file(param: bytes) -> None:
    with pytest.raises(MissingWeightsError, match="ncnn"):
        read_ncnn(param, b"", "net")
