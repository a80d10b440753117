"""One tile of a super-resolution model: Calotype against ncnn and ONNX Runtime, same weights.

The same picture goes through all, and what comes out is compared before anything is timed.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import ncnn
import numpy as np
import onnxruntime
from numpy.typing import NDArray

import measure
from calotype.assembly import backend_loader
from calotype.backends.base import Machine, Precision
from calotype.backends.ncnn import Layer, read_ncnn
from calotype.catalog import weights
from calotype.catalog.catalog import build_catalog
from calotype.domain.image import Image, Pixels
from calotype.domain.model import ModelSpec
from calotype.domain.request import Job
from ncnn_to_onnx import to_onnx

COARSE_PX = 16
"""The picture is made of squares: edges and flat areas, as pictures have."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="upscale", help="super-resolution model of the catalog")
    parser.add_argument("--side", type=int, default=128, help="pixels each way")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    spec = build_catalog().get(options.model)
    rng = np.random.default_rng(0)
    squares = options.side // COARSE_PX
    coarse = rng.integers(0, 256, (squares, squares, 3), dtype=np.uint8)
    tile: Pixels = coarse.repeat(COARSE_PX, axis=0).repeat(COARSE_PX, axis=1)

    variant = "@4" if spec.param("scale") else ""
    files = {file.role: file for file in spec.files}
    param, data = (weights.read(files[f"{role}{variant}"]) for role in ("param", "bin"))
    contestants = {
        "Calotype (auto)": calotype(spec, tile, "auto"),
        "ncnn": ncnn_runner(param, data, tile),
        "ONNX Runtime": onnx_runner(read_ncnn(param, data, spec.id), tile),
        "Calotype (f32)": calotype(spec, tile, "f32"),
        "Calotype (bf16)": calotype(spec, tile, "bf16"),
    }
    compare(contestants)
    print(f"\n{measure.machine()}\n{spec.id}, one {options.side}x{options.side} tile\n")
    print(measure.table(measure.side_by_side(contestants, options.rounds)))


def compare(contestants: dict[str, Callable[[], Pixels]]) -> None:
    """Print how far each contestant's picture is from f32's."""
    exact = contestants["Calotype (f32)"]().astype(float)
    for name, work in contestants.items():
        found = work().astype(float)
        mse = float(np.mean((found - exact) ** 2))
        psnr = 10 * np.log10(255**2 / mse) if mse else float("inf")
        print(f"{name}: max difference {np.abs(found - exact).max():.0f}/255, PSNR {psnr:.1f} dB")


def calotype(spec: ModelSpec, tile: Pixels, precision: Precision) -> Callable[[], Pixels]:
    """Run as the server does: uint8 in, uint8 out."""
    machine = Machine(cache_dir=Path(tempfile.gettempdir()) / "calotype-bench", precision=precision)
    backend = backend_loader(spec, machine)()
    print(f"precision {precision}: {backend.precision}")
    values = {"scale": 4} if spec.param("scale") else {}
    job = Job(model=spec, image=Image(tile), params=values)
    return lambda: backend.run([job])[0].pixels


def as_input(tile: Pixels) -> NDArray[np.float32]:
    """Return (3, h, w) float32, 0..1."""
    scaled: NDArray[np.float32] = np.ascontiguousarray(tile.transpose(2, 0, 1), np.float32)
    return np.divide(scaled, 255, out=scaled)


def as_picture(found: NDArray[np.float32]) -> Pixels:
    """Return (h, w, 3) uint8."""
    picture: Pixels = np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return picture


def ncnn_runner(param: bytes, data: bytes, tile: Pixels) -> Callable[[], Pixels]:
    """ncnn with its own defaults, which are its fastest, on all cores."""
    folder = Path(tempfile.mkdtemp())
    (folder / "n.param").write_bytes(param)
    (folder / "n.bin").write_bytes(data)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.load_param(str(folder / "n.param"))
    net.load_model(str(folder / "n.bin"))

    def run() -> Pixels:
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(as_input(tile)).clone())
        return as_picture(np.array(extractor.extract("output")[1]))

    return run


def onnx_runner(layers: Sequence[Layer], tile: Pixels) -> Callable[[], Pixels]:
    """ONNX Runtime with its own defaults, on all cores."""
    session = onnxruntime.InferenceSession(to_onnx(layers, len(tile)))

    def run() -> Pixels:
        return as_picture(session.run(None, {"data": as_input(tile)[None]})[0][0])

    return run


if __name__ == "__main__":
    main()
